//! Amounts of resources by name, and what a pod asks for in all: containers that run together add up, those that run one after
//! another count as the greatest of them. Pure; must never look at limits of anybody.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::pointer::{given, list, text};
use crate::quantity::Quantity;

/// Amounts by the name of their resource, in the order of names.
pub type Amounts = BTreeMap<String, Quantity>;

/// Which of a container's resources are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What it is sure to get.
    Requests,
    /// What it gets at most.
    Limits,
}

impl Side {
    const fn field(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Limits => "limits",
        }
    }
}

/// The amounts that stand in an object. What is no quantity is left out: validation refuses it.
#[must_use]
pub fn amounts(object: Option<&Value>) -> Amounts {
    let fields = object.and_then(Value::as_object).into_iter().flatten();
    fields.filter_map(|(name, value)| Some((name.clone(), Quantity::of_value(value).ok()?))).collect()
}

/// The resources of a container.
#[must_use]
pub fn of_container(container: &Value, side: Side) -> Amounts {
    amounts(container.get("resources").and_then(|resources| resources.get(side.field())))
}

/// Adds amounts; a name that is in one of them only is in the sum.
pub fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let total = sum.get(name).map_or_else(|| amount.clone(), |before| before.plus(amount));
        sum.insert(name.clone(), total);
    }
}

/// Raises amounts to at least those.
pub fn raise(most: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        if most.get(name).is_none_or(|before| before < amount) {
            most.insert(name.clone(), amount.clone());
        }
    }
}

/// What a pod's containers ask for in all; what the pod asks for as a whole stands in its place.
#[must_use]
pub fn of_pod(pod: &Value, side: Side) -> Amounts {
    let mut total = Amounts::new();
    for container in list(pod, "/spec/containers") {
        add(&mut total, &running(pod, container, side));
    }
    let (mut sidecars, mut first) = (Amounts::new(), Amounts::new());
    for container in list(pod, "/spec/initContainers") {
        let own = running(pod, container, side);
        let at_once = if text(container, "/restartPolicy") == "Always" {
            add(&mut total, &own);
            add(&mut sidecars, &own);
            sidecars.clone()
        } else {
            let mut sum = own;
            add(&mut sum, &sidecars);
            sum
        };
        raise(&mut first, &at_once);
    }
    raise(&mut total, &first);
    total.extend(as_a_whole(pod, side));
    total
}

/// The same with what the pod costs its node beside its containers.
#[must_use]
pub fn of_pod_with_overhead(pod: &Value, side: Side) -> Amounts {
    let mut total = of_pod(pod, side);
    let overhead = amounts(pod.pointer("/spec/overhead"));
    match side {
        Side::Requests => add(&mut total, &overhead),
        // Without a limit there is nothing to raise.
        Side::Limits => {
            for (name, amount) in &overhead {
                if let Some(limit) = total.get_mut(name).filter(|limit| !limit.is_zero()) {
                    *limit = limit.plus(amount);
                }
            }
        }
    }
    total
}

/// What a pod asks for as a whole, for resources where that is possible.
#[must_use]
pub fn as_a_whole(pod: &Value, side: Side) -> Amounts {
    let mut own = pod.get("spec").map(|spec| of_container(spec, side)).unwrap_or_default();
    own.retain(|name, _| name == "cpu" || name == "memory" || name.starts_with("hugepages-"));
    own
}

/// What a container asks for, or already has while it is being made smaller.
fn running(pod: &Value, container: &Value, side: Side) -> Amounts {
    let mut own = of_container(container, side);
    if side == Side::Limits {
        return own;
    }
    let statuses = ["/status/containerStatuses", "/status/initContainerStatuses"];
    let status = statuses
        .into_iter()
        .flat_map(|pointer| list(pod, pointer))
        .find(|status| status.get("name") == container.get("name"));
    if let Some(status) = status {
        let infeasible = list(pod, "/status/conditions").iter().any(|condition| {
            text(condition, "/type") == "PodResizePending" && text(condition, "/reason") == "Infeasible"
        });
        let has = [of_container(status, side), amounts(given(status, "/allocatedResources"))];
        if infeasible && has.iter().any(|amounts| !amounts.is_empty()) {
            own.clear();
        }
        has.iter().for_each(|amounts| raise(&mut own, amounts));
    }
    own
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(amounts: &Amounts) -> Vec<String> {
        amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect()
    }

    #[test]
    fn containers_add_up_and_those_before_them_are_the_least_that_is_needed() {
        let one = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let sidecar = |cpu: &str| {
            let mut container = one(cpu);
            container["restartPolicy"] = "Always".into();
            container
        };
        let table = [
            (json!({"containers": [one("1"), one("500m")]}), "cpu=1500m"),
            (json!({"containers": [one("1")], "initContainers": [one("3"), one("2")]}), "cpu=3"),
            (json!({"containers": [one("1")], "initContainers": [sidecar("1"), one("2")]}), "cpu=3"),
            (json!({"containers": [one("1")], "initContainers": [one("1"), sidecar("2")]}), "cpu=3"),
            (json!({"containers": [one("1")], "overhead": {"cpu": "250m"}}), "cpu=1250m"),
            (
                json!({"containers": [one("1")], "resources": {"requests": {"cpu": "4", "x.y/z": "1"}}}),
                "cpu=4",
            ),
        ];
        for (spec, expected) in table {
            let pod = json!({"spec": spec});
            assert_eq!(shown(&of_pod_with_overhead(&pod, Side::Requests)), [expected], "{pod}");
        }
    }

    #[test]
    fn overhead_raises_only_limits_that_there_are() {
        let pod = json!({"spec": {
            "containers": [{"resources": {"limits": {"cpu": "1"}}}],
            "overhead": {"cpu": "1", "memory": "1Mi"},
        }});
        assert_eq!(shown(&of_pod_with_overhead(&pod, Side::Limits)), ["cpu=2"]);
    }

    #[test]
    fn a_container_that_is_made_smaller_counts_as_what_it_has() {
        let pod = json!({
            "spec": {"containers": [{"name": "a", "resources": {"requests": {"cpu": "1"}}}]},
            "status": {"containerStatuses": [{"name": "a", "allocatedResources": {"cpu": "2"}}]},
        });
        assert_eq!(shown(&of_pod(&pod, Side::Requests)), ["cpu=2"]);
    }
}
