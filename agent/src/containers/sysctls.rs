//! Kernel parameters of pods: those that are safe, those that the node allows besides, and whether the pod has the namespace that
//! they belong to. A decision.

use k8s_openapi::api::core::v1::Pod;

use crate::pods::spec;

/// Bounded by their namespace, and no pod can hurt another by them.
const SAFE: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// The namespace that a parameter is kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Namespace {
    Ipc,
    Net,
}

fn namespace(name: &str) -> Option<Namespace> {
    let ipc = ["kernel.shm", "kernel.msg", "fs.mqueue."];
    if name == "kernel.sem" || ipc.iter().any(|prefix| name.starts_with(prefix)) {
        Some(Namespace::Ipc)
    } else {
        name.starts_with("net.").then_some(Namespace::Net)
    }
}

/// With dots between its parts. A name whose first separator is a slash has dots within its parts, which become slashes.
#[must_use]
pub fn normal(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name[at..].starts_with('/') => name
            .chars()
            .map(|c| {
                if c == '/' {
                    '.'
                } else if c == '.' {
                    '/'
                } else {
                    c
                }
            })
            .collect(),
        _ => name.to_owned(),
    }
}

/// Whether the node takes the pod's parameters; a pod with others is not admitted, with the reason `SysctlForbidden`.
///
/// # Errors
/// About the first that it does not take, in the kubelet's words.
pub fn admit(pod: &Pod, allowed_unsafe: &[String]) -> Result<(), String> {
    let Some(spec) = spec::spec(pod) else { return Ok(()) };
    let sysctls = spec.security_context.as_ref().and_then(|context| context.sysctls.as_ref());
    for sysctl in sysctls.into_iter().flatten() {
        let name = normal(&sysctl.name);
        let said = &sysctl.name;
        let namespace = namespace(&name);
        let pattern = |pattern: &String| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == *pattern,
        };
        let is_allowed = namespace.is_some() && allowed_unsafe.iter().any(pattern);
        if !is_allowed && !SAFE.contains(&name.as_str()) {
            return Err(format!("forbidden sysctl: {said:?} not allowlisted"));
        }
        if namespace == Some(Namespace::Net) && spec.host_network == Some(true) {
            return Err(format!("forbidden sysctl: {said:?} not allowed with host net enabled"));
        }
        if namespace == Some(Namespace::Ipc) && spec.host_ipc == Some(true) {
            return Err(format!("forbidden sysctl: {said:?} not allowed with host ipc enabled"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn only_safe_and_allowed_ones_of_own_namespaces_are_taken() {
        let plain = json!({});
        let net = json!({"hostNetwork": true});
        let ipc = json!({"hostIPC": true});
        let not = |name: &str, why: &str| Err(format!("forbidden sysctl: {name:?} not allow{why}"));
        let table: [(&Value, &str, Result<(), String>); 11] = [
            (&plain, "net.ipv4.tcp_syncookies", Ok(())),
            (&plain, "net/ipv4/tcp_syncookies", Ok(())),
            (&net, "net.ipv4.tcp_syncookies", not("net.ipv4.tcp_syncookies", "ed with host net enabled")),
            (&ipc, "net.ipv4.tcp_syncookies", Ok(())),
            (&ipc, "kernel.shm_rmid_forced", not("kernel.shm_rmid_forced", "ed with host ipc enabled")),
            (&plain, "net.core.somaxconn", Ok(())),
            (&plain, "kernel.msgmax", Ok(())),
            (&plain, "kernel.sem", not("kernel.sem", "listed")),
            (&plain, "vm.swappiness", not("vm.swappiness", "listed")),
            (&plain, "net.core.somaxconn2", not("net.core.somaxconn2", "listed")),
            (&net, "net.core.somaxconn", not("net.core.somaxconn", "ed with host net enabled")),
        ];
        let allowed = ["net.core.somaxconn".to_owned(), "kernel.msg*".to_owned(), "vm.*".to_owned()];
        for (spec, name, expected) in table {
            let mut spec = spec.clone();
            spec["containers"] = json!([]);
            spec["securityContext"] = json!({"sysctls": [{"name": name, "value": "1"}]});
            let pod = serde_json::from_value(json!({"spec": spec})).unwrap();
            assert_eq!(admit(&pod, &allowed), expected, "{name}");
        }
        assert_eq!(normal("net/ipv4/conf/eth0.1/mtu"), "net.ipv4.conf.eth0/1.mtu");
    }
}
