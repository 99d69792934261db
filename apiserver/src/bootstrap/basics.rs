//! Namespaces, the priorities of system pods, and the network of services. Must never change one that is there.

use barque_api::ip::Cidr;
use barque_api::kind::GroupVersion;
use serde_json::json;

use super::{Desired, Rule};

const NAMESPACES: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "default"];

const PRIORITIES: [(&str, i64, &str); 2] = [
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
];

pub(super) fn namespaces() -> Vec<Desired> {
    let core = GroupVersion::new("", "v1");
    NAMESPACES
        .iter()
        .map(|name| {
            Desired::new(&core, "namespaces", "Namespace", ("", name), Rule::CreateOnly)
                .with_metadata("labels", json!({"kubernetes.io/metadata.name": name}))
                .with("spec", json!({"finalizers": ["kubernetes"]}))
                .with("status", json!({"phase": "Active"}))
        })
        .collect()
}

pub(super) fn priority_classes() -> Vec<Desired> {
    let scheduling = GroupVersion::new("scheduling.k8s.io", "v1");
    PRIORITIES
        .iter()
        .map(|(name, value, description)| {
            Desired::new(&scheduling, "priorityclasses", "PriorityClass", ("", name), Rule::CreateOnly)
                .with("value", (*value).into())
                .with("description", (*description).into())
                .with("preemptionPolicy", "PreemptLowerPriority".into())
        })
        .collect()
}

/// Nothing where no network was given.
pub(super) fn service_cidr(ranges: &[Cidr]) -> Option<Desired> {
    if ranges.is_empty() {
        return None;
    }
    let networks: Vec<String> = ranges.iter().map(|range| range.network().to_string()).collect();
    let networking = GroupVersion::new("networking.k8s.io", "v1");
    let one = Desired::new(&networking, "servicecidrs", "ServiceCIDR", ("", "kubernetes"), Rule::CreateOnly);
    Some(one.with("spec", json!({"cidrs": networks})))
}

#[cfg(test)]
mod tests {
    use barque_api::ip::parse_cidr;

    use super::*;

    #[test]
    fn the_network_of_services_is_written_by_its_first_address() {
        let ranges = [parse_cidr("10.96.0.5/12").unwrap(), parse_cidr("fd00::7/108").unwrap()];
        let cidr = service_cidr(&ranges).unwrap();
        assert_eq!(cidr.object["spec"]["cidrs"], json!(["10.96.0.0/12", "fd00::/108"]));
        assert_eq!(service_cidr(&[]), None);
    }
}
