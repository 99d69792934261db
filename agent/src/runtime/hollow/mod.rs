//! The runtime without containers: pods that behave as their annotations say, or as well as can be. Its containers have
//! addresses and times and end as real ones do, but no process, no image and no file. Must never have a task or a timer
//! of its own: what has become of a container follows from the time at which somebody looks.

mod adopt;
mod behaviour;
#[cfg(test)]
mod properties;
mod timeline;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use barque_api::ip::Cidr;
use barque_network::Addresses;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::watch;

use self::behaviour::{Unreadable, behaviour};
use self::timeline::Life;
use super::{PullError, Runtime, RuntimeError, SandboxError, StartError};
use crate::clock::{Clock, after, sooner};
use crate::containers::{bounds, find};
use crate::pods::observed::{Instance, Observed, Sandbox, State};
use crate::pods::probes::ProbeKind;
use crate::pods::spec;
use crate::tell::{Teller, about_pod, warning};

/// What the ids of its containers begin with.
const SCHEME: &str = "hollow://";

/// The runtime's name and version, as nodes tell them.
#[must_use]
pub fn version() -> String {
    concat!("hollow://", env!("CARGO_PKG_VERSION")).to_owned()
}

/// The runtime of one hollow node.
pub struct HollowRuntime {
    clock: Clock,
    teller: Arc<dyn Teller>,
    pods: Mutex<HashMap<String, HollowPod>>,
    addresses: Mutex<Addresses>,
    /// Whether pods can have a network.
    network: watch::Sender<bool>,
}

#[derive(Debug)]
struct HollowPod {
    sandbox: Option<Sandbox>,
    lives: BTreeMap<String, Life>,
    /// What has happened up to then is known.
    looked_at: Timestamp,
    /// Something has happened that [`Runtime::observe`] has not told.
    untold: bool,
    /// It was refused a sandbox because there was no network.
    waits_for_network: bool,
    /// What was said of its annotations.
    warned: Vec<Unreadable>,
}

impl HollowPod {
    fn next(&self, pod: &Pod) -> Option<Timestamp> {
        let next = |(name, life): (&String, &Life)| life.next(&behaviour(pod, name).0);
        self.lives.iter().map(next).fold(None, sooner)
    }
}

impl HollowRuntime {
    /// One without pods.
    #[must_use]
    pub fn new(clock: Clock, teller: Arc<dyn Teller>) -> Self {
        Self {
            clock,
            teller,
            pods: Mutex::default(),
            addresses: Mutex::default(),
            network: watch::Sender::new(false),
        }
    }

    /// What is known of a pod, up to now. One that is seen for the first time is what its status says.
    fn with<T>(&self, pod: &Pod, act: impl FnOnce(&mut HollowPod, Timestamp) -> T) -> T {
        let now = self.clock.now();
        let mut pods = self.pods.lock();
        let known = pods.entry(spec::uid(pod).to_owned()).or_insert_with(|| self.first_seen(pod, now));
        for (name, life) in &mut known.lives {
            known.untold |= life.advance(&behaviour(pod, name).0, known.looked_at, now);
        }
        known.looked_at = known.looked_at.max(now);
        act(known, now)
    }

    fn first_seen(&self, pod: &Pod, now: Timestamp) -> HollowPod {
        let (sandbox, lives) = adopt::adopt(pod, now);
        if let Some(sandbox) = &sandbox {
            self.addresses.lock().claim(&sandbox.addresses);
        }
        // What would have happened since its status was written happens now.
        HollowPod {
            sandbox,
            lives,
            looked_at: now,
            untold: false,
            waits_for_network: false,
            warned: Vec::new(),
        }
    }

    fn warn(&self, pod: &Pod, known: &mut HollowPod) {
        let mut unreadable: Vec<_> =
            spec::containers(pod).flat_map(|container| behaviour(pod, container.name).1).collect();
        unreadable.dedup();
        for new in unreadable.iter().filter(|new| !known.warned.contains(new)) {
            self.teller.tell(about_pod(pod), warning("InvalidAnnotation", new.to_string()));
        }
        known.warned = unreadable;
    }

    /// A new instance of a container.
    fn started(pod: &Pod, container: &str, attempt: u32, now: Timestamp) -> Option<Instance> {
        let image = spec::find(pod, container)?.image.to_owned();
        Some(Instance {
            id: format!("{SCHEME}{}/{container}/{attempt}", spec::uid(pod)),
            image_id: image.clone(),
            image,
            attempt,
            created: now,
            state: State::Created,
            killed_at: None,
            bounds: find(pod, container).map(|container| bounds::of_container(&container)),
        })
    }
}

fn no_such(container: &str) -> RuntimeError {
    RuntimeError(format!("there is no container {container:?}"))
}

fn not_started(message: String) -> StartError {
    StartError { reason: "RunContainerError", message }
}

impl Runtime for HollowRuntime {
    fn set_pod_networks(&self, networks: &[Cidr]) {
        let mut addresses = self.addresses.lock();
        addresses.set_networks(networks);
        let ready = addresses.has_networks();
        self.network.send_if_modified(|before| std::mem::replace(before, ready) != ready);
    }

    fn network_changes(&self) -> BoxStream<'static, ()> {
        futures::stream::pending().boxed()
    }

    fn network_problem(&self) -> Option<String> {
        (!*self.network.borrow()).then(|| "no pod CIDR is assigned to the node".to_owned())
    }

    async fn left_behind(&self) -> Vec<Pod> {
        // Nothing outlives its process.
        Vec::new()
    }

    async fn observe(&self, pod: &Pod) -> Observed {
        self.with(pod, |known, _| {
            self.warn(pod, known);
            known.untold = false;
            let containers = known.lives.iter().map(|(name, life)| (name.clone(), life.container.clone()));
            Observed { sandbox: known.sandbox.clone(), containers: containers.collect() }
        })
    }

    async fn changed(&self, pod: &Pod) {
        let (next, waits_for_network) = self.with(pod, |known, now| {
            (if known.untold { Some(now) } else { known.next(pod) }, known.waits_for_network)
        });
        let mut network = self.network.subscribe();
        let network = async {
            // An error would be that the runtime is gone, which is who waits here.
            if !waits_for_network || network.wait_for(|ready| *ready).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = self.clock.sleep_until(next) => {}
            () = network => {}
        }
    }

    async fn create_sandbox(&self, pod: &Pod) -> Result<(), SandboxError> {
        self.with(pod, |known, now| {
            if known.sandbox.is_some() {
                return Ok(());
            }
            let host = spec::uses_host_network(pod);
            let problem = self.network_problem().filter(|_| !host);
            known.waits_for_network = problem.is_some();
            if let Some(problem) = problem {
                return Err(SandboxError::NetworkNotReady(problem));
            }
            let addresses = if host {
                Vec::new()
            } else {
                let taken = self.addresses.lock().take();
                taken.map_err(|cidr| SandboxError::Failed(format!("all addresses of {cidr} are used")))?
            };
            let bounds = Some(bounds::of_whole(pod));
            known.sandbox = Some(Sandbox { created: now, addresses, ready: true, bounds });
            Ok(())
        })
    }

    async fn has_image(&self, pod: &Pod, container: &str) -> Result<bool, PullError> {
        Ok(behaviour(pod, container).0.pull_fails.is_none())
    }

    async fn pull(&self, pod: &Pod, container: &str) -> Result<String, PullError> {
        let image = spec::find(pod, container).map(|container| container.image).unwrap_or_default();
        match behaviour(pod, container).0.pull_fails {
            Some(error) => Err(PullError {
                reason: "ErrImagePull",
                message: format!("failed to pull and unpack image {image:?}: {error}"),
            }),
            None => Ok(format!("Successfully pulled image {image:?}")),
        }
    }

    async fn start(&self, pod: &Pod, container: &str, attempt: u32) -> Result<(), StartError> {
        self.with(pod, |known, now| {
            if known.sandbox.is_none() {
                return Err(not_started("the pod has no sandbox".to_owned()));
            }
            let before = known.lives.get(container).map(|life| &life.container.newest);
            if before.is_some_and(|before| before.exit().is_none() || before.attempt >= attempt) {
                return Ok(());
            }
            let instance = Self::started(pod, container, attempt, now)
                .ok_or_else(|| not_started(no_such(container).0))?;
            let mut life = Life::begin(known.lives.remove(container), instance);
            life.advance(&behaviour(pod, container).0, now, now);
            known.lives.insert(container.to_owned(), life);
            Ok(())
        })
    }

    async fn post_start(&self, _: &Pod, _: &str) -> Result<(), String> {
        Ok(())
    }

    async fn pre_stop(&self, _: &Pod, _: &str) -> Result<(), String> {
        Ok(())
    }

    async fn stop(&self, pod: &Pod, container: &str, grace: Duration) -> Result<(), RuntimeError> {
        self.with(pod, |known, now| {
            let life = known.lives.get_mut(container).ok_or_else(|| no_such(container))?;
            life.stop(now, grace);
            life.advance(&behaviour(pod, container).0, now, now);
            Ok(())
        })
    }

    async fn resize(&self, pod: &Pod, containers: &[String], shrinks: bool) -> Result<(), RuntimeError> {
        self.with(pod, |known, _| {
            for name in containers {
                let wanted = find(pod, name).ok_or_else(|| no_such(name))?;
                let life = known.lives.get_mut(name).ok_or_else(|| no_such(name))?;
                life.container.newest.bounds = Some(bounds::of_container(&wanted));
            }
            if let Some(sandbox) = &mut known.sandbox {
                let wanted = bounds::of_whole(pod);
                sandbox.bounds = match &sandbox.bounds {
                    Some(now) if !shrinks => Some(bounds::raised(now, &wanted)),
                    _ => Some(wanted),
                };
            }
            Ok(())
        })
    }

    async fn remove_sandbox(&self, pod: &Pod) -> Result<(), RuntimeError> {
        self.with(pod, |known, _| {
            if known.lives.values().any(|life| life.container.newest.exit().is_none()) {
                return Err(RuntimeError("containers of the pod are still there".to_owned()));
            }
            if let Some(sandbox) = known.sandbox.take() {
                self.addresses.lock().release(&sandbox.addresses);
            }
            Ok(())
        })
    }

    async fn forget(&self, pod: &Pod) {
        self.pods.lock().remove(spec::uid(pod));
    }

    async fn probe(&self, pod: &Pod, container: &str, kind: ProbeKind) -> Result<(), String> {
        let (now, newest) = self.with(pod, |known, now| {
            (now, known.lives.get(container).map(|life| life.container.newest.clone()))
        });
        let Some(since) = newest.as_ref().and_then(Instance::running_since) else {
            return Err("the container does not run".to_owned());
        };
        let behaviour = behaviour(pod, container).0;
        let failing = match kind {
            ProbeKind::Startup => behaviour.fails_startup.then_some("fails-startup"),
            ProbeKind::Readiness if behaviour.fails_readiness => Some("fails-readiness"),
            ProbeKind::Readiness => (now < after(since, behaviour.ready_after)).then_some("ready-after"),
            ProbeKind::Liveness => {
                let end = behaviour.fails_liveness_after.map(|healthy| after(since, healthy));
                end.is_some_and(|end| end <= now).then_some("fails-liveness-after")
            }
        };
        failing.map_or(Ok(()), |key| Err(format!("as the annotation hollow.barque/{key} says")))
    }
}
