//! Locks on leases, and writes that carry the lock's token; some holders sleep over the end of their lease.

use std::time::Duration;

use super::session::Session;
use crate::checkers::lock::{GUARDED, LOCKS};
use crate::history::{Answer, Compare, Request, Span, Target};

const NAME: &str = "a";

fn condition(token: i64) -> Vec<Compare> {
    vec![Compare::equal(format!("{LOCKS}{NAME}"), Target::CreateRevision(token))]
}

pub(super) async fn run(mut session: Session) {
    while session.goes_on() {
        hold(&mut session).await;
        session.pause().await;
    }
}

async fn hold(session: &mut Session) {
    let id = session.unique_lease();
    let granted = session.call(Request::LeaseGrant { id, ttl_s: 1 }).await;
    let Some((_, Answer::Lease { ttl_s })) = granted else { return };
    let ttl = Duration::from_secs(u64::try_from(ttl_s).unwrap_or(1));
    let Some(token) = take(session, id, ttl).await else { return };
    for _ in 0..session.below(8) {
        if session.below(6) == 0 {
            // A holder that sleeps does not know what it has lost; its token must not work any more.
            session.rest(ttl * 3 / 2).await;
        } else {
            session.call(Request::LeaseKeepAlive { id }).await;
        }
        let value = format!("{token}:{}", session.unique());
        let write = Request::Txn {
            compares: condition(token),
            then: vec![Request::put(format!("{GUARDED}{NAME}"), value)],
            otherwise: vec![Request::get(format!("{LOCKS}{NAME}"))],
        };
        if !matches!(session.call(write).await, Some((_, Answer::Txn { succeeded: true, .. }))) {
            return;
        }
        session.pause().await;
    }
    match session.below(4) {
        0 => drop(session.call(Request::LeaseRevoke { id }).await),
        // Gone without a word: the lease ends it.
        1 => {}
        _ => {
            let then = vec![Request::Delete { span: Span::one(format!("{LOCKS}{NAME}")) }];
            session.call(Request::Txn { compares: condition(token), then, otherwise: vec![] }).await;
        }
    }
}

/// Tries until the lock is free, as long as the lease lives; the token is the revision that created the lock's key.
async fn take(session: &mut Session, id: i64, ttl: Duration) -> Option<i64> {
    for _ in 0..8 {
        let key = format!("{LOCKS}{NAME}");
        let value = session.unique();
        let take = Request::Txn {
            compares: condition(0),
            then: vec![Request::Put { key: key.clone(), value, lease: id }],
            otherwise: vec![Request::get(key)],
        };
        let (revision, answer) = session.call(take).await?;
        if matches!(answer, Answer::Txn { succeeded: true, .. }) {
            return Some(revision);
        }
        session.rest(ttl / 4).await;
        session.call(Request::LeaseKeepAlive { id }).await?;
        if !session.goes_on() {
            return None;
        }
    }
    None
}
