//! Addresses of nodes as the load balancer of services that ask for one, where no cloud gives any (as k3s' servicelb). Must never
//! touch a service of another load balancer's class.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{LoadBalancerIngress, LoadBalancerStatus, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::jiff::Timestamp;

use crate::cache::{Caches, Change};
use crate::controller::{Controller, Watches};
use crate::endpoint_slice::{BY_SERVICE, by_service, service_of};
use crate::kind::{Key, Object as _};
use crate::plan::{Action, Plan};
use crate::services::{Family, address};

/// If any node has this label, only nodes that have it get traffic of load balancers.
const NODE_LABEL: &str = "barque.io/load-balancer";
/// Nodes with this label are left out, as clouds do.
const EXCLUDE_LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// The controller.
pub(crate) struct LoadBalancers;

/// A service, with what its addresses follow from.
pub(crate) struct View {
    service: Arc<Service>,
    nodes: Vec<Target>,
    /// The nodes that have ready endpoints of it.
    with_endpoints: BTreeSet<String>,
}

/// A node as load balancing sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    name: String,
    /// It can get traffic.
    ready: bool,
    /// It was chosen by its label.
    chosen: bool,
    /// The external ones, if it has any, else the internal ones.
    addresses: Vec<IpAddr>,
}

fn target(node: &Node) -> Target {
    let status = node.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let ready = conditions.iter().any(|one| one.type_ == "Ready" && one.status == "True");
    let of = |kind: &str| -> Vec<IpAddr> {
        let all = status.and_then(|status| status.addresses.as_deref()).unwrap_or_default();
        all.iter().filter(|one| one.type_ == kind).filter_map(|one| address(&one.address)).collect()
    };
    let external = of("ExternalIP");
    Target {
        name: node.key().name,
        ready: ready && node.label(EXCLUDE_LABEL).is_none() && !node.is_deleting(),
        chosen: node.label(NODE_LABEL).is_some_and(|value| value != "false"),
        addresses: if external.is_empty() { of("InternalIP") } else { external },
    }
}

/// Whether a service is ours to balance.
fn is_ours(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| {
        spec.type_.as_deref() == Some("LoadBalancer") && spec.load_balancer_class.is_none()
    }) && !service.is_deleting()
}

/// All of ours, when a node is another one for load balancing.
fn of_node(change: &Change<Node>, caches: &Caches) -> Vec<Key> {
    let of = |node: &Arc<Node>| target(node);
    if change.old.as_ref().map(of) == change.new.as_ref().map(of) {
        return Vec::new();
    }
    let services = caches.of::<Service>().all();
    services.iter().filter(|service| is_ours(service)).map(|service| service.key()).collect()
}

fn of_slice(change: &Change<EndpointSlice>) -> Vec<Key> {
    let mut keys: Vec<_> = change.both().filter_map(|slice| service_of(slice)).collect();
    keys.dedup();
    keys
}

/// The addresses that the service's status should have, sorted.
fn addresses(view: &View) -> BTreeSet<IpAddr> {
    let Some(spec) = &view.service.spec else { return BTreeSet::new() };
    let local = spec.external_traffic_policy.as_deref() == Some("Local");
    let some_chosen = view.nodes.iter().any(|node| node.chosen);
    let own = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    let families: BTreeSet<Family> = own.filter_map(|text| address(text)).map(Family::of).collect();
    let usable = view.nodes.iter().filter(|node| {
        node.ready && (node.chosen || !some_chosen) && (!local || view.with_endpoints.contains(&node.name))
    });
    let all = usable.flat_map(|node| node.addresses.iter().copied());
    all.filter(|address| families.contains(&Family::of(*address))).collect()
}

impl Controller for LoadBalancers {
    type View = View;

    fn watch(&self, watches: &mut Watches<'_>) {
        watches.objects::<Service>();
        watches.mapped::<Node>(of_node);
        watches.mapped::<EndpointSlice>(|change, _| of_slice(change));
        watches.index::<EndpointSlice>(BY_SERVICE, by_service);
    }

    fn observe(&self, key: &Key, caches: &Caches) -> Option<View> {
        let service = caches.of::<Service>().get(key).filter(|service| is_ours(service))?;
        let slices = caches.of::<EndpointSlice>().with(BY_SERVICE, &key.to_string());
        let endpoints = slices.iter().flat_map(|slice| slice.endpoints.iter().flatten());
        let ready = endpoints
            .filter(|endpoint| endpoint.conditions.as_ref().and_then(|all| all.ready).unwrap_or(true));
        let with_endpoints = ready.filter_map(|endpoint| endpoint.node_name.clone()).collect();
        let nodes = caches.of::<Node>().all().iter().map(|node| target(node)).collect();
        Some(View { service, nodes, with_endpoints })
    }

    fn plan(&self, view: &View, _now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let ingress = addresses(view).into_iter().map(|address| LoadBalancerIngress {
            ip: Some(address.to_string()),
            ip_mode: Some("VIP".to_owned()),
            ..LoadBalancerIngress::default()
        });
        let ingress = Some(ingress.collect::<Vec<_>>()).filter(|all| !all.is_empty());
        let mut after = (*view.service).clone();
        after.status.get_or_insert_default().load_balancer = Some(LoadBalancerStatus { ingress });
        if let Some(update) = Action::update_status(&*view.service, &after) {
            plan.then(update.because("other nodes get its traffic"));
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::simulation::World;

    fn node(name: &str, ready: bool, labels: Value, addresses: &[&str]) -> Value {
        let addresses: Vec<_> =
            addresses.iter().map(|ip| json!({"type": "InternalIP", "address": ip})).collect();
        json!({
            "metadata": {"name": name, "labels": labels},
            "status": {
                "addresses": addresses,
                "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
            },
        })
    }

    fn planned(spec: Value, nodes: &[Value], with: &[&str]) -> Vec<String> {
        let service: Service = serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap();
        let nodes = nodes.iter().map(|node| target(&serde_json::from_value(node.clone()).unwrap()));
        let view = View {
            service: Arc::new(service),
            nodes: nodes.collect(),
            with_endpoints: with.iter().map(|name| (*name).to_owned()).collect(),
        };
        addresses(&view).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ready_nodes_give_their_addresses() {
        let cluster = json!({"type": "LoadBalancer", "clusterIP": "10.43.0.1", "clusterIPs": ["10.43.0.1"]});
        let local =
            json!({"type": "LoadBalancer", "clusterIPs": ["10.43.0.1"], "externalTrafficPolicy": "Local"});
        let dual = json!({"type": "LoadBalancer", "clusterIPs": ["10.43.0.1", "fd00:43::1"]});
        let mut all = vec![
            node("a", true, json!({}), &["192.0.2.1", "2001:db8::1"]),
            node("b", true, json!({}), &["192.0.2.2"]),
            node("c", false, json!({}), &["192.0.2.3"]),
            node("d", true, json!({EXCLUDE_LABEL: ""}), &["192.0.2.4"]),
        ];
        assert_eq!(planned(cluster.clone(), &all, &[]), ["192.0.2.1", "192.0.2.2"]);
        assert_eq!(planned(dual, &all, &[]), ["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
        assert_eq!(planned(local.clone(), &all, &["b", "c"]), ["192.0.2.2"]);
        assert!(planned(local, &all, &[]).is_empty());
        all[1] = node("b", true, json!({NODE_LABEL: "true"}), &["192.0.2.2"]);
        assert_eq!(planned(cluster, &all, &[]), ["192.0.2.2"]);
    }

    #[test]
    fn services_get_the_addresses_of_the_nodes_there_are() {
        let mut world = World::new(1);
        world.run(|| LoadBalancers);
        let spec = json!({"type": "LoadBalancer", "clusterIP": "10.43.0.1", "clusterIPs": ["10.43.0.1"]});
        let mut foreign = spec.clone();
        foreign["loadBalancerClass"] = json!("example.com/lb");
        for (name, spec) in [("web", spec), ("other", foreign)] {
            world.create::<Service>(json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec}));
        }
        let join = |world: &mut World, name: &str, ip: &str| {
            let whole: Node = serde_json::from_value(node(name, true, json!({}), &[ip])).unwrap();
            world.create::<Node>(json!({"metadata": {"name": name}}));
            world.edit::<Node>("", name, |node| node.status = whole.status);
        };
        join(&mut world, "a", "192.0.2.1");
        world.settle();
        let shown = |world: &World| -> Vec<(String, Vec<String>)> {
            let ips = |service: &Service| {
                let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
                let ingress = status.and_then(|status| status.ingress.as_deref()).unwrap_or_default();
                ingress.iter().filter_map(|one| one.ip.clone()).collect()
            };
            let mut all: Vec<_> =
                world.api.all::<Service>().iter().map(|service| (service.key().name, ips(service))).collect();
            all.sort();
            all
        };
        let expected = |ips: &[&str]| {
            let ips = ips.iter().map(|ip| (*ip).to_owned()).collect();
            vec![("other".to_owned(), Vec::new()), ("web".to_owned(), ips)]
        };
        assert_eq!(shown(&world), expected(&["192.0.2.1"]));
        join(&mut world, "b", "192.0.2.2");
        world.settle();
        assert_eq!(shown(&world), expected(&["192.0.2.1", "192.0.2.2"]));
    }
}
