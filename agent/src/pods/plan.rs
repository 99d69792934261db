//! What is to be done for one pod, and why: the kubelet's `computePodActions` and the order in which it ends pods. A
//! decision: must never do anything, or know what time it is by itself.
//!
//! Doing what a plan says and observing again leads to the next plan; a plan of what was just done has nothing to do.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::failures::{Failures, Waiting, delay};
use super::observed::{Instance, Observed, State};
use super::probes::{ProbeKind, Probes};
use super::resize::{Change, Resizing, change};
use super::spec::{self, ContainerSpec, Kind};
use crate::clock::{after, between, sooner};
use crate::containers::bounds;

/// The story of a pod whose deadline has passed.
const DEADLINE: &str = "Pod was active on the node longer than the specified deadline";

/// A container is told again to stop when that ends it sooner by so much. Less is the time that telling it takes.
const NOTICEABLE: Duration = Duration::from_secs(1);

/// Everything that a plan is made from.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// What is wanted, as far as it was granted, and what the API server knows.
    pub pod: &'a Pod,
    /// What is.
    pub observed: &'a Observed,
    /// What probes found.
    pub probes: &'a Probes,
    /// What could not be started lately.
    pub failures: &'a Failures,
    /// The node does not take the pod, or keeps it no longer.
    pub refusal: Option<&'a Refusal>,
    /// What is asked for beside.
    pub resizing: &'a Resizing,
    /// The pod is gone from the API server.
    pub gone: bool,
    /// The time.
    pub now: Timestamp,
}

/// Why a pod failed as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// In one word, as `OutOfcpu`.
    pub reason: String,
    /// The story.
    pub message: String,
    /// Its containers have no more than this to end, if they run; nothing is as long as the pod says.
    pub grace: Option<Duration>,
    /// It ends for the node's sake: others see that by a condition.
    pub is_disruption: bool,
}

impl Refusal {
    /// For what does not run yet, or may take its time to end.
    #[must_use]
    pub fn new(reason: &str, message: impl Into<String>) -> Self {
        Self { reason: reason.to_owned(), message: message.into(), grace: None, is_disruption: false }
    }
}

/// Something to do. Several of one plan are done in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The sandbox is made, with the network; what is left of one that cannot be used goes before.
    CreateSandbox,
    /// An instance of a container is created and started.
    Start {
        /// The container's name.
        container: String,
        /// How many instances came before.
        attempt: u32,
        /// Why.
        reason: StartReason,
    },
    /// A container is asked to stop, and killed after a while.
    Stop {
        /// The container's name.
        container: String,
        /// How long it has.
        grace: Duration,
        /// Why.
        reason: StopReason,
    },
    /// Containers that run get other bounds, and so does the pod as a whole.
    Resize {
        /// Their names.
        containers: Vec<String>,
        /// Nobody has more than was granted then, so that the pod as a whole need not have more either.
        shrinks: bool,
    },
    /// The sandbox is taken away. Nothing runs in it any more.
    RemoveSandbox,
}

/// Why a container is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartReason {
    /// It is its turn.
    Turn,
    /// The one before has ended.
    Ended,
}

/// Why a container is stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopReason {
    /// The pod ends.
    PodEnds,
    /// A probe found it broken.
    Probe(ProbeKind),
    /// It shall run another image.
    Changed,
    /// It shall have other bounds, for which it wants to be started anew.
    Resized,
}

/// How far a pod is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It runs, or shall.
    Active,
    /// It ends; something of it is still there.
    Ending,
    /// Nothing of it is left, and nothing will ever be started.
    Ended,
}

/// What to do for one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodPlan {
    /// How far it is.
    pub stage: Stage,
    /// What is to be done now.
    pub actions: Vec<Action>,
    /// When another plan is due, though nothing has changed.
    pub wake_at: Option<Timestamp>,
    /// Why containers wait that do not only wait for their turn.
    pub waiting: BTreeMap<String, Waiting>,
    /// Why the pod failed, other than by its containers.
    pub failure: Option<Refusal>,
    /// Its containers do not have all that was granted, or have more.
    pub resizing: bool,
}

/// What a pod needs now.
#[must_use]
pub fn plan(known: &Known<'_>) -> PodPlan {
    let mut planner = Planner {
        known,
        plan: PodPlan {
            stage: Stage::Active,
            actions: Vec::new(),
            wake_at: None,
            waiting: BTreeMap::new(),
            failure: None,
            resizing: false,
        },
        in_place: Vec::new(),
        unsettled: false,
    };
    match planner.end() {
        Some(end) => planner.end_pod(end),
        None => planner.go_on(),
    }
    planner.plan
}

/// Why a pod ends.
enum End {
    /// It was deleted, or is gone, or it is over for it: containers have so long.
    Within(Duration),
    /// The node does not take it, or it took too long.
    Failed(Refusal),
}

struct Planner<'a> {
    known: &'a Known<'a>,
    plan: PodPlan,
    /// Containers that get other bounds while they run.
    in_place: Vec<String>,
    /// A container that runs has other bounds until it has ended.
    unsettled: bool,
}

impl Planner<'_> {
    fn end(&self) -> Option<End> {
        let Known { pod, refusal, gone, now, .. } = *self.known;
        // Who has to be gone sooner than that is.
        let most = refusal.and_then(|refusal| refusal.grace);
        let within =
            |own: Duration| End::Within(most.map_or(own, |most| most.clamp(spec::SHORTEST_GRACE, own)));
        if spec::is_deleted(pod) {
            return Some(within(spec::grace_of_deletion(pod, now)));
        }
        if gone || spec::is_terminal(spec::phase(pod)) {
            return Some(within(spec::grace(pod)));
        }
        if let Some(refusal) = refusal {
            return Some(End::Failed(refusal.clone()));
        }
        if spec::deadline(pod).is_some_and(|deadline| deadline <= now) {
            return Some(End::Failed(Refusal::new("DeadlineExceeded", DEADLINE)));
        }
        self.has_run_out().then(|| End::Within(spec::grace(pod)))
    }

    /// Whether its containers have come to their end.
    fn has_run_out(&self) -> bool {
        let pod = self.known.pod;
        let is_over = |container: &ContainerSpec<'_>| {
            let newest = self.known.observed.newest(container.name);
            newest.is_some_and(|newest| newest.exit().is_some() && !self.is_restarted(container, newest))
        };
        if !self.is_initialised() {
            // An init container that failed for good; one that succeeded is not restarted either.
            return spec::init_containers(pod).filter(|container| container.kind == Kind::Init).any(
                |container| {
                    let failed = self
                        .fresh(container.name)
                        .and_then(Instance::exit)
                        .is_some_and(|exit| exit.code != 0);
                    failed && is_over(&container)
                },
            );
        }
        let mut mains = spec::main_containers(pod).peekable();
        mains.peek().is_some() && mains.all(|container| is_over(&container))
    }

    /// Whether an instance that has ended is followed by another one.
    fn is_restarted(&self, container: &ContainerSpec<'_>, newest: &Instance) -> bool {
        let Some(exit) = newest.exit() else { return false };
        if container.is_restarted(self.known.pod, exit.code) {
            return true;
        }
        // One that the agent stopped in order to start it again did not end by itself.
        let stopped = newest.killed_at.is_some();
        let broken = self.known.probes.failed(container.name, &newest.id).is_some();
        let change = || container.container.map(|wanted| change(wanted, newest.bounds.as_ref()));
        stopped
            && (newest.image != container.image
                || change() == Some(Change::Restart)
                || broken && container.is_restarted_after_a_stop(self.known.pod))
    }

    /// Everything is stopped: what the pod is for first, then its sidecars, the last one first; then the sandbox goes.
    fn end_pod(&mut self, end: End) {
        let grace = match end {
            End::Within(grace) => grace,
            End::Failed(refusal) => {
                let own = spec::grace(self.known.pod);
                let grace = refusal.grace.map_or(own, |grace| grace.clamp(spec::SHORTEST_GRACE, own));
                self.plan.failure = Some(refusal);
                grace
            }
        };
        self.plan.stage = Stage::Ending;
        let (pod, observed) = (self.known.pod, self.known.observed);
        let mut sidecars: Vec<_> = spec::init_containers(pod)
            .filter(|container| container.kind == Kind::Sidecar && observed.is_alive(container.name))
            .map(|container| container.name)
            .collect();
        let others: Vec<_> = observed
            .containers
            .keys()
            .filter(|name| observed.is_alive(name) && !sidecars.contains(&name.as_str()))
            .collect();
        for name in &others {
            self.stop(name, grace, StopReason::PodEnds);
        }
        if !others.is_empty() {
            return;
        }
        if let Some(last) = sidecars.pop() {
            self.stop(last, grace, StopReason::PodEnds);
        } else if observed.sandbox.is_some() {
            self.plan.actions.push(Action::RemoveSandbox);
        } else {
            self.plan.stage = Stage::Ended;
        }
    }

    fn go_on(&mut self) {
        let Known { pod, observed, failures, now, .. } = *self.known;
        self.wake(spec::deadline(pod));
        if observed.ready_sandbox().is_none() {
            match failures.waits_until(Failures::SANDBOX, "", now) {
                Some(retry) => self.wake(Some(retry)),
                None => self.plan.actions.push(Action::CreateSandbox),
            }
            return;
        }
        for container in spec::ephemeral_containers(pod) {
            if observed.newest(container.name).is_none() {
                self.start(&container, 0, StartReason::Turn);
            }
        }
        if self.initialise() {
            for container in spec::main_containers(pod) {
                self.keep_running(&container);
            }
        }
        self.resize();
    }

    /// What was granted while containers run they get, within a pod that may use as much.
    fn resize(&mut self) {
        let Some(sandbox) = self.known.observed.ready_sandbox() else { return };
        let containers = std::mem::take(&mut self.in_place);
        let wanted = bounds::of_whole(self.known.pod);
        let shrinks = !self.unsettled;
        let differs = match &sandbox.bounds {
            Some(now) if shrinks => !bounds::same(now, &wanted),
            Some(now) => !bounds::same(now, &bounds::raised(now, &wanted)),
            None => false,
        };
        self.plan.resizing = differs || self.unsettled || !containers.is_empty();
        if differs || !containers.is_empty() {
            // What is started then finds room.
            self.plan.actions.insert(0, Action::Resize { containers, shrinks });
        }
    }

    /// The newest instance, unless it belongs to a sandbox that another one has followed.
    fn fresh(&self, name: &str) -> Option<&Instance> {
        let sandbox = self.known.observed.ready_sandbox();
        let newest = self.known.observed.newest(name);
        newest.filter(|newest| sandbox.is_none_or(|sandbox| newest.created >= sandbox.created))
    }

    /// Whether init containers have done what main containers wait for: one of these was created.
    fn is_initialised(&self) -> bool {
        spec::main_containers(self.known.pod).any(|container| self.fresh(container.name).is_some())
    }

    /// Goes through the init containers in their order, up to the first that others wait for. Says whether nobody waits.
    fn initialise(&mut self) -> bool {
        let list: Vec<_> = spec::init_containers(self.known.pod).collect();
        let all = self.is_initialised();
        let begun = list.iter().rposition(|container| self.fresh(container.name).is_some());
        for (at, container) in list.iter().enumerate() {
            // Something behind it was started, so it is done, or had started if it is a sidecar.
            let passed = all || begun.is_some_and(|begun| at < begun);
            let done = match container.kind {
                Kind::Sidecar => {
                    self.keep_running(container);
                    let newest = self.fresh(container.name);
                    let running = newest.is_some_and(|newest| newest.running_since().is_some());
                    running && self.known.probes.has_started(container.name)
                }
                _ if passed => true,
                _ => self.run_to_its_end(container),
            };
            if !passed && !done {
                return false;
            }
        }
        true
    }

    /// Says whether it has succeeded.
    fn run_to_its_end(&mut self, container: &ContainerSpec<'_>) -> bool {
        let known = self.known;
        let before = known.observed.newest(container.name);
        let attempt = before.map_or(0, |before| before.attempt.saturating_add(1));
        match self.fresh(container.name).map(|newest| &newest.state) {
            None => self.start(container, attempt, StartReason::Turn),
            Some(State::Exited(exit)) if exit.code == 0 => return true,
            Some(State::Exited(exit)) => {
                let finished = exit.finished_at;
                self.restart(container, attempt, finished);
            }
            Some(State::Created | State::Running { .. }) => {}
        }
        false
    }

    /// A container that shall run runs: started, stopped when it is broken or has changed, started again.
    fn keep_running(&mut self, container: &ContainerSpec<'_>) {
        let known = self.known;
        let Some(newest) = known.observed.newest(container.name) else {
            return self.start(container, 0, StartReason::Turn);
        };
        match &newest.state {
            State::Exited(exit) => {
                if self.is_restarted(container, newest) {
                    self.restart(container, newest.attempt.saturating_add(1), exit.finished_at);
                }
            }
            State::Created => {}
            State::Running { .. } => {
                if newest.image != container.image {
                    self.stop(container.name, spec::grace(known.pod), StopReason::Changed);
                } else if let Some(kind) = known.probes.failed(container.name, &newest.id) {
                    let own = kind.of(container).and_then(|probe| probe.termination_grace_period_seconds);
                    let own = own.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
                    let grace = own.unwrap_or_else(|| spec::grace(known.pod)).max(spec::SHORTEST_GRACE);
                    self.stop(container.name, grace, StopReason::Probe(kind));
                } else if let Some(wanted) = container.container {
                    match change(wanted, newest.bounds.as_ref()) {
                        Change::Nothing => {}
                        Change::InPlace if newest.killed_at.is_none() => {
                            self.in_place.push(container.name.to_owned());
                        }
                        Change::InPlace => self.unsettled = true,
                        Change::Restart => {
                            self.unsettled = true;
                            self.stop(container.name, spec::grace(known.pod), StopReason::Resized);
                        }
                    }
                }
            }
        }
    }

    fn start(&mut self, container: &ContainerSpec<'_>, attempt: u32, reason: StartReason) {
        let Known { failures, now, .. } = *self.known;
        let Some(retry) = failures.waits_until(container.name, container.image, now) else {
            let container = container.name.to_owned();
            return self.plan.actions.push(Action::Start { container, attempt, reason });
        };
        self.wake(Some(retry));
        if let Some((waiting, turn)) = failures.waiting(container.name, now) {
            self.wake(turn);
            self.plan.waiting.insert(container.name.to_owned(), waiting);
        }
    }

    /// After an end, when the back-off is over: none for the first one.
    fn restart(&mut self, container: &ContainerSpec<'_>, attempt: u32, finished: Timestamp) {
        let crashes = self.known.observed.containers.get(container.name).map_or(0, |it| it.crashes);
        let wait = delay(crashes.saturating_sub(1));
        let retry = after(finished, wait);
        if retry <= self.known.now {
            return self.start(container, attempt, StartReason::Ended);
        }
        self.wake(Some(retry));
        let message = format!(
            "back-off {} restarting failed container={} pod={}",
            go_duration(wait),
            container.name,
            spec::title(self.known.pod)
        );
        let waiting = Waiting { reason: "CrashLoopBackOff".to_owned(), message: Some(message) };
        self.plan.waiting.insert(container.name.to_owned(), waiting);
    }

    /// Unless it has been asked and will end as soon anyway.
    fn stop(&mut self, name: &str, grace: Duration, reason: StopReason) {
        let killed_at = self.known.observed.newest(name).and_then(|newest| newest.killed_at);
        let sooner = |killed_at| between(after(self.known.now, grace), killed_at) >= NOTICEABLE;
        if killed_at.is_none_or(sooner) {
            self.plan.actions.push(Action::Stop { container: name.to_owned(), grace, reason });
        }
    }

    fn wake(&mut self, moment: Option<Timestamp>) {
        self.plan.wake_at = sooner(self.plan.wake_at, moment);
    }
}

/// Whole seconds as Go writes them: `10s`, `1m20s`, `5m0s`.
fn go_duration(duration: Duration) -> String {
    match (duration.as_secs() / 60, duration.as_secs() % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}
