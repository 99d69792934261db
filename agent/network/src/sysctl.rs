//! The kernel's settings that a node needs, written only where they differ. Must never make a setting stricter.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A setting as a path below `/proc/sys`, its value, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) name: String,
    pub(crate) value: &'static str,
    pub(crate) why: &'static str,
}

/// Which settings have to be written, in this order.
///
/// `read` tells a setting's value, or none if there is no such setting. `devices` are those by which packets of pods come
/// from other nodes: such a packet can come by the overlay and be answered without it, which a strict check of the way
/// back takes for a forgery. With forwarding the kernel stops taking IPv6 routes from routers unless it is told to go on.
pub(crate) fn plan(
    v4: bool,
    v6: bool,
    outer: Option<&str>,
    devices: &[&str],
    read: impl Fn(&str) -> Option<String>,
) -> Vec<Setting> {
    let mut settings = Vec::new();
    let is = |name: &str, value: &str| read(name).is_some_and(|text| text == value);
    let mut set = |name: String, value, why| settings.push(Setting { name, value, why });
    if v4 && !is("net/ipv4/ip_forward", "1") {
        set("net/ipv4/ip_forward".to_owned(), "1", "packets of pods are forwarded");
    }
    if v6 && is("net/ipv6/conf/all/forwarding", "0") {
        if let Some(outer) = outer {
            let name = format!("net/ipv6/conf/{outer}/accept_ra");
            if is(&name, "1") {
                set(name, "2", "the node's own IPv6 routes come from a router");
            }
        }
        set("net/ipv6/conf/all/forwarding".to_owned(), "1", "packets of pods are forwarded");
    }
    for device in devices.iter().filter(|_| v4) {
        let name = format!("net/ipv4/conf/{device}/rp_filter");
        let strictest = read("net/ipv4/conf/all/rp_filter").max(read(&name));
        if strictest.as_deref() == Some("1") {
            set(name, "2", "answers to pods of other nodes may take another way");
        }
    }
    settings
}

/// Reads a setting of the calling thread's network namespace.
pub(crate) fn read(name: &str) -> Option<String> {
    fs::read_to_string(path(name)).ok().map(|text| text.trim().to_owned())
}

/// Writes a setting of the calling thread's network namespace.
pub(crate) fn write(setting: &Setting) -> io::Result<()> {
    fs::write(path(&setting.name), setting.value)
}

pub(crate) fn path(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(v4: bool, v6: bool, values: &[(&str, &str)]) -> Vec<String> {
        let read = |name: &str| {
            values.iter().find(|(there, _)| *there == name).map(|(_, value)| (*value).to_owned())
        };
        let plan = plan(v4, v6, Some("outer"), &["outer", "barque.1"], read);
        plan.into_iter().map(|setting| format!("{}={}", setting.name, setting.value)).collect()
    }

    #[test]
    fn what_is_right_is_left_alone() {
        let right = [("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1")];
        assert!(planned(true, true, &right).is_empty());
        assert!(planned(false, false, &[("net/ipv4/ip_forward", "0")]).is_empty());
    }

    #[test]
    fn forwarding_does_not_cost_the_node_its_own_routes() {
        let plan = planned(
            false,
            true,
            &[("net/ipv6/conf/all/forwarding", "0"), ("net/ipv6/conf/outer/accept_ra", "1")],
        );
        assert_eq!(plan, ["net/ipv6/conf/outer/accept_ra=2", "net/ipv6/conf/all/forwarding=1"]);
    }

    #[test]
    fn a_strict_check_of_the_way_back_becomes_a_loose_one_where_packets_come_from_nodes() {
        let base = ("net/ipv4/ip_forward", "1");
        let loose = ["net/ipv4/conf/outer/rp_filter=2", "net/ipv4/conf/barque.1/rp_filter=2"];
        assert_eq!(planned(true, false, &[base, ("net/ipv4/conf/all/rp_filter", "1")]), loose);
        assert_eq!(planned(true, false, &[base, ("net/ipv4/conf/outer/rp_filter", "1")]), loose[..1]);
        let already = [base, ("net/ipv4/conf/all/rp_filter", "1"), ("net/ipv4/conf/outer/rp_filter", "2")];
        assert_eq!(planned(true, false, &already), loose[1..]);
        assert!(planned(true, false, &[base, ("net/ipv4/conf/all/rp_filter", "2")]).is_empty());
    }
}
