//! Another number of pods while several templates have some, or while the Deployment is paused: each gets its share, so that a
//! rollout is as far as it was. A decision.

use std::cmp::Reverse;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};

use super::annotations;
use super::edits::Edits;
use super::limits::{Limits, Strategy, strategy};
use super::sets::{Counts as _, Sets};

/// Whether the Deployment has another size than the one for which its ReplicaSets were scaled last.
pub(super) fn is_asked_for(sets: &Sets, limits: Limits) -> bool {
    let active = sets.all.iter().filter(|set| set.wanted() > 0);
    active.filter_map(|set| annotations::desired(set)).any(|desired| desired != limits.replicas)
}

pub(super) fn scale(deployment: &Deployment, sets: &Sets, limits: Limits, edits: &mut Edits) {
    let active: Vec<usize> = (0..sets.all.len()).filter(|at| sets.all[*at].wanted() > 0).collect();
    let only = match active[..] {
        // The current one, or the youngest.
        [] => sets.new.or_else(|| sets.old().last()),
        [only] => Some(only),
        _ => None,
    };
    if let Some(only) = only {
        // One that has this size already, as of a rollout, must say for which size of its Deployment: until it does, nothing
        // rolls.
        edits.scale_and_note(only, limits.replicas);
    } else if sets.current().is_some_and(|new| is_saturated(new, limits)) {
        for old in sets.old() {
            edits.scale(old, 0);
        }
    } else if strategy(deployment) == Strategy::Rolling {
        in_proportion(deployment, sets, active, limits, edits);
    } else {
        // Of several that make room for another, none gets a share.
        for at in active {
            edits.scale_and_note(at, sets.all[at].wanted());
        }
    }
}

/// Whether the current one has all pods that are wanted.
fn is_saturated(new: &ReplicaSet, limits: Limits) -> bool {
    new.wanted() == limits.replicas
        && annotations::desired(new) == Some(limits.replicas)
        && new.available() == limits.replicas
}

fn in_proportion(
    deployment: &Deployment,
    sets: &Sets,
    mut active: Vec<usize>,
    limits: Limits,
    edits: &mut Edits,
) {
    let total: i32 = active.iter().map(|at| sets.all[*at].wanted()).sum();
    let allowed = if limits.replicas > 0 { limits.most() } else { 0 };
    let to_add = allowed - total;
    // The largest first; of equals, the younger when there are more to come and the older when some go.
    active.sort_by_key(|at| {
        let age = if to_add > 0 {
            -i64::try_from(*at).unwrap_or_default()
        } else {
            i64::try_from(*at).unwrap_or_default()
        };
        (Reverse(sets.all[*at].wanted()), age)
    });
    let mut added = 0;
    let mut sizes = Vec::new();
    for at in active {
        let set = &sets.all[at];
        let share = share(set, deployment, limits, to_add, to_add - added);
        added += share;
        sizes.push((at, set.wanted() + share));
    }
    // What rounding left goes to the largest.
    if let Some((_, size)) = sizes.first_mut() {
        *size = (*size + to_add - added).max(0);
    }
    for (at, size) in sizes {
        edits.scale_and_note(at, size);
    }
}

/// What one ReplicaSet gets of what is to be added, or gives of what is to go; no more than is left.
fn share(set: &ReplicaSet, deployment: &Deployment, limits: Limits, to_add: i32, left: i32) -> i32 {
    if to_add == 0 || left == 0 || set.wanted() == 0 {
        return 0;
    }
    let fraction = fraction(set, deployment, limits);
    if to_add > 0 { fraction.min(left) } else { fraction.max(left) }
}

/// By how many one would grow if it kept its part of the whole.
fn fraction(set: &ReplicaSet, deployment: &Deployment, limits: Limits) -> i32 {
    if limits.replicas == 0 {
        return -set.wanted();
    }
    let noted = annotations::most(set).filter(|most| *most > 0);
    let before = noted
        .unwrap_or_else(|| deployment.status.as_ref().and_then(|status| status.replicas).unwrap_or_default());
    if before <= 0 {
        return 0;
    }
    // Halves are rounded away from zero; nothing here is below it.
    let (size, most, before) = (i64::from(set.wanted()), i64::from(limits.most()), i64::from(before));
    let grown = (2 * size * most + before) / (2 * before);
    i32::try_from(grown).unwrap_or(i32::MAX) - set.wanted()
}
