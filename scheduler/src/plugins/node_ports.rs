//! Ports of the node are had by one pod at a time.

use super::{Plugin, Refusal, Verdict, View};
use crate::pod::NodeAsk;

pub(crate) fn filter(ask: &NodeAsk, view: &View<'_>) -> Verdict {
    if ask.ports.is_empty() {
        return Ok(());
    }
    let used = view.ports();
    if ask.ports.iter().any(|port| used.iter().any(|used| used.conflicts(port))) {
        let reason = "node(s) didn't have free ports for the requested pod ports";
        return Err(Refusal::resolvable(Plugin::NodePorts, reason));
    }
    Ok(())
}
