//! The names by which a pod knows itself. A decision.

use k8s_openapi::api::core::v1::Pod;

use super::{ContainerError, NodeFacts, name, namespace};
use crate::pods::spec;

/// The longest label of DNS.
const LABEL: usize = 63;
/// The longest name of a host that the kernel takes.
const KERNEL: usize = 64;

/// A pod's names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// What the kernel says.
    pub hostname: String,
    /// Its name in DNS; nothing without a subdomain.
    pub fqdn: Option<String>,
}

/// The names of a pod. In the network of its node it has the node's.
///
/// # Errors
/// When its whole name shall be the host's and the kernel does not take it.
pub fn names(pod: &Pod, node: &NodeFacts) -> Result<Names, ContainerError> {
    let spec = spec::spec(pod);
    let said = |field: Option<&String>| field.filter(|text| !text.is_empty()).cloned();
    if let Some(own) = said(spec.and_then(|spec| spec.hostname_override.as_ref())) {
        return Ok(Names { hostname: own, fqdn: None });
    }
    if spec::uses_host_network(pod) {
        return Ok(Names { hostname: node.hostname.clone(), fqdn: None });
    }
    let short = said(spec.and_then(|spec| spec.hostname.as_ref())).unwrap_or_else(|| label(name(pod)));
    let subdomain = said(spec.and_then(|spec| spec.subdomain.as_ref()));
    let fqdn = subdomain
        .map(|subdomain| format!("{short}.{subdomain}.{}.svc.{}", namespace(pod), node.cluster_domain));
    let whole = spec.and_then(|spec| spec.set_hostname_as_fqdn) == Some(true);
    let hostname = match &fqdn {
        Some(fqdn) if whole && fqdn.len() > KERNEL => {
            return Err(ContainerError::Create(format!(
                "failed to construct FQDN from pod hostname and cluster domain, FQDN {fqdn} is too long \
                 ({KERNEL} characters is the max, {} characters requested)",
                fqdn.len()
            )));
        }
        Some(fqdn) if whole => fqdn.clone(),
        _ => short,
    };
    Ok(Names { hostname, fqdn })
}

/// A pod's name as a label: cut, and not ending with what a label cannot end with.
fn label(name: &str) -> String {
    name.get(..LABEL).map_or(name, |cut| cut.trim_end_matches(['-', '.'])).to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(name: &str, spec: Value) -> Result<(String, Option<String>), String> {
        let mut spec = spec;
        spec["containers"] = json!([]);
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": name, "namespace": "ns"}, "spec": spec}))
                .unwrap();
        let node = NodeFacts {
            hostname: "box".into(),
            cluster_domain: "cluster.local".into(),
            ..NodeFacts::default()
        };
        names(&pod, &node).map(|names| (names.hostname, names.fqdn)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_pod_is_called_as_it_says_or_after_itself() {
        let own = |name: &str| Ok((name.to_owned(), None));
        let long = format!("{}-{}", "a".repeat(62), "b".repeat(20));
        assert_eq!(check("p", json!({})), own("p"));
        assert_eq!(check(&long, json!({})), own(&"a".repeat(62)));
        assert_eq!(check("p", json!({"hostname": "h"})), own("h"));
        assert_eq!(check("p", json!({"hostNetwork": true, "hostname": "h"})), own("box"));
        assert_eq!(check("p", json!({"hostnameOverride": "a.b", "hostNetwork": false})), own("a.b"));
        assert_eq!(check("p", json!({"setHostnameAsFQDN": true})), own("p"));
        let fqdn = "h.sub.ns.svc.cluster.local".to_owned();
        let spec = json!({"hostname": "h", "subdomain": "sub"});
        assert_eq!(check("p", spec), Ok(("h".into(), Some(fqdn.clone()))));
        let spec = json!({"hostname": "h", "subdomain": "sub", "setHostnameAsFQDN": true});
        assert_eq!(check("p", spec), Ok((fqdn.clone(), Some(fqdn))));
        let spec = json!({"subdomain": "s".repeat(50), "setHostnameAsFQDN": true});
        assert!(
            check("p", spec).unwrap_err().contains("(64 characters is the max, 73 characters requested)")
        );
    }
}
