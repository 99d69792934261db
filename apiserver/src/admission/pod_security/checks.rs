//! Which checks belong to a level as of a version, in the order in which they are told. Pure.

use serde_json::Value;

use super::policy::{Level, Standard, Version};
use super::{baseline, restricted};

/// What a check finds wrong with a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// In a few words.
    pub(super) reason: &'static str,
    /// Where; may be empty.
    pub(super) detail: String,
}

impl Finding {
    pub(super) const fn new(reason: &'static str, detail: String) -> Self {
        Self { reason, detail }
    }
}

/// Looks at a pod, or a template of pods.
pub(super) type Check = fn(&Value) -> Option<Finding>;

/// A check with the minor versions from which on it is made, in one way or another, and the checks of the baseline that it
/// stands for, from the same version on.
struct Row {
    id: &'static str,
    versions: &'static [(u32, Check)],
    stands_for: &'static str,
}

const fn row(id: &'static str, versions: &'static [(u32, Check)]) -> Row {
    Row { id, versions, stands_for: "" }
}

/// In the order of their ids.
const BASELINE: [Row; 12] = [
    row("appArmorProfile", &[(0, baseline::app_armor)]),
    row("capabilities_baseline", &[(0, baseline::capabilities)]),
    row("hostNamespaces", &[(0, baseline::host_namespaces)]),
    row("hostPathVolumes", &[(0, baseline::host_paths)]),
    row("hostPorts", &[(0, baseline::host_ports)]),
    row("hostProbesAndHostLifecycle", &[(34, baseline::probe_hosts)]),
    row("privileged", &[(0, baseline::privileged)]),
    row("procMount", &[(0, baseline::proc_mount), (35, baseline::proc_mount_of_host_users)]),
    row("seLinuxOptions", &[(0, baseline::se_linux), (31, baseline::se_linux_with_engine)]),
    row("seccompProfile_baseline", &[(0, baseline::seccomp_annotations), (19, baseline::seccomp)]),
    row(
        "sysctls",
        &[
            (0, baseline::sysctls_0),
            (27, baseline::sysctls_27),
            (29, baseline::sysctls_29),
            (32, baseline::sysctls_32),
            (37, baseline::sysctls_37),
        ],
    ),
    row("windowsHostProcess", &[(0, baseline::windows_host_process)]),
];

/// In the order of their ids.
const RESTRICTED: [Row; 7] = [
    row(
        "allowPrivilegeEscalation",
        &[(8, restricted::privilege_escalation), (25, restricted::privilege_escalation_but_windows)],
    ),
    Row {
        id: "capabilities_restricted",
        versions: &[(22, restricted::capabilities), (25, restricted::capabilities_but_windows)],
        stands_for: "capabilities_baseline",
    },
    Row { id: "procMount_restricted", versions: &[(35, baseline::proc_mount)], stands_for: "procMount" },
    Row { id: "restrictedVolumes", versions: &[(0, restricted::volumes)], stands_for: "hostPathVolumes" },
    row("runAsNonRoot", &[(0, restricted::non_root), (35, restricted::non_root_of_host_users)]),
    row("runAsUser", &[(23, restricted::run_as_user), (35, restricted::run_as_user_of_host_users)]),
    Row {
        id: "seccompProfile_restricted",
        versions: &[(19, restricted::seccomp), (25, restricted::seccomp_but_windows)],
        stands_for: "seccompProfile_baseline",
    },
];

impl Row {
    fn as_of(&self, minor: u32) -> Option<Check> {
        self.versions.iter().rev().find(|(from, _)| *from <= minor).map(|(_, check)| *check)
    }
}

/// All that is wrong with a pod by this standard.
pub(super) fn findings(standard: Standard, pod: &Value) -> Vec<Finding> {
    let minor = match standard.version {
        Version::Minor(minor) => minor,
        Version::Latest => u32::MAX,
    };
    let restricted = match standard.level {
        Level::Privileged => return Vec::new(),
        Level::Baseline => &[][..],
        Level::Restricted => &RESTRICTED[..],
    };
    let stands_for =
        |id: &str| restricted.iter().any(|row| row.stands_for == id && row.as_of(minor).is_some());
    let baseline = BASELINE.iter().filter(|row| !stands_for(row.id));
    baseline.chain(restricted).filter_map(|row| row.as_of(minor)?(pod)).collect()
}

/// In a few words.
pub(super) fn reasons(findings: &[Finding]) -> String {
    findings.iter().map(|finding| finding.reason).collect::<Vec<_>>().join(", ")
}

/// With the places.
pub(super) fn details(findings: &[Finding]) -> String {
    let told = findings.iter().map(|Finding { reason, detail }| {
        if detail.is_empty() { (*reason).to_owned() } else { format!("{reason} ({detail})") }
    });
    told.collect::<Vec<_>>().join(", ")
}

/// As a list of quoted words.
pub(super) fn quoted<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| format!("\"{}\"", item.as_ref())).collect::<Vec<_>>().join(", ")
}

/// The word for so many.
pub(super) const fn plural(count: usize, one: &'static str, many: &'static str) -> &'static str {
    if count == 1 { one } else { many }
}

/// `container "a"`, `containers "a", "b"`.
pub(super) fn containers(names: &[&str]) -> String {
    format!("{} {}", plural(names.len(), "container", "containers"), quoted(names))
}

/// Who set something: the pod, containers, or both; nothing when nobody did.
pub(super) fn setters(pod: bool, names: &[&str]) -> Option<String> {
    match (pod, names) {
        (false, []) => None,
        (true, []) => Some("pod".to_owned()),
        (false, names) => Some(containers(names)),
        (true, names) => Some(format!("pod and {}", containers(names))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_stand_in_the_order_of_their_ids() {
        for rows in [&BASELINE[..], &RESTRICTED[..]] {
            assert!(rows.is_sorted_by_key(|row| row.id));
        }
    }

    #[test]
    fn a_plain_pod_is_baseline_and_not_restricted() {
        let pod = json!({"spec": {"containers": [{"name": "c"}]}});
        let of = |level, version| details(&findings(Standard { level, version }, &pod));
        assert_eq!(of(Level::Baseline, Version::Latest), "");
        assert_eq!(
            of(Level::Restricted, Version::Latest),
            "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), \
             unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), \
             runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), \
             seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \
             \"Localhost\")"
        );
        assert_eq!(
            of(Level::Restricted, Version::Minor(7)),
            "runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true)"
        );
    }

    #[test]
    fn a_strict_check_stands_for_the_mild_one_once_it_is_made() {
        let pod = json!({"spec": {"containers": [{"name": "c", "securityContext": {
            "capabilities": {"add": ["SYS_ADMIN"], "drop": ["ALL"]}}}]}});
        let of = |minor| {
            reasons(&findings(Standard { level: Level::Restricted, version: Version::Minor(minor) }, &pod))
        };
        assert!(of(21).starts_with("non-default capabilities, "));
        assert!(!of(22).contains("non-default"));
        assert!(of(22).contains("unrestricted capabilities"));
    }
}
