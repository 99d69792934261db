//! Labels that nodes must or should have, by the pod and by the profile (`addedAffinity`).

use super::{Plugin, Refusal, Verdict, View};
use crate::pod::NodeAsk;
use crate::profile::AddedAffinity;

/// The nodes that are named by all terms, when there are none.
pub(crate) fn conflict() -> Refusal {
    Refusal::unresolvable(Plugin::NodeAffinity, "pod affinity terms conflict")
}

pub(crate) fn filter(ask: &NodeAsk, added: &AddedAffinity, view: &View<'_>) -> Verdict {
    let (name, labels) = (&view.spec.name, &view.spec.labels);
    if added.required.as_ref().is_some_and(|terms| !terms.matches(name, labels)) {
        let reason = "node(s) didn't match scheduler-enforced node affinity";
        return Err(Refusal::unresolvable(Plugin::NodeAffinity, reason));
    }
    if !ask.required_nodes.matches(name, labels) {
        let reason = "node(s) didn't match Pod's node affinity/selector";
        return Err(Refusal::unresolvable(Plugin::NodeAffinity, reason));
    }
    Ok(())
}

/// The weights of the preferences that hold.
pub(crate) fn score(ask: &NodeAsk, added: &AddedAffinity, view: &View<'_>) -> i64 {
    let (name, labels) = (&view.spec.name, &view.spec.labels);
    ask.preferred_nodes.weight(name, labels) + added.preferred.weight(name, labels)
}
