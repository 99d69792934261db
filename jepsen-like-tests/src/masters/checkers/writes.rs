//! Writes: every change is the doing of one request, once, of what the request demanded; what was acknowledged is there; what was
//! refused is not, and was refused with reason; real time is respected. Pure.

use std::collections::{BTreeMap, HashMap};

use super::real_time::RealTime;
use super::truth::{Change, Truth};
use crate::checkers::Violation;
use crate::masters::entry::{Object, Outcome, Request};
use crate::masters::history::{History, Operation};

/// Judges writes; how many.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(history: &History, truth: &Truth) -> Result<usize, Violation> {
    let writes: Vec<&Operation> =
        history.operations.iter().filter(|operation| operation.request.is_write()).collect();
    let mut by_value: HashMap<&str, &Operation> = HashMap::new();
    let mut by_uid: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in &writes {
        match &operation.request {
            Request::Create { value, .. } | Request::Update { value, .. } => {
                by_value.insert(value, operation);
            }
            Request::Delete { uid, .. } => by_uid.entry(uid).or_default().push(operation),
            Request::Get { .. } | Request::List { .. } | Request::Other { .. } => {}
        }
    }
    let mut done_by: HashMap<u64, i64> = HashMap::new();
    for change in truth.changes() {
        let object = &change.object;
        let before = truth.state(&object.name, object.version - 1);
        if change.deleted {
            let all = by_uid.get(object.uid.as_str()).map_or(&[][..], Vec::as_slice);
            deleted(change, before, all)?;
        } else {
            let operation = by_value
                .get(object.value.as_str())
                .ok_or_else(|| Violation::new(format!("nobody wrote {object:?}")).at(object.version))?;
            written(change, before, operation)?;
            if let Some(first) = done_by.insert(operation.id.0, object.version) {
                let what = format!(
                    "request {} was done twice, as {first} and as {}",
                    operation.id.0, object.version
                );
                return Err(Violation::new(what).by([operation.id]).at(object.version));
            }
        }
    }
    for operation in &writes {
        acknowledged(operation, truth, &by_uid)?;
    }
    let real_time = RealTime::of(history, truth);
    in_order(&writes, truth, &real_time)?;
    for operation in &writes {
        refused(operation, truth, &real_time)?;
    }
    Ok(writes.iter().filter(|operation| operation.known().is_some()).count())
}

fn wrong<T>(operation: &Operation, what: impl std::fmt::Display) -> Result<T, Violation> {
    let Operation { id, member, request, completed, .. } = operation;
    let outcome = completed.as_ref().map(|(_, outcome)| outcome);
    Err(Violation::new(format!("request {} to {member}, {request:?}, answered {outcome:?}: {what}", id.0))
        .by([*id]))
}

/// A change that a creation or an update made.
fn written(change: &Change, before: Option<&Object>, operation: &Operation) -> Result<(), Violation> {
    let object = &change.object;
    if operation.is_refused() {
        return wrong(operation, format!("it was refused, and done as version {}", object.version));
    }
    match &operation.request {
        Request::Create { name, .. } | Request::Update { name, .. } if *name != object.name => {
            return wrong(operation, format!("{} has its value", object.name));
        }
        Request::Create { .. } if before.is_some() => {
            return wrong(operation, format!("it was done as version {}, over {before:?}", object.version));
        }
        Request::Update { version, .. } if before.is_none_or(|before| before.version != *version) => {
            return wrong(operation, format!("it was done as version {}, over {before:?}", object.version));
        }
        _ => {}
    }
    if let Some((_, Some(answer))) = operation.done()
        && answer != object
    {
        return wrong(operation, format!("informers were told {object:?}"));
    }
    Ok(())
}

/// A change that a deletion made; `all` are those of this object.
fn deleted(change: &Change, before: Option<&Object>, all: &[&Operation]) -> Result<(), Violation> {
    let fits = |operation: &&&Operation| {
        let Request::Delete { name, version, .. } = &operation.request else { return false };
        *name == change.object.name
            && version.is_none_or(|version| before.is_some_and(|before| before.version == version))
    };
    let mut fitting = all.iter().filter(fits);
    if !fitting.clone().any(|operation| !operation.is_refused()) {
        let what =
            format!("nobody deleted {:?}, which was {before:?}; of it were asked {all:?}", change.object);
        return Err(Violation::new(what)
            .by(all.iter().map(|operation| operation.id))
            .at(change.object.version));
    }
    // Who was told that it is done by him demanded what was.
    if let Some(other) = all.iter().find(|one| one.done().is_some() && !fitting.any(|fits| fits.id == one.id))
    {
        return wrong(other, format!("the object was {before:?} when it went"));
    }
    Ok(())
}

/// What was acknowledged is part of the history.
fn acknowledged(
    operation: &Operation,
    truth: &Truth,
    by_uid: &BTreeMap<&str, Vec<&Operation>>,
) -> Result<(), Violation> {
    let Some((_, answer)) = operation.done() else { return Ok(()) };
    match (&operation.request, answer) {
        (Request::Delete { uid, .. }, _) => {
            if !truth.changes().any(|change| change.deleted && change.object.uid == *uid) {
                return wrong(operation, "it was acknowledged, and the object never went");
            }
            let others = by_uid.get(uid.as_str()).into_iter().flatten();
            if let Some(other) =
                others.filter(|other| other.done().is_some()).find(|other| other.id != operation.id)
            {
                return wrong(operation, format!("request {} deleted the same object", other.id.0));
            }
            Ok(())
        }
        (_, None) => wrong(operation, "it was acknowledged without an object"),
        (_, Some(object)) => match truth.at(object.version) {
            Some(change) if change.object == *object && !change.deleted => Ok(()),
            other => wrong(operation, format!("it was acknowledged, and lost: its version is {other:?}")),
        },
    }
}

/// Which version a write became, if it did.
fn version_of(operation: &Operation, truth: &HashMap<(&str, bool), i64>) -> Option<i64> {
    match &operation.request {
        Request::Create { value, .. } | Request::Update { value, .. } => {
            truth.get(&(value.as_str(), false)).copied()
        }
        Request::Delete { uid, .. } => {
            operation.done()?;
            truth.get(&(uid.as_str(), true)).copied()
        }
        Request::Get { .. } | Request::List { .. } | Request::Other { .. } => None,
    }
}

/// What was known to be done before a write was sent is older than it.
fn in_order(writes: &[&Operation], truth: &Truth, real_time: &RealTime) -> Result<(), Violation> {
    let versions: HashMap<(&str, bool), i64> = truth
        .changes()
        .map(|change| {
            let of = if change.deleted { &change.object.uid } else { &change.object.value };
            ((of.as_str(), change.deleted), change.object.version)
        })
        .collect();
    for operation in writes {
        let Some(version) = version_of(operation, &versions) else { continue };
        let least = real_time.least(operation.invoked_ns);
        if version <= least {
            let what = format!("it became version {version}, though {least} was known before it was sent");
            return wrong(operation, what);
        }
    }
    Ok(())
}

/// What was refused because of the state of the object: there was such a state while the request was under way.
fn refused(operation: &Operation, truth: &Truth, real_time: &RealTime) -> Result<(), Violation> {
    let Some((_, Outcome::Refused { code, reason })) = &operation.completed else { return Ok(()) };
    let Some((least, most)) = real_time.window(operation) else { return Ok(()) };
    let was =
        |name: &str, state: &dyn Fn(Option<&Object>) -> bool| truth.states(name, least, most).any(state);
    let reasonable = match (&operation.request, reason.as_str()) {
        (Request::Create { name, .. }, "AlreadyExists") => was(name, &|state| state.is_some()),
        (Request::Update { name, .. } | Request::Delete { name, .. }, "NotFound") => {
            was(name, &|state| state.is_none())
        }
        (Request::Update { name, version, .. }, "Conflict") => {
            was(name, &|state| state.is_none_or(|object| object.version != *version))
        }
        (Request::Delete { name, uid, version }, "Conflict") => was(name, &|state| {
            state.is_none_or(|object| {
                object.uid != *uid || version.is_some_and(|version| version != object.version)
            })
        }),
        // Too many requests.
        (_, _) if *code == 429 => true,
        _ => false,
    };
    if reasonable {
        Ok(())
    } else {
        wrong(operation, format!("nothing between versions {least} and {most} is a reason"))
    }
}
