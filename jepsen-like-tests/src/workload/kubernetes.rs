//! What an API server asks: objects created, updated and deleted under guard, lists by page, watches from a list on.

use std::time::Duration;

use tokio::sync::watch;

use super::session::{Session, Shared};
use super::watcher::Watcher;
use crate::history::{Answer, Compare, KeyValue, Request, Selection, Span, Target, WatchRequest};

pub(super) const OBJECTS: &str = "registry/pods/";
const NAMESPACES: u32 = 3;
const NAMES: u32 = 8;
/// Objects in one page of a list.
const PAGE: i64 = 5;
/// Pages of a list; more objects than that do not exist.
const PAGES: u32 = NAMESPACES * NAMES / PAGE as u32 + 2;

pub(super) async fn run(mut session: Session) {
    while session.goes_on() {
        if session.below(8) == 0 {
            list(&mut session).await;
        } else {
            change(&mut session).await;
        }
        session.pause().await;
    }
}

async fn change(session: &mut Session) {
    let key = format!("{OBJECTS}{}/{}", session.below(NAMESPACES), session.below(NAMES));
    let Some((_, Answer::Range { kvs, .. })) = session.call(Request::get(&key)).await else { return };
    let known = kvs.first();
    let value = session.unique();
    let then = match known {
        Some(_) if session.below(4) == 0 => Request::Delete { span: Span::one(&key) },
        _ => Request::put(&key, value),
    };
    session.call(guarded(&key, known, then)).await;
}

fn guarded(key: &str, known: Option<&KeyValue>, then: Request) -> Request {
    let revision = known.map_or(0, |kv| kv.mod_revision);
    Request::Txn {
        compares: vec![Compare::equal(key, Target::ModRevision(revision))],
        then: vec![then],
        otherwise: vec![Request::get(key)],
    }
}

/// Reads everything by pages, all of the revision of the first one. Gives that revision.
async fn list(session: &mut Session) -> Option<i64> {
    let mut span = Span::prefix(OBJECTS);
    let mut revision = 0;
    for _ in 0..PAGES {
        let page = Request::Range {
            span: span.clone(),
            limit: PAGE,
            revision,
            serializable: false,
            selection: Selection::default(),
        };
        let (at, answer) = session.call(page).await?;
        if revision == 0 {
            revision = at;
        }
        let Answer::Range { kvs, more, .. } = answer else { return None };
        match kvs.last() {
            Some(last) if more => span.key = format!("{}\0", last.key),
            _ => return Some(revision),
        }
    }
    None
}

/// An informer: a list, a watch from there on for a while, and again.
pub(super) async fn inform(mut session: Session, shared: Shared, last: watch::Receiver<Option<i64>>) {
    while session.goes_on() {
        if let Some(revision) = list(&mut session).await {
            let request = WatchRequest {
                span: Span::prefix(OBJECTS),
                start_revision: revision + 1,
                prev_kv: true,
                no_put: false,
                no_delete: false,
                resumes: None,
            };
            let watcher = Watcher::new(&shared, session.id().0, last.clone()).asking();
            let time = Duration::from_millis(u64::from(500 + session.below(3000)));
            tokio::select! {
                _ = watcher.run(request) => {}
                () = session.rest(time) => {}
            }
        }
        session.pause().await;
    }
}
