//! The checks of the baseline: nothing by which a pod reaches its host. Pure; each looks at one thing.

use std::collections::BTreeSet;

use barque_api::metadata::Metadata;
use serde_json::Value;

use super::checks::{Finding, containers, plural, quoted, setters};
use crate::admission::pod::{all_containers, given, list, text};

const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
const SYSCTLS: [&str; 14] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    // Since 1.27.
    "net.ipv4.ip_local_reserved_ports",
    // Since 1.29.
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    // Since 1.32.
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
    // Since 1.37.
    "net.ipv4.tcp_slow_start_after_idle",
    "net.ipv4.tcp_notsent_lowat",
];
const SE_LINUX_TYPES: [&str; 5] =
    ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];
const APP_ARMOR_ANNOTATIONS: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP_POD_ANNOTATION: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_ANNOTATIONS: &str = "container.seccomp.security.alpha.kubernetes.io/";

/// The names of containers that are like that.
pub(super) fn those<'a>(pod: &'a Value, is: impl Fn(&'a Value) -> bool) -> Vec<&'a str> {
    all_containers(pod).filter(|container| is(container)).map(|container| text(container, "/name")).collect()
}

pub(super) fn is_true(object: &Value, pointer: &str) -> bool {
    object.pointer(pointer).and_then(Value::as_bool) == Some(true)
}

/// Whether a pod has users of its own, so that its root is not the host's.
pub(super) fn has_own_users(pod: &Value) -> bool {
    pod.pointer("/spec/hostUsers").and_then(Value::as_bool) == Some(false)
}

/// Whether pod and containers set a profile to a type that is not allowed, and to which.
fn profiles<'a>(pod: &'a Value, field: &str) -> (bool, Vec<&'a str>, BTreeSet<String>) {
    let pointer = format!("/securityContext/{field}");
    let mut values = BTreeSet::new();
    let mut is_bad = |object: &Value| {
        let Some(profile) = given(object, &pointer) else { return false };
        let of = text(profile, "/type");
        let bad = !["RuntimeDefault", "Localhost"].contains(&of);
        if bad {
            values.insert(of.to_owned());
        }
        bad
    };
    let of_pod = pod.get("spec").is_some_and(&mut is_bad);
    let bad: Vec<&str> = all_containers(pod)
        .filter(|container| is_bad(container))
        .map(|container| text(container, "/name"))
        .collect();
    (of_pod, bad, values)
}

pub(super) fn app_armor(pod: &Value) -> Option<Finding> {
    let (of_pod, bad, values) = profiles(pod, "appArmorProfile");
    let mut values: Vec<String> = values.into_iter().collect();
    let annotations = Metadata::of(pod).annotations().into_iter().flatten();
    let mut forbidden: Vec<String> = annotations
        .filter(|(key, _)| key.starts_with(APP_ARMOR_ANNOTATIONS))
        .map(|(key, value)| (key, value.as_str().unwrap_or_default()))
        .filter(|(_, value)| {
            !value.is_empty() && *value != "runtime/default" && !value.starts_with("localhost/")
        })
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    forbidden.sort_unstable();
    let mut who: Vec<String> = setters(of_pod, &bad).into_iter().collect();
    if !forbidden.is_empty() {
        who.push(plural(forbidden.len(), "annotation", "annotations").to_owned());
        values.append(&mut forbidden);
    }
    (!who.is_empty()).then(|| {
        let reason = plural(values.len(), "forbidden AppArmor profile", "forbidden AppArmor profiles");
        let detail =
            format!("{} must not set AppArmor profile type to {}", who.join(" and "), quoted(&values));
        Finding::new(reason, detail)
    })
}

pub(super) fn capabilities(pod: &Value) -> Option<Finding> {
    let added = |container| {
        let added = list(container, "/securityContext/capabilities/add");
        added.iter().filter_map(Value::as_str).filter(|one| !CAPABILITIES.contains(one))
    };
    let bad = those(pod, |container| added(container).next().is_some());
    let all: BTreeSet<&str> = all_containers(pod).flat_map(added).collect();
    (!bad.is_empty()).then(|| {
        let detail = format!(
            "{} must not include {} in securityContext.capabilities.add",
            containers(&bad),
            quoted(&all)
        );
        Finding::new("non-default capabilities", detail)
    })
}

pub(super) fn host_namespaces(pod: &Value) -> Option<Finding> {
    let shared: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .into_iter()
        .filter(|field| is_true(pod, &format!("/spec/{field}")))
        .map(|field| format!("{field}=true"))
        .collect();
    (!shared.is_empty()).then(|| Finding::new("host namespaces", shared.join(", ")))
}

pub(super) fn host_paths(pod: &Value) -> Option<Finding> {
    let volumes = list(pod, "/spec/volumes").iter().filter(|volume| given(volume, "/hostPath").is_some());
    let names: Vec<&str> = volumes.map(|volume| text(volume, "/name")).collect();
    (!names.is_empty()).then(|| {
        let detail = format!("{} {}", plural(names.len(), "volume", "volumes"), quoted(&names));
        Finding::new("hostPath volumes", detail)
    })
}

pub(super) fn host_ports(pod: &Value) -> Option<Finding> {
    let ports = |container| {
        list(container, "/ports")
            .iter()
            .filter_map(|port| port.get("hostPort")?.as_i64())
            .filter(|port| *port != 0)
            .map(|port| port.to_string())
    };
    let bad = those(pod, |container| ports(container).next().is_some());
    let all: BTreeSet<String> = all_containers(pod).flat_map(ports).collect();
    (!bad.is_empty()).then(|| {
        let detail = format!(
            "{} {} {} {}",
            containers(&bad),
            plural(bad.len(), "uses", "use"),
            plural(all.len(), "hostPort", "hostPorts"),
            all.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
        );
        Finding::new("hostPort", detail)
    })
}

pub(super) fn probe_hosts(pod: &Value) -> Option<Finding> {
    let hosts = |container: &'_ Value| {
        let mut hosts = Vec::new();
        for handler in
            ["livenessProbe", "readinessProbe", "startupProbe", "lifecycle/postStart", "lifecycle/preStop"]
        {
            for action in ["httpGet", "tcpSocket"] {
                let host = text(container, &format!("/{handler}/{action}/host"));
                if !host.is_empty() {
                    hosts.push(host.to_owned());
                }
            }
        }
        hosts
    };
    let bad: BTreeSet<&str> = those(pod, |container| !hosts(container).is_empty()).into_iter().collect();
    let bad: Vec<&str> = bad.into_iter().collect();
    let all: BTreeSet<String> = all_containers(pod).flat_map(hosts).collect();
    (!bad.is_empty()).then(|| {
        let detail = format!(
            "{} {} {} {}",
            containers(&bad),
            plural(bad.len(), "uses", "use"),
            plural(all.len(), "probe or lifecycle host", "probe or lifecycle hosts"),
            quoted(&all)
        );
        Finding::new("probe or lifecycle host", detail)
    })
}

pub(super) fn privileged(pod: &Value) -> Option<Finding> {
    let bad = those(pod, |container| is_true(container, "/securityContext/privileged"));
    (!bad.is_empty()).then(|| {
        let detail = format!("{} must not set securityContext.privileged=true", containers(&bad));
        Finding::new("privileged", detail)
    })
}

pub(super) fn proc_mount(pod: &Value) -> Option<Finding> {
    let mount = |container| {
        given(container, "/securityContext/procMount").and_then(Value::as_str).filter(|one| *one != "Default")
    };
    let bad = those(pod, |container| mount(container).is_some());
    let all: BTreeSet<&str> = all_containers(pod).filter_map(mount).collect();
    (!bad.is_empty()).then(|| {
        let detail =
            format!("{} must not set securityContext.procMount to {}", containers(&bad), quoted(&all));
        Finding::new("procMount", detail)
    })
}

pub(super) fn proc_mount_of_host_users(pod: &Value) -> Option<Finding> {
    if has_own_users(pod) { None } else { proc_mount(pod) }
}

pub(super) fn se_linux(pod: &Value) -> Option<Finding> {
    se_linux_but(pod, &SE_LINUX_TYPES[..4])
}

pub(super) fn se_linux_with_engine(pod: &Value) -> Option<Finding> {
    se_linux_but(pod, &SE_LINUX_TYPES)
}

fn se_linux_but(pod: &Value, allowed: &[&str]) -> Option<Finding> {
    let option = |object: &'_ Value, field: &str| {
        text(object, &format!("/securityContext/seLinuxOptions/{field}")).to_owned()
    };
    let is_bad = |object: &Value| {
        !allowed.contains(&&*option(object, "type"))
            || !option(object, "user").is_empty()
            || !option(object, "role").is_empty()
    };
    let of_pod = pod.get("spec").is_some_and(is_bad);
    let who = setters(of_pod, &those(pod, is_bad))?;
    let all = || pod.get("spec").into_iter().chain(all_containers(pod));
    let types: BTreeSet<String> =
        all().map(|object| option(object, "type")).filter(|one| !allowed.contains(&&**one)).collect();
    let mut what = Vec::new();
    if !types.is_empty() {
        what.push(format!("{} {}", plural(types.len(), "type", "types"), quoted(&types)));
    }
    for field in ["user", "role"] {
        if all().any(|object| !option(object, field).is_empty()) {
            what.push(format!("{field} may not be set"));
        }
    }
    let detail = format!("{who} set forbidden securityContext.seLinuxOptions: {}", what.join("; "));
    Some(Finding::new("seLinuxOptions", detail))
}

pub(super) fn seccomp_annotations(pod: &Value) -> Option<Finding> {
    let metadata = Metadata::of(pod);
    let of_containers = all_containers(pod).map(|one| format!("{SECCOMP_ANNOTATIONS}{}", text(one, "/name")));
    let keys = std::iter::once(SECCOMP_POD_ANNOTATION.to_owned()).chain(of_containers);
    let forbidden: BTreeSet<String> = keys
        .filter_map(|key| {
            let value = metadata.annotation(&key)?;
            let fine =
                ["runtime/default", "docker/default"].contains(&value) || value.starts_with("localhost/");
            (!fine).then(|| format!("{key}={value:?}"))
        })
        .collect();
    (!forbidden.is_empty()).then(|| {
        let all = forbidden.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let word = plural(forbidden.len(), "annotation", "annotations");
        Finding::new("seccompProfile", format!("forbidden {word} {all}"))
    })
}

pub(super) fn seccomp(pod: &Value) -> Option<Finding> {
    let (of_pod, bad, values) = profiles(pod, "seccompProfile");
    let who = setters(of_pod, &bad)?;
    let detail = format!("{who} must not set securityContext.seccompProfile.type to {}", quoted(&values));
    Some(Finding::new("seccompProfile", detail))
}

fn sysctls(pod: &Value, allowed: &[&str]) -> Option<Finding> {
    let names = list(pod, "/spec/securityContext/sysctls").iter().map(|sysctl| text(sysctl, "/name"));
    let forbidden: Vec<&str> = names.filter(|name| !allowed.contains(name)).collect();
    (!forbidden.is_empty()).then(|| Finding::new("forbidden sysctls", forbidden.join(", ")))
}

pub(super) fn sysctls_0(pod: &Value) -> Option<Finding> {
    sysctls(pod, &SYSCTLS[..5])
}

pub(super) fn sysctls_27(pod: &Value) -> Option<Finding> {
    sysctls(pod, &SYSCTLS[..6])
}

pub(super) fn sysctls_29(pod: &Value) -> Option<Finding> {
    sysctls(pod, &SYSCTLS[..10])
}

pub(super) fn sysctls_32(pod: &Value) -> Option<Finding> {
    sysctls(pod, &SYSCTLS[..12])
}

pub(super) fn sysctls_37(pod: &Value) -> Option<Finding> {
    sysctls(pod, &SYSCTLS)
}

pub(super) fn windows_host_process(pod: &Value) -> Option<Finding> {
    let is_bad = |object: &Value| is_true(object, "/securityContext/windowsOptions/hostProcess");
    let who = setters(pod.get("spec").is_some_and(is_bad), &those(pod, is_bad))?;
    let detail = format!("{who} must not set securityContext.windowsOptions.hostProcess=true");
    Some(Finding::new("hostProcess", detail))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::admission::pod_security::checks::{Check, details};

    fn found(check: Check, pod: &Value) -> String {
        details(check(pod).as_slice())
    }

    #[test]
    fn the_host_is_out_of_reach() {
        let one =
            |context: Value| json!({"spec": {"containers": [{"name": "a", "securityContext": context}]}});
        let two = |context: Value| {
            json!({"spec": {"initContainers": [{"name": "i", "securityContext": context}],
                "containers": [{"name": "a", "securityContext": context}]}})
        };
        let table: [(Check, Value, &str); 19] = [
            (
                capabilities,
                two(json!({"capabilities": {"add": ["SYS_TIME", "CHOWN", "BPF"]}})),
                "non-default capabilities (containers \"i\", \"a\" must not include \"BPF\", \"SYS_TIME\" in \
                 securityContext.capabilities.add)",
            ),
            (capabilities, one(json!({"capabilities": {"add": ["CHOWN"]}})), ""),
            (
                host_namespaces,
                json!({"spec": {"hostNetwork": true, "hostPID": false, "hostIPC": true}}),
                "host namespaces (hostNetwork=true, hostIPC=true)",
            ),
            (
                host_paths,
                json!({"spec": {"volumes": [{"name": "v", "hostPath": {}}, {"name": "w", "emptyDir": {}}]}}),
                "hostPath volumes (volume \"v\")",
            ),
            (
                host_ports,
                json!({"spec": {"containers": [{"name": "a", "ports": [{"hostPort": 80}, {"hostPort": 443}, {"hostPort": 0}]}]}}),
                "hostPort (container \"a\" uses hostPorts 443, 80)",
            ),
            (
                probe_hosts,
                json!({"spec": {"containers": [
                    {"name": "b", "livenessProbe": {"httpGet": {"host": "h"}}},
                    {"name": "a", "lifecycle": {"preStop": {"tcpSocket": {"host": "h"}}}},
                ]}}),
                "probe or lifecycle host (containers \"a\", \"b\" use probe or lifecycle host \"h\")",
            ),
            (
                privileged,
                one(json!({"privileged": true})),
                "privileged (container \"a\" must not set securityContext.privileged=true)",
            ),
            (
                proc_mount,
                one(json!({"procMount": "Unmasked"})),
                "procMount (container \"a\" must not set securityContext.procMount to \"Unmasked\")",
            ),
            (
                se_linux,
                json!({"spec": {"securityContext": {"seLinuxOptions": {"type": "x", "role": "r"}}, "containers": [
                    {"name": "a", "securityContext": {"seLinuxOptions": {"user": "u", "type": "container_engine_t"}}}]}}),
                "seLinuxOptions (pod and container \"a\" set forbidden securityContext.seLinuxOptions: types \
                 \"container_engine_t\", \"x\"; user may not be set; role may not be set)",
            ),
            (se_linux_with_engine, one(json!({"seLinuxOptions": {"type": "container_engine_t"}})), ""),
            (
                seccomp_annotations,
                json!({"metadata": {"annotations": {SECCOMP_POD_ANNOTATION: "unconfined"}}}),
                "seccompProfile (forbidden annotation seccomp.security.alpha.kubernetes.io/pod=\"unconfined\")",
            ),
            (
                seccomp,
                one(json!({"seccompProfile": {"type": "Unconfined"}})),
                "seccompProfile (container \"a\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
            ),
            (seccomp, one(json!({"seccompProfile": {"type": "Localhost"}})), ""),
            (
                sysctls_0,
                json!({"spec": {"securityContext": {"sysctls": [
                    {"name": "net.ipv4.tcp_rmem"}, {"name": "kernel.shm_rmid_forced"}, {"name": "a"}]}}}),
                "forbidden sysctls (net.ipv4.tcp_rmem, a)",
            ),
            (
                sysctls_32,
                json!({"spec": {"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem"}]}}}),
                "",
            ),
            (
                windows_host_process,
                json!({"spec": {"securityContext": {"windowsOptions": {"hostProcess": true}}}}),
                "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
            ),
            (
                app_armor,
                json!({"metadata": {"annotations": {"container.apparmor.security.beta.kubernetes.io/a": "bogus"}},
                    "spec": {"securityContext": {"appArmorProfile": {"type": "Unconfined"}}}}),
                "forbidden AppArmor profiles (pod and annotation must not set AppArmor profile type to \"Unconfined\", \
                 \"container.apparmor.security.beta.kubernetes.io/a=\"bogus\"\")",
            ),
            (app_armor, json!({"metadata": {"annotations": {"other": "bogus"}}}), ""),
            (
                proc_mount_of_host_users,
                json!({"spec": {"hostUsers": false, "containers": [{"name": "a", "securityContext": {"procMount": "Unmasked"}}]}}),
                "",
            ),
        ];
        for (check, pod, expected) in table {
            assert_eq!(found(check, &pod), expected, "{pod}");
        }
    }
}
