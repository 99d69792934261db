//! What a pod is to be (`core/v1` PodSpec), in pods and in templates of them.

use std::collections::BTreeSet;

use barque_api::field::FieldError;
use barque_api::ip::validate_old_ip;
use barque_api::names;

use super::affinity::check_affinity;
use super::containers::{Surroundings, check_containers};
use super::mounts::VolumeUse;
use super::resources::{check_overhead, check_pod_resources};
use super::scheduling::{check_spread, check_tolerations};
use super::security::check_pod_security;
use super::volumes::check_volumes;
use super::windows::{check_host_processes, check_system};
use crate::validation::findings::Findings;
use crate::validation::part::Part;

const DNS_POLICIES: [&str; 4] = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
const MOST_NAME_SERVERS: usize = 3;
const MOST_SEARCHES: usize = 32;
const SEARCHES_LIMIT: usize = 2048;
const HOSTNAME_LIMIT: usize = 64;

/// Whose spec it is.
#[derive(Clone, Copy, Default)]
pub(in crate::validation) struct Owner<'a> {
    /// The name of the pod, where there is one already.
    pub(in crate::validation) pod: &'a str,
    /// Whether it is a pod and no template.
    pub(in crate::validation) is_pod: bool,
    /// Names of volumes that the owner adds: claims.
    pub(in crate::validation) claims: &'a [&'a str],
}

/// The whole spec.
pub(in crate::validation) fn check_pod_spec<'a>(spec: &Part<'a>, owner: Owner<'a>, findings: &mut Findings) {
    let grace = spec.number("terminationGracePeriodSeconds");
    if grace.is_none() {
        findings.required(&spec.at("terminationGracePeriodSeconds"), "");
    }
    let mut volumes = check_volumes(spec, owner.pod, findings);
    volumes.extend(owner.claims.iter().map(|claim| (*claim, VolumeUse::Claim)));
    let claims = check_resource_claims(spec, findings);
    let around = Surroundings {
        volumes,
        claims,
        grace,
        restart_policy: spec.text("restartPolicy"),
        host_users: spec.choice("hostUsers") != Some(false),
        is_pod: owner.is_pod,
    };
    check_containers(spec, &around, findings);
    check_pod_resources(spec, findings);
    check_ports_of_host(spec, owner.is_pod, findings);
    findings.word(spec, "restartPolicy", &["Always", "OnFailure", "Never"]);
    findings.word(spec, "dnsPolicy", &DNS_POLICIES);
    findings.labels(spec, "nodeSelector");
    check_pod_security(spec, findings);
    check_affinity(spec, findings);
    check_dns(spec, findings);
    check_gates(spec, findings);
    check_spread(spec, findings);
    check_host_processes(spec, findings);
    check_host_users(spec, findings);
    check_names(spec, findings);
    findings.within(spec, "activeDeadlineSeconds", 1, i32::MAX.into());
    check_tolerations(spec, findings);
    for alias in spec.items("hostAliases") {
        findings.extend(validate_old_ip(alias.text("ip"), &alias.at("ip")));
        for name in alias.items("hostnames") {
            findings.dns_subdomain(&name.path, name.value.as_str().unwrap_or_default());
        }
    }
    if spec.has("preemptionPolicy") {
        findings.word(spec, "preemptionPolicy", &["PreemptLowerPriority", "Never"]);
    }
    check_overhead(spec, findings);
    check_system(spec, findings);
}

/// Names of objects and hosts.
fn check_names(spec: &Part<'_>, findings: &mut Findings) {
    for field in ["serviceAccountName", "nodeName", "priorityClassName"] {
        if !spec.text(field).is_empty() {
            findings.dns_subdomain(&spec.at(field), spec.text(field));
        }
    }
    if spec.has("runtimeClassName") {
        findings.dns_subdomain(&spec.at("runtimeClassName"), spec.text("runtimeClassName"));
    }
    for field in ["hostname", "subdomain"] {
        if !spec.text(field).is_empty() {
            findings.dns_label(&spec.at(field), spec.text(field));
        }
    }
    if spec.has("hostnameOverride") {
        let (at, name) = (spec.at("hostnameOverride"), spec.text("hostnameOverride"));
        findings.dns_subdomain(&at, name);
        if name.len() > HOSTNAME_LIMIT {
            findings.push(FieldError::too_long(&at, HOSTNAME_LIMIT));
        }
    }
}

/// The claims for devices; their names are handed back.
fn check_resource_claims<'a>(spec: &Part<'a>, findings: &mut Findings) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    for claim in spec.items("resourceClaims") {
        findings.unique_label(&claim, "name", &mut seen);
        let wrong = match (claim.has("resourceClaimName"), claim.has("resourceClaimTemplateName")) {
            (true, true) => {
                Some("at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified")
            }
            (false, false) => Some("must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"),
            _ => None,
        };
        if let Some(wrong) = wrong {
            findings.invalid(&claim.path, claim.value.clone(), wrong);
        }
        for field in ["resourceClaimName", "resourceClaimTemplateName"] {
            if claim.has(field) {
                findings.dns_subdomain(&claim.at(field), claim.text(field));
            }
        }
    }
    seen
}

/// On the network of the host a port is the port of the host.
fn check_ports_of_host(spec: &Part<'_>, is_pod: bool, findings: &mut Findings) {
    if !spec.flag("hostNetwork") {
        return;
    }
    for container in spec.items("containers") {
        for port in container.items("ports") {
            let (host, own) = (port.count("hostPort"), port.count("containerPort"));
            // Templates may leave it out: it is filled in when the pod is made.
            if host != own && (is_pod || host != 0) {
                let detail = "must match `containerPort` when `hostNetwork` is true";
                findings.invalid(&port.at("hostPort"), host, detail);
            }
        }
    }
}

fn check_host_users(spec: &Part<'_>, findings: &mut Findings) {
    if spec.choice("hostUsers") == Some(false) {
        for (field, place) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")]
        {
            if spec.flag(field) {
                findings.forbidden(&spec.at(place), "when `pod.Spec.HostUsers` is false");
            }
        }
    }
}

fn check_gates(spec: &Part<'_>, findings: &mut Findings) {
    for gate in spec.items("readinessGates") {
        findings.label_key(&gate.at("conditionType"), gate.text("conditionType"));
    }
    let mut seen = BTreeSet::new();
    for gate in spec.items("schedulingGates") {
        let name = gate.text("name");
        findings.label_key(&gate.path, name);
        if !seen.insert(name) {
            findings.duplicate(&gate.path, name);
        }
    }
}

fn check_dns(spec: &Part<'_>, findings: &mut Findings) {
    let config = spec.child("dnsConfig");
    let servers = config.list("nameservers");
    if spec.text("dnsPolicy") == "None" {
        if config.value.is_null() {
            findings.required(&config.path, "must provide `dnsConfig` when `dnsPolicy` is None");
            return;
        }
        if servers.is_empty() {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            findings.required(&config.at("nameservers"), detail);
            return;
        }
    }
    if servers.len() > MOST_NAME_SERVERS {
        let detail = format!("must not have more than {MOST_NAME_SERVERS} nameservers");
        findings.invalid(&config.at("nameservers"), config.get("nameservers").clone(), detail);
    }
    for server in config.items("nameservers") {
        findings.extend(validate_old_ip(server.value.as_str().unwrap_or_default(), &server.path));
    }
    let searches: Vec<_> = config.texts("searches").collect();
    let value = || config.get("searches").clone();
    if searches.len() > MOST_SEARCHES {
        let detail = format!("must not have more than {MOST_SEARCHES} search paths");
        findings.invalid(&config.at("searches"), value(), detail);
    }
    if searches.join(" ").len() > SEARCHES_LIMIT {
        let detail = format!(
            "must not have more than {SEARCHES_LIMIT} characters (including spaces) in the search list"
        );
        findings.invalid(&config.at("searches"), value(), detail);
    }
    for (index, search) in searches.iter().enumerate().filter(|(_, search)| **search != ".") {
        let search = search.strip_suffix('.').unwrap_or(search);
        let at = config.at("searches").index(index);
        findings.each(&at, search, names::dns_subdomain_with_underscore(search));
    }
    for option in config.items("options") {
        if option.text("name").is_empty() {
            findings.required(&option.path, "must not be empty");
        }
    }
}
