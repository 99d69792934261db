//! Which thresholds a node is below, which of its conditions follow, and when something is to be done. A decision; time is
//! handed in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use barque_api::quantity::{Format, Quantity};
use k8s_openapi::jiff::Timestamp;

use super::signals::{Observations, Observed, Pressure, Pressures, Resource, Signal};
use crate::clock::between;

/// How much of something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Amount {
    /// This much.
    Quantity(Quantity),
    /// A part of what there is at all, in thousandths of a percent.
    Part(u64),
}

impl Amount {
    /// How much that is, where there is so much at all.
    #[must_use]
    pub fn of(&self, capacity: u64) -> Quantity {
        match self {
            Self::Quantity(quantity) => quantity.clone(),
            Self::Part(thousandths) => {
                let amount = u128::from(capacity) * u128::from(*thousandths) / 100_000;
                Quantity::new(i64::try_from(amount).unwrap_or(i64::MAX), 0, Format::BinarySi)
            }
        }
    }
}

/// When there is less, something follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Threshold {
    /// Of this.
    pub signal: Signal,
    /// Less than so much.
    pub amount: Amount,
    /// It may be so for so long; nothing for a hard one.
    pub grace: Duration,
    /// So much more has to be there before it is good again.
    pub minimum_reclaim: Option<Amount>,
}

impl Threshold {
    /// Whether pods have no time.
    #[must_use]
    pub const fn is_hard(&self) -> bool {
        self.grace.is_zero()
    }

    /// Whether there is less, or not so much that it is good again.
    fn is_met(&self, observations: &Observations, until_good: bool) -> bool {
        let Some(observed) = observations.get(&self.signal) else { return false };
        let mut wanted = self.amount.of(observed.capacity);
        if let Some(more) = self.minimum_reclaim.as_ref().filter(|_| until_good) {
            wanted = wanted.plus(&more.of(observed.capacity));
        }
        self.signal.resource().quantity(observed.available) < wanted
    }
}

/// What an agent does when something is short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvictionConfig {
    /// Hard ones first.
    pub thresholds: Vec<Threshold>,
    /// The longest time that pods have when a soft threshold is met.
    pub max_pod_grace: Duration,
    /// A condition holds for so long after it was last seen.
    pub transition: Duration,
}

/// What is remembered between two looks; thresholds by their place in the configuration.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// Since when they are met.
    since: BTreeMap<usize, Timestamp>,
    /// Met for longer than they may be.
    due: BTreeSet<usize>,
    /// When a condition was last seen.
    seen: BTreeMap<Pressure, Timestamp>,
}

/// What follows from a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look<'a> {
    /// The conditions of the node.
    pub pressures: Pressures,
    /// The thresholds for which something is to be done, the most urgent first.
    pub due: Vec<&'a Threshold>,
}

impl Memory {
    /// Looks at what was seen.
    pub fn look<'a>(
        &mut self,
        config: &'a EvictionConfig,
        observations: &Observations,
        now: Timestamp,
    ) -> Look<'a> {
        let all = || config.thresholds.iter().enumerate();
        let met = all().filter(|(at, threshold)| {
            threshold.is_met(observations, false)
                || self.due.contains(at) && threshold.is_met(observations, true)
        });
        let since: BTreeMap<usize, Timestamp> =
            met.map(|(at, _)| (at, self.since.get(&at).copied().unwrap_or(now))).collect();
        self.since = since;
        for at in self.since.keys() {
            self.seen.insert(config.thresholds[*at].signal.pressure(), now);
        }
        self.seen.retain(|_, seen| *seen == now || between(*seen, now) < config.transition);
        let is_due = |(at, since): (&usize, &Timestamp)| {
            (between(*since, now) >= config.thresholds[*at].grace).then_some(*at)
        };
        self.due = self.since.iter().filter_map(is_due).collect();
        let mut due: Vec<_> = self.due.iter().map(|at| &config.thresholds[*at]).collect();
        due.sort_by_key(|threshold| threshold.signal.resource() != Resource::Memory);
        Look { pressures: self.seen.keys().copied().collect(), due }
    }
}

/// Whether everything is good again after something was given back.
#[must_use]
pub fn is_good(config: &EvictionConfig, observations: &Observations) -> bool {
    !config.thresholds.iter().any(|threshold| threshold.is_met(observations, true))
}

/// What is told of the resource that is short: how much there should be, and how much there is.
#[must_use]
pub fn shortage(
    due: &[&Threshold],
    resource: Resource,
    observations: &Observations,
) -> Option<(Quantity, Quantity)> {
    let threshold = due.iter().find(|threshold| threshold.signal.resource() == resource)?;
    let Observed { available, capacity } = observations.get(&threshold.signal)?;
    Some((threshold.amount.of(*capacity), resource.quantity(*available)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn threshold(signal: Signal, amount: Amount, grace: u64, more: Option<Amount>) -> Threshold {
        Threshold { signal, amount, grace: Duration::from_secs(grace), minimum_reclaim: more }
    }

    fn bytes(amount: i64) -> Amount {
        Amount::Quantity(Quantity::new(amount, 0, Format::BinarySi))
    }

    fn config(thresholds: Vec<Threshold>) -> EvictionConfig {
        let (max_pod_grace, transition) = (Duration::ZERO, Duration::from_secs(300));
        EvictionConfig { thresholds, max_pod_grace, transition }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn seen(memory: u64, disk: u64) -> Observations {
        let of = |available| Observed { available, capacity: 1000 };
        [(Signal::MemoryAvailable, of(memory)), (Signal::NodeFsAvailable, of(disk))].into()
    }

    /// Looks one after the other: when, what is left, and what follows.
    fn check(config: &EvictionConfig, looks: &[(i64, u64, u64, &str)]) {
        let mut memory = Memory::default();
        for (second, free, disk, expected) in looks {
            let look = memory.look(config, &seen(*free, *disk), at(*second));
            let pressures = look.pressures.iter().map(|it| it.word());
            let told: Vec<_> = pressures.chain(look.due.iter().map(|it| it.signal.word())).collect();
            assert_eq!(told.join(" "), *expected, "at {second}");
        }
    }

    #[test]
    fn a_condition_outlasts_its_cause() {
        let config = config(vec![threshold(Signal::NodeFsAvailable, Amount::Part(10_000), 0, None)]);
        check(
            &config,
            &[
                (0, 0, 100, ""),
                (10, 0, 99, "DiskPressure nodefs.available"),
                (20, 0, 100, "DiskPressure"),
                (309, 0, 100, "DiskPressure"),
                (310, 0, 100, ""),
            ],
        );
    }

    #[test]
    fn a_soft_threshold_tells_at_once_and_acts_later() {
        let config = config(vec![threshold(Signal::MemoryAvailable, bytes(500), 30, None)]);
        check(
            &config,
            &[
                (0, 400, 0, "MemoryPressure"),
                (29, 400, 0, "MemoryPressure"),
                (30, 400, 0, "MemoryPressure memory.available"),
                (40, 500, 0, "MemoryPressure"),
                (50, 400, 0, "MemoryPressure"),
            ],
        );
    }

    #[test]
    fn more_is_given_back_than_was_short() {
        let config = config(vec![threshold(Signal::MemoryAvailable, bytes(500), 0, Some(bytes(100)))]);
        check(
            &config,
            &[
                (0, 550, 0, ""),
                (10, 400, 0, "MemoryPressure memory.available"),
                (20, 550, 0, "MemoryPressure memory.available"),
                (30, 600, 0, "MemoryPressure"),
                (40, 550, 0, "MemoryPressure"),
            ],
        );
        assert!(!is_good(&config, &seen(550, 0)) && is_good(&config, &seen(600, 0)));
    }

    #[test]
    fn memory_goes_first() {
        let config = config(vec![
            threshold(Signal::NodeFsAvailable, Amount::Part(50_000), 0, None),
            threshold(Signal::MemoryAvailable, bytes(500), 0, None),
        ]);
        check(&config, &[(0, 1, 1, "MemoryPressure DiskPressure memory.available nodefs.available")]);
        let due: Vec<_> = config.thresholds.iter().collect();
        let (wanted, there) = shortage(&due, Resource::EphemeralStorage, &seen(1, 1)).unwrap();
        assert_eq!((wanted.to_string(), there.to_string()), ("500".to_owned(), "1".to_owned()));
    }

    #[test]
    fn nothing_follows_from_what_was_not_seen() {
        let config = config(vec![threshold(Signal::PidAvailable, bytes(1), 0, None)]);
        check(&config, &[(0, 0, 0, "")]);
    }

    proptest! {
        /// What is due has its condition, and one that was not seen for the whole transition does not hold.
        #[test]
        fn conditions_follow_from_what_is_due(
            looks in proptest::collection::vec((1_i64..400, 0_u64..1000, 0_u64..1000), 1..20),
            grace in 0_u64..60,
            more in 0_i64..300,
        ) {
            let config = config(vec![
                threshold(Signal::MemoryAvailable, bytes(500), 0, Some(bytes(more))),
                threshold(Signal::NodeFsAvailable, Amount::Part(30_000), grace, None),
            ]);
            let (mut memory, mut now, mut last) = (Memory::default(), 0, None);
            for (passed, free, disk) in looks {
                now += passed;
                let look = memory.look(&config, &seen(free, disk), at(now));
                for due in &look.due {
                    prop_assert!(look.pressures.contains(&due.signal.pressure()));
                }
                if disk < 300 {
                    last = Some(now);
                }
                let held = last.is_some_and(|last| last == now || now - last < 300);
                prop_assert_eq!(look.pressures.contains(&Pressure::Disk), held);
                if free < 500 {
                    prop_assert_eq!(look.due.first().map(|due| due.signal), Some(Signal::MemoryAvailable));
                }
            }
        }
    }
}
