//! Keys that change all the time, alone and several at once, for watches to see; and watches that come and go.

use std::time::Duration;

use tokio::sync::watch;

use super::session::{Session, Shared};
use super::watcher::Watcher;
use crate::history::{Request, Span, WatchRequest};

/// Keys begin so.
pub(super) const KEYS: &str = "key/";
const COUNT: u32 = 10;

fn key(number: u32) -> String {
    format!("{KEYS}{}", number % COUNT)
}

pub(super) async fn run(mut session: Session) {
    while session.goes_on() {
        let (number, value) = (session.below(COUNT), session.unique());
        let request = match session.below(10) {
            0..=3 => Request::put(key(number), value),
            4 => Request::Delete { span: Span::one(key(number)) },
            5 => Request::Delete { span: Span { key: key(number), end: key(number + 3) } },
            6..=7 => Request::Txn {
                compares: vec![],
                then: vec![
                    Request::put(key(number), value.clone()),
                    Request::Delete { span: Span::one(key(number + 1)) },
                    Request::put(key(number + 2), value),
                ],
                otherwise: vec![],
            },
            8 => Request::serializable_range(Span::prefix(KEYS)),
            _ => Request::range(Span::prefix(KEYS)),
        };
        session.call(request).await;
        session.pause().await;
    }
}

/// One watch after another, from the past and the future, wide and narrow, until the run is over.
pub(super) async fn watch_here_and_there(
    mut session: Session,
    shared: Shared,
    last: watch::Receiver<Option<i64>>,
    newest: watch::Receiver<i64>,
) {
    while session.goes_on() {
        let from = *newest.borrow() + i64::from(session.below(120)) - 100;
        let span = match session.below(3) {
            0 => Span::one(key(session.below(COUNT))),
            1 => Span::prefix(KEYS),
            _ => Span::everything(),
        };
        let filter = session.below(6);
        let request = WatchRequest {
            span,
            start_revision: from.max(2),
            prev_kv: session.below(2) == 0,
            no_put: filter == 0,
            no_delete: filter == 1,
            resumes: None,
        };
        let time = Duration::from_millis(u64::from(200 + session.below(1500)));
        let member = session.below(16) as usize;
        let watcher = Watcher::new(&shared, session.id().0, last.clone()).beginning_at(member).asking();
        // A client that goes away in the middle of everything.
        tokio::select! {
            _ = watcher.run(request) => {}
            () = session.rest(time) => {}
        }
    }
}
