//! `ResourceSlice`: which devices a driver has where. Must never know what a device does.

use std::collections::BTreeSet;

use barque_api::field::FieldError;
use barque_api::names;
use serde_json::json;

use super::device_taints::check_taint;
use super::devices::check_pool_name;
use super::node_affinity::check_node_selector;
use super::storage::check_driver_name;
use super::{Change, Findings, Part};

const MOST_DEVICES: usize = 128;
/// With taints or counters.
const MOST_SPECIAL_DEVICES: usize = 64;
const MOST_FACTS: usize = 32;
const MOST_TAINTS: usize = 16;
const MOST_COUNTER_SETS: usize = 8;
const LONGEST_FACT: usize = 64;
const LONGEST_ID: usize = 32;

/// What is wrong with a `ResourceSlice`.
pub(super) fn check_slice(change: &Change<'_>, findings: &mut Findings) {
    let spec = change.new.child("spec");
    check_driver_name(spec.text("driver"), &spec.at("driver"), findings);
    let pool = spec.child("pool");
    check_pool_name(&pool, "name", findings);
    if pool.count("resourceSliceCount") <= 0 {
        let count = pool.count("resourceSliceCount");
        findings.invalid(&pool.at("resourceSliceCount"), count, "must be greater than zero");
    }
    if pool.count("generation") < 0 {
        let generation = pool.count("generation");
        findings.invalid(&pool.at("generation"), generation, "must be greater than or equal to zero");
    }
    if let Some(old) = &change.old {
        let old = old.child("spec");
        findings.immutable(&pool, &old.child("pool"), "name");
        findings.immutable(&spec, &old, "driver");
        findings.immutable(&spec, &old, "nodeName");
    }
    check_place(&spec, findings);
    if spec.has("sharedCounters") && spec.has("devices") {
        findings.invalid(&spec.path, "", "only one of `sharedCounters` or `devices` is allowed");
    }
    let special = spec
        .items("devices")
        .any(|device| !device.list("taints").is_empty() || !device.list("consumesCounters").is_empty());
    let most = if special { MOST_SPECIAL_DEVICES } else { MOST_DEVICES };
    let many = spec.list("devices").len();
    if many > most {
        findings.push(FieldError::too_many(&spec.at("devices"), many, most));
    }
    let mut seen = BTreeSet::new();
    for device in spec.items("devices") {
        check_device(&device, findings);
        if !seen.insert(device.text("name")) {
            findings.duplicate(&device.path, device.text("name"));
        }
    }
    check_counters(&spec, findings);
}

fn check_place(spec: &Part<'_>, findings: &mut Findings) {
    let mut given = Vec::new();
    if spec.has("nodeName") {
        let name = spec.text("nodeName");
        if name.is_empty() {
            let detail = "must be either unset or set to a non-empty string";
            findings.invalid(&spec.at("nodeName"), name, detail);
        } else {
            given.push("`nodeName`");
            findings.dns_subdomain(&spec.at("nodeName"), name);
        }
    }
    if let Some(selector) = spec.given("nodeSelector") {
        given.push("`nodeSelector`");
        check_node_selector(&selector, findings);
        if selector.list("nodeSelectorTerms").len() != 1 {
            let terms = selector.get("nodeSelectorTerms").clone();
            let detail = "must have exactly one node selector term";
            findings.invalid(&selector.at("nodeSelectorTerms"), terms, detail);
        }
    }
    for (field, told) in [("allNodes", "`allNodes`"), ("perDeviceNodeSelection", "`perDeviceNodeSelection`")]
    {
        match spec.choice(field) {
            Some(true) => given.push(told),
            Some(false) => {
                findings.invalid(&spec.at(field), false, "must be either unset or set to true");
            }
            None => {}
        }
    }
    let one = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    match given.len() {
        0 => findings.required(&spec.path, one),
        1 => {}
        _ => {
            let told = format!("{{{}}}", given.join(", "));
            findings.invalid(&spec.path, told, format!("{one}, but multiple fields are set"));
        }
    }
}

fn check_device(device: &Part<'_>, findings: &mut Findings) {
    findings.dns_label(&device.at("name"), device.text("name"));
    let facts = device.entries("attributes").count() + device.entries("capacity").count();
    if facts > MOST_FACTS {
        let detail = format!("the total number of attributes and capacities must not exceed {MOST_FACTS}");
        findings.invalid(&device.path, facts, detail);
    }
    for field in ["attributes", "capacity"] {
        for (name, _) in device.entries(field) {
            check_fact_name(name, &device.at(field), findings);
        }
    }
    let attributes = device.child("attributes");
    for (name, value) in device.entries("attributes") {
        let at = attributes.path.key(name);
        let kinds = value.as_object().map_or(0, serde_json::Map::len);
        match kinds {
            0 => findings.required(&at, "exactly one value must be specified"),
            1 => {}
            _ => findings.invalid(&at, value.clone(), "exactly one value must be specified"),
        }
        for kind in ["string", "version"] {
            let text = value.get(kind).and_then(serde_json::Value::as_str).unwrap_or_default();
            if text.len() > LONGEST_FACT {
                findings.push(FieldError::too_long(&at.child(kind), LONGEST_FACT));
            }
        }
    }
    let many = device.list("taints").len();
    if many > MOST_TAINTS {
        findings.push(FieldError::too_many(&device.at("taints"), many, MOST_TAINTS));
    }
    for taint in device.items("taints") {
        check_taint(&taint, findings);
    }
}

/// A C identifier, which may have a domain before it.
fn check_fact_name(name: &str, at: &barque_api::field::FieldPath, findings: &mut Findings) {
    let id = match name.split_once('/') {
        Some((domain, id)) => {
            if domain.is_empty() {
                findings.required(at, "the domain must not be empty");
            } else {
                check_driver_name(domain, at, findings);
            }
            id
        }
        None => name,
    };
    if id.is_empty() {
        findings.required(at, "the name must not be empty");
        return;
    }
    if id.len() > LONGEST_ID {
        findings.push(FieldError::too_long(at, LONGEST_ID));
    }
    findings.each(at, id, names::c_identifier(id));
}

fn check_counters(spec: &Part<'_>, findings: &mut Findings) {
    let many = spec.list("sharedCounters").len();
    if many > MOST_COUNTER_SETS {
        findings.push(FieldError::too_many(&spec.at("sharedCounters"), many, MOST_COUNTER_SETS));
    }
    let mut seen = BTreeSet::new();
    for set in spec.items("sharedCounters") {
        let name = set.text("name");
        findings.needs(&set, "name");
        if !name.is_empty() {
            findings.dns_label(&set.at("name"), name);
        }
        if !seen.insert(name) {
            findings.duplicate(&set.path, json!(name));
        }
        let counters = set.entries("counters").count();
        if counters == 0 {
            findings.required(&set.at("counters"), "");
        } else if counters > MOST_FACTS {
            findings.push(FieldError::too_many(&set.at("counters"), counters, MOST_FACTS));
        }
        for (name, _) in set.entries("counters") {
            findings.dns_label(&set.at("counters"), name);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::told;

    #[test]
    fn slices_lie_at_one_place() {
        let slice = |changes: Value| {
            let mut spec = json!({"driver": "a.io", "pool": {"name": "p", "resourceSliceCount": 1}});
            spec.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            json!({"spec": spec})
        };
        let told =
            |new: Value, old: Option<Value>| told("resource.k8s.io", "ResourceSlice", &new, old.as_ref());
        assert!(told(slice(json!({"nodeName": "n"})), None).is_empty());
        let one =
            "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
        assert_eq!(told(slice(json!({})), None), [format!("spec: Required value: {one}")]);
        assert_eq!(
            told(slice(json!({"nodeName": "n", "allNodes": true})), None),
            [format!(
                "spec: Invalid value: \"{{`nodeName`, `allNodes`}}\": {one}, but multiple fields are set"
            )]
        );
        assert_eq!(
            told(slice(json!({"nodeName": "m"})), Some(slice(json!({"nodeName": "n"})))),
            ["spec.nodeName: Invalid value: \"m\": field is immutable"]
        );
        let device = json!({"name": "d", "attributes": {"model": {"string": "x", "int": 1}}});
        assert_eq!(told(slice(json!({"allNodes": true, "devices": [device, device]})), None).len(), 3);
    }
}
