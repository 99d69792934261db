//! The worker of one pod: observes, plans, acts and tells, step by step, until nothing of the pod is left. It owns all that
//! is known of its pod between steps. Must never decide what should be: that is the plan's.

use core::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use barque_api::resource_version::ResourceVersion;
use futures::FutureExt as _;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use tokio::sync::watch;

use super::acts::{Outcome, UnderWay};
use super::failures::{Failed, Failures};
use super::news::{self, News};
use super::observed::Observed;
use super::plan::{Action, Known, Refusal, Stage, plan};
use super::probes::Probes;
use super::resize::{Grant, Resizing};
use super::spec;
use super::status::status;
use super::status_patch::status_patch;
use crate::clock::{Clock, after, sooner};
use crate::metrics::Metrics;
use crate::pod_api::{PodApi, PodApiError};
use crate::runtime::{Runtime, SandboxError};
use crate::tell::{Teller, about_container, about_pod, warning};

/// The wait after something failed that has no back-off of its own; it doubles.
const RETRY: Duration = Duration::from_secs(1);
/// The longest such wait.
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// What follows within this time is told as one.
const SILENCE: Duration = Duration::from_millis(500);

/// What a worker shares with the others of its node.
pub struct Place<R, A> {
    /// What runs containers.
    pub runtime: Arc<R>,
    /// How pods are written.
    pub api: A,
    /// Who takes events.
    pub teller: Arc<dyn Teller>,
    /// The time.
    pub clock: Clock,
    /// The addresses of the node, the preferred one first.
    pub host: Vec<IpAddr>,
    /// What is counted.
    pub metrics: Metrics,
}

/// What a worker is told.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The pod as it was seen last.
    pub pod: Arc<Pod>,
    /// It is not there any more.
    pub gone: bool,
    /// The node does not take it, or keeps it no longer.
    pub refusal: Option<Arc<Refusal>>,
    /// What the node grants it.
    pub grant: Grant,
}

/// What failed so often in a row, and when it is tried again.
#[derive(Debug, Default)]
struct Retry {
    failures: u32,
    at: Option<Timestamp>,
}

impl Retry {
    fn failed(&mut self, now: Timestamp) {
        let wait = RETRY.saturating_mul(1 << self.failures.min(10)).min(LONGEST_RETRY);
        self.failures = self.failures.saturating_add(1);
        self.at = Some(after(now, wait));
    }

    fn holds(&self, now: Timestamp) -> bool {
        self.at.is_some_and(|at| now < at)
    }
}

/// What comes after a step.
enum Next {
    /// Another one, at once.
    Again,
    /// One when something changes, or at this moment.
    Wait(Option<Timestamp>),
    /// Nothing: nothing of the pod is left.
    Done,
}

/// The worker of one pod.
pub struct Worker<R, A> {
    place: Arc<Place<R, A>>,
    inbox: watch::Receiver<Wanted>,
    /// Who wants to know that nothing of the pod is left.
    ended: watch::Sender<bool>,
    /// The newest version that is known: what was seen, or what a write answered.
    pod: Arc<Pod>,
    gone: bool,
    probes: Probes,
    failures: Failures,
    acts: Retry,
    writes: Retry,
    resizes: Retry,
    /// How far a resize is.
    resizing: Resizing,
    /// What is under way.
    under_way: UnderWay<R, A>,
    /// Something was done: until then nothing is told, if something else is done meanwhile.
    silent_until: Option<Timestamp>,
    /// The API server was asked to remove the pod.
    asked_to_delete: bool,
    /// What people were told.
    news: News,
    /// It counts as a pod that runs.
    counted: bool,
}

impl<R: Runtime, A: PodApi> Worker<R, A> {
    /// The worker of the pod that the inbox tells of. It says when nothing of the pod is left and that was told, or could not be.
    #[must_use]
    pub fn new(place: Arc<Place<R, A>>, inbox: watch::Receiver<Wanted>, ended: watch::Sender<bool>) -> Self {
        let pod = inbox.borrow().pod.clone();
        let under_way = UnderWay::new(place.clone());
        Self {
            place,
            inbox,
            ended,
            pod,
            gone: false,
            probes: Probes::default(),
            failures: Failures::default(),
            acts: Retry::default(),
            writes: Retry::default(),
            resizes: Retry::default(),
            resizing: Resizing::default(),
            under_way,
            silent_until: None,
            asked_to_delete: false,
            news: News::default(),
            counted: false,
        }
    }

    /// Works until nothing of the pod is left. Dropping it leaves everything as it is.
    pub async fn run(mut self) {
        loop {
            let until = match self.step().await {
                Next::Again => continue,
                Next::Done => return,
                Next::Wait(until) => until,
            };
            tokio::select! {
                // Without a sender nobody would tell of the end: what is there is left as it is.
                changed = self.inbox.changed() => if changed.is_err() { return },
                () = self.place.runtime.changed(&self.pod) => self.acts.at = None,
                outcome = self.under_way.next() => self.done(outcome),
                () = self.place.clock.sleep_until(until) => {}
            }
        }
    }

    async fn step(&mut self) -> Next {
        let place = self.place.clone();
        let _timer = place.metrics.sync();

        // 1. What is wanted.
        let wanted = self.inbox.borrow_and_update().clone();
        self.gone |= wanted.gone;
        if version(&wanted.pod) >= version(&self.pod) {
            self.pod = wanted.pod.clone();
        }
        let asked = self.pod.clone();
        let pod = wanted.grant.applied(&asked, &wanted.pod);
        if self.resizing.generation != wanted.grant.generation() {
            self.resizes = Retry::default();
            self.resizing = Resizing { generation: wanted.grant.generation(), ..Resizing::default() };
        }
        self.resizing.pending = wanted.grant.pending.clone();

        // 2. What is.
        let mut observed = place.runtime.observe(&pod).await;
        self.under_way.overlay(&mut observed);
        self.count(observed.ready_sandbox().is_some());
        self.news.of_instances(&*place.teller, &pod, &observed);

        // 3. What probes find.
        self.probes.follow(&pod, &observed);
        self.ask(&pod, &observed);

        // 4. What to do.
        let now = place.clock.now();
        let known = Known {
            pod: &pod,
            observed: &observed,
            probes: &self.probes,
            failures: &self.failures,
            refusal: wanted.refusal.as_deref(),
            resizing: &self.resizing,
            gone: self.gone,
            now,
        };
        let plan = plan(&known);
        let status = status(&known, &plan, &place.host);
        self.news.of_plan(&*place.teller, &pod, &plan);
        if plan.stage == Stage::Active {
            self.news.of_resize(&*place.teller, &asked, &pod, &self.resizing, plan.resizing);
        } else {
            self.under_way.give_up_start();
        }
        let busy = !plan.actions.is_empty() || self.under_way.is_making();

        // 5. What is told of it. While one act soon follows the other only the outcome is.
        let silent_until = self.silent_until.filter(|until| busy && now < *until);
        let patch = status_patch(&pod, &status).filter(|_| !self.gone);
        let mut told = patch.is_none();
        let mut held = None;
        if let Some(patch) = patch
            && !self.writes.holds(now)
        {
            if silent_until.is_some() {
                held = silent_until;
            } else {
                match self.place.api.patch_status(&pod, &patch).await {
                    Ok(written) => {
                        self.writes = Retry::default();
                        if version(&written) >= version(&self.pod) {
                            self.pod = Arc::new(written);
                        }
                        told = true;
                    }
                    Err(error) => self.not_written(&error, now),
                }
            }
        }

        // 6. Done.
        if !self.acts.holds(now) {
            for action in &plan.actions {
                let fails = matches!(action, Action::Resize { .. }) && self.resizes.holds(now);
                if !fails && !self.under_way.holds_up(action) {
                    tracing::debug!(pod = %spec::title(&pod), ?action, "acts");
                    news::of_action(&*place.teller, &pod, action);
                    self.under_way.begin(&pod, action, &observed);
                }
            }
        }
        // Much of it ends at once.
        let mut ended = false;
        while let Some(outcome) = self.under_way.next().now_or_never() {
            ended = true;
            self.done(outcome);
        }
        if ended && !self.acts.holds(now) {
            return Next::Again;
        }
        if plan.stage == Stage::Ended {
            if told || self.writes.holds(now) {
                self.ended.send_replace(true);
            }
            if self.gone {
                place.runtime.forget(&pod).await;
                return Next::Done;
            }
            if told && spec::is_deleted(&pod) && !self.asked_to_delete && !self.writes.holds(now) {
                match place.api.delete(&pod).await {
                    Ok(()) => self.asked_to_delete = true,
                    Err(error) => self.not_written(&error, now),
                }
            }
        }
        if self.gone && plan.stage == Stage::Ended {
            return Next::Again;
        }
        let retry =
            if plan.actions.is_empty() { self.writes.at } else { sooner(self.acts.at, self.writes.at) };
        let retry = if plan.resizing { sooner(retry, self.resizes.at) } else { retry };
        let retry = retry.filter(|retry| *retry > now);
        Next::Wait(sooner(sooner(plan.wake_at, self.probes.wake_at(&pod, &observed)), sooner(retry, held)))
    }

    fn not_written(&mut self, error: &PodApiError, now: Timestamp) {
        match error {
            PodApiError::Gone => self.gone = true,
            PodApiError::Failed(error) => {
                let pod = spec::title(&self.pod);
                tracing::warn!(%pod, %error, "a pod was not written");
                self.writes.failed(now);
            }
        }
    }

    /// Asks the probes that are due.
    fn ask(&mut self, pod: &Arc<Pod>, observed: &Observed) {
        for due in self.probes.due(pod, observed, self.place.clock.now()) {
            if let Some(newest) = observed.newest(&due.container) {
                self.probes.asked_now(&due);
                self.under_way.ask(pod, due, newest.id.clone());
            }
        }
    }

    /// Takes in how something ended.
    fn done(&mut self, outcome: Outcome) {
        let (place, pod) = (self.place.clone(), self.pod.clone());
        let now = place.clock.now();
        match outcome {
            Outcome::Sandbox(Ok(())) => self.failures.worked(Failures::SANDBOX),
            Outcome::Sandbox(Err(SandboxError::NetworkNotReady(problem))) => {
                let text = format!("network is not ready: {}", crate::node::status::network_text(&problem));
                place.teller.tell(about_pod(&pod), warning("NetworkNotReady", text));
                return self.not_done(now);
            }
            Outcome::Sandbox(Err(SandboxError::Volumes(text))) => {
                place.teller.tell(about_pod(&pod), warning("FailedMount", text));
                return self.not_done(now);
            }
            Outcome::Sandbox(Err(SandboxError::Failed(text))) => {
                let event =
                    warning("FailedCreatePodSandBox", format!("Failed to create pod sandbox: {text}"));
                place.teller.tell(about_pod(&pod), event);
                self.failures.failed(Failures::SANDBOX, Failed::Sandbox, "", text, now);
            }
            Outcome::Started { container, result: Ok(()), .. } => self.failures.worked(&container),
            Outcome::Started { container, image, result: Err((what, text)) } => {
                self.failures.failed(&container, what, &image, text, now);
            }
            Outcome::Removed(Ok(())) | Outcome::Stopped { result: Ok(()), .. } | Outcome::GivenUp => {}
            Outcome::Removed(Err(error)) | Outcome::Stopped { result: Err(error), .. } => {
                tracing::warn!(pod = %spec::title(&pod), %error, "not done");
                return self.not_done(now);
            }
            Outcome::Resized(Ok(())) => {
                self.resizes = Retry::default();
                self.resizing.error = None;
            }
            Outcome::Resized(Err(error)) => {
                tracing::warn!(pod = %spec::title(&pod), %error, "not resized");
                self.resizing.error = Some(error.0);
                self.silent_until = None;
                return self.resizes.failed(now);
            }
            Outcome::Answered { due, instance, result } => {
                if self.probes.is_of(&due, &instance) {
                    if let Err(error) = &result {
                        let text = format!("{} probe failed: {error}", due.kind.title());
                        place.teller.tell(about_container(&pod, &due.container), warning("Unhealthy", text));
                    }
                    self.probes.answered(&pod, &due, result.is_ok(), now);
                }
                return;
            }
        }
        self.acts = Retry::default();
        self.silent_until = Some(after(now, SILENCE));
    }

    fn not_done(&mut self, now: Timestamp) {
        self.acts.failed(now);
        self.silent_until = None;
    }

    fn count(&mut self, runs: bool) {
        if runs != self.counted {
            self.counted = runs;
            self.place.metrics.pod_runs(runs);
            if !runs {
                self.place.metrics.probes().forget(&self.pod);
            }
        }
    }
}

impl<R, A> Drop for Worker<R, A> {
    fn drop(&mut self) {
        if self.counted {
            self.place.metrics.pod_runs(false);
            self.place.metrics.probes().forget(&self.pod);
        }
    }
}

fn version(pod: &Pod) -> ResourceVersion {
    let text = pod.metadata.resource_version.as_deref().unwrap_or_default();
    ResourceVersion::parse(text).unwrap_or(ResourceVersion::NONE)
}
