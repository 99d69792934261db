//! A counter by transactions: each acknowledged step happened once, and no other steps but open ones.

use std::collections::HashMap;

use super::past::Past;
use super::verdict::{Verdict, Violation};
use crate::history::{Answer, History, Operation, Request};

/// Keys of counters begin so.
pub const COUNTERS: &str = "counter/";

/// The counter and the value that a request would set.
fn step_of(request: &Request) -> Option<(&str, i64)> {
    let Request::Txn { then, .. } = request else { return None };
    match then.first() {
        Some(Request::Put { key, value, .. }) if key.starts_with(COUNTERS) => {
            Some((key, value.parse().ok()?))
        }
        _ => None,
    }
}

/// Checks that counters go up by ones, each of which somebody asked for.
#[must_use]
pub fn check(history: &History, past: &Past) -> Verdict {
    Verdict::of(steps(past).and_then(|checked| sums(history, past).map(|()| checked)))
}

fn steps(past: &Past) -> Result<usize, Violation> {
    let mut values: HashMap<&str, i64> = HashMap::new();
    let mut checked = 0;
    for revision in past.revisions() {
        for event in past.events(revision).iter().filter(|event| event.kv.key.starts_with(COUNTERS)) {
            let value = event.kv.value.parse().unwrap_or(i64::MIN);
            let before = values.insert(&event.kv.key, value).unwrap_or(0);
            if value != before + 1 {
                let what = format!("at revision {revision} `{}` went from {before} to {value}", event.kv.key);
                return Err(Violation::new(what).at(revision));
            }
            checked += 1;
        }
    }
    Ok(checked)
}

fn sums(history: &History, past: &Past) -> Result<(), Violation> {
    let mut done: HashMap<(&str, i64), &Operation> = HashMap::new();
    let mut open: HashMap<&str, i64> = HashMap::new();
    for operation in &history.operations {
        let Some(step) = step_of(&operation.request) else { continue };
        if operation.is_open() {
            *open.entry(step.0).or_default() += 1;
        } else if let Some((_, Answer::Txn { succeeded: true, .. })) = operation.ok()
            && let Some(other) = done.insert(step, operation)
        {
            let what = format!(
                "operations {} and {} both moved `{}` to {}",
                other.id.0, operation.id.0, step.0, step.1
            );
            return Err(Violation::new(what).by([other.id, operation.id]));
        }
    }
    let mut counts: HashMap<&str, i64> = HashMap::new();
    done.keys().for_each(|(key, _)| *counts.entry(key).or_default() += 1);
    for (key, count) in counts {
        let end = past.get(key, past.newest()).and_then(|kv| kv.value.parse::<i64>().ok()).unwrap_or(0);
        let most = count + open.get(key).copied().unwrap_or(0);
        if end < count || end > most {
            let what = format!(
                "`{key}` ends with {end}, but {count} steps were acknowledged and at most {most} asked for"
            );
            return Err(Violation::new(what).at(past.newest()));
        }
    }
    Ok(())
}
