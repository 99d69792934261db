//! Who sends a packet to whom: the few fields of IPv4, TCP and UDP headers that decisions need. Must never trust a length.

use std::net::Ipv4Addr;

const TCP: u8 = 6;
const UDP: u8 = 17;
/// The bits of the fragment field that say where in the datagram this part belongs.
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// What is known of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The sender.
    pub(super) from: Ipv4Addr,
    /// The receiver.
    pub(super) to: Ipv4Addr,
    /// Ports of the sender and of the receiver, of TCP and UDP.
    pub(super) ports: Option<(u16, u16)>,
}

/// The header of an IPv4 packet; `None` of anything else.
pub(super) fn header(packet: &[u8]) -> Option<Header> {
    let (first, protocol) = (*packet.first()?, *packet.get(9)?);
    if first >> 4 != 4 {
        return None;
    }
    let address = |at: usize| -> Option<Ipv4Addr> {
        let bytes: [u8; 4] = packet.get(at..at + 4)?.try_into().ok()?;
        Some(Ipv4Addr::from(bytes))
    };
    let number = |at: usize| Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?));
    let behind = usize::from(first & 0xf) * 4;
    let has_ports = matches!(protocol, TCP | UDP) && number(6)? & FRAGMENT_OFFSET == 0;
    let ports = if has_ports { Some((number(behind)?, number(behind + 2)?)) } else { None };
    Some(Header { from: address(12)?, to: address(16)?, ports })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(first: u8, protocol: u8, fragment: u16) -> Vec<u8> {
        let mut bytes = vec![0; 20];
        (bytes[0], bytes[9]) = (first, protocol);
        bytes[6..8].copy_from_slice(&fragment.to_be_bytes());
        bytes[12..16].copy_from_slice(&[10, 77, 0, 11]);
        bytes[16..20].copy_from_slice(&[10, 77, 0, 12]);
        bytes.resize(usize::from(first & 0xf) * 4, 0);
        bytes.extend([0x09, 0x4b, 0xc0, 0x01]);
        bytes
    }

    #[test]
    fn fields_are_read_where_they_are() {
        let ports = Some((2379, 49153));
        for (bytes, expected) in [
            (packet(0x45, TCP, 0x4000), Some(ports)),
            (packet(0x46, UDP, 0), Some(ports)),
            // Only the first part of a datagram has ports.
            (packet(0x45, UDP, 0x2000), Some(ports)),
            (packet(0x45, UDP, 0x0001), Some(None)),
            (packet(0x45, 1, 0), Some(None)),
            (packet(0x65, TCP, 0), None),
            (packet(0x45, TCP, 0)[..22].to_vec(), None),
            (packet(0x45, TCP, 0)[..9].to_vec(), None),
            (packet(0x4f, TCP, 0)[..40].to_vec(), None),
            (Vec::new(), None),
        ] {
            let (from, to) = (Ipv4Addr::new(10, 77, 0, 11), Ipv4Addr::new(10, 77, 0, 12));
            let expected = expected.map(|ports| Header { from, to, ports });
            assert_eq!(header(&bytes), expected, "{bytes:?}");
        }
    }
}
