//! How long a pod stays on a node with taints. A decision.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Taint, Toleration};

/// How long a pod stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stay {
    /// As long as it likes.
    Forever,
    /// So long, from when it became so.
    For(Duration),
}

/// How long a pod with these tolerations stays on a node with these taints, all of which make pods leave.
pub(super) fn stay(tolerations: &[Toleration], taints: &[&Taint]) -> Stay {
    let mut least = None;
    for taint in taints {
        let mut tolerated = tolerations.iter().filter(|it| tolerates(it, taint)).peekable();
        // As upstream: of several that tolerate a taint, the first counts.
        let Some(toleration) = tolerated.peek() else { return Stay::For(Duration::ZERO) };
        if let Some(seconds) = toleration.toleration_seconds {
            let time = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
            least = Some(least.map_or(time, |least: Duration| least.min(time)));
        }
    }
    least.map_or(Stay::Forever, Stay::For)
}

/// Whether a toleration is for a taint.
fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let said = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    if said(&toleration.effect).is_some_and(|effect| effect != taint.effect) {
        return false;
    }
    if said(&toleration.key).is_some_and(|key| key != taint.key) {
        return false;
    }
    let value = taint.value.as_deref().unwrap_or_default();
    let mine = toleration.value.as_deref().unwrap_or_default();
    match said(&toleration.operator).as_deref() {
        Some("Exists") => true,
        None | Some("Equal") => mine == value,
        Some("Lt") => numbers(value, mine).is_some_and(|(taint, mine)| taint < mine),
        Some("Gt") => numbers(value, mine).is_some_and(|(taint, mine)| taint > mine),
        Some(_) => false,
    }
}

fn numbers(taint: &str, mine: &str) -> Option<(i64, i64)> {
    Some((taint.parse().ok()?, mine.parse().ok()?))
}
