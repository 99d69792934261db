//! Nodes: taints, networks of pods, amounts. Must never judge whether a node is well.

use std::collections::BTreeSet;

use barque_api::field::{FieldError, FieldPath};
use barque_api::ip::parse_cidr;
use barque_api::names;

use super::addresses::check_cidr;
use super::amounts::check_amount;
use super::node_affinity::check_effect;
use super::{Change, Findings, Part};

/// What is wrong with a Node.
pub(super) fn check_node(change: &Change<'_>, findings: &mut Findings) {
    let spec = change.new.child("spec");
    let status = change.new.child("status");
    match &change.old {
        None => {
            check_taints(&spec, findings);
            check_amounts(&status, findings);
            check_networks(&spec, findings);
        }
        Some(old) => {
            check_amounts(&status, findings);
            let mut seen = Vec::new();
            for address in status.items("addresses") {
                if seen.contains(&address.value) {
                    findings.duplicate(&address.path, address.value.clone());
                }
                seen.push(address.value);
            }
            check_changed(&spec, &old.child("spec"), findings);
            check_taints(&spec, findings);
        }
    }
}

fn check_changed(spec: &Part<'_>, old: &Part<'_>, findings: &mut Findings) {
    let networks = old.list("podCIDRs");
    if !networks.is_empty() && networks != spec.list("podCIDRs") {
        let detail = "node updates may not change podCIDR except from \"\" to valid";
        findings.forbidden(&spec.at("podCIDRs"), detail);
    }
    let provider = old.text("providerID");
    if !provider.is_empty() && provider != spec.text("providerID") {
        let detail = "node updates may not change providerID except from \"\" to valid";
        findings.forbidden(&spec.at("providerID"), detail);
    }
    if old.text("externalID") != spec.text("externalID") {
        findings.forbidden(&spec.at("externalID"), "may not be updated");
    }
}

/// Kubernetes tells taints as a part of the metadata.
fn check_taints(spec: &Part<'_>, findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    for (index, taint) in spec.items("taints").enumerate() {
        let at = FieldPath::of("metadata.taints").index(index);
        let (key, value, effect) = (taint.text("key"), taint.text("value"), taint.text("effect"));
        findings.label_key(&at.child("key"), key);
        let wrong = names::label_value(value);
        if !wrong.is_empty() {
            findings.invalid(&at.child("value"), value, wrong.join(";"));
        }
        check_effect(effect, false, &at.child("effect"), findings);
        if !seen.insert((key, effect)) {
            let mut error = FieldError::duplicate(&at, taint.value.clone());
            error.detail = "taints must be unique by key and effect pair".to_owned();
            findings.push(error);
        }
    }
}

fn check_amounts(status: &Part<'_>, findings: &mut Findings) {
    for field in ["capacity", "allocatable"] {
        for (name, value) in status.entries(field) {
            check_amount(name, value, &status.at(field).child(name), findings);
        }
    }
}

fn check_networks(spec: &Part<'_>, findings: &mut Findings) {
    let at = spec.at("podCIDRs");
    let networks: Vec<&str> = spec.texts("podCIDRs").collect();
    for (index, network) in networks.iter().enumerate() {
        check_cidr(network, std::iter::empty(), &at.index(index), findings);
    }
    if networks.len() < 2 {
        return;
    }
    let families: BTreeSet<bool> = networks
        .iter()
        .filter_map(|network| parse_cidr(network))
        .map(|cidr| cidr.address.is_ipv4())
        .collect();
    if families.len() != 2 || networks.len() > 2 {
        let detail = "may specify no more than one CIDR for each IP family";
        findings.invalid(&at, spec.get("podCIDRs").clone(), detail);
    }
    let mut seen = BTreeSet::new();
    for (index, network) in networks.iter().enumerate() {
        if !seen.insert(network) {
            findings.duplicate(&at.index(index), *network);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::told;

    #[test]
    fn nodes_and_what_is_wrong_with_them() {
        let taint = |effect: &str| json!({"key": "a", "effect": effect});
        let told = |spec: Value| told("", "Node", &json!({"spec": spec}), None);
        assert!(
            told(json!({"taints": [taint("NoSchedule"), taint("NoExecute")], "podCIDRs": ["10.0.0.0/24"]}))
                .is_empty()
        );
        assert_eq!(
            told(json!({"taints": [taint("NoSchedule"), taint("NoSchedule")]})),
            [
                "metadata.taints[1]: Duplicate value: {\"effect\":\"NoSchedule\",\"key\":\"a\"}: taints must be unique by \
             key and effect pair"
            ]
        );
        assert_eq!(told(json!({"taints": [taint("")]})), ["metadata.taints[0].effect: Required value"]);
        assert_eq!(told(json!({"podCIDRs": ["10.0.0.0/24", "10.0.1.0/24"]})).len(), 1);
    }

    #[test]
    fn networks_and_providers_are_set_once() {
        let node =
            |network: &str, provider: &str| json!({"spec": {"podCIDRs": [network], "providerID": provider}});
        let told = |new: Value, old: Value| told("", "Node", &new, Some(&old));
        assert!(told(node("10.0.0.0/24", "p"), json!({"spec": {}})).is_empty());
        assert_eq!(
            told(node("10.0.1.0/24", "q"), node("10.0.0.0/24", "p")),
            [
                "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid",
                "spec.providerID: Forbidden: node updates may not change providerID except from \"\" to valid",
            ]
        );
    }
}
