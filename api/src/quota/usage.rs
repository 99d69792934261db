//! What an object costs, in the names that quotas know: a pod its resources, a claim its storage, a service its ports, and
//! everything one of its kind. Pure; must never know what is left.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::amounts::{self, Amounts, Side, amounts as read};
use crate::kind::GroupResource;
use crate::metadata::Metadata;
use crate::pointer::{list, text};
use crate::quantity::{Format, Quantity};
use crate::time::Time;

/// The annotation in which a claim named its class before there was a field for it.
pub const OLD_STORAGE_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// Resources that every container of a pod must name if a quota counts them.
const MUST_BE_SAID: [&str; 6] =
    ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];
/// What quotas count of pods, beside huge pages and what nodes add.
const OF_PODS: [&str; 10] = [
    "pods",
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
];
/// Collections that can be counted by their plain names too.
const PLAIN_NAMES: [&str; 4] = ["configmaps", "secrets", "replicationcontrollers", "resourcequotas"];
const OF_CLASS: &str = ".storageclass.storage.k8s.io/";

/// How objects of a collection are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meter {
    /// By their resources.
    Pods,
    /// Of volumes: by their storage.
    Claims,
    /// By their ports and balancers.
    Services,
    /// One by one; the names under which they are.
    Others(Vec<String>),
}

impl Meter {
    /// The one for a collection; nothing for events, which nobody counts, and for what is not stored.
    #[must_use]
    pub fn of(resource: &GroupResource) -> Option<Self> {
        let name = &*resource.resource;
        let is_uncounted = match &*resource.group {
            "" => ["events", "bindings"].contains(&name),
            "events.k8s.io" => name == "events",
            "authorization.k8s.io" => name == "localsubjectaccessreviews",
            _ => false,
        };
        if is_uncounted {
            return None;
        }
        if !resource.group.is_empty() {
            return Some(Self::Others(vec![format!("count/{resource}")]));
        }
        Some(match name {
            "pods" => Self::Pods,
            "persistentvolumeclaims" => Self::Claims,
            "services" => Self::Services,
            _ => {
                let plain = PLAIN_NAMES.contains(&name).then(|| name.to_owned());
                Self::Others(std::iter::once(format!("count/{name}")).chain(plain).collect())
            }
        })
    }

    /// Whether objects of this kind can use that.
    #[must_use]
    pub fn counts(&self, name: &str) -> bool {
        match self {
            Self::Pods => {
                name == "count/pods"
                    || OF_PODS.contains(&name)
                    || name.starts_with("hugepages-")
                    || name
                        .strip_prefix("requests.")
                        .is_some_and(|rest| rest.starts_with("hugepages-") || !is_native(name))
            }
            Self::Claims => {
                let own = ["persistentvolumeclaims", "requests.storage"];
                name == "count/persistentvolumeclaims"
                    || own.contains(&name)
                    || name.split_once(OF_CLASS).is_some_and(|(_, rest)| own.contains(&rest))
            }
            Self::Services => {
                ["count/services", "services", "services.nodeports", "services.loadbalancers"].contains(&name)
            }
            Self::Others(names) => names.iter().any(|own| own == name),
        }
    }

    /// What an object uses.
    #[must_use]
    pub fn usage(&self, object: &Value, now: Time) -> Amounts {
        match self {
            Self::Pods => of_pod(object, now),
            Self::Claims => of_claim(object),
            Self::Services => of_service(object),
            Self::Others(names) => names.iter().map(|name| (name.clone(), number(1))).collect(),
        }
    }

    /// What is missing in an object so that it can be counted by these names.
    #[must_use]
    pub fn unsaid(&self, object: &Value, names: &[String]) -> Option<String> {
        if *self != Self::Pods {
            return None;
        }
        let whole =
            compute(&amounts::as_a_whole(object, Side::Requests), &amounts::as_a_whole(object, Side::Limits));
        let needed = || {
            names.iter().filter(|name| MUST_BE_SAID.contains(&name.as_str()) && !whole.contains_key(*name))
        };
        let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for field in ["/spec/containers", "/spec/initContainers"] {
            for container in list(object, field) {
                let own = compute(
                    &amounts::of_container(container, Side::Requests),
                    &amounts::of_container(container, Side::Limits),
                );
                for name in needed().filter(|name| !own.contains_key(*name)) {
                    missing.entry(name).or_default().insert(text(container, "/name"));
                }
            }
        }
        let told: Vec<String> = missing
            .into_iter()
            .map(|(name, containers)| {
                format!("{name} for: {}", containers.into_iter().collect::<Vec<_>>().join(","))
            })
            .collect();
        (!told.is_empty()).then(|| format!("must specify {}", told.join("; ")))
    }
}

fn number(count: usize) -> Quantity {
    Quantity::new(i64::try_from(count).unwrap_or(i64::MAX), 0, Format::DecimalSi)
}

/// Names that are Kubernetes' own.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

fn of_pod(pod: &Value, now: Time) -> Amounts {
    let mut usage = Amounts::from([("count/pods".to_owned(), number(1))]);
    if is_running(pod, now) {
        let requests = amounts::of_pod_with_overhead(pod, Side::Requests);
        let limits = amounts::of_pod_with_overhead(pod, Side::Limits);
        usage.extend(compute(&requests, &limits));
        usage.insert("pods".to_owned(), number(1));
    }
    usage
}

/// One that ended, or should have long ago, uses nothing.
fn is_running(pod: &Value, now: Time) -> bool {
    if ["Failed", "Succeeded"].contains(&text(pod, "/status/phase")) {
        return false;
    }
    let metadata = Metadata::of(pod);
    match (metadata.deletion_time(), metadata.deletion_grace_seconds()) {
        (Some(time), Some(grace)) => now.unix() <= time.unix().saturating_add(grace),
        _ => true,
    }
}

/// Resources under all of their names.
fn compute(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut usage = Amounts::new();
    for (name, amount) in requests {
        if ["cpu", "memory", "ephemeral-storage"].contains(&name.as_str()) || name.starts_with("hugepages-") {
            usage.insert(name.clone(), amount.clone());
            usage.insert(format!("requests.{name}"), amount.clone());
        } else if !is_native(name) && !name.starts_with("requests.") {
            usage.insert(format!("requests.{name}"), amount.clone());
        }
    }
    for name in ["cpu", "memory", "ephemeral-storage"] {
        if let Some(amount) = limits.get(name) {
            usage.insert(format!("limits.{name}"), amount.clone());
        }
    }
    usage
}

/// The name of a claim's class; empty for none.
#[must_use]
pub fn class_of(claim: &Value) -> &str {
    let old = Metadata::of(claim).annotation(OLD_STORAGE_CLASS);
    old.unwrap_or_else(|| text(claim, "/spec/storageClassName"))
}

fn of_claim(claim: &Value) -> Amounts {
    let storage = |pointer: &str| read(claim.pointer(pointer)).remove("storage");
    let mut usage = Amounts::from([
        ("persistentvolumeclaims".to_owned(), number(1)),
        ("count/persistentvolumeclaims".to_owned(), number(1)),
    ]);
    if let Some(requested) = storage("/spec/resources/requests") {
        let allocated = storage("/status/allocatedResources");
        let most = allocated.filter(|allocated| *allocated > requested).unwrap_or(requested);
        // Whole bytes are counted.
        let whole =
            if most.as_i64().is_some() { most } else { Quantity::new(most.value(), 0, most.format()) };
        usage.insert("requests.storage".to_owned(), whole);
    }
    let class = class_of(claim);
    if !class.is_empty() {
        for name in ["persistentvolumeclaims", "requests.storage"] {
            if let Some(amount) = usage.get(name).cloned() {
                usage.insert(format!("{class}{OF_CLASS}{name}"), amount);
            }
        }
    }
    usage
}

fn of_service(service: &Value) -> Amounts {
    let ports = list(service, "/spec/ports");
    let (node_ports, balancers) = match text(service, "/spec/type") {
        "NodePort" => (ports.len(), 0),
        "LoadBalancer" => {
            let allocates = service.pointer("/spec/allocateLoadBalancerNodePorts").and_then(Value::as_bool);
            let chosen =
                |port: &&Value| port.get("nodePort").and_then(Value::as_i64).is_some_and(|port| port != 0);
            let count =
                if allocates == Some(false) { ports.iter().filter(chosen).count() } else { ports.len() };
            (count, 1)
        }
        _ => (0, 0),
    };
    [
        ("count/services", 1),
        ("services", 1),
        ("services.nodeports", node_ports),
        ("services.loadbalancers", balancers),
    ]
    .into_iter()
    .map(|(name, count)| (name.to_owned(), number(count)))
    .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(meter: &Meter, object: &Value) -> String {
        let usage = meter.usage(object, Time::of_unix(0));
        usage.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn objects_cost_what_they_ask_for() {
        let table = [
            (
                Meter::Pods,
                json!({"spec": {"containers": [{"resources": {
                    "requests": {"cpu": "1", "x.org/gpu": "2", "hugepages-2Mi": "4Mi"}, "limits": {"memory": "1Gi"}}}]}}),
                "count/pods=1 cpu=1 hugepages-2Mi=4Mi limits.memory=1Gi pods=1 requests.cpu=1 requests.hugepages-2Mi=4Mi \
                 requests.x.org/gpu=2",
            ),
            (
                Meter::Pods,
                json!({"spec": {"containers": [{"resources": {"requests": {"cpu": "1"}}}]}, "status": {"phase": "Failed"}}),
                "count/pods=1",
            ),
            (
                Meter::Claims,
                json!({"spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "1500m"}}}}),
                "count/persistentvolumeclaims=1 fast.storageclass.storage.k8s.io/persistentvolumeclaims=1 \
                 fast.storageclass.storage.k8s.io/requests.storage=2 persistentvolumeclaims=1 requests.storage=2",
            ),
            (
                Meter::Services,
                json!({"spec": {"type": "LoadBalancer", "ports": [{}, {}]}}),
                "count/services=1 services=1 services.loadbalancers=1 services.nodeports=2",
            ),
            (
                Meter::Services,
                json!({"spec": {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": [{"nodePort": 5}, {}]}}),
                "count/services=1 services=1 services.loadbalancers=1 services.nodeports=1",
            ),
        ];
        for (meter, object, expected) in table {
            assert_eq!(shown(&meter, &object), expected);
        }
        let of = |group: &str, name: &str| Meter::of(&GroupResource::new(group, name));
        assert_eq!(shown(&of("", "configmaps").unwrap(), &json!({})), "configmaps=1 count/configmaps=1");
        assert_eq!(shown(&of("apps", "deployments").unwrap(), &json!({})), "count/deployments.apps=1");
        assert_eq!((of("", "events"), of("events.k8s.io", "events")), (None, None));
    }

    #[test]
    fn names_belong_to_kinds() {
        let table = [
            (Meter::Pods, "requests.x.org/gpu", true),
            (Meter::Pods, "hugepages-1Gi", true),
            (Meter::Pods, "requests.storage", false),
            (Meter::Claims, "requests.storage", true),
            (Meter::Claims, "gold.storageclass.storage.k8s.io/requests.storage", true),
            (Meter::Claims, "gold.storageclass.storage.k8s.io/cpu", false),
            (Meter::Pods, "gold.storageclass.storage.k8s.io/requests.storage", false),
            (Meter::Services, "services.nodeports", true),
        ];
        for (meter, name, expected) in table {
            assert_eq!(meter.counts(name), expected, "{name}");
        }
    }

    #[test]
    fn containers_say_what_is_counted() {
        let pod = json!({"spec": {"containers": [{"name": "b"}, {"name": "a"}, {"name": "c", "resources": {
            "requests": {"cpu": "1"}, "limits": {"memory": "1Mi"}}}]}});
        let unsaid = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            Meter::Pods.unsaid(&pod, &names).unwrap_or_default()
        };
        assert_eq!(unsaid(&["pods", "requests.ephemeral-storage"]), "");
        assert_eq!(
            unsaid(&["limits.memory", "cpu", "memory"]),
            "must specify cpu for: a,b; limits.memory for: a,b; memory for: a,b,c"
        );
    }
}
