//! A set: what was added and acknowledged is there in every later state and every later read, what was refused is not.

use std::collections::HashSet;

use super::verdict::{Verdict, Violation};
use crate::history::{Answer, History, Operation, OperationId, Request, Span};

/// Keys of elements begin so.
pub const ELEMENTS: &str = "set/";

/// The element that a request adds.
fn added(request: &Request) -> Option<&str> {
    match request {
        Request::Put { key, .. } => key.starts_with(ELEMENTS).then_some(key.as_str()),
        Request::Txn { then, .. } => then.iter().find_map(added),
        _ => None,
    }
}

fn was_added(operation: &Operation) -> bool {
    match operation.ok() {
        Some((_, Answer::Txn { succeeded, .. })) => *succeeded,
        Some(_) => true,
        None => false,
    }
}

/// Checks whole reads of the set, and what members hold in the end. Elements are never removed.
#[must_use]
pub fn check(history: &History) -> Verdict {
    let adds: Vec<(&str, &Operation)> = history
        .operations
        .iter()
        .filter_map(|operation| added(&operation.request).map(|element| (element, operation)))
        .collect();
    let possible: HashSet<&str> =
        adds.iter().filter(|(_, operation)| !operation.has_failed()).map(|(element, _)| *element).collect();
    let reads =
        history.operations.iter().filter_map(|operation| match (&operation.request, operation.ok()) {
            (
                Request::Range { span, limit: 0, revision: 0, serializable: false, .. },
                Some((_, Answer::Range { kvs, .. })),
            ) if span.key.starts_with(ELEMENTS) => {
                let keys: HashSet<&str> = kvs.iter().map(|kv| kv.key.as_str()).collect();
                Some((span.clone(), keys, operation.invoked_ns, Some(operation.id)))
            }
            _ => None,
        });
    let ends = history.members.iter().map(|member| {
        let keys =
            member.kvs.iter().map(|kv| kv.key.as_str()).filter(|key| key.starts_with(ELEMENTS)).collect();
        (Span::prefix(ELEMENTS), keys, u64::MAX, None)
    });
    let mut checked = 0;
    for (span, keys, began_ns, read) in reads.chain(ends) {
        if let Err(violation) = complete(&span, &keys, began_ns, read, &adds, &possible) {
            return Verdict::of(Err(violation));
        }
        checked += keys.len();
    }
    Verdict::Passed { checked }
}

fn complete(
    span: &Span,
    keys: &HashSet<&str>,
    began_ns: u64,
    read: Option<OperationId>,
    adds: &[(&str, &Operation)],
    possible: &HashSet<&str>,
) -> Result<(), Violation> {
    let reader = read.map_or("a member in the end".to_owned(), |id| format!("read {}", id.0));
    for (element, add) in adds.iter().filter(|(element, add)| span.contains(element) && was_added(add)) {
        if add.ended_ns().is_some_and(|ended_ns| ended_ns < began_ns) && !keys.contains(element) {
            let what = format!("{reader} lacks `{element}`, which operation {} had added", add.id.0);
            return Err(Violation::new(what).by([add.id]).by(read));
        }
    }
    match keys.iter().find(|key| !possible.contains(**key)) {
        Some(foreign) => {
            Err(Violation::new(format!("{reader} has `{foreign}`, which nobody added")).by(read))
        }
        None => Ok(()),
    }
}
