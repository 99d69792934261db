//! Faults of real processes, one after another, each written down with its beginning and its end.
//!
//! Every fault is undone by whoever began it, so that a run ends with all members well. Must never touch a process that
//! the cluster did not start.

pub(crate) mod cuts;
mod storm;
mod troubles;

use std::fmt;

pub use cuts::Shape;
pub(crate) use storm::SNAPSHOT_COUNT;
pub use storm::{NewRights, Storm, WrongClock, endpoints};
pub use troubles::Trouble;

/// What is done to the members during a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Nemesis {
    /// Nothing
    None,
    /// kill -9 of one, the leader, most or all
    Kill,
    /// SIGSTOP of one, the leader or most, and SIGCONT
    Pause,
    /// SIGTERM and a new start of one, the leader, most or all
    Restart,
    /// The leader gives its office away, again and again
    MoveLeader,
    /// Compactions close to the newest revision, many a second
    Compact,
    /// A member is away until it needs a snapshot; clients save snapshots meanwhile
    Snapshot,
    /// A member is killed, removed, and replaced by a new one
    Replace,
    /// All of these in turns by chance
    Mixed,
    /// Members that do not hear each other: two sides, one way, a ring, a bridge (needs root)
    Partition,
    /// The power of one, the leader, most or all fails, and what was not synced is gone (needs root, FUSE)
    PowerCut,
    /// The disk of a minority fails, is full or slow (needs root, FUSE)
    SickDisk,
    /// Bits flip in the files of a member that is down; it is replaced if it says so
    BitFlip,
    /// Delay, jitter, loss, disorder, a slow link, connections that say nothing any more (needs root)
    Network,
    /// Clocks that jump, run too fast or too slowly
    Clock,
    /// Rights revoked and given again, Auth turned off and on, tokens that end (with TLS and users)
    Auth,
}

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// See [`Nemesis::Kill`].
    Kill,
    /// See [`Nemesis::Pause`].
    Pause,
    /// See [`Nemesis::Restart`].
    Restart,
    /// See [`Nemesis::MoveLeader`].
    MoveLeader,
    /// See [`Nemesis::Compact`].
    Compact,
    /// See [`Nemesis::Snapshot`].
    Snapshot,
    /// See [`Nemesis::Replace`].
    Replace,
    /// See [`Nemesis::Partition`].
    Partition(Shape),
    /// See [`Nemesis::PowerCut`].
    PowerCut,
    /// The power of all fails at once, and nothing that was not synced is left.
    Blackout,
    /// See [`Nemesis::SickDisk`].
    SickDisk,
    /// See [`Nemesis::BitFlip`].
    BitFlip,
    /// See [`Nemesis::Network`].
    Network(Trouble),
    /// See [`Nemesis::Clock`].
    Clock(WrongClock),
    /// See [`Nemesis::Auth`].
    Auth(NewRights),
}

impl fmt::Display for Nemesis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = clap::ValueEnum::to_possible_value(self);
        f.pad(value.as_ref().map_or("", |value| value.get_name()))
    }
}

impl Nemesis {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::None,
        Self::Kill,
        Self::Pause,
        Self::Restart,
        Self::MoveLeader,
        Self::Compact,
        Self::Snapshot,
        Self::Replace,
        Self::Mixed,
        Self::Partition,
        Self::PowerCut,
        Self::SickDisk,
        Self::BitFlip,
        Self::Network,
        Self::Clock,
        Self::Auth,
    ];

    /// The kinds of faults it is made of.
    #[must_use]
    pub fn kinds(self) -> &'static [Kind] {
        match self {
            Self::None => &[],
            Self::Kill => &[Kind::Kill],
            Self::Pause => &[Kind::Pause],
            Self::Restart => &[Kind::Restart],
            Self::MoveLeader => &[Kind::MoveLeader],
            Self::Compact => &[Kind::Compact],
            Self::Snapshot => &[Kind::Snapshot],
            Self::Replace => &[Kind::Replace],
            Self::Mixed => &[
                Kind::Kill,
                Kind::Pause,
                Kind::Restart,
                Kind::MoveLeader,
                Kind::Compact,
                Kind::Snapshot,
                Kind::Replace,
            ],
            Self::Partition => &[
                Kind::Partition(Shape::Symmetric),
                Kind::Partition(Shape::OneWay),
                Kind::Partition(Shape::Ring),
                Kind::Partition(Shape::Bridge),
            ],
            Self::PowerCut => &[Kind::PowerCut, Kind::PowerCut, Kind::Blackout],
            Self::SickDisk => &[Kind::SickDisk],
            Self::BitFlip => &[Kind::BitFlip],
            Self::Network => &[
                Kind::Network(Trouble::Delay),
                Kind::Network(Trouble::Jitter),
                Kind::Network(Trouble::Loss),
                Kind::Network(Trouble::Disorder),
                Kind::Network(Trouble::SlowLink),
                Kind::Network(Trouble::HalfOpen),
            ],
            Self::Clock => &[
                Kind::Clock(WrongClock::Step),
                Kind::Clock(WrongClock::Fast),
                Kind::Clock(WrongClock::Slow),
                Kind::Clock(WrongClock::Strobe),
            ],
            Self::Auth => {
                &[Kind::Auth(NewRights::Revoked), Kind::Auth(NewRights::Off), Kind::Auth(NewRights::Password)]
            }
        }
    }

    /// The kinds of faults for members that do not sync: those that surely tell them from members that do.
    #[must_use]
    pub fn kinds_without_syncs(self) -> &'static [Kind] {
        if self == Self::PowerCut { &[Kind::Blackout] } else { self.kinds() }
    }

    /// Whether members must be hosts of a network of their own.
    #[must_use]
    pub fn needs_network(self) -> bool {
        matches!(self, Self::Partition | Self::Network)
    }

    /// Whether there must be users with rights.
    #[must_use]
    pub fn needs_users(self) -> bool {
        self == Self::Auth
    }

    /// Whether what the program under test is told of time must be in our hands.
    #[must_use]
    pub fn needs_clocks(self) -> bool {
        self == Self::Clock
    }

    /// Whether members must have disks of their own.
    #[must_use]
    pub fn needs_disks(self) -> bool {
        matches!(self, Self::PowerCut | Self::SickDisk)
    }
}
