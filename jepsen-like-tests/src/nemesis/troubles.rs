//! Which packets suffer what, for each kind of bad network.

use std::net::Ipv4Addr;

use rand::Rng;

use crate::network::{Conditions, Delay, Passage, Rule};

/// A kind of bad network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Every packet takes 25 to 125 ms.
    Delay,
    /// Most packets are quick, some take a second and hold up those behind them.
    Jitter,
    /// 2 to 30 % of all packets are lost.
    Loss,
    /// Packets come twice, and later than those sent after them.
    Disorder,
    /// Nothing is faster than 1 Mb/s, and what waits too long is dropped.
    SlowLink,
    /// A member's connections stay open and carry nothing: what it sends, what it is sent, its port for clients, or its port
    /// for members.
    HalfOpen,
}

/// A member as the network sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) address: Ipv4Addr,
    pub(super) client_port: u16,
    pub(super) peer_port: u16,
}

/// The rules, and in words what they do. Where one host suffers, it is the victim.
pub(super) fn rules(trouble: Trouble, victim: Host, rng: &mut impl Rng) -> (String, Vec<Rule>) {
    let everywhere =
        |what: String, conditions| (what, vec![Rule { passage: Passage::default(), conditions }]);
    let normal = Conditions::default();
    match trouble {
        Trouble::Delay => {
            let delay = Delay::Uniform { least_us: 25_000, most_us: 125_000 };
            everywhere("delay of 75±50 ms".to_owned(), Conditions { delay, ..normal })
        }
        Trouble::Jitter => {
            let delay = Delay::Exponential { mean_us: 100_000, most_us: 1_500_000 };
            everywhere("delay of 100 ms on average, 1.5 s at most".to_owned(), Conditions { delay, ..normal })
        }
        Trouble::Loss => {
            let loss_percent = rng.random_range(2..=30);
            everywhere(format!("loss of {loss_percent} %"), Conditions { loss_percent, ..normal })
        }
        Trouble::Disorder => {
            let conditions = Conditions { duplicate_percent: 15, overtaken_percent: 25, ..normal };
            everywhere("15 % duplicated, 25 % overtaken".to_owned(), conditions)
        }
        Trouble::SlowLink => {
            let conditions = Conditions { bits_per_s: Some(1_000_000), ..normal };
            everywhere("1 Mb/s".to_owned(), conditions)
        }
        Trouble::HalfOpen => {
            let any = Passage::default();
            let (what, passage) = match rng.random_range(0..4) {
                0 => ("what it sends", Passage { from: Some(victim.address), ..any }),
                1 => ("what it is sent", Passage { to: Some(victim.address), ..any }),
                2 => ("its port for clients", Passage { port: Some(victim.client_port), ..any }),
                _ => ("its port for members", Passage { port: Some(victim.peer_port), ..any }),
            };
            let conditions = Conditions { loss_percent: 100, ..normal };
            (format!("silent connections: {what}"), vec![Rule { passage, conditions }])
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    const VICTIM: Host = Host { address: Ipv4Addr::new(10, 77, 0, 12), client_port: 2379, peer_port: 2380 };

    #[test]
    fn only_silent_connections_are_of_one_member() {
        let mut rng = StdRng::seed_from_u64(1);
        for trouble in [Trouble::Delay, Trouble::Jitter, Trouble::Loss, Trouble::Disorder, Trouble::SlowLink]
        {
            let (what, rules) = rules(trouble, VICTIM, &mut rng);
            assert_eq!(rules.len(), 1, "{what}");
            assert_eq!(rules[0].passage, Passage::default(), "{what}");
            assert_ne!(rules[0].conditions, Conditions::default(), "{what}");
            assert!(rules[0].conditions.loss_percent <= 30, "{what}");
        }
    }

    #[test]
    fn each_way_of_being_silent_has_its_turn() {
        let mut rng = StdRng::seed_from_u64(1);
        let seen: HashSet<String> = (0..100).map(|_| rules(Trouble::HalfOpen, VICTIM, &mut rng).0).collect();
        assert_eq!(seen.len(), 4, "{seen:?}");
    }
}
