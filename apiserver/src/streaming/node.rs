//! Where the agent of a node listens, as its Node object says. Pure; must never look names up.

use barque_api::metadata::Metadata;
use barque_api::node_certificate::{ANNOTATION, OF_CLUSTER};
use barque_api::status::{Reason, Status};
use serde_json::Value;

/// The port of agents that report none.
const DEFAULT_PORT: u16 = 10250;

/// Where the agent of a node listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The node's name.
    pub node: String,
    /// Whether the node says that its agent shows a certificate of the cluster's.
    pub is_certified: bool,
}

/// The agent of a node. Of the node's addresses the one counts whose type comes first in `preferred`
/// (`--kubelet-preferred-address-types`).
///
/// # Errors
/// 500 when the node has no address of these types.
pub fn agent(node: &Value, preferred: &[String]) -> Result<Agent, Status> {
    let addresses: Vec<(&str, &str)> = node
        .pointer("/status/addresses")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|one| (one["type"].as_str().unwrap_or_default(), one["address"].as_str().unwrap_or_default()))
        .collect();
    let of_type = |wanted: &String| addresses.iter().find(|(kind, _)| kind == wanted);
    let Some((_, host)) = preferred.iter().find_map(of_type) else {
        let known: Vec<String> =
            addresses.iter().map(|(kind, address)| format!("{{{kind} {address}}}")).collect();
        return Err(Status::new(
            Reason::InternalError,
            format!("no preferred addresses found; known addresses: [{}]", known.join(" ")),
        ));
    };
    let port = node.pointer("/status/daemonEndpoints/kubeletEndpoint/Port").and_then(Value::as_u64);
    let port = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    let metadata = Metadata::of(node);
    let said = metadata.annotations().and_then(|all| all.get(ANNOTATION)).and_then(Value::as_str);
    Ok(Agent {
        host: (*host).to_owned(),
        port: port.unwrap_or(DEFAULT_PORT),
        node: metadata.name().to_owned(),
        is_certified: said == Some(OF_CLUSTER),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn types(types: &[&str]) -> Vec<String> {
        types.iter().map(|one| (*one).to_owned()).collect()
    }

    #[test]
    fn the_preferred_type_of_address_counts() {
        let node = json!({"status": {
            "addresses": [{"type": "Hostname", "address": "a"}, {"type": "InternalIP", "address": "10.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10260}},
        }});
        let found =
            |wanted: &[&str]| agent(&node, &types(wanted)).map(|it| format!("{}:{}", it.host, it.port));
        assert_eq!(found(&["InternalIP", "Hostname"]), Ok("10.0.0.1:10260".to_owned()));
        assert_eq!(found(&["ExternalIP", "Hostname"]), Ok("a:10260".to_owned()));
        let error = found(&["ExternalIP"]).unwrap_err();
        assert_eq!(error.reason.code(), 500);
        assert_eq!(
            error.message,
            "no preferred addresses found; known addresses: [{Hostname a} {InternalIP 10.0.0.1}]"
        );
    }

    #[test]
    fn an_agent_that_reports_no_port_has_the_usual_one() {
        let node = json!({"status": {"addresses": [{"type": "InternalIP", "address": "::1"}]}});
        assert_eq!(agent(&node, &types(&["InternalIP"])).unwrap().port, 10250);
    }

    #[test]
    fn a_node_says_whether_it_is_certified() {
        for (said, expected) in
            [(json!({}), false), (json!({ANNOTATION: "x"}), false), (json!({ANNOTATION: OF_CLUSTER}), true)]
        {
            let node = json!({
                "metadata": {"name": "n", "annotations": said},
                "status": {"addresses": [{"type": "InternalIP", "address": "::1"}]},
            });
            let found = agent(&node, &types(&["InternalIP"])).unwrap();
            assert_eq!((found.node.as_str(), found.is_certified), ("n", expected));
        }
    }
}
