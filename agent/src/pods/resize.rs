//! What becomes of a pod that asks for other resources while it runs: whether its node grants them, who waits for whom, and how
//! its containers get them, in the kubelet's words. A decision; must never change a bound.

use std::sync::Arc;

use barque_api::quantity::Quantity;
use barque_containers::spec::Resources;
use k8s_openapi::api::core::v1::{Container, Node, Pod, PodCondition, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use k8s_openapi::jiff::Timestamp;

use super::allocation::{Allocation, RESIZABLE, asks_the_same, put};
use super::spec;
use crate::clock::told;
use crate::containers::bounds;
use crate::containers::qos::{Qos, class};
use crate::node::admission::{Amounts, asks};

/// The condition of a pod that was not granted what it asks for.
pub const PENDING: &str = "PodResizePending";
/// The condition of a pod that does not have yet what it was granted.
pub const IN_PROGRESS: &str = "PodResizeInProgress";

/// Why a pod is not granted what it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// `Deferred` until others leave something, `Infeasible` for ever.
    pub reason: String,
    /// The story.
    pub message: String,
    /// The generation of the pod that asked.
    pub generation: Option<i64>,
}

/// What a node grants a pod.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Grant {
    /// What was granted while it ran; without that, what it asked for when it was seen last.
    pub allocated: Option<Arc<Allocation>>,
    /// It asks for something else.
    pub pending: Option<Pending>,
}

impl Grant {
    /// What holds for a pod that an agent before this one may have granted something, and what was told of it.
    #[must_use]
    pub fn known(pod: &Pod, kept: Option<Allocation>) -> Self {
        let allocated = kept.or_else(|| Allocation::told(pod)).map(Arc::new);
        let conditions = pod.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
        let pending =
            conditions.into_iter().find(|condition| condition.type_ == PENDING).map(|condition| Pending {
                reason: condition.reason.clone().unwrap_or_default(),
                message: condition.message.clone().unwrap_or_default(),
                generation: condition.observed_generation,
            });
        Self { pending: pending.filter(|_| allocated.is_some()), allocated }
    }

    /// The pod as its containers shall be; the second is what the grant was made for.
    #[must_use]
    pub fn applied(&self, pod: &Arc<Pod>, seen: &Pod) -> Arc<Pod> {
        match &self.allocated {
            Some(allocated) => allocated.applied(pod),
            None if asks_the_same(pod, seen) => pod.clone(),
            // Nobody has looked at what it asks for now.
            None => Allocation::of(seen).applied(pod),
        }
    }

    /// The generation that was granted.
    #[must_use]
    pub fn generation(&self) -> Option<i64> {
        self.allocated.as_ref().and_then(|allocated| allocated.generation)
    }
}

/// Why a node does not grant a pod what it asks for, beside others that were granted so much; nothing when it does.
#[must_use]
pub fn judge(pod: &Pod, node: &Node, used: &Amounts) -> Option<Pending> {
    let pending = |reason: &str, message: String| {
        Some(Pending { reason: reason.to_owned(), message, generation: pod.metadata.generation })
    };
    let capacity = Amounts::of(node.status.as_ref().and_then(|status| status.allocatable.as_ref()));
    let asked = asks(pod);
    for name in ["memory", "cpu"] {
        let (asked, capacity) = (asked.get(name), capacity.get(name));
        if asked > capacity {
            let text = format!("{name}, requested: {asked}, capacity: {capacity}");
            return pending("Infeasible", format!("Node didn't have enough capacity: {text}"));
        }
    }
    for name in RESIZABLE {
        let (asked, used, capacity) = (asked.get(name), used.get(name), capacity.get(name));
        if asked > 0 && asked > capacity.saturating_sub(used) {
            let text = format!("{name}, requested: {asked}, used: {used}, capacity: {capacity}");
            return pending("Deferred", format!("Node didn't have enough resource: {text}"));
        }
    }
    None
}

/// In which order pods are looked at that wait: who asks for no more first, then by priority and class, then who waits longest.
#[must_use]
pub fn order(pod: &Pod, granted: &Pod) -> impl Ord + use<> {
    let (asked, had) = (asks(pod), asks(granted));
    let more = RESIZABLE.into_iter().any(|name| asked.get(name) > had.get(name));
    let priority = spec::spec(pod).and_then(|spec| spec.priority).unwrap_or_default();
    let since = condition(pod, PENDING).and_then(|condition| condition.last_transition_time.clone());
    let since = since.map(|time| time.0);
    (more, std::cmp::Reverse(priority), class(pod) != Qos::Guaranteed, since.is_none(), since)
}

/// How a container gets what it was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It has it.
    Nothing,
    /// It runs on.
    InPlace,
    /// It is started anew.
    Restart,
}

/// How a container that has these bounds gets what it was granted.
#[must_use]
pub fn change(container: &Container, in_force: Option<&Resources>) -> Change {
    let Some(now) = in_force else { return Change::Nothing };
    let wanted = bounds::of_container(container);
    let differs =
        [("cpu", !bounds::same_cpu(now, &wanted)), ("memory", now.memory_bytes != wanted.memory_bytes)];
    let restarts = |resource: &str| {
        let mut policies = container.resize_policy.iter().flatten();
        policies.any(|policy| policy.resource_name == resource && policy.restart_policy == "RestartContainer")
    };
    let changed: Vec<&str> =
        differs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect();
    if changed.iter().any(|name| restarts(name)) {
        Change::Restart
    } else if changed.is_empty() {
        Change::Nothing
    } else {
        Change::InPlace
    }
}

/// What a container has, in the words in which it was granted where it has that.
#[must_use]
pub fn in_force(container: &Container, now: Option<&Resources>) -> ResourceRequirements {
    let mut told = container.resources.clone().unwrap_or_default();
    let Some(now) = now else { return told };
    let wanted = bounds::of_container(container);
    let milli = |milli: i64| {
        let text = if milli % 1000 == 0 { (milli / 1000).to_string() } else { format!("{milli}m") };
        Text(text)
    };
    if now.cpu_shares != wanted.cpu_shares
        && told.requests.as_ref().is_some_and(|list| list.contains_key("cpu"))
    {
        put(&mut told.requests, "cpu", now.cpu_shares.map(bounds::milli_of_shares).map(milli));
    }
    if now.cpu_quota_us != wanted.cpu_quota_us {
        let quota = now.cpu_quota_us.zip(now.cpu_period_us);
        put(
            &mut told.limits,
            "cpu",
            quota.map(|(quota, period)| milli(bounds::milli_of_quota(quota, period))),
        );
    }
    if now.memory_bytes != wanted.memory_bytes {
        let bytes = now.memory_bytes.map(|bytes| Quantity::parse(&bytes.to_string()));
        put(&mut told.limits, "memory", bytes.and_then(Result::ok).map(|bytes| Text(bytes.to_string())));
    }
    told
}

/// How far a resize is, beside what the containers have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resizing {
    /// It is not granted.
    pub pending: Option<Pending>,
    /// Why the containers do not have what was granted.
    pub error: Option<String>,
    /// The generation of the pod that was granted.
    pub generation: Option<i64>,
}

/// The condition of a pod that has this type.
pub(super) fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// The conditions of a resize, which are there only while they hold.
pub(super) fn conditions(
    pod: &Pod,
    resizing: &Resizing,
    in_progress: bool,
    now: Timestamp,
) -> Vec<PodCondition> {
    let of =
        |kind: &str, reason: Option<&str>, message: Option<&str>, generation: Option<i64>| PodCondition {
            type_: kind.to_owned(),
            status: "True".to_owned(),
            reason: reason.map(str::to_owned),
            message: message.map(str::to_owned),
            last_transition_time: condition(pod, kind)
                .and_then(|before| before.last_transition_time.clone())
                .or_else(|| Some(told(now))),
            observed_generation: generation.or(pod.metadata.generation),
            last_probe_time: None,
        };
    let pending = resizing
        .pending
        .as_ref()
        .map(|pending| of(PENDING, Some(&pending.reason), Some(&pending.message), pending.generation));
    let error = resizing.error.as_deref();
    let progress = in_progress.then(|| of(IN_PROGRESS, error.map(|_| "Error"), error, resizing.generation));
    pending.into_iter().chain(progress).collect()
}
