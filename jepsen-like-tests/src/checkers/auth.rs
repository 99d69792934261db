//! Rights: from the moment at which their end is acknowledged, no member gives what they allowed; and what may be done is
//! done.
//!
//! What is under way while rights change may go either way. A read that may be of the past may be so with the rights of the
//! past.

use super::verdict::{Verdict, Violation};
use crate::history::{History, Operation, Outcome, Request};
use crate::secure::{GUEST_KEYS, GUESTS};

/// Whether guests may use keys while a request is under way, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    Surely,
    Perhaps,
    Never,
}

/// What a request makes of Auth being on.
fn turns_on(request: &Request) -> Option<bool> {
    match request {
        Request::AuthEnable => Some(true),
        Request::AuthDisable => Some(false),
        _ => None,
    }
}

/// What a request makes of guests having their role.
fn grants(request: &Request) -> Option<bool> {
    match request {
        Request::AuthGrant => Some(true),
        Request::AuthRevoke => Some(false),
        _ => None,
    }
}

/// What a state is, all the time while `asked` is under way; `None` if that is not known. It is true in the beginning.
fn state(changes: &[&Operation], asked: &Operation, of: fn(&Request) -> Option<bool>) -> Option<bool> {
    let ended_ns = asked.ended_ns().unwrap_or(u64::MAX);
    let mut state = true;
    for change in changes {
        let Some(next) = of(&change.request) else { continue };
        match change.ended_ns() {
            _ if change.has_failed() || change.invoked_ns > ended_ns => {}
            // Changes are asked for one after another, so the last one that is surely done counts.
            Some(done_ns) if done_ns < asked.invoked_ns => state = next,
            // One that nobody answered may be done at any time.
            _ => return None,
        }
    }
    Some(state)
}

fn right(changes: &[&Operation], asked: &Operation) -> Right {
    match state(changes, asked, turns_on) {
        None => Right::Perhaps,
        Some(false) => Right::Surely,
        Some(true) if !is_own(&asked.request) => Right::Never,
        Some(true) => match state(changes, asked, grants) {
            None => Right::Perhaps,
            Some(true) => Right::Surely,
            Some(false) => Right::Never,
        },
    }
}

fn is_denied(operation: &Operation) -> bool {
    matches!(&operation.completed, Some((_, Outcome::Failed { error })) if error.starts_with("PermissionDenied"))
}

fn is_own(request: &Request) -> bool {
    let spans = request.spans();
    spans.iter().all(|span| span.is_one() && span.key.starts_with(GUEST_KEYS))
}

fn judge(history: &History) -> Result<usize, Violation> {
    let is_change =
        |operation: &&Operation| turns_on(&operation.request).or(grants(&operation.request)).is_some();
    let changes: Vec<&Operation> = history.operations.iter().filter(is_change).collect();
    let guests = history.operations.iter().filter(|operation| GUESTS.contains(&operation.client.0));
    let mut checked = 0;
    for asked in guests.filter(|operation| !operation.request.is_serializable()) {
        let (right, done, denied) = (right(&changes, asked), asked.ok().is_some(), is_denied(asked));
        let wrong = match right {
            Right::Never if done => "was done without a right",
            Right::Surely if denied => "was denied, though it had the right",
            _ => {
                checked += usize::from(right != Right::Perhaps && (done || denied));
                continue;
            }
        };
        let what = format!("operation {} of a guest {wrong}", asked.id.0);
        return Err(Violation::new(what).by(changes.iter().map(|change| change.id)).by([asked.id]));
    }
    Ok(checked)
}

/// Checks everything that guests did.
#[must_use]
pub fn check(history: &History) -> Verdict {
    Verdict::of(judge(history))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Answer, ClientId, OperationId};

    const GUEST: u32 = GUESTS.start;

    fn operation(
        client: u32,
        request: Request,
        from_ns: u64,
        to_ns: u64,
        outcome: Option<Outcome>,
    ) -> Operation {
        Operation {
            id: OperationId(from_ns),
            client: ClientId(client),
            member: "m1".to_owned(),
            request,
            invoked_ns: from_ns,
            completed: outcome.map(|outcome| (to_ns, outcome)),
        }
    }

    fn done() -> Option<Outcome> {
        Some(Outcome::Ok { revision: 1, answer: Answer::Done })
    }

    fn denied() -> Option<Outcome> {
        Some(Outcome::Failed { error: "PermissionDenied: etcdserver: permission denied".to_owned() })
    }

    #[test]
    fn nothing_is_done_without_a_right_and_nothing_denied_with_one() {
        let change = |request: Request, from_ns: u64| operation(900, request, from_ns, from_ns + 10, done());
        let lost = |request: Request, from_ns: u64| operation(900, request, from_ns, 0, None);
        let refused =
            |request: Request, from_ns: u64| operation(900, request, from_ns, from_ns + 10, denied());
        let own =
            |from_ns, outcome| operation(GUEST, Request::get("guest/1"), from_ns, from_ns + 10, outcome);
        let other =
            |from_ns, outcome| operation(GUEST, Request::get("secret/1"), from_ns, from_ns + 10, outcome);
        let stale = |from_ns| {
            let request = Request::serializable_range(crate::history::Span::one("guest/1"));
            operation(GUEST, request, from_ns, from_ns + 10, done())
        };
        use Request::{AuthDisable, AuthEnable, AuthGrant, AuthRevoke};
        for (name, operations, expected) in [
            ("used", vec![own(0, done())], Some(1)),
            ("denied for nothing", vec![own(0, denied())], None),
            ("kept out", vec![other(0, denied())], Some(1)),
            ("let in", vec![other(0, done())], None),
            ("revoked", vec![change(AuthRevoke, 100), own(111, done())], None),
            ("revoked and denied", vec![change(AuthRevoke, 100), own(111, denied())], Some(1)),
            ("meanwhile", vec![change(AuthRevoke, 100), own(95, done()), own(105, denied())], Some(0)),
            ("of the past", vec![change(AuthRevoke, 100), stale(120)], Some(0)),
            ("lost revocation", vec![lost(AuthRevoke, 100), own(120, done()), own(140, denied())], Some(0)),
            ("refused revocation", vec![refused(AuthRevoke, 100), own(120, denied())], None),
            (
                "granted again",
                vec![change(AuthRevoke, 100), change(AuthGrant, 200), own(220, denied())],
                None,
            ),
            ("off", vec![change(AuthDisable, 100), other(120, done())], Some(1)),
            ("off and on", vec![change(AuthDisable, 100), change(AuthEnable, 200), other(220, done())], None),
            (
                "off and on without a role",
                vec![
                    change(AuthRevoke, 50),
                    change(AuthDisable, 100),
                    change(AuthEnable, 200),
                    own(220, done()),
                ],
                None,
            ),
        ] {
            let verdict = check(&History { operations, ..History::default() });
            assert_eq!(
                verdict.passed().then_some(verdict.clone()),
                expected.map(|checked| Verdict::Passed { checked }),
                "{name}: {verdict}"
            );
        }
    }
}
