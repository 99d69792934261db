//! Reads: what was answered is a state that was. By default it is not older than anything that was known to be done before the read
//! was sent; with `resourceVersion=0` it may be. Nobody reads what was asked for later. Pure.

use super::real_time::RealTime;
use super::truth::Truth;
use crate::checkers::Violation;
use crate::masters::entry::{Object, Outcome, Request};
use crate::masters::history::{History, Operation};

/// Judges reads; how many.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(history: &History, truth: &Truth) -> Result<usize, Violation> {
    let real_time = RealTime::of(history, truth);
    let mut checked = 0;
    for operation in &history.operations {
        let (Some((_, outcome)), Some((least, most))) = (operation.known(), real_time.window(operation))
        else {
            continue;
        };
        let judged = match (&operation.request, outcome) {
            (Request::Get { name, stale }, Outcome::Found { object }) => {
                one(name, Some(object), if *stale { 0 } else { least }, most, truth)
            }
            (Request::Get { name, stale }, Outcome::Refused { reason, .. }) if reason == "NotFound" => {
                one(name, None, if *stale { 0 } else { least }, most, truth)
            }
            (Request::List { stale }, Outcome::Listed { version, objects }) => {
                all(*version, objects, if *stale { 0 } else { least }, most, truth)
            }
            (Request::Get { .. } | Request::List { .. }, Outcome::Refused { code: 429, .. }) => continue,
            (Request::Get { .. } | Request::List { .. }, other) => {
                Err(format!("no read is answered {other:?}"))
            }
            _ => continue,
        };
        let Operation { id, member, request, .. } = operation;
        judged.map_err(|what| {
            Violation::new(format!("request {} to {member}, {request:?}: {what}", id.0)).by([*id])
        })?;
        checked += 1;
    }
    Ok(checked)
}

fn one(name: &str, object: Option<&Object>, least: i64, most: i64, truth: &Truth) -> Result<(), String> {
    if truth.states(name, least, most).any(|state| state == object) {
        return Ok(());
    }
    let then = truth.state(name, least);
    Err(format!("{object:?} was not so between versions {least} and {most}; at the first it was {then:?}"))
}

fn all(version: i64, objects: &[Object], least: i64, most: i64, truth: &Truth) -> Result<(), String> {
    if version < least {
        return Err(format!("the list is of version {version}, though {least} was known before it was sent"));
    }
    if version > most {
        return Err(format!("the list is of version {version}, and {} was not yet asked for", most + 1));
    }
    same(version, objects, truth)
}

/// Whether a list says what was there at its version.
pub(super) fn same(version: i64, objects: &[Object], truth: &Truth) -> Result<(), String> {
    let expected = truth.all_at(version);
    for object in objects {
        match expected.get(object.name.as_str()) {
            Some(other) if *other == object => {}
            other => {
                return Err(format!("the list of version {version} has {object:?}, and there was {other:?}"));
            }
        }
    }
    if objects.len() == expected.len() {
        return Ok(());
    }
    let missing: Vec<_> =
        expected.values().filter(|one| objects.iter().all(|object| object.name != one.name)).collect();
    if missing.is_empty() {
        return Err(format!("the list of version {version} has an object twice"));
    }
    Err(format!("the list of version {version} lacks {missing:?}"))
}
