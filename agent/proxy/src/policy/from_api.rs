//! Policies of the API, read. Must never widen what a policy allows: what cannot be read allows nothing.

use barque_api::labels::{LabelSelectorError, Selector};
use k8s_openapi::api::networking::v1 as networking;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::model::{AddressBlock, Peer, Policy, PortRange, Ports, RuleOf, Selects};
use crate::services::{Protocol, key, port_number};

/// A policy cannot be enforced as it stands.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A selector is none.
    #[error("a selector of the policy cannot be read")]
    Selector(#[source] LabelSelectorError),
    /// It has no name.
    #[error("the policy has no name")]
    Name,
}

/// The policy.
///
/// # Errors
/// When a selector is none, which the API server does not let pass.
pub fn policy(object: &networking::NetworkPolicy) -> Result<Policy, PolicyError> {
    let name = object.metadata.name.as_deref().ok_or(PolicyError::Name)?;
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let spec = object.spec.clone().unwrap_or_default();
    // Ingress always counts if nothing is said, egress only if there are rules for it.
    let types = spec.policy_types.filter(|types| !types.is_empty());
    let speaks =
        |of: &str, default: bool| types.as_ref().map_or(default, |types| types.iter().any(|one| one == of));
    let has_egress = spec.egress.as_ref().is_some_and(|rules| !rules.is_empty());
    let ingress = speaks("Ingress", true).then(|| {
        let rules = spec.ingress.unwrap_or_default().into_iter();
        rules.map(|rule| read(rule.from, rule.ports)).collect::<Result<Vec<_>, _>>()
    });
    let egress = speaks("Egress", has_egress).then(|| {
        let rules = spec.egress.unwrap_or_default().into_iter();
        rules.map(|rule| read(rule.to, rule.ports)).collect::<Result<Vec<_>, _>>()
    });
    Ok(Policy {
        name: key(Some(namespace), name),
        namespace: namespace.into(),
        // A selector that is missing selects all pods.
        pods: selector(spec.pod_selector.as_ref())?.unwrap_or_else(Selector::everything),
        ingress: ingress.transpose()?,
        egress: egress.transpose()?,
    })
}

fn selector(selector: Option<&LabelSelector>) -> Result<Option<Selector>, PolicyError> {
    let Some(selector) = selector else { return Ok(None) };
    let value = serde_json::to_value(selector).unwrap_or_default();
    Selector::of_object(Some(&value)).map(Some).map_err(PolicyError::Selector)
}

fn read(
    peers: Option<Vec<networking::NetworkPolicyPeer>>,
    ports: Option<Vec<networking::NetworkPolicyPort>>,
) -> Result<RuleOf, PolicyError> {
    let peers = peers.filter(|peers| !peers.is_empty()).map(|peers| {
        let read = peers.into_iter().filter_map(|peer| peer_of(peer).transpose());
        read.collect::<Result<Vec<_>, _>>()
    });
    let ports = ports.filter(|ports| !ports.is_empty());
    Ok(RuleOf {
        peers: peers.transpose()?,
        ports: ports.map(|ports| ports.into_iter().filter_map(ports_of).collect()),
    })
}

/// None for one that means nobody.
fn peer_of(peer: networking::NetworkPolicyPeer) -> Result<Option<Peer>, PolicyError> {
    if let Some(block) = peer.ip_block {
        let Ok(cidr) = block.cidr.parse() else { return Ok(None) };
        let Ok(except) = block.except.iter().flatten().map(|one| one.parse()).collect() else {
            return Ok(None);
        };
        return Ok(Some(Peer::Block(AddressBlock { block: cidr, except })));
    }
    let namespaces = selector(peer.namespace_selector.as_ref())?;
    let pods = selector(peer.pod_selector.as_ref())?;
    if namespaces.is_none() && pods.is_none() {
        return Ok(None);
    }
    Ok(Some(Peer::Pods(Selects { namespaces, pods: pods.unwrap_or_else(Selector::everything) })))
}

fn ports_of(ports: networking::NetworkPolicyPort) -> Option<Ports> {
    let protocol = Protocol::of(ports.protocol.as_deref())?;
    let range = match &ports.port {
        None => None,
        Some(IntOrString::String(name)) => return Some(Ports::Named { protocol, name: name.clone() }),
        Some(port) => {
            let first = port_number(port)?;
            let last = match ports.end_port {
                None => first,
                Some(last) => u16::try_from(last).ok().filter(|last| *last >= first)?,
            };
            Some(PortRange { first, last })
        }
    };
    Some(Ports::Numbered { protocol, range })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(spec: serde_json::Value) -> Policy {
        let object = json!({"metadata": {"name": "p", "namespace": "shop"}, "spec": spec});
        policy(&serde_json::from_value(object).unwrap()).unwrap()
    }

    #[test]
    fn what_a_policy_speaks_of_has_defaults() {
        let rule = json!([{}]);
        let table = [
            (json!({}), true, false),
            (json!({"ingress": rule}), true, false),
            (json!({"egress": rule}), true, true),
            (json!({"egress": []}), true, false),
            (json!({"policyTypes": ["Egress"], "ingress": rule}), false, true),
            (json!({"policyTypes": ["Ingress"], "egress": rule}), true, false),
            (json!({"policyTypes": ["Ingress", "Egress"]}), true, true),
        ];
        for (spec, ingress, egress) in table {
            let policy = read(spec.clone());
            assert_eq!((policy.ingress.is_some(), policy.egress.is_some()), (ingress, egress), "{spec}");
        }
    }

    #[test]
    fn empty_lists_mean_everybody_but_what_cannot_be_read_means_nobody() {
        let rules = |from: serde_json::Value| read(json!({"ingress": [{"from": from}]})).ingress.unwrap();
        assert!(rules(json!([]))[0].peers.is_none());
        assert_eq!(rules(json!([{}]))[0].peers.as_ref().map(Vec::len), Some(0));
        assert_eq!(
            rules(json!([{"ipBlock": {"cidr": "nonsense"}}]))[0].peers.as_ref().map(Vec::len),
            Some(0)
        );
        let holes = json!([{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["nonsense"]}}]);
        assert_eq!(rules(holes)[0].peers.as_ref().map(Vec::len), Some(0));
        assert_eq!(rules(json!([{"podSelector": {}}]))[0].peers.as_ref().map(Vec::len), Some(1));
        let ports = |ports: serde_json::Value| read(json!({"ingress": [{"ports": ports}]})).ingress.unwrap();
        assert!(ports(json!([]))[0].ports.is_none());
        assert_eq!(ports(json!([{"port": 80, "endPort": 70}]))[0].ports.as_ref().map(Vec::len), Some(0));
    }
}
