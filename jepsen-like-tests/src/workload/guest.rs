//! Guests: they use what they may, try what they may not, and never stop when they are refused.

use super::session::Session;
use crate::history::{Request, Span};
use crate::secure::{GUEST_KEYS, SECRET_KEYS};

pub(super) async fn run(mut session: Session) {
    while session.goes_on() {
        let (key, value) = (format!("{GUEST_KEYS}{}", session.below(3)), session.unique());
        let request = match session.below(10) {
            0..=3 => Request::get(key),
            4..=6 => Request::put(key, value),
            7 => Request::Txn {
                compares: vec![],
                then: vec![Request::put(key.clone(), value), Request::get(key)],
                otherwise: vec![],
            },
            8 => Request::put(format!("{SECRET_KEYS}{value}"), value),
            // From among what it may into what it may not.
            _ => Request::range(Span { key, end: format!("{SECRET_KEYS}z") }),
        };
        session.call(request).await;
        session.pause().await;
    }
}
