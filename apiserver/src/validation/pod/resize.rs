//! What may change of the resources of a pod while it runs: cpu and memory, and never how well it is served.

use std::collections::BTreeSet;

use barque_api::quantity::Quantity;
use serde_json::{Map, Value};

use super::annotations::MIRROR;
use super::resources::amounts;
use super::{annotations_of, check_pod};
use crate::validation::findings::Findings;
use crate::validation::part::Part;
use crate::validation::same::same;

/// An update of the resources.
pub(super) fn check_resize(new: &Part<'_>, old: &Part<'_>, findings: &mut Findings) {
    let refused = if annotations_of(old).contains_key(MIRROR) {
        Some("static pods cannot be resized")
    } else {
        let is_windows = old.child("spec").child("os").text("name") == "windows";
        is_windows.then_some("windows pods cannot be resized")
    };
    if let Some(refused) = refused {
        findings.forbidden(&new.path, refused);
        return;
    }
    check_pod(new, findings);
    let told_class = old.child("status").text("qosClass");
    let (spec, old_spec) = (new.child("spec"), old.child("spec"));
    let before = if told_class.is_empty() { quality(&old_spec) } else { told_class };
    if before != quality(&spec) {
        let detail = "Pod QOS Class may not change as a result of resizing";
        findings.invalid(&spec.path, new.child("status").text("qosClass"), detail);
    }
    let running =
        old.child("status").items("containerStatuses").find(|one| one.child("state").has("running"));
    if running.is_some_and(|container| !container.has("resources")) {
        findings.forbidden(&spec.path, "Pod running on node without support for resize");
    }
    check_containers(&spec, &old_spec, findings);
    if findings.len() == 0 && !same(&without_containers(&spec), &without_containers(&old_spec)) {
        findings.forbidden(&spec.path, "only cpu and memory resources are mutable");
    }
}

fn check_containers(spec: &Part<'_>, old: &Part<'_>, findings: &mut Findings) {
    for list in ["initContainers", "containers"] {
        if spec.list(list).len() != old.list(list).len() {
            findings.forbidden(&spec.path, "only cpu and memory resources are mutable");
            return;
        }
    }
    for (container, before) in spec.items("initContainers").zip(old.items("initContainers")) {
        if before.text("restartPolicy") == "Always" {
            check_resources(&container, &before, findings);
        }
    }
    for (container, before) in spec.items("containers").zip(old.items("containers")) {
        check_resources(&container, &before, findings);
    }
    for (container, before) in spec.items("containers").zip(old.items("containers")) {
        if !same(&resized_back(&container, &before), before.value) {
            findings.forbidden(&spec.path, "only cpu and memory resources are mutable");
        }
    }
    for (container, before) in spec.items("initContainers").zip(old.items("initContainers")) {
        if container.text("restartPolicy") == "Always" {
            if !same(&resized_back(&container, &before), before.value) {
                let detail = "only cpu and memory resources for sidecar containers are mutable";
                findings.forbidden(&spec.path, detail);
            }
        } else if !same(container.value, before.value) {
            findings.forbidden(&spec.path, "resources for non-sidecar init containers are immutable");
        }
    }
}

fn check_resources(container: &Part<'_>, old: &Part<'_>, findings: &mut Findings) {
    let (new, old) = (container.child("resources"), old.child("resources"));
    for (field, word) in [("requests", "requests"), ("limits", "limits")] {
        let is_kept = |(name, _): (&str, &Value)| new.child(field).has(name);
        if !old.entries(field).all(is_kept) {
            findings.forbidden(&new.at(field), format!("resource {word} cannot be removed"));
        }
    }
}

/// The container with the cpu and memory that it had.
fn resized_back(container: &Part<'_>, old: &Part<'_>) -> Value {
    let mut fields = container.value.as_object().cloned().unwrap_or_default();
    let (new, old) = (container.child("resources"), old.child("resources"));
    let mut resources = new.value.as_object().cloned().unwrap_or_default();
    for list in ["requests", "limits"] {
        let mut amounts: Map<String, Value> = new.map(list).cloned().unwrap_or_default();
        amounts.retain(|name, _| name != "cpu" && name != "memory");
        let kept = old.entries(list).filter(|(name, _)| *name == "cpu" || *name == "memory");
        amounts.extend(kept.map(|(name, amount)| (name.to_owned(), amount.clone())));
        resources.insert(list.to_owned(), Value::Object(amounts));
    }
    fields.insert("resources".to_owned(), Value::Object(resources));
    Value::Object(fields)
}

/// The rest of a spec. What the pod asks for as a whole may change too, as far as it is cpu and memory.
fn without_containers(spec: &Part<'_>) -> Value {
    let mut fields = spec.value.as_object().cloned().unwrap_or_default();
    for list in ["containers", "initContainers"] {
        fields.remove(list);
    }
    if let Some(resources) = fields.get_mut("resources") {
        for list in ["requests", "limits"] {
            if let Some(amounts) = resources.get_mut(list).and_then(Value::as_object_mut) {
                amounts.retain(|name, _| name != "cpu" && name != "memory");
            }
        }
    }
    Value::Object(fields)
}

/// How well the pod is served, by what its containers ask for (`status.qosClass`).
fn quality(spec: &Part<'_>) -> &'static str {
    let containers: Vec<_> = if spec.has("resources") {
        vec![spec.child("resources")]
    } else {
        let all = ["containers", "initContainers"].into_iter().flat_map(|list| spec.items(list));
        all.map(|container| container.child("resources")).collect()
    };
    let mut asks = false;
    let mut is_guaranteed = true;
    for resources in &containers {
        let (requests, limits) = (amounts(resources, "requests"), amounts(resources, "limits"));
        let counted = |amount: Option<&Quantity>| amount.filter(|amount| amount.sign() > 0).cloned();
        let limited: BTreeSet<_> =
            ["cpu", "memory"].into_iter().filter(|name| counted(limits.get(name)).is_some()).collect();
        for name in ["cpu", "memory"] {
            let (request, limit) = (counted(requests.get(name)), counted(limits.get(name)));
            asks |= request.is_some() || limit.is_some();
            is_guaranteed &= request.is_none() || request == limit;
        }
        is_guaranteed &= limited.len() == 2;
    }
    match (asks, is_guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
