//! What a seed stands for: how large the cluster is, what clients do, and which kinds of faults are on. Each seed turns a
//! random part of them on: faults that never happen together hide nothing from each other, and some bugs need calm.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// A process ends; its machine goes on.
    Kill,
    /// A machine loses its power, and what it had not synced.
    PowerLoss,
    /// The power fails within a write, a sync or a change of names.
    PowerLossInAWrite,
    /// All machines lose their power at once.
    Blackout,
    /// A sync fails.
    FailedSync,
    /// Syncs take long.
    SlowDisk,
    /// The disk fills up.
    FullDisk,
    /// A bit on one member's disk turns over.
    BitFlip,
    /// Two groups of machines do not hear each other.
    Partition,
    /// One machine is not heard, or does not hear.
    OneWayPartition,
    /// Links are cut here and there.
    PartialPartition,
    /// Packets are lost, or slow.
    BadLinks,
    /// Connections break.
    BrokenConnections,
    /// A process stops and goes on.
    Pause,
    /// Clocks run at different rates.
    Drift,
    /// The time of day jumps.
    ClockStep,
    /// A leader hands over.
    LeaderTransfer,
    /// One machine is cut off for long, so that it needs a snapshot afterwards.
    Isolation,
    /// Users are added, and rights asked for or not any more.
    Auth,
    /// A member is added, and gets its vote by itself.
    AddMember,
    /// A member is added as a learner, and promoted.
    AddLearner,
    /// A member is removed.
    RemoveMember,
    /// The leader is removed.
    RemoveLeader,
    /// A member is removed, and another one takes its place on an empty disk.
    ReplaceMember,
    /// A member loses its disk and is started again under its old id; then it is replaced.
    WipedMember,
}

impl Fault {
    /// All kinds.
    pub const ALL: [Self; 25] = [
        Self::Kill,
        Self::PowerLoss,
        Self::PowerLossInAWrite,
        Self::Blackout,
        Self::FailedSync,
        Self::SlowDisk,
        Self::FullDisk,
        Self::BitFlip,
        Self::Partition,
        Self::OneWayPartition,
        Self::PartialPartition,
        Self::BadLinks,
        Self::BrokenConnections,
        Self::Pause,
        Self::Drift,
        Self::ClockStep,
        Self::LeaderTransfer,
        Self::Isolation,
        Self::Auth,
        Self::AddMember,
        Self::AddLearner,
        Self::RemoveMember,
        Self::RemoveLeader,
        Self::ReplaceMember,
        Self::WipedMember,
    ];

    /// Those that an administrator does to the membership.
    pub const MEMBERSHIP: [Self; 6] = [
        Self::AddMember,
        Self::AddLearner,
        Self::RemoveMember,
        Self::RemoveLeader,
        Self::ReplaceMember,
        Self::WipedMember,
    ];
}

/// The bound on the rates of clocks, either way.
pub const DRIFT: f64 = 0.05;

/// What a seed stands for.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// First members.
    pub members: usize,
    /// Clients that ask one thing after the other.
    pub clients: usize,
    /// How many keys they share.
    pub keys: usize,
    /// The longest pause of a client between two requests.
    pub think_ms: u64,
    /// Kinds of faults that happen.
    pub faults: BTreeSet<Fault>,
    /// The longest time between two faults.
    pub calm_ms: u64,
    /// How long faults happen.
    pub duration_ms: u64,
    /// Entries after which a member writes a snapshot and purges its log.
    pub snapshot_entries: u64,
    /// Bytes of log that are kept behind it.
    pub keep_log_bytes: u64,
    /// How much may be live; negative for no limit.
    pub quota_bytes: i64,
    /// History older than this is forgotten by the members themselves.
    pub auto_compaction_ms: Option<u64>,
}

impl Plan {
    /// What `seed` stands for.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut chance = StdRng::seed_from_u64(seed);
        let part = chance.random_range(0.1..0.7);
        let mut faults: BTreeSet<Fault> =
            Fault::ALL.into_iter().filter(|_| chance.random_bool(part)).collect();
        let members = [1, 3, 3, 3, 5][chance.random_range(0..5)];
        // Half of the clusters keep their members, the others change them all the time.
        let changes_members = chance.random_bool(0.5);
        for fault in Fault::MEMBERSHIP {
            faults.remove(&fault);
            if changes_members && chance.random_bool(0.6) {
                faults.insert(fault);
            }
        }
        // A damaged member counts as one that may fail; whether the others can do without it must not change.
        if changes_members || members == 1 {
            faults.remove(&Fault::BitFlip);
        }
        let (snapshot_entries, keep_log_bytes) = if faults.contains(&Fault::Isolation) {
            (20, 0)
        } else {
            ([20, 60, 100_000][chance.random_range(0..3)], [0, 4 << 10][chance.random_range(0..2)])
        };
        Self {
            seed,
            members,
            clients: chance.random_range(2..7),
            keys: chance.random_range(1..8),
            think_ms: [5, 20, 100][chance.random_range(0..3)],
            faults,
            calm_ms: [300, 1000, 3000][chance.random_range(0..3)],
            duration_ms: chance.random_range(6_000..12_000),
            snapshot_entries,
            keep_log_bytes,
            quota_bytes: if chance.random_bool(0.2) { chance.random_range(600..1600) } else { -1 },
            auto_compaction_ms: chance.random_bool(0.3).then(|| chance.random_range(1500..4000)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_stands_for_the_same_and_seeds_differ() {
        assert_eq!(Plan::of(7), Plan::of(7));
        let sizes: BTreeSet<usize> = (0..50).map(|seed| Plan::of(seed).faults.len()).collect();
        assert!(sizes.len() > 5, "{sizes:?}");
    }

    #[test]
    fn every_kind_of_fault_is_on_in_some_seed_and_off_in_another() {
        for fault in Fault::ALL {
            let on = (0..60).filter(|seed| Plan::of(*seed).faults.contains(&fault)).count();
            assert!((4..55).contains(&on), "{fault:?}: {on}");
        }
    }
}
