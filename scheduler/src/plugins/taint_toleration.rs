//! Taints that a pod does not tolerate forbid a node, or speak against it.

use super::{Plugin, Refusal, Verdict, View};
use crate::pod::NodeAsk;
use crate::taint::{first_untolerated, unwanted};

pub(crate) fn filter(ask: &NodeAsk, view: &View<'_>) -> Verdict {
    match first_untolerated(&ask.tolerations, &view.spec.taints) {
        None => Ok(()),
        Some(taint) => {
            let reason = format!("node(s) had untolerated taint {{{}: {}}}", taint.key, taint.value);
            Err(Refusal::unresolvable(Plugin::TaintToleration, reason))
        }
    }
}

/// How many taints would rather not have the pod; less is better.
pub(crate) fn score(ask: &NodeAsk, view: &View<'_>) -> i64 {
    unwanted(&ask.tolerations, &view.spec.taints)
}
