//! Lists that only grow: each element once, each read a beginning of what the list became, nothing acknowledged missing.

use std::collections::{HashMap, HashSet};

use super::past::Past;
use super::verdict::{Verdict, Violation};
use crate::history::{Answer, History, KeyValue, Operation, Request};

/// Keys of lists begin so; a value is the elements, each with a space behind it.
pub const LISTS: &str = "list/";

/// Checks the lists of the history and every read of one.
#[must_use]
pub fn check(history: &History, past: &Past) -> Verdict {
    Verdict::of(growth(past).and_then(|ends| reads(history, &ends)))
}

/// The final value of each list, if each grew and no element is there twice.
fn growth(past: &Past) -> Result<HashMap<&str, &str>, Violation> {
    let mut lists: HashMap<&str, &str> = HashMap::new();
    for revision in past.revisions() {
        for event in past.events(revision).iter().filter(|event| event.kv.key.starts_with(LISTS)) {
            let before = lists.insert(&event.kv.key, &event.kv.value).unwrap_or("");
            if !event.kv.value.starts_with(before) {
                let what = format!(
                    "at revision {revision} `{}` became `{}` and lost something of `{before}`",
                    event.kv.key, event.kv.value
                );
                return Err(Violation::new(what).at(revision));
            }
        }
    }
    for (key, list) in &lists {
        let mut seen = HashSet::new();
        if let Some(twice) = list.split_whitespace().find(|element| !seen.insert(*element)) {
            return Err(Violation::new(format!("`{key}` holds {twice} twice")));
        }
    }
    Ok(lists)
}

fn reads(history: &History, ends: &HashMap<&str, &str>) -> Result<usize, Violation> {
    let mut checked = 0;
    for operation in &history.operations {
        let Some((_, answer)) = operation.ok() else { continue };
        let mut found = Vec::new();
        lists_in(answer, &mut found);
        for kv in found {
            let end = ends.get(kv.key.as_str()).copied().unwrap_or("");
            if !end.starts_with(kv.value.as_str()) {
                let what = format!(
                    "operation {} read `{}` of `{}`, which ended as `{end}`",
                    operation.id.0, kv.value, kv.key
                );
                return Err(Violation::new(what).by([operation.id]));
            }
            checked += 1;
        }
        kept(operation, answer, ends)?;
    }
    Ok(checked)
}

fn lists_in<'a>(answer: &'a Answer, into: &mut Vec<&'a KeyValue>) {
    match answer {
        Answer::Range { kvs, .. } => into.extend(kvs.iter().filter(|kv| kv.key.starts_with(LISTS))),
        Answer::Txn { answers, .. } => answers.iter().for_each(|answer| lists_in(answer, into)),
        _ => {}
    }
}

/// What an acknowledged append wrote is a beginning of the end.
fn kept(operation: &Operation, answer: &Answer, ends: &HashMap<&str, &str>) -> Result<(), Violation> {
    let (Request::Txn { then, .. }, Answer::Txn { succeeded: true, .. }) = (&operation.request, answer)
    else {
        return Ok(());
    };
    for request in then {
        if let Request::Put { key, value, .. } = request
            && key.starts_with(LISTS)
            && !ends.get(key.as_str()).is_some_and(|end| end.starts_with(value.as_str()))
        {
            let what = format!("operation {} appended to `{key}`, which lost it", operation.id.0);
            return Err(Violation::new(what).by([operation.id]));
        }
    }
    Ok(())
}
