//! Which rights containers have, and as whom they run on Linux. Privileged containers are allowed; policies for them are
//! admission's.

use std::collections::BTreeSet;

use barque_api::field::FieldError;
use barque_api::names;

use super::windows::check_windows_options;
use crate::validation::findings::Findings;
use crate::validation::part::Part;
use crate::validation::paths::check_descending;

const SYSCTL_LIMIT: usize = 253;
const SYSCTL: &str = r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
const APP_ARMOR_LIMIT: usize = 4095;
const PROFILES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];

/// The security of a pod as a whole.
pub(super) fn check_pod_security(spec: &Part<'_>, findings: &mut Findings) {
    let Some(context) = spec.given("securityContext") else {
        check_shared_processes(spec, findings);
        return;
    };
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        check_id(&context, field, findings);
    }
    for group in context.items("supplementalGroups") {
        let id = group.value.as_i64().unwrap_or_default();
        names::user_id(id).into_iter().for_each(|wrong| findings.invalid(&group.path, id, wrong));
    }
    check_shared_processes(spec, findings);
    check_sysctls(spec, &context, findings);
    findings.word_if_given(&context, "fsGroupChangePolicy", &["Always", "OnRootMismatch"]);
    check_seccomp(&context, findings);
    check_windows_options(&context, findings);
    check_app_armor(&context, findings);
    findings.word_if_given(&context, "supplementalGroupsPolicy", &["Merge", "Strict"]);
    findings.word_if_given(&context, "seLinuxChangePolicy", &["MountOption", "Recursive"]);
}

fn check_shared_processes(spec: &Part<'_>, findings: &mut Findings) {
    if spec.flag("shareProcessNamespace") && spec.flag("hostPID") {
        let at = spec.at("securityContext").child("shareProcessNamespace");
        findings.invalid(&at, true, "ShareProcessNamespace and HostPID cannot both be enabled");
    }
}

/// The security of a container.
pub(super) fn check_container_security(context: &Part<'_>, host_users: bool, findings: &mut Findings) {
    if context.value.is_null() {
        return;
    }
    check_id(context, "runAsUser", findings);
    check_id(context, "runAsGroup", findings);
    findings.word_if_given(context, "procMount", &["Default", "Unmasked"]);
    if host_users && context.text("procMount") == "Unmasked" {
        let detail = "`hostUsers` must be false to use `Unmasked`";
        findings.invalid(&context.at("procMount"), "Unmasked", detail);
    }
    check_seccomp(context, findings);
    if context.choice("allowPrivilegeEscalation") == Some(false) {
        let value = || context.value.clone();
        if context.flag("privileged") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            findings.invalid(&context.path, value(), detail);
        }
        for _ in context.child("capabilities").texts("add").filter(|added| *added == "CAP_SYS_ADMIN") {
            let detail =
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            findings.invalid(&context.path, value(), detail);
        }
    }
    check_windows_options(context, findings);
    check_app_armor(context, findings);
}

fn check_id(context: &Part<'_>, field: &str, findings: &mut Findings) {
    if let Some(id) = context.number(field) {
        names::user_id(id).into_iter().for_each(|wrong| findings.invalid(&context.at(field), id, wrong));
    }
}

fn check_seccomp(context: &Part<'_>, findings: &mut Findings) {
    let Some(profile) = context.given("seccompProfile") else { return };
    let kind = profile.text("type");
    if kind.is_empty() {
        findings.required(&profile.at("type"), "type is required when seccompProfile is set");
    } else if !PROFILES.contains(&kind) {
        findings.not_supported(&profile.at("type"), kind, &PROFILES);
    }
    let at = profile.at("localhostProfile");
    match (kind, profile.has("localhostProfile")) {
        ("Localhost", false) => findings.required(&at, "must be set when seccomp type is Localhost"),
        ("Localhost", true) => check_descending(profile.text("localhostProfile"), &at, findings),
        (_, true) => {
            findings.invalid(&at, profile.value.clone(), "can only be set when seccomp type is Localhost");
        }
        (_, false) => {}
    }
}

fn check_app_armor(context: &Part<'_>, findings: &mut Findings) {
    let Some(profile) = context.given("appArmorProfile") else { return };
    let (at, local) = (profile.at("localhostProfile"), profile.text("localhostProfile"));
    match profile.text("type") {
        "Localhost" => {
            if !profile.has("localhostProfile") || local.is_empty() {
                findings.required(&at, "must be set when AppArmor type is Localhost");
            } else if local.trim() != local {
                findings.invalid(&at, local, "must not be padded with whitespace");
            }
            if local.len() > APP_ARMOR_LIMIT {
                findings.push(FieldError::too_long(&at, APP_ARMOR_LIMIT));
            }
        }
        "RuntimeDefault" | "Unconfined" => {
            if profile.has("localhostProfile") {
                findings.invalid(&at, local, "can only be set when AppArmor type is Localhost");
            }
        }
        "" => findings.required(&profile.at("type"), "type is required when appArmorProfile is set"),
        other => findings.not_supported(&profile.at("type"), other, &PROFILES),
    }
}

fn check_sysctls(spec: &Part<'_>, context: &Part<'_>, findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    for sysctl in context.items("sysctls") {
        let (name, at) = (sysctl.text("name"), sysctl.at("name"));
        if name.is_empty() {
            findings.required(&at, "");
        } else if !is_sysctl(name) {
            let detail = format!("must have at most {SYSCTL_LIMIT} characters and match regex {SYSCTL}");
            findings.invalid(&at, name, detail);
        } else if seen.contains(name) {
            findings.duplicate(&at, name);
        }
        let plain = dotted(name);
        if spec.flag("hostNetwork") && plain.starts_with("net.") {
            findings.invalid(&at, name, "may not be specified when 'hostNetwork' is true");
        } else if spec.flag("hostIPC") && is_of_ipc(&plain) {
            findings.invalid(&at, name, "may not be specified when 'hostIPC' is true");
        }
        seen.insert(name);
    }
}

/// The name with dots between its parts, which may be written with slashes.
fn dotted(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name[at..].starts_with('/') => name
            .chars()
            .map(|one| match one {
                '/' => '.',
                '.' => '/',
                one => one,
            })
            .collect(),
        _ => name.to_owned(),
    }
}

fn is_of_ipc(name: &str) -> bool {
    name == "kernel.sem"
        || ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|prefix| name.starts_with(prefix))
}

fn is_sysctl(name: &str) -> bool {
    let end = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() <= SYSCTL_LIMIT
        && name.split(['.', '/']).all(|part| {
            let bytes = part.as_bytes();
            let inner = |byte: &u8| end(*byte) || *byte == b'-' || *byte == b'_';
            matches!((bytes.first(), bytes.last()), (Some(first), Some(last)) if end(*first) && end(*last))
                && bytes.iter().all(inner)
        })
}

#[cfg(test)]
mod tests {
    use barque_api::field::FieldPath;
    use serde_json::{Value, json};

    use super::*;
    use crate::validation::tests::told;

    #[test]
    fn the_security_of_pods_and_what_is_wrong_with_it() {
        let table: &[(Value, &[&str])] = &[
            (
                json!({"securityContext": {"runAsUser": 1000, "fsGroup": 0, "sysctls": [{"name": "net.ipv4.tcp_syncookies"}]}}),
                &[],
            ),
            (
                json!({"securityContext": {"runAsUser": -1, "supplementalGroups": [1, -2]}}),
                &[
                    "spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
                    "spec.securityContext.supplementalGroups[1]: Invalid value: -2: must be between 0 and 2147483647, \
                     inclusive",
                ],
            ),
            (
                json!({"hostPID": true, "shareProcessNamespace": true}),
                &[
                    "spec.securityContext.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID \
                   cannot both be enabled",
                ],
            ),
            (
                json!({"hostNetwork": true, "securityContext": {"sysctls": [{"name": "net/core/somaxconn"}, {"name": "A"}]}}),
                &[
                    "spec.securityContext.sysctls[0].name: Invalid value: \"net/core/somaxconn\": may not be specified \
                     when 'hostNetwork' is true",
                    "spec.securityContext.sysctls[1].name: Invalid value: \"A\": must have at most 253 characters and \
                     match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
                ],
            ),
            (
                json!({"securityContext": {"seccompProfile": {"type": "Localhost"}, "appArmorProfile": {"type": "x"}}}),
                &[
                    "spec.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type \
                     is Localhost",
                    "spec.securityContext.appArmorProfile.type: Unsupported value: \"x\": supported values: \
                     \"Localhost\", \"RuntimeDefault\", \"Unconfined\"",
                ],
            ),
            (
                json!({"securityContext": {"fsGroupChangePolicy": "Never"}}),
                &[
                    "spec.securityContext.fsGroupChangePolicy: Unsupported value: \"Never\": supported values: \"Always\", \
                   \"OnRootMismatch\"",
                ],
            ),
        ];
        for (spec, expected) in table {
            let part = Part::new(spec, FieldPath::of("spec"));
            assert_eq!(told(|findings| check_pod_security(&part, findings)), *expected, "{spec}");
        }
    }

    #[test]
    fn who_may_not_rise_is_not_privileged() {
        let context = json!({"allowPrivilegeEscalation": false, "privileged": true});
        let part = Part::new(&context, FieldPath::of("s"));
        assert_eq!(
            told(|findings| check_container_security(&part, true, findings)),
            ["s: Invalid value: {\"allowPrivilegeEscalation\":false,\"privileged\":true}: cannot set \
              `allowPrivilegeEscalation` to false and `privileged` to true"]
        );
    }
}
