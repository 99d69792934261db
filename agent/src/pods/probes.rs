//! The probes of one pod: when each is due, and what its answers mean. A decision: who asks, and the time, are handed in.
//!
//! As the kubelet's: while the startup probe has not succeeded the others rest; a failed liveness or startup probe says
//! nothing more until the container is a new one.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, Probe};
use k8s_openapi::jiff::Timestamp;

use super::observed::Observed;
use super::spec::{self, ContainerSpec};
use crate::clock::{after, sooner};

/// What a probe is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProbeKind {
    /// Whether the container has come up.
    Startup,
    /// Whether it must be restarted.
    Liveness,
    /// Whether it takes work.
    Readiness,
}

impl ProbeKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Startup, Self::Liveness, Self::Readiness];

    /// As events begin with it.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }

    /// The probe of this kind.
    #[must_use]
    pub fn of<'a>(self, container: &ContainerSpec<'a>) -> Option<&'a Probe> {
        container.probes()[self as usize]
    }
}

/// A probe that is to be asked now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Of this container.
    pub container: String,
    /// Of this kind.
    pub kind: ProbeKind,
}

/// What one probe has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answers {
    /// What holds; nothing was decided before the first threshold was reached.
    verdict: Option<bool>,
    last: Option<bool>,
    in_a_row: i32,
    next: Timestamp,
    /// It rests until the container is a new one.
    held: bool,
    /// It was asked and has not answered yet.
    asked: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct OfContainer {
    instance: String,
    answers: BTreeMap<ProbeKind, Answers>,
}

/// The probes of one pod's containers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probes(BTreeMap<String, OfContainer>);

impl Probes {
    /// Looks at what runs: a new instance begins anew, one that has ended is asked nothing more. What the API server knows
    /// of an instance holds until the first answer, so that a restart of the agent does not make it unready.
    pub fn follow(&mut self, pod: &Pod, observed: &Observed) {
        for container in spec::containers(pod) {
            let [startup, liveness, readiness] = container.probes();
            let newest = observed.newest(container.name);
            let Some((newest, since)) =
                newest.and_then(|newest| newest.running_since().map(|since| (newest, since)))
            else {
                // What was found out is kept until the next instance: it says why this one was stopped.
                continue;
            };
            if startup.is_none() && liveness.is_none() && readiness.is_none() {
                continue;
            }
            let known = self.0.entry(container.name.to_owned()).or_default();
            if known.instance == newest.id {
                continue;
            }
            let told = told_status(pod, container.name, &newest.id);
            let mut answers = BTreeMap::new();
            for kind in ProbeKind::ALL {
                let Some(probe) = kind.of(&container) else { continue };
                let verdict = match kind {
                    ProbeKind::Startup => told.and_then(|it| it.started).filter(|started| *started),
                    ProbeKind::Liveness => None,
                    ProbeKind::Readiness => told.map(|it| it.ready),
                };
                let next = after(since, of_seconds(probe.initial_delay_seconds, 0));
                answers.insert(
                    kind,
                    Answers { verdict, last: None, in_a_row: 0, next, held: false, asked: false },
                );
            }
            *known = OfContainer { instance: newest.id.clone(), answers };
        }
    }

    /// What is to be asked now.
    #[must_use]
    pub fn due(&self, pod: &Pod, observed: &Observed, now: Timestamp) -> Vec<Due> {
        let due = self.asked(pod, observed).filter(|(_, _, next)| *next <= now);
        due.map(|(container, kind, _)| Due { container: container.to_owned(), kind }).collect()
    }

    /// When something is to be asked next.
    #[must_use]
    pub fn wake_at(&self, pod: &Pod, observed: &Observed) -> Option<Timestamp> {
        self.asked(pod, observed).fold(None, |first, (_, _, next)| sooner(first, Some(next)))
    }

    /// Everything that is asked from time to time, with when.
    fn asked<'a>(
        &'a self,
        pod: &'a Pod,
        observed: &'a Observed,
    ) -> impl Iterator<Item = (&'a str, ProbeKind, Timestamp)> {
        let deleted = spec::is_deleted(pod);
        self.0.iter().flat_map(move |(name, known)| {
            let running = observed.newest(name).filter(|newest| {
                newest.id == known.instance && newest.running_since().is_some() && newest.killed_at.is_none()
            });
            let started = self.has_started(name);
            let asked = known.answers.iter().filter(move |(kind, answers)| {
                let turn = match kind {
                    ProbeKind::Startup => !started && !deleted,
                    ProbeKind::Liveness => started && !deleted,
                    ProbeKind::Readiness => started,
                };
                running.is_some() && turn && !answers.held && !answers.asked
            });
            asked.map(move |(kind, answers)| (name.as_str(), *kind, answers.next))
        })
    }

    /// A probe was answered. Says whether this is the failure by which the container is found broken.
    pub fn answered(&mut self, pod: &Pod, due: &Due, success: bool, now: Timestamp) -> bool {
        let Some(container) = spec::find(pod, &due.container) else { return false };
        let Some(probe) = due.kind.of(&container) else { return false };
        let Some(known) = self.0.get_mut(&due.container) else { return false };
        let Some(answers) = known.answers.get_mut(&due.kind) else { return false };
        answers.asked = false;
        let period = of_seconds(probe.period_seconds, 10).max(Duration::from_secs(1));
        // In step with the first one, but never several at once for those that were missed.
        answers.next = after(answers.next, period);
        if answers.next <= now {
            answers.next = after(now, period);
        }
        answers.in_a_row = if answers.last == Some(success) { answers.in_a_row.saturating_add(1) } else { 1 };
        answers.last = Some(success);
        let threshold =
            if success { probe.success_threshold.unwrap_or(1) } else { probe.failure_threshold.unwrap_or(3) };
        if answers.in_a_row < threshold {
            return false;
        }
        answers.verdict = Some(success);
        answers.held = !success && due.kind != ProbeKind::Readiness;
        answers.held
    }

    /// It is being asked: it is not due again before it has answered.
    pub fn asked_now(&mut self, due: &Due) {
        let known = self.0.get_mut(&due.container);
        if let Some(answers) = known.and_then(|known| known.answers.get_mut(&due.kind)) {
            answers.asked = true;
        }
    }

    /// Whether an answer of this instance still matters.
    #[must_use]
    pub fn is_of(&self, due: &Due, instance: &str) -> bool {
        self.0.get(&due.container).is_some_and(|known| known.instance == instance)
    }

    fn verdict(&self, name: &str, kind: ProbeKind) -> Option<Option<bool>> {
        self.0.get(name)?.answers.get(&kind).map(|answers| answers.verdict)
    }

    /// Whether a container that runs has come up.
    #[must_use]
    pub fn has_started(&self, name: &str) -> bool {
        self.verdict(name, ProbeKind::Startup).is_none_or(|verdict| verdict == Some(true))
    }

    /// Whether a container that runs takes work.
    #[must_use]
    pub fn is_ready(&self, name: &str) -> bool {
        self.has_started(name)
            && self.verdict(name, ProbeKind::Readiness).is_none_or(|verdict| verdict == Some(true))
    }

    /// The probe by which this instance was found broken.
    #[must_use]
    pub fn failed(&self, name: &str, instance: &str) -> Option<ProbeKind> {
        let known = self.0.get(name).filter(|known| known.instance == instance)?;
        known.answers.iter().find(|(_, answers)| answers.held).map(|(kind, _)| *kind)
    }
}

fn told_status<'a>(pod: &'a Pod, name: &str, id: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let lists = [&status.container_statuses, &status.init_container_statuses];
    let mut all = lists.into_iter().flatten().flatten();
    all.find(|told| told.name == name && told.container_id.as_deref() == Some(id))
}

fn of_seconds(seconds: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(seconds.map_or(default, |seconds| u64::try_from(seconds).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::observed::{Container, Instance, State};
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn pod(probes: Value) -> Pod {
        let mut container = json!({"name": "c"});
        container.as_object_mut().unwrap().extend(probes.as_object().unwrap().clone());
        serde_json::from_value(json!({"metadata": {}, "spec": {"containers": [container]}})).unwrap()
    }

    fn running(id: &str, since: i64) -> Observed {
        let newest = Instance {
            id: id.to_owned(),
            image: String::new(),
            image_id: String::new(),
            attempt: 0,
            created: at(since),
            state: State::Running { since: at(since) },
            killed_at: None,
            bounds: None,
        };
        let container = Container { newest, before: None, crashes: 0 };
        Observed { sandbox: None, containers: [("c".to_owned(), container)].into() }
    }

    /// Asks what is due at each second and answers; tells what was asked, as `s3` for startup at 3.
    fn drive(
        probes: &mut Probes,
        pod: &Pod,
        observed: &Observed,
        seconds: std::ops::Range<i64>,
        answer: impl Fn(ProbeKind, i64) -> bool,
    ) -> String {
        let mut told = Vec::new();
        for second in seconds {
            for due in probes.due(pod, observed, at(second)) {
                let broken = probes.answered(pod, &due, answer(due.kind, second), at(second));
                let letter = &due.kind.title()[..1].to_lowercase();
                told.push(format!("{letter}{second}{}", if broken { "!" } else { "" }));
            }
        }
        told.join(" ")
    }

    #[test]
    fn readiness_follows_thresholds_and_periods() {
        let pod = pod(
            json!({"readinessProbe": {"initialDelaySeconds": 5, "periodSeconds": 2, "successThreshold": 2, "failureThreshold": 3}}),
        );
        let observed = running("a", 0);
        let mut probes = Probes::default();
        probes.follow(&pod, &observed);
        assert_eq!(probes.wake_at(&pod, &observed), Some(at(5)));
        assert_eq!(drive(&mut probes, &pod, &observed, 0..6, |_, _| true), "r5");
        assert!(!probes.is_ready("c"), "once is not enough");
        assert_eq!(drive(&mut probes, &pod, &observed, 6..8, |_, _| true), "r7");
        assert!(probes.is_ready("c"));
        assert_eq!(drive(&mut probes, &pod, &observed, 8..12, |_, _| false), "r9 r11");
        assert!(probes.is_ready("c"), "two failures are forgiven");
        assert_eq!(drive(&mut probes, &pod, &observed, 12..14, |_, _| false), "r13");
        assert!(!probes.is_ready("c"));
        assert_eq!(probes.failed("c", "a"), None, "nobody restarts what is not ready");
    }

    #[test]
    fn startup_holds_the_others() {
        let pod = pod(json!({
            "startupProbe": {"periodSeconds": 1, "failureThreshold": 5},
            "livenessProbe": {"periodSeconds": 10}, "readinessProbe": {"periodSeconds": 10},
        }));
        let observed = running("a", 0);
        let mut probes = Probes::default();
        probes.follow(&pod, &observed);
        let told = drive(&mut probes, &pod, &observed, 0..5, |_, second| second >= 3);
        assert_eq!(told, "s0 s1 s2 s3 l4 r4");
        assert!(probes.has_started("c") && probes.is_ready("c"));
    }

    #[test]
    fn a_broken_container_is_not_asked_until_it_is_a_new_one() {
        let pod = pod(json!({"livenessProbe": {"periodSeconds": 1, "failureThreshold": 2}}));
        let observed = running("a", 0);
        let mut probes = Probes::default();
        probes.follow(&pod, &observed);
        assert_eq!(drive(&mut probes, &pod, &observed, 0..9, |_, _| false), "l0 l1!");
        assert_eq!(probes.failed("c", "a"), Some(ProbeKind::Liveness));
        let observed = running("b", 20);
        probes.follow(&pod, &observed);
        assert_eq!(probes.failed("c", "b"), None);
        assert_eq!(drive(&mut probes, &pod, &observed, 20..23, |_, _| true), "l20 l21 l22");
    }

    #[test]
    fn startup_that_fails_breaks_the_container() {
        let pod = pod(json!({"startupProbe": {"periodSeconds": 1, "failureThreshold": 2}}));
        let observed = running("a", 0);
        let mut probes = Probes::default();
        probes.follow(&pod, &observed);
        assert_eq!(drive(&mut probes, &pod, &observed, 0..9, |_, _| false), "s0 s1!");
        assert_eq!(probes.failed("c", "a"), Some(ProbeKind::Startup));
    }

    #[test]
    fn what_the_api_server_knows_holds_until_the_first_answer() {
        let mut pod = pod(json!({"startupProbe": {}, "readinessProbe": {"periodSeconds": 1}}));
        pod.status = serde_json::from_value(json!({"containerStatuses": [{
            "name": "c", "containerID": "a", "image": "", "imageID": "", "ready": true, "started": true, "restartCount": 0,
        }]}))
        .unwrap();
        let observed = running("a", 0);
        let mut probes = Probes::default();
        probes.follow(&pod, &observed);
        assert!(probes.is_ready("c"));
        assert_eq!(drive(&mut probes, &pod, &observed, 100..102, |_, _| false), "r100 r101");
        assert!(probes.is_ready("c"), "two failures are forgiven");
    }

    #[test]
    fn a_deleted_pod_is_asked_for_readiness_only() {
        let mut pod =
            pod(json!({"livenessProbe": {"periodSeconds": 1}, "readinessProbe": {"periodSeconds": 1}}));
        pod.metadata.deletion_timestamp = Some(crate::clock::told(at(30)));
        let observed = running("a", 0);
        let mut probes = Probes::default();
        probes.follow(&pod, &observed);
        assert_eq!(drive(&mut probes, &pod, &observed, 0..2, |_, _| true), "r0 r1");
    }
}
