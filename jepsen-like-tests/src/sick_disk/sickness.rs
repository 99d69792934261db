//! What a disk does wrong, as switches.

use std::fmt;
use std::time::Duration;

use rustix::io::Errno;

/// How syncs go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Syncs {
    /// As they should.
    #[default]
    Work,
    /// They fail, and what should have been written is not, by later ones either.
    Fail,
    /// One after the other, each takes so long.
    Take(Duration),
    /// They do not end.
    Hang,
}

/// How everything that takes space goes: writing, creating, making larger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Writes {
    /// As it should.
    #[default]
    Work,
    /// It fails.
    Fail,
    /// There is no space.
    Full,
}

/// What is wrong with a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sickness {
    /// Syncs of files and directories.
    pub syncs: Syncs,
    /// Writes.
    pub writes: Writes,
    /// Reading a file fails.
    pub reads_fail: bool,
}

impl Sickness {
    /// The disk is well.
    pub const NONE: Self = Self { syncs: Syncs::Work, writes: Writes::Work, reads_fail: false };

    /// Only syncs are not as they should be.
    #[must_use]
    pub const fn of_syncs(syncs: Syncs) -> Self {
        Self { syncs, ..Self::NONE }
    }

    /// Only writes are not as they should be.
    #[must_use]
    pub const fn of_writes(writes: Writes) -> Self {
        Self { writes, ..Self::NONE }
    }

    /// Each sickness by itself.
    pub const ALL: [Self; 7] = [
        Self::of_syncs(Syncs::Fail),
        Self::of_syncs(Syncs::Take(Duration::from_millis(10))),
        Self::of_syncs(Syncs::Take(Duration::from_secs(1))),
        Self::of_syncs(Syncs::Hang),
        Self::of_writes(Writes::Fail),
        Self::of_writes(Writes::Full),
        Self { reads_fail: true, ..Self::NONE },
    ];

    /// What a write comes to, if it does not succeed.
    #[must_use]
    pub fn write_error(self) -> Option<Errno> {
        match self.writes {
            Writes::Work => None,
            Writes::Fail => Some(Errno::IO),
            Writes::Full => Some(Errno::NOSPC),
        }
    }

    /// Whether a member that writes cannot go on: nothing that it is told to keep can be kept.
    #[must_use]
    pub fn is_deadly(self) -> bool {
        self.syncs == Syncs::Fail || self.writes != Writes::Work
    }
}

impl fmt::Display for Sickness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut signs = Vec::new();
        match self.syncs {
            Syncs::Work => {}
            Syncs::Fail => signs.push("syncs fail".to_owned()),
            Syncs::Take(time) => signs.push(format!("syncs take {time:?}")),
            Syncs::Hang => signs.push("syncs hang".to_owned()),
        }
        match self.writes {
            Writes::Work => {}
            Writes::Fail => signs.push("writes fail".to_owned()),
            Writes::Full => signs.push("the disk is full".to_owned()),
        }
        if self.reads_fail {
            signs.push("reads fail".to_owned());
        }
        f.pad(&if signs.is_empty() { "well".to_owned() } else { signs.join(", ") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_members_meet() {
        for (sickness, words, error, deadly) in [
            (Sickness::NONE, "well", None, false),
            (Sickness::ALL[0], "syncs fail", None, true),
            (Sickness::ALL[1], "syncs take 10ms", None, false),
            (Sickness::ALL[3], "syncs hang", None, false),
            (Sickness::ALL[4], "writes fail", Some(Errno::IO), true),
            (Sickness::ALL[5], "the disk is full", Some(Errno::NOSPC), true),
            (Sickness::ALL[6], "reads fail", None, false),
            (
                Sickness { syncs: Syncs::Fail, writes: Writes::Full, reads_fail: true },
                "syncs fail, the disk is full, reads fail",
                Some(Errno::NOSPC),
                true,
            ),
        ] {
            let found = (sickness.to_string(), sickness.write_error(), sickness.is_deadly());
            assert_eq!(found, (words.to_owned(), error, deadly));
        }
    }
}
