//! Leaders: a Lease goes from one holder to another only when it was given back or has run out, and who acts has it. Pure.
//!
//! What says when: the store's order. A write with a `resourceVersion` behind that of another's taking of the Lease was done when
//! somebody else had it. One that reached the API server before that, and was only finished behind it, was under way when the Lease
//! passed: no lease without fencing tokens can prevent that, so it is counted and not called wrong.

use std::collections::BTreeMap;

use crate::checkers::Violation;
use crate::masters::entry::{Act, LeaseVersion};
use crate::masters::history::History;

/// How exactly wall clocks of processes on one machine are compared; Leases tell microseconds.
const SLACK_US: i64 = 1_000;

/// Judges Leases and acts; how many of both.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(history: &History) -> Result<usize, Violation> {
    let mut leases: BTreeMap<&str, BTreeMap<i64, &LeaseVersion>> = BTreeMap::new();
    for (_, lease) in &history.leases {
        let known = leases.entry(&lease.lease).or_default().insert(lease.version, lease);
        if known.is_some_and(|known| known != lease) {
            let what = format!("version {} of {} is told in two ways", lease.version, lease.lease);
            return Err(Violation::new(what).at(lease.version));
        }
    }
    let mut checked = 0;
    for (name, versions) in &leases {
        passes(name, versions, history)?;
        checked += versions.len();
    }
    for act in &history.acts {
        if let Some(versions) = leases.get(act.lease.as_str()) {
            allowed(act, versions, history)?;
            checked += 1;
        }
    }
    Ok(checked)
}

/// How many acts were under way when the Lease passed to another.
#[must_use]
pub fn under_way(history: &History) -> usize {
    let of = |act: &&Act| {
        let version = act.version?;
        let later = |(_, lease): &&(u64, LeaseVersion)| lease.lease == act.lease && lease.version < version;
        let (_, lease) = history.leases.iter().filter(later).max_by_key(|(_, lease)| lease.version)?;
        Some(process_of(history, &lease.holder)? != act.process)
    };
    history.acts.iter().filter(|act| of(act).unwrap_or(false)).count()
}

/// From one version of a Lease to the next one.
fn passes(name: &str, versions: &BTreeMap<i64, &LeaseVersion>, history: &History) -> Result<(), Violation> {
    let all: Vec<&LeaseVersion> = versions.values().copied().collect();
    for pair in all.windows(2) {
        let (old, new) = (pair[0], pair[1]);
        let wrong = |what: &str| {
            Err(Violation::new(format!("{name}: {what}: {old:?}, then {new:?}")).at(new.version))
        };
        let taken = new.holder != old.holder && !new.holder.is_empty();
        if taken && new.transitions <= old.transitions {
            return wrong("it passed from one to another without being counted");
        }
        if !taken && new.transitions != old.transitions {
            return wrong("it was counted as passed, and was not");
        }
        // Wall clocks that are wrong say nothing of how long somebody waited.
        if taken && !old.holder.is_empty() && !history.has_wrong_clocks() {
            let left_us = old.renewed_us + old.duration_s * 1_000_000;
            if new.acquired_us + SLACK_US < left_us {
                return wrong("it was taken before it had run out");
            }
        }
    }
    Ok(())
}

fn process_of<'a>(history: &'a History, holder: &str) -> Option<&'a str> {
    history.candidates.get(holder).map(String::as_str)
}

/// Whether who acted had the Lease.
fn allowed(act: &Act, versions: &BTreeMap<i64, &LeaseVersion>, history: &History) -> Result<(), Violation> {
    let is_his = |lease: &LeaseVersion| process_of(history, &lease.holder) == Some(act.process.as_str());
    let wrong = |what: String| {
        let violation = Violation::new(format!("{act:?}: {what}"));
        Err(act.version.into_iter().fold(violation, Violation::at))
    };
    if let Some(version) = act.version {
        let now = versions.range(..version).next_back().map(|(_, lease)| *lease);
        match now {
            Some(lease) if is_his(lease) => return Ok(()),
            // Nobody has taken it since he gave it back, or the last one was never heard of in a log: a holder who was killed
            // before his line was written.
            Some(lease) if lease.holder.is_empty() || process_of(history, &lease.holder).is_none() => {
                return Ok(());
            }
            Some(_) if !versions.range(..version).any(|(_, lease)| is_his(lease)) => {
                return wrong("it was done by who had never had the Lease until then".to_owned());
            }
            _ => {}
        }
    }
    if history.has_wrong_clocks() {
        return Ok(());
    }
    // By the machine's clock: not after another one was told that the Lease is his, unless he got it again meanwhile.
    let complete = |version: i64| {
        let key = (act.lease.clone(), version);
        history.written_us.get(&key).is_some_and(|completed_us| *completed_us < act.received_us)
    };
    match versions.values().rev().find(|lease| complete(lease.version)) {
        Some(lease) if !lease.holder.is_empty() && !is_his(lease) => {
            wrong(format!("it came in after another one had the Lease: {lease:?}"))
        }
        _ => Ok(()),
    }
}
