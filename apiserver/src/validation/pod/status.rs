//! What nodes and controllers tell of a pod.

use std::collections::BTreeSet;

use barque_api::field::FieldPath;
use barque_api::ip::{parse_ip, validate_old_ip};
use barque_api::names;

use super::update::check_annotations;
use crate::validation::findings::Findings;
use crate::validation::part::Part;

const SYSTEM_CONDITIONS: [&str; 3] = ["PodScheduled", "Ready", "Initialized"];
const HEALTH: [&str; 3] = ["Healthy", "Unhealthy", "Unknown"];
const STATUSES: [(&str, &str); 3] = [
    ("containerStatuses", "containers"),
    ("initContainerStatuses", "initContainers"),
    ("ephemeralContainerStatuses", ""),
];

/// An update of the status.
pub(super) fn check_status_update(new: &Part<'_>, old: &Part<'_>, findings: &mut Findings) {
    check_annotations(new, old, findings);
    let (spec, old_spec) = (new.child("spec"), old.child("spec"));
    let (status, old_status) = (new.child("status"), old.child("status"));
    for (index, condition) in status.items("conditions").enumerate() {
        let kind = condition.text("type");
        if !SYSTEM_CONDITIONS.contains(&kind) {
            // Told at this place by Kubernetes.
            let at = FieldPath::of("metadata.conditions").index(index).child("Type");
            findings.label_key(&at, kind);
        }
    }
    if spec.text("nodeName") != old_spec.text("nodeName") {
        findings.forbidden(&status.at("nodeName"), "may not be changed directly");
    }
    let nominated = status.text("nominatedNodeName");
    if !nominated.is_empty() && nominated != old_status.text("nominatedNodeName") {
        findings.dns_subdomain(&status.at("nominatedNodeName"), nominated);
    }
    findings.immutable(&status, &old_status, "qosClass");
    let restart_policy = old_spec.text("restartPolicy");
    for (field, containers) in STATUSES {
        let sidecars: BTreeSet<_> = old_spec
            .items(containers)
            .filter(|container| containers == "initContainers" && container.text("restartPolicy") == "Always")
            .map(|container| container.text("name"))
            .collect();
        // Ephemeral containers never start again.
        let policy = if containers.is_empty() { "Never" } else { restart_policy };
        check_transitions(&status, &old_status, field, policy, &sidecars, findings);
    }
    check_claim_statuses(&spec, &status, findings);
    check_addresses(&status, "podIPs", findings);
    let hosts = status.list("hostIPs");
    if let Some(first) = status.items("hostIPs").next()
        && first.text("ip") != status.text("hostIP")
    {
        findings.invalid(&first.at("ip"), first.text("ip"), "must be equal to `hostIP`");
    }
    if !hosts.is_empty() {
        check_addresses(&status, "hostIPs", findings);
    }
    for (field, containers) in STATUSES {
        check_users(&spec, &status, field, findings);
        check_devices(&spec, &status, field, containers, findings);
    }
}

/// A container that ended and may not start again stays ended.
fn check_transitions(
    new: &Part<'_>,
    old: &Part<'_>,
    field: &str,
    policy: &str,
    sidecars: &BTreeSet<&str>,
    findings: &mut Findings,
) {
    if policy == "Always" {
        return;
    }
    for (index, before) in old.items(field).enumerate() {
        let ended = before.child("state").child("terminated");
        let name = before.text("name");
        let may_restart = ended.count("exitCode") != 0 && policy == "OnFailure" || sidecars.contains(name);
        if ended.value.is_null() || may_restart {
            continue;
        }
        for after in new.items(field).filter(|after| after.text("name") == name) {
            if !after.child("state").has("terminated") {
                let at = new.at(field).index(index).child("state");
                findings.forbidden(&at, "may not be transitioned to non-terminated state");
            }
        }
    }
}

fn check_claim_statuses(spec: &Part<'_>, status: &Part<'_>, findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    for claim in status.items("resourceClaimStatuses") {
        let name = claim.text("name");
        if spec.items("resourceClaims").all(|known| known.text("name") != name) {
            let detail = "must match the name of an entry in `spec.resourceClaims`";
            findings.invalid(&claim.at("name"), name, detail);
        }
        if !seen.insert(name) {
            findings.duplicate(&claim.at("name"), name);
        }
        if claim.has("resourceClaimName") {
            findings.dns_subdomain(&claim.at("name"), claim.text("resourceClaimName"));
        }
    }
}

/// At most one address of each family.
fn check_addresses(status: &Part<'_>, field: &str, findings: &mut Findings) {
    for address in status.items(field) {
        findings.extend(validate_old_ip(address.text("ip"), &address.path));
    }
    if status.list(field).len() < 2 {
        return;
    }
    let families: BTreeSet<_> =
        status.items(field).filter_map(|one| parse_ip(one.text("ip"))).map(|ip| ip.is_ipv4()).collect();
    if families.len() < 2 || status.list(field).len() > 2 {
        let detail = "may specify no more than one IP for each IP family";
        findings.invalid(&status.at(field), status.get(field).clone(), detail);
    }
    let mut seen = BTreeSet::new();
    for address in status.items(field) {
        if !seen.insert(address.text("ip")) {
            findings.duplicate(&address.path, address.value.clone());
        }
    }
}

fn check_users(spec: &Part<'_>, status: &Part<'_>, field: &str, findings: &mut Findings) {
    for container in status.items(field) {
        let Some(user) = container.child("user").given("linux") else { continue };
        let at = container.at("linux");
        if spec.child("os").text("name") == "windows" {
            findings.forbidden(&at, "cannot be set for a windows pod");
            continue;
        }
        for id in ["uid", "gid"] {
            let number = user.count(id);
            for wrong in names::user_id(number) {
                findings.invalid(&at.child(id), number, wrong);
            }
        }
        for (index, group) in user.list("supplementalGroups").iter().enumerate() {
            let number = group.as_i64().unwrap_or_default();
            for wrong in names::user_id(number) {
                findings.invalid(&at.child("supplementalGroups").index(index), number, wrong);
            }
        }
    }
}

/// The devices that containers got, and how they are.
fn check_devices(spec: &Part<'_>, status: &Part<'_>, field: &str, containers: &str, findings: &mut Findings) {
    for told in status.items(field) {
        if containers.is_empty() {
            if !told.list("allocatedResourcesStatus").is_empty() {
                let detail = "must not be specified in container status";
                findings.forbidden(&told.at("allocatedResourcesStatus"), detail);
            }
            continue;
        }
        let container = spec.items(containers).find(|one| one.text("name") == told.text("name"));
        for resource in told.items("allocatedResourcesStatus") {
            if let Some(container) = &container {
                check_device_name(&container.child("resources"), &resource, findings);
            }
            let mut seen = BTreeSet::new();
            for device in resource.items("resources") {
                let health = device.text("health");
                if !HEALTH.contains(&health) {
                    findings.not_supported(&device.at("health"), health, &HEALTH);
                }
                let id = device.text("resourceID");
                if !seen.insert(id) {
                    findings.duplicate(&device.at("resourceID"), id);
                }
            }
        }
    }
}

fn check_device_name(resources: &Part<'_>, device: &Part<'_>, findings: &mut Findings) {
    let name = device.text("name");
    let (known, detail) = if let Some(claim) = name.strip_prefix("claim:") {
        let is_it = |one: Part<'_>| match one.text("request") {
            "" => one.text("name") == claim,
            request => format!("{}/{request}", one.text("name")) == claim,
        };
        (
            resources.items("claims").any(is_it),
            "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or \
             'claim:<claimName>' if request is empty",
        )
    } else {
        (resources.child("requests").has(name), "must match one of the container's resource requests")
    };
    if !known {
        findings.invalid(&device.at("name"), name, detail);
    }
}
