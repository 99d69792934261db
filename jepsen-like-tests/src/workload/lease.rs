//! Leases that are granted, carry keys, are renewed for a while, and then end in every way there is.

use std::time::Duration;

use super::session::Session;
use crate::history::{Answer, Request, Span};

/// Keys that hang on leases begin so.
pub(super) const LEASED: &str = "leased/";
/// Keys that were taken off a lease begin so.
pub(super) const KEPT: &str = "kept/";

pub(super) async fn run(mut session: Session) {
    while session.goes_on() {
        one_lease(&mut session).await;
        session.pause().await;
    }
}

async fn one_lease(session: &mut Session) {
    let id = session.unique_lease();
    let ttl_s = 1 + i64::from(session.below(2));
    let Some((_, Answer::Lease { ttl_s })) = session.call(Request::LeaseGrant { id, ttl_s }).await else {
        return;
    };
    let key = |number: u32| format!("{LEASED}{id}/{number}");
    for number in 0..=session.below(3) {
        let value = session.unique();
        let put = Request::Put { key: key(number), value, lease: id };
        if session.call(put).await.is_none() {
            return;
        }
    }
    let third = Duration::from_secs(u64::try_from(ttl_s).unwrap_or(1)) / 3;
    for _ in 0..session.below(6) {
        session.rest(third).await;
        let alive = session.call(Request::LeaseKeepAlive { id }).await;
        if !matches!(alive, Some((_, Answer::Lease { ttl_s: 1.. }))) {
            return;
        }
        let span = Span::prefix(format!("{LEASED}{id}/"));
        session.call(Request::range(span)).await;
    }
    match session.below(5) {
        0 => drop(session.call(Request::LeaseRevoke { id }).await),
        1 => drop(session.call(Request::Delete { span: Span::one(key(0)) }).await),
        // One key is taken off the lease and stays.
        2 => drop(session.call(Request::put(format!("{KEPT}{id}"), "no lease")).await),
        // It runs out by itself.
        _ => {}
    }
}
