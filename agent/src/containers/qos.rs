//! How good a pod is served, and what follows for its control group and for who is ended when memory is short. A decision.

use std::collections::BTreeMap;

use barque_api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::bounds::{self, Which};
use crate::pods::spec;

/// How good a pod is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Qos {
    /// It gets what is left.
    BestEffort,
    /// It gets what it asks for, and more where there is some.
    Burstable,
    /// It has exactly what it asks for.
    Guaranteed,
}

impl Qos {
    /// As a pod's status says it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::BestEffort => "BestEffort",
            Self::Burstable => "Burstable",
            Self::Guaranteed => "Guaranteed",
        }
    }
}

/// The class of a pod. What the API server has told counts, since it does not change.
#[must_use]
pub fn class(pod: &Pod) -> Qos {
    match pod.status.as_ref().and_then(|status| status.qos_class.as_deref()) {
        Some("BestEffort") => return Qos::BestEffort,
        Some("Burstable") => return Qos::Burstable,
        Some("Guaranteed") => return Qos::Guaranteed,
        _ => {}
    }
    let Some(spec) = spec::spec(pod) else { return Qos::BestEffort };
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let parts: Vec<Option<&ResourceRequirements>> = match &spec.resources {
        Some(whole) if whole.requests.is_some() || whole.limits.is_some() => vec![Some(whole)],
        _ => containers.map(|container| container.resources.as_ref()).collect(),
    };
    let (mut requests, mut limits) = (Sums::default(), Sums::default());
    let mut all_bounded = true;
    for part in parts {
        requests.add(part.and_then(|part| part.requests.as_ref()));
        let added = limits.add(part.and_then(|part| part.limits.as_ref()));
        all_bounded &= added == 2;
    }
    if requests.0.is_empty() && limits.0.is_empty() {
        Qos::BestEffort
    } else if all_bounded && requests.0 == limits.0 {
        Qos::Guaranteed
    } else {
        Qos::Burstable
    }
}

#[derive(Default)]
struct Sums(BTreeMap<&'static str, Quantity>);

impl Sums {
    /// Adds processors and memory; says how many of the two there were.
    fn add(&mut self, list: Option<&BTreeMap<String, Text>>) -> usize {
        let mut found = 0;
        for name in ["cpu", "memory"] {
            let quantity =
                list.and_then(|list| list.get(name)).and_then(|text| Quantity::parse(&text.0).ok());
            let Some(quantity) = quantity.filter(|quantity| quantity.sign() > 0) else { continue };
            found += 1;
            let sum = self.0.get(name).map_or(quantity.clone(), |sum| sum.plus(&quantity));
            self.0.insert(name, sum);
        }
        found
    }
}

/// The control group that all pods are in.
pub const PODS: &str = "kubepods";

/// The pod's control group below the root of each hierarchy.
#[must_use]
pub fn cgroup(pod: &Pod) -> String {
    let uid = spec::uid(pod);
    match class(pod) {
        Qos::Guaranteed => format!("{PODS}/pod{uid}"),
        Qos::Burstable => format!("{PODS}/burstable/pod{uid}"),
        Qos::BestEffort => format!("{PODS}/besteffort/pod{uid}"),
    }
}

/// The score of those that are ended last among pods.
const GUARANTEED: i64 = -997;
/// The score of those that are ended first.
const BEST_EFFORT: i64 = 1000;

/// How soon the kernel ends a container when memory is short, -997 to 1000: the more it asked for, the later.
#[must_use]
pub fn oom_score_adj(pod: &Pod, container: &Container, memory_capacity: i64) -> i32 {
    let score = score(pod, container, memory_capacity);
    let sidecar = spec::find(pod, &container.name).is_some_and(|it| it.kind == spec::Kind::Sidecar);
    // A sidecar is not ended before those it serves.
    let of_main = spec::spec(pod).filter(|_| sidecar).into_iter().flat_map(|spec| &spec.containers);
    let least = of_main.map(|main| self::score(pod, main, memory_capacity)).fold(score, i64::min);
    i32::try_from(least).unwrap_or_default()
}

fn score(pod: &Pod, container: &Container, memory_capacity: i64) -> i64 {
    let spec = spec::spec(pod);
    let critical = spec.and_then(|spec| spec.priority_class_name.as_deref()) == Some("system-node-critical");
    match class(pod) {
        _ if critical => return GUARANTEED,
        Qos::Guaranteed => return GUARANTEED,
        Qos::BestEffort => return BEST_EFFORT,
        Qos::Burstable => {}
    }
    let asked =
        |container: &Container| bounds::amount(container.resources.as_ref(), Which::Requests, "memory");
    let mut request = asked(container).unwrap_or_default();
    if let Some(spec) = spec
        && let Some(whole) = bounds::amount(spec.resources.as_ref(), Which::Requests, "memory")
    {
        // What the pod asks for beyond its containers is for all of them.
        let sum: i64 = spec.containers.iter().filter_map(asked).sum();
        let count = i64::try_from(spec.containers.len()).unwrap_or(1).max(1);
        request = request.saturating_add((whole - sum).max(0) / count);
    }
    let part = i128::from(request) * 1000 / i128::from(memory_capacity.max(1));
    let score = 1000 - i64::try_from(part).unwrap_or(1000);
    score.clamp(1000 + GUARANTEED, BEST_EFFORT - 1)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"uid": "1"}, "spec": spec})).unwrap()
    }

    fn of(requests: Value, limits: Value) -> Value {
        json!({"name": "c", "resources": {"requests": requests, "limits": limits}})
    }

    #[test]
    fn the_class_follows_from_requests_and_limits() {
        let full = || json!({"cpu": "1", "memory": "1Gi"});
        let none = || json!({});
        let table = [
            (json!({"containers": [of(none(), none())]}), Qos::BestEffort, "kubepods/besteffort/pod1"),
            (json!({"containers": [of(full(), full())]}), Qos::Guaranteed, "kubepods/pod1"),
            (
                json!({"containers": [of(json!({"cpu": "1000m", "memory": "1024Mi"}), full())]}),
                Qos::Guaranteed,
                "kubepods/pod1",
            ),
            (json!({"containers": [of(full(), none())]}), Qos::Burstable, "kubepods/burstable/pod1"),
            (
                json!({"containers": [of(full(), full()), of(none(), none())]}),
                Qos::Burstable,
                "kubepods/burstable/pod1",
            ),
            (
                json!({"containers": [of(none(), none())], "initContainers": [of(full(), full())]}),
                Qos::Burstable,
                "kubepods/burstable/pod1",
            ),
            (
                json!({"containers": [of(json!({"cpu": "0"}), none())]}),
                Qos::BestEffort,
                "kubepods/besteffort/pod1",
            ),
            (
                json!({"containers": [of(json!({"example.com/gpu": "1"}), json!({"example.com/gpu": "1"}))]}),
                Qos::BestEffort,
                "kubepods/besteffort/pod1",
            ),
            (
                json!({"containers": [of(none(), none())], "resources": {"requests": full(), "limits": full()}}),
                Qos::Guaranteed,
                "kubepods/pod1",
            ),
            (
                json!({"containers": [of(full(), full())], "resources": {"requests": full()}}),
                Qos::Burstable,
                "kubepods/burstable/pod1",
            ),
        ];
        for (spec, expected, group) in table {
            let told = spec.to_string();
            let pod = pod(spec);
            assert_eq!((class(&pod), cgroup(&pod).as_str()), (expected, group), "{told}");
        }
        let mut told = pod(json!({"containers": []}));
        told.status.get_or_insert_default().qos_class = Some("Guaranteed".into());
        assert_eq!((class(&told), class(&told).word()), (Qos::Guaranteed, "Guaranteed"));
    }

    #[test]
    fn the_more_memory_is_asked_for_the_later_a_container_is_ended() {
        let gib = 1 << 30;
        let memory = |request: &str| of(json!({"memory": request}), json!({}));
        let table = [
            (json!({"containers": [of(json!({}), json!({}))]}), 1000),
            (
                json!({"containers": [of(json!({"cpu": "1", "memory": "1"}), json!({"cpu": "1", "memory": "1"}))]}),
                -997,
            ),
            (json!({"containers": [memory("256Mi")]}), 750),
            (json!({"containers": [memory("1Gi")]}), 3),
            (json!({"containers": [memory("2Gi")]}), 3),
            (json!({"containers": [memory("1Ki")]}), 999),
            (json!({"containers": [of(json!({"cpu": "1"}), json!({}))]}), 999),
            (json!({"priorityClassName": "system-node-critical", "containers": [memory("1Ki")]}), -997),
            (
                json!({"containers": [of(json!({}), json!({}))], "resources": {"requests": {"memory": "512Mi"}}}),
                500,
            ),
        ];
        for (spec, expected) in table {
            let told = spec.to_string();
            let pod = pod(spec);
            let container = &pod.spec.as_ref().unwrap().containers[0];
            assert_eq!(oom_score_adj(&pod, container, gib), expected, "{told}");
        }
        let spec = json!({"containers": [memory("512Mi")], "initContainers": [
            {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"memory": "1Mi"}}}]});
        let pod = pod(spec);
        let sidecar = &pod.spec.as_ref().unwrap().init_containers.as_ref().unwrap()[0];
        assert_eq!(oom_score_adj(&pod, sidecar, gib), 500);
    }
}
