//! What is under way for one pod, as futures that its worker owns: the sandbox, a container's start with its image and its
//! hook, stops with theirs, probes that are being asked. Tells people what happens meanwhile. Must never decide what is due.
//!
//! One thing at a time is made, in the plan's order: a container whose hook has not ended holds up the next one, as with
//! the kubelet. Stops and probes wait for nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::{Lifecycle, Pod};
use k8s_openapi::jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::failures::Failed;
use super::observed::Observed;
use super::plan::Action;
use super::probes::Due;
use super::spec;
use super::worker::Place;
use crate::clock::{Clock, after, between};
use crate::runtime::{PullError, Runtime, RuntimeError, SandboxError};
use crate::tell::{about_container, normal, warning};

/// How something ended.
pub(super) enum Outcome {
    /// The sandbox was made, or not.
    Sandbox(Result<(), SandboxError>),
    /// A container was started, or not.
    Started {
        /// This one.
        container: String,
        /// Of this image.
        image: String,
        /// What failed, and its story.
        result: Result<(), (Failed, String)>,
    },
    /// The sandbox was taken away, or not.
    Removed(Result<(), RuntimeError>),
    /// A container was told to stop, or not.
    Stopped {
        /// This one.
        container: String,
        /// What came of it.
        result: Result<(), RuntimeError>,
    },
    /// Containers have other bounds, or not.
    Resized(Result<(), RuntimeError>),
    /// A probe has an answer.
    Answered {
        /// This probe.
        due: Due,
        /// Of this instance.
        instance: String,
        /// What was answered instead of success.
        result: Result<(), String>,
    },
    /// Nobody wanted it any more.
    GivenUp,
}

/// A container that is being told to stop.
struct Stop {
    instance: String,
    killed_at: watch::Sender<Timestamp>,
}

/// All that is under way.
pub(super) struct UnderWay<R, A> {
    place: Arc<Place<R, A>>,
    futures: FuturesUnordered<BoxFuture<'static, Outcome>>,
    /// Something is being made; it can be given up.
    making: Option<CancellationToken>,
    stops: BTreeMap<String, Stop>,
    /// The instance of each container whose hook has been run.
    hooked: BTreeMap<String, String>,
}

impl<R: Runtime, A: Send + Sync + 'static> UnderWay<R, A> {
    /// Nothing.
    pub(super) fn new(place: Arc<Place<R, A>>) -> Self {
        Self {
            place,
            futures: FuturesUnordered::new(),
            making: None,
            stops: BTreeMap::new(),
            hooked: BTreeMap::new(),
        }
    }

    /// Whether the action has to wait for what is being made.
    pub(super) fn holds_up(&self, action: &Action) -> bool {
        self.making.is_some() && !matches!(action, Action::Stop { .. })
    }

    /// Whether something is being made.
    pub(super) fn is_making(&self) -> bool {
        self.making.is_some()
    }

    /// A start that has not come to its end is not wanted any more.
    pub(super) fn give_up_start(&self) {
        if let Some(making) = &self.making {
            making.cancel();
        }
    }

    /// Containers that will be stopped count as told already.
    pub(super) fn overlay(&self, observed: &mut Observed) {
        for (name, stop) in &self.stops {
            if let Some(container) = observed.containers.get_mut(name)
                && container.newest.id == stop.instance
            {
                container.newest.killed_at.get_or_insert(*stop.killed_at.borrow());
            }
        }
    }

    /// Begins to do something.
    pub(super) fn begin(&mut self, pod: &Arc<Pod>, action: &Action, observed: &Observed) {
        let (place, pod) = (self.place.clone(), pod.clone());
        let future: BoxFuture<'static, Outcome> = match action {
            Action::CreateSandbox => {
                self.making = Some(CancellationToken::new());
                // Never given up half-way: what there is of it, its removal would have to find out.
                Box::pin(async move { Outcome::Sandbox(place.runtime.create_sandbox(&pod).await) })
            }
            Action::Start { container, attempt, .. } => {
                let (token, container, attempt) = (CancellationToken::new(), container.clone(), *attempt);
                self.making = Some(token.clone());
                Box::pin(async move {
                    let start = start(&place, &pod, &container, attempt);
                    let result = token.run_until_cancelled(start).await;
                    let image = image(&pod, &container);
                    result.map_or(Outcome::GivenUp, |result| Outcome::Started { container, image, result })
                })
            }
            Action::RemoveSandbox => {
                self.making = Some(CancellationToken::new());
                Box::pin(async move { Outcome::Removed(place.runtime.remove_sandbox(&pod).await) })
            }
            Action::Resize { containers, shrinks } => {
                self.making = Some(CancellationToken::new());
                let (containers, shrinks) = (containers.clone(), *shrinks);
                Box::pin(
                    async move { Outcome::Resized(place.runtime.resize(&pod, &containers, shrinks).await) },
                )
            }
            Action::Stop { container, grace, .. } => {
                let killed_at = after(place.clock.now(), *grace);
                let instance = observed.newest(container).map(|newest| newest.id.clone()).unwrap_or_default();
                if let Some(stop) = self.stops.get(container).filter(|stop| stop.instance == instance) {
                    stop.killed_at.send_replace(killed_at);
                    return;
                }
                let runs = observed.newest(container).is_some_and(|newest| newest.running_since().is_some());
                let hooked = self.hooked.insert(container.clone(), instance.clone());
                let hook = runs && has_pre_stop(&pod, container) && hooked.as_ref() != Some(&instance);
                let (killed_at, deadline) = watch::channel(killed_at);
                self.stops.insert(container.clone(), Stop { instance, killed_at });
                Box::pin(stop(place, pod, container.clone(), hook, deadline))
            }
        };
        self.futures.push(future);
    }

    /// Asks a probe.
    pub(super) fn ask(&mut self, pod: &Arc<Pod>, due: Due, instance: String) {
        let (place, pod) = (self.place.clone(), pod.clone());
        self.futures.push(Box::pin(async move {
            let began = Instant::now();
            let result = place.runtime.probe(&pod, &due.container, due.kind).await;
            place.metrics.probes().asked(&pod, &due.container, due.kind, result.is_ok(), began.elapsed());
            Outcome::Answered { due, instance, result }
        }));
    }

    /// The next that ends; never, while nothing is under way.
    pub(super) async fn next(&mut self) -> Outcome {
        let Some(outcome) = self.futures.next().await else { return std::future::pending().await };
        match &outcome {
            Outcome::Stopped { container, .. } => {
                self.stops.remove(container);
            }
            Outcome::Answered { .. } => {}
            Outcome::Sandbox(_)
            | Outcome::Started { .. }
            | Outcome::Resized(_)
            | Outcome::Removed(_)
            | Outcome::GivenUp => {
                self.making = None;
            }
        }
        outcome
    }
}

fn image(pod: &Pod, container: &str) -> String {
    spec::find(pod, container).map(|container| container.image.to_owned()).unwrap_or_default()
}

fn lifecycle<'a>(pod: &'a Pod, container: &str) -> Option<&'a Lifecycle> {
    spec::find(pod, container)?.container?.lifecycle.as_ref()
}

fn has_pre_stop(pod: &Pod, container: &str) -> bool {
    lifecycle(pod, container).is_some_and(|lifecycle| lifecycle.pre_stop.is_some())
}

/// The image, the container, its hook.
async fn start<R: Runtime, A>(
    place: &Place<R, A>,
    pod: &Pod,
    container: &str,
    attempt: u32,
) -> Result<(), (Failed, String)> {
    let tell = |note| place.teller.tell(about_container(pod, container), note);
    let image = image(pod, container);
    if let Err(error) = pull(place, pod, container, &image).await {
        let failed = if error.reason == "ErrImagePull" {
            tell(warning("Failed", format!("Failed to pull image {image:?}: {error}")));
            Failed::Pull
        } else {
            tell(warning(error.reason, &*error.message));
            Failed::Start(error.reason)
        };
        tell(warning("Failed", format!("Error: {}", error.reason)));
        return Err((failed, error.message));
    }
    if let Err(error) = place.runtime.start(pod, container, attempt).await {
        tell(warning("Failed", format!("Error: {error}")));
        return Err((Failed::Start(error.reason), error.message));
    }
    tell(normal("Created", "Container created"));
    if lifecycle(pod, container).is_some_and(|lifecycle| lifecycle.post_start.is_some())
        && let Err(error) = place.runtime.post_start(pod, container).await
    {
        tell(warning("FailedPostStartHook", format!("PostStartHook failed: {error}")));
        tell(normal("Killing", "FailedPostStartHook"));
        // It is started again as one that failed is. That it cannot be stopped, observation tells.
        if let Err(error) = place.runtime.stop(pod, container, spec::grace(pod)).await {
            tracing::warn!(pod = %spec::title(pod), container, %error, "not stopped");
        }
    }
    Ok(())
}

async fn pull<R: Runtime, A>(
    place: &Place<R, A>,
    pod: &Pod,
    container: &str,
    image: &str,
) -> Result<(), PullError> {
    let tell = |note| place.teller.tell(about_container(pod, container), note);
    if place.runtime.has_image(pod, container).await? {
        let text =
            format!("Container image {image:?} already present on machine and can be accessed by the pod");
        tell(normal("Pulled", text));
        return Ok(());
    }
    tell(normal("Pulling", format!("Pulling image {image:?}")));
    let how = place.runtime.pull(pod, container).await?;
    tell(normal("Pulled", how));
    Ok(())
}

/// The hook, for as long as there is time; then what is left of it is the container's.
async fn stop<R: Runtime, A>(
    place: Arc<Place<R, A>>,
    pod: Arc<Pod>,
    container: String,
    hook: bool,
    mut killed_at: watch::Receiver<Timestamp>,
) -> Outcome {
    if hook {
        tokio::select! {
            result = place.runtime.pre_stop(&pod, &container) => if let Err(error) = result {
                let text = format!("PreStopHook failed: {error}");
                place.teller.tell(about_container(&pod, &container), warning("FailedPreStopHook", text));
            },
            () = reached(&place.clock, &mut killed_at) => {}
        }
    }
    loop {
        let left: Duration = between(place.clock.now(), *killed_at.borrow_and_update());
        let stopped = place.runtime.stop(&pod, &container, left.max(spec::SHORTEST_GRACE));
        tokio::select! {
            result = stopped => return Outcome::Stopped { container, result },
            // It is told again how long it has.
            Ok(()) = killed_at.changed() => {}
        }
    }
}

/// Waits until a moment that may change meanwhile.
async fn reached(clock: &Clock, moment: &mut watch::Receiver<Timestamp>) {
    loop {
        let at = *moment.borrow_and_update();
        tokio::select! {
            () = clock.sleep_until(Some(at)) => return,
            changed = moment.changed() => if changed.is_err() {
                // Nobody can change it any more.
                return clock.sleep_until(Some(at)).await;
            },
        }
    }
}
