//! The volumes of the node's pods. Owns nothing but what is known of each pod; who asks for something waits for it, and what blocks
//! is done by threads that may. Must never do two things to the directory of one pod at once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use barque_csi::Drivers;
use k8s_openapi::api::core::v1::{Pod, Volume};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use parking_lot::Mutex;
use tokio::sync::{OwnedMutexGuard, watch};

use super::act::{self, Usage};
use super::csi::Csi;
use super::layout::{Layout, PodLayout};
use super::mount_table::MountTable;
use super::plan::{GroupWish, Seen, Step, Wanted, memory_bound, plan, plan_shm};
use super::source::{Found, ImageLayers, Sources};
use super::sub_path;
use super::tokens::Tokens;
use crate::clock::{Clock, after, sooner};
use crate::containers::NodeFacts;
use crate::containers::mounts::{MountedVolume, SubPath};
use crate::pods::spec;
use crate::references::References;

/// How long anything may take that the kernel does, before others are told that it hangs.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// How soon a driver is asked again that wants it.
const REPUBLISH: Duration = Duration::from_secs(60);

/// Why volumes are not as they should be, in the kubelet's words.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// A volume cannot be made; for an event `FailedMount`.
    #[error("MountVolume.SetUp failed for volume {volume:?} : {why}")]
    SetUp {
        /// Its name in the pod.
        volume: String,
        /// Why.
        why: String,
    },
    /// A part of a volume cannot be given to a container.
    #[error("failed to prepare subPath for volumeMount {volume:?} of container {container:?}: {why}")]
    SubPath {
        /// The volume's name in the pod.
        volume: String,
        /// The container's.
        container: String,
        /// Why.
        why: String,
    },
    /// The directory of a pod cannot be removed; it is worth another try.
    #[error("the volumes of pod {uid} cannot be torn down")]
    TearDown {
        /// The pod's.
        uid: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What was begun for this pod has not ended.
    #[error("an operation on the volumes of pod {0} is still under way; it may hang in the kernel")]
    Hangs(String),
    /// The uid is none.
    #[error("{0:?} cannot be the uid of a pod")]
    Uid(String),
    /// The agent's own files.
    #[error("{0}")]
    Files(#[source] io::Error),
}

/// What is known of a pod.
#[derive(Default)]
struct Known {
    /// Held while something is done to the pod's directory, also by a thread that nobody waits for any more.
    busy: Arc<tokio::sync::Mutex<()>>,
    /// Counts changes of objects that the pod names.
    changed: Mutex<Option<watch::Receiver<u64>>>,
    /// Volumes that were ready.
    mounted: Mutex<BTreeMap<String, MountedVolume>>,
    /// When a driver wants to be asked again.
    again: Mutex<Option<Timestamp>>,
}

/// The drivers of a node.
#[derive(Clone, Debug)]
pub struct NodeDrivers {
    /// The node's name.
    pub node: String,
    /// Those that are there.
    pub drivers: Drivers,
}

/// The volumes of the node's pods.
pub struct Volumes {
    layout: Layout,
    sources: Sources,
    csi: Csi,
    clock: Clock,
    known: Mutex<HashMap<String, Arc<Known>>>,
}

impl Volumes {
    /// Below the agent's directory.
    #[must_use]
    pub fn new(
        root: PathBuf,
        client: Client,
        references: References,
        images: Arc<dyn ImageLayers>,
        drivers: NodeDrivers,
        clock: Clock,
    ) -> Self {
        let tokens = Tokens::new(client.clone(), clock.clone());
        Self {
            csi: Csi::new(drivers, client.clone(), root.clone()),
            layout: Layout::new(root),
            sources: Sources { client, references, tokens, images },
            clock,
            known: Mutex::default(),
        }
    }

    /// The directories of a pod.
    ///
    /// # Errors
    /// When its uid cannot be the name of one.
    pub fn layout(&self, uid: &str) -> Result<PodLayout, VolumeError> {
        self.layout.pod(uid).ok_or_else(|| VolumeError::Uid(uid.to_owned()))
    }

    /// The volumes of a pod that are there, by their names.
    pub(super) fn mounted(&self, uid: &str) -> BTreeMap<String, MountedVolume> {
        let known = self.known.lock().get(uid).cloned();
        known.map(|known| known.mounted.lock().clone()).unwrap_or_default()
    }

    fn known(&self, uid: &str) -> Arc<Known> {
        self.known.lock().entry(uid.to_owned()).or_default().clone()
    }

    /// Nobody else does anything to the directory of the pod until this is dropped.
    async fn hold(&self, uid: &str) -> Result<OwnedMutexGuard<()>, VolumeError> {
        let busy = self.known(uid).busy.clone();
        let guard = tokio::time::timeout(PATIENCE, busy.lock_owned()).await;
        guard.map_err(|_| VolumeError::Hangs(uid.to_owned()))
    }

    /// Does something to the directory of a pod on a thread that may block, alone. A thread that hangs keeps the pod, and only it.
    pub(super) async fn alone<T: Send + 'static>(
        &self,
        uid: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, VolumeError> {
        let hangs = || VolumeError::Hangs(uid.to_owned());
        let guard = self.hold(uid).await?;
        let work = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(guard);
            done
        });
        match tokio::time::timeout(PATIENCE, work).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(VolumeError::Files(io::Error::other(error))),
            Err(_) => Err(hangs()),
        }
    }

    /// Sees to it that all volumes of a pod are there and hold what they should; safe to repeat, and to be repeated when
    /// [`Volumes::changed`] tells. The pod's objects are followed from here on. A volume that was ready stays so with what it holds
    /// when what it is made of is gone or not to be had: what runs goes on, and may be restarted.
    ///
    /// # Errors
    /// About the first volume that is not ready; the others are made as far as they can be.
    pub async fn ready(
        &self,
        pod: &Pod,
        node: &NodeFacts,
    ) -> Result<BTreeMap<String, MountedVolume>, VolumeError> {
        let uid = spec::uid(pod);
        let layout = self.layout(uid)?;
        // What changes from here on is told.
        let changed = self.sources.references.hold(pod);
        let known = self.known(uid);
        *known.changed.lock() = Some(changed);
        let before = known.mounted.lock().clone();
        let (mut wanted, mut kept, mut failed) = (Vec::new(), BTreeMap::new(), None);
        let volumes = spec::spec(pod).and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
        // At once: each may have to wait for a server.
        *known.again.lock() = None;
        let held = self.hold(uid).await?;
        let asked = volumes.iter().map(|volume| self.wanted(pod, volume, node, &known));
        let found = futures::future::join_all(asked).await;
        drop(held);
        for (volume, found) in volumes.iter().zip(found) {
            match found {
                Ok(found) => wanted.push((volume.name.clone(), found)),
                Err(why) => match before.get(&volume.name) {
                    Some(there) => {
                        tracing::warn!(
                            pod = spec::title(pod),
                            volume = volume.name,
                            why,
                            "a volume stays as it is"
                        );
                        kept.insert(volume.name.clone(), there.clone());
                    }
                    None => {
                        failed.get_or_insert(VolumeError::SetUp { volume: volume.name.clone(), why });
                    }
                },
            }
        }
        let (wish, memory) = (GroupWish::of(pod), memory_bound(pod, node));
        let (pod, now) = (pod.clone(), self.clock.now());
        let work = move || set_up(&pod, &layout, wanted, wish, memory, now);
        let (mut mounted, problem) = self.alone(uid, work).await?;
        mounted.extend(kept);
        known.mounted.lock().clone_from(&mounted);
        match failed.or(problem) {
            Some(error) => Err(error),
            None => Ok(mounted),
        }
    }

    /// What a volume of the pod shall be; a driver's is asked for.
    async fn wanted(
        &self,
        pod: &Pod,
        volume: &Volume,
        node: &NodeFacts,
        known: &Known,
    ) -> Result<Wanted, String> {
        let volume = match self.sources.found(pod, volume, node).await? {
            Found::Here(wanted) => return Ok(wanted),
            Found::Driver(volume) => volume,
        };
        let layout = self.layout(spec::uid(pod)).map_err(|error| error.to_string())?;
        let held = self.csi.give(pod, &layout, &volume, &self.sources.tokens).await?;
        if held.again {
            *known.again.lock() = Some(after(self.clock.now(), REPUBLISH));
        }
        Ok(held.wanted)
    }

    /// Waits until [`Volumes::ready`] has something to do for a pod that was ready: an object that it names has changed, or a
    /// token is due. For ever for a pod that was never made ready.
    pub async fn changed(&self, uid: &str) {
        let known = self.known.lock().get(uid).cloned();
        let again = known.as_ref().and_then(|known| *known.again.lock());
        let changed = known.and_then(|known| known.changed.lock().clone());
        let objects = async {
            let told = match changed {
                Some(mut changed) => changed.changed().await.is_ok(),
                None => false,
            };
            if !told {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = objects => {}
            () = self.clock.sleep_until(sooner(again, self.sources.tokens.next(uid))) => {}
        }
    }

    /// Mounts the parts of volumes that a container wants, before each of its starts; by the index of the mount.
    ///
    /// # Errors
    /// When one leads out of its volume or cannot be mounted.
    pub async fn sub_paths(
        &self,
        uid: &str,
        container: &str,
        volumes: &BTreeMap<String, MountedVolume>,
        wanted: Vec<SubPath>,
    ) -> Result<BTreeMap<usize, PathBuf>, VolumeError> {
        let layout = self.layout(uid)?;
        let (volumes, container) = (volumes.clone(), container.to_owned());
        let work = move || {
            let mut prepared = BTreeMap::new();
            for part in wanted {
                let target = layout.sub_path(&part.volume, &container, part.index);
                let done = match volumes.get(&part.volume) {
                    Some(volume) => {
                        let may_make = !volume.read_only && !part.read_only;
                        sub_path::prepare(&volume.path, &part.path, may_make, &target)
                            .map_err(|it| it.to_string())
                    }
                    None => Err("the pod has no such volume".to_owned()),
                };
                let (volume, container) = (part.volume, container.clone());
                done.map_err(|why| VolumeError::SubPath { volume, container, why })?;
                prepared.insert(part.index, target);
            }
            Ok(prepared)
        };
        self.alone(uid, work).await?
    }

    /// Unmounts and removes everything that is a pod's, and follows its objects no more. Safe to repeat; one that fails is worth
    /// another try when something of the pod has ended.
    ///
    /// # Errors
    /// When something is still in use or hangs.
    pub async fn tear_down(&self, uid: &str) -> Result<(), VolumeError> {
        self.sources.references.release(uid);
        self.sources.tokens.forget(uid);
        let layout = self.layout(uid)?;
        let held = self.hold(uid).await?;
        let given_back = self.csi.take_back(&layout, &self.layout.pods()).await;
        drop(held);
        given_back
            .map_err(|why| VolumeError::TearDown { uid: uid.to_owned(), source: io::Error::other(why) })?;
        let root = layout.root().to_owned();
        let done = self.alone(uid, move || act::tear_down(&root)).await?;
        done.map_err(|source| VolumeError::TearDown { uid: uid.to_owned(), source })?;
        let mut known = self.known.lock();
        // Who waits for the pod's directory still has what it waits with.
        if known.get(uid).is_some_and(|it| Arc::strong_count(it) == 1 && Arc::strong_count(&it.busy) == 1) {
            known.remove(uid);
        }
        Ok(())
    }

    /// The uids of pods that have a directory.
    ///
    /// # Errors
    /// When the directory of pods cannot be read.
    pub fn there(&self) -> Result<Vec<String>, VolumeError> {
        let entries = match std::fs::read_dir(self.layout.pods()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(VolumeError::Files)?,
        };
        let name = |entry: io::Result<std::fs::DirEntry>| entry.ok()?.file_name().into_string().ok();
        Ok(entries.filter_map(name).filter(|uid| self.layout.pod(uid).is_some()).collect())
    }

    /// Tears down what is left of pods that are not known any more; for the start of an agent. What cannot be torn down is told.
    ///
    /// # Errors
    /// When the directory of pods cannot be read.
    pub async fn tear_down_orphans(&self, known: &HashSet<String>) -> Result<Vec<VolumeError>, VolumeError> {
        let mut failed = Vec::new();
        for uid in self.there()?.into_iter().filter(|uid| !known.contains(uid)) {
            failed.extend(self.tear_down(&uid).await.err());
        }
        Ok(failed)
    }

    /// What the directories that began empty hold now, by the volumes' names; for eviction, beside
    /// [`size_limits`](super::plan::size_limits).
    ///
    /// # Errors
    /// When the uid is none.
    pub async fn usage(&self, pod: &Pod) -> Result<BTreeMap<String, Usage>, VolumeError> {
        let layout = self.layout(spec::uid(pod))?;
        let volumes = spec::spec(pod).and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
        let empty = volumes.iter().filter(|volume| volume.empty_dir.is_some());
        let names: Vec<String> = empty.map(|volume| volume.name.clone()).collect();
        let work = move || {
            let of =
                |name: String| Some((name.clone(), act::usage(&layout.volume("empty-dir", &name)).ok()?));
            names.into_iter().filter_map(of).collect()
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| VolumeError::Files(io::Error::other(error)))
    }
}

/// Makes all volumes that it can; tells about the first that it cannot.
fn set_up(
    pod: &Pod,
    layout: &PodLayout,
    wanted: Vec<(String, Wanted)>,
    wish: GroupWish,
    memory: Option<i64>,
    now: Timestamp,
) -> (BTreeMap<String, MountedVolume>, Option<VolumeError>) {
    let (mut mounted, mut failed) = (BTreeMap::new(), None);
    let table = match MountTable::read() {
        Ok(table) => table,
        Err(error) => return (mounted, Some(VolumeError::Files(error))),
    };
    let run = |steps: &[Step]| steps.iter().try_for_each(|step| act::perform(step, now));
    if let Err(error) = run(&plan_shm(pod, layout, &table)) {
        failed = Some(VolumeError::Files(error));
    }
    for (name, wanted) in wanted {
        let seen = Seen { table: &table, was_ready: layout.ready(&name).exists() };
        let plan = plan(layout, &name, wanted, seen, wish, memory);
        match run(&plan.steps) {
            Ok(()) => drop(mounted.insert(name, plan.mounted)),
            Err(error) => {
                failed.get_or_insert(VolumeError::SetUp { volume: name, why: error.to_string() });
            }
        }
    }
    (mounted, failed)
}
