//! Locks: nobody takes a lock that another surely holds, and what a lock guards is changed only with its newest token.
//!
//! A holder can lose its lease without knowing, so the lock alone keeps nobody out. Guarded writes carry the revision
//! that created the lock's key, and the store compares it: this is what makes them safe, and what is checked.

use std::collections::HashMap;

use super::clocks;
use super::past::Past;
use super::verdict::{Verdict, Violation};
use crate::history::{Answer, ClientId, Compare, History, Operation, Request, Target};

/// Keys of locks begin so.
pub const LOCKS: &str = "lock/";
/// Keys that a lock guards begin so, followed by the lock's name; their values begin with the token and a colon.
pub const GUARDED: &str = "guarded/";

/// Checks tokens by the history, and holders by what clients knew.
#[must_use]
pub fn check(history: &History, past: &Past) -> Verdict {
    Verdict::of(tokens(past).and_then(|tokens| Ok(tokens + holders(history)?)))
}

fn tokens(past: &Past) -> Result<usize, Violation> {
    let mut highest: HashMap<&str, i64> = HashMap::new();
    let mut checked = 0;
    for revision in past.revisions() {
        for event in past.events(revision).iter().filter(|event| !event.deleted) {
            let Some(name) = event.kv.key.strip_prefix(GUARDED) else { continue };
            let token = event.kv.value.split(':').next().and_then(|token| token.parse().ok()).unwrap_or(0);
            let lock = format!("{LOCKS}{name}");
            let held = past.get(&lock, revision - 1).map(|kv| kv.create_revision);
            if held != Some(token) {
                let what =
                    format!("revision {revision} changed `{name}` with token {token}; the lock had {held:?}");
                return Err(Violation::new(what).at(revision));
            }
            let before = highest.insert(name, token).unwrap_or(0);
            if token < before {
                let what = format!("revision {revision} changed `{name}` with token {token} after {before}");
                return Err(Violation::new(what).at(revision));
            }
            checked += 1;
        }
    }
    Ok(checked)
}

/// A time in which a client surely held a lock.
struct Held<'a> {
    client: ClientId,
    from_ns: u64,
    to_ns: u64,
    by: &'a Operation,
}

/// The lease of a request that takes a lock, with the lock's key.
fn takes(request: &Request) -> Option<(&str, i64)> {
    let Request::Txn { compares, then, .. } = request else { return None };
    match (compares.as_slice(), then.as_slice()) {
        ([Compare { target: Target::CreateRevision(0), .. }], [Request::Put { key, lease, .. }, ..])
            if key.starts_with(LOCKS) =>
        {
            Some((key, *lease))
        }
        _ => None,
    }
}

fn holders(history: &History) -> Result<usize, Violation> {
    let mut held: HashMap<&str, Vec<Held<'_>>> = HashMap::new();
    for operation in &history.operations {
        let Some((key, lease)) = takes(&operation.request) else { continue };
        let (Some((_, Answer::Txn { succeeded: true, .. })), Some(from_ns)) =
            (operation.ok(), operation.ended_ns())
        else {
            continue;
        };
        let to_ns = surely_until(history, operation, key, lease);
        held.entry(key).or_default().push(Held { client: operation.client, from_ns, to_ns, by: operation });
    }
    let mut checked = 0;
    for (key, holds) in &held {
        for taken in holds {
            let inside = |other: &&Held<'_>| {
                other.from_ns < taken.by.invoked_ns
                    && taken.from_ns < other.to_ns
                    && other.by.id != taken.by.id
            };
            if let Some(other) = holds.iter().find(inside) {
                let what = format!(
                    "client {} took `{key}` with operation {} while client {} surely held it since operation {}",
                    taken.client.0, taken.by.id.0, other.client.0, other.by.id.0
                );
                return Err(Violation::new(what).by([other.by.id, taken.by.id]));
            }
            checked += 1;
        }
    }
    Ok(checked)
}

/// Until when a lock is surely held: until its holder began to give it back, or its lease may have run out.
fn surely_until(history: &History, taken: &Operation, key: &str, lease: i64) -> u64 {
    let (mut until_ns, mut released_ns) = (0, u64::MAX);
    for operation in history.operations.iter().filter(|operation| operation.client == taken.client) {
        match &operation.request {
            Request::LeaseGrant { id, .. } | Request::LeaseKeepAlive { id } if *id == lease => {
                if let Some((_, Answer::Lease { ttl_s: ttl_s @ 1.. })) = operation.ok() {
                    until_ns =
                        until_ns.max(clocks::surely_until(&history.faults, operation.invoked_ns, *ttl_s));
                }
            }
            Request::LeaseRevoke { id } if *id == lease => {
                released_ns = released_ns.min(operation.invoked_ns);
            }
            request if operation.invoked_ns > taken.invoked_ns && gives_back(request, key) => {
                released_ns = released_ns.min(operation.invoked_ns);
            }
            _ => {}
        }
    }
    until_ns.min(released_ns)
}

fn gives_back(request: &Request, key: &str) -> bool {
    match request {
        Request::Delete { span } => span.contains(key),
        Request::Txn { then, .. } => then.iter().any(|request| gives_back(request, key)),
        _ => false,
    }
}
