//! Tables for the plan of a pod: what is there, what is wanted, and what is done for it.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::failures::{Failed, Failures};
use super::observed::{Container, Exit, Instance, Observed, Sandbox, State};
use super::plan::{Action, Known, PodPlan, Refusal, Stage, StartReason, StopReason, plan};
use super::probes::{Due, ProbeKind, Probes};
use super::resize::Resizing;
use crate::clock::{after, told};

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A pod of these containers: `i...` are init containers, `s...` sidecars, `e...` ephemeral, all others main ones.
pub(super) fn pod(policy: &str, names: &str) -> Pod {
    let of = |letter: fn(char) -> bool, more: Value| -> Vec<Value> {
        let named = names.split_whitespace().filter(|name| letter(name.chars().next().unwrap()));
        named
            .map(|name| {
                let mut container = json!({"name": name, "image": "image"});
                container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
                container
            })
            .collect()
    };
    let init: Vec<Value> = names
        .split_whitespace()
        .filter_map(|name| match name.chars().next() {
            Some('i') => Some(json!({"name": name, "image": "image"})),
            Some('s') => Some(json!({"name": name, "image": "image", "restartPolicy": "Always"})),
            _ => None,
        })
        .collect();
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "ns", "uid": "u", "generation": 1},
        "spec": {
            "restartPolicy": policy, "terminationGracePeriodSeconds": 30, "initContainers": init,
            "containers": of(|letter| !"ise".contains(letter), json!({})),
            "ephemeralContainers": of(|letter| letter == 'e', json!({})),
        },
    }))
    .unwrap()
}

/// What is there: `name=r` runs, `name=c` was created, `name=3` ended with 3 at 100, `name=3x4` did so for the fourth time;
/// `!` behind it says that it was asked to stop and is killed at 130.
pub(super) fn observed(words: &str) -> Observed {
    let container = |word: &str| {
        let (name, doing) = word.split_once('=').unwrap();
        let (doing, stopping) = doing.strip_suffix('!').map_or((doing, false), |doing| (doing, true));
        let (doing, crashes) = doing.split_once('x').unwrap_or((doing, "1"));
        let crashes: u32 = crashes.parse().unwrap();
        let state = match doing {
            "r" => State::Running { since: at(90) },
            "c" => State::Created,
            code => State::Exited(Exit {
                code: code.parse().unwrap(),
                reason: if code == "0" { "Completed" } else { "Error" }.into(),
                message: None,
                started_at: at(90),
                finished_at: at(100),
            }),
        };
        let ended = matches!(state, State::Exited(_));
        let newest = Instance {
            id: format!("{name}-id"),
            image: "image".into(),
            image_id: "sha".into(),
            attempt: crashes - 1,
            created: at(90),
            state,
            killed_at: stopping.then(|| at(130)),
            bounds: None,
        };
        let crashes = if ended { crashes } else { crashes - 1 };
        (name.to_owned(), Container { newest, before: None, crashes })
    };
    let sandbox =
        Sandbox { created: at(80), addresses: vec!["10.0.0.5".parse().unwrap()], ready: true, bounds: None };
    Observed {
        sandbox: (!words.contains("no-sandbox")).then_some(sandbox),
        containers: words.split_whitespace().filter(|word| word.contains('=')).map(container).collect(),
    }
}

struct Case {
    pod: Pod,
    observed: Observed,
    probes: Probes,
    failures: Failures,
    refusal: Option<Refusal>,
    gone: bool,
    now: Timestamp,
}

impl Case {
    fn of(policy: &str, names: &str, there: &str) -> Self {
        Self {
            pod: pod(policy, names),
            observed: observed(there),
            probes: Probes::default(),
            failures: Failures::default(),
            refusal: None,
            gone: false,
            now: at(100),
        }
    }

    fn plan(&self) -> PodPlan {
        plan(&Known {
            pod: &self.pod,
            observed: &self.observed,
            probes: &self.probes,
            failures: &self.failures,
            refusal: self.refusal.as_ref(),
            resizing: &Resizing::default(),
            gone: self.gone,
            now: self.now,
        })
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn deleted(self, grace: i64) -> Self {
        self.with(|case| {
            case.pod.metadata.deletion_timestamp =
                Some(told(after(case.now, Duration::from_secs(grace.unsigned_abs()))));
            case.pod.metadata.deletion_grace_period_seconds = Some(grace);
        })
    }

    /// A probe of this kind has found a container broken.
    fn broken(self, name: &str, kind: ProbeKind, grace: Option<i64>) -> Self {
        self.with(|case| {
            let probe = json!({"failureThreshold": 1, "terminationGracePeriodSeconds": grace});
            let probe = Some(serde_json::from_value(probe).unwrap());
            let spec = case.pod.spec.as_mut().unwrap();
            let all = spec.init_containers.iter_mut().flatten().chain(&mut spec.containers);
            let container = all.into_iter().find(|container| container.name == name).unwrap();
            match kind {
                ProbeKind::Startup => container.startup_probe = probe,
                ProbeKind::Liveness => container.liveness_probe = probe,
                ProbeKind::Readiness => container.readiness_probe = probe,
            }
            // It ran when it was asked.
            let mut running = case.observed.clone();
            running.containers.get_mut(name).unwrap().newest.state = State::Running { since: at(90) };
            case.probes.follow(&case.pod, &running);
            let due = Due { container: name.into(), kind };
            assert!(case.probes.answered(&case.pod, &due, false, at(95)));
        })
    }

    fn is(&self, expected: &str) {
        let plan = self.plan();
        let mut told = match plan.stage {
            Stage::Active => Vec::new(),
            Stage::Ending => vec!["ending".to_owned()],
            Stage::Ended => vec!["ended".to_owned()],
        };
        told.extend(plan.failure.map(|failure| failure.reason));
        told.extend(plan.actions.iter().map(|action| match action {
            Action::CreateSandbox => "sandbox".to_owned(),
            Action::RemoveSandbox => "no sandbox".to_owned(),
            Action::Resize { containers, .. } => format!("resize {}", containers.join(" ")),
            Action::Start { container, attempt, reason } => {
                assert_eq!(*attempt == 0, *reason == StartReason::Turn, "{action:?}");
                format!("start {container}#{attempt}")
            }
            Action::Stop { container, grace, reason } => {
                let why = match reason {
                    StopReason::PodEnds => String::new(),
                    StopReason::Resized => " resized".to_owned(),
                    StopReason::Changed => " changed".to_owned(),
                    StopReason::Probe(kind) => format!(" {kind:?}").to_lowercase(),
                };
                format!("stop {container} {}{why}", grace.as_secs())
            }
        }));
        told.extend(plan.waiting.iter().map(|(name, waiting)| format!("{name} {}", waiting.reason)));
        told.extend(plan.wake_at.map(|wake| format!("wake {}", wake.as_second())));
        assert_eq!(told.join(", "), expected, "{:?}", self.observed);
    }
}

fn check(policy: &str, names: &str, there: &str, expected: &str) {
    Case::of(policy, names, there).is(expected);
}

#[test]
fn containers_start_in_their_order() {
    check("Always", "a b", "no-sandbox", "sandbox");
    check("Always", "a b", "", "start a#0, start b#0");
    check("Always", "a b", "a=r b=c", "");
    check("Always", "i1 i2 a", "", "start i1#0");
    check("Always", "i1 i2 a", "i1=r", "");
    check("Always", "i1 i2 a", "i1=0", "start i2#0");
    check("Always", "i1 i2 a", "i1=0 i2=0", "start a#0");
    check("Always", "i1 i2 a", "i2=0", "start a#0");
    check("Always", "i1 a", "a=r", "");
    check("Always", "e1 i1 a", "i1=r", "start e1#0");
    check("Always", "e1 a", "e1=1 a=r", "");
}

#[test]
fn sidecars_let_the_next_one_start_and_go_on() {
    check("Always", "s1 i1 s2 a", "", "start s1#0");
    check("Always", "s1 i1 s2 a", "s1=c", "");
    check("Always", "s1 i1 s2 a", "s1=r", "start i1#0");
    check("Always", "s1 i1 s2 a", "s1=r i1=0", "start s2#0");
    check("Always", "s1 i1 s2 a", "s1=r i1=0 s2=r", "start a#0");
    check("Always", "s1 i1 a", "s1=0 i1=r", "start s1#1");
    check("Never", "s1 i1 a", "s1=1 i1=0 a=r", "start s1#1");
    check("Never", "s1 a", "s1=1x3 a=r", "s1 CrashLoopBackOff, wake 120");
    check("Always", "s1 i1 a", "s1=1x2", "s1 CrashLoopBackOff, wake 110");
    check("Always", "s1 s2 a", "s2=r a=r", "start s1#0");
    Case::of("Always", "s1 a", "s1=r")
        .with(|case| {
            let probe = serde_json::from_value(json!({"periodSeconds": 1})).unwrap();
            case.pod.spec.as_mut().unwrap().init_containers.as_mut().unwrap()[0].startup_probe = Some(probe);
            case.probes.follow(&case.pod, &case.observed);
        })
        .is("");
    Case::of("Always", "s1 a", "s1=r").broken("s1", ProbeKind::Startup, None).is("stop s1 30 startup");
}

#[test]
fn what_ended_is_restarted_as_the_policy_says() {
    check("Always", "a", "a=0", "start a#1");
    check("OnFailure", "a", "a=1", "start a#1");
    check("OnFailure", "a b", "a=0 b=r", "");
    check("Never", "a b", "a=1 b=r", "");
    check("Always", "a", "a=1x2", "a CrashLoopBackOff, wake 110");
    check("Always", "a", "a=0x4", "a CrashLoopBackOff, wake 140");
    check("Always", "a", "a=1x9", "a CrashLoopBackOff, wake 400");
    Case::of("Always", "a", "a=1x2").with(|case| case.now = at(110)).is("start a#2");
    check("Always", "i1 a", "i1=1", "start i1#1");
    check("OnFailure", "i1 a", "i1=1x2", "i1 CrashLoopBackOff, wake 110");
}

#[test]
fn a_pod_that_has_run_out_ends() {
    check("Never", "a b", "a=1 b=0", "ending, no sandbox");
    check("OnFailure", "a", "a=0", "ending, no sandbox");
    check("OnFailure", "a", "no-sandbox a=0", "ended");
    check("Never", "i1 a", "i1=1", "ending, no sandbox");
    check("Never", "i1 a", "no-sandbox i1=1", "ended");
    check("Never", "s1 s2 a", "s1=r s2=r a=0", "ending, stop s2 30");
    check("Never", "s1 s2 a", "s1=r s2=r! a=0", "ending");
    check("Never", "s1 s2 a", "s1=r s2=0 a=0", "ending, stop s1 30");
    check("Never", "e1 a", "e1=r a=0", "ending, stop e1 30");
    Case::of("Always", "a", "no-sandbox a=0")
        .with(|case| {
            case.pod.status = serde_json::from_value(json!({"phase": "Succeeded"})).unwrap();
        })
        .is("ended");
}

#[test]
fn a_deleted_pod_ends_within_what_is_left_of_its_grace() {
    Case::of("Always", "a b", "a=r b=0x3").deleted(20).is("ending, stop a 20");
    Case::of("Always", "a b", "a=r! b=r").deleted(30).is("ending, stop b 30");
    Case::of("Always", "a", "a=r!").deleted(10).is("ending, stop a 10");
    Case::of("Always", "a", "a=r").deleted(0).is("ending, stop a 2");
    Case::of("Always", "s1 a", "s1=r a=r").deleted(30).is("ending, stop a 30");
    Case::of("Always", "s1 a", "s1=r a=143").deleted(30).is("ending, stop s1 30");
    Case::of("Always", "a", "a=143").deleted(30).is("ending, no sandbox");
    Case::of("Always", "a", "no-sandbox").deleted(30).is("ended");
    Case::of("Always", "i1 a", "i1=c").deleted(30).is("ending, stop i1 30");
    Case::of("Always", "a", "a=r").with(|case| case.gone = true).is("ending, stop a 30");
    // What time it is told a little later changes nothing.
    Case::of("Always", "a", "a=r!")
        .deleted(30)
        .with(|case| case.now = after(at(100), Duration::from_millis(400)))
        .is("ending");
}

#[test]
fn a_pod_that_the_node_does_not_take_never_starts() {
    let refuse = |case: &mut Case| case.refusal = Some(Refusal::new("OutOfcpu", "m"));
    Case::of("Always", "a", "no-sandbox").with(refuse).is("ended, OutOfcpu");
}

#[test]
fn a_pod_that_the_node_keeps_no_longer_ends_within_what_it_is_left() {
    let end = |grace: Option<u64>| {
        move |case: &mut Case| {
            let refusal = Refusal::new("Evicted", "m");
            case.refusal = Some(Refusal { grace: grace.map(Duration::from_secs), ..refusal });
        }
    };
    for (grace, expected) in [(None, 30), (Some(0), 2), (Some(10), 10), (Some(60), 30)] {
        let stops = format!("ending, Evicted, stop a {expected}");
        Case::of("Always", "a", "a=r").with(end(grace)).is(&stops);
    }
    Case::of("Always", "a", "no-sandbox a=143").with(end(Some(0))).is("ended, Evicted");
    // Also one that ends already, and would have longer.
    for (grace, expected) in [(None, 300), (Some(7), 7), (Some(0), 2), (Some(400), 300)] {
        let stops = format!("ending, stop a {expected}");
        Case::of("Always", "a", "a=r").deleted(300).with(end(grace)).is(&stops);
    }
}

#[test]
fn a_pod_has_its_deadline() {
    let limit = |case: &mut Case| {
        case.pod.spec.as_mut().unwrap().active_deadline_seconds = Some(60);
        case.pod.status = serde_json::from_value(json!({"startTime": at(50).to_string()})).unwrap();
    };
    Case::of("Always", "a", "a=r").with(limit).is("wake 110");
    Case::of("Always", "a", "a=r")
        .with(limit)
        .with(|case| case.now = at(110))
        .is("ending, DeadlineExceeded, stop a 30");
    Case::of("Always", "a", "no-sandbox a=143")
        .with(limit)
        .with(|case| case.now = at(110))
        .is("ended, DeadlineExceeded");
}

#[test]
fn broken_and_changed_containers_are_stopped_and_started_again() {
    Case::of("Always", "a", "a=r").broken("a", ProbeKind::Liveness, None).is("stop a 30 liveness");
    Case::of("Always", "a", "a=r").broken("a", ProbeKind::Startup, Some(5)).is("stop a 5 startup");
    Case::of("Always", "a", "a=r!").broken("a", ProbeKind::Liveness, None).is("");
    Case::of("OnFailure", "a", "a=0!").broken("a", ProbeKind::Liveness, None).is("start a#1");
    Case::of("Never", "a", "a=143!").broken("a", ProbeKind::Liveness, None).is("ending, no sandbox");
    let change = |case: &mut Case| case.pod.spec.as_mut().unwrap().containers[0].image = Some("other".into());
    Case::of("Always", "a", "a=r").with(change).is("stop a 30 changed");
    Case::of("Never", "a", "a=143!").with(change).is("start a#1");
    Case::of("Never", "a", "a=0").with(change).is("ending, no sandbox");
    Case::of("Always", "a", "a=c").with(change).is("");
}

#[test]
fn what_could_not_be_started_is_tried_again_later() {
    let fail = |name: &'static str, what: Failed| {
        move |case: &mut Case| {
            case.failures.failed(name, what, if name.is_empty() { "" } else { "image" }, "no".into(), at(98));
        }
    };
    Case::of("Always", "a", "no-sandbox").with(fail("", Failed::Sandbox)).is("wake 108");
    Case::of("Always", "a b", "").with(fail("a", Failed::Pull)).is("start b#0, a ErrImagePull, wake 103");
    Case::of("Always", "a", "")
        .with(fail("a", Failed::Pull))
        .with(|case| case.now = at(104))
        .is("a ImagePullBackOff, wake 108");
    Case::of("Always", "a", "").with(fail("a", Failed::Pull)).with(|case| case.now = at(108)).is("start a#0");
    Case::of("Always", "a", "")
        .with(fail("a", Failed::Start("RunContainerError")))
        .is("a RunContainerError, wake 108");
}

#[test]
fn a_new_sandbox_begins_from_the_start() {
    let again = |case: &mut Case| case.observed.sandbox.as_mut().unwrap().created = at(95);
    // Attempts are counted on, so this start is no first one.
    let case = Case::of("Always", "i1 a", "i1=0 a=1").with(again);
    let starts = case.plan().actions;
    assert!(
        matches!(&starts[..], [Action::Start { container, attempt: 1, .. }] if container == "i1"),
        "{starts:?}"
    );
}

#[test]
fn why_a_container_waits_is_told_in_the_kubelets_words() {
    let plan = Case::of("Always", "a", "a=1x5").plan();
    assert_eq!(
        plan.waiting["a"].message.as_deref(),
        Some("back-off 1m20s restarting failed container=a pod=p_ns(u)")
    );
}
