//! Which server is asked next: the one that worked last, and the bad ones last. A decision; must never read a clock.

use std::time::Duration;

/// How long a server is avoided after its first failure.
const FIRST: Duration = Duration::from_secs(1);
/// The longest that it is avoided.
const LONGEST: Duration = Duration::from_secs(30);

/// What is known of one server.
#[derive(Debug, Clone, Default)]
struct Health {
    /// Failures since it last worked; those that came together are one.
    failures: u32,
    /// Until when others go first.
    avoid_until: Option<Duration>,
}

/// What is known of all servers. Times count from any fixed moment.
#[derive(Debug)]
pub(super) struct Choice {
    servers: Vec<Health>,
    current: usize,
}

impl Choice {
    /// So many servers, all good; the first is preferred.
    pub(super) fn new(servers: usize) -> Self {
        Self { servers: vec![Health::default(); servers], current: 0 }
    }

    /// There are so many servers now. When that is another number, nothing is known of them: places are others'.
    pub(super) fn are(&mut self, servers: usize) {
        if self.servers.len() != servers {
            *self = Self::new(servers);
        }
    }

    /// All servers in the order in which a request tries them. A bad one is not left out: it is better than none.
    pub(super) fn order(&self, now: Duration) -> Vec<usize> {
        let count = self.servers.len();
        let mut order: Vec<usize> = (0..count).map(|step| (self.current + step) % count).collect();
        order.sort_by_key(|server| self.servers[*server].avoid_until.filter(|until| *until > now));
        order
    }

    /// A server answered. It stays or becomes the current one, unless another that works is.
    pub(super) fn worked(&mut self, server: usize) {
        let Some(health) = self.servers.get_mut(server) else { return };
        *health = Health::default();
        if self.servers[self.current].avoid_until.is_some() {
            self.current = server;
        }
    }

    /// A server did not answer, or said that it cannot serve. Each time in a row it is avoided for twice as long.
    pub(super) fn failed(&mut self, server: usize, now: Duration) {
        // It may be gone since it was asked.
        let Some(health) = self.servers.get_mut(server) else { return };
        if health.avoid_until.is_some_and(|until| until > now) {
            // One of many requests that were on their way to it.
            return;
        }
        let wait = FIRST.saturating_mul(1 << health.failures.min(5)).min(LONGEST);
        health.failures = health.failures.saturating_add(1);
        health.avoid_until = Some(now + wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn servers_come_and_go() {
        let mut choice = Choice::new(1);
        choice.failed(0, at(0));
        choice.are(3);
        assert_eq!(choice.order(at(1)), [0, 1, 2]);
        choice.failed(0, at(1));
        choice.are(3);
        assert_eq!(choice.order(at(2)), [1, 2, 0]);
        choice.are(2);
        // Who answers late is perhaps gone.
        choice.failed(2, at(3));
        choice.worked(2);
        assert_eq!(choice.order(at(3)), [0, 1]);
    }

    #[test]
    fn the_server_that_worked_last_is_asked_first() {
        let mut choice = Choice::new(3);
        assert_eq!(choice.order(at(0)), [0, 1, 2]);
        choice.failed(0, at(0));
        assert_eq!(choice.order(at(1)), [1, 2, 0]);
        choice.worked(1);
        assert_eq!(choice.order(at(1)), [1, 2, 0]);
        // Also when the first would do again: connections and watches are at the other.
        assert_eq!(choice.order(at(60_000)), [1, 2, 0]);
    }

    #[test]
    fn a_late_answer_does_not_move_everybody_back() {
        let mut choice = Choice::new(2);
        choice.failed(0, at(0));
        choice.worked(1);
        choice.worked(0);
        assert_eq!(choice.order(at(1)), [1, 0]);
    }

    #[test]
    fn bad_servers_are_tried_when_there_is_no_other() {
        let mut choice = Choice::new(3);
        for (server, time) in [(0, 0), (1, 10), (2, 5)] {
            choice.failed(server, at(time));
        }
        assert_eq!(choice.order(at(20)), [0, 2, 1], "the one whose time is over first");
        assert_eq!(choice.order(at(1000)), [0, 2, 1]);
        assert_eq!(choice.order(at(5000)), [0, 1, 2]);
    }

    #[test]
    fn a_server_is_avoided_for_longer_each_time() {
        let mut choice = Choice::new(2);
        let mut now = at(0);
        let mut waits = Vec::new();
        for _ in 0..7 {
            choice.failed(0, now);
            choice.failed(0, now); // on its way at the same time
            let until = choice.servers[0].avoid_until.unwrap();
            waits.push((until - now).as_secs());
            now = until;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        choice.worked(0);
        choice.failed(0, now);
        assert_eq!(choice.servers[0].avoid_until.unwrap() - now, FIRST);
    }

    #[test]
    fn one_server_is_always_asked() {
        let mut choice = Choice::new(1);
        choice.failed(0, at(0));
        assert_eq!(choice.order(at(0)), [0]);
    }
}
