//! What a runtime is told of a pod's sandbox. A decision; must never ask anybody.

use std::collections::HashMap;

use barque_containers::spec::{PidShare, SandboxSpec, Share};
use barque_cri::v1;
use k8s_openapi::api::core::v1::Pod;

use super::labels::{BOUNDS, bounds};
use crate::containers::files::Config;
use crate::containers::identity::pod_groups;
use crate::containers::rights::is_privileged;
use crate::containers::{self, name, namespace};
use crate::pods::spec;

/// How the runtime makes control groups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum CgroupDriver {
    /// As directories, by itself.
    #[default]
    Cgroupfs,
    /// As slices and scopes of systemd.
    Systemd,
}

/// What a sandbox is put together from.
#[derive(Debug, Clone)]
pub(super) struct Inputs<'a> {
    /// The pod.
    pub(super) pod: &'a Pod,
    /// The sandbox, as the agent would make it itself.
    pub(super) spec: &'a SandboxSpec,
    /// Whom it asks about names.
    pub(super) resolver: Config,
    /// Where the logs of its containers are.
    pub(super) log_directory: String,
    /// The control group that all of them are below; empty is the root.
    pub(super) cgroup_root: &'a str,
    /// How control groups are named.
    pub(super) driver: CgroupDriver,
}

/// The sandbox. Ports of hosts are left out: the agent's proxy serves them, whoever makes the network.
pub(super) fn sandbox_config(inputs: Inputs<'_>) -> v1::PodSandboxConfig {
    let Inputs { pod, spec, resolver, log_directory, cgroup_root, driver } = inputs;
    let own = |map: Option<&std::collections::BTreeMap<String, String>>| -> HashMap<String, String> {
        map.cloned().unwrap_or_default().into_iter().collect()
    };
    let mut labels = own(pod.metadata.labels.as_ref());
    labels.extend(containers::labels(pod));
    let mut annotations = own(pod.metadata.annotations.as_ref());
    annotations.insert(BOUNDS.to_owned(), bounds(&spec.resources));
    let in_host = spec.network == Share::Host;
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: name(pod).to_owned(),
            uid: spec::uid(pod).to_owned(),
            namespace: namespace(pod).to_owned(),
            // The one before is removed first.
            attempt: 0,
        }),
        // In the network of its node it has the node's name.
        hostname: if in_host { String::new() } else { spec.hostname.clone() },
        log_directory,
        dns_config: Some(v1::DnsConfig {
            servers: resolver.servers,
            searches: resolver.domains,
            options: resolver.options,
        }),
        port_mappings: Vec::new(),
        labels,
        annotations,
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: cgroup_parent(cgroup_root, &spec.cgroup, driver),
            security_context: Some(v1::LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces(spec)),
                supplemental_groups: pod_groups(pod).collect(),
                // A runtime refuses such containers in sandboxes that are not.
                privileged: containers::all(pod).iter().any(is_privileged),
                seccomp: Some(v1::SecurityProfile {
                    profile_type: v1::security_profile::ProfileType::RuntimeDefault.into(),
                    localhost_ref: String::new(),
                }),
                ..v1::LinuxSandboxSecurityContext::default()
            }),
            sysctls: spec.sysctls.clone().into_iter().collect(),
            overhead: None,
            resources: None,
        }),
    }
}

/// Whose namespaces the sandbox has, which its containers are told again.
pub(super) fn namespaces(spec: &SandboxSpec) -> v1::NamespaceOption {
    let share = |share| match share {
        Share::Pod => v1::NamespaceMode::Pod,
        Share::Host => v1::NamespaceMode::Node,
    };
    let pid = match spec.pid {
        PidShare::Container => v1::NamespaceMode::Container,
        PidShare::Pod => v1::NamespaceMode::Pod,
        PidShare::Host => v1::NamespaceMode::Node,
    };
    v1::NamespaceOption {
        network: share(spec.network).into(),
        pid: pid.into(),
        ipc: share(spec.ipc).into(),
        target_id: String::new(),
    }
}

/// The pod's control group as the runtime names it: a path, or the slices of systemd, each named by all above it.
pub(super) fn cgroup_parent(root: &str, cgroup: &str, driver: CgroupDriver) -> String {
    let parts = root.split('/').chain(cgroup.split('/')).filter(|part| !part.is_empty());
    let mut path = String::new();
    let mut slice = String::new();
    for part in parts {
        match driver {
            CgroupDriver::Cgroupfs => {
                path.push('/');
                path.push_str(part);
            }
            CgroupDriver::Systemd => {
                if !slice.is_empty() {
                    slice.push('-');
                }
                // A dash would be another level.
                slice.push_str(&part.replace('-', "_"));
                path.push_str(&format!("/{slice}.slice"));
            }
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::containers::{NodeFacts, sandbox_spec};

    fn config(spec: serde_json::Value) -> v1::PodSandboxConfig {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u-1", "labels": {"app": "a"}, "annotations": {"k": "v"}},
            "spec": spec,
        }))
        .unwrap();
        let made =
            sandbox_spec(&pod, &NodeFacts { hostname: "node".to_owned(), ..NodeFacts::default() }).unwrap();
        let resolver = Config { servers: vec!["10.0.0.10".to_owned()], ..Config::default() };
        sandbox_config(Inputs {
            pod: &pod,
            spec: &made,
            resolver,
            log_directory: "/logs/ns_p_u-1".to_owned(),
            cgroup_root: "",
            driver: CgroupDriver::Cgroupfs,
        })
    }

    #[test]
    fn a_sandbox_is_named_by_its_pod() {
        let made = config(json!({"containers": [{"name": "c"}]}));
        let metadata = made.metadata.unwrap();
        assert_eq!(
            (metadata.name.as_str(), metadata.namespace.as_str(), metadata.uid.as_str()),
            ("p", "ns", "u-1")
        );
        assert_eq!(
            (made.labels["app"].as_str(), made.labels["io.kubernetes.pod.uid"].as_str()),
            ("a", "u-1")
        );
        assert_eq!((made.hostname.as_str(), made.annotations["k"].as_str()), ("p", "v"));
        assert_eq!(made.dns_config.unwrap().servers, ["10.0.0.10"]);
        let linux = made.linux.unwrap();
        assert_eq!(linux.cgroup_parent, "/kubepods/besteffort/podu-1");
        let context = linux.security_context.unwrap();
        let options = context.namespace_options.unwrap();
        assert_eq!(
            (options.network(), options.pid(), options.ipc()),
            (v1::NamespaceMode::Pod, v1::NamespaceMode::Container, v1::NamespaceMode::Pod)
        );
        assert!(!context.privileged);
    }

    #[test]
    fn a_sandbox_shares_what_its_pod_says() {
        let made = config(json!({
            "hostNetwork": true, "hostPID": true,
            "securityContext": {"fsGroup": 5, "supplementalGroups": [6], "sysctls": [{"name": "kernel/shm_rmid_forced", "value": "1"}]},
            "containers": [{"name": "c", "securityContext": {"privileged": true}}],
        }));
        assert_eq!(made.hostname, "");
        let linux = made.linux.unwrap();
        assert_eq!(linux.sysctls["kernel.shm_rmid_forced"], "1");
        let context = linux.security_context.unwrap();
        let options = context.namespace_options.unwrap();
        let (node, own) = (v1::NamespaceMode::Node, v1::NamespaceMode::Pod);
        assert_eq!((options.network(), options.pid(), options.ipc()), (node, node, own));
        assert_eq!((context.privileged, context.supplemental_groups), (true, vec![5, 6]));
    }

    #[test]
    fn groups_are_named_as_the_runtime_makes_them() {
        let of = |driver| cgroup_parent("a/b", "kubepods/burstable/pod1-2", driver);
        assert_eq!(of(CgroupDriver::Cgroupfs), "/a/b/kubepods/burstable/pod1-2");
        assert_eq!(
            of(CgroupDriver::Systemd),
            "/a.slice/a-b.slice/a-b-kubepods.slice/a-b-kubepods-burstable.slice/a-b-kubepods-burstable-pod1_2.slice"
        );
    }
}
