//! Clients of the API servers, each request to one of them by chance. They must write down everything, send nothing twice, and end
//! when they are told to.

pub(crate) mod deployments;
pub(crate) mod informer;
pub(crate) mod leases;
mod objects;
pub(crate) mod picture;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::client::Server;
use super::entry::{Outcome, Request};
use super::recorder::Recorder;
use crate::history::ClientId;

/// A kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Workload {
    /// Guarded creations, updates and deletions, gets and lists through all API servers, and an informer
    Objects,
    /// The same with fewer reads and many informers, who change masters
    Watches,
    /// Deployments and Services that come, grow, roll and go, on hollow nodes
    Deployments,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = clap::ValueEnum::to_possible_value(self);
        f.pad(value.as_ref().map_or("", |value| value.get_name()))
    }
}

impl Workload {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Objects, Self::Watches, Self::Deployments];

    /// How many informers there are.
    #[must_use]
    pub fn informers(self) -> u32 {
        match self {
            Self::Objects => 2,
            Self::Watches => 6,
            Self::Deployments => 1,
        }
    }

    /// Acknowledged requests of a client per second below which a run is no test.
    #[must_use]
    pub fn least_per_client_second(self) -> f64 {
        match self {
            Self::Objects | Self::Watches => 0.5,
            Self::Deployments => 0.1,
        }
    }
}

/// What all clients have in common.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The record.
    pub recorder: Arc<Recorder>,
    /// All API servers.
    pub servers: Vec<Server>,
    /// Becomes true when clients shall end.
    pub stop: watch::Receiver<bool>,
    /// What all chances follow from.
    pub seed: u64,
    /// Pause between two requests.
    pub pace: Duration,
}

/// One client: one request under way at most.
#[derive(Debug)]
pub(crate) struct Session {
    shared: Shared,
    id: ClientId,
    rng: StdRng,
    written: u64,
}

impl Session {
    pub(crate) fn new(shared: &Shared, id: u32) -> Self {
        let seed = shared.seed.wrapping_mul(1009).wrapping_add(u64::from(id));
        Self { shared: shared.clone(), id: ClientId(id), rng: StdRng::seed_from_u64(seed), written: 0 }
    }

    pub(crate) fn goes_on(&self) -> bool {
        !*self.shared.stop.borrow()
    }

    pub(crate) fn below(&mut self, end: u32) -> u32 {
        self.rng.random_range(0..end)
    }

    /// A value that nobody else writes.
    pub(crate) fn unique(&mut self) -> String {
        self.written += 1;
        format!("{}-{}", self.id.0, self.written)
    }

    pub(crate) fn any_server(&mut self) -> Server {
        let index = self.rng.random_range(0..self.shared.servers.len());
        self.shared.servers[index].clone()
    }

    /// Sends a request to any API server; nothing when nobody knows what became of it.
    pub(crate) async fn call(&mut self, request: Request) -> Option<Outcome> {
        let server = self.any_server();
        self.call_at(&server, request).await
    }

    pub(crate) async fn call_at(&mut self, server: &Server, request: Request) -> Option<Outcome> {
        let operation = self.shared.recorder.invoked(self.id, &server.name, request.clone());
        let outcome = server.call(&request).await;
        self.shared.recorder.completed(operation, outcome.clone());
        (!matches!(outcome, Outcome::Unknown { .. })).then_some(outcome)
    }

    /// Rests; a little less or more, so that clients do not march in step.
    pub(crate) async fn pause(&mut self) {
        let pace = self.shared.pace.mul_f64(self.rng.random_range(0.5..1.5));
        let mut stop = self.shared.stop.clone();
        tokio::select! {
            () = tokio::time::sleep(pace) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }
}

/// Starts the clients of a workload. Each ends when the run is to stop, after its present request.
pub(crate) fn start(workload: Workload, shared: &Shared, clients: u32) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for id in 0..clients {
        let session = Session::new(shared, id);
        match workload {
            Workload::Objects => tasks.spawn(objects::run(session, 2)),
            Workload::Watches => tasks.spawn(objects::run(session, 8)),
            // One of them writes objects, so that the informer has something to tell.
            Workload::Deployments if id == 0 => tasks.spawn(objects::run(session, 8)),
            Workload::Deployments => tasks.spawn(deployments::run(session)),
        };
    }
    tasks
}
