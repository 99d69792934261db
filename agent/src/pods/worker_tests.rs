//! The worker of a pod with the hollow runtime and a fake API server, on simulated time.

use std::sync::Arc;
use std::time::Duration;

use barque_api::ip::parse_cidr;
use barque_client::events::Note;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::resize::Grant;
use super::spec;
use super::worker::{Place, Wanted, Worker};
use crate::clock::{Clock, after, between, told};
use crate::metrics::Metrics;
use crate::node_shutdown::plan::terminated;
use crate::pod_api::{PodApi, PodApiError};
use crate::runtime::Runtime;
use crate::runtime::hollow::HollowRuntime;
use crate::tell::Teller;

/// Events, in short.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Teller for Told {
    fn tell(&self, _: ObjectReference, note: Note) {
        self.0.lock().push(format!("{}: {}", note.reason, note.text));
    }
}

/// One pod, as an API server would keep it; who watches it sees each change.
#[derive(Clone)]
struct Server {
    pod: Arc<watch::Sender<Wanted>>,
    /// The phases that were written.
    phases: Arc<Mutex<Vec<String>>>,
    /// So many writes fail.
    failing: Arc<Mutex<u32>>,
}

impl Server {
    fn new(pod: Pod) -> Self {
        let wanted = Wanted { pod: Arc::new(pod), gone: false, refusal: None, grant: Grant::default() };
        Self { pod: Arc::new(watch::Sender::new(wanted)), phases: Arc::default(), failing: Arc::default() }
    }

    fn pod(&self) -> Arc<Pod> {
        self.pod.borrow().pod.clone()
    }

    fn change(&self, change: impl FnOnce(&mut Pod)) -> Pod {
        let mut pod = (*self.pod()).clone();
        change(&mut pod);
        let version: u64 = pod.metadata.resource_version.as_deref().unwrap_or("0").parse().unwrap();
        pod.metadata.resource_version = Some((version + 1).to_string());
        self.pod.send_modify(|wanted| wanted.pod = Arc::new(pod.clone()));
        pod
    }

    fn fails(&self) -> Result<(), PodApiError> {
        let mut failing = self.failing.lock();
        if *failing > 0 {
            *failing -= 1;
            return Err(PodApiError::Failed("no server is there".into()));
        }
        if self.pod.borrow().gone { Err(PodApiError::Gone) } else { Ok(()) }
    }

    /// Waits until the pod is so.
    async fn until(&self, holds: impl Fn(&Pod) -> bool) -> Arc<Pod> {
        let mut seen = self.pod.subscribe();
        let wanted = seen.wait_for(|wanted| holds(&wanted.pod)).await.unwrap();
        wanted.pod.clone()
    }
}

impl PodApi for Server {
    async fn patch_status(&self, pod: &Pod, patch: &Value) -> Result<Pod, PodApiError> {
        self.fails()?;
        assert_eq!(patch["metadata"]["uid"], json!(pod.metadata.uid));
        Ok(self.change(|pod| {
            let mut status = json!(pod.status.clone().unwrap_or_default());
            for (name, value) in patch["status"].as_object().unwrap() {
                if name != "conditions" {
                    let mut value = value.clone();
                    if let Some(list) = value.as_array_mut() {
                        list.retain(|item| item.get("$patch").is_none());
                    }
                    status[name] = value;
                    continue;
                }
                let mut conditions = status["conditions"].as_array().cloned().unwrap_or_default();
                for new in value.as_array().unwrap() {
                    conditions.retain(|old| old["type"] != new["type"]);
                    if new.get("$patch").is_some() {
                        continue;
                    }
                    conditions.push(new.clone());
                }
                status["conditions"] = json!(conditions);
            }
            self.phases.lock().push(status["phase"].as_str().unwrap_or_default().to_owned());
            pod.status = serde_json::from_value(status).unwrap();
        }))
    }

    async fn delete(&self, _: &Pod) -> Result<(), PodApiError> {
        self.fails()?;
        self.pod.send_modify(|wanted| wanted.gone = true);
        Ok(())
    }
}

struct World {
    server: Server,
    told: Arc<Told>,
    runtime: Arc<HollowRuntime>,
    clock: Clock,
    worker: JoinHandle<()>,
    ended: watch::Receiver<bool>,
}

impl World {
    fn new(annotations: Value, spec: Value) -> Self {
        let mut whole =
            json!({"containers": [{"name": "c", "image": "i:1"}], "terminationGracePeriodSeconds": 30});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "resourceVersion": "1", "annotations": annotations},
            "spec": whole, "status": {"phase": "Pending", "conditions": [{"type": "mine", "status": "True"}]},
        }))
        .unwrap();
        let clock = Clock::of_tokio(Timestamp::from_second(1_000_000).unwrap());
        let world = Self::with(Server::new(pod), clock);
        world.runtime.set_pod_networks(&[parse_cidr("10.0.0.0/24").unwrap()]);
        world
    }

    fn with(server: Server, clock: Clock) -> Self {
        let told = Arc::new(Told::default());
        let runtime = Arc::new(HollowRuntime::new(clock.clone(), told.clone()));
        let place = Place {
            runtime: runtime.clone(),
            api: server.clone(),
            teller: told.clone(),
            clock: clock.clone(),
            host: vec!["192.168.0.1".parse().unwrap()],
            metrics: Metrics::new(),
        };
        let (ended, has_ended) = watch::channel(false);
        let worker = tokio::spawn(Worker::new(Arc::new(place), server.pod.subscribe(), ended).run());
        Self { server, told, runtime, clock, worker, ended: has_ended }
    }

    fn annotate(&self, key: &str, value: Option<&str>) {
        self.server.change(|pod| {
            let annotations = pod.metadata.annotations.get_or_insert_default();
            match value {
                Some(value) => annotations.insert(key.to_owned(), value.to_owned()),
                None => annotations.remove(key),
            };
        });
    }

    fn delete(&self, grace: u64) {
        self.server.change(|pod| {
            let end = after(self.clock.now(), Duration::from_secs(grace));
            pod.metadata.deletion_timestamp = Some(told(end));
            pod.metadata.deletion_grace_period_seconds = Some(i64::try_from(grace).unwrap());
        });
    }

    fn events(&self) -> Vec<String> {
        self.told.0.lock().clone()
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn restarts(pod: &Pod) -> i32 {
    pod.status.as_ref().and_then(|it| it.container_statuses.as_ref()).map_or(0, |list| list[0].restart_count)
}

fn waits(pod: &Pod) -> Option<String> {
    let list = pod.status.as_ref()?.container_statuses.as_ref()?;
    list[0].state.as_ref()?.waiting.as_ref()?.reason.clone()
}

#[tokio::test(start_paused = true)]
async fn a_pod_becomes_ready_and_others_conditions_stay() {
    let world = World::new(json!({"hollow.barque/start-after": "3s"}), json!({}));
    let begin = world.clock.now();
    let pod = world.server.until(is_ready).await;
    assert_eq!(between(begin, world.clock.now()).as_secs(), 3);
    let status = pod.status.as_ref().unwrap();
    assert_eq!((status.phase.as_deref(), status.pod_ip.as_deref()), (Some("Running"), Some("10.0.0.2")));
    assert!(status.conditions.iter().flatten().any(|condition| condition.type_ == "mine"));
    assert_eq!(
        world.events(),
        [
            "Pulled: Container image \"i:1\" already present on machine and can be accessed by the pod",
            "Created: Container created",
            "Started: Container started",
        ]
    );
    assert_eq!(*world.server.phases.lock(), ["Pending", "Pending", "Running"], "nothing is written twice");
}

#[tokio::test(start_paused = true)]
async fn one_that_crashes_waits_and_says_so() {
    let world = World::new(json!({"hollow.barque/run-for": "2s", "hollow.barque/exit-code": "3"}), json!({}));
    let begin = world.clock.now();
    let pod = world.server.until(|pod| waits(pod).as_deref() == Some("CrashLoopBackOff")).await;
    assert_eq!((between(begin, world.clock.now()).as_secs(), restarts(&pod)), (4, 1));
    let pod = world.server.until(|pod| restarts(pod) == 3).await;
    // Three runs, then ten and twenty seconds of waiting.
    assert_eq!(between(begin, world.clock.now()).as_secs(), 2 + 2 + 10 + 2 + 20);
    let last =
        pod.status.as_ref().unwrap().container_statuses.as_ref().unwrap()[0].last_state.clone().unwrap();
    assert_eq!(last.terminated.unwrap().exit_code, 3);
    let back_off = "BackOff: Back-off restarting failed container c in pod p_n(u)";
    assert_eq!(world.events().iter().filter(|event| *event == back_off).count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_pod_ends_in_its_time_and_goes() {
    let world = World::new(json!({"hollow.barque/stop-takes": "7s"}), json!({}));
    world.server.until(is_ready).await;
    let begin = world.clock.now();
    world.delete(30);
    world.worker.await.unwrap();
    assert_eq!(between(begin, world.clock.now()).as_secs(), 7);
    assert_eq!(world.server.phases.lock().last().map(String::as_str), Some("Failed"));
    let status = world.server.pod().status.clone().unwrap();
    let end = status.container_statuses.unwrap()[0].state.clone().unwrap().terminated.unwrap();
    assert_eq!((end.exit_code, status.pod_ip.as_deref()), (143, Some("10.0.0.2")));
    assert!(world.told.0.lock().contains(&"Killing: Stopping container c".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_shorter_grace_overtakes_a_longer_one() {
    let world = World::new(json!({"hollow.barque/stop-takes": "10m"}), json!({}));
    world.server.until(is_ready).await;
    let begin = world.clock.now();
    world.delete(300);
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.delete(4);
    world.worker.await.unwrap();
    assert_eq!(between(begin, world.clock.now()).as_secs(), 9);
}

#[tokio::test(start_paused = true)]
async fn what_the_api_server_does_not_take_is_told_again() {
    let world = World::new(json!({}), json!({}));
    *world.server.failing.lock() = 4;
    let begin = world.clock.now();
    world.server.until(is_ready).await;
    assert_eq!(between(begin, world.clock.now()).as_secs(), 1 + 2 + 4 + 8);
    world.delete(30);
    *world.server.failing.lock() = 3;
    world.worker.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn pods_wait_for_the_network_but_not_those_of_the_host() {
    let server = |spec: Value| {
        let mut whole = json!({"containers": [{"name": "c", "image": "i"}]});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        Server::new(serde_json::from_value(json!({"metadata": {"uid": "u"}, "spec": whole})).unwrap())
    };
    let clock = Clock::of_tokio(Timestamp::UNIX_EPOCH);
    let host = World::with(server(json!({"hostNetwork": true})), clock.clone());
    let pod = host.server.until(is_ready).await;
    assert_eq!(pod.status.as_ref().unwrap().pod_ip.as_deref(), Some("192.168.0.1"));

    let world = World::with(server(json!({})), clock);
    world.server.until(|pod| waits(pod).as_deref() == Some("ContainerCreating")).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(
        world.events()[0]
            .starts_with("NetworkNotReady: network is not ready: container runtime network not ready")
    );
    let begin = world.clock.now();
    world.runtime.set_pod_networks(&[parse_cidr("10.0.0.0/24").unwrap()]);
    world.server.until(is_ready).await;
    assert_eq!(world.clock.now(), begin, "at once");
}

#[tokio::test(start_paused = true)]
async fn an_image_that_comes_late_is_waited_for() {
    let world = World::new(json!({"hollow.barque/pull-fails": "no such image"}), json!({}));
    world.server.until(|pod| waits(pod).as_deref() == Some("ErrImagePull")).await;
    world.server.until(|pod| waits(pod).as_deref() == Some("ImagePullBackOff")).await;
    world.annotate("hollow.barque/pull-fails", None);
    world.server.until(is_ready).await;
    let events = world.events();
    for wanted in [
        "Failed: Failed to pull image \"i:1\": failed to pull and unpack image \"i:1\": no such image",
        "Failed: Error: ErrImagePull",
        "BackOff: Back-off pulling image \"i:1\"",
        "Failed: Error: ImagePullBackOff",
    ] {
        assert!(events.iter().any(|event| event == wanted), "{wanted}: {events:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn probes_say_who_is_ready_and_who_is_broken() {
    let probe = json!({"periodSeconds": 5, "failureThreshold": 1});
    let world = World::new(
        json!({"hollow.barque/ready-after": "7s", "hollow.barque/fails-liveness-after": "20s"}),
        json!({"containers": [{"name": "c", "image": "i", "readinessProbe": probe, "livenessProbe": probe}]}),
    );
    let begin = world.clock.now();
    world.server.until(is_ready).await;
    assert_eq!(between(begin, world.clock.now()).as_secs(), 10);
    world.server.until(|pod| restarts(pod) == 1).await;
    assert_eq!(between(begin, world.clock.now()).as_secs(), 20);
    let events = world.events();
    assert!(
        events.contains(&"Killing: Container c failed liveness probe, will be restarted".to_owned()),
        "{events:?}"
    );
    let unhealthy =
        "Unhealthy: Liveness probe failed: as the annotation hollow.barque/fails-liveness-after says";
    assert!(events.contains(&unhealthy.to_owned()), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn an_annotation_that_cannot_be_read_is_named_once() {
    let world = World::new(json!({"hollow.barque/run-for": "soon"}), json!({}));
    world.server.until(is_ready).await;
    let told = || world.events().iter().filter(|event| event.starts_with("InvalidAnnotation: ")).count();
    assert_eq!(told(), 1, "{:?}", world.events());
    world.annotate("hollow.barque/run-for", Some("later"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(told(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_comes_back_starts_nothing_anew() {
    let world = World::new(json!({}), json!({}));
    let before = world.server.until(is_ready).await;
    world.worker.abort();
    let writes = world.server.phases.lock().len();
    tokio::time::sleep(Duration::from_secs(100)).await;

    let again = World::with(world.server.clone(), world.clock.clone());
    again.runtime.set_pod_networks(&[parse_cidr("10.0.0.0/24").unwrap()]);
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(again.events(), Vec::<String>::new());
    assert_eq!((again.server.phases.lock().len(), &again.server.pod().status), (writes, &before.status));
    again.delete(5);
    again.worker.await.unwrap();
    assert!(spec::is_terminal(spec::phase(&again.server.pod())));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_gone_is_ended_without_a_word() {
    let world = World::new(json!({}), json!({}));
    world.server.until(is_ready).await;
    let writes = world.server.phases.lock().len();
    world.server.pod.send_modify(|wanted| wanted.gone = true);
    world.worker.await.unwrap();
    assert_eq!(world.server.phases.lock().len(), writes);
    let observed = world.runtime.observe(&Pod::default()).await;
    assert_eq!(observed.containers.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_its_end_hears_when_nothing_is_left_and_that_was_told_or_could_not_be() {
    for failing in [0, 1] {
        let world = World::new(json!({"hollow.barque/stop-takes": "3s"}), json!({}));
        world.server.until(is_ready).await;
        assert!(!*world.ended.borrow());
        let begin = world.clock.now();
        *world.server.failing.lock() = failing;
        world.server.pod.send_modify(|wanted| {
            wanted.refusal = Some(Arc::new(terminated(Some(Duration::from_secs(10)))));
        });
        world.ended.clone().wait_for(|ended| *ended).await.unwrap();
        assert_eq!(between(begin, world.clock.now()).as_secs(), 3);
        let pod = world.server.until(|pod| spec::phase(pod) == "Failed").await;
        let status = pod.status.clone().unwrap();
        assert_eq!(status.reason.as_deref(), Some("Terminated"));
        let target =
            status.conditions.unwrap().into_iter().find(|it| it.type_ == "DisruptionTarget").unwrap();
        assert_eq!(target.reason.as_deref(), Some("TerminationByKubelet"));
        assert!(!world.worker.is_finished(), "it stays until somebody deletes it");
    }
}
