//! What the containers of a pod share, put together. A decision.

use std::collections::BTreeMap;

use barque_containers::spec::{PidShare, SandboxSpec, Share};
use k8s_openapi::api::core::v1::Pod;

use super::hostname::names;
use super::{ContainerError, NodeFacts, bounds, name, namespace, qos, sysctls};
use crate::pods::spec;

/// What those who look at containers find their pods by: the kubelet's labels.
#[must_use]
pub fn labels(pod: &Pod) -> BTreeMap<String, String> {
    let label = |name: &str, value: &str| (format!("io.kubernetes.pod.{name}"), value.to_owned());
    [label("name", name(pod)), label("namespace", namespace(pod)), label("uid", spec::uid(pod))].into()
}

/// The sandbox of a pod.
///
/// # Errors
/// When the pod cannot have what it asks for, in the kubelet's words.
pub fn sandbox_spec(pod: &Pod, node: &NodeFacts) -> Result<SandboxSpec, ContainerError> {
    sysctls::admit(pod, &node.allowed_unsafe_sysctls).map_err(ContainerError::Config)?;
    let spec = spec::spec(pod);
    if spec.and_then(|spec| spec.host_users) == Some(false) {
        let text =
            "hostUsers: this node has no user namespaces for pods; leave the field out or set it to true";
        return Err(ContainerError::Create(text.to_owned()));
    }
    let host = |set: Option<bool>| if set == Some(true) { Share::Host } else { Share::Pod };
    let sysctls =
        spec.and_then(|spec| spec.security_context.as_ref()).and_then(|context| context.sysctls.as_ref());
    let shared = spec.and_then(|spec| spec.share_process_namespace) == Some(true);
    Ok(SandboxSpec {
        id: spec::uid(pod).to_owned(),
        labels: labels(pod),
        hostname: names(pod, node)?.hostname,
        network: host(spec.and_then(|spec| spec.host_network)),
        ipc: host(spec.and_then(|spec| spec.host_ipc)),
        pid: match host(spec.and_then(|spec| spec.host_pid)) {
            Share::Host => PidShare::Host,
            Share::Pod if shared => PidShare::Pod,
            Share::Pod => PidShare::Container,
        },
        sysctls: sysctls
            .into_iter()
            .flatten()
            .map(|sysctl| (sysctls::normal(&sysctl.name), sysctl.value.clone()))
            .collect(),
        cgroup: qos::cgroup(pod),
        resources: bounds::of_pod(pod, node),
    })
}
