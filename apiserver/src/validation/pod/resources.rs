//! What containers and pods ask for and may use at most.

use std::collections::{BTreeMap, BTreeSet};

use barque_api::field::{FieldError, FieldPath};
use barque_api::names;
use barque_api::quantity::Quantity;
use serde_json::Value;

use crate::validation::findings::{Findings, NEGATIVE};
use crate::validation::part::Part;

const STANDARD: [&str; 20] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "storage",
    "requests.storage",
    "services.nodeports",
    "services.loadbalancers",
];
const HUGE_PAGES: &str = "hugepages-";
const POD_LEVEL: [&str; 3] = ["cpu", HUGE_PAGES, "memory"];

/// Whose resources they are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    Container,
    Pod,
}

/// What a container asks for. `claims` are the names of the claims of its pod.
pub(super) fn check_container_resources(
    resources: &Part<'_>,
    claims: &BTreeSet<&str>,
    findings: &mut Findings,
) {
    check_requirements(resources, Owner::Container, findings);
    check_claims(resources, claims, findings);
}

/// What running a pod costs beside its containers: like limits.
pub(super) fn check_overhead(spec: &Part<'_>, findings: &mut Findings) {
    let limits = spec.at("overhead").child("limits");
    for (name, amount) in spec.entries("overhead") {
        check_amount(name, amount, &limits.key(name), Owner::Container, findings);
    }
}

/// What the pod as a whole asks for.
pub(super) fn check_pod_resources(spec: &Part<'_>, findings: &mut Findings) {
    let Some(resources) = spec.given("resources") else { return };
    if resources.has("claims") {
        findings.forbidden(&resources.at("claims"), "claims cannot be set for Resources at pod-level");
    }
    check_requirements(&resources, Owner::Pod, findings);
    let pod_requests = amounts(&resources, "requests");
    for (name, sum) in container_requests(spec) {
        // What the pod as a whole does not ask for is left to its containers.
        if let Some(asked) = pod_requests.get(name).filter(|asked| sum > **asked) {
            let detail = format!("must be greater than or equal to aggregate container requests of {sum}");
            findings.invalid(&resources.at("requests").key(name), asked.to_string(), detail);
        }
    }
    let pod_limits = amounts(&resources, "limits");
    for (index, container) in spec.items("containers").enumerate() {
        for (name, limit) in amounts(&container.child("resources"), "limits") {
            if let Some(most) = pod_limits.get(name).filter(|most| limit > **most) {
                let at = resources.at("containers").index(index).key(name).child("limits");
                let detail = format!("must be less than or equal to pod limits of {most}");
                findings.invalid(&at, limit.to_string(), detail);
            }
        }
    }
}

/// What all containers of a pod ask for together at any time: those that run side by side, and those that run before
/// them one by one.
fn container_requests<'a>(spec: &Part<'a>) -> BTreeMap<&'a str, Quantity> {
    let mut together = BTreeMap::new();
    for container in spec.items("containers") {
        add(&mut together, &amounts(&container.child("resources"), "requests"));
    }
    let (mut beside, mut before) = (BTreeMap::new(), BTreeMap::new());
    for container in spec.items("initContainers") {
        let own = amounts(&container.child("resources"), "requests");
        if container.text("restartPolicy") == "Always" {
            add(&mut together, &own);
            add(&mut beside, &own);
            most(&mut before, &beside);
        } else {
            let mut at_once = beside.clone();
            add(&mut at_once, &own);
            most(&mut before, &at_once);
        }
    }
    most(&mut together, &before);
    together
}

fn add<'a>(sum: &mut BTreeMap<&'a str, Quantity>, more: &BTreeMap<&'a str, Quantity>) {
    for (name, amount) in more {
        let all = sum.get(name).map_or_else(|| amount.clone(), |sum| sum.plus(amount));
        sum.insert(name, all);
    }
}

fn most<'a>(sum: &mut BTreeMap<&'a str, Quantity>, other: &BTreeMap<&'a str, Quantity>) {
    for (name, amount) in other {
        if sum.get(name).is_none_or(|sum| amount > sum) {
            sum.insert(name, amount.clone());
        }
    }
}

/// The quantities of a map; what is none is left out.
pub(super) fn amounts<'a>(resources: &Part<'a>, field: &str) -> BTreeMap<&'a str, Quantity> {
    let entries = resources.entries(field);
    entries.filter_map(|(name, amount)| Some((name, Quantity::of_value(amount).ok()?))).collect()
}

fn check_requirements(resources: &Part<'_>, owner: Owner, findings: &mut Findings) {
    let (limits, requests) = (resources.at("limits"), resources.at("requests"));
    let (mut has_compute, mut has_huge_pages) = (false, false);
    let mut note = |name: &str| {
        has_compute |= name == "cpu" || name == "memory";
        has_huge_pages |= name.starts_with(HUGE_PAGES);
    };
    for (name, amount) in resources.entries("limits") {
        check_amount(name, amount, &limits.key(name), owner, findings);
        note(name);
    }
    let most = amounts(resources, "limits");
    for (name, amount) in resources.entries("requests") {
        check_amount(name, amount, &requests.key(name), owner, findings);
        note(name);
        let Ok(asked) = Quantity::of_value(amount) else { continue };
        let divisible = may_be_overcommitted(name);
        match most.get(name) {
            Some(most) if !divisible && asked != *most => {
                let detail = format!("must be equal to {name} limit of {most}");
                findings.invalid(&requests, asked.to_string(), detail);
            }
            Some(most) if asked > *most => {
                let detail = format!("must be less than or equal to {name} limit of {most}");
                findings.invalid(&requests, asked.to_string(), detail);
            }
            None if !divisible => {
                findings.required(&limits, "Limit must be set for non overcommitable resources");
            }
            _ => {}
        }
    }
    if has_huge_pages && !has_compute {
        findings.forbidden(&resources.path, "HugePages require cpu or memory");
    }
}

fn check_amount(name: &str, amount: &Value, path: &FieldPath, owner: Owner, findings: &mut Findings) {
    match owner {
        Owner::Container => check_container_name(name, path, findings),
        Owner::Pod => {
            let before = findings.len();
            check_name(name, path, findings);
            if findings.len() == before && !is_pod_level(name) {
                findings.not_supported(path, name, &POD_LEVEL);
            }
        }
    }
    let Some(quantity) = findings.quantity(amount, path) else { return };
    if quantity.sign() < 0 {
        findings.invalid(path, quantity.to_string(), NEGATIVE);
    }
    if is_extended(name) && quantity.as_i64().is_none() {
        findings.invalid(path, quantity.to_string(), "must be an integer");
    }
    if let Some(size) = name.strip_prefix(HUGE_PAGES) {
        let size = Quantity::parse(size).map_or(0, |size| size.value());
        if size <= 0 || quantity.value() % size != 0 {
            let detail = format!("{quantity} is not positive integer multiple of {name}");
            findings.invalid(path, quantity.to_string(), detail);
        }
    }
}

fn check_name(name: &str, path: &FieldPath, findings: &mut Findings) {
    let wrong = names::label_key(name);
    let qualified = wrong.is_empty();
    findings.each(path, name, wrong);
    if qualified && !name.contains('/') && !is_standard(name) {
        findings.invalid(path, name, "must be a standard resource type or fully qualified");
    }
}

fn check_container_name(name: &str, path: &FieldPath, findings: &mut Findings) {
    check_name(name, path, findings);
    if !name.contains('/') {
        let known = ["cpu", "memory", "ephemeral-storage"].contains(&name) || name.starts_with(HUGE_PAGES);
        if !known {
            findings.invalid(path, name, "must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        findings.invalid(path, name, "doesn't follow extended resource name standard");
    }
}

fn is_standard(name: &str) -> bool {
    STANDARD.contains(&name) || name.starts_with(HUGE_PAGES) || name.starts_with("requests.hugepages-")
}

fn is_pod_level(name: &str) -> bool {
    name == "cpu" || name == "memory" || name.starts_with(HUGE_PAGES)
}

/// Whether Kubernetes itself knows the resource.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether somebody else knows the resource; there are whole ones of it only.
fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && names::label_key(&format!("requests.{name}")).is_empty()
}

fn may_be_overcommitted(name: &str) -> bool {
    is_native(name) && !name.starts_with(HUGE_PAGES)
}

/// The claims that a container uses, each once, whole or by requests.
fn check_claims(resources: &Part<'_>, claims: &BTreeSet<&str>, findings: &mut Findings) {
    let mut seen: BTreeSet<(&str, &str)> = BTreeSet::new();
    for claim in resources.items("claims") {
        let (name, request) = (claim.text("name"), claim.text("request"));
        if name.is_empty() {
            findings.required(&claim.path, "");
            continue;
        }
        if seen.contains(&(name, "")) {
            findings.duplicate(&claim.path, name);
        } else {
            if !request.is_empty() {
                findings.dns_label(&claim.at("request"), request);
            }
            if !request.is_empty() && seen.contains(&(name, request)) {
                findings.duplicate(&claim.path, format!("{name}/{request}"));
            } else if request.is_empty() {
                for _ in seen.iter().filter(|(other, _)| *other == name) {
                    findings.duplicate(&claim.path, name);
                }
            }
            seen.insert((name, request));
        }
        if !claims.contains(name) {
            let mut error = FieldError::not_found(&claim.path, name);
            "must be one of the names in pod.spec.resourceClaims".clone_into(&mut error.detail);
            if claims.is_empty() {
                error.detail.push_str(" which is empty");
            } else {
                error.detail.push_str(": ");
                error.detail.push_str(&claims.iter().copied().collect::<Vec<_>>().join(", "));
            }
            findings.push(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::validation::tests::told;

    #[test]
    fn what_containers_ask_for_and_what_is_wrong_with_it() {
        let table: &[(Value, &[&str])] = &[
            (json!({"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"cpu": 1}}), &[]),
            (json!({"requests": {"nvidia.com/gpu": 1}, "limits": {"nvidia.com/gpu": "1"}}), &[]),
            (json!({"limits": {"hugepages-2Mi": "4Mi", "memory": "1Gi"}}), &[]),
            (
                json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}),
                &["r.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1"],
            ),
            (
                json!({"limits": {"cpus": "1"}}),
                &[
                    "r.limits[cpus]: Invalid value: \"cpus\": must be a standard resource type or fully qualified",
                    "r.limits[cpus]: Invalid value: \"cpus\": must be a standard resource for containers",
                ],
            ),
            (
                json!({"limits": {"storage": "1"}}),
                &[
                    "r.limits[storage]: Invalid value: \"storage\": must be a standard resource for containers",
                ],
            ),
            (
                json!({"limits": {"memory": "-1Mi"}}),
                &["r.limits[memory]: Invalid value: \"-1Mi\": must be greater than or equal to 0"],
            ),
            (
                json!({"limits": {"example.com/a": "500m"}}),
                &["r.limits[example.com/a]: Invalid value: \"500m\": must be an integer"],
            ),
            (
                json!({"requests": {"example.com/a": "1"}}),
                &["r.limits: Required value: Limit must be set for non overcommitable resources"],
            ),
            (
                json!({"requests": {"example.com/a": "1"}, "limits": {"example.com/a": "2"}}),
                &["r.requests: Invalid value: \"1\": must be equal to example.com/a limit of 2"],
            ),
            (
                json!({"limits": {"hugepages-2Mi": "3Mi"}}),
                &[
                    "r.limits[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi",
                    "r: Forbidden: HugePages require cpu or memory",
                ],
            ),
            (
                json!({"limits": {"cpu": "one"}}),
                &["r.limits[cpu]: Invalid value: \"one\": quantities must match the regular expression \
                   '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"],
            ),
            (
                json!({"claims": [{"name": "a"}, {"name": "a"}, {"name": "b"}]}),
                &[
                    "r.claims[1]: Duplicate value: \"a\"",
                    "r.claims[2]: Not found: \"b\": must be one of the names in pod.spec.resourceClaims: a",
                ],
            ),
        ];
        let claims = BTreeSet::from(["a"]);
        for (resources, expected) in table {
            let part = Part::new(resources, FieldPath::of("r"));
            assert_eq!(
                told(|findings| check_container_resources(&part, &claims, findings)),
                *expected,
                "{resources}"
            );
        }
    }

    #[test]
    fn a_pod_asks_for_at_least_what_its_containers_ask_for() {
        let spec = json!({
            "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2", "pods": "1"}},
            "initContainers": [
                {"restartPolicy": "Always", "resources": {"requests": {"cpu": "300m"}}},
                {"resources": {"requests": {"cpu": "1"}}},
            ],
            "containers": [
                {"resources": {"requests": {"cpu": "500m"}}},
                {"resources": {"limits": {"cpu": "3"}}},
            ],
        });
        let part = Part::new(&spec, FieldPath::of("spec"));
        assert_eq!(
            told(|findings| check_pod_resources(&part, findings)),
            [
                "spec.resources.limits[pods]: Unsupported value: \"pods\": supported values: \"cpu\", \"hugepages-\", \
                 \"memory\"",
                "spec.resources.requests[cpu]: Invalid value: \"1\": must be greater than or equal to aggregate \
                 container requests of 1300m",
                "spec.resources.containers[1][cpu].limits: Invalid value: \"3\": must be less than or equal to pod \
                 limits of 2",
            ]
        );
    }
}
