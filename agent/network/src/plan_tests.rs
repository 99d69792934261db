//! Plans against a kernel that is a value.

use barque_api::ip::parse_cidr;
use proptest::prelude::*;

use super::*;
use crate::model::{Outer, Peer, Pod};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn cidr(text: &str) -> Cidr {
    parse_cidr(text).unwrap()
}

fn link(kind: Kind) -> Link {
    Link { kind, mac: None, mtu: 1500, up: false, alias: None, addresses: BTreeSet::new() }
}

fn peer(number: u8) -> Peer {
    Peer {
        name: format!("node-{number}"),
        addresses: vec![ip(&format!("192.168.0.{number}"))],
        pod_networks: vec![cidr(&format!("10.1.{number}.0/24")), cidr(&format!("fd00:{number}::/64"))],
    }
}

fn pod(number: u8) -> (String, Pod) {
    let link = names::pod_link(&format!("pod-{number}"));
    let addresses = vec![ip(&format!("10.1.1.{number}")), ip(&format!("fd00:1::{number}"))];
    (link.name, Pod { addresses, mac: link.pod_mac, alias: format!("pod {number}") })
}

fn node(peers: &[u8], pods: &[u8]) -> Desired {
    Desired {
        backend: Backend::Vxlan,
        addresses: vec![ip("192.168.0.1")],
        outer: Some(Outer { name: "outer".to_owned(), mtu: 1500 }),
        mtu: 1450,
        pod_networks: vec![cidr("10.1.1.0/24"), cidr("fd00:1::/64")],
        peers: peers.iter().map(|number| peer(*number)).collect(),
        pods: pods.iter().map(|number| pod(*number)).collect(),
    }
}

/// Does what the kernel would, and holds what it would refuse.
fn act(observed: &mut Observed, action: Action) {
    match action {
        Action::DeleteRoute(route) => assert!(observed.routes.remove(&route)),
        Action::DeleteNeighbour(neighbour) => assert!(observed.neighbours.remove(&neighbour)),
        Action::DeleteForward(forward) => assert!(observed.forwards.remove(&forward)),
        Action::DeleteLink(name) => {
            assert!(observed.links.remove(&name).is_some());
            observed.routes.retain(|route| route.path.device() != Some(&name));
            observed.neighbours.retain(|neighbour| neighbour.device != name);
            if name == OVERLAY {
                observed.forwards.clear();
            }
        }
        Action::CreateOverlay { tunnel, mac, mtu } => {
            let new = Link { mac: Some(mac), mtu, ..link(Kind::Vxlan(tunnel)) };
            assert!(observed.links.insert(OVERLAY.to_owned(), new).is_none(), "the overlay exists");
        }
        Action::SetMtu { name, mtu } => observed.links.get_mut(&name).unwrap().mtu = mtu,
        Action::SetAlias { name, alias } => observed.links.get_mut(&name).unwrap().alias = Some(alias),
        Action::SetUp(name) => observed.links.get_mut(&name).unwrap().up = true,
        Action::DeleteAddress { name, address } => {
            assert!(observed.links.get_mut(&name).unwrap().addresses.remove(&address));
        }
        Action::AddAddress { name, address } => {
            assert!(observed.links.get_mut(&name).unwrap().addresses.insert(address));
        }
        Action::AddForward(forward) => {
            assert!(observed.links.contains_key(OVERLAY));
            assert!(observed.forwards.iter().all(|there| there.mac != forward.mac), "the entry exists");
            observed.forwards.insert(forward);
        }
        Action::AddNeighbour(neighbour) => {
            assert!(observed.links[&neighbour.device].up);
            let same =
                |there: &Neighbour| (&there.device, there.address) == (&neighbour.device, neighbour.address);
            assert!(!observed.neighbours.iter().any(same), "the neighbour exists");
            observed.neighbours.insert(neighbour);
        }
        Action::AddRoute(route) => {
            assert!(route.path.device().is_none_or(|device| observed.links[device].up), "{route:?}");
            assert!(observed.routes.iter().all(|there| there.destination != route.destination), "{route:?}");
            observed.routes.insert(route);
        }
    }
}

fn run(desired: &Desired, observed: &mut Observed) -> Vec<Action> {
    let actions = plan(desired, observed);
    for action in actions.clone() {
        act(observed, action);
    }
    assert_eq!(plan(desired, observed), [], "a second pass has nothing to do");
    actions
}

fn fresh() -> Observed {
    let mut observed = Observed::default();
    observed.links.insert("outer".to_owned(), Link { up: true, ..link(Kind::Other) });
    observed
}

fn with_pods(mut observed: Observed, pods: &[u8]) -> Observed {
    for number in pods {
        observed.links.insert(pod(*number).0, link(Kind::Veth));
    }
    observed
}

#[test]
fn a_remote_node_costs_one_route_a_network_one_neighbour_and_one_forwarding_entry() {
    let mut observed = fresh();
    run(&node(&[], &[]), &mut observed);
    let actions = run(&node(&[2], &[]), &mut observed);
    let mac = names::overlay_mac(ip("192.168.0.2"));
    let to = |gateway: &str| Path::Gateway { device: OVERLAY.to_owned(), gateway: ip(gateway), onlink: true };
    let neighbour = |address: &str| Neighbour { device: OVERLAY.to_owned(), address: ip(address), mac };
    assert_eq!(
        actions,
        [
            Action::AddForward(Forward { mac, remote: ip("192.168.0.2") }),
            Action::AddNeighbour(neighbour("10.1.2.1")),
            Action::AddNeighbour(neighbour("fd00:2::1")),
            Action::AddRoute(Route { destination: cidr("10.1.2.0/24"), path: to("10.1.2.1") }),
            Action::AddRoute(Route { destination: cidr("fd00:2::/64"), path: to("fd00:2::1") }),
        ]
    );
    let actions = run(&node(&[], &[]), &mut observed);
    assert_eq!(actions.len(), 5, "{actions:?}");
}

#[test]
fn a_pod_whose_link_is_gone_gets_no_route_and_is_told() {
    let mut observed = with_pods(fresh(), &[7]);
    let desired = node(&[], &[7, 8]);
    run(&desired, &mut observed);
    assert_eq!(lost(&desired, &observed).collect::<Vec<_>>(), [&pod(8).0]);
    let routes: Vec<_> = observed.routes.iter().map(|route| route.destination.to_string()).collect();
    assert_eq!(routes, ["10.1.1.0/24", "10.1.1.7/32", "fd00:1::/64", "fd00:1::7/128"]);
}

#[test]
fn an_overlay_with_other_parameters_is_made_anew_with_all_that_goes_by_it() {
    let mut observed = fresh();
    run(&node(&[2, 3], &[]), &mut observed);
    let mut desired = node(&[2, 3], &[]);
    desired.addresses = vec![ip("192.168.0.77")];
    let actions = run(&desired, &mut observed);
    assert_eq!(actions[0], Action::DeleteLink(OVERLAY.to_owned()));
    assert_eq!(observed.forwards.len(), 2);
    desired.mtu = 1350;
    let actions = run(&desired, &mut observed);
    assert_eq!(actions, [Action::SetMtu { name: OVERLAY.to_owned(), mtu: 1350 }]);
}

#[test]
fn nodes_that_claim_what_is_not_theirs_are_told_and_left_out() {
    let mut desired = node(&[2, 3], &[]);
    desired.peers[1].pod_networks = vec![cidr("10.1.2.0/24"), cidr("10.1.0.0/16")];
    desired.peers.push(Peer { name: "v6".to_owned(), addresses: vec![ip("fd00::9")], pod_networks: vec![] });
    desired.peers.push(Peer {
        name: "me".to_owned(),
        addresses: vec![ip("192.168.0.1")],
        pod_networks: vec![],
    });
    let problems = target(&desired).problems;
    assert_eq!(
        problems,
        [
            "node node-3 has the pod network 10.1.2.0/24 of another node",
            "node node-3 has the pod network 10.1.0.0/16, which overlaps this node's 10.1.1.0/24",
            "node v6 has no IPv4 address to tunnel to",
            "node me has the address 192.168.0.1 of another node",
        ]
    );
    run(&desired, &mut fresh());
}

#[test]
fn nodes_on_one_link_are_reached_by_their_own_addresses() {
    let mut desired = node(&[2], &[]);
    desired.backend = Backend::HostGateway;
    desired.peers[0].addresses.push(ip("fd01::2"));
    let mut observed = fresh();
    run(&desired, &mut observed);
    assert!(!observed.links.contains_key(OVERLAY));
    let to =
        |gateway: &str| Path::Gateway { device: "outer".to_owned(), gateway: ip(gateway), onlink: false };
    assert!(observed.routes.contains(&Route { destination: cidr("10.1.2.0/24"), path: to("192.168.0.2") }));
    assert!(observed.routes.contains(&Route { destination: cidr("fd00:2::/64"), path: to("fd01::2") }));
}

#[test]
fn links_of_others_are_left_alone_whatever_they_are_called() {
    let mut observed = with_pods(fresh(), &[1, 2]);
    for (name, kind) in [("bq", Kind::Veth), ("bq0123", Kind::Veth), ("vxlan0", Kind::Other)] {
        observed.links.insert(name.to_owned(), link(kind));
    }
    let dummy = pod(3).0;
    observed.links.insert(dummy.clone(), link(Kind::Other));
    run(&node(&[2], &[1]), &mut observed);
    run(&Desired::default(), &mut observed);
    let left: Vec<_> = observed.links.keys().map(String::as_str).collect();
    let mut expected = ["bq", "bq0123", "outer", "vxlan0", &dummy];
    expected.sort_unstable();
    assert_eq!(left, expected);
    assert!(observed.routes.is_empty() && observed.neighbours.is_empty() && observed.forwards.is_empty());
}

proptest! {
    #[test]
    fn from_any_state_one_pass_reaches_what_is_desired_and_touches_nothing_foreign(
        steps in proptest::collection::vec(
            (
                proptest::collection::btree_set(2_u8..9, 0..6),
                proptest::collection::btree_set(2_u8..9, 0..6),
                any::<bool>(),
                1400_u32..1403,
            ),
            1..6,
        ),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut observed = fresh();
        observed.links.insert("bqforeign".to_owned(), link(Kind::Veth));
        for (peers, pods, down, mtu) in steps {
            let peers: Vec<_> = peers.into_iter().collect();
            let pods: Vec<_> = pods.into_iter().collect();
            let mut desired = node(&peers, &pods);
            desired.mtu = mtu;
            for number in &pods {
                observed.links.entry(pod(*number).0).or_insert_with(|| link(Kind::Veth));
            }
            // Somebody takes the overlay down, with which its routes go.
            if let Some(overlay) = observed.links.get_mut(OVERLAY).filter(|_| down) {
                overlay.up = false;
                observed.routes.retain(|route| route.path.device() != Some(OVERLAY));
                observed.neighbours.retain(|neighbour| neighbour.device != OVERLAY);
            }
            // The agent dies in the middle of a pass, and goes on with another.
            let actions = plan(&desired, &observed);
            for action in actions.iter().take(cut.index(actions.len() + 1)).cloned() {
                act(&mut observed, action);
            }
            run(&desired, &mut observed);
            prop_assert_eq!(observed.forwards.len(), peers.len());
            prop_assert_eq!(observed.routes.len(), 2 + 2 * peers.len() + 2 * pods.len());
            prop_assert_eq!(observed.links.len(), 3 + pods.len());
        }
    }
}
