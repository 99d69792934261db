//! A set to which elements are added, and which is read whole.

use super::session::Session;
use crate::checkers::set::ELEMENTS;
use crate::history::{Compare, Request, Span, Target};

/// Requests of a client before it goes on to a new set, so that reads stay small.
const REQUESTS_PER_SET: u32 = 60;

pub(super) async fn run(mut session: Session) {
    let mut sent = 0;
    while session.goes_on() {
        let prefix = format!("{ELEMENTS}{}/", sent / REQUESTS_PER_SET);
        let key = format!("{prefix}{}", session.unique());
        let request = match session.below(8) {
            0 => Request::range(Span::prefix(prefix)),
            1 => Request::serializable_range(Span::prefix(prefix)),
            // Once more, and only if it is new.
            2 => Request::Txn {
                compares: vec![Compare::equal(key.clone(), Target::CreateRevision(0))],
                then: vec![Request::put(key, "element")],
                otherwise: vec![],
            },
            _ => Request::put(key, "element"),
        };
        session.call(request).await;
        sent += 1;
        session.pause().await;
    }
}
