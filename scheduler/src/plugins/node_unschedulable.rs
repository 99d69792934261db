//! Cordoned nodes take no pods but those that tolerate that.

use super::{Plugin, Refusal, Verdict, View};
use crate::pod::NodeAsk;
use crate::taint::{Taint, tolerated};

pub(crate) fn filter(ask: &NodeAsk, view: &View<'_>) -> Verdict {
    if view.spec.unschedulable && !tolerated(&ask.tolerations, &Taint::unschedulable()) {
        return Err(Refusal::unresolvable(Plugin::NodeUnschedulable, "node(s) were unschedulable"));
    }
    Ok(())
}
