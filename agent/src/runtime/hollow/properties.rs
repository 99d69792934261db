//! Random pods with random annotations, edits and restarts of the agent, driven through plan, status and the hollow runtime
//! on simulated time: what must hold whatever happens.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::HollowRuntime;
use crate::clock::{Clock, after, between, sooner, told};
use crate::pods::failures::{Failed, Failures};
use crate::pods::observed::Observed;
use crate::pods::plan::{Action, Known, PodPlan, Stage, plan};
use crate::pods::probes::Probes;
use crate::pods::resize::Resizing;
use crate::pods::spec::{self, Kind};
use crate::pods::status::status;
use crate::runtime::Runtime;
use crate::tell::Teller;

struct Silent;

impl Teller for Silent {
    fn tell(&self, _: k8s_openapi::api::core::v1::ObjectReference, _: barque_client::events::Note) {}
}

/// One pod on one node, with an agent that does what the plan says.
struct World {
    now: Arc<Mutex<Timestamp>>,
    runtime: HollowRuntime,
    pod: Pod,
    probes: Probes,
    failures: Failures,
    /// How often each container was started.
    starts: BTreeMap<String, u32>,
    /// Its phase once it was over.
    over: Option<String>,
}

fn runtime(now: &Arc<Mutex<Timestamp>>) -> HollowRuntime {
    let now = now.clone();
    let runtime = HollowRuntime::new(Clock::of(Arc::new(move || *now.lock())), Arc::new(Silent));
    runtime.set_pod_networks(&[barque_api::ip::parse_cidr("10.0.0.0/24").unwrap()]);
    runtime
}

/// Nothing of the hollow runtime waits, but for `changed`.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("it waits for nothing")
}

impl World {
    fn new(pod: Pod) -> Self {
        let now = Arc::new(Mutex::new(Timestamp::from_second(1_000).unwrap()));
        Self {
            runtime: runtime(&now),
            now,
            pod,
            probes: Probes::default(),
            failures: Failures::default(),
            starts: BTreeMap::new(),
            over: None,
        }
    }

    fn now(&self) -> Timestamp {
        *self.now.lock()
    }

    fn look(&mut self) -> (Observed, PodPlan) {
        let observed = at_once(self.runtime.observe(&self.pod));
        self.probes.follow(&self.pod, &observed);
        // One that succeeds lets others begin.
        loop {
            let due = self.probes.due(&self.pod, &observed, self.now());
            if due.is_empty() {
                break;
            }
            for due in due {
                let answer = at_once(self.runtime.probe(&self.pod, &due.container, due.kind));
                self.probes.answered(&self.pod, &due, answer.is_ok(), self.now());
            }
        }
        let observed = at_once(self.runtime.observe(&self.pod));
        let known = Known {
            pod: &self.pod,
            observed: &observed,
            probes: &self.probes,
            failures: &self.failures,
            refusal: None,
            resizing: &Resizing::default(),
            gone: false,
            now: self.now(),
        };
        let plan = plan(&known);
        let status = status(&known, &plan, &["192.168.0.1".parse().unwrap()]);
        self.pod.status = Some(status);
        (observed, plan)
    }

    /// Does what there is to do until there is nothing.
    fn settle(&mut self) -> (Observed, PodPlan) {
        for _ in 0..100 {
            let (observed, plan) = self.look();
            self.check(&observed, &plan);
            if plan.actions.is_empty() {
                let (_, again) = self.look();
                assert_eq!(again.actions, [], "a plan of what was just done has nothing to do");
                return (observed, plan);
            }
            for action in &plan.actions {
                self.act(&observed, action);
            }
        }
        panic!("there is always something to do: {:?}", self.look());
    }

    fn act(&mut self, observed: &Observed, action: &Action) {
        let pod = &self.pod;
        match action {
            Action::CreateSandbox => at_once(self.runtime.create_sandbox(pod)).unwrap(),
            Action::Start { container, attempt, .. } => {
                assert!(self.over.is_none(), "it was over, and {container} starts");
                self.check_turn(observed, container);
                let image = spec::find(pod, container).unwrap().image;
                if at_once(self.runtime.pull(pod, container)).is_err() {
                    let now = self.now();
                    return self.failures.failed(container, Failed::Pull, image, "no".into(), now);
                }
                self.failures.worked(container);
                at_once(self.runtime.start(pod, container, *attempt)).unwrap();
                *self.starts.entry(container.clone()).or_default() += 1;
            }
            Action::Stop { container, grace, .. } => {
                at_once(self.runtime.stop(pod, container, *grace)).unwrap();
            }
            Action::Resize { containers, shrinks } => {
                at_once(self.runtime.resize(pod, containers, *shrinks)).unwrap();
            }
            Action::RemoveSandbox => at_once(self.runtime.remove_sandbox(pod)).unwrap(),
        }
    }

    /// Those before a container have done what it waits for, unless it has run before.
    fn check_turn(&self, observed: &Observed, name: &str) {
        let container = spec::find(&self.pod, name).unwrap();
        if container.kind == Kind::Ephemeral || observed.containers.contains_key(name) {
            return;
        }
        let initialised =
            spec::main_containers(&self.pod).any(|it| observed.containers.contains_key(it.name));
        let all: Vec<_> = spec::init_containers(&self.pod).take_while(|before| before.name != name).collect();
        for (at, before) in all.iter().enumerate() {
            let newest =
                observed.newest(before.name).unwrap_or_else(|| panic!("{name} before {}", before.name));
            match before.kind {
                // It may be down again since the next one began.
                Kind::Sidecar if initialised || at + 1 < all.len() => {}
                Kind::Sidecar => {
                    let started = newest.running_since().is_some() && self.probes.has_started(before.name);
                    assert!(started, "{name} before {}", before.name);
                }
                _ => {
                    assert_eq!(newest.exit().map(|exit| exit.code), Some(0), "{name} before {}", before.name);
                }
            }
        }
    }

    fn check(&mut self, observed: &Observed, plan: &PodPlan) {
        let status = self.pod.status.as_ref().unwrap();
        let phase = spec::phase(&self.pod).to_owned();
        if let Some(over) = &self.over {
            assert_eq!(*over, phase, "what is over stays as it ended");
        }
        if spec::is_terminal(&phase) {
            assert!(
                observed.containers.values().all(|container| container.newest.exit().is_some()),
                "{phase} too soon"
            );
            self.over = Some(phase);
        }
        assert!(plan.stage != Stage::Ended || plan.actions.is_empty());
        for list in [
            &status.container_statuses,
            &status.init_container_statuses,
            &status.ephemeral_container_statuses,
        ] {
            for told in list.iter().flatten() {
                let starts = self.starts.get(&told.name).copied().unwrap_or_default();
                let told_starts = i32::from(told.container_id.is_some()) + told.restart_count;
                assert_eq!(told_starts, i32::try_from(starts).unwrap(), "{told:?}");
            }
        }
    }

    fn next(&self, observed: &Observed, plan: &PodPlan) -> Option<Timestamp> {
        let pods = self.runtime.pods.lock();
        let next = pods.get(spec::uid(&self.pod)).and_then(|known| known.next(&self.pod));
        sooner(sooner(plan.wake_at, self.probes.wake_at(&self.pod, observed)), next)
    }

    /// Lets time pass from event to event.
    fn pass(&mut self, time: Duration) -> Stage {
        let end = after(self.now(), time);
        loop {
            let (observed, plan) = self.settle();
            match self.next(&observed, &plan).filter(|next| *next <= end) {
                Some(next) => {
                    assert!(next > self.now(), "time stands still at {next}: {plan:?}");
                    *self.now.lock() = next;
                }
                None => {
                    *self.now.lock() = end;
                    return self.settle().1.stage;
                }
            }
        }
    }

    /// A deleted pod ends within its grace, and the shortest one more for each sidecar.
    fn delete(&mut self, grace: u64) {
        let grace = Duration::from_secs(grace);
        self.pod.metadata.deletion_timestamp = Some(told(after(self.now(), grace)));
        self.pod.metadata.deletion_grace_period_seconds = Some(i64::try_from(grace.as_secs()).unwrap());
        let sidecars = spec::init_containers(&self.pod).filter(|it| it.kind == Kind::Sidecar).count();
        let most = grace.max(spec::SHORTEST_GRACE) + spec::SHORTEST_GRACE * u32::try_from(sidecars).unwrap();
        let stage = self.pass(most);
        assert_eq!(stage, Stage::Ended, "it is still there {most:?} after its deletion");
        assert!(self.over.is_some());
    }
}

#[derive(Debug, Clone)]
enum Event {
    Pass(u64),
    Annotate(String, Option<String>),
    Image(&'static str),
    Look,
    Restart,
}

fn probe() -> impl Strategy<Value = Option<Value>> {
    proptest::option::weighted(0.3, (0..20_u32, 5..20_u32, 1..4_u32).prop_map(|(delay, period, failures)| {
        json!({"initialDelaySeconds": delay, "periodSeconds": period, "failureThreshold": failures})
    }))
}

fn pod() -> impl Strategy<Value = Pod> {
    let inits = proptest::collection::vec((any::<bool>(), probe()), 0..4);
    let mains = proptest::collection::vec((probe(), probe(), probe()), 1..3);
    let policy = prop_oneof![Just("Always"), Just("OnFailure"), Just("Never")];
    (policy, inits, mains, proptest::option::weighted(0.2, 10..300_i64)).prop_map(|(policy, inits, mains, deadline)| {
        let inits: Vec<_> = inits
            .into_iter()
            .enumerate()
            .map(|(at, (sidecar, startup))| match sidecar {
                true => json!({"name": format!("i{at}"), "image": "one", "restartPolicy": "Always", "startupProbe": startup}),
                false => json!({"name": format!("i{at}"), "image": "one"}),
            })
            .collect();
        let mains: Vec<_> = mains
            .into_iter()
            .enumerate()
            .map(|(at, (startup, liveness, readiness))| {
                json!({"name": format!("m{at}"), "image": "one", "startupProbe": startup,
                    "livenessProbe": liveness, "readinessProbe": readiness})
            })
            .collect();
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "annotations": {}},
            "spec": {"restartPolicy": policy, "activeDeadlineSeconds": deadline, "terminationGracePeriodSeconds": 20,
                "initContainers": inits, "containers": mains},
        }))
        .unwrap()
    })
}

fn event() -> impl Strategy<Value = Event> {
    let duration =
        prop_oneof![Just("0s"), Just("1s"), Just("1.5s"), Just("7s"), Just("40s"), Just("11m"), Just("soon")];
    let key = prop_oneof![
        (Just("start-after"), duration.clone()),
        (Just("run-for"), duration.clone()),
        (Just("stop-takes"), duration.clone()),
        (Just("ready-after"), duration.clone()),
        (Just("fails-liveness-after"), duration),
        (Just("exit-code"), prop_oneof![Just("0"), Just("1"), Just("300")]),
        (Just("pull-fails"), Just("no")),
        (Just("fails-readiness"), prop_oneof![Just("true"), Just("false")]),
        (Just("fails-startup"), prop_oneof![Just("true"), Just("false")]),
    ];
    let of = prop_oneof![Just(""), Just(".i0"), Just(".i1"), Just(".m0"), Just(".m1")];
    prop_oneof![
        4 => (0..120_u64).prop_map(Event::Pass),
        1 => (120..1_500_u64).prop_map(Event::Pass),
        6 => (key, of, any::<bool>()).prop_map(|((key, value), of, said)| {
            Event::Annotate(format!("hollow.barque/{key}{of}"), said.then(|| value.to_owned()))
        }),
        1 => prop_oneof![Just("one"), Just("two")].prop_map(Event::Image),
        1 => Just(Event::Look),
        1 => Just(Event::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_rules_hold(
        pod in pod(),
        events in proptest::collection::vec(event(), 0..25),
        grace in 0..40_u64,
    ) {
        let mut world = World::new(pod);
        for event in events {
            match event {
                Event::Pass(seconds) => {
                    world.pass(Duration::from_secs(seconds));
                }
                Event::Annotate(key, value) => {
                    let annotations = world.pod.metadata.annotations.as_mut().unwrap();
                    match value {
                        Some(value) => annotations.insert(key, value),
                        None => annotations.remove(&key),
                    };
                }
                Event::Image(image) => {
                    world.pod.spec.as_mut().unwrap().containers[0].image = Some(image.to_owned());
                }
                Event::Look => {
                    world.settle();
                }
                // A new agent knows what the last status said, and starts nothing that runs.
                Event::Restart => {
                    let (before, _) = world.settle();
                    let phase = spec::phase(&world.pod).to_owned();
                    world.runtime = runtime(&world.now);
                    world.probes = Probes::default();
                    world.failures = Failures::default();
                    let after = at_once(world.runtime.observe(&world.pod));
                    let addresses = |observed: &Observed| observed.sandbox.as_ref().map(|it| it.addresses.clone());
                    prop_assert_eq!(addresses(&before), addresses(&after));
                    for (name, container) in &before.containers {
                        if container.newest.running_since().is_some() {
                            prop_assert_eq!(Some(&container.newest.id), after.newest(name).map(|newest| &newest.id));
                            prop_assert!(after.newest(name).unwrap().running_since().is_some());
                        }
                    }
                    prop_assert!(!spec::is_terminal(&phase) || after.sandbox.is_none());
                }
            }
        }
        world.delete(grace);
    }

    #[test]
    fn no_address_is_given_twice(acts in proptest::collection::vec((0..12_usize, any::<bool>()), 0..80)) {
        let now = Arc::new(Mutex::new(Timestamp::UNIX_EPOCH));
        let runtime = runtime(&now);
        let pods: Vec<Pod> = (0..12)
            .map(|uid| serde_json::from_value(json!({"metadata": {"uid": uid.to_string()}})).unwrap())
            .collect();
        for (pod, make) in acts {
            match make {
                true => at_once(runtime.create_sandbox(&pods[pod])).unwrap(),
                false => at_once(runtime.remove_sandbox(&pods[pod])).unwrap(),
            }
            let sandboxes: Vec<_> = pods.iter().filter_map(|pod| at_once(runtime.observe(pod)).sandbox).collect();
            let distinct: BTreeSet<_> = sandboxes.iter().flat_map(|sandbox| &sandbox.addresses).collect();
            prop_assert_eq!(distinct.len(), sandboxes.len());
        }
    }
}

#[test]
fn a_container_that_crashes_waits_longer_each_time() {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"uid": "u", "annotations": {"hollow.barque/run-for": "1s", "hollow.barque/exit-code": "1"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }))
    .unwrap();
    let mut world = World::new(pod);
    let begin = world.now();
    let mut starts = Vec::new();
    for _ in 0..1_200 {
        world.pass(Duration::from_secs(1));
        if world.starts["c"] > u32::try_from(starts.len()).unwrap() {
            starts.push(between(begin, world.now()).as_secs());
        }
    }
    // A second each, then 0, 10, 20, 40, 80, 160, 300, 300 seconds of waiting.
    assert_eq!(starts, [1, 2, 12, 33, 74, 155, 316, 617, 918]);
}
