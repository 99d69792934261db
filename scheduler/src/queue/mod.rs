//! Pods that wait to be placed, and which one is next. Pure: time is handed in, as a duration since any moment that stays
//! the same. Must never lose a pod, nor what happened while a pod was being decided on.
//!
//! A pod is in one place: *active* (next by priority, then by time), *backing off* (tried not long ago), *unschedulable*
//! (until something happens that may help, or for five minutes), *gated* (until its gates are lifted), or *in flight*
//! (taken out to be decided on).

mod event;
mod hints;

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

pub use event::Event;

use crate::plugins::PluginSet;
use crate::snapshot::Pod;

/// How long things take. The default is Kubernetes'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// After the first failure.
    pub initial_backoff: Duration,
    /// It doubles with every failure up to this.
    pub max_backoff: Duration,
    /// For how long a pod is left unschedulable if nothing happens.
    pub max_unschedulable: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            initial_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(10),
            max_unschedulable: Duration::from_secs(5 * 60),
        }
    }
}

type Uid = Arc<str>;

/// Where a pod is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Active,
    /// Until then; after an error nobody takes it earlier.
    BackingOff {
        until: Duration,
        error: bool,
    },
    Unschedulable(Group),
    Gated,
    /// With the number of the first event that it has not seen.
    InFlight {
        from: u64,
    },
}

/// Pods that the same events may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Group {
    ask: u64,
    terms: u64,
    identity: u64,
    plugins: PluginSet,
    /// Pods with volumes are alone, by a number of their own.
    volumes: Option<u64>,
}

#[derive(Debug)]
struct Entry {
    pod: Arc<Pod>,
    place: Place,
    /// When it came into its place.
    since: Duration,
    /// When it first came.
    first: Duration,
    attempts: u32,
    failures: u32,
    errors: u32,
    number: u64,
}

/// A pod that is to be decided on.
#[derive(Clone, Debug)]
pub struct Next {
    /// It.
    pub pod: Arc<Pod>,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// When it first came.
    pub first: Duration,
}

/// How many pods are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Next by priority and time.
    pub active: usize,
    /// Tried not long ago.
    pub backing_off: usize,
    /// Until something happens.
    pub unschedulable: usize,
    /// Until gates are lifted.
    pub gated: usize,
    /// Being decided on.
    pub in_flight: usize,
}

/// How many pods came into a part of the queue, by the event that moved them and the part, as Kubernetes' metrics call them.
pub type Incoming = BTreeMap<(&'static str, &'static str), u64>;

/// A pod came for the first time.
const ARRIVED: &str = "UnscheduledPodAdd";
/// It was decided on in vain.
const FAILED: &str = "ScheduleAttemptFailure";
/// It has rested.
const RESTED: &str = "BackoffComplete";
/// Nothing happened for too long.
const WAITED: &str = "UnschedulableTimeout";
/// The pod itself is different.
const CHANGED: &str = "TargetPodUpdate";

/// The queue.
#[derive(Debug, Default)]
pub struct Queue {
    settings: Settings,
    pods: HashMap<Uid, Entry>,
    active: BTreeSet<(Reverse<i32>, Duration, u64, Uid)>,
    backing_off: BTreeSet<(Duration, u64, Uid)>,
    unschedulable: HashMap<Group, BTreeSet<Uid>>,
    unschedulable_since: BTreeSet<(Duration, Uid)>,
    gated: usize,
    /// Of pods in flight, the number of the first event that each has not seen.
    in_flight: BTreeSet<(u64, Uid)>,
    /// What happened since the pod in flight was taken out that is there longest.
    events: VecDeque<Event>,
    /// The number of the first of them.
    first_event: u64,
    next_number: u64,
    incoming: Incoming,
}

impl Queue {
    /// Empty.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// A pod that is not placed is there, or has changed.
    pub fn put(&mut self, pod: Arc<Pod>, now: Duration) {
        let uid = pod.uid.clone();
        let Some(entry) = self.pods.get_mut(&uid) else {
            self.next_number += 1;
            let place = if pod.gates.is_empty() { Place::Active } else { Place::Gated };
            let number = self.next_number;
            let entry =
                Entry { pod, place, since: now, first: now, attempts: 0, failures: 0, errors: 0, number };
            self.pods.insert(uid.clone(), entry);
            self.enter(&uid);
            self.count(&uid, ARRIVED);
            return;
        };
        let old = entry.pod.clone();
        let place = entry.place.clone();
        if matches!(place, Place::InFlight { .. }) {
            // What it was taken out with is being decided on; the change may help when that fails.
            entry.pod = pod.clone();
            self.happened(Event::Pending { old, new: pod });
            return;
        }
        self.leave(&uid);
        if let Some(entry) = self.pods.get_mut(&uid) {
            entry.pod = pod.clone();
        }
        let helps = match place {
            Place::Gated => pod.gates.is_empty(),
            Place::Unschedulable(group) => {
                let event = Event::Pending { old, new: pod.clone() };
                hints::may_help(group.plugins, &event, &pod)
            }
            _ => false,
        };
        if !pod.gates.is_empty() {
            self.move_to(&uid, Place::Gated, None);
        } else if helps {
            self.wake(&uid, now, CHANGED);
        } else {
            let place = match place {
                Place::Unschedulable(group) => Place::Unschedulable(self.group(&pod, group.plugins, &uid)),
                other => other,
            };
            self.move_to(&uid, place, None);
        }
    }

    /// A pod is gone, or placed by somebody.
    pub fn remove(&mut self, uid: &str) {
        if self.pods.contains_key(uid) {
            let uid = Arc::from(uid);
            self.leave(&uid);
            self.pods.remove(&uid);
            self.forget_events();
        }
    }

    /// Takes the next pod out. It stays in flight until one of [`placed`](Self::placed), [`refused`](Self::refused),
    /// [`failed`](Self::failed) or [`remove`](Self::remove) tells what became of it. Pods that back off come when nothing
    /// else is to be done, but not those that failed by an error.
    pub fn next(&mut self, now: Duration) -> Option<Next> {
        self.advance(now);
        let uid = self.active.first().map(|(.., uid)| uid.clone()).or_else(|| {
            let early = |uid: &Uid| matches!(self.pods[uid].place, Place::BackingOff { error: false, .. });
            self.backing_off.iter().map(|(.., uid)| uid).find(|uid| early(uid)).cloned()
        })?;
        self.leave(&uid);
        let from = self.first_event + self.events.len() as u64;
        let entry = self.pods.get_mut(&uid)?;
        entry.attempts += 1;
        entry.place = Place::InFlight { from };
        let next = Next { pod: entry.pod.clone(), attempt: entry.attempts, first: entry.first };
        self.enter(&uid);
        Some(next)
    }

    /// A pod in flight has a node.
    pub fn placed(&mut self, uid: &str) {
        self.remove(uid);
    }

    /// A pod in flight was refused by these plugins. What happened meanwhile may help it already.
    pub fn refused(&mut self, uid: &str, plugins: PluginSet, now: Duration) {
        let Some((uid, from)) = self.in_flight(uid) else { return };
        self.leave(&uid);
        let Some(entry) = self.pods.get_mut(&uid) else { return };
        entry.failures += 1;
        entry.errors = 0;
        entry.since = now;
        let pod = entry.pod.clone();
        let mut missed = self.events.iter().skip((from - self.first_event) as usize);
        let helps = missed.any(|event| event.is_about(&pod) && hints::may_help(plugins, event, &pod));
        if !pod.gates.is_empty() {
            self.move_to(&uid, Place::Gated, None);
            self.count(&uid, FAILED);
        } else if helps {
            self.wake(&uid, now, FAILED);
        } else {
            let group = self.group(&pod, plugins, &uid);
            self.move_to(&uid, Place::Unschedulable(group), Some(now));
            self.count(&uid, FAILED);
        }
        self.forget_events();
    }

    /// Deciding on a pod in flight, or binding it, failed: it is tried again after a while.
    pub fn failed(&mut self, uid: &str, now: Duration) {
        let Some((uid, _)) = self.in_flight(uid) else { return };
        self.leave(&uid);
        let Some(entry) = self.pods.get_mut(&uid) else { return };
        entry.errors += 1;
        entry.since = now;
        let until = now + backoff(self.settings, entry.errors);
        self.move_to(&uid, Place::BackingOff { until, error: true }, Some(now));
        self.count(&uid, FAILED);
        self.forget_events();
    }

    /// Something happened: pods that it may help are tried again, those that were tried not long ago after a while.
    pub fn event(&mut self, event: Event, now: Duration) {
        let helped: Vec<Uid> = self
            .unschedulable
            .iter()
            .filter(|(group, uids)| {
                let one = uids.first().and_then(|uid| self.pods.get(uid));
                one.is_some_and(|entry| hints::may_help(group.plugins, &event, &entry.pod))
            })
            .flat_map(|(_, uids)| uids.iter().cloned())
            .collect();
        for uid in helped {
            self.leave(&uid);
            self.wake(&uid, now, event.label());
        }
        self.happened(event);
    }

    /// Time has passed.
    pub fn advance(&mut self, now: Duration) {
        while let Some((until, _, uid)) = self.backing_off.first().cloned()
            && until <= now
        {
            self.leave(&uid);
            self.move_to(&uid, Place::Active, Some(now));
            self.count(&uid, RESTED);
        }
        while let Some((since, uid)) = self.unschedulable_since.first().cloned()
            && since + self.settings.max_unschedulable <= now
        {
            self.leave(&uid);
            self.wake(&uid, now, WAITED);
        }
    }

    /// Whether a pod is known, in whatever place.
    #[must_use]
    pub fn has(&self, uid: &str) -> bool {
        self.pods.contains_key(uid)
    }

    /// Which pods came into which part since this was last asked.
    pub fn take_incoming(&mut self) -> Incoming {
        std::mem::take(&mut self.incoming)
    }

    /// When [`advance`](Self::advance) has something to do next.
    #[must_use]
    pub fn next_change(&self) -> Option<Duration> {
        let backoff = self.backing_off.first().map(|(until, ..)| *until);
        let flush =
            self.unschedulable_since.first().map(|(since, _)| *since + self.settings.max_unschedulable);
        backoff.into_iter().chain(flush).min()
    }

    /// How many pods are where.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            active: self.active.len(),
            backing_off: self.backing_off.len(),
            unschedulable: self.unschedulable_since.len(),
            gated: self.gated,
            in_flight: self.in_flight.len(),
        }
    }

    /// Kept while somebody is in flight who has not seen it.
    fn happened(&mut self, event: Event) {
        if self.in_flight.is_empty() {
            self.first_event += 1;
        } else {
            self.events.push_back(event);
        }
    }

    /// Events that everybody in flight has seen.
    fn forget_events(&mut self) {
        let end = self.first_event + self.events.len() as u64;
        let first = self.in_flight.first().map_or(end, |(from, _)| *from);
        self.events.drain(..(first - self.first_event) as usize);
        self.first_event = first;
    }

    fn in_flight(&self, uid: &str) -> Option<(Uid, u64)> {
        let (uid, entry) = self.pods.get_key_value(uid)?;
        match entry.place {
            Place::InFlight { from } => Some((uid.clone(), from)),
            _ => None,
        }
    }

    fn group(&self, pod: &Pod, plugins: PluginSet, uid: &Uid) -> Group {
        let number = self.pods.get(uid).map_or(0, |entry| entry.number);
        Group {
            ask: pod.ask.id(),
            terms: pod.terms.id(),
            identity: pod.identity.id(),
            plugins,
            volumes: (!pod.volumes.is_empty()).then_some(number),
        }
    }

    /// To be tried again: at once, or when its time is over. It must be in no place.
    fn wake(&mut self, uid: &Uid, now: Duration, why: &'static str) {
        let Some(entry) = self.pods.get(uid) else { return };
        let until = entry.since + backoff(self.settings, entry.failures);
        if until > now {
            self.move_to(uid, Place::BackingOff { until, error: false }, None);
        } else {
            self.move_to(uid, Place::Active, Some(now));
        }
        self.count(uid, why);
    }

    /// A pod came into its place.
    fn count(&mut self, uid: &Uid, why: &'static str) {
        let Some(entry) = self.pods.get(uid) else { return };
        let part = match entry.place {
            Place::Active => "active",
            Place::BackingOff { .. } => "backoff",
            Place::Unschedulable(_) => "unschedulable",
            Place::Gated => "gated",
            Place::InFlight { .. } => return,
        };
        *self.incoming.entry((why, part)).or_insert(0) += 1;
    }

    /// Into a place, from none.
    fn move_to(&mut self, uid: &Uid, place: Place, since: Option<Duration>) {
        if let Some(entry) = self.pods.get_mut(uid) {
            entry.place = place;
            entry.since = since.unwrap_or(entry.since);
            self.enter(uid);
        }
    }

    fn enter(&mut self, uid: &Uid) {
        let Some(entry) = self.pods.get(uid) else { return };
        match &entry.place {
            Place::Active => {
                self.active.insert(active_key(entry));
            }
            Place::BackingOff { until, .. } => {
                self.backing_off.insert((*until, entry.number, uid.clone()));
            }
            Place::Unschedulable(group) => {
                self.unschedulable.entry(*group).or_default().insert(uid.clone());
                self.unschedulable_since.insert((entry.since, uid.clone()));
            }
            Place::Gated => self.gated += 1,
            Place::InFlight { from } => {
                self.in_flight.insert((*from, uid.clone()));
            }
        }
    }

    fn leave(&mut self, uid: &Uid) {
        let Some(entry) = self.pods.get(uid) else { return };
        match &entry.place {
            Place::Active => {
                self.active.remove(&active_key(entry));
            }
            Place::BackingOff { until, .. } => {
                self.backing_off.remove(&(*until, entry.number, uid.clone()));
            }
            Place::Unschedulable(group) => {
                if let Some(uids) = self.unschedulable.get_mut(group) {
                    uids.remove(uid);
                    if uids.is_empty() {
                        self.unschedulable.remove(group);
                    }
                }
                self.unschedulable_since.remove(&(entry.since, uid.clone()));
            }
            Place::Gated => self.gated -= 1,
            Place::InFlight { from } => {
                self.in_flight.remove(&(*from, uid.clone()));
            }
        }
    }
}

fn active_key(entry: &Entry) -> (Reverse<i32>, Duration, u64, Uid) {
    (Reverse(entry.pod.ask.priority), entry.since, entry.number, entry.pod.uid.clone())
}

/// How long a pod rests after so many failures; not at all after none.
fn backoff(settings: Settings, failures: u32) -> Duration {
    let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
    let factor = 1u32.checked_shl(doublings).unwrap_or(u32::MAX);
    settings.initial_backoff.saturating_mul(factor).min(settings.max_backoff)
}
