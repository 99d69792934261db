//! How many pods of a Job run at once: which are made, and which go. A decision; time is handed in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::account::Account;
use super::failure_policy::Consequence;
use super::indexes::Indexes;
use super::template::{self, Failures};
use super::{back_off, pod};
use crate::pods;
use crate::replica_set::deletion_order;

/// How many pods are made or deleted in one go.
const BURST: usize = 500;

/// What is to be done about the number of pods; never both made and deleted.
#[derive(Debug, Default)]
pub(super) struct Change {
    pub(super) delete: Vec<Arc<Pod>>,
    pub(super) create: Vec<Pod>,
    /// When more may be made.
    pub(super) again: Option<Duration>,
}

/// What is to be done for a Job that has not come to its end.
pub(super) fn change(account: &Account<'_>, now: Timestamp) -> Change {
    let view = account.view;
    let parallelism = count(view.spec(|spec| spec.parallelism).unwrap_or(1));
    let active = account.active.len();
    let wanted = match view.completions() {
        _ if view.suspended() => 0,
        Some(completions) => count(completions - account.succeeded).min(parallelism),
        // One has succeeded: no more are needed, and those that run may go on.
        None if account.succeeded > 0 => active,
        None => parallelism,
    };
    let delete = surplus(account, active.saturating_sub(wanted), now);
    if !delete.is_empty() || view.suspended() {
        return Change { delete, ..Change::default() };
    }
    let holding = if view.replaces_failed_only() {
        account.claim.owned.iter().filter(|pod| pods::is_terminating(pod)).count()
    } else {
        0
    };
    let missing = wanted.saturating_sub(active + holding).min(BURST);
    if missing == 0 {
        return Change::default();
    }
    create(account, missing, now)
}

fn count(number: i32) -> usize {
    usize::try_from(number).unwrap_or_default()
}

/// Those that go: of each index all but one, those without a valid one, and of the rest so many that enough go.
fn surplus(account: &Account<'_>, at_least: usize, now: Timestamp) -> Vec<Arc<Pod>> {
    // Who is not tracked any more was about to go already.
    let (mut stay, mut go): (Vec<_>, Vec<_>) = if at_least > 0 {
        account.active.iter().cloned().partition(|pod| pod::is_tracked(pod))
    } else {
        (account.active.clone(), Vec::new())
    };
    if go.len() > at_least {
        go.truncate(at_least);
        return go;
    }
    if account.view.indexed() {
        let mut of_index: BTreeMap<i32, Vec<Arc<Pod>>> = BTreeMap::new();
        let completions = account.view.completions().unwrap_or_default();
        for pod in std::mem::take(&mut stay) {
            match pod::index(&pod).filter(|index| *index < completions) {
                Some(index) => of_index.entry(index).or_default().push(pod),
                None => go.push(pod),
            }
        }
        for (_, twins) in of_index {
            let first = deletion_order::first(&twins, &[], twins.len() - 1, now);
            let left = twins.into_iter().filter(|pod| !first.iter().any(|gone| Arc::ptr_eq(gone, pod)));
            stay.extend(left);
            go.extend(first);
        }
    }
    let more = at_least.saturating_sub(go.len());
    go.extend(deletion_order::first(&stay, &[], more, now));
    go.truncate(BURST);
    go
}

fn create(account: &Account<'_>, missing: usize, now: Timestamp) -> Change {
    let view = account.view;
    let each_index = view.backoff_limit_per_index().is_some();
    let wait = back_off::remaining(&account.claim.owned, view.replaces_failed_only(), now);
    if let Some(wait) = wait.filter(|_| !each_index) {
        return Change { again: Some(wait), ..Change::default() };
    }
    let Some(indexes) = &account.indexes else {
        let create = template::pod(view).into_iter().cycle().take(missing).collect();
        return Change { create, ..Change::default() };
    };
    let busy = account
        .claim
        .owned
        .iter()
        .filter(|pod| pods::is_active(pod) || (view.replaces_failed_only() && pods::is_terminating(pod)));
    let mut taken = indexes.succeeded.union(&Indexes::of(busy.filter_map(|pod| pod::index(pod))));
    if let Some(failed) = &indexes.failed {
        taken = taken.union(failed);
    }
    let mut change = Change::default();
    for index in taken.missing(view.completions().unwrap_or_default(), missing) {
        let before = indexes.predecessors.get(&index);
        if let Some(wait) = before.and_then(|pod| back_off::remaining_of_index(pod, now)) {
            change.again = Some(change.again.map_or(wait, |other| other.min(wait)));
            continue;
        }
        let failures = each_index.then(|| failures(account, before.map(|pod| &**pod)));
        change.create.extend(template::indexed_pod(view, index, failures));
    }
    change
}

/// The failures of an index, its last pod included.
fn failures(account: &Account<'_>, last: Option<&Pod>) -> Failures {
    let Some(last) = last else { return Failures { counted: 0, ignored: 0 } };
    let counts = account.consequence(last) != Consequence::Ignore;
    Failures {
        counted: pod::failures_before(last).saturating_add(i32::from(counts)),
        ignored: pod::ignored_failures_before(last).saturating_add(i32::from(!counts)),
    }
}
