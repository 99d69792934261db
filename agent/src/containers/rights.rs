//! What a container may do: capabilities, system calls, paths that are hidden from it. A decision.

use std::path::PathBuf;

use barque_containers::spec::Seccomp;
use k8s_openapi::api::core::v1::{Container, Pod, SeccompProfile};

use super::{ContainerError, NodeFacts};
use crate::pods::spec;

/// What containers have without asking, as containerd's and Docker's have.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// All that Linux knows, in the order of their numbers.
const ALL: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What of `/proc` and `/sys` a container does not see.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// What of `/proc` it cannot change.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What a container may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// Everything.
    pub privileged: bool,
    /// As `CAP_CHOWN`, in the order of their numbers.
    pub capabilities: Vec<String>,
    /// It cannot gain more.
    pub no_new_privileges: bool,
    /// What its system calls are filtered by.
    pub seccomp: Seccomp,
    /// Its root cannot be changed.
    pub read_only_root: bool,
    /// Hidden from it.
    pub masked: Vec<PathBuf>,
    /// It cannot change them.
    pub read_only: Vec<PathBuf>,
}

/// Whether a container may do everything.
#[must_use]
pub fn is_privileged(container: &Container) -> bool {
    container.security_context.as_ref().and_then(|context| context.privileged) == Some(true)
}

/// What a container may do.
///
/// # Errors
/// When it asks for something that is not there.
pub fn rights(pod: &Pod, container: &Container, node: &NodeFacts) -> Result<Rights, ContainerError> {
    let own = container.security_context.as_ref();
    let privileged = is_privileged(container);
    let unmasked = own.and_then(|own| own.proc_mount.as_deref()) == Some("Unmasked");
    let paths = |list: &[&str]| {
        let shown = privileged || unmasked;
        list.iter().filter(|_| !shown).map(PathBuf::from).collect()
    };
    Ok(Rights {
        privileged,
        capabilities: if privileged { named(&ALL) } else { capabilities(container)? },
        no_new_privileges: own.and_then(|own| own.allow_privilege_escalation) == Some(false),
        seccomp: if privileged { Seccomp::Unconfined } else { seccomp(pod, container, node)? },
        read_only_root: own.and_then(|own| own.read_only_root_filesystem) == Some(true),
        masked: paths(&MASKED),
        read_only: paths(&READ_ONLY),
    })
}

fn named(list: &[&str]) -> Vec<String> {
    list.iter().map(|name| format!("CAP_{name}")).collect()
}

/// What is added counts after all are dropped, and what is dropped by name counts last.
fn capabilities(container: &Container) -> Result<Vec<String>, ContainerError> {
    let own = container.security_context.as_ref().and_then(|context| context.capabilities.as_ref());
    let words = |list: Option<&Vec<String>>| -> Vec<String> {
        let word = |word: &String| {
            let upper = word.to_uppercase();
            upper.strip_prefix("CAP_").map(str::to_owned).unwrap_or(upper)
        };
        list.into_iter().flatten().map(word).collect()
    };
    let add = words(own.and_then(|own| own.add.as_ref()));
    let drop = words(own.and_then(|own| own.drop.as_ref()));
    let mut unknown = add.iter().filter(|name| *name != "ALL" && !ALL.contains(&name.as_str()));
    if let Some(unknown) = unknown.next() {
        return Err(ContainerError::Create(format!("unknown capability \"CAP_{unknown}\"")));
    }
    let has = |list: &[String], name: &str| list.iter().any(|it| it == name);
    let everything = has(&add, "ALL");
    let nothing = has(&drop, "ALL");
    let kept = ALL.iter().filter(|name| {
        let given = if nothing { false } else { everything || DEFAULT.contains(name) };
        (given || has(&add, name)) && !has(&drop, name)
    });
    Ok(kept.map(|name| format!("CAP_{name}")).collect())
}

fn seccomp(pod: &Pod, container: &Container, node: &NodeFacts) -> Result<Seccomp, ContainerError> {
    let own = container.security_context.as_ref().and_then(|context| context.seccomp_profile.as_ref());
    let of_pod = spec::spec(pod)
        .and_then(|spec| spec.security_context.as_ref())
        .and_then(|context| context.seccomp_profile.as_ref());
    let by_default = if node.seccomp_default { Seccomp::RuntimeDefault } else { Seccomp::Unconfined };
    let Some(SeccompProfile { localhost_profile, type_ }) = own.or(of_pod) else { return Ok(by_default) };
    match (type_.as_str(), localhost_profile) {
        ("RuntimeDefault", _) => Ok(Seccomp::RuntimeDefault),
        ("Unconfined", _) => Ok(Seccomp::Unconfined),
        ("Localhost", Some(profile)) if !profile.is_empty() => {
            Ok(Seccomp::File(node.root.join("seccomp").join(profile)))
        }
        ("Localhost", _) => Err(ContainerError::Config(
            "localhostProfile must be set if seccompProfile type is Localhost.".to_owned(),
        )),
        _ => Ok(by_default),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn run(of_pod: Value, of_container: Value, seccomp_default: bool) -> Result<Rights, String> {
        let container = json!({"name": "c", "securityContext": of_container});
        let pod: Pod =
            serde_json::from_value(json!({"spec": {"securityContext": of_pod, "containers": [container]}}))
                .unwrap();
        let node = NodeFacts { root: "/r".into(), seccomp_default, ..NodeFacts::default() };
        rights(&pod, &pod.spec.as_ref().unwrap().containers[0], &node).map_err(|error| error.to_string())
    }

    fn with(add: &[&str], drop: &[&str]) -> Result<Vec<String>, String> {
        run(json!({}), json!({"capabilities": {"add": add, "drop": drop}}), false)
            .map(|rights| rights.capabilities)
    }

    #[test]
    fn capabilities_are_the_default_with_what_is_added_without_what_is_dropped() {
        let mut default = named(&DEFAULT);
        default.sort_unstable();
        let sorted = |add: &[&str], drop: &[&str]| {
            let mut list = with(add, drop).unwrap();
            list.sort_unstable();
            list
        };
        assert_eq!(sorted(&[], &[]), default);
        assert_eq!(with(&["ALL"], &[]).unwrap(), named(&ALL));
        assert_eq!(with(&[], &["ALL"]).unwrap(), named(&[]));
        assert_eq!(with(&["NET_BIND_SERVICE"], &["ALL"]).unwrap(), named(&["NET_BIND_SERVICE"]));
        assert_eq!(
            with(&["cap_net_admin", "SYS_TIME"], &["all"]).unwrap(),
            named(&["NET_ADMIN", "SYS_TIME"])
        );
        assert_eq!(with(&["ALL"], &["ALL"]).unwrap(), named(&[]));
        assert_eq!(with(&["ALL"], &["SYS_ADMIN"]).unwrap().len(), ALL.len() - 1);
        let less = sorted(&["NET_ADMIN"], &["CAP_CHOWN", "net_raw"]);
        assert!(less.contains(&"CAP_NET_ADMIN".into()) && less.len() == DEFAULT.len() - 1);
        assert_eq!(with(&["FLY"], &[]), Err("unknown capability \"CAP_FLY\"".into()));
    }

    #[test]
    fn the_privileged_see_and_may_everything() {
        let profile = json!({"seccompProfile": {"type": "RuntimeDefault"}});
        let privileged = run(profile, json!({"privileged": true}), true).unwrap();
        assert!(privileged.privileged && privileged.masked.is_empty() && privileged.read_only.is_empty());
        assert_eq!((privileged.capabilities, privileged.seccomp), (named(&ALL), Seccomp::Unconfined));
        let plain = run(json!({}), json!({}), false).unwrap();
        assert!(!plain.privileged && plain.masked.len() == MASKED.len() && plain.read_only.len() == 5);
        assert!(!plain.no_new_privileges && !plain.read_only_root);
        let shown = run(json!({}), json!({"procMount": "Unmasked"}), false).unwrap();
        assert!(shown.masked.is_empty() && shown.read_only.is_empty() && !shown.privileged);
        let less = json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true});
        let less = run(json!({}), less, false).unwrap();
        assert!(less.no_new_privileges && less.read_only_root);
    }

    #[test]
    fn system_calls_are_filtered_as_the_container_the_pod_or_the_node_says() {
        let profile = |kind: &str| json!({"seccompProfile": {"type": kind}});
        let file = json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "a/b.json"}});
        let table = [
            (json!({}), json!({}), false, Ok(Seccomp::Unconfined)),
            (json!({}), json!({}), true, Ok(Seccomp::RuntimeDefault)),
            (profile("RuntimeDefault"), json!({}), false, Ok(Seccomp::RuntimeDefault)),
            (profile("RuntimeDefault"), profile("Unconfined"), true, Ok(Seccomp::Unconfined)),
            (json!({}), file, false, Ok(Seccomp::File("/r/seccomp/a/b.json".into()))),
            (
                profile("Localhost"),
                json!({}),
                false,
                Err("localhostProfile must be set if seccompProfile type is Localhost.".to_owned()),
            ),
        ];
        for (of_pod, of_container, default, expected) in table {
            let told = format!("{of_pod} {of_container}");
            assert_eq!(run(of_pod, of_container, default).map(|rights| rights.seccomp), expected, "{told}");
        }
    }
}
