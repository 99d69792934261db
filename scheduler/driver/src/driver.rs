//! The one task that knows the cluster and decides, one pod after the other. Must never wait for a request: what was decided is
//! performed by tasks of their own, and what became of it comes back here.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use barque_client::events::{Kind as Importance, Recorder};
use barque_scheduler::config::Configuration;
use barque_scheduler::decision::{Decision, Refused, Scheduler};
use barque_scheduler::plugins::{Plugin, PluginSet};
use barque_scheduler::preemption::{Outcome as Room, Preemption, Preemptor};
use barque_scheduler::queue::Next;
use barque_scheduler::snapshot::Pod;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use tokio::sync::mpsc::Receiver;
use tokio::task::{JoinError, JoinSet, yield_now};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::act::{Actor, Eviction, Failure, note, reference};
use crate::cluster::Cluster;
use crate::metrics::{Metrics, Outcome};
use crate::observe::{Change, Gone, Kind, Object};
use crate::pending::Pending;
use crate::status::{self, Nomination, Reason};
use crate::turns::Turns;
use crate::verdict::ActError;
use crate::volumes::{Attempt, Volumes};

/// Pods that are decided on before what was decided earlier is performed. More would only wait elsewhere.
const AHEAD: usize = 512;
/// Pods that wait for their volumes.
const WAITING: usize = 2048;
/// Changes that are taken before the next decision.
const CHANGES: usize = 256;
/// Decisions from one look at the numbers to the next, while there is no pause.
const NUMBERS: u32 = 256;
/// How long requests under way may take to end.
const DRAIN: Duration = Duration::from_secs(2);

/// What became of something that was performed.
enum Done {
    /// Nobody waits for it. Of this pod.
    Told(Arc<str>),
    ClaimsWritten(Box<Attempt>, Result<(), ActError>),
    Bound(Box<Attempt>, Result<(), Failure>),
    Evicted {
        preemptor: Arc<str>,
        plugins: PluginSet,
        result: Result<(), ActError>,
    },
}

/// Knows and decides.
pub(crate) struct Driver {
    cluster: Cluster,
    scheduler: Scheduler,
    preemptor: Preemptor,
    bind_timeouts: Vec<Duration>,
    actor: Actor,
    /// Of each profile, with how many events were dropped when that was last told.
    recorders: Vec<(Recorder, u64)>,
    metrics: Metrics,
    volumes: Volumes,
    turns: Turns,
    /// Something happened that those who wait for volumes may wait for.
    storage_changed: bool,
    /// Kinds that were not told completely yet.
    incomplete: HashSet<Kind>,
    tasks: JoinSet<Done>,
    start: Instant,
}

impl Driver {
    /// Knows nothing yet.
    pub(crate) fn new(
        configuration: &Configuration,
        actor: Actor,
        recorders: Vec<Recorder>,
        metrics: Metrics,
    ) -> Self {
        let profiles = configuration.profiles.clone();
        Self {
            cluster: Cluster::new(&profiles, configuration.queue),
            scheduler: Scheduler::new(profiles, rand::random()),
            preemptor: Preemptor::new(rand::random()),
            bind_timeouts: configuration.bind_timeouts.clone(),
            actor,
            recorders: recorders.into_iter().map(|recorder| (recorder, 0)).collect(),
            metrics,
            volumes: Volumes::default(),
            turns: Turns::default(),
            storage_changed: false,
            incomplete: Kind::ALL.iter().copied().collect(),
            tasks: JoinSet::new(),
            start: Instant::now(),
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Schedules until the token is cancelled, or until nobody tells changes any more.
    ///
    /// # Errors
    /// When something that was performed broke down.
    pub(crate) async fn run(
        mut self,
        mut changes: Receiver<Change>,
        stop: CancellationToken,
    ) -> Result<(), JoinError> {
        let result = self.schedule(&mut changes, &stop).await;
        // Another one may lead soon: nothing new begins, and what has begun is known to have ended.
        self.actor.stop();
        drop(changes);
        let drained = timeout(DRAIN, async { while self.tasks.join_next().await.is_some() {} }).await;
        if drained.is_err() {
            tracing::warn!(requests = self.tasks.len(), "requests that did not end are cut off");
        }
        self.tasks.shutdown().await;
        result
    }

    async fn schedule(
        &mut self,
        changes: &mut Receiver<Change>,
        stop: &CancellationToken,
    ) -> Result<(), JoinError> {
        let mut since_numbers = 0;
        while !stop.is_cancelled() {
            // What is known comes first: a decision on an old picture is a worse one.
            for _ in 0..CHANGES {
                let Ok(change) = changes.try_recv() else { break };
                self.change(change);
            }
            while let Some(done) = self.tasks.try_join_next() {
                self.done(done?);
            }
            self.bind_those_with_volumes();
            let now = self.now();
            let may_decide =
                self.incomplete.is_empty() && self.tasks.len() < AHEAD && self.volumes.len() < WAITING;
            if may_decide && let Some(next) = self.cluster.queue.next(now) {
                self.attempt(&next);
                since_numbers += 1;
                if since_numbers >= NUMBERS {
                    since_numbers = 0;
                    self.tell_numbers();
                }
                // The connections are served by the same threads.
                yield_now().await;
                continue;
            }
            self.tell_numbers();
            let wakes = [self.cluster.queue.next_change(), self.volumes.next_change()];
            // While it may not decide, the queue's times do not matter: something else happens first.
            let wake = wakes.into_iter().skip(usize::from(!may_decide)).flatten().min();
            let wake = wake.map(|wake| self.start + wake);
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                Some(done) = self.tasks.join_next(), if !self.tasks.is_empty() => self.done(done?),
                change = changes.recv() => match change {
                    Some(change) => self.change(change),
                    None => return Ok(()),
                },
                () = async { match wake { Some(wake) => sleep_until(wake).await, None => std::future::pending().await } } => {
                    self.storage_changed = true;
                    let now = self.now();
                    self.cluster.queue.advance(now);
                }
            }
        }
        Ok(())
    }

    fn tell_numbers(&mut self) {
        let snapshot = &self.cluster.snapshot;
        let (nodes, pods) = (snapshot.nodes(), snapshot.pods());
        let incoming = self.cluster.queue.take_incoming();
        self.metrics.state(self.cluster.queue.counts(), incoming, nodes, pods);
        for ((recorder, told), profile) in self.recorders.iter_mut().zip(self.scheduler.profiles()) {
            let dropped = recorder.dropped();
            if dropped > *told {
                self.metrics.events_dropped(&profile.scheduler_name, dropped - *told);
                *told = dropped;
            }
        }
    }

    fn change(&mut self, change: Change) {
        let now = self.now();
        match change {
            Change::There(object) => {
                self.storage_changed |= matches!(object, Object::Claim(_) | Object::Volume(_));
                self.cluster.there(object, now);
            }
            Change::Gone(gone) => self.gone(&gone, now),
            Change::Complete(kind) => {
                if self.incomplete.remove(&kind) && self.incomplete.is_empty() {
                    self.cluster.complete();
                    let snapshot = &self.cluster.snapshot;
                    tracing::info!(nodes = snapshot.nodes(), pods = snapshot.pods(), "knows the cluster");
                }
            }
        }
    }

    fn gone(&mut self, gone: &Gone, now: Duration) {
        self.storage_changed |= matches!(gone.kind, Kind::Claim | Kind::Volume | Kind::Node);
        if gone.kind == Kind::Pod
            && let Some(attempt) = self.volumes.remove(&gone.uid)
        {
            self.cluster.forget(&attempt.pod, &attempt.claims, now);
        }
        self.cluster.gone(gone, now);
    }

    /// Decides on a pod, and has it performed.
    fn attempt(&mut self, next: &Next) {
        let began = self.now();
        let Some(pending) = self.cluster.refresh(&next.pod.uid) else {
            self.cluster.queue.remove(&next.pod.uid);
            return;
        };
        let decision = self.scheduler.decide(&self.cluster.snapshot, &pending.pod, pending.profile);
        match decision {
            Decision::Placed(placement) => {
                self.metrics.decided(self.now() - began);
                let snapshot = &mut self.cluster.snapshot;
                snapshot.assume(&pending.pod, placement.node, &placement.claims);
                let attempt = Attempt {
                    node: placement.node,
                    node_name: snapshot.node_name(placement.node).into(),
                    claims: placement.claims,
                    profile: pending.profile,
                    number: next.attempt,
                    first: next.first,
                    began,
                    pod: pending.pod,
                };
                if attempt.claims.is_empty() { self.bind(attempt) } else { self.write_claims(attempt) }
            }
            Decision::Refused(refused) => self.refused(&pending, &refused, began),
        }
    }

    fn bind(&mut self, attempt: Attempt) {
        let actor = self.actor.clone();
        self.tasks.spawn(async move {
            let result = actor.bind(&attempt.pod, &attempt.node_name).await;
            Done::Bound(Box::new(attempt), result)
        });
    }

    fn write_claims(&mut self, attempt: Attempt) {
        let actor = self.actor.clone();
        self.tasks.spawn(async move {
            let result = actor.write_claims(&attempt.claims, &attempt.node_name).await;
            Done::ClaimsWritten(Box::new(attempt), result)
        });
    }

    fn bind_those_with_volumes(&mut self) {
        if !std::mem::take(&mut self.storage_changed) {
            return;
        }
        let now = self.now();
        for (attempt, result) in self.volumes.ready(&self.cluster.snapshot, now) {
            match result {
                Ok(()) => self.bind(attempt),
                Err(why) => self.not_bound(&attempt, Failure::Failed(why)),
            }
        }
    }

    /// A pod goes nowhere, unless others go.
    fn refused(&mut self, pending: &Pending, refused: &Refused, began: Duration) {
        let pod = &pending.pod;
        let profile = &self.scheduler.profiles()[pending.profile];
        let room = (profile.preempts && refused.nodes > 0).then(|| {
            self.preemptor.plan(&self.cluster.snapshot, pod, profile, refused, &self.cluster.budgets)
        });
        let message = room.as_ref().map_or_else(|| refused.message(), |room| room.told_after(refused));
        let name = profile.scheduler_name.clone();
        let now = self.now();
        self.metrics.decided(now - began);
        self.metrics.attempted(&name, Outcome::Unschedulable, now - began);
        let plugins = refused.plugins();
        match room {
            Some(Room::Preempt(preemption)) => self.preempt(pending, &name, preemption, &message, plugins),
            Some(Room::Unhelpful { clears_nomination: true, .. }) => {
                self.metrics.preempted(None);
                self.cluster.nominate(&pod.uid, None);
                self.cluster.queue.refused(&pod.uid, plugins, now);
                self.tell(pending, Reason::Unschedulable, &message, &Nomination::Clear);
            }
            room => {
                if room.is_some() {
                    self.metrics.preempted(None);
                }
                self.cluster.queue.refused(&pod.uid, plugins, now);
                self.tell(pending, Reason::Unschedulable, &message, &Nomination::Keep);
            }
        }
    }

    /// Has room made. The pod is not decided on again before its victims know.
    fn preempt(
        &mut self,
        pending: &Pending,
        scheduler_name: &str,
        preemption: Preemption,
        message: &str,
        plugins: PluginSet,
    ) {
        let pod = &pending.pod;
        let node: Box<str> = self.cluster.snapshot.node_name(preemption.node).into();
        self.metrics.preempted(Some(preemption.victims.len()));
        self.cluster.nominate(&pod.uid, Some(node.clone()));
        for other in preemption.displaced {
            self.cluster.nominate(&other.uid, None);
            self.write(&other, status::displaced(&other.uid));
        }
        self.record_failure(pending, message);
        let nomination = Nomination::Set(node.clone());
        let patch = self.news(pending, Reason::Unschedulable, message, &nomination);
        let eviction = Eviction {
            preemptor: pod.clone(),
            scheduler_name: scheduler_name.into(),
            node,
            victims: preemption.victims,
        };
        let (actor, recorder) = (self.actor.clone(), self.recorders[pending.profile].0.clone());
        let mut turn = self.turns.next(&eviction.preemptor.uid);
        self.tasks.spawn(async move {
            if let Some(patch) = patch {
                turn.comes().await;
                actor.tell(&eviction.preemptor.name, &patch).await;
            }
            drop(turn);
            let result = actor.evict(&eviction, &recorder).await;
            let plugins = plugins.with(Plugin::DefaultPreemption);
            Done::Evicted { preemptor: eviction.preemptor.uid.clone(), plugins, result }
        });
    }

    fn record_failure(&self, pending: &Pending, message: &str) {
        let note = note(Importance::Warning, "FailedScheduling", "Scheduling", message.to_owned());
        self.recorders[pending.profile].0.publish(reference(&pending.pod), note);
    }

    /// Tells why a pod waits: an event each time, its status when it changed.
    fn tell(&mut self, pending: &Pending, reason: Reason, message: &str, nomination: &Nomination) {
        self.record_failure(pending, message);
        if let Some(patch) = self.news(pending, reason, message, nomination) {
            self.write(&pending.pod, patch);
        }
    }

    /// What a pod's status does not say yet. As long as something of it is being written, nobody knows what it says.
    fn news(
        &mut self,
        pending: &Pending,
        reason: Reason,
        message: &str,
        nomination: &Nomination,
    ) -> Option<Value> {
        let known = !self.turns.busy(&pending.pod.uid);
        status::waits(&pending.object, known, reason, message, nomination, Timestamp::now())
    }

    /// Writes a pod's status, after what was decided before.
    fn write(&mut self, pod: &Pod, patch: Value) {
        let mut turn = self.turns.next(&pod.uid);
        let (actor, name, uid) = (self.actor.clone(), pod.name.clone(), pod.uid.clone());
        self.tasks.spawn(async move {
            turn.comes().await;
            actor.tell(&name, &patch).await;
            drop(turn);
            Done::Told(uid)
        });
    }

    fn done(&mut self, done: Done) {
        let now = self.now();
        match done {
            Done::Told(uid) => {
                self.turns.busy(&uid);
            }
            Done::ClaimsWritten(attempt, Ok(())) => {
                // Gone meanwhile, or bound by somebody else.
                let assumed = self.cluster.snapshot.placement(&attempt.pod.uid);
                if assumed == Some((attempt.node, true)) {
                    let until = now + self.bind_timeouts[attempt.profile];
                    self.volumes.wait(*attempt, until);
                    self.storage_changed = true;
                } else {
                    self.cluster.forget(&attempt.pod, &attempt.claims, now);
                }
            }
            Done::ClaimsWritten(attempt, Err(error)) => {
                let why = format!("running PreBind plugin \"VolumeBinding\": binding volumes: {error}");
                self.not_bound(&attempt, Failure::Failed(why));
            }
            Done::Bound(attempt, Ok(())) => {
                let Attempt { pod, node_name, .. } = &*attempt;
                self.cluster.bound(&pod.uid);
                let profile = &self.scheduler.profiles()[attempt.profile].scheduler_name;
                self.metrics.attempted(profile, Outcome::Scheduled, now - attempt.began);
                self.metrics.placed(attempt.number, now - attempt.first);
                let text =
                    format!("Successfully assigned {}/{} to {node_name}", pod.name.namespace, pod.name.name);
                let note = note(Importance::Normal, "Scheduled", "Binding", text);
                self.recorders[attempt.profile].0.publish(reference(pod), note);
            }
            Done::Bound(attempt, Err(failure)) => self.not_bound(&attempt, failure),
            Done::Evicted { preemptor, plugins, result: Ok(()) } => {
                self.turns.busy(&preemptor);
                self.cluster.queue.refused(&preemptor, plugins, now);
            }
            Done::Evicted { preemptor, result: Err(error), .. } => {
                tracing::warn!(preemptor = %preemptor, %error, "pods could not be evicted");
                self.cluster.nominate(&preemptor, None);
                self.cluster.queue.failed(&preemptor, now);
                self.turns.busy(&preemptor);
                if let Some(pod) = self.cluster.pending(&preemptor).map(|pending| pending.pod.clone()) {
                    self.write(&pod, status::displaced(&preemptor));
                }
            }
        }
    }

    /// What was decided came to nothing.
    fn not_bound(&mut self, attempt: &Attempt, failure: Failure) {
        let Attempt { pod, claims, .. } = attempt;
        let now = self.now();
        self.cluster.forget(pod, claims, now);
        self.cluster.queue.failed(&pod.uid, now);
        let profile = &self.scheduler.profiles()[attempt.profile].scheduler_name;
        self.metrics.attempted(profile, Outcome::Error, now - attempt.began);
        match failure {
            Failure::Outdated(why) => {
                tracing::debug!(namespace = %pod.name.namespace, pod = %pod.name.name, why, "not bound");
            }
            Failure::Failed(why) => {
                tracing::warn!(namespace = %pod.name.namespace, pod = %pod.name.name, why, "not bound");
                if let Some(pending) = self.cluster.pending(&pod.uid).cloned() {
                    self.cluster.nominate(&pod.uid, None);
                    self.tell(&pending, Reason::SchedulerError, &why, &Nomination::Clear);
                }
            }
        }
    }
}
