//! Clients with a purpose: each workload is a kind of traffic that one or more checkers can judge.
//!
//! Clients must never send a request twice, and write down everything. They are bounded: in number, in pace,
//! and in what they keep.

mod counter;
mod guest;
mod keys;
mod kubernetes;
mod lease;
mod list_append;
mod lock;
mod register;
mod session;
mod set;
mod transactions;
mod watcher;
mod wire;

use std::fmt;

use tokio::sync::watch;
use tokio::task::JoinSet;

pub use session::{Endpoint, Session, Shared};
#[cfg(test)]
pub(crate) use transactions::Memory as TransactionMemory;
pub use watcher::Watcher;
pub(crate) use wire::{call, key_value, watch as watch_of};

/// What the keys of all workloads begin with.
pub(crate) const PREFIXES: [&str; 10] = [
    crate::checkers::REGISTERS,
    crate::checkers::list_append::LISTS,
    crate::checkers::set::ELEMENTS,
    crate::checkers::counter::COUNTERS,
    keys::KEYS,
    lease::LEASED,
    lease::KEPT,
    crate::checkers::lock::LOCKS,
    crate::checkers::lock::GUARDED,
    kubernetes::OBJECTS,
];

/// Clients whose rights come and go, beside those of a workload.
pub(crate) fn start_guests(shared: &Shared, into: &mut JoinSet<()>) {
    for id in crate::secure::GUESTS {
        into.spawn(guest::run(Session::new(shared, id)));
    }
}

/// A kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Workload {
    /// Registers with compare-and-swap, and transactions over two
    Register,
    /// Lists that transactions append to
    ListAppend,
    /// A set that only grows
    Set,
    /// A counter moved by transactions
    Counter,
    /// Keys changed alone and together, and watches from everywhere
    Watch,
    /// Leases granted, renewed, revoked and forgotten
    Lease,
    /// Locks with tokens that guard writes
    Lock,
    /// Guarded updates, lists by page, informers
    Kubernetes,
    /// Transactions of every form: all conditions, spans, leases, transactions within, sorted and bounded ranges
    Transactions,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = clap::ValueEnum::to_possible_value(self);
        f.pad(value.as_ref().map_or("", |value| value.get_name()))
    }
}

impl Workload {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Register,
        Self::ListAppend,
        Self::Set,
        Self::Counter,
        Self::Watch,
        Self::Lease,
        Self::Lock,
        Self::Kubernetes,
        Self::Transactions,
    ];

    /// Keys that vanish by themselves when nobody renews their leases begin so.
    #[must_use]
    pub fn leased_prefix(self) -> Option<&'static str> {
        match self {
            Self::Lease => Some(lease::LEASED),
            Self::Lock => Some(crate::checkers::lock::LOCKS),
            Self::Transactions => Some(transactions::LEASED),
            _ => None,
        }
    }

    /// Acknowledged requests of a client per second below which a run counts as idle. Leases and locks wait for time to
    /// pass; others send without rest, but slow machines and long faults shall not fail a run.
    #[must_use]
    pub fn least_per_client_second(self) -> f64 {
        match self {
            Self::Lease | Self::Lock => 0.25,
            _ => 1.0,
        }
    }

    /// Starts `clients` clients. Each ends when the run is to stop, after its present request.
    #[must_use]
    pub fn start(
        self,
        shared: &Shared,
        clients: u32,
        last: &watch::Receiver<Option<i64>>,
        newest: &watch::Receiver<i64>,
    ) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for id in 0..clients {
            let session = Session::new(shared, id);
            match self {
                Self::Register => tasks.spawn(register::run(session)),
                Self::ListAppend => tasks.spawn(list_append::run(session)),
                Self::Set => tasks.spawn(set::run(session)),
                Self::Counter => tasks.spawn(counter::run(session)),
                Self::Watch if id % 2 == 1 => tasks.spawn(keys::watch_here_and_there(
                    session,
                    shared.clone(),
                    last.clone(),
                    newest.clone(),
                )),
                Self::Watch => tasks.spawn(keys::run(session)),
                Self::Lease => tasks.spawn(lease::run(session)),
                Self::Lock => tasks.spawn(lock::run(session)),
                Self::Kubernetes if id % 3 == 2 => {
                    tasks.spawn(kubernetes::inform(session, shared.clone(), last.clone()))
                }
                Self::Kubernetes => tasks.spawn(kubernetes::run(session)),
                Self::Transactions => tasks.spawn(transactions::run(session)),
            };
        }
        tasks
    }
}
