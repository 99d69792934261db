//! What a Deployment writes on its ReplicaSets, and reads there: revisions, and the sizes for which they were made. Shapes only.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};

use super::limits::Limits;
use crate::kind::Object as _;

/// Which template this is, counted from 1.
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
/// Which it was before somebody went back to it.
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// How many pods the Deployment wanted when it scaled last.
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// How many it allowed at most.
const MOST: &str = "deployment.kubernetes.io/max-replicas";
/// Those of a Deployment that its ReplicaSets do not get.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    HISTORY,
    DESIRED,
    MOST,
    "deprecated.deployment.rollback.to",
];
/// The longest history, in characters.
const HISTORY_MAX: usize = 2000;

/// The revision of a ReplicaSet; zero when it has none.
pub(super) fn revision(set: &ReplicaSet) -> i64 {
    set.annotation(REVISION).and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// How many pods the Deployment wanted when it scaled the ReplicaSet last.
pub(super) fn desired(set: &ReplicaSet) -> Option<i32> {
    set.annotation(DESIRED)?.parse().ok()
}

/// How many pods the Deployment allowed when it scaled the ReplicaSet last.
pub(super) fn most(set: &ReplicaSet) -> Option<i32> {
    set.annotation(MOST)?.parse().ok()
}

fn of(set: &mut ReplicaSet) -> &mut BTreeMap<String, String> {
    set.metadata.annotations.get_or_insert_default()
}

/// Says for which sizes the ReplicaSet is scaled.
pub(super) fn set_sizes(set: &mut ReplicaSet, limits: Limits) {
    of(set).insert(DESIRED.to_owned(), limits.replicas.to_string());
    of(set).insert(MOST.to_owned(), limits.most().to_string());
}

/// Gives the ReplicaSet of the current template what its Deployment has, and this revision if it has a lower one.
pub(super) fn set_current(set: &mut ReplicaSet, deployment: &Deployment, newest: i64) {
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !NOT_COPIED.contains(&key.as_str()) {
            of(set).insert(key.clone(), value.clone());
        }
    }
    let before = set.annotation(REVISION).map(str::to_owned);
    if revision(set) >= newest {
        return;
    }
    of(set).insert(REVISION.to_owned(), newest.to_string());
    if let Some(before) = before {
        let history = of(set).entry(HISTORY.to_owned()).or_default();
        if !history.is_empty() {
            history.push(',');
        }
        history.push_str(&before);
        // The oldest are forgotten.
        while history.len() > HISTORY_MAX
            && let Some((_, later)) = history.split_once(',')
        {
            *history = later.to_owned();
        }
    }
}
