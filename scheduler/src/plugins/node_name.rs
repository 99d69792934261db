//! A pod that names its node goes there or nowhere.

use super::{Plugin, Refusal, Verdict, View};
use crate::pod::NodeAsk;

/// A node that is not there is not the one that is asked for.
pub(crate) fn gone() -> Refusal {
    Refusal::unresolvable(Plugin::NodeName, "node(s) didn't match the requested node name")
}

pub(crate) fn filter(ask: &NodeAsk, view: &View<'_>) -> Verdict {
    if ask.node_name.as_ref().is_some_and(|name| *name != view.spec.name) {
        return Err(gone());
    }
    Ok(())
}
