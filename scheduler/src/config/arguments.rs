//! Arguments of plugins. Must never know which plugins are turned on.

use std::time::Duration;

use barque_api::field::{FieldError, FieldPath};
use barque_api::names;
use k8s_openapi::api::core::v1::{NodeSelector, PreferredSchedulingTerm};
use serde_json::Value;

use super::reader::Reader;
use crate::plugins::Plugin;
use crate::pod::{DefaultConstraint, DefaultSpread, NodeTerms, PreferredNodes};
use crate::profile::{Profile, ScoredResource, Strategy};

/// How long volumes may take to be bound, unless it is said.
pub(super) const BIND_TIMEOUT: Duration = Duration::from_secs(600);
/// The best score in a shape; what plugins score is ten times as much.
const MAX_SHAPE_SCORE: i64 = 10;

/// Reads `pluginConfig` into a profile.
pub(super) fn read(
    list: &[Value],
    path: &FieldPath,
    profile: &mut Profile,
    bind_timeout: &mut Duration,
    errors: &mut Vec<FieldError>,
) {
    let mut seen: Vec<&str> = Vec::new();
    for (at, value) in list.iter().enumerate() {
        let path = path.index(at);
        let mut one = Reader::of(value, path.clone(), errors);
        let name = one.text("name").unwrap_or_default();
        let args = one.take("args");
        one.end();
        if seen.contains(&name) {
            errors.push(FieldError::duplicate(&path, name));
        }
        seen.push(name);
        let Some(args) = args else { continue };
        let mut reader = Reader::of(args, path.child("args"), errors);
        for (field, expected) in
            [("apiVersion", super::API_VERSION.to_owned()), ("kind", format!("{name}Args"))]
        {
            if let Some(text) = reader.text(field)
                && text != expected
            {
                let path = reader.path(field);
                reader.tell(FieldError::invalid(&path, text, format!("should be {expected}")));
            }
        }
        match Plugin::of_name(name) {
            Some(Plugin::DefaultPreemption) => preemption(&mut reader, profile),
            Some(Plugin::InterPodAffinity) => inter_pod_affinity(&mut reader, profile),
            Some(Plugin::NodeAffinity) => node_affinity(&mut reader, profile),
            Some(Plugin::NodeResourcesFit) => fit(&mut reader, profile),
            Some(Plugin::NodeResourcesBalancedAllocation) => balanced(&mut reader, profile),
            Some(Plugin::PodTopologySpread) => spread(&mut reader, profile),
            Some(Plugin::VolumeBinding) => {
                if let Some(seconds) = reader.integer("bindTimeoutSeconds") {
                    match u64::try_from(seconds) {
                        Ok(seconds) => *bind_timeout = Duration::from_secs(seconds),
                        Err(_) => {
                            let path = reader.path("bindTimeoutSeconds");
                            let detail = "invalid BindTimeoutSeconds, should not be a negative value";
                            reader.tell(FieldError::invalid(&path, seconds, detail));
                        }
                    }
                }
            }
            _ => {
                errors.push(FieldError::invalid(&path.child("name"), name, "has no arguments"));
                continue;
            }
        }
        reader.end();
    }
}

/// An integer in a range, if it is there.
fn within(
    reader: &mut Reader<'_, '_>,
    field: &'static str,
    least: i64,
    most: i64,
    detail: &str,
) -> Option<i64> {
    let value = reader.integer(field)?;
    if (least..=most).contains(&value) {
        return Some(value);
    }
    let path = reader.path(field);
    reader.tell(FieldError::invalid(&path, value, detail));
    None
}

fn preemption(reader: &mut Reader<'_, '_>, profile: &mut Profile) {
    let (percentage, absolute) = ("minCandidateNodesPercentage", "minCandidateNodesAbsolute");
    if let Some(value) = within(reader, percentage, 0, 100, "not in valid range [0, 100]") {
        profile.preemption.min_candidate_nodes_percentage = value as u32;
    }
    if let Some(value) = within(reader, absolute, 0, i64::from(i32::MAX), "not in valid range [0, inf)") {
        profile.preemption.min_candidate_nodes_absolute = value as u32;
    }
    let args = &profile.preemption;
    if args.min_candidate_nodes_percentage == 0 && args.min_candidate_nodes_absolute == 0 {
        let path = reader.path(percentage);
        let detail = "cannot be zero at the same time as minCandidateNodesAbsolute";
        reader.tell(FieldError::invalid(&path, 0, detail));
    }
}

fn inter_pod_affinity(reader: &mut Reader<'_, '_>, profile: &mut Profile) {
    let args = &mut profile.inter_pod_affinity;
    let weight = within(reader, "hardPodAffinityWeight", 0, 100, "not in valid range [0, 100]");
    args.hard_pod_affinity_weight = weight.unwrap_or(args.hard_pod_affinity_weight);
    let ignores = reader.boolean("ignorePreferredTermsOfExistingPods");
    args.ignore_preferred_terms_of_existing_pods = ignores.unwrap_or(false);
}

fn node_affinity(reader: &mut Reader<'_, '_>, profile: &mut Profile) {
    let Some(value) = reader.take("addedAffinity") else { return };
    let path = reader.path("addedAffinity");
    let mut affinity = Reader::of(value, path.clone(), reader.errors());
    let required = affinity.take("requiredDuringSchedulingIgnoredDuringExecution");
    let preferred = affinity.take("preferredDuringSchedulingIgnoredDuringExecution");
    if required.is_none() && preferred.is_none() {
        affinity.tell(FieldError::required(&path, "must have required or preferred terms"));
    }
    let mut refuse = |field: &'static str, value: &Value, error: serde_json::Error| {
        let path = affinity.path(field);
        affinity.tell(FieldError::invalid(&path, value.clone(), error.to_string()));
    };
    if let Some(value) = required {
        match serde_json::from_value::<NodeSelector>(value.clone()) {
            Ok(selector) => profile.added_affinity.required = Some(NodeTerms::of(&selector)),
            Err(error) => refuse("requiredDuringSchedulingIgnoredDuringExecution", value, error),
        }
    }
    if let Some(value) = preferred {
        match serde_json::from_value::<Vec<PreferredSchedulingTerm>>(value.clone()) {
            Ok(terms) => profile.added_affinity.preferred = PreferredNodes::of(&terms),
            Err(error) => refuse("preferredDuringSchedulingIgnoredDuringExecution", value, error),
        }
    }
    affinity.end();
}

fn fit(reader: &mut Reader<'_, '_>, profile: &mut Profile) {
    let ignored = names_in(reader, "ignoredResources");
    for (at, name) in ignored.iter().enumerate() {
        let wrong = names::label_key(name);
        if !wrong.is_empty() {
            let path = reader.path("ignoredResources").index(at);
            reader.tell(FieldError::invalid(&path, &**name, wrong.join("; ")));
        }
    }
    let groups = names_in(reader, "ignoredResourceGroups");
    for (at, name) in groups.iter().enumerate().filter(|(_, name)| name.contains('/')) {
        let path = reader.path("ignoredResourceGroups").index(at);
        reader.tell(FieldError::invalid(&path, &**name, "resource group name can't contain '/'"));
    }
    profile.fit.ignored_resources = ignored;
    profile.fit.ignored_resource_groups = groups;
    let Some(value) = reader.take("scoringStrategy") else { return };
    let path = reader.path("scoringStrategy");
    let mut strategy = Reader::of(value, path, reader.errors());
    if let Some(resources) = resources(&mut strategy, 100) {
        profile.fit.resources = resources;
    }
    let ratio = strategy.take("requestedToCapacityRatio");
    let kind = strategy.text("type").unwrap_or("LeastAllocated");
    profile.fit.strategy = match kind {
        "LeastAllocated" => Strategy::LeastAllocated,
        "MostAllocated" => Strategy::MostAllocated,
        "RequestedToCapacityRatio" => {
            let path = strategy.path("requestedToCapacityRatio");
            Strategy::RequestedToCapacityRatio(shape(ratio, &path, strategy.errors()))
        }
        other => {
            let known = ["LeastAllocated", "MostAllocated", "RequestedToCapacityRatio"];
            let path = strategy.path("type");
            strategy.tell(FieldError::not_supported(&path, other, &known));
            Strategy::LeastAllocated
        }
    };
    strategy.end();
}

fn shape(value: Option<&Value>, path: &FieldPath, errors: &mut Vec<FieldError>) -> Vec<(i64, i64)> {
    let mut reader = Reader::of(value.unwrap_or(&Value::Null), path.clone(), errors);
    let mut shape: Vec<(i64, i64)> = Vec::new();
    let points = reader.list("shape").unwrap_or_default();
    let path = reader.path("shape");
    if points.is_empty() {
        reader.tell(FieldError::required(&path, "at least one point must be specified"));
    }
    for (at, value) in points.iter().enumerate() {
        let mut point = Reader::of(value, path.index(at), reader.errors());
        let utilization = within(&mut point, "utilization", 0, 100, "not in valid range [0-100]");
        let score = within(&mut point, "score", 0, MAX_SHAPE_SCORE, "not in valid range [0-10]");
        let (utilization, score) = (utilization.unwrap_or(0), score.unwrap_or(0));
        if shape.last().is_some_and(|(before, _)| utilization <= *before) {
            let path = point.path("utilization");
            let detail = "utilization values must be sorted in increasing order";
            point.tell(FieldError::invalid(&path, utilization, detail));
        }
        point.end();
        shape.push((utilization, score * crate::plugins::MAX_NODE_SCORE / MAX_SHAPE_SCORE));
    }
    reader.end();
    shape
}

fn balanced(reader: &mut Reader<'_, '_>, profile: &mut Profile) {
    if let Some(resources) = resources(reader, 1) {
        profile.balanced = resources;
    }
}

/// Resources to score; without any, there is nothing to change.
fn resources(reader: &mut Reader<'_, '_>, most: i64) -> Option<Vec<ScoredResource>> {
    let list = reader.list("resources").filter(|list| !list.is_empty())?;
    let path = reader.path("resources");
    let mut resources: Vec<ScoredResource> = Vec::new();
    for (at, value) in list.iter().enumerate() {
        let mut one = Reader::of(value, path.index(at), reader.errors());
        let name = one.text("name").unwrap_or_default();
        // Not said, or 0, is 1.
        let weight = match one.integer("weight").unwrap_or(0) {
            0 => 1,
            weight => weight,
        };
        if !(1..=most).contains(&weight) {
            let path = one.path("weight");
            let detail = if most == 1 {
                "must be 1".to_owned()
            } else {
                format!("resource weight of {name} not in valid range (0, {most}]")
            };
            one.tell(FieldError::invalid(&path, weight, detail));
        }
        if resources.iter().any(|other| &*other.name == name) {
            let path = one.path("name");
            one.tell(FieldError::duplicate(&path, name));
        }
        one.end();
        resources.push(ScoredResource { name: name.into(), weight });
    }
    Some(resources)
}

fn names_in(reader: &mut Reader<'_, '_>, field: &'static str) -> Vec<Box<str>> {
    let mut names = Vec::new();
    for (at, value) in reader.list(field).into_iter().flatten().enumerate() {
        match value.as_str() {
            Some(name) => names.push(name.into()),
            None => {
                let path = reader.path(field).index(at);
                reader.tell(FieldError::type_invalid(&path, value.clone(), "must be a string"));
            }
        }
    }
    names
}

fn spread(reader: &mut Reader<'_, '_>, profile: &mut Profile) {
    let list = reader.list("defaultConstraints").unwrap_or_default();
    let path = reader.path("defaultConstraints");
    let system = match reader.text("defaultingType") {
        None | Some("System") => true,
        Some("List") => false,
        Some(other) => {
            let path = reader.path("defaultingType");
            reader.tell(FieldError::not_supported(&path, other, &["System", "List"]));
            true
        }
    };
    if system {
        if !list.is_empty() {
            let detail = "when .defaultingType is System";
            reader.tell(FieldError::invalid(&reader.path("defaultConstraints"), list.to_vec(), detail));
        }
        return;
    }
    let mut constraints: Vec<DefaultConstraint> = Vec::new();
    for (at, value) in list.iter().enumerate() {
        let mut one = Reader::of(value, path.index(at), reader.errors());
        let skew = one.integer("maxSkew").unwrap_or(0);
        if !(1..=i64::from(i32::MAX)).contains(&skew) {
            let path = one.path("maxSkew");
            one.tell(FieldError::invalid(&path, skew, "not in valid range (0, inf)"));
        }
        let key = one.text("topologyKey").unwrap_or_default();
        if key.is_empty() {
            let path = one.path("topologyKey");
            one.tell(FieldError::required(&path, "can not be empty"));
        }
        let when = one.text("whenUnsatisfiable").unwrap_or_default();
        if !matches!(when, "DoNotSchedule" | "ScheduleAnyway") {
            let path = one.path("whenUnsatisfiable");
            one.tell(FieldError::not_supported(&path, when, &["DoNotSchedule", "ScheduleAnyway"]));
        }
        if one.take("labelSelector").is_some() {
            let path = one.path("labelSelector");
            let detail = "constraint must not define a selector, as they deduced for each pod";
            one.tell(FieldError::forbidden(&path, detail));
        }
        let hard = when == "DoNotSchedule";
        let same = |other: &DefaultConstraint| &*other.topology_key == key && other.hard == hard;
        if constraints.iter().any(same) {
            let path = path.index(at);
            one.tell(FieldError::duplicate(&path, format!("{{{key}, {when}}}")));
        }
        one.end();
        constraints.push(DefaultConstraint { max_skew: skew as i32, topology_key: key.into(), hard });
    }
    profile.default_spread = DefaultSpread { constraints, system: false };
}
