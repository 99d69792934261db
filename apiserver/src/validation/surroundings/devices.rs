//! Devices that pods ask for: `DeviceClass`, `ResourceClaim`, `ResourceClaimTemplate`. Must never allocate one, nor compile
//! what selects them.

use std::collections::{BTreeMap, BTreeSet};

use barque_api::field::{FieldError, FieldPath};
use barque_api::metadata::Metadata;
use barque_api::names;

use super::amounts::is_extended;
use super::node_affinity::check_node_selector;
use super::storage::check_driver_name;
use super::{Change, Findings, Part};
use crate::validation::findings::IMMUTABLE;
use crate::validation::same::same;

const MOST: usize = 32;
const MOST_ALTERNATIVES: usize = 8;
const MOST_CONSUMERS: usize = 256;
const LONGEST_EXPRESSION: usize = 10 * 1024;
const LONGEST_PARAMETERS: usize = 10 * 1024;

/// The names of requests, each with those of its alternatives.
type Requests<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

fn limit(part: &Part<'_>, field: &str, most: usize, findings: &mut Findings) {
    let many = part.list(field).len();
    if many > most {
        findings.push(FieldError::too_many(&part.at(field), many, most));
    }
}

/// What is wrong with a `DeviceClass`.
pub(super) fn check_class(change: &Change<'_>, findings: &mut Findings) {
    let spec = change.new.child("spec");
    check_selectors(&spec, findings);
    limit(&spec, "config", MOST, findings);
    for config in spec.items("config") {
        check_config(&config, findings);
    }
    if spec.has("extendedResourceName") && !is_extended(spec.text("extendedResourceName")) {
        let name = spec.text("extendedResourceName");
        findings.invalid(&spec.at("extendedResourceName"), name, "must be a valid extended resource name");
    }
}

/// What is wrong with a `ResourceClaim`.
pub(super) fn check_claim(change: &Change<'_>, findings: &mut Findings) {
    if change.subresource == "status" {
        check_status(change, findings);
        return;
    }
    match &change.old {
        None => check_claim_spec(&change.new.child("spec"), findings),
        Some(old) => findings.immutable(&change.new, old, "spec"),
    }
}

/// What is wrong with a `ResourceClaimTemplate`.
pub(super) fn check_template(change: &Change<'_>, findings: &mut Findings) {
    match &change.old {
        None => {
            let spec = change.new.child("spec");
            findings.labels(&spec.child("metadata"), "labels");
            check_claim_spec(&spec.child("spec"), findings);
        }
        Some(old) => findings.immutable(&change.new, old, "spec"),
    }
}

fn requests_of<'a>(devices: &Part<'a>) -> Requests<'a> {
    let requests = devices.items("requests");
    requests
        .map(|request| {
            let alternatives = request.items("firstAvailable").map(|one| one.text("name"));
            (request.text("name"), alternatives.collect())
        })
        .collect()
}

fn check_claim_spec(spec: &Part<'_>, findings: &mut Findings) {
    let devices = spec.child("devices");
    let known = requests_of(&devices);
    limit(&devices, "requests", MOST, findings);
    check_named(&devices, "requests", findings, |request, findings| {
        match (request.given("exactly"), request.list("firstAvailable").is_empty()) {
            (None, true) => {
                let detail = "exactly one of `exactly` or `firstAvailable` is required";
                findings.required(&request.path, detail);
            }
            (Some(_), false) => {
                let detail =
                    "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set";
                findings.invalid(&request.path, serde_json::Value::Null, detail);
            }
            (Some(exactly), true) => check_wanted(&exactly, findings),
            (None, false) => {
                limit(request, "firstAvailable", MOST_ALTERNATIVES, findings);
                check_named(request, "firstAvailable", findings, check_wanted);
            }
        }
    });
    limit(&devices, "constraints", MOST, findings);
    for constraint in devices.items("constraints") {
        check_references(&constraint, &known, findings);
        let fields = ["matchAttribute", "distinctAttribute"];
        match fields.iter().find(|field| constraint.has(field)) {
            Some(field) => check_attribute_name(&constraint, field, findings),
            None => findings.required(&constraint.at("matchAttribute"), ""),
        }
    }
    limit(&devices, "config", MOST, findings);
    for config in devices.items("config") {
        check_references(&config, &known, findings);
        check_config(&config, findings);
    }
}

/// Items with names of which none is there twice.
fn check_named(
    part: &Part<'_>,
    field: &str,
    findings: &mut Findings,
    check: impl Fn(&Part<'_>, &mut Findings),
) {
    let mut seen = BTreeSet::new();
    for item in part.items(field) {
        let name = item.text("name");
        findings.dns_label(&item.at("name"), name);
        check(&item, findings);
        if !seen.insert(name) {
            findings.duplicate(&item.path, name);
        }
    }
}

fn check_wanted(wanted: &Part<'_>, findings: &mut Findings) {
    let class = wanted.text("deviceClassName");
    if class.is_empty() {
        findings.required(&wanted.at("deviceClassName"), "");
    } else {
        findings.dns_subdomain(&wanted.at("deviceClassName"), class);
    }
    check_selectors(wanted, findings);
    let count = wanted.count("count");
    match wanted.text("allocationMode") {
        "All" if count != 0 => {
            let detail = "must not be specified when allocationMode is 'All'";
            findings.invalid(&wanted.at("count"), count, detail);
        }
        "ExactCount" if count <= 0 => {
            findings.invalid(&wanted.at("count"), count, "must be greater than zero");
        }
        "All" | "ExactCount" => {}
        other => findings.not_supported(&wanted.at("allocationMode"), other, &["All", "ExactCount"]),
    }
    for toleration in wanted.items("tolerations") {
        check_toleration(&toleration, findings);
    }
}

fn check_toleration(toleration: &Part<'_>, findings: &mut Findings) {
    let value = toleration.text("value");
    if !toleration.text("key").is_empty() {
        findings.label_key(&toleration.at("key"), toleration.text("key"));
    }
    findings.word(toleration, "operator", &["Equal", "Exists"]);
    if toleration.text("operator") == "Exists" {
        if !value.is_empty() {
            findings.invalid(&toleration.at("value"), value, "must be empty for operator `Exists`");
        }
    } else {
        findings.each(&toleration.at("value"), value, names::label_value(value));
    }
    if !toleration.text("effect").is_empty() {
        findings.word_if_given(toleration, "effect", &["NoExecute", "NoSchedule"]);
    }
}

fn check_selectors(part: &Part<'_>, findings: &mut Findings) {
    limit(part, "selectors", MOST, findings);
    for selector in part.items("selectors") {
        let Some(cel) = selector.given("cel") else {
            findings.required(&selector.at("cel"), "");
            continue;
        };
        if cel.text("expression").len() > LONGEST_EXPRESSION {
            findings.push(FieldError::too_long(&cel.at("expression"), LONGEST_EXPRESSION));
        }
    }
}

fn check_attribute_name(part: &Part<'_>, field: &str, findings: &mut Findings) {
    let (name, at) = (part.text(field), part.at(field));
    match name.split_once('/') {
        _ if name.is_empty() => findings.required(&at, ""),
        None => findings.invalid(&at, name, "must include a domain"),
        Some((domain, id)) => {
            if domain.is_empty() {
                findings.required(&at, "the domain must not be empty");
            } else {
                check_driver_name(domain, &at, findings);
            }
            if id.is_empty() {
                findings.required(&at, "the name must not be empty");
            } else {
                if id.len() > 32 {
                    findings.push(FieldError::too_long(&at, 32));
                }
                findings.each(&at, id, names::c_identifier(id));
            }
        }
    }
}

fn check_references(part: &Part<'_>, known: &Requests<'_>, findings: &mut Findings) {
    let detail = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
    limit(part, "requests", MOST, findings);
    let mut seen = BTreeSet::new();
    for (index, name) in part.texts("requests").enumerate() {
        let at = part.at("requests").index(index);
        check_reference(name, known, detail, &at, findings);
        if !seen.insert(name) {
            findings.duplicate(&at, name);
        }
    }
}

fn check_reference(name: &str, known: &Requests<'_>, detail: &str, at: &FieldPath, findings: &mut Findings) {
    if name.split('/').count() > 2 {
        findings.invalid(at, name, detail);
        return;
    }
    for part in name.split('/') {
        findings.dns_label(at, part);
    }
    let found = match name.split_once('/') {
        None => known.contains_key(name),
        Some((request, below)) => known.get(request).is_some_and(|all| all.contains(below)),
    };
    if !found {
        findings.invalid(at, name, detail);
    }
}

fn check_config(config: &Part<'_>, findings: &mut Findings) {
    let Some(opaque) = config.given("opaque") else {
        findings.required(&config.at("opaque"), "");
        return;
    };
    check_driver_name(opaque.text("driver"), &opaque.at("driver"), findings);
    let parameters = opaque.get("parameters");
    if parameters.is_null() {
        findings.required(&opaque.at("parameters"), "");
    } else if parameters.to_string().len() > LONGEST_PARAMETERS {
        findings.push(FieldError::too_long(&opaque.at("parameters"), LONGEST_PARAMETERS));
    } else if !parameters.is_object() {
        findings.invalid(&opaque.at("parameters"), "<value omitted>", "must be a valid JSON object");
    }
}

fn check_status(change: &Change<'_>, findings: &mut Findings) {
    let status = change.new.child("status");
    let old = change.old.as_ref().map(|old| old.child("status"));
    limit(&status, "reservedFor", MOST_CONSUMERS, findings);
    let mut seen = BTreeSet::new();
    for consumer in status.items("reservedFor") {
        for field in ["resource", "name", "uid"] {
            findings.needs(&consumer, field);
        }
        if !seen.insert(consumer.text("uid")) {
            findings.duplicate(&consumer.path, consumer.text("uid"));
        }
    }
    if !status.list("reservedFor").is_empty() {
        let at = status.at("reservedFor");
        let before = old.as_ref().map_or(&[][..], |old| old.list("reservedFor"));
        if !status.has("allocation") {
            findings.forbidden(&at, "may not be specified when `allocated` is not set");
        } else if Metadata::of(change.new.value).is_deleting()
            && status.list("reservedFor").iter().any(|consumer| !before.contains(consumer))
        {
            let detail =
                "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
            findings.forbidden(&at, detail);
        }
    }
    let Some(allocation) = status.given("allocation") else { return };
    if let Some(old) = old.and_then(|old| old.given("allocation")) {
        if !same(allocation.value, old.value) {
            findings.invalid(&allocation.path, allocation.value.clone(), IMMUTABLE);
        }
        return;
    }
    check_allocation(&allocation, &requests_of(&change.new.child("spec").child("devices")), findings);
}

fn check_allocation(allocation: &Part<'_>, known: &Requests<'_>, findings: &mut Findings) {
    let devices = allocation.child("devices");
    let detail = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
    limit(&devices, "results", MOST, findings);
    for result in devices.items("results") {
        check_reference(result.text("request"), known, detail, &result.at("request"), findings);
        check_driver_name(result.text("driver"), &result.at("driver"), findings);
        check_pool_name(&result, "pool", findings);
        findings.dns_label(&result.at("device"), result.text("device"));
        for toleration in result.items("tolerations") {
            check_toleration(&toleration, findings);
        }
    }
    limit(&devices, "config", 2 * MOST, findings);
    for config in devices.items("config") {
        findings.word(&config, "source", &["FromClaim", "FromClass"]);
        check_references(&config, known, findings);
        check_config(&config, findings);
    }
    if let Some(selector) = allocation.given("nodeSelector") {
        check_node_selector(&selector, findings);
    }
}

/// The name of a pool of devices: DNS subdomains with slashes between.
pub(super) fn check_pool_name(part: &Part<'_>, field: &str, findings: &mut Findings) {
    let (name, at) = (part.text(field), part.at(field));
    if name.is_empty() {
        findings.required(&at, "");
        return;
    }
    if name.len() > 253 {
        findings.push(FieldError::too_long(&at, 253));
    }
    for piece in name.split('/') {
        findings.dns_subdomain(&at, piece);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::{told, told_below};

    fn claim() -> Value {
        json!({"spec": {"devices": {"requests": [
            {"name": "r", "exactly": {"deviceClassName": "c", "allocationMode": "ExactCount", "count": 1}},
        ]}}})
    }

    fn told_of(kind: &str, new: &Value, old: Option<&Value>) -> Vec<String> {
        told("resource.k8s.io", kind, new, old)
    }

    #[test]
    fn claims_and_what_is_wrong_with_them() {
        assert!(told_of("ResourceClaim", &claim(), None).is_empty());
        let mut other = claim();
        other["spec"]["devices"]["requests"][0]["exactly"]["count"] = json!(0);
        assert_eq!(
            told_of("ResourceClaim", &other, None),
            ["spec.devices.requests[0].exactly.count: Invalid value: 0: must be greater than zero"]
        );
        let changed = told_of("ResourceClaim", &other, Some(&claim()));
        assert!(changed.len() == 1 && changed[0].ends_with("field is immutable"), "{changed:?}");
        other["spec"]["devices"]["requests"] = json!([{"name": "r"}]);
        other["spec"]["devices"]["constraints"] = json!([{"requests": ["x"], "matchAttribute": "a.io/b"}]);
        assert_eq!(
            told_of("ResourceClaim", &other, None),
            [
                "spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required",
                "spec.devices.constraints[0].requests[0]: Invalid value: \"x\": must be the name of a request in the claim \
             or the name of a request and a subrequest separated by '/'",
            ]
        );
        let template = json!({"spec": other});
        assert_eq!(told_of("ResourceClaimTemplate", &template, None).len(), 2);
    }

    #[test]
    fn only_what_is_allocated_is_reserved() {
        let mut new = claim();
        new["status"] = json!({"reservedFor": [{"resource": "pods", "name": "p", "uid": "u"}]});
        assert_eq!(
            told_below("resource.k8s.io", "ResourceClaim", "status", &new, Some(&claim())),
            ["status.reservedFor: Forbidden: may not be specified when `allocated` is not set"]
        );
        new["status"]["allocation"] = json!({"devices": {"results": [
            {"request": "r", "driver": "a.io", "pool": "p", "device": "d"},
        ]}});
        assert!(told_below("resource.k8s.io", "ResourceClaim", "status", &new, Some(&claim())).is_empty());
        let mut moved = new.clone();
        moved["status"]["allocation"]["devices"]["results"][0]["device"] = json!("e");
        assert_eq!(told_below("resource.k8s.io", "ResourceClaim", "status", &moved, Some(&new)).len(), 1);
    }

    #[test]
    fn classes_select_and_configure() {
        let class = json!({"spec": {"selectors": [{}], "config": [{"opaque": {"driver": "a.io", "parameters": 1}}],
                                    "extendedResourceName": "cpu"}});
        assert_eq!(
            told_of("DeviceClass", &class, None),
            [
                "spec.selectors[0].cel: Required value",
                "spec.config[0].opaque.parameters: Invalid value: \"<value omitted>\": must be a valid JSON object",
                "spec.extendedResourceName: Invalid value: \"cpu\": must be a valid extended resource name",
            ]
        );
    }
}
