//! The names and hardware addresses of links, all derived, so that nodes need not tell each other and a restart finds
//! what is its own. Must never ask anybody.

use core::fmt;
use core::net::IpAddr;

use sha2::{Digest as _, Sha256};

/// The overlay's device.
pub(crate) const OVERLAY: &str = "barque.1";

/// A pod's interface inside the pod.
pub(crate) const POD_INTERFACE: &str = "eth0";

/// What the names of the node's ends of pods' links start with.
const PREFIX: &str = "bq";

/// A hardware address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Mac(pub(crate) [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a pod's link is called and which hardware addresses it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodLink {
    /// The node's end; 14 characters, of 15 that the kernel takes.
    pub(crate) name: String,
    /// The address of the node's end.
    pub(crate) host_mac: Mac,
    /// The address of the pod's end.
    pub(crate) pod_mac: Mac,
}

/// The name of the node's end of a pod's link, as `pod_id` was given to [`crate::Network::attach`].
#[must_use]
pub fn pod_link_name(pod_id: &str) -> String {
    pod_link(pod_id).name
}

/// The link of a pod.
pub(crate) fn pod_link(pod_id: &str) -> PodLink {
    let hash: [u8; 32] = Sha256::digest(pod_id.as_bytes()).into();
    let mut name = PREFIX.to_owned();
    for byte in &hash[..6] {
        name.push_str(&format!("{byte:02x}"));
    }
    let mac = |first: u8, from: usize| {
        Mac([first, hash[from], hash[from + 1], hash[from + 2], hash[from + 3], hash[from + 4]])
    };
    // Both are locally administered and not multicast.
    PodLink { name, host_mac: mac(0x06, 11), pod_mac: mac(0x02, 6) }
}

/// Whether a link may be a node's end of a pod's: the prefix and twelve digits of a hash.
pub(crate) fn is_pod_link(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|hash| {
        hash.len() == 12 && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// The overlay's hardware address on the node with this address.
pub(crate) fn overlay_mac(node: IpAddr) -> Mac {
    match node {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            Mac([0x02, 0x62, a, b, c, d])
        }
        IpAddr::V6(address) => {
            let hash: [u8; 32] = Sha256::digest(address.octets()).into();
            Mac([0x06, hash[0], hash[1], hash[2], hash[3], hash[4]])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_link_is_named_after_the_pod_alone_and_recognised() {
        let link = pod_link("3f0c7f0e-0b7b-4c9e-9b0d-0d6f2d6d1b11");
        assert_eq!(link, pod_link("3f0c7f0e-0b7b-4c9e-9b0d-0d6f2d6d1b11"));
        assert_ne!(link.name, pod_link("another").name);
        assert!(link.name.len() < 16 && is_pod_link(&link.name), "{}", link.name);
        assert!(link.host_mac != link.pod_mac);
        for foreign in ["bq0", "bq00112233445g", "bq0011223344556", "br001122334455", "eth0"] {
            assert!(!is_pod_link(foreign), "{foreign}");
        }
    }

    #[test]
    fn hardware_addresses_are_local_and_for_one_receiver() {
        for address in ["10.0.0.1", "192.168.7.9", "fd00::1"] {
            let mac = overlay_mac(address.parse().unwrap());
            assert_eq!(mac.0[0] & 0b11, 0b10, "{mac}");
        }
        assert_eq!(overlay_mac("10.0.0.1".parse().unwrap()).to_string(), "02:62:0a:00:00:01");
    }
}
