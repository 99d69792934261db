//! Linearizability of values alone: a second opinion on registers and small transactions that trusts no revision.
//!
//! Keys that no request joins are judged apart, which is sound: each request then touches one group, and an order of
//! each group can be merged into an order of all.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::search::{Call, Found, search};
use super::verdict::{Verdict, Violation};
use crate::history::{Answer, Compare, History, Operation, Relation, Request, Target};
use crate::shrink::{Budget, smallest_closed};

/// Values of the keys of one group.
type State = BTreeMap<String, String>;

/// Time for one group of keys.
pub const BUDGET: Duration = Duration::from_secs(20);

/// Checks all requests on keys below `prefix`. `pinned` are the open requests that the store says it did, if that is
/// known; other open ones are then left out.
#[must_use]
pub fn check(
    history: &History,
    prefix: &str,
    pinned: Option<&HashMap<usize, i64>>,
    budget: Duration,
) -> Verdict {
    let mut checked = 0;
    for group in groups(history, prefix, pinned) {
        checked += group.len();
        match judge(&group, budget) {
            Found::Linearizable => {}
            Found::OutOfTime => {
                let keys = keys_of(&group[0].request).join(", ");
                let why =
                    format!("no order of {} requests on {keys} was found within {budget:?}", group.len());
                return Verdict::Unknown { why };
            }
            Found::Impossible { .. } => return Verdict::Failed(Box::new(explain(&group))),
        }
    }
    Verdict::Passed { checked }
}

fn explain(group: &[&Operation]) -> Violation {
    let small = Duration::from_millis(500);
    let fails = |some: &[&Operation]| matches!(judge(some, small), Found::Impossible { .. });
    let smallest = smallest_closed(group, Budget::default(), depends, fails);
    let what = format!(
        "no order of {} requests on {} explains their answers; these {} suffice: {}",
        group.len(),
        keys_of(&group[0].request).join(", "),
        smallest.len(),
        smallest.iter().map(|operation| operation.id.0.to_string()).collect::<Vec<_>>().join(", ")
    );
    Violation::new(what).by(smallest.iter().map(|operation| operation.id))
}

fn judge(group: &[&Operation], budget: Duration) -> Found {
    let calls: Vec<Call<&Operation>> = group
        .iter()
        .map(|operation| Call {
            input: *operation,
            invoked_ns: operation.invoked_ns,
            returned_ns: operation.ended_ns(),
        })
        .collect();
    search(&calls, State::new(), |state, operation| step(state, operation), budget)
}

/// Keys of a request that names single keys only, and compares values only.
fn keys_of(request: &Request) -> Vec<String> {
    request.spans().into_iter().map(|span| span.key).collect()
}

fn is_about_values(request: &Request) -> bool {
    match request {
        Request::Range { span, revision, serializable, selection, .. } => {
            span.is_one() && *revision == 0 && !serializable && selection.is_everything()
        }
        Request::Put { .. } => true,
        Request::Delete { span } => span.is_one(),
        Request::Txn { compares, then, otherwise } => {
            let compares_values = |compare: &Compare| {
                compare.span.is_one()
                    && match compare.target {
                        Target::Value(_) => true,
                        Target::CreateRevision(0) => compare.relation == Relation::Equal,
                        _ => false,
                    }
            };
            compares.iter().all(compares_values) && then.iter().chain(otherwise).all(is_about_values)
        }
        _ => false,
    }
}

/// The requests to order, by groups of keys that some request joins.
fn groups<'a>(
    history: &'a History,
    prefix: &str,
    pinned: Option<&HashMap<usize, i64>>,
) -> Vec<Vec<&'a Operation>> {
    let happened = |index: usize, operation: &Operation| match &operation.completed {
        _ if operation.is_open() => {
            operation.request.may_write() && pinned.is_none_or(|pinned| pinned.contains_key(&index))
        }
        _ => operation.ok().is_some(),
    };
    let mut group_of: HashMap<String, usize> = HashMap::new();
    let mut groups: Vec<Vec<&Operation>> = Vec::new();
    for (index, operation) in history.operations.iter().enumerate() {
        let keys = keys_of(&operation.request);
        let ours = !keys.is_empty() && keys.iter().all(|key| key.starts_with(prefix));
        if !ours || !is_about_values(&operation.request) || !happened(index, operation) {
            continue;
        }
        let group = *group_of.get(&keys[0]).unwrap_or(&groups.len());
        if group == groups.len() {
            groups.push(Vec::new());
        }
        for key in keys {
            // Everything that was with the key moves over.
            let other = group_of.insert(key, group).filter(|other| *other != group);
            if let Some(other) = other {
                let moved = std::mem::take(&mut groups[other]);
                groups[group].extend(moved);
                group_of.values_mut().filter(|of| **of == other).for_each(|of| *of = group);
            }
        }
        groups[group].push(operation);
    }
    groups.retain(|group| !group.is_empty());
    groups
}

fn step(state: &State, operation: &Operation) -> Option<State> {
    let mut after = state.clone();
    let expected = operation.ok().map(|(_, answer)| answer);
    run(&operation.request, expected, &mut after).then_some(after)
}

/// Runs a request on values; false when its answer would be another one.
fn run(request: &Request, expected: Option<&Answer>, state: &mut State) -> bool {
    match (request, expected) {
        (Request::Range { span, .. }, Some(Answer::Range { kvs, .. })) => {
            kvs.first().map(|kv| &kv.value) == state.get(&span.key)
        }
        (Request::Range { .. }, None) => true,
        (Request::Put { key, value, .. }, Some(Answer::Put) | None) => {
            state.insert(key.clone(), value.clone());
            true
        }
        (Request::Delete { span }, expected) => {
            let deleted = i64::from(state.remove(&span.key).is_some());
            expected.is_none_or(|answer| *answer == Answer::Delete { deleted })
        }
        (Request::Txn { compares, then, otherwise }, expected) => {
            let succeeds = compares.iter().all(|compare| holds(compare, state));
            let branch = if succeeds { then } else { otherwise };
            match expected {
                None => branch.iter().all(|request| run(request, None, state)),
                Some(Answer::Txn { succeeded, answers }) => {
                    *succeeded == succeeds
                        && answers.len() == branch.len()
                        && branch
                            .iter()
                            .zip(answers)
                            .all(|(request, answer)| run(request, Some(answer), state))
                }
                Some(_) => false,
            }
        }
        _ => false,
    }
}

fn holds(compare: &Compare, state: &State) -> bool {
    let value = state.get(&compare.span.key);
    match &compare.target {
        Target::Value(expected) => value.is_some_and(|value| compare.relation.holds(value, expected)),
        // Nothing else but that it was never created comes here.
        _ => value.is_none(),
    }
}

/// Whether `operation` saw something that `other` wrote, and so makes no sense without it. Values are unique.
fn depends(operation: &&Operation, other: &&Operation) -> bool {
    let mut wrote = Vec::new();
    written(&other.request, &mut wrote);
    let mut saw = Vec::new();
    seen(&operation.request, operation.ok().map(|(_, answer)| answer), &mut saw);
    // A deletion is seen as an absence, which nothing names; then nothing can be told apart.
    saw.iter().any(|value| wrote.contains(value)) || deletes(&other.request)
}

fn deletes(request: &Request) -> bool {
    match request {
        Request::Delete { .. } => true,
        Request::Txn { then, otherwise, .. } => then.iter().chain(otherwise).any(deletes),
        _ => false,
    }
}

fn written<'a>(request: &'a Request, into: &mut Vec<&'a str>) {
    match request {
        Request::Put { value, .. } => into.push(value),
        Request::Txn { then, otherwise, .. } => {
            then.iter().chain(otherwise).for_each(|request| written(request, into));
        }
        _ => {}
    }
}

fn seen<'a>(request: &'a Request, answer: Option<&'a Answer>, into: &mut Vec<&'a str>) {
    if let Request::Txn { compares, .. } = request {
        into.extend(compares.iter().filter_map(|compare| match &compare.target {
            Target::Value(value) => Some(value.as_str()),
            _ => None,
        }));
    }
    match answer {
        Some(Answer::Range { kvs, .. }) => into.extend(kvs.iter().map(|kv| kv.value.as_str())),
        Some(Answer::Txn { answers, .. }) => {
            for answer in answers {
                if let Answer::Range { kvs, .. } = answer {
                    into.extend(kvs.iter().map(|kv| kv.value.as_str()));
                }
            }
        }
        _ => {}
    }
}
