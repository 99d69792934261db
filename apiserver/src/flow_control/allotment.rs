//! How many seats each level has: its part by shares, what it lends, and how far it may borrow. Pure arithmetic, as
//! Kubernetes does it but for one thing: parts are rounded so that together they are never more than there is.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::level::{Level, Response};

/// What one level may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allotment {
    /// Its part.
    pub nominal: u32,
    /// What is kept for it even while it does not use it.
    pub kept: u32,
    /// The most it may use, with what others lend.
    pub most: u32,
}

/// How many seats there are: as many as asked for, and at least one for each limited level.
#[must_use]
pub fn total_seats(asked: u32, levels: &[&Level]) -> u32 {
    let limited = levels.iter().filter(|level| level.response != Response::Exempt).count();
    asked.max(u32::try_from(limited).unwrap_or(u32::MAX))
}

/// Divides `total` seats.
#[must_use]
pub fn allot(total: u32, levels: &[&Level]) -> BTreeMap<Arc<str>, Allotment> {
    let shares: u64 = levels.iter().map(|level| u64::from(level.shares)).sum();
    let mut nominal: Vec<u32> = levels
        .iter()
        .map(|level| {
            let part = (u64::from(total) * u64::from(level.shares)).div_ceil(shares.max(1));
            // Whoever is limited to nothing would wait for ever.
            let least = u32::from(level.response != Response::Exempt);
            u32::try_from(part).unwrap_or(u32::MAX).max(least)
        })
        .collect();
    while nominal.iter().map(|part| u64::from(*part)).sum::<u64>() > u64::from(total) {
        // The largest misses one seat least.
        match nominal.iter_mut().max() {
            Some(largest) if *largest > 1 => *largest -= 1,
            _ => break,
        }
    }
    let allotted = levels.iter().zip(nominal).map(|(level, nominal)| {
        let lent = percent(nominal, level.lendable_percent);
        let borrowed = level.borrowing_percent.map_or(total, |most| percent(nominal, most));
        let most = nominal.saturating_add(borrowed).min(total);
        (Arc::clone(&level.name), Allotment { nominal, kept: nominal - lent, most })
    });
    allotted.collect()
}

/// Rounded to the nearest.
fn percent(of: u32, percent: u32) -> u32 {
    let part = (u64::from(of) * u64::from(percent) + 50) / 100;
    u32::try_from(part).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::classify::tests::of_the_start;
    use super::*;

    #[test]
    fn the_levels_of_the_start_share_six_hundred_seats() {
        let configuration = of_the_start();
        let levels: Vec<&Level> = configuration.levels().map(|level| &**level).collect();
        let allotted = allot(600, &levels);
        let table = [
            ("system", 74, 50),
            ("node-high", 98, 73),
            ("leader-election", 25, 25),
            ("workload-high", 98, 49),
            ("workload-low", 243, 24),
            ("global-default", 49, 24),
            ("exempt", 0, 0),
            ("catch-all", 13, 13),
        ];
        assert_eq!(allotted.len(), table.len());
        for (name, nominal, kept) in table {
            assert_eq!(allotted[name], Allotment { nominal, kept, most: 600 }, "{name}");
        }
    }

    proptest! {
        #[test]
        fn parts_are_never_more_than_there_is(
            total in 1..2000_u32,
            levels in proptest::collection::vec((0..500_u32, 0..=100_u32, proptest::option::of(0..300_u32)), 1..12),
        ) {
            let levels: Vec<Level> = levels.into_iter().enumerate().map(|(number, (shares, lent, borrowed))| Level {
                name: number.to_string().into(),
                uid: "".into(),
                shares,
                lendable_percent: lent,
                borrowing_percent: borrowed,
                response: Response::Reject,
            }).collect();
            let levels: Vec<&Level> = levels.iter().collect();
            let total = total_seats(total, &levels);
            let allotted = allot(total, &levels);
            prop_assert!(allotted.values().map(|one| one.nominal).sum::<u32>() <= total);
            for one in allotted.values() {
                prop_assert!(one.nominal >= 1 && one.kept <= one.nominal);
                prop_assert!(one.most >= one.nominal && one.most <= total);
            }
        }
    }
}
