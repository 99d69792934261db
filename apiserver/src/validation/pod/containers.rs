//! The containers of a pod: those that run, those that run before them, and those that are added for a look inside.

use std::collections::BTreeSet;

use barque_api::names;

use super::env::check_env;
use super::mounts::{Volumes, check_mounts};
use super::probes::check_life;
use super::resources::check_container_resources;
use super::security::check_container_security;
use crate::validation::findings::Findings;
use crate::validation::part::Part;

/// Fields that ephemeral containers have not.
const NOT_EPHEMERAL: [&str; 7] =
    ["ports", "resources", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "resizePolicy"];
const NO_SIDECAR: &str = "may not be set for init containers without restartPolicy=Always";
const MOST_RESTART_RULES: usize = 20;
const MOST_EXIT_CODES: usize = 255;

/// What containers know of their pod.
pub(super) struct Surroundings<'a> {
    /// Its volumes.
    pub(super) volumes: Volumes<'a>,
    /// The names of its claims for devices.
    pub(super) claims: BTreeSet<&'a str>,
    /// How long it has to end, in seconds.
    pub(super) grace: Option<i64>,
    /// When its containers start again.
    pub(super) restart_policy: &'a str,
    /// Whether its users are those of the host.
    pub(super) host_users: bool,
    /// Whether it is a pod and no template.
    pub(super) is_pod: bool,
}

/// All containers of a pod.
pub(super) fn check_containers(spec: &Part<'_>, around: &Surroundings<'_>, findings: &mut Findings) {
    let mut names = BTreeSet::new();
    if spec.list("containers").is_empty() {
        findings.required(&spec.at("containers"), "");
    }
    for container in spec.items("containers") {
        check_common(&container, around, findings);
        if !names.insert(container.text("name")) {
            findings.duplicate(&container.at("name"), container.text("name"));
        }
        check_life(&container, around.grace, findings);
        check_restarts(&container, findings);
    }
    check_host_ports(spec.items("containers"), findings);
    for container in spec.items("initContainers") {
        check_init(&container, around, &mut names, findings);
    }
    check_ephemeral(spec, around, &mut names, findings);
}

fn check_init<'a>(
    container: &Part<'a>,
    around: &Surroundings<'_>,
    names: &mut BTreeSet<&'a str>,
    findings: &mut Findings,
) {
    check_common(container, around, findings);
    check_restarts(container, findings);
    let name = container.text("name");
    if !names.insert(name) && !name.is_empty() {
        findings.duplicate(&container.at("name"), name);
    }
    // They run one by one, so their ports meet only within each.
    check_host_ports(std::iter::once(container.clone()), findings);
    if container.text("restartPolicy") == "Always" {
        check_life(container, around.grace, findings);
    } else {
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if container.has(field) {
                findings.forbidden(&container.at(field), NO_SIDECAR);
            }
        }
        if !container.list("resizePolicy").is_empty() {
            let value = container.get("resizePolicy").clone();
            findings.invalid(&container.at("resizePolicy"), value, "must not be set for init containers");
        }
    }
}

fn check_ephemeral<'a>(
    spec: &Part<'a>,
    around: &Surroundings<'_>,
    names: &mut BTreeSet<&'a str>,
    findings: &mut Findings,
) {
    let lasting = names.clone();
    for container in spec.items("ephemeralContainers") {
        check_common(&container, around, findings);
        if !around.is_pod {
            check_image_spaces(&container, findings);
        }
        let name = container.text("name");
        if !names.insert(name) {
            findings.duplicate(&container.at("name"), name);
        }
        let target = container.text("targetContainerName");
        if !target.is_empty() && !lasting.contains(target) {
            findings.not_found(&container.at("targetContainerName"), target);
        }
        let none = |field: &str| match container.get(field) {
            serde_json::Value::Object(fields) if field == "resources" => fields.is_empty(),
            serde_json::Value::Array(items) => items.is_empty(),
            value => value.is_null(),
        };
        for field in NOT_EPHEMERAL.into_iter().chain(["restartPolicy", "restartPolicyRules"]) {
            if !none(field) {
                findings.forbidden(&container.at(field), "cannot be set for an Ephemeral Container");
            }
        }
        for mount in container.items("volumeMounts") {
            for field in ["subPath", "subPathExpr"] {
                if !mount.text(field).is_empty() {
                    findings.forbidden(&mount.at(field), "cannot be set for an Ephemeral Container");
                }
            }
        }
    }
}

/// What holds for containers of each kind.
fn check_common(container: &Part<'_>, around: &Surroundings<'_>, findings: &mut Findings) {
    let name = container.text("name");
    if name.is_empty() {
        findings.required(&container.at("name"), "");
    } else {
        findings.dns_label(&container.at("name"), name);
    }
    findings.needs(container, "image");
    if around.is_pod {
        check_image_spaces(container, findings);
    }
    findings.word(container, "terminationMessagePolicy", &["File", "FallbackToLogsOnError"]);
    check_ports(container, findings);
    check_env(container, findings);
    check_mounts(container, &around.volumes, findings);
    findings.word(container, "imagePullPolicy", &["Always", "IfNotPresent", "Never"]);
    check_container_resources(&container.child("resources"), &around.claims, findings);
    check_resize_policy(container, around.restart_policy, findings);
    check_container_security(&container.child("securityContext"), around.host_users, findings);
}

/// A space before or behind an image is a mistake; templates may hold it, as they once could.
fn check_image_spaces(container: &Part<'_>, findings: &mut Findings) {
    let image = container.text("image");
    if image.trim() != image {
        findings.invalid(&container.at("image"), image, "must not have leading or trailing whitespace");
    }
}

fn check_ports(container: &Part<'_>, findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    for port in container.items("ports") {
        let name = port.text("name");
        if !name.is_empty() {
            let wrong = names::port_name(name);
            if !wrong.is_empty() {
                findings.each(&port.at("name"), name, wrong);
            } else if !seen.insert(name) {
                findings.duplicate(&port.at("name"), name);
            }
        }
        if port.count("containerPort") == 0 {
            findings.required(&port.at("containerPort"), "");
        } else {
            findings.within(&port, "containerPort", 1, 65535);
        }
        if port.count("hostPort") != 0 {
            findings.within(&port, "hostPort", 1, 65535);
        }
        findings.word(&port, "protocol", &["SCTP", "TCP", "UDP"]);
    }
}

/// A port of the host belongs to one container.
fn check_host_ports<'a>(containers: impl Iterator<Item = Part<'a>>, findings: &mut Findings) {
    let mut taken = BTreeSet::new();
    for container in containers {
        for port in container.items("ports") {
            let number = port.count("hostPort");
            let told = format!("{}/{}/{number}", port.text("protocol"), port.text("hostIP"));
            if number != 0 && !taken.insert(told.clone()) {
                findings.duplicate(&port.at("hostPort"), told);
            }
        }
    }
}

fn check_resize_policy(container: &Part<'_>, restart_policy: &str, findings: &mut Findings) {
    let path = container.at("resizePolicy");
    let mut seen = BTreeSet::new();
    for rule in container.items("resizePolicy") {
        let (resource, policy) = (rule.text("resourceName"), rule.text("restartPolicy"));
        if !seen.insert(resource) {
            findings.duplicate(&rule.path, resource);
        }
        let known: [(&str, &[&str]); 2] =
            [(resource, &["cpu", "memory"]), (policy, &["NotRequired", "RestartContainer"])];
        for (word, known) in known {
            if word.is_empty() {
                findings.required(&path, "");
            } else if !known.contains(&word) {
                findings.not_supported(&path, word, known);
            }
        }
        if restart_policy == "Never" && policy != "NotRequired" {
            findings.invalid(&path, policy, "must be 'NotRequired' when `restartPolicy` is 'Never'");
        }
    }
}

/// When a container starts again, in place of what its pod says.
fn check_restarts(container: &Part<'_>, findings: &mut Findings) {
    let rules = container.list("restartPolicyRules").len();
    if container.has("restartPolicy") {
        findings.word_if_given(container, "restartPolicy", &["Always", "Never", "OnFailure"]);
    } else if rules > 0 {
        let detail = "must specify restartPolicy when restart rules are used";
        findings.required(&container.at("restartPolicy"), detail);
    }
    if rules > MOST_RESTART_RULES {
        let path = container.at("restartPolicyRules");
        findings.push(barque_api::field::FieldError::too_many(&path, rules, MOST_RESTART_RULES));
    }
    for rule in container.items("restartPolicyRules") {
        let known = ["Restart", "RestartAllContainers"];
        if !known.contains(&rule.text("action")) {
            findings.not_supported(&rule.at("action"), rule.text("action"), &known);
        }
        let Some(codes) = rule.given("exitCodes") else {
            findings.required(&rule.at("exitCodes"), "must be specified");
            continue;
        };
        let operator = codes.text("operator");
        if !["In", "NotIn"].contains(&operator) {
            findings.not_supported(&codes.at("operator"), operator, &["In", "NotIn"]);
        }
        let values = codes.list("values").len();
        if values > MOST_EXIT_CODES {
            let path = codes.at("values");
            findings.push(barque_api::field::FieldError::too_many(&path, values, MOST_EXIT_CODES));
        }
    }
}
