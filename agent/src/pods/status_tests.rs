//! Tables for what is told of a pod.

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde_json::{Value, json};

use super::failures::Failures;
use super::observed::{Observed, State};
use super::plan::{Known, Refusal, plan};
use super::plan_tests::{at, observed, pod};
use super::probes::Probes;
use super::resize::Resizing;
use super::status::status;

fn told(pod: &Pod, observed: &Observed, refusal: Option<&Refusal>) -> PodStatus {
    let mut probes = Probes::default();
    probes.follow(pod, observed);
    let known = Known {
        pod,
        observed,
        probes: &probes,
        failures: &Failures::default(),
        refusal,
        resizing: &Resizing::default(),
        gone: false,
        now: at(100),
    };
    status(&known, &plan(&known), &["192.168.0.1".parse().unwrap()])
}

fn conditions(status: &PodStatus) -> String {
    let one = |condition: &k8s_openapi::api::core::v1::PodCondition| {
        let reason = condition.reason.as_ref().map(|reason| format!(" {reason}")).unwrap_or_default();
        let message = condition.message.as_ref().map(|message| format!(" ({message})")).unwrap_or_default();
        format!("{}={}{reason}{message}", condition.type_, condition.status)
    };
    status.conditions.iter().flatten().map(one).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_new_pod_waits_for_its_containers() {
    let status = told(&pod("Always", "b a"), &observed("no-sandbox"), None);
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    assert_eq!(
        conditions(&status),
        "PodReadyToStartContainers=False\nInitialized=True\n\
         Ready=False ContainersNotReady (containers with unready status: [b a])\n\
         ContainersReady=False ContainersNotReady (containers with unready status: [b a])\nPodScheduled=True"
    );
    let names: Vec<_> = status.container_statuses.iter().flatten().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["a", "b"], "by name");
    let first = &status.container_statuses.as_ref().unwrap()[0];
    assert_eq!(json!(first.state), json!({"waiting": {"reason": "ContainerCreating"}}));
    assert_eq!(status.start_time.as_ref().map(|time| time.0), Some(at(100)));
    assert_eq!((status.host_ip.as_deref(), status.pod_ip.as_deref()), (Some("192.168.0.1"), None));
    assert_eq!(status.observed_generation, Some(1));
}

#[test]
fn init_containers_are_told_in_their_order() {
    let status = told(&pod("Always", "i2 i1 s1 a"), &observed("i2=0 i1=1x3"), None);
    let init: Vec<_> = status.init_container_statuses.as_ref().unwrap().iter().collect();
    assert_eq!(init.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["i2", "i1", "s1"]);
    assert!(init[0].ready && !init[1].ready);
    assert_eq!(
        init[1].state.as_ref().unwrap().waiting.as_ref().unwrap().reason.as_deref(),
        Some("CrashLoopBackOff")
    );
    assert_eq!(init[1].last_state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code, 1);
    assert_eq!(init[1].restart_count, 2);
    let waits = json!({"waiting": {"reason": "PodInitializing"}});
    assert_eq!(
        (json!(init[2].state), json!(status.container_statuses.as_ref().unwrap()[0].state)),
        (waits.clone(), waits)
    );
    assert!(conditions(&status).contains(
        "Initialized=False ContainersNotInitialized (containers with incomplete status: [i1 s1])\n"
    ));
    assert_eq!(status.phase.as_deref(), Some("Pending"));
}

#[test]
fn a_pod_that_runs_is_ready() {
    let status = told(&pod("Always", "s1 a"), &observed("s1=r a=r"), None);
    assert_eq!(
        conditions(&status),
        "PodReadyToStartContainers=True\nInitialized=True\nReady=True\nContainersReady=True\nPodScheduled=True"
    );
    assert_eq!((status.phase.as_deref(), status.pod_ip.as_deref()), (Some("Running"), Some("10.0.0.5")));
    let container = &status.container_statuses.as_ref().unwrap()[0];
    assert_eq!(
        (container.ready, container.started, container.container_id.as_deref()),
        (true, Some(true), Some("a-id"))
    );
    assert_eq!(json!(container.state), json!({"running": {"startedAt": at(90).to_string()}}));
}

#[test]
fn readiness_follows_probes_and_gates() {
    let mut gated = pod("Always", "a");
    gated.spec.as_mut().unwrap().readiness_gates =
        serde_json::from_value(json!([{"conditionType": "x/one"}, {"conditionType": "x/two"}])).unwrap();
    gated.status =
        serde_json::from_value(json!({"conditions": [{"type": "x/two", "status": "False"}]})).unwrap();
    let status = told(&gated, &observed("a=r"), None);
    assert!(conditions(&status).contains(
        "Ready=False ReadinessGatesNotReady (corresponding condition of pod readiness gate \"x/one\" does not exist., \
         the status of pod readiness gate \"x/two\" is not \"True\", but False)\nContainersReady=True"
    ), "{}", conditions(&status));

    let mut probed = pod("Always", "a");
    probed.spec.as_mut().unwrap().containers[0].readiness_probe = Some(Default::default());
    let status = told(&probed, &observed("a=r"), None);
    let container = &status.container_statuses.as_ref().unwrap()[0];
    assert_eq!((container.ready, container.started), (false, Some(true)));
    assert!(conditions(&status).contains("Ready=False ContainersNotReady"));
}

#[test]
fn since_when_a_condition_holds_stays() {
    let mut known = pod("Always", "a");
    known.status = serde_json::from_value(json!({"conditions": [
        {"type": "Ready", "status": "True", "lastTransitionTime": at(7).to_string()},
        {"type": "ContainersReady", "status": "False", "lastTransitionTime": at(8).to_string()},
    ]}))
    .unwrap();
    let status = told(&known, &observed("a=r"), None);
    let since = |kind: &str| {
        let condition = status.conditions.iter().flatten().find(|it| it.type_ == kind).unwrap();
        condition.last_transition_time.as_ref().unwrap().0
    };
    assert_eq!((since("Ready"), since("ContainersReady")), (at(7), at(100)));
}

/// The phase that is told of a pod whose phase was another one before.
fn phase(policy: &str, names: &str, there: &str, before: &str, deleted: bool) -> (String, Value) {
    let mut pod = pod(policy, names);
    pod.status = serde_json::from_value(json!({"phase": before})).unwrap();
    if deleted {
        pod.metadata.deletion_timestamp = Some(crate::clock::told(at(130)));
    }
    let status = told(&pod, &observed(there), None);
    let states = status.container_statuses.iter().flatten().map(|it| json!(it.state)).collect();
    (status.phase.unwrap(), states)
}

#[test]
fn it_is_over_when_nothing_is_left_and_stays_over() {
    let of = |policy, names, there, before, deleted| phase(policy, names, there, before, deleted).0;
    assert_eq!(of("Never", "a", "a=0", "Running", false), "Running", "its sandbox is there");
    assert_eq!(of("Never", "a", "no-sandbox a=0", "Running", false), "Succeeded");
    assert_eq!(of("Never", "a b", "no-sandbox a=0 b=2", "Running", false), "Failed");
    assert_eq!(of("Always", "a", "a=r", "Running", true), "Running");
    assert_eq!(of("Always", "a", "no-sandbox a=143", "Running", true), "Failed");
    assert_eq!(of("Always", "a", "no-sandbox a=0", "Running", true), "Succeeded");
    assert_eq!(of("Always", "a", "no-sandbox", "Pending", true), "Failed");
    assert_eq!(of("Always", "a", "a=r", "Failed", false), "Failed");
    assert_eq!(of("Always", "a", "no-sandbox a=1", "Succeeded", false), "Succeeded");
    assert_eq!(of("Never", "i1 a", "no-sandbox i1=1", "Pending", false), "Failed");
}

#[test]
fn a_container_that_must_have_been_there_is_told_as_lost() {
    let (_, states) = phase("Always", "a b", "no-sandbox a=0", "Running", true);
    assert_eq!(states[0]["terminated"]["exitCode"], 0);
    assert_eq!(
        (&states[1]["terminated"]["exitCode"], &states[1]["terminated"]["reason"]),
        (&json!(137), &json!("ContainerStatusUnknown"))
    );
    let (_, states) = phase("Always", "i1 a", "no-sandbox i1=143", "Pending", true);
    assert_eq!(states[0], json!({"waiting": {"reason": "PodInitializing"}}), "its turn had not come");
}

#[test]
fn readiness_goes_before_the_phase_does() {
    let status = told(&pod("Never", "a"), &observed("a=0"), None);
    assert_eq!(status.phase.as_deref(), Some("Pending"), "as before");
    let told = conditions(&status);
    assert!(told.contains("Ready=False PodCompleted\nContainersReady=False PodCompleted"), "{told}");
}

#[test]
fn a_pod_that_is_refused_says_why() {
    let refusal = Refusal::new("OutOfcpu", "Pod was rejected: none left");
    let status = told(&pod("Always", "a"), &observed("no-sandbox"), Some(&refusal));
    assert_eq!(
        (status.phase.as_deref(), status.reason.as_deref(), status.message.as_deref()),
        (Some("Failed"), Some("OutOfcpu"), Some("Pod was rejected: none left"))
    );
}

#[test]
fn a_pod_that_was_evicted_is_told_to_be_disrupted_once_it_is_over() {
    let refusal = Refusal { is_disruption: true, ..Refusal::new("Evicted", "m") };
    let status = told(&pod("Always", "a"), &observed("a=r"), Some(&refusal));
    assert_eq!((status.phase.as_deref(), status.reason.as_deref()), (Some("Pending"), None), "as before");
    assert!(!conditions(&status).contains("DisruptionTarget"));
    let status = told(&pod("Always", "a"), &observed("no-sandbox a=137"), Some(&refusal));
    assert_eq!((status.phase.as_deref(), status.reason.as_deref()), (Some("Failed"), Some("Evicted")));
    let told = conditions(&status);
    assert!(told.contains("DisruptionTarget=True TerminationByKubelet"), "{told}");
}

#[test]
fn a_restart_shows_how_the_one_before_ended() {
    let mut there = observed("a=r");
    let ended = observed("a=3");
    let container = there.containers.get_mut("a").unwrap();
    container.before = Some(ended.containers["a"].newest.clone());
    container.newest.attempt = 1;
    let status = told(&pod("Always", "a"), &there, None);
    let container = &status.container_statuses.as_ref().unwrap()[0];
    assert_eq!(container.restart_count, 1);
    assert_eq!(json!(container.last_state)["terminated"]["exitCode"], 3);
    assert!(matches!(there.containers["a"].newest.state, State::Running { .. }));
}
