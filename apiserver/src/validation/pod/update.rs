//! What may change of a pod once it is there: little.

use std::collections::{BTreeMap, BTreeSet};

use barque_api::names;
use serde_json::{Map, Value};

use super::annotations::{MIRROR, check_annotation_update};
use super::{annotations_of, check_pod};
use crate::validation::findings::Findings;
use crate::validation::part::Part;
use crate::validation::same::{difference, same};

const MAY_CHANGE: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
                          `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to \
                          existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
                          previously negative)";
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";

/// An update of a pod by its users.
pub(super) fn check_update(new: &Part<'_>, old: &Part<'_>, findings: &mut Findings) {
    check_pod(new, findings);
    check_annotations(new, old, findings);
    let (new, old) = (new.child("spec"), old.child("spec"));
    for field in ["containers", "initContainers"] {
        if new.list(field).len() != old.list(field).len() {
            findings.forbidden(&new.at(field), "pod updates may not add or remove containers");
            return;
        }
    }
    if !check_deadline(&new, &old, findings) {
        return;
    }
    check_tolerations(&new, &old, findings);
    check_gates(&new, &old, findings);
    if same(new.value, old.value) {
        return;
    }
    let Value::Object(fields) = new.value else { return };
    let mut fields = fields.clone();
    for list in ["containers", "initContainers"] {
        restore_images(&mut fields, &old, list);
    }
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        restore(&mut fields, &old, field);
    }
    if old.count("terminationGracePeriodSeconds") < 0
        && new.number("terminationGracePeriodSeconds") == Some(1)
    {
        restore(&mut fields, &old, "terminationGracePeriodSeconds");
    }
    if !old.list("schedulingGates").is_empty() {
        check_gated(&new, &old, &mut fields, findings);
    }
    let fields = Value::Object(fields);
    if !same(&fields, old.value) {
        let told = difference(old.value, &fields, &new.path);
        findings.forbidden(&new.path, format!("{MAY_CHANGE}\n{told}"));
    }
}

/// Ephemeral containers are added, and never changed or removed.
pub(super) fn check_ephemeral_update(new: &Part<'_>, old: &Part<'_>, findings: &mut Findings) {
    if annotations_of(old).contains_key(MIRROR) {
        findings.forbidden(&new.path, "static pods do not support ephemeral containers");
        return;
    }
    check_pod(new, findings);
    check_annotations(new, old, findings);
    let (new, old) = (new.child("spec"), old.child("spec"));
    let path = new.at("ephemeralContainers");
    for before in old.items("ephemeralContainers") {
        let name = before.text("name");
        match new.items("ephemeralContainers").filter(|container| container.text("name") == name).last() {
            None => {
                let detail = format!("existing ephemeral containers {name:?} may not be removed\n");
                findings.forbidden(&path, detail);
            }
            Some(after) if !same(before.value, after.value) => {
                let told = difference(before.value, after.value, &after.path);
                let detail = format!("existing ephemeral containers {name:?} may not be changed\n{told}");
                findings.forbidden(&path, detail);
            }
            Some(_) => {}
        }
    }
}

/// Annotations that may not change.
pub(super) fn check_annotations(new: &Part<'_>, old: &Part<'_>, findings: &mut Findings) {
    let path = new.child("metadata").at("annotations");
    check_annotation_update(annotations_of(new), annotations_of(old), &path, findings);
}

/// A deadline may come, and come nearer. False when there is no use in looking further.
fn check_deadline(new: &Part<'_>, old: &Part<'_>, findings: &mut Findings) -> bool {
    let at = new.at("activeDeadlineSeconds");
    match (new.number("activeDeadlineSeconds"), old.number("activeDeadlineSeconds")) {
        (Some(new), _) if !(0..=i64::from(i32::MAX)).contains(&new) => {
            findings.invalid(&at, new, names::inclusive_range(0, i32::MAX.into()));
            return false;
        }
        (Some(new), Some(old)) if old < new => {
            findings.invalid(&at, new, "must be less than or equal to previous value");
            return false;
        }
        (None, Some(_)) => {
            findings.invalid(&at, Value::Null, "must not update from a positive integer to nil value");
        }
        _ => {}
    }
    true
}

/// Tolerations are added; of those that were there the time may change.
fn check_tolerations(new: &Part<'_>, old: &Part<'_>, findings: &mut Findings) {
    let timeless = |toleration: &Value| {
        let mut toleration = toleration.clone();
        toleration.as_object_mut().map(|fields| fields.remove("tolerationSeconds"));
        toleration
    };
    let now: Vec<_> = new.list("tolerations").iter().map(timeless).collect();
    let is_kept = |before: &Value| now.iter().any(|after| same(after, &timeless(before)));
    if !old.list("tolerations").iter().all(is_kept) {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        findings.forbidden(&new.at("tolerations"), detail);
    }
}

/// Gates are only opened.
fn check_gates(new: &Part<'_>, old: &Part<'_>, findings: &mut Findings) {
    let before: BTreeSet<_> = old.items("schedulingGates").map(|gate| gate.text("name")).collect();
    let added: BTreeMap<_, _> = new
        .items("schedulingGates")
        .map(|gate| (gate.text("name"), gate.at("name")))
        .filter(|(name, _)| !before.contains(name))
        .collect();
    for (name, at) in added {
        findings.forbidden(&at, format!("only deletion is allowed, but found new scheduling gate '{name}'"));
    }
}

fn restore(fields: &mut Map<String, Value>, old: &Part<'_>, field: &str) {
    fields.insert(field.to_owned(), old.get(field).clone());
}

fn restore_images(fields: &mut Map<String, Value>, old: &Part<'_>, list: &str) {
    let containers = fields.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
    for (container, before) in containers.zip(old.items(list)) {
        if let Some(container) = container.as_object_mut() {
            container.insert("image".to_owned(), before.get("image").clone());
        }
    }
}

/// While a gate is closed the choice of nodes may become narrower.
fn check_gated(new: &Part<'_>, old: &Part<'_>, fields: &mut Map<String, Value>, findings: &mut Findings) {
    let is_kept = |(key, value): (&str, &Value)| new.child("nodeSelector").get(key) == value;
    if !old.entries("nodeSelector").all(is_kept) {
        let detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        findings.invalid(&new.at("nodeSelector"), new.get("nodeSelector").clone(), detail);
    }
    restore(fields, old, "nodeSelector");
    let (new, old) = (new.child("affinity"), old.child("affinity"));
    if same(new.get("nodeAffinity"), old.get("nodeAffinity")) {
        return;
    }
    check_node_affinity(&new.child("nodeAffinity"), &old.child("nodeAffinity"), findings);
    let mut affinity = new.value.as_object().cloned().unwrap_or_default();
    affinity.insert("nodeAffinity".to_owned(), old.get("nodeAffinity").clone());
    fields.insert("affinity".to_owned(), Value::Object(affinity));
}

fn check_node_affinity(new: &Part<'_>, old: &Part<'_>, findings: &mut Findings) {
    let (new, old) = (new.child(REQUIRED), old.child(REQUIRED));
    let (now, before) = (new.list("nodeSelectorTerms"), old.list("nodeSelectorTerms"));
    if !before.is_empty() && now.len() != before.len() {
        let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        findings.invalid(&new.at("nodeSelectorTerms"), new.get("nodeSelectorTerms").clone(), detail);
        return;
    }
    for (now, before) in new.items("nodeSelectorTerms").zip(old.items("nodeSelectorTerms")) {
        let lists = ["matchExpressions", "matchFields"];
        let was_empty = lists.iter().all(|list| before.list(list).is_empty());
        let is_empty = lists.iter().all(|list| now.list(list).is_empty());
        let only_added = lists.iter().all(|list| {
            let (now, before) = (now.list(list), before.list(list));
            now.len() >= before.len() && now.iter().zip(before).all(|(now, before)| same(now, before))
        });
        // A term without rules chooses nothing: with rules it would choose more.
        if !only_added || was_empty && !is_empty {
            let detail = "only additions are allowed (no mutations or deletions)";
            findings.invalid(&now.path, now.value.clone(), detail);
        }
    }
}
