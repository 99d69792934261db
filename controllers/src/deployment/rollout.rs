//! From the old templates to the current one: a few pods at a time, or all old ones first. A decision.

use super::View;
use super::edits::Edits;
use super::limits::Limits;
use super::sets::{Counts as _, Sets};
use crate::kind::Object as _;

/// What a rollout does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// A ReplicaSet of the current template is made, with so many pods.
    Create(i32),
    /// What was edited.
    Edited,
}

/// The next move of a rollout of a few pods at a time.
pub(super) fn rolling(sets: &Sets, limits: Limits, edits: &mut Edits) -> Next {
    // Numbers that are not of now could add up to too many pods, or to too few that are available.
    let is_told = sets.all.iter().all(|set| set.is_observed());
    let Some(new) = sets.new else {
        let room = if is_told { room(sets, limits) } else { 0 };
        return Next::Create(room.min(limits.replicas));
    };
    let wanted = sets.all[new].wanted();
    if wanted > limits.replicas {
        edits.scale(new, limits.replicas);
    } else if is_told && !grow(sets, new, limits, edits) {
        shrink(sets, new, limits, edits);
    }
    Next::Edited
}

/// How many more pods there may be.
fn room(sets: &Sets, limits: Limits) -> i32 {
    (limits.most() - sets.sum(|set| set.at_most())).max(0)
}

/// The current one grows into the room that there is; whether it did.
fn grow(sets: &Sets, new: usize, limits: Limits, edits: &mut Edits) -> bool {
    let wanted = sets.all[new].wanted();
    let grown = wanted + room(sets, limits).min(limits.replicas - wanted);
    edits.scale(new, grown)
}

/// The old ones make room: first pods that are not available, then as many as can be missed.
fn shrink(sets: &Sets, new: usize, limits: Limits, edits: &mut Edits) {
    let current = &sets.all[new];
    let total = sets.sum(|set| set.wanted());
    // New pods that are not available yet must not make more old ones go.
    let not_yet = current.wanted() - current.surely_available();
    let mut left = total - limits.least_available() - not_yet;
    for old in sets.old() {
        let set = &sets.all[old];
        let unhealthy = set.wanted() - set.surely_available();
        let fewer = unhealthy.min(left).max(0);
        edits.scale(old, set.wanted() - fewer);
        left -= fewer;
    }
    let mut spare = (sets.sum(|set| set.surely_available()) - limits.least_available()).min(left);
    for old in sets.old() {
        let fewer = edits.wanted(old).min(spare).max(0);
        edits.scale(old, edits.wanted(old) - fewer);
        spare -= fewer;
    }
}

/// The next move of a rollout in which all old pods go first.
pub(super) fn recreate(view: &View, sets: &Sets, limits: Limits, edits: &mut Edits) -> Next {
    let mut shrunk = false;
    for old in sets.old() {
        shrunk |= edits.scale(old, 0);
    }
    let runs = |old: usize| {
        let set = &sets.all[old];
        set.actual() > 0 || !set.is_observed() || view.with_pods.iter().any(|uid| uid == set.uid())
    };
    if shrunk || sets.old().any(runs) {
        return Next::Edited;
    }
    let Some(new) = sets.new else { return Next::Create(limits.replicas) };
    edits.scale(new, limits.replicas);
    Next::Edited
}
