//! A client at work: one request at a time, each taken down before it is sent and after it is answered.
//!
//! A request is never sent twice. Whether one that failed may have happened is decided here, on the safe side.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

use super::wire;
use crate::client::Client;
use crate::history::{Answer, ClientId, Outcome, Recorder, Request};
use crate::secure::Doors;

/// A request that takes longer counts as unanswered.
pub(super) const REQUEST_PATIENCE: Duration = Duration::from_secs(3);

/// A login that takes longer is given up. Comparing passwords is slow on purpose, and given up it was for nothing.
pub(super) const LOGIN_PATIENCE: Duration = Duration::from_secs(6);

/// Pause after a failure, so that clients of a dead cluster do not spin.
const BACK_OFF: Duration = Duration::from_millis(50);

/// A member as clients know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name.
    pub name: String,
    /// Its URL.
    pub url: String,
}

/// What all clients of a run share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The record.
    pub recorder: Arc<Recorder>,
    /// The members, as they change.
    pub endpoints: watch::Receiver<Vec<Endpoint>>,
    /// True when clients shall come to an end.
    pub stop: watch::Receiver<bool>,
    /// What all chances of the run follow from.
    pub seed: u64,
    /// Pause between two requests of a client.
    pub pace: Duration,
    /// How clients come in.
    pub doors: Doors,
}

/// One client.
pub struct Session {
    shared: Shared,
    id: ClientId,
    endpoints: watch::Receiver<Vec<Endpoint>>,
    /// Which of the members this one begins with.
    member: usize,
    name: String,
    client: Client,
    numbers: u64,
    /// This client's chances.
    pub rng: StdRng,
}

impl Session {
    /// A client that begins with member `id` and goes on to the next whenever its own fails.
    #[must_use]
    pub fn new(shared: &Shared, id: u32) -> Self {
        let mut endpoints = shared.endpoints.clone();
        let first = endpoints.borrow_and_update();
        let member = id as usize % first.len();
        let Endpoint { name, url } = first[member].clone();
        drop(first);
        let rng = StdRng::seed_from_u64(shared.seed ^ (u64::from(id) << 32));
        let (shared, id) = (shared.clone(), ClientId(id));
        let client = Client::through(&url, shared.doors.of(id));
        Self { shared, id, endpoints, member, name, client, numbers: 0, rng }
    }

    /// Whether to go on.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        !*self.shared.stop.borrow()
    }

    /// Who this is.
    #[must_use]
    pub fn id(&self) -> ClientId {
        self.id
    }

    /// Text that nobody else writes in this run.
    pub fn unique(&mut self) -> String {
        self.numbers += 1;
        format!("{}-{}", self.id.0, self.numbers)
    }

    /// A lease id that nobody else uses in this run.
    pub fn unique_lease(&mut self) -> i64 {
        self.numbers += 1;
        (i64::from(self.id.0) + 1) * 1_000_000_000 + i64::try_from(self.numbers).unwrap_or(0)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u32) -> u32 {
        self.rng.random_range(0..end)
    }

    /// Waits until the next request is due, or until it is over.
    pub async fn pause(&mut self) {
        self.rest(self.shared.pace).await;
    }

    /// Does nothing for a while, or until it is over.
    pub async fn rest(&mut self, time: Duration) {
        // Whoever could stop it may be gone; then the pause is the whole time.
        let _ = timeout(time, self.shared.stop.clone().wait_for(|stop| *stop)).await;
    }

    /// Sends a request, takes down both ends, and answers with revision and answer if it was done.
    pub async fn call(&mut self, request: Request) -> Option<(i64, Answer)> {
        if self.endpoints.has_changed().unwrap_or(false) {
            self.turn_to(self.member);
        }
        if !matches!(timeout(LOGIN_PATIENCE, self.client.enter()).await, Ok(true)) {
            self.go_elsewhere().await;
            return None;
        }
        let operation = self.shared.recorder.invoked(self.id, &self.name, request.clone());
        let outcome = match timeout(REQUEST_PATIENCE, send(&self.client, &request)).await {
            Ok(Ok((revision, answer))) => Outcome::Ok { revision, answer },
            Ok(Err(status)) => {
                self.client.refused(&status);
                judge(&status)
            }
            Err(_) => Outcome::Unknown { error: format!("no answer within {REQUEST_PATIENCE:?}") },
        };
        self.shared.recorder.completed(operation, outcome.clone());
        match outcome {
            Outcome::Ok { revision, answer } => Some((revision, answer)),
            Outcome::Failed { .. } | Outcome::Unknown { .. } => {
                self.go_elsewhere().await;
                None
            }
        }
    }

    async fn go_elsewhere(&mut self) {
        self.turn_to(self.member + 1);
        sleep(BACK_OFF).await;
    }

    fn turn_to(&mut self, member: usize) {
        let endpoints = self.endpoints.borrow_and_update();
        self.member = member % endpoints.len();
        let Endpoint { name, url } = endpoints[self.member].clone();
        drop(endpoints);
        if name != self.name {
            self.client = Client::through(&url, self.shared.doors.of(self.id));
            self.name = name;
        }
    }
}

/// What is known of a request that failed.
fn judge(status: &Status) -> Outcome {
    let error = format!("{:?}: {}", status.code(), status.message());
    let refused = match status.code() {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::Unimplemented => true,
        // The store has looked at it and said no; a limit of the transport proves nothing.
        Code::ResourceExhausted => status.message().starts_with("etcdserver:"),
        // Without a connection nothing was sent.
        Code::Unavailable => never_sent(status),
        _ => false,
    };
    if refused { Outcome::Failed { error } } else { Outcome::Unknown { error } }
}

fn never_sent(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(why) = cause {
        let refused = why
            .downcast_ref::<std::io::Error>()
            .is_some_and(|why| why.kind() == std::io::ErrorKind::ConnectionRefused);
        if refused {
            return true;
        }
        cause = why.source();
    }
    false
}

async fn send(client: &Client, request: &Request) -> Result<(i64, Answer), Status> {
    let reply = wire::call(request).send(client).await?;
    Ok((reply.revision(), wire::answer(&reply)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_happened_is_unknown() {
        for (status, refused) in [
            (Status::invalid_argument("etcdserver: key is not provided"), true),
            (Status::not_found("etcdserver: requested lease not found"), true),
            (Status::resource_exhausted("etcdserver: too many requests"), true),
            (Status::resource_exhausted("h2 protocol error"), false),
            (Status::unavailable("etcdserver: request timed out"), false),
            (Status::unavailable("etcdserver: leader changed"), false),
            (Status::deadline_exceeded(""), false),
            (Status::cancelled(""), false),
            (Status::unknown("transport error"), false),
            (Status::internal(""), false),
        ] {
            assert_eq!(matches!(judge(&status), Outcome::Failed { .. }), refused, "{status:?}");
        }
    }
}
