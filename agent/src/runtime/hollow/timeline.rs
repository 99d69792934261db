//! What has become of a pod's containers by a moment, and when something happens next. A decision: the same behaviour and
//! the same moments give the same history; what has happened is never taken back.

use k8s_openapi::jiff::Timestamp;

use super::behaviour::Behaviour;
use crate::clock::{after, between, sooner};
use crate::pods::observed::{Container, Exit, HEALTHY_RUN, Instance, State};
use crate::pods::spec::SHORTEST_GRACE;

/// The exit code of one that SIGTERM ended.
pub(super) const TERMINATED: i32 = 143;
/// The exit code of one that was killed.
pub(super) const KILLED: i32 = 137;

/// A container with what was asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) container: Container,
    /// When it was asked to stop; [`Instance::killed_at`] is when that ends.
    pub(super) asked_to_stop: Option<Timestamp>,
}

impl Life {
    /// A new instance, after those that were there.
    pub(super) fn begin(before: Option<Self>, instance: Instance) -> Self {
        let (before, crashes) =
            before.map_or((None, 0), |life| (Some(life.container.newest), life.container.crashes));
        Self { container: Container { newest: instance, before, crashes }, asked_to_stop: None }
    }

    /// It shall stop within a grace. Asked again it may only end sooner.
    pub(super) fn stop(&mut self, now: Timestamp, grace: std::time::Duration) {
        let newest = &mut self.container.newest;
        if newest.exit().is_some() {
            return;
        }
        let end = after(now, grace.max(SHORTEST_GRACE));
        newest.killed_at = sooner(newest.killed_at, Some(end));
        self.asked_to_stop = sooner(self.asked_to_stop, Some(now));
    }

    /// What happens next by itself.
    pub(super) fn next(&self, behaviour: &Behaviour) -> Option<Timestamp> {
        let newest = &self.container.newest;
        match &newest.state {
            State::Exited(_) => None,
            State::Created => {
                Some(self.asked_to_stop.unwrap_or(after(newest.created, behaviour.start_after)))
            }
            State::Running { since } => {
                let by_itself = behaviour.run_for.map(|run_for| after(*since, run_for));
                sooner(by_itself, self.stopped_at(behaviour))
            }
        }
    }

    fn stopped_at(&self, behaviour: &Behaviour) -> Option<Timestamp> {
        let asked = self.asked_to_stop?;
        sooner(Some(after(asked, behaviour.stop_takes)), self.container.newest.killed_at)
    }

    /// Everything that happens up to `now`, and not before `from`: what was looked at then stays as it was told.
    /// Says whether anything has.
    pub(super) fn advance(&mut self, behaviour: &Behaviour, from: Timestamp, now: Timestamp) -> bool {
        let mut happened = false;
        while let Some(next) = self.next(behaviour).filter(|next| *next <= now) {
            happened = true;
            let at = next.max(from);
            let stopped_at = self.stopped_at(behaviour);
            let killed_at = self.container.newest.killed_at;
            let newest = &mut self.container.newest;
            match newest.state {
                State::Created if self.asked_to_stop.is_none() => newest.state = State::Running { since: at },
                State::Created => self.end(TERMINATED, at, at),
                State::Running { since } => {
                    let by_itself = behaviour.run_for.map(|run_for| after(since, run_for));
                    let was_stopped =
                        stopped_at.is_some() && by_itself.is_none_or(|end| stopped_at < Some(end));
                    let code = match (was_stopped, self.asked_to_stop) {
                        (true, Some(asked)) if Some(after(asked, behaviour.stop_takes)) > killed_at => KILLED,
                        (true, _) => TERMINATED,
                        (false, _) => behaviour.exit_code,
                    };
                    self.end(code, since, at);
                }
                State::Exited(_) => break,
            }
        }
        happened
    }

    fn end(&mut self, code: i32, started_at: Timestamp, finished_at: Timestamp) {
        let healthy = between(started_at, finished_at) >= HEALTHY_RUN;
        let crashes = if healthy { 0 } else { self.container.crashes };
        self.container.crashes = crashes.saturating_add(1);
        let reason = if code == 0 { "Completed" } else { "Error" };
        self.container.newest.state =
            State::Exited(Exit { code, reason: reason.to_owned(), message: None, started_at, finished_at });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn behaviour() -> Behaviour {
        super::super::behaviour::behaviour(&k8s_openapi::api::core::v1::Pod::default(), "c").0
    }

    fn begun(second: i64) -> Life {
        let instance = Instance {
            id: "hollow://1".into(),
            image: "i".into(),
            image_id: "i".into(),
            attempt: 0,
            created: at(second),
            state: State::Created,
            killed_at: None,
            bounds: None,
        };
        Life::begin(None, instance)
    }

    fn told(life: &Life) -> String {
        match &life.container.newest.state {
            State::Created => "created".to_owned(),
            State::Running { since } => format!("running since {}", since.as_second()),
            State::Exited(exit) => {
                let (from, to) = (exit.started_at.as_second(), exit.finished_at.as_second());
                format!("{} {from}..{to}", exit.code)
            }
        }
    }

    fn check(behaviour: &Behaviour, stops: &[(i64, u64)], until: i64, expected: &str) {
        let mut life = begun(10);
        for (second, grace) in stops {
            life.advance(behaviour, at(10), at(*second));
            life.stop(at(*second), secs(*grace));
        }
        life.advance(behaviour, at(10), at(until));
        assert_eq!(told(&life), expected);
    }

    #[test]
    fn lives_are_as_long_as_they_shall_be() {
        let mut slow = behaviour();
        slow.start_after = secs(5);
        slow.run_for = Some(secs(20));
        slow.exit_code = 4;
        for (until, expected) in [
            (14, "created"),
            (15, "running since 15"),
            (34, "running since 15"),
            (35, "4 15..35"),
            (99, "4 15..35"),
        ] {
            check(&slow, &[], until, expected);
        }
        check(&behaviour(), &[], 1_000_000, "running since 10");
    }

    #[test]
    fn who_is_asked_to_stop_ends_in_time_or_is_killed() {
        check(&behaviour(), &[(20, 30)], 20, "143 10..20");
        let mut stubborn = behaviour();
        stubborn.stop_takes = secs(7);
        check(&stubborn, &[(20, 30)], 26, "running since 10");
        check(&stubborn, &[(20, 30)], 27, "143 10..27");
        check(&stubborn, &[(20, 5)], 99, "137 10..25");
        check(&stubborn, &[(20, 7)], 99, "143 10..27");
        check(&stubborn, &[(20, 30), (22, 3)], 99, "137 10..25");
        check(&stubborn, &[(20, 3), (21, 30)], 99, "137 10..23");
        stubborn.run_for = Some(secs(12));
        check(&stubborn, &[(20, 30)], 99, "0 10..22");
        let mut slow = behaviour();
        slow.start_after = secs(50);
        check(&slow, &[(20, 30)], 99, "143 20..20");
    }

    #[test]
    fn crashes_are_counted_until_it_ran_long_enough() {
        let mut short = behaviour();
        short.run_for = Some(secs(1));
        let mut life = begun(0);
        life.advance(&short, at(0), at(5));
        assert_eq!(life.container.crashes, 1);
        let again = begun(10).container.newest;
        let mut life = Life::begin(Some(life), again.clone());
        life.advance(&short, at(0), at(15));
        assert_eq!(life.container.crashes, 2);
        short.run_for = Some(HEALTHY_RUN);
        let mut life = Life::begin(Some(life), again);
        life.advance(&short, at(0), at(5_000));
        assert_eq!(life.container.crashes, 1);
        assert!(life.container.before.is_some());
    }

    #[test]
    fn another_behaviour_does_not_change_what_has_been_told() {
        let mut life = begun(10);
        life.advance(&behaviour(), at(10), at(100));
        let mut short = behaviour();
        short.run_for = Some(secs(5));
        life.advance(&short, at(100), at(101));
        assert_eq!(told(&life), "0 10..100", "it did run at 100");
    }
}
