//! Looks at a node every few seconds, tells what it is short of, and has pods end that it cannot keep. Must never decide who:
//! that is the ranking's, and whether at all the thresholds'.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use barque_images::CollectPolicy;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::limits::{self, exceeded};
use super::ranking::{self, Candidate, is_critical};
use super::signals::{Observations, Pressure, Pressures, Resource, observations};
use super::thresholds::{EvictionConfig, Memory, Threshold, is_good};
use super::usage::{ContainerUsage, PodUsage};
use crate::clock::{Clock, between};
use crate::containers::NodeFacts;
use crate::image_collection::ImageKeeper;
use crate::metrics::Metrics;
use crate::node_api::containers::{KnownPods as _, PodStreams};
use crate::node_api::stats::machine::{file_system, machine};
use crate::pods::index::Index;
use crate::pods::plan::Refusal;
use crate::pods::spec;
use crate::tell::{Teller, about_node, about_pod, normal, warning};
use crate::volumes::{Usage, Volumes, usage};

/// How often it looks, as the kubelet does.
const PERIOD: Duration = Duration::from_secs(10);
/// Nobody else leaves before one that leaves has ended, or so much time is over.
const PATIENCE: Duration = Duration::from_secs(30);
/// What pods have when a hard threshold is met, or a bound of theirs.
const AT_ONCE: Duration = Duration::from_secs(1);
/// All images that nobody uses, but the youngest.
const ALL_IMAGES: CollectPolicy =
    CollectPolicy { high_percent: 0, low_percent: 0, min_age: Duration::from_secs(120), max_age: None };

/// What the task is made of.
pub(crate) struct EvictionTask<R> {
    pub(crate) config: EvictionConfig,
    /// Where it keeps what.
    pub(crate) facts: Arc<NodeFacts>,
    /// The directory of the images.
    pub(crate) images: PathBuf,
    pub(crate) pods: Index,
    pub(crate) runtime: Arc<R>,
    pub(crate) volumes: Arc<Volumes>,
    /// Who keeps them.
    pub(crate) keeper: Arc<dyn ImageKeeper>,
    pub(crate) node: Node,
    pub(crate) teller: Arc<dyn Teller>,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
    /// Who wants to know what the node is short of.
    pub(crate) pressures: watch::Sender<Pressures>,
}

/// Pods that were told to end, by uid.
type Leaving = BTreeMap<String, Timestamp>;

impl<R: PodStreams> EvictionTask<R> {
    /// Looks until the token is cancelled.
    pub(crate) async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.keep()).await;
    }

    async fn keep(&self) {
        let (mut memory, mut leaving) = (Memory::default(), Leaving::new());
        let mut turns = interval(PERIOD);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            turns.tick().await;
            self.round(&mut memory, &mut leaving).await;
        }
    }

    async fn round(&self, memory: &mut Memory, leaving: &mut Leaving) {
        let seen = self.observe().await;
        let now = self.clock.now();
        let look = memory.look(&self.config, &seen, now);
        self.tell(&look.pressures);

        let pods: Vec<_> = self.pods.all().into_iter().filter(|pod| is_candidate(pod)).collect();
        leaving.retain(|uid, since| {
            between(*since, now) < PATIENCE && pods.iter().any(|pod| spec::uid(pod) == uid)
        });
        if !leaving.is_empty() {
            return;
        }
        for pod in &pods {
            if limits::has_any(pod)
                && let Some(usage) = self.usage(pod).await
                && let Some(found) = exceeded(pod, &usage)
            {
                let refusal = Refusal { grace: Some(AT_ONCE), ..Refusal::new("Evicted", found.message) };
                self.evict(pod, found.signal, refusal, leaving);
            }
        }
        let Some(first) = look.due.first().filter(|_| leaving.is_empty()) else { return };
        let resource = first.signal.resource();
        let event = warning("EvictionThresholdMet", format!("Attempting to reclaim {}", resource.word()));
        self.teller.tell(about_node(&self.node), event);
        if self.reclaim(resource).await && is_good(&self.config, &self.observe().await) {
            return tracing::info!(
                resource = resource.word(),
                "there is enough again, and no pod has to leave"
            );
        }
        self.evict_one(pods, first, &look.due, &seen, leaving).await;
    }

    /// The first of the ranking leaves.
    async fn evict_one(
        &self,
        pods: Vec<Arc<Pod>>,
        threshold: &Threshold,
        due: &[&Threshold],
        seen: &Observations,
        leaving: &mut Leaving,
    ) {
        let resource = threshold.signal.resource();
        let mut candidates: Vec<Candidate<Arc<Pod>>> = Vec::new();
        for pod in pods {
            let usage = self.usage(&pod).await;
            candidates.push((pod, usage));
        }
        ranking::rank(&mut candidates, resource);
        let Some((pod, usage)) = candidates.first() else {
            return tracing::warn!(resource = resource.word(), "there is too little, and no pod can leave");
        };
        let text = ranking::message(pod, usage.as_ref(), resource, due, seen);
        let grace = if threshold.is_hard() { AT_ONCE } else { self.config.max_pod_grace };
        let refusal = Refusal { grace: Some(grace), is_disruption: true, ..Refusal::new("Evicted", text) };
        self.evict(pod, threshold.signal.word(), refusal, leaving);
    }

    fn evict(&self, pod: &Pod, signal: &str, refusal: Refusal, leaving: &mut Leaving) {
        let text = refusal.message.clone();
        if self.pods.end(spec::uid(pod), refusal) {
            tracing::warn!(pod = %spec::title(pod), signal, "evicts: {text}");
            self.teller.tell(about_pod(pod), warning("Evicted", text));
            self.metrics.evicted(signal);
            leaving.insert(spec::uid(pod).to_owned(), self.clock.now());
        }
    }

    /// Tells what the node is short of, when that has changed.
    fn tell(&self, now: &Pressures) {
        let before = self.pressures.send_replace(now.clone());
        for pressure in Pressure::ALL {
            let holds = now.contains(&pressure);
            if holds != before.contains(&pressure) {
                let (reason, _) = pressure.story(holds);
                let reason = reason.replacen("Kubelet", "Node", 1);
                let name = self.node.metadata.name.as_deref().unwrap_or_default();
                let text = format!("Node {name} status is now: {reason}");
                self.teller.tell(about_node(&self.node), normal(&reason, text));
            }
        }
    }

    async fn observe(&self) -> Observations {
        let (root, images) = (self.facts.root.clone(), self.images.clone());
        let now = i64::try_from(self.clock.now().as_nanosecond()).unwrap_or(i64::MAX);
        let work = move || observations(&machine(&root, now), file_system(&images, now));
        // It cannot fail; what ends it is the end of the process.
        spawn_blocking(work).await.unwrap_or_default()
    }

    /// Gives back what no pod uses. Says whether there was a way.
    async fn reclaim(&self, resource: Resource) -> bool {
        let is_disk = matches!(resource, Resource::EphemeralStorage | Resource::Inodes);
        if !is_disk {
            return false;
        }
        self.remove_logs_of_ended().await;
        if let Err(error) = self.keeper.collect(ALL_IMAGES).await {
            tracing::warn!(error, "images are not collected");
        }
        true
    }

    /// Of pods for which it is over nothing is left but what they said: the kubelet removes that with their containers.
    async fn remove_logs_of_ended(&self) {
        for pod in self.pods.all() {
            if !spec::is_terminal(spec::phase(&pod)) {
                continue;
            }
            let directory = self.facts.pod_logs(&pod);
            match tokio::fs::remove_dir_all(&directory).await {
                Ok(()) => tracing::info!(pod = %spec::title(&pod), "its logs gave way"),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => tracing::warn!(path = %directory.display(), %error, "logs are not removed"),
            }
        }
    }

    /// What a pod uses; nothing when nothing of it runs.
    async fn usage(&self, pod: &Pod) -> Option<PodUsage> {
        let stats = self.runtime.stats(pod).await?;
        let mut containers = BTreeMap::<String, ContainerUsage>::new();
        for one in stats.containers {
            containers.entry(one.name).or_default().memory = one.memory.map(|memory| memory.working_set);
        }
        for (name, root) in self.runtime.written(pod).await {
            containers.entry(name).or_default().root = root;
        }
        for (name, logs) in self.logs_of(pod).await {
            if let Some(container) = containers.get_mut(&name) {
                container.logs = logs;
            }
        }
        let volumes = spec::spec(pod).and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
        let in_memory = volumes.iter().filter(|volume| {
            let medium = volume.empty_dir.as_ref().and_then(|empty| empty.medium.as_deref());
            medium.is_some_and(|medium| !medium.is_empty())
        });
        Some(PodUsage {
            memory: stats.memory.map_or(0, |memory| memory.working_set),
            processes: stats.processes.unwrap_or_default(),
            containers,
            in_memory: in_memory.map(|volume| volume.name.clone()).collect(),
            volumes: self.volumes.usage(pod).await.unwrap_or_default(),
        })
    }

    /// The logs of a pod's containers, by their names.
    async fn logs_of(&self, pod: &Pod) -> Vec<(String, Usage)> {
        let directory = self.facts.pod_logs(pod);
        let work = move || {
            let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
            let of = |entry: std::fs::DirEntry| {
                Some((entry.file_name().into_string().ok()?, usage(&entry.path()).ok()?))
            };
            entries.filter_map(of).collect()
        };
        spawn_blocking(work).await.unwrap_or_default()
    }
}

/// Whether it could leave: it runs, or shall, and the node can do without it.
fn is_candidate(pod: &Pod) -> bool {
    !spec::is_terminal(spec::phase(pod)) && !spec::is_deleted(pod) && !is_critical(pod)
}
