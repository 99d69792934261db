//! Waiting for seats: the one lock around the scheduler, and a channel for each request that waits. Must never hold the lock
//! while it waits, and never lose a seat when a client goes away.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use barque_api::status::Status;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::classify::{Classified, Configuration};
use super::queues::Ticket;
use super::scheduler::{Arrival, Grant, Place, Refusal, Scheduler};
use crate::authorization::User;
use crate::http::request_info::RequestInfo;
use crate::metrics::{Metrics, SchemaMetrics};

/// How much is worked on at once.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// `--max-requests-inflight` and `--max-mutating-requests-inflight` together.
    pub seats: u32,
    /// How long a request may wait: a quarter of the time in which it must be answered.
    pub patience: Duration,
}

/// As Kubernetes has it: 400 and 200 requests, and a quarter of a minute.
impl Default for Settings {
    fn default() -> Self {
        Self { seats: 400 + 200, patience: Duration::from_secs(15) }
    }
}

/// The answer to a request for which there is no room.
#[must_use]
pub fn too_many_requests() -> Status {
    Status::too_many_requests("too many requests, please try again later", 1)
}

struct State {
    scheduler: Scheduler,
    /// Those who wait.
    waiting: HashMap<Ticket, oneshot::Sender<Place>>,
    next: u64,
}

struct Inner {
    state: Mutex<State>,
    configuration: ArcSwap<Configuration>,
    patience: Duration,
    /// Nobody outside can choose which flows meet in a queue.
    hasher: RandomState,
    metrics: Arc<Metrics>,
}

/// See the module's description. Cloning copies a pointer.
#[derive(Clone)]
pub struct Limits(Arc<Inner>);

/// A request is worked on for as long as this lives.
pub struct Permit {
    limits: Limits,
    place: Place,
    metrics: Option<Arc<SchemaMetrics>>,
    began: Instant,
    waited: Duration,
}

impl Permit {
    /// How long it waited.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// How many seats it has; 0 for a request that is exempt.
    #[must_use]
    pub fn seats(&self) -> u32 {
        self.place.seats
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let inner = &self.limits.0;
        {
            let mut state = inner.state.lock();
            let grants = state.scheduler.end(&self.place);
            state.hand_out(grants);
        }
        if let Some(metrics) = &self.metrics {
            metrics.ended(self.place.seats, self.began.elapsed());
        }
    }
}

impl Limits {
    /// With the levels that every cluster has; [`Limits::configure`] brings the others.
    #[must_use]
    pub fn new(settings: Settings, metrics: Arc<Metrics>) -> Self {
        let state = State { scheduler: Scheduler::new(settings.seats), waiting: HashMap::new(), next: 0 };
        let limits = Self(Arc::new(Inner {
            state: Mutex::new(state),
            configuration: ArcSwap::default(),
            patience: settings.patience,
            hasher: RandomState::new(),
            metrics,
        }));
        limits.configure(Configuration::new([], []));
        limits
    }

    /// Takes these schemas and levels in the place of those before.
    pub fn configure(&self, configuration: Configuration) {
        let mut state = self.0.state.lock();
        let grants = state.scheduler.configure(configuration.levels());
        state.hand_out(grants);
        self.0.metrics.flow.configured(configuration.pairs(), state.scheduler.allotments());
        self.0.configuration.store(Arc::new(configuration));
    }

    /// Where a request belongs.
    #[must_use]
    pub fn classify(&self, user: &User, info: &RequestInfo) -> Classified {
        self.0.configuration.load().classify(user, info)
    }

    /// The most seats that one request of a level should have: 15 % of the level's part, as in Kubernetes.
    #[must_use]
    pub fn widest(&self, classified: &Classified) -> u32 {
        let nominal = self.0.state.lock().scheduler.nominal(&classified.level);
        (nominal * 15).div_ceil(100).max(1)
    }

    /// Waits for so many seats. May be dropped while it waits.
    ///
    /// # Errors
    /// 429 with `Retry-After: 1` when there is no room and none may be waited for, or not longer.
    pub async fn admit(&self, classified: &Classified, seats: u32) -> Result<Permit, Status> {
        let came = Instant::now();
        let flow = self.0.hasher.hash_one((&classified.schema, &classified.distinguisher));
        let metrics = self.0.metrics.flow.of(&classified.schema);
        let mut queued = {
            let mut state = self.0.state.lock();
            let ticket = Ticket(state.next);
            state.next += 1;
            match state.scheduler.arrive(ticket, &classified.level, flow, seats) {
                Arrival::Begins(place) => return Ok(self.permit(place, metrics, came)),
                Arrival::Refused(why) => {
                    if let Some(metrics) = metrics {
                        metrics.refused(why.name());
                    }
                    return Err(too_many_requests());
                }
                Arrival::Waits(place) => {
                    let (granted, grant) = oneshot::channel();
                    state.waiting.insert(ticket, granted);
                    if let Some(metrics) = &metrics {
                        metrics.queued();
                    }
                    Queued { limits: self, metrics, ticket, place, grant, came, why: Refusal::Cancelled }
                }
            }
        };
        let granted = match tokio::time::timeout(self.0.patience, &mut queued.grant).await {
            Ok(granted) => granted.ok(),
            // Seats may have come at the last moment.
            Err(_) => queued.grant.try_recv().ok(),
        };
        match granted {
            Some(place) => Ok(self.permit(place, queued.metrics.clone(), came)),
            None => {
                queued.why = Refusal::TimeOut;
                Err(too_many_requests())
            }
        }
    }

    fn permit(&self, place: Place, metrics: Option<Arc<SchemaMetrics>>, came: Instant) -> Permit {
        let began = Instant::now();
        if let Some(metrics) = &metrics {
            metrics.began(place.seats);
        }
        Permit { limits: self.clone(), place, metrics, began, waited: began - came }
    }
}

impl State {
    /// Tells those who waited. One that does not listen any more gives its seats back as it goes, with [`Queued`].
    fn hand_out(&mut self, grants: Vec<Grant>) {
        for (ticket, place) in grants {
            if let Some(granted) = self.waiting.remove(&ticket) {
                let sent = granted.send(place);
                debug_assert!(sent.is_ok(), "who waits takes its name off before it goes");
            }
        }
    }
}

/// A request waits for as long as this lives.
struct Queued<'a> {
    limits: &'a Limits,
    metrics: Option<Arc<SchemaMetrics>>,
    ticket: Ticket,
    place: Place,
    grant: oneshot::Receiver<Place>,
    came: Instant,
    /// Why it goes away, if it goes without seats.
    why: Refusal,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let inner = &self.limits.0;
        let went = {
            let mut state = inner.state.lock();
            let grants = if state.waiting.remove(&self.ticket).is_some() {
                Some(state.scheduler.leave(self.ticket, &self.place))
            } else {
                // Seats that came and that nobody took.
                self.grant.try_recv().ok().map(|place| state.scheduler.end(&place))
            };
            let went = grants.is_some();
            state.hand_out(grants.unwrap_or_default());
            went
        };
        let Some(metrics) = &self.metrics else { return };
        metrics.dequeued(self.came.elapsed(), !went);
        if went {
            metrics.refused(self.why.name());
        }
    }
}

#[cfg(test)]
mod tests;
