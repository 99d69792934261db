//! A counter that each client moves up by one, if nobody was faster.

use super::session::Session;
use crate::checkers::counter::COUNTERS;
use crate::history::{Answer, Compare, KeyValue, Request, Target};

/// Counters in use; few, so that clients meet.
const COUNTERS_AT_A_TIME: u32 = 2;

pub(super) async fn run(mut session: Session) {
    while session.goes_on() {
        let key = format!("{COUNTERS}{}", session.below(COUNTERS_AT_A_TIME));
        if let Some((_, Answer::Range { kvs, .. })) = session.call(Request::get(&key)).await {
            session.call(step(&key, kvs.first())).await;
        }
        session.pause().await;
    }
}

fn step(key: &str, known: Option<&KeyValue>) -> Request {
    let value = known.map_or(0, |kv| kv.value.parse::<i64>().unwrap_or(0)) + 1;
    let revision = known.map_or(0, |kv| kv.mod_revision);
    Request::Txn {
        compares: vec![Compare::equal(key, Target::ModRevision(revision))],
        then: vec![Request::put(key, value.to_string())],
        otherwise: vec![Request::get(key)],
    }
}
