//! What becomes of a packet on a bad network: decided from rules, chances and what the link has carried.
//!
//! Pure: the caller tells the time and does what is decided. Must never see what a packet carries.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::packet::Header;

/// What waits for a slow link at most; more is dropped, as by a router with a full queue.
const QUEUE_US: u64 = 400_000;
/// A packet that is held back so that others overtake it waits so long.
const HELD_US: std::ops::Range<u64> = 2_000..30_000;
/// The second copy comes so much later.
const COPY_US: std::ops::Range<u64> = 0..10_000;

/// How long packets travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delay {
    /// No longer than they must.
    #[default]
    None,
    /// Between two times, each as likely.
    Uniform {
        /// The shortest.
        least_us: u64,
        /// The longest.
        most_us: u64,
    },
    /// Mostly short, sometimes very long.
    Exponential {
        /// On average.
        mean_us: u64,
        /// Never longer.
        most_us: u64,
    },
}

impl Delay {
    fn sample(self, rng: &mut StdRng) -> u64 {
        match self {
            Self::None => 0,
            Self::Uniform { least_us, most_us } => rng.random_range(least_us..=most_us.max(least_us)),
            Self::Exponential { mean_us, most_us } => {
                // Never the logarithm of 0.
                let chance: f64 = 1.0 - rng.random::<f64>();
                ((-chance.ln() * mean_us as f64) as u64).min(most_us)
            }
        }
    }
}

/// How bad a link is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// The time on the way. Packets of one link keep their order, whatever it is.
    pub delay: Delay,
    /// So many packets of a hundred are lost; 100 is a link that swallows everything.
    pub loss_percent: u32,
    /// So many arrive twice.
    pub duplicate_percent: u32,
    /// So many are held back and overtaken.
    pub overtaken_percent: u32,
    /// What fits through.
    pub bits_per_s: Option<u64>,
}

/// Which packets a rule is about: all for which nothing that is named here differs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passage {
    /// The sender.
    pub from: Option<Ipv4Addr>,
    /// The receiver.
    pub to: Option<Ipv4Addr>,
    /// The port of either.
    pub port: Option<u16>,
}

impl Passage {
    fn is_of(&self, header: &Header) -> bool {
        self.from.is_none_or(|from| from == header.from)
            && self.to.is_none_or(|to| to == header.to)
            && self.port.is_none_or(|port| {
                header.ports.is_some_and(|(source, target)| source == port || target == port)
            })
    }
}

/// What holds for some packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Which ones.
    pub passage: Passage,
    /// How bad it is for them.
    pub conditions: Conditions,
}

/// What was decided of one packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fate {
    /// When it arrives; `None` when it never does.
    pub(super) arrives_us: Option<u64>,
    /// When a second copy arrives.
    pub(super) again_us: Option<u64>,
    /// Whether those sent after it may arrive before it.
    pub(super) overtaken: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Link {
    /// From when on the slow link is free.
    free_us: u64,
    /// The last arrival that keeps the order.
    last_us: u64,
}

/// All links, with their chances.
#[derive(Debug)]
pub(super) struct Links {
    rng: StdRng,
    links: HashMap<(Ipv4Addr, Ipv4Addr), Link>,
}

impl Links {
    /// Links on which nothing travels.
    pub(super) fn new(seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), links: HashMap::new() }
    }

    /// Decides of a packet that is sent now. The first rule that is about it counts.
    pub(super) fn fate(&mut self, rules: &[Rule], header: &Header, bytes: usize, now_us: u64) -> Fate {
        let Some(rule) = rules.iter().find(|rule| rule.passage.is_of(header)) else {
            return Fate { arrives_us: Some(now_us), ..Fate::default() };
        };
        let conditions = &rule.conditions;
        let link = self.links.entry((header.from, header.to)).or_default();
        let rng = &mut self.rng;
        let mut by_chance = |percent: u32| rng.random_range(0..100) < percent;
        if by_chance(conditions.loss_percent) {
            return Fate::default();
        }
        let (twice, overtaken) =
            (by_chance(conditions.duplicate_percent), by_chance(conditions.overtaken_percent));
        let mut arrives_us = now_us;
        if let Some(bits_per_s) = conditions.bits_per_s {
            let takes_us = (bytes as u64 * 8 * 1_000_000) / bits_per_s.max(1);
            let free_us = link.free_us.max(now_us);
            if free_us - now_us > QUEUE_US {
                return Fate::default();
            }
            link.free_us = free_us + takes_us;
            arrives_us = link.free_us;
        }
        arrives_us += conditions.delay.sample(rng);
        if overtaken {
            arrives_us += rng.random_range(HELD_US);
        } else {
            arrives_us = arrives_us.max(link.last_us);
            link.last_us = arrives_us;
        }
        let again_us = twice.then(|| arrives_us + rng.random_range(COPY_US));
        Fate { arrives_us: Some(arrives_us), again_us, overtaken }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    fn header(from: Ipv4Addr, to: Ipv4Addr) -> Header {
        Header { from, to, ports: Some((40_000, 2379)) }
    }

    /// Sends 1000 packets of 1000 bytes, one each 10 ms.
    fn fates(conditions: Conditions, seed: u64) -> Vec<(u64, Fate)> {
        let mut links = Links::new(seed);
        let rules = [Rule { passage: Passage::default(), conditions }];
        (0..1000_u64)
            .map(|n| n * 10_000)
            .map(|at| (at, links.fate(&rules, &header(A, B), 1000, at)))
            .collect()
    }

    fn arrivals(fates: &[(u64, Fate)]) -> Vec<u64> {
        fates.iter().filter_map(|(_, fate)| fate.arrives_us).collect()
    }

    #[test]
    fn a_passage_is_what_it_names() {
        let all = Passage::default();
        for (passage, from, expected) in [
            (all, A, true),
            (Passage { from: Some(A), ..all }, A, true),
            (Passage { from: Some(A), ..all }, B, false),
            (Passage { to: Some(A), ..all }, B, true),
            (Passage { port: Some(2379), ..all }, A, true),
            (Passage { port: Some(40_000), ..all }, A, true),
            (Passage { port: Some(2380), ..all }, A, false),
            (Passage { from: Some(A), to: Some(B), port: Some(2379) }, A, true),
            (Passage { from: Some(A), to: Some(A), port: None }, A, false),
        ] {
            let to = if from == A { B } else { A };
            assert_eq!(passage.is_of(&header(from, to)), expected, "{passage:?} from {from}");
        }
        let port = Passage { port: Some(2379), ..all };
        assert!(!port.is_of(&Header { from: A, to: B, ports: None }));
    }

    #[test]
    fn without_a_rule_nothing_happens_to_a_packet() {
        let mut links = Links::new(1);
        let elsewhere = Rule {
            passage: Passage { from: Some(B), ..Passage::default() },
            conditions: Conditions { loss_percent: 100, ..Conditions::default() },
        };
        let expected = Fate { arrives_us: Some(77), ..Fate::default() };
        for rules in [&[][..], &[elsewhere], &[Rule::default(), elsewhere]] {
            assert_eq!(links.fate(rules, &header(A, B), 1500, 77), expected, "{rules:?}");
        }
        assert_eq!(links.fate(&[elsewhere], &header(B, A), 1500, 77), Fate::default());
    }

    #[test]
    fn percentages_are_about_kept() {
        let lossy = fates(Conditions { loss_percent: 30, ..Conditions::default() }, 1);
        assert!((600..800).contains(&arrivals(&lossy).len()), "{}", arrivals(&lossy).len());
        let swallowing = fates(Conditions { loss_percent: 100, ..Conditions::default() }, 1);
        assert_eq!(arrivals(&swallowing).len(), 0);
        let twice = fates(Conditions { duplicate_percent: 20, ..Conditions::default() }, 1);
        let copies = twice.iter().filter(|(_, fate)| fate.again_us.is_some()).count();
        assert!((120..280).contains(&copies), "{copies}");
    }

    #[test]
    fn delay_keeps_the_order_unless_packets_are_to_be_overtaken() {
        for delay in [
            Delay::Uniform { least_us: 25_000, most_us: 125_000 },
            Delay::Exponential { mean_us: 100_000, most_us: 1_000_000 },
        ] {
            let fates = fates(Conditions { delay, ..Conditions::default() }, 2);
            assert!(arrivals(&fates).is_sorted(), "{delay:?}");
            for (sent_us, fate) in &fates {
                // Behind a slow one each may be late, but none is early.
                let took_us = fate.arrives_us.map(|arrives_us| arrives_us - sent_us);
                assert!(!matches!(delay, Delay::Uniform { least_us, .. } if took_us < Some(least_us)));
            }
            assert!(arrivals(&fates) != fates.iter().map(|(sent_us, _)| *sent_us).collect::<Vec<_>>());
        }
        let overtaken = fates(Conditions { overtaken_percent: 25, ..Conditions::default() }, 2);
        assert!(!arrivals(&overtaken).is_sorted());
    }

    /// 1000 bytes take 8 ms at 1 Mb/s, and one that comes each millisecond waits for those before it.
    #[test]
    fn a_slow_link_queues_and_then_drops() {
        let conditions = Conditions { bits_per_s: Some(1_000_000), ..Conditions::default() };
        assert!(fates(conditions, 3).iter().all(|(sent_us, fate)| fate.arrives_us == Some(sent_us + 8_000)));
        let mut links = Links::new(3);
        let rules = [Rule { passage: Passage::default(), conditions }];
        let mut send = |from, to, at| links.fate(&rules, &header(from, to), 1000, at).arrives_us;
        let dense: Vec<Option<u64>> = (0..1000).map(|n| send(A, B, n * 1000)).collect();
        assert_eq!(dense[..3], [Some(8_000), Some(16_000), Some(24_000)]);
        let dropped = dense.iter().filter(|arrival| arrival.is_none()).count();
        assert!((700..900).contains(&dropped), "{dropped}");
        // The way back is another link.
        assert_eq!(send(B, A, 1_000_000), Some(1_008_000));
    }

    #[test]
    fn a_seed_decides_everything() {
        let conditions = Conditions {
            delay: Delay::Exponential { mean_us: 50_000, most_us: 500_000 },
            loss_percent: 10,
            duplicate_percent: 10,
            overtaken_percent: 10,
            bits_per_s: Some(1_000_000),
        };
        assert_eq!(fates(conditions, 4), fates(conditions, 4));
        assert_ne!(fates(conditions, 4), fates(conditions, 5));
    }
}
