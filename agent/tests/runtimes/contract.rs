//! What an agent relies on, whatever runs its containers. Pods say the same in a script and in the annotations of hollow nodes.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use barque_agent::clock::Clock;
use barque_agent::containers::bounds;
use barque_agent::pods::failures::Failures;
use barque_agent::pods::observed::{Exit, Instance, Observed, State};
use barque_agent::pods::plan::{Known, plan};
use barque_agent::pods::probes::Probes;
use barque_agent::pods::resize::Resizing;
use barque_agent::pods::status::status;
use barque_agent::runtime::Runtime;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::images::BUSYBOX;
use super::subjects::Subject;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(3600);

/// A pod with one container `c`, which has these fields beside its script.
pub(crate) fn pod(script: &str, fields: Value, spec: Value, annotations: Value) -> Pod {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut container = json!({"name": "c", "image": BUSYBOX, "command": ["sh", "-c", script]});
    for (key, value) in fields.as_object().into_iter().flatten() {
        container[key] = value.clone();
    }
    let mut spec = spec;
    spec["containers"] = json!([container]);
    serde_json::from_value(json!({
        "metadata": {"name": format!("p{number}"), "namespace": "ns", "uid": format!("uid-{number}"), "annotations": annotations},
        "spec": spec,
    }))
    .unwrap()
}

/// A pod that behaves like this.
fn simple(script: &str, annotations: Value) -> Pod {
    pod(script, json!({}), json!({}), annotations)
}

/// One that runs until it is asked to stop. It is not the first process of its namespace, so no signal is lost while it begins.
pub(crate) fn patient(fields: Value) -> Pod {
    pod("exec sleep 100000", fields, json!({"hostPID": true}), json!({"hollow.barque/stop-takes": "1ms"}))
}

/// Waits until a pod is as it should be.
pub(crate) async fn until<R: Runtime, T>(runtime: &R, pod: &Pod, what: impl Fn(&Observed) -> Option<T>) -> T {
    loop {
        let observed = runtime.observe(pod).await;
        if let Some(found) = what(&observed) {
            return found;
        }
        runtime.changed(pod).await;
    }
}

pub(crate) async fn until_running<R: Runtime>(runtime: &R, pod: &Pod) -> Instance {
    until(runtime, pod, |observed| {
        observed.newest("c").filter(|newest| newest.running_since().is_some()).cloned()
    })
    .await
}

pub(crate) async fn until_ended<R: Runtime>(runtime: &R, pod: &Pod) -> Exit {
    until(runtime, pod, |observed| observed.newest("c")?.exit().cloned()).await
}

/// Its sandbox, and its container started.
pub(crate) async fn started<R: Runtime>(runtime: &R, pod: &Pod) {
    runtime.create_sandbox(pod).await.unwrap();
    assert_eq!(runtime.has_image(pod, "c").await, Ok(true));
    runtime.start(pod, "c", 0).await.unwrap();
}

/// Nothing of it is left.
pub(crate) async fn removed<R: Runtime>(runtime: &R, pod: &Pod) {
    runtime.stop(pod, "c", Duration::ZERO).await.unwrap();
    until_ended(runtime, pod).await;
    runtime.remove_sandbox(pod).await.unwrap();
    runtime.forget(pod).await;
    assert_eq!(runtime.observe(pod).await, Observed::default());
}

pub(crate) async fn a_sandbox_is_made_once_and_taken_away<S: Subject>(subject: &mut S) {
    let (runtime, pod) = (subject.runtime(), patient(json!({})));
    assert_eq!(runtime.network_problem(), None);
    assert_eq!(runtime.observe(&pod).await, Observed::default());
    runtime.create_sandbox(&pod).await.unwrap();
    let made = runtime.observe(&pod).await;
    let sandbox = made.ready_sandbox().expect("it is ready").clone();
    assert_eq!(sandbox.addresses.len(), 1, "{sandbox:?}");
    runtime.create_sandbox(&pod).await.unwrap();
    assert_eq!(runtime.observe(&pod).await, made, "it is made once");
    // Another pod has another address.
    let other = patient(json!({}));
    runtime.create_sandbox(&other).await.unwrap();
    let addresses = runtime.observe(&other).await.ready_sandbox().unwrap().addresses.clone();
    assert_ne!(addresses, sandbox.addresses);
    for pod in [&pod, &other] {
        runtime.remove_sandbox(pod).await.unwrap();
        assert_eq!(runtime.observe(pod).await, Observed::default());
        runtime.remove_sandbox(pod).await.unwrap();
        runtime.forget(pod).await;
    }
    // One in the network of its node has no address of its own.
    let in_host = self::pod("true", json!({}), json!({"hostNetwork": true}), json!({}));
    runtime.create_sandbox(&in_host).await.unwrap();
    let sandbox = runtime.observe(&in_host).await.ready_sandbox().cloned().unwrap();
    assert_eq!(sandbox.addresses, Vec::<std::net::IpAddr>::new());
    runtime.remove_sandbox(&in_host).await.unwrap();
    runtime.forget(&in_host).await;
}

pub(crate) async fn an_image_is_there_or_cannot_be_had<S: Subject>(subject: &mut S) {
    let runtime = subject.runtime();
    assert_eq!(runtime.has_image(&patient(json!({})), "c").await, Ok(true));
    let image = json!({"image": "registry.invalid/none:1", "imagePullPolicy": "IfNotPresent"});
    let missing = pod("true", image, json!({}), json!({"hollow.barque/pull-fails": "no such host"}));
    assert_eq!(runtime.has_image(&missing, "c").await, Ok(false));
    let error = runtime.pull(&missing, "c").await.unwrap_err();
    assert_eq!(error.reason, "ErrImagePull");
    assert!(error.message.contains("registry.invalid"), "{error}");
}

pub(crate) async fn how_a_container_ended_is_told<S: Subject>(subject: &mut S) {
    let runtime = subject.runtime();
    for (code, reason) in [(0, "Completed"), (3, "Error")] {
        let ends = json!({"hollow.barque/run-for": "1ms", "hollow.barque/exit-code": code.to_string()});
        let pod = simple(&format!("exit {code}"), ends);
        started(runtime, &pod).await;
        let exit = until_ended(runtime, &pod).await;
        assert_eq!((exit.code, exit.reason.as_str()), (code, reason));
        assert!(exit.started_at <= exit.finished_at, "{exit:?}");
        let observed = runtime.observe(&pod).await;
        let container = &observed.containers["c"];
        assert_eq!((container.newest.attempt, container.newest.image.as_str()), (0, BUSYBOX));
        assert!(container.newest.id.contains("://"), "{}", container.newest.id);
        assert!(observed.ready_sandbox().is_some(), "the sandbox stays");
        removed(runtime, &pod).await;
    }
}

pub(crate) async fn a_new_attempt_follows_and_the_one_before_is_told<S: Subject>(subject: &mut S) {
    let runtime = subject.runtime();
    let ends = json!({"hollow.barque/run-for": "1ms", "hollow.barque/exit-code": "7"});
    let pod = simple("exit 7", ends);
    started(runtime, &pod).await;
    until_ended(runtime, &pod).await;
    for attempt in 1..3_u32 {
        runtime.start(&pod, "c", attempt).await.unwrap();
        let newest = until(runtime, &pod, |observed| {
            let newest = observed.newest("c").filter(|newest| newest.exit().is_some());
            newest.filter(|newest| newest.attempt == attempt).cloned()
        });
        assert_eq!(newest.await.exit().unwrap().code, 7);
        let container = runtime.observe(&pod).await.containers["c"].clone();
        let before = container.before.expect("the one before is known");
        assert_eq!((before.attempt, before.exit().unwrap().code), (attempt - 1, 7));
        assert_eq!(container.crashes, attempt + 1);
    }
    removed(runtime, &pod).await;
}

pub(crate) async fn who_listens_stops_by_itself<S: Subject>(subject: &mut S) {
    let runtime = subject.runtime();
    let pod = patient(json!({}));
    started(runtime, &pod).await;
    until_running(runtime, &pod).await;
    runtime.stop(&pod, "c", LONG).await.unwrap();
    // Had the grace been waited for, the test would never end.
    until_ended(runtime, &pod).await;
    removed(runtime, &pod).await;
}

/// One that ends only when it is killed.
fn stubborn() -> Pod {
    simple("trap '' TERM; while true; do sleep 0.1; done", json!({"hollow.barque/stop-takes": "10h"}))
}

pub(crate) async fn who_does_not_listen_is_killed<S: Subject>(subject: &mut S) {
    let runtime = subject.runtime();
    let pod = stubborn();
    started(runtime, &pod).await;
    until_running(runtime, &pod).await;
    runtime.stop(&pod, "c", Duration::from_secs(1)).await.unwrap();
    let exit = until_ended(runtime, &pod).await;
    assert_eq!((exit.code, exit.reason.as_str()), (137, "Error"));
    removed(runtime, &pod).await;
}

pub(crate) async fn a_second_stop_shortens_the_first<S: Subject>(subject: &mut S) {
    let runtime = subject.runtime();
    let pod = stubborn();
    started(runtime, &pod).await;
    until_running(runtime, &pod).await;
    let both = async {
        let (first, second) =
            tokio::join!(runtime.stop(&pod, "c", LONG), runtime.stop(&pod, "c", Duration::from_secs(1)));
        first.unwrap();
        second.unwrap();
    };
    both.await;
    assert_eq!(until_ended(runtime, &pod).await.code, 137);
    removed(runtime, &pod).await;
}

pub(crate) async fn what_is_known_outlives_the_sandbox<S: Subject>(subject: &mut S) {
    let runtime = subject.runtime();
    let ends = json!({"hollow.barque/run-for": "1ms", "hollow.barque/exit-code": "5"});
    let pod = simple("exit 5", ends);
    started(runtime, &pod).await;
    until_ended(runtime, &pod).await;
    runtime.remove_sandbox(&pod).await.unwrap();
    let observed = runtime.observe(&pod).await;
    assert_eq!(observed.sandbox, None);
    assert_eq!(observed.newest("c").unwrap().exit().unwrap().code, 5);
    runtime.forget(&pod).await;
    assert_eq!(runtime.observe(&pod).await, Observed::default());
}

/// The pod with the status that an agent would write of it.
fn with_status(pod: &Pod, observed: &Observed) -> Pod {
    let (probes, failures) = (Probes::default(), Failures::default());
    let known = Known {
        pod,
        observed,
        probes: &probes,
        failures: &failures,
        refusal: None,
        resizing: &Resizing::default(),
        gone: false,
        now: Clock::system().now(),
    };
    let told = status(&known, &plan(&known), &["10.9.0.1".parse().unwrap()]);
    Pod { status: Some(told), ..pod.clone() }
}

/// The pod with these bounds.
fn bounded(pod: &Pod, cpu: &str, memory: &str) -> Pod {
    let mut pod = pod.clone();
    // Not guaranteed: not every root may protect processes from being ended when memory is short.
    let resources = json!({"limits": {"cpu": cpu, "memory": memory}, "requests": {"cpu": cpu}});
    pod.spec.as_mut().unwrap().containers[0].resources = Some(serde_json::from_value(resources).unwrap());
    pod
}

pub(crate) async fn bounds_change_while_it_runs<S: Subject>(subject: &mut S) {
    let runtime = subject.runtime();
    let small = bounded(&patient(json!({})), "100m", "64Mi");
    started(runtime, &small).await;
    let running = until_running(runtime, &small).await;
    let has = |observed: &Observed, pod: &Pod| {
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let whole = observed.ready_sandbox().unwrap().bounds.clone().unwrap();
        assert!(bounds::same(&whole, &bounds::of_whole(pod)), "{whole:?}");
        observed.newest("c").unwrap().bounds == Some(bounds::of_container(container))
    };
    assert!(has(&runtime.observe(&small).await, &small));
    // More, and less again.
    for (cpu, memory) in [("300m", "128Mi"), ("50m", "32Mi")] {
        let other = bounded(&small, cpu, memory);
        runtime.resize(&other, &["c".to_owned()], true).await.unwrap();
        let observed = runtime.observe(&other).await;
        assert!(has(&observed, &other), "{cpu} {memory}: {observed:?}");
        assert_eq!(observed.newest("c").unwrap().id, running.id);
        assert!(observed.newest("c").unwrap().running_since().is_some(), "it runs on");
    }
    removed(runtime, &small).await;
}

pub(crate) async fn another_agent_takes_over<S: Subject>(subject: &mut S) {
    let pod = patient(json!({}));
    let runtime = subject.runtime();
    started(runtime, &pod).await;
    let running = until_running(runtime, &pod).await;
    let before = runtime.observe(&pod).await;
    let pod = with_status(&pod, &before);
    subject.restart().await;
    let runtime = subject.runtime();
    if subject.outlives_the_agent() {
        let left = runtime.left_behind().await;
        let named =
            left.iter().find(|left| left.metadata.uid == pod.metadata.uid).expect("it is found again");
        assert_eq!(
            (&named.metadata.name, &named.metadata.namespace),
            (&pod.metadata.name, &pod.metadata.namespace)
        );
    }
    let after = runtime.observe(&pod).await;
    assert_eq!(
        after.ready_sandbox().map(|sandbox| &sandbox.addresses),
        before.ready_sandbox().map(|sandbox| &sandbox.addresses)
    );
    let newest = after.newest("c").unwrap();
    assert_eq!((&newest.id, newest.attempt, &newest.image), (&running.id, 0, &running.image));
    assert!(matches!(newest.state, State::Running { .. }), "{newest:?}");
    // It is the other's now, to its end.
    runtime.stop(&pod, "c", LONG).await.unwrap();
    until_ended(runtime, &pod).await;
    removed(runtime, &Pod { status: None, ..pod }).await;
}
