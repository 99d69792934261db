//! Whether a node gets the certificate that it asks for as a server: its own name and addresses stand there, and nobody else's. A
//! decision; what the API has is handed in.

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::sync::Arc;

use barque_api::node_certificate::{MASTERS, NAMESPACE, Refusal, Reserved, SERVER_NAMES, addresses, judge};
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;
use serde_json::Value;

use super::request::Request;
use crate::question::Question;

/// What follows.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It gets it.
    May,
    /// It does not, for what it asks for.
    MayNot(Refusal),
    /// It is not known yet; why.
    Unclear(String),
}

/// What is asked for about a node: its object, the masters, and what their API servers are called. Past the caches, as a node asks
/// as soon as it is registered.
pub(super) fn questions(node: &str) -> [Question; 3] {
    let map = |name: &str| Question::get(["api", "v1", "namespaces", NAMESPACE, "configmaps", name]);
    [Question::get(["api", "v1", "nodes", node]), map(MASTERS), map(SERVER_NAMES)]
}

/// By the answers to these questions, and which other nodes have the addresses of the request.
pub(super) fn verdict(
    request: &Request,
    node: &str,
    [object, masters, names]: [&Value; 3],
    holders: &BTreeMap<IpAddr, String>,
) -> Verdict {
    let data = |map: &Value| -> BTreeMap<String, String> {
        serde_json::from_value(map["data"].clone()).unwrap_or_default()
    };
    let (masters, names) = (data(masters), data(names));
    if names.is_empty() {
        return Verdict::Unclear(format!(
            "{NAMESPACE}/{SERVER_NAMES} does not say what API servers are called"
        ));
    }
    let reserved = match Reserved::of(masters.keys().map(String::as_str), &names) {
        Ok(reserved) => reserved,
        Err(master) => {
            return Verdict::Unclear(format!(
                "{NAMESPACE}/{SERVER_NAMES} does not say what the API server of master {master} is called, which may be of an older \
                 release"
            ));
        }
    };
    let said = object["status"]["addresses"].as_array().into_iter().flatten();
    let text = |of: &'_ Value| of.as_str().unwrap_or_default().to_owned();
    let said: Vec<_> = said.map(|one| (text(&one["type"]), text(&one["address"]))).collect();
    let has = addresses(said.iter().map(|(kind, address)| (kind.as_str(), address.as_str())));
    let asked: Vec<IpAddr> = request.addresses.iter().filter_map(|bytes| address(bytes)).collect();
    let holder = |address: IpAddr| holders.get(&address).cloned();
    match judge(node, &has, &request.dns, &asked, &reserved, holder) {
        Ok(()) => Verdict::May,
        Err(refusal) => Verdict::MayNot(refusal),
    }
}

/// Which other nodes have the addresses of a request: such that are heard of, and serve something by which they could be mistaken.
pub(super) fn holders(request: &Request, node: &str, nodes: &[Arc<Node>]) -> BTreeMap<IpAddr, String> {
    let asked: Vec<IpAddr> = request.addresses.iter().filter_map(|bytes| address(bytes)).collect();
    let mut found = BTreeMap::new();
    for other in nodes.iter().filter(|other| other.name_any() != node && may_be_mistaken(other)) {
        let status = other.status.as_ref();
        let said = status.and_then(|status| status.addresses.as_deref()).unwrap_or_default();
        let has = addresses(said.iter().map(|one| (one.type_.as_str(), one.address.as_str())));
        for address in asked.iter().filter(|address| has.contains(address)) {
            found.entry(*address).or_insert_with(|| other.name_any());
        }
    }
    found
}

fn may_be_mistaken(node: &Node) -> bool {
    let Some(status) = &node.status else { return false };
    let endpoint = status.daemon_endpoints.as_ref().and_then(|all| all.kubelet_endpoint.as_ref());
    let ready = status.conditions.iter().flatten().find(|condition| condition.type_ == "Ready");
    endpoint.is_some_and(|endpoint| endpoint.port > 0) && ready.is_none_or(|ready| ready.status != "Unknown")
}

/// From the bytes of a request, which are four or sixteen.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(names: &[&str], addresses: &[[u8; 4]]) -> Request {
        Request {
            dns: names.iter().map(|name| (*name).to_owned()).collect(),
            addresses: addresses.iter().map(|address| address.to_vec()).collect(),
            ..Request::default()
        }
    }

    fn node(name: &str, address: &str, port: i32, ready: &str) -> Value {
        json!({"metadata": {"name": name}, "status": {
            "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            "conditions": [{"type": "Ready", "status": ready}],
        }})
    }

    #[test]
    fn a_node_gets_what_is_its_own_when_it_is_known_what_is_not() {
        let own = node("n1", "10.0.0.21", 10250, "True");
        let masters = json!({"data": {"m1": "https://10.0.0.1:6443"}});
        let names = json!({"data": {"m1": "10.0.0.1,10.96.0.0/16,m1"}});
        let judged = |request: &Request, masters: &Value, names: &Value| {
            verdict(request, "n1", [&own, masters, names], &BTreeMap::new())
        };
        let good = request(&["n1", "n1.node.barque.internal"], &[[10, 0, 0, 21]]);
        assert_eq!(judged(&good, &masters, &names), Verdict::May);
        let other = request(&["n1"], &[[10, 0, 0, 22]]);
        let refusal = Refusal::OtherAddress("10.0.0.22".parse().unwrap());
        assert_eq!(judged(&other, &masters, &names), Verdict::MayNot(refusal));
        let master = request(&["m1"], &[]);
        assert_eq!(judged(&master, &masters, &names), Verdict::MayNot(Refusal::OtherName("m1".to_owned())));
        let two = json!({"data": {"m1": "https://10.0.0.1:6443", "m2": "https://10.0.0.2:6443"}});
        for (masters, names, why) in [(&masters, &json!({}), "does not say"), (&two, &names, "master m2")] {
            let Verdict::Unclear(told) = judged(&good, masters, names) else { panic!("{names}") };
            assert!(told.contains(why), "{told}");
        }
        let gone = verdict(&good, "n1", [&json!({}), &masters, &names], &BTreeMap::new());
        assert_eq!(gone, Verdict::MayNot(Refusal::OtherAddress("10.0.0.21".parse().unwrap())));
    }

    #[test]
    fn an_address_that_another_node_has_is_nobodys() {
        let found = |other: Value| {
            let nodes = [other, node("n1", "10.0.0.21", 10250, "True")];
            let nodes = nodes.map(|node| Arc::new(serde_json::from_value(node).unwrap()));
            holders(&request(&[], &[[10, 0, 0, 21]]), "n1", &nodes).into_values().collect::<Vec<_>>()
        };
        assert_eq!(found(node("n2", "10.0.0.21", 10250, "True")), ["n2"]);
        assert_eq!(found(node("n2", "::ffff:10.0.0.21", 10250, "False")), ["n2"]);
        assert!(found(node("n2", "10.0.0.22", 10250, "True")).is_empty());
        assert!(found(node("n2", "10.0.0.21", 10250, "Unknown")).is_empty(), "it is not heard of");
        assert!(found(node("n2", "10.0.0.21", 0, "True")).is_empty(), "it is hollow and serves nothing");
    }
}
