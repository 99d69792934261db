//! What pods of one system have not from the other, and what Windows alone has.

use barque_api::names;

use super::each_container;
use crate::validation::findings::Findings;
use crate::validation::part::Part;

const CREDENTIAL_LIMIT_KIB: usize = 64;
const DOMAIN_LIMIT: usize = 256;
const USER_LIMIT: usize = 104;
/// Fields of a pod itself that pods of Windows have not.
const NOT_FOR_WINDOWS: [&str; 4] = ["hostUsers", "hostPID", "hostIPC", "shareProcessNamespace"];
/// Fields of the security of a pod that pods of Windows have not.
const NO_POD_SECURITY: [&str; 11] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
    "seLinuxChangePolicy",
];
/// The same of containers.
const NO_CONTAINER_SECURITY: [&str; 10] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];

/// The system that a pod is for, where it tells it, and what does not fit it.
pub(super) fn check_system(spec: &Part<'_>, findings: &mut Findings) {
    let Some(system) = spec.given("os") else { return };
    match system.text("name") {
        "" => findings.required(&system.at("name"), "cannot be empty"),
        "linux" => {
            let detail = "windows options cannot be set for a linux pod";
            let contexts = std::iter::once(spec.child("securityContext"))
                .chain(each_container(spec).map(|container| container.child("securityContext")));
            for context in contexts.filter(|context| context.has("windowsOptions")) {
                findings.forbidden(&context.at("windowsOptions"), detail);
            }
        }
        "windows" => {
            let detail = "cannot be set for a windows pod";
            for field in NOT_FOR_WINDOWS {
                let set =
                    if field == "hostPID" || field == "hostIPC" { spec.flag(field) } else { spec.has(field) };
                if set {
                    findings.forbidden(&spec.at(field), detail);
                }
            }
            let pod = std::iter::once((spec.child("securityContext"), NO_POD_SECURITY.as_slice()));
            let containers = each_container(spec)
                .map(|container| (container.child("securityContext"), NO_CONTAINER_SECURITY.as_slice()));
            for (context, fields) in pod.chain(containers) {
                for field in fields.iter().filter(|field| {
                    context.has(field) && context.get(field).as_array().is_none_or(|items| !items.is_empty())
                }) {
                    findings.forbidden(&context.at(field), detail);
                }
            }
        }
        other => findings.not_supported(&system.path, other, &["linux", "windows"]),
    }
}

/// Containers that are processes of the host: all of a pod or none, on the network of the host.
pub(super) fn check_host_processes(spec: &Part<'_>, findings: &mut Findings) {
    let pod = spec.child("securityContext").child("windowsOptions").choice("hostProcess");
    let (mut all, mut of_host) = (0, 0);
    for container in each_container(spec) {
        all += 1;
        let options = container.child("securityContext").child("windowsOptions");
        let own = options.choice("hostProcess");
        if let (Some(pod), Some(own)) = (pod, own)
            && pod != own
        {
            let detail = format!("pod hostProcess value must be identical if both are specified, was {pod}");
            findings.invalid(&options.at("hostProcess"), own, detail);
        }
        of_host += usize::from(own.or(pod) == Some(true));
    }
    if of_host == 0 {
        return;
    }
    if of_host != all {
        let detail =
            "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        findings.invalid(&spec.path, "", detail);
    }
    if !spec.flag("hostNetwork") {
        let detail = "hostNetwork must be true if pod contains any hostProcess containers";
        findings.invalid(&spec.at("hostNetwork"), false, detail);
    }
}

/// Credentials and users of Windows.
pub(super) fn check_windows_options(context: &Part<'_>, findings: &mut Findings) {
    let Some(options) = context.given("windowsOptions") else { return };
    if options.has("gmsaCredentialSpecName") {
        let name = options.text("gmsaCredentialSpecName");
        findings.dns_subdomain(&options.at("gmsaCredentialSpecName"), name);
    }
    if options.has("gmsaCredentialSpec") {
        let (at, spec) = (options.at("gmsaCredentialSpec"), options.text("gmsaCredentialSpec"));
        if spec.is_empty() {
            findings.invalid(&at, spec, "gmsaCredentialSpec cannot be an empty string");
        } else if spec.len() > CREDENTIAL_LIMIT_KIB * 1024 {
            let detail = format!("gmsaCredentialSpec size must be under {CREDENTIAL_LIMIT_KIB} KiB");
            findings.invalid(&at, spec, detail);
        }
    }
    if options.has("runAsUserName") {
        let told = options.text("runAsUserName");
        for wrong in user_name(told) {
            findings.invalid(&options.at("runAsUserName"), told, wrong);
        }
    }
}

/// What is wrong with `DOMAIN\user` or `user`.
fn user_name(told: &str) -> Vec<String> {
    let one = |wrong: &str| vec![wrong.to_owned()];
    if told.is_empty() {
        return one("runAsUserName cannot be an empty string");
    }
    if told.bytes().any(|byte| byte.is_ascii_control()) {
        return one("runAsUserName cannot contain control characters");
    }
    let parts: Vec<_> = told.split('\\').collect();
    let (domain, user) = match parts.as_slice() {
        [user] => (None, *user),
        [domain, user] => (Some(*domain), *user),
        _ => return one("runAsUserName cannot contain more than one backslash"),
    };
    let mut wrong = Vec::new();
    if let Some(domain) = domain {
        if domain.len() >= DOMAIN_LIMIT {
            wrong.push(format!("runAsUserName's Domain length must be under {DOMAIN_LIMIT} characters"));
        }
        if !is_net_bios(domain) && !is_windows_dns(domain) {
            wrong.push("runAsUserName's Domain doesn't match the NetBios nor the DNS format".to_owned());
        }
    }
    if user.is_empty() {
        wrong.push("runAsUserName's User cannot be empty".to_owned());
    } else if user.len() > USER_LIMIT {
        wrong.push(format!("runAsUserName's User length must not be longer than {USER_LIMIT} characters"));
    }
    if !user.is_empty() && user.chars().all(|one| one == '.' || one == ' ') {
        wrong.push("runAsUserName's User cannot contain only periods or spaces".to_owned());
    }
    if user.contains(['"', '/', '\\', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']']) {
        let detail = "runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]";
        wrong.push(detail.to_owned());
    }
    wrong
}

fn is_net_bios(domain: &str) -> bool {
    (1..=15).contains(&domain.chars().count())
        && !domain.starts_with('.')
        && !domain.contains(['\\', '/', ':', '*', '?', '"', '<', '>', '|'])
}

fn is_windows_dns(domain: &str) -> bool {
    let labels = domain.split('.');
    labels.into_iter().all(|label| names::dns_label(&label.to_lowercase()).is_empty())
}

#[cfg(test)]
mod tests {
    use barque_api::field::FieldPath;
    use serde_json::{Value, json};

    use super::*;
    use crate::validation::tests::told;

    #[test]
    fn users_of_windows() {
        let table: &[(&str, &[&str])] = &[
            ("ContainerUser", &[]),
            ("NT AUTHORITY\\SYSTEM", &[]),
            ("a\\b\\c", &["runAsUserName cannot contain more than one backslash"]),
            ("a\\", &["runAsUserName's User cannot be empty"]),
            (".a?\\b", &["runAsUserName's Domain doesn't match the NetBios nor the DNS format"]),
            ("..", &["runAsUserName's User cannot contain only periods or spaces"]),
            ("a;b", &["runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]"]),
        ];
        for (told, expected) in table {
            assert_eq!(user_name(told), *expected, "{told}");
        }
    }

    #[test]
    fn what_fits_no_system_is_told() {
        let table: &[(Value, &[&str])] = &[
            (json!({"os": {}}), &["spec.os.name: Required value: cannot be empty"]),
            (
                json!({"os": {"name": "mac"}}),
                &["spec.os: Unsupported value: \"mac\": supported values: \"linux\", \"windows\""],
            ),
            (
                json!({"os": {"name": "windows"}, "hostPID": true, "containers": [{"securityContext": {"privileged": false}}]}),
                &[
                    "spec.hostPID: Forbidden: cannot be set for a windows pod",
                    "spec.containers[0].securityContext.privileged: Forbidden: cannot be set for a windows pod",
                ],
            ),
            (
                json!({"os": {"name": "linux"}, "securityContext": {"windowsOptions": {}}}),
                &[
                    "spec.securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod",
                ],
            ),
        ];
        for (spec, expected) in table {
            let part = Part::new(spec, FieldPath::of("spec"));
            assert_eq!(told(|findings| check_system(&part, findings)), *expected, "{spec}");
        }
    }

    #[test]
    fn processes_of_the_host_are_all_of_a_pod() {
        let with = |own: Value| json!({"securityContext": {"windowsOptions": {"hostProcess": own}}});
        let spec = json!({"containers": [with(json!(true)), with(json!(false))]});
        let part = Part::new(&spec, FieldPath::of("spec"));
        assert_eq!(
            told(|findings| check_host_processes(&part, findings)),
            [
                "spec: Invalid value: \"\": If pod contains any hostProcess containers then all containers must be \
                 HostProcess containers",
                "spec.hostNetwork: Invalid value: false: hostNetwork must be true if pod contains any hostProcess \
                 containers",
            ]
        );
    }
}
