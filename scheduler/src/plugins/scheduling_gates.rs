//! Pods with gates wait until others have lifted them.

use super::{Plugin, Refusal};

/// Why a pod with these gates waits; `None` without gates.
#[must_use]
pub fn refusal(gates: &[Box<str>]) -> Option<Refusal> {
    let reason = || format!("waiting for scheduling gates: [{}]", gates.join(" "));
    (!gates.is_empty()).then(|| Refusal::unresolvable(Plugin::SchedulingGates, reason()))
}
