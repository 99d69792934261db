//! Whether large packets come through to other machines. Decisions.

use core::net::{IpAddr, Ipv4Addr};

use super::super::Finding;
use super::listed;

/// What the way to a machine lets through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathSeen {
    /// Who is there.
    pub(crate) name: String,
    pub(crate) address: IpAddr,
    /// Why nothing is known otherwise.
    pub(crate) seen: Result<Sizes, String>,
}

/// Of packets, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// The largest that leaves this machine: its interface's, by which the overlay of pods is made.
    pub(crate) wanted: u32,
    pub(crate) arrives: Arrival,
}

/// What became of a packet of that size that nobody may cut into pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// The other machine answered that it came.
    Confirmed,
    /// Somebody in between, or the kernel, said that this is the largest.
    Smaller(u32),
    /// A small one was answered, and the large one never.
    Lost,
    /// None was answered, as where ports are filtered.
    Unanswered,
}

/// A finding for each way that is too narrow, and one for the others.
pub(crate) fn paths(paths: &[PathSeen]) -> Vec<Finding> {
    const CHECK: &str = "path MTU";
    if paths.is_empty() {
        return vec![Finding::skipped(CHECK, "no other machine is known")];
    }
    let (mut all, mut good, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    for path in paths {
        let to = format!("{} ({})", path.name, path.address);
        match &path.seen {
            Err(why) => unknown.push(format!("{to}: {why}")),
            Ok(Sizes { wanted, arrives: Arrival::Confirmed }) => good.push(format!("{to} takes {wanted} bytes")),
            Ok(Sizes { wanted, arrives: Arrival::Unanswered }) => {
                unknown.push(format!("{to}: {wanted} bytes leave here, and nothing says whether they arrive"));
            }
            Ok(Sizes { wanted, arrives: Arrival::Smaller(mtu) }) => all.push(Finding::warning(
                CHECK,
                format!("{to} takes packets of {mtu} bytes, and the interface here sends {wanted}"),
                format!(
                    "set the MTU of the interface to {mtu} on every machine (`ip link set IF mtu {mtu}`): the network of pods takes \
                     its own from it, and large packets between nodes are lost or cut otherwise"
                ),
            )),
            Ok(Sizes { wanted, arrives: Arrival::Lost }) => all.push(Finding::warning(
                CHECK,
                format!("{to} answers small packets, and none of {wanted} bytes"),
                "something in between drops large packets without a word: set a smaller MTU at the interfaces of all machines, or \
                 let ICMP pass",
            )),
        }
    }
    if !good.is_empty() {
        all.push(Finding::ok(CHECK, listed(good.iter().map(String::as_str))));
    }
    if !unknown.is_empty() {
        all.push(Finding::skipped(CHECK, listed(unknown.iter().map(String::as_str))));
    }
    all
}

/// The interface by which packets to an address leave, as `/proc/net/route` has it: the longest match, then the smallest metric.
pub(crate) fn interface(routes: &str, to: Ipv4Addr) -> Option<String> {
    let number = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::swap_bytes);
    let lines = routes.lines().skip(1).filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (name, destination) = (*words.first()?, number(words.get(1)?)?);
        let (metric, mask) = (words.get(6)?.parse::<u32>().ok()?, number(words.get(7)?)?);
        (u32::from(to) & mask == destination).then_some((mask, std::cmp::Reverse(metric), name))
    });
    lines.max().map(|(.., name)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    fn path(arrives: Arrival) -> PathSeen {
        let seen = Ok(Sizes { wanted: 1500, arrives });
        PathSeen { name: "m2".to_owned(), address: "10.0.0.2".parse().unwrap(), seen }
    }

    #[test]
    fn a_narrow_way_is_told_with_what_would_fit() {
        let cases = [
            (Arrival::Confirmed, Level::Ok, "m2 (10.0.0.2) takes 1500 bytes"),
            (
                Arrival::Smaller(1400),
                Level::Warning,
                "takes packets of 1400 bytes, and the interface here sends 1500",
            ),
            (Arrival::Lost, Level::Warning, "answers small packets, and none of 1500 bytes"),
            (Arrival::Unanswered, Level::Skipped, "nothing says whether they arrive"),
        ];
        for (arrives, level, text) in cases {
            let all = paths(&[path(arrives)]);
            assert_eq!((all.len(), all[0].result), (1, level), "{all:?}");
            assert!(all[0].found.contains(text), "{all:?}");
        }
        let mixed = paths(&[path(Arrival::Confirmed), path(Arrival::Confirmed), path(Arrival::Lost)]);
        assert_eq!(mixed.iter().map(|it| it.result).collect::<Vec<_>>(), [Level::Warning, Level::Ok]);
        assert_eq!(paths(&[])[0].result, Level::Skipped);
    }

    #[test]
    fn the_interface_is_that_of_the_longest_match() {
        let routes = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
                      eth1\t00000000\t0100A8C0\t0003\t0\t0\t200\t00000000\t0\t0\t0\n\
                      eth0\t00000000\t0100A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
                      wg0\t0000000A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        let of = |to: [u8; 4]| interface(routes, Ipv4Addr::from(to));
        assert_eq!(of([10, 0, 9, 9]).as_deref(), Some("wg0"));
        assert_eq!(of([10, 1, 0, 1]).as_deref(), Some("eth0"));
        assert_eq!(interface("Iface\n", Ipv4Addr::LOCALHOST), None);
    }
}
