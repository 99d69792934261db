//! Objects that clients create, update and delete, each write guarded by what was read before, and gets and lists of them.

use super::Session;
use crate::masters::client::PREFIX;
use crate::masters::entry::{Object, Outcome, Request};

/// So few that clients meet.
const NAMES: u32 = 6;

/// Goes on until the run ends: `writes` of ten requests write.
pub(super) async fn run(mut session: Session, writes: u32) {
    // What was written last, so that a client also follows up on its own.
    let mut last: Option<Object> = None;
    while session.goes_on() {
        if session.below(10) < writes.max(5) {
            change(&mut session, &mut last).await;
        } else {
            read(&mut session).await;
        }
        session.pause().await;
    }
}

fn any_name(session: &mut Session) -> String {
    format!("{PREFIX}{}", session.below(NAMES))
}

async fn read(session: &mut Session) {
    let stale = session.below(4) == 0;
    let request = match session.below(3) {
        0 => Request::List { stale },
        _ => Request::Get { name: any_name(session), stale },
    };
    session.call(request).await;
}

async fn change(session: &mut Session, last: &mut Option<Object>) {
    let known = match last.take().filter(|_| session.below(2) == 0) {
        Some(object) => Some(object),
        None => {
            let name = any_name(session);
            // Also what is out of date: the guard must hold then.
            let stale = session.below(4) == 0;
            match session.call(Request::Get { name: name.clone(), stale }).await {
                Some(Outcome::Found { object }) => Some(object),
                Some(Outcome::Refused { .. }) => {
                    let value = session.unique();
                    if let Some(Outcome::Done { object }) =
                        session.call(Request::Create { name, value }).await
                    {
                        *last = object;
                    }
                    return;
                }
                _ => None,
            }
        }
    };
    let Some(Object { name, uid, version, .. }) = known else { return };
    let request = match session.below(8) {
        0 => Request::Delete { name, uid, version: Some(version) },
        1 => Request::Delete { name, uid, version: None },
        // Somebody else may have taken it.
        2 => Request::Create { name, value: session.unique() },
        _ => Request::Update { name, version, value: session.unique() },
    };
    if let Some(Outcome::Done { object }) = session.call(request).await {
        *last = object;
    }
}
