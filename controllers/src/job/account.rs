//! What a Job's pods amount to: who is active, who ended and counts, and what has to be written before a pod may go. A decision;
//! must never count a pod that the status tells of already.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::JobView;
use super::conditions::{self, FAILURE_TARGET, SUCCESS_CRITERIA_MET};
use super::failure_policy::{self, Consequence};
use super::indexes::Indexes;
use super::pod;
use crate::kind::Object as _;
use crate::owners::{self, Claim};
use crate::pods;

/// The pods of a Job, judged by its status as it was seen.
pub(super) struct Account<'a> {
    pub(super) view: &'a JobView,
    pub(super) claim: Claim<Pod>,
    pub(super) active: Vec<Arc<Pod>>,
    /// How many have succeeded, those included of which the status does not tell yet.
    pub(super) succeeded: i32,
    /// As many have failed in a way that counts.
    pub(super) failed: i32,
    /// Of a Job with indexes.
    pub(super) indexes: Option<IndexAccount>,
    uncounted: Uncounted<'a>,
}

/// Pods that the status tells of and that may have the finalizer still.
struct Uncounted<'a> {
    succeeded: HashSet<&'a str>,
    failed: HashSet<&'a str>,
}

/// The indexes of a Job.
pub(super) struct IndexAccount {
    /// As the status tells them.
    pub(super) told: Indexes,
    pub(super) succeeded: Indexes,
    /// With a limit for each index.
    pub(super) failed: Option<Indexes>,
    /// The last pod of an index that waits for its successor: it keeps the number of failures.
    pub(super) predecessors: BTreeMap<i32, Arc<Pod>>,
}

/// What is to be written of a pod before it may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// It may not go.
    Open,
    /// That it succeeded.
    Succeeded,
    /// That its index did.
    Index(i32),
    /// That it failed.
    Failed,
    /// Nothing: the status tells of it, or it does not count.
    Settled,
}

impl<'a> Account<'a> {
    pub(super) fn of(view: &'a JobView) -> Self {
        let claim = owners::claim(&*view.job, &view.selector, &view.pods, |_| true);
        let active: Vec<_> = claim.owned.iter().filter(|pod| pods::is_active(pod)).cloned().collect();
        let uncounted = view.job.status.as_ref().and_then(|status| status.uncounted_terminated_pods.as_ref());
        let uids = |list: Option<&'a Vec<String>>| list.into_iter().flatten().map(String::as_str).collect();
        let uncounted = Uncounted {
            succeeded: uids(uncounted.and_then(|uncounted| uncounted.succeeded.as_ref())),
            failed: uids(uncounted.and_then(|uncounted| uncounted.failed.as_ref())),
        };
        let mut account = Self { view, claim, active, succeeded: 0, failed: 0, indexes: None, uncounted };
        account.count();
        account
    }

    fn count(&mut self) {
        let (succeeded_before, failed_before) = self.view.status(|status| (status.succeeded, status.failed));
        let (mut succeeded, mut failed) = (0, 0);
        for pod in self.claim.owned.iter().filter(|pod| self.may_count(pod)) {
            let uid = pod.uid();
            if pod::succeeded(pod) && !self.uncounted.succeeded.contains(uid) {
                succeeded += 1;
            } else if self.is_failed(pod) && !self.uncounted.failed.contains(uid) && self.failure_counts(pod)
            {
                failed += 1;
            }
        }
        let number = |set: &HashSet<&str>| i32::try_from(set.len()).unwrap_or(i32::MAX);
        self.succeeded = succeeded_before.unwrap_or_default() + succeeded + number(&self.uncounted.succeeded);
        self.failed = failed_before.unwrap_or_default() + failed + number(&self.uncounted.failed);
        if self.view.indexed() {
            let indexes = self.count_indexes();
            self.succeeded = indexes.succeeded.len();
            self.indexes = Some(indexes);
        }
    }

    fn count_indexes(&self) -> IndexAccount {
        let completions = self.view.completions().unwrap_or_default();
        let told = self.view.status(|status| status.completed_indexes.clone()).unwrap_or_default();
        let told = Indexes::parse(&told, completions);
        let tracked: Vec<_> = self.claim.owned.iter().filter(|pod| self.may_count(pod)).collect();
        let of = |pods: &mut dyn Iterator<Item = &&Arc<Pod>>| {
            Indexes::of(pods.filter_map(|pod| pod::index(pod)).collect::<Vec<_>>())
        };
        let succeeded = told.union(&of(&mut tracked.iter().filter(|pod| pod::succeeded(pod))));
        let Some(limit) = self.view.backoff_limit_per_index() else {
            return IndexAccount { told, succeeded, failed: None, predecessors: BTreeMap::new() };
        };
        let failed_before = self.view.status(|status| status.failed_indexes.clone()).unwrap_or_default();
        let fails_index = |pod: &&&Arc<Pod>| {
            self.is_failed(pod)
                && match self.consequence(pod) {
                    Consequence::FailIndex => true,
                    Consequence::Ignore => false,
                    _ => pod::failures_before(pod) >= limit,
                }
        };
        let failed =
            Indexes::parse(&failed_before, completions).union(&of(&mut tracked.iter().filter(fails_index)));
        let active = Indexes::of(self.active.iter().filter_map(|pod| pod::index(pod)));
        let closed = succeeded.union(&failed).union(&active);
        let mut predecessors: BTreeMap<i32, Arc<Pod>> = BTreeMap::new();
        let age = |pod: &Pod| {
            let before = pod::failures_before(pod).saturating_add(pod::ignored_failures_before(pod));
            (before, pod::ended_at(pod))
        };
        for pod in tracked.into_iter().filter(|pod| self.is_failed(pod)) {
            let Some(index) = pod::index(pod).filter(|index| !closed.contains(*index)) else { continue };
            let before = predecessors.entry(index).or_insert_with(|| pod.clone());
            if age(before) <= age(pod) {
                *before = pod.clone();
            }
        }
        IndexAccount { told, succeeded, failed: Some(failed), predecessors }
    }

    /// Whether a pod's end is of interest: it is tracked, and for an index that there is.
    fn may_count(&self, pod: &Pod) -> bool {
        pod::is_tracked(pod) && (!self.view.indexed() || self.valid_index(pod).is_some())
    }

    fn valid_index(&self, pod: &Pod) -> Option<i32> {
        pod::index(pod).filter(|index| *index < self.view.completions().unwrap_or_default())
    }

    pub(super) fn is_failed(&self, pod: &Pod) -> bool {
        pod::failed(pod, self.view.replaces_failed_only())
    }

    pub(super) fn consequence(&self, pod: &Pod) -> Consequence {
        let policy = self.view.job.spec.as_ref().and_then(|spec| spec.pod_failure_policy.as_ref());
        failure_policy::consequence(policy, pod)
    }

    fn failure_counts(&self, pod: &Pod) -> bool {
        self.consequence(pod) != Consequence::Ignore
    }

    /// What is to be written of a tracked pod.
    pub(super) fn entry(&self, pod: &Pod) -> Entry {
        let job = &*self.view.job;
        let fails = conditions::holding(job, FAILURE_TARGET).is_some();
        let ends = fails || conditions::holding(job, SUCCESS_CRITERIA_MET).is_some() || job.is_deleting();
        let failed = self.is_failed(pod);
        if !(ends || pod::succeeded(pod) || (failed && !self.is_predecessor(pod))) {
            return Entry::Open;
        }
        let (uid, index) = (pod.uid(), self.valid_index(pod));
        if self.view.indexed() && index.is_none() {
            return Entry::Settled;
        }
        if pod::succeeded(pod) && !self.uncounted.failed.contains(uid) {
            return match (&self.indexes, index) {
                (Some(indexes), Some(index)) if !indexes.told.contains(index) => Entry::Index(index),
                (None, _) if !self.uncounted.succeeded.contains(uid) => Entry::Succeeded,
                _ => Entry::Settled,
            };
        }
        // When a Job fails, whoever has not ended has failed.
        if (failed || fails) && !self.uncounted.failed.contains(uid) && self.failure_counts(pod) {
            return Entry::Failed;
        }
        Entry::Settled
    }

    fn is_predecessor(&self, pod: &Pod) -> bool {
        let mut predecessors = self.indexes.iter().flat_map(|indexes| indexes.predecessors.values());
        predecessors.any(|other| other.uid() == pod.uid())
    }

    /// The tracked pods, in order of their indexes.
    pub(super) fn tracked(&self) -> Vec<&Arc<Pod>> {
        let mut tracked: Vec<_> = self.claim.owned.iter().filter(|pod| pod::is_tracked(pod)).collect();
        tracked.sort_by_key(|pod| pod::index(pod));
        tracked
    }
}
