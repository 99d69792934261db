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
use crate::metrics::Metrics;

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
    schema: Arc<str>,
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
        inner.metrics.flow.ended(&self.place.level, &self.schema, self.place.seats, self.began.elapsed());
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
        let metrics = &self.0.metrics.flow;
        let mut queued = {
            let mut state = self.0.state.lock();
            let ticket = Ticket(state.next);
            state.next += 1;
            match state.scheduler.arrive(ticket, &classified.level, flow, seats) {
                Arrival::Begins(place) => return Ok(self.permit(place, classified, came)),
                Arrival::Refused(why) => {
                    metrics.refused(&classified.level, &classified.schema, why.name());
                    return Err(too_many_requests());
                }
                Arrival::Waits(place) => {
                    let (granted, grant) = oneshot::channel();
                    state.waiting.insert(ticket, granted);
                    metrics.queued(&place.level, &classified.schema);
                    Queued { limits: self, classified, ticket, place, grant, came, why: Refusal::Cancelled }
                }
            }
        };
        match tokio::time::timeout(self.0.patience, &mut queued.grant).await {
            Ok(Ok(place)) => Ok(self.permit(place, classified, came)),
            Ok(Err(_)) | Err(_) => {
                queued.why = Refusal::TimeOut;
                // Seats may have come at the last moment.
                queued.grant.try_recv().map(|place| self.permit(place, classified, came)).map_err(|_| {
                    drop(queued);
                    too_many_requests()
                })
            }
        }
    }

    fn permit(&self, place: Place, classified: &Classified, came: Instant) -> Permit {
        let began = Instant::now();
        let schema = Arc::clone(&classified.schema);
        self.0.metrics.flow.began(&place.level, &schema, place.seats);
        Permit { limits: self.clone(), place, schema, began, waited: began - came }
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
    classified: &'a Classified,
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
        let (level, schema) = (&self.place.level, &self.classified.schema);
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
        inner.metrics.flow.dequeued(level, schema, self.came.elapsed(), !went);
        if went {
            inner.metrics.flow.refused(level, schema, self.why.name());
        }
    }
}

#[cfg(test)]
#[path = "limits/tests.rs"]
mod tests;
