//! From what was measured to findings. Decisions: must never measure.

pub(super) mod certificates;
pub(super) mod clock;
pub(super) mod disk;
pub(super) mod masters;
pub(super) mod path;
pub(super) mod store;

use core::net::IpAddr;

pub(super) use self::masters::{MasterSeen, NodeSeen};
pub(super) use self::store::MemberSeen;

/// The masters with their addresses as the store knows them; this one alone when it does not answer.
pub(super) fn hosts(
    members: &Result<Vec<MemberSeen>, String>,
    own: &str,
    address: IpAddr,
) -> Vec<(String, IpAddr)> {
    let mut all = vec![(own.to_owned(), address)];
    for member in members.iter().flatten().filter(|member| member.name != own) {
        all.extend(member.address().map(|address| (member.name.clone(), address)));
    }
    all
}

/// Where packets of this machine must come through: to other masters and to nodes, each once.
pub(super) fn destinations(
    hosts: &[(String, IpAddr)],
    nodes: &Result<Vec<NodeSeen>, String>,
    own: &str,
) -> Vec<(String, IpAddr)> {
    let own_address = hosts.iter().find(|(name, _)| name == own).map(|(_, address)| *address);
    let nodes = nodes.iter().flatten().filter_map(|node| Some((node.name.clone(), node.address?)));
    let mut all: Vec<(String, IpAddr)> = Vec::new();
    for (name, address) in hosts.iter().cloned().chain(nodes) {
        if Some(address) != own_address && all.iter().all(|(_, other)| *other != address) {
            all.push((name, address));
        }
    }
    all
}

/// Names with commas between.
fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().collect::<Vec<_>>().join(", ")
}

/// Bytes in a unit that people read.
fn size(bytes: u64) -> String {
    match bytes {
        ..1_048_576 => format!("{} KiB", bytes >> 10),
        1_048_576..1_073_741_824 => format!("{} MiB", bytes >> 20),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_sent_to_everybody_else_once() {
        let [own, other, node] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|it| it.parse::<IpAddr>().unwrap());
        let members = Ok(vec![MemberSeen::silent("m1", "10.0.0.1"), MemberSeen::silent("m2", "10.0.0.2")]);
        let hosts = hosts(&members, "m1", own);
        assert_eq!(hosts, [("m1".to_owned(), own), ("m2".to_owned(), other)]);
        let node_of = |name: &str, address| NodeSeen::ready(name, Some(address));
        let nodes = Ok(vec![node_of("m1-node", own), node_of("m2-node", other), node_of("n1", node)]);
        let all = destinations(&hosts, &nodes, "m1");
        assert_eq!(all, [("m2".to_owned(), other), ("n1".to_owned(), node)]);
        assert_eq!(destinations(&hosts, &Err(String::new()), "m1").len(), 1);
        assert_eq!(super::hosts(&Err(String::new()), "m1", own).len(), 1);
    }

    #[test]
    fn sizes_are_read_by_people() {
        assert_eq!(size(2048), "2 KiB");
        assert_eq!(size(3 << 20), "3 MiB");
        assert_eq!(size(3 << 29), "1.5 GiB");
    }
}
