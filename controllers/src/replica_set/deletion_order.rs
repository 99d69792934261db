//! Which pods go first when there are too many: those that would be missed least. A decision; time is handed in.

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::jiff::Timestamp;

use crate::kind::Object as _;
use crate::pods;

/// Which of its siblings a pod goes before or after; a higher number stays longer.
const COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// So many of these pods, in the order in which they go.
///
/// `related` are the pods of all sets with the same controller: of two that are equal otherwise, the one goes that has more of
/// them on its node.
pub(crate) fn first(
    active: &[Arc<Pod>],
    related: &[Arc<Pod>],
    count: usize,
    now: Timestamp,
) -> Vec<Arc<Pod>> {
    let mut on_node: HashMap<&str, usize> = HashMap::new();
    for pod in related.iter().filter(|pod| pods::is_active(pod)) {
        *on_node.entry(pods::node(pod)).or_default() += 1;
    }
    let mut ordered = active.to_vec();
    if count < ordered.len() {
        ordered.sort_by_cached_key(|pod| Rank::of(pod, on_node.get(pods::node(pod)).copied(), now));
    }
    ordered.truncate(count);
    ordered
}

/// What decides, the first first; the lower goes first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    assigned: bool,
    phase: u8,
    ready: bool,
    cost: i32,
    siblings: Reverse<usize>,
    ready_for: Age,
    restarts: Restarts,
    age: Age,
    uid: String,
}

/// How long something has been, on a logarithmic scale, so that of pods that are about equally old any may go. Not known is
/// least.
type Age = u32;

/// More restarts go first.
#[derive(PartialEq, Eq)]
struct Restarts {
    regular: i32,
    sidecars: i32,
}

impl Ord for Restarts {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.regular, other.sidecars).cmp(&(self.regular, self.sidecars))
    }
}

impl PartialOrd for Restarts {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Rank {
    fn of(pod: &Pod, siblings: Option<usize>, now: Timestamp) -> Self {
        let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        Self {
            assigned: !pods::node(pod).is_empty(),
            phase: match pods::phase(pod) {
                "Unknown" => 1,
                "Running" => 2,
                _ => 0,
            },
            ready: pods::is_ready(pod),
            cost: pod.annotation(COST).and_then(|cost| cost.parse().ok()).unwrap_or_default(),
            siblings: Reverse(siblings.unwrap_or_default()),
            ready_for: age(pods::ready_since(pod), now),
            restarts: restarts(pod),
            age: age(created, now),
            uid: pod.uid().to_owned(),
        }
    }
}

fn age(since: Option<Timestamp>, now: Timestamp) -> Age {
    let Some(since) = since else { return 0 };
    let passed = u128::try_from(now.duration_since(since).as_nanos()).unwrap_or_default();
    // In the future or now is younger than anything.
    passed.checked_ilog2().map_or(1, |log| log + 2)
}

fn restarts(pod: &Pod) -> Restarts {
    let most = |statuses: &mut dyn Iterator<Item = &ContainerStatus>| {
        statuses.map(|status| status.restart_count).max().unwrap_or_default()
    };
    let Some(status) = &pod.status else { return Restarts { regular: 0, sidecars: 0 } };
    let init = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    let sidecars: Vec<_> = init
        .filter(|container| container.restart_policy.as_deref() == Some("Always"))
        .map(|container| &container.name)
        .collect();
    let mut of_sidecars =
        status.init_container_statuses.iter().flatten().filter(|status| sidecars.contains(&&status.name));
    Restarts {
        regular: most(&mut status.container_statuses.iter().flatten()),
        sidecars: most(&mut of_sidecars),
    }
}
