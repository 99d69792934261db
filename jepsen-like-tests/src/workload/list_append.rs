//! Lists: each append reads one or two lists and writes them back in one transaction if nobody was faster.

use super::session::Session;
use crate::checkers::list_append::LISTS;
use crate::history::{Answer, Compare, Request, Target};

/// Requests of a client before it goes on to new lists, so that they stay short.
const REQUESTS_PER_LIST: u32 = 60;
const LISTS_AT_A_TIME: u32 = 3;

pub(super) async fn run(mut session: Session) {
    let mut sent = 0;
    while session.goes_on() {
        let generation = sent / REQUESTS_PER_LIST;
        let first = session.below(LISTS_AT_A_TIME);
        let count = 1 + session.below(2);
        let keys: Vec<String> = (first..first + count)
            .map(|number| format!("{LISTS}{generation}/{}", number % LISTS_AT_A_TIME))
            .collect();
        append(&mut session, &keys).await;
        sent += 1;
        session.pause().await;
    }
}

async fn append(session: &mut Session, keys: &[String]) {
    let reads = keys.iter().map(Request::get).collect();
    let read = Request::Txn { compares: vec![], then: reads, otherwise: vec![] };
    let Some((_, Answer::Txn { answers, .. })) = session.call(read).await else { return };
    if session.below(4) == 0 {
        return;
    }
    let element = session.unique();
    let (mut compares, mut then) = (Vec::new(), Vec::new());
    for (key, answer) in keys.iter().zip(&answers) {
        let kv = match answer {
            Answer::Range { kvs, .. } => kvs.first(),
            _ => None,
        };
        let revision = kv.map_or(0, |kv| kv.mod_revision);
        compares.push(Compare::equal(key.clone(), Target::ModRevision(revision)));
        let before = kv.map_or("", |kv| kv.value.as_str());
        then.push(Request::put(key, format!("{before}{element} ")));
    }
    let otherwise = keys.iter().map(Request::get).collect();
    session.call(Request::Txn { compares, then, otherwise }).await;
}
