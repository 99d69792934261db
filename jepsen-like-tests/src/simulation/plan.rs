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
    /// Members come and go.
    Membership,
}

impl Fault {
    /// All kinds.
    pub const ALL: [Self; 18] = [
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
        Self::Membership,
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
}

impl Plan {
    /// What `seed` stands for.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut chance = StdRng::seed_from_u64(seed);
        let part = chance.random_range(0.1..0.7);
        let mut faults: BTreeSet<Fault> =
            Fault::ALL.into_iter().filter(|_| chance.random_bool(part)).collect();
        // A damaged member counts as one that may fail; whether the others can do without it must not change.
        if faults.contains(&Fault::BitFlip) {
            faults.remove(&Fault::Membership);
        }
        Self {
            seed,
            members: if chance.random_bool(0.25) { 5 } else { 3 },
            clients: chance.random_range(2..7),
            keys: chance.random_range(1..8),
            think_ms: [5, 20, 100][chance.random_range(0..3)],
            faults,
            calm_ms: [300, 1000, 3000][chance.random_range(0..3)],
            duration_ms: chance.random_range(6_000..12_000),
            snapshot_entries: [20, 60, 100_000][chance.random_range(0..3)],
            keep_log_bytes: [0, 4 << 10][chance.random_range(0..2)],
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
            assert!((5..55).contains(&on), "{fault:?}: {on}");
        }
    }
}
