//! What an autoscaler looks at.

use barque_api::names;

use super::autoscaler::check_reference;
use crate::validation::findings::Findings;
use crate::validation::part::Part;

const TYPES: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];
/// The fields of the types, in the order in which Kubernetes looks at them.
const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];

/// All metrics; that of the first version stands in a field of its own.
pub(super) fn check_metrics(spec: &Part<'_>, findings: &mut Findings) {
    if let Some(percent) = spec.number("targetCPUUtilizationPercentage").filter(|percent| *percent < 1) {
        let target = spec.at("metrics").index(0).child("resource").child("target");
        findings.invalid(&target.child("averageUtilization"), percent, "must be greater than 0");
    }
    for metric in spec.items("metrics") {
        check_metric(&metric, findings);
    }
}

fn check_metric(metric: &Part<'_>, findings: &mut Findings) {
    let kind = metric.text("type");
    if kind.is_empty() {
        findings.required(&metric.at("type"), "must specify a metric source type");
    }
    if !TYPES.contains(&kind) {
        findings.not_supported(&metric.at("type"), kind, &TYPES);
    }
    let given: Vec<_> = SOURCES.iter().filter(|(_, field)| metric.has(field)).collect();
    if let Some((kind, field)) = given.first() {
        check_source(kind, &metric.child(field), findings);
    }
    let expected = SOURCES.iter().find(|(known, _)| *known == kind).map_or("", |(_, field)| field);
    if !expected.is_empty() && !metric.has(expected) {
        let detail = "must populate information for the given metric source";
        findings.required(&metric.at(expected), detail);
    }
    if given.len() != 1 {
        for (_, field) in given.into_iter().filter(|(_, field)| *field != expected) {
            findings.forbidden(&metric.at(field), "must populate the given metric source only");
        }
    }
}

fn check_source(kind: &str, source: &Part<'_>, findings: &mut Findings) {
    let target = source.child("target");
    match kind {
        "Object" => {
            check_reference(&source.child("describedObject"), findings);
            check_name(source, findings);
            check_target(&target, findings);
            if !target.has("value") && !target.has("averageValue") {
                let detail = "must set either a target value or averageValue";
                findings.required(&target.at("averageValue"), detail);
            }
        }
        "External" => {
            check_name(source, findings);
            check_target(&target, findings);
            match (target.has("value"), target.has("averageValue")) {
                (false, false) => {
                    let detail = "must set either a target value for metric or a per-pod target";
                    findings.required(&target.at("averageValue"), detail);
                }
                (true, true) => {
                    let detail = "may not set both a target value for metric and a per-pod target";
                    findings.forbidden(&target.at("value"), detail);
                }
                _ => {}
            }
        }
        "Pods" => {
            check_name(source, findings);
            check_target(&target, findings);
            if !target.has("averageValue") {
                let detail = "must specify a positive target averageValue";
                findings.required(&target.at("averageValue"), detail);
            }
        }
        _ => {
            if source.text("name").is_empty() {
                findings.required(&source.at("name"), "must specify a resource name");
            }
            if kind == "ContainerResource" && source.text("container").is_empty() {
                findings.required(&source.at("container"), "must specify a container");
            }
            check_target(&target, findings);
            match (target.has("averageUtilization"), target.has("averageValue")) {
                (false, false) => {
                    let detail = "must set either a target raw value or a target utilization";
                    findings.required(&target.at("averageUtilization"), detail);
                }
                (true, true) => {
                    let detail = "may not set both a target raw value and a target utilization";
                    findings.forbidden(&target.at("averageValue"), detail);
                }
                _ => {}
            }
        }
    }
}

fn check_name(source: &Part<'_>, findings: &mut Findings) {
    let metric = source.child("metric");
    let name = metric.text("name");
    if name.is_empty() {
        findings.required(&metric.at("name"), "must specify a metric name");
    } else {
        findings.each(&metric.at("name"), name, names::path_segment_name(name));
    }
}

fn check_target(target: &Part<'_>, findings: &mut Findings) {
    let kind = target.text("type");
    if kind.is_empty() {
        findings.required(&target.at("type"), "must specify a metric target type");
    }
    if !["Utilization", "Value", "AverageValue"].contains(&kind) {
        let detail = "must be either Utilization, Value, or AverageValue";
        findings.invalid(&target.at("type"), kind, detail);
    }
    for field in ["value", "averageValue"] {
        if target.has(field)
            && let Some(amount) = findings.quantity(target.get(field), &target.at(field))
            && amount.sign() <= 0
        {
            findings.invalid(&target.at(field), amount.to_string(), "must be positive");
        }
    }
    if let Some(percent) = target.number("averageUtilization").filter(|percent| *percent < 1) {
        findings.invalid(&target.at("averageUtilization"), percent, "must be greater than 0");
    }
}
