//! Whom the machine itself asks for names. A decision; the text of its configuration is handed in.

use core::net::SocketAddr;

/// The port of DNS.
const PORT: u16 = 53;

/// The name servers in the text of a `resolv.conf`, with their port.
#[must_use]
pub fn nameservers(text: &str) -> Vec<SocketAddr> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let words = lines.filter_map(|rest| rest.split_whitespace().next());
    words.filter_map(|server| Some(SocketAddr::new(server.parse().ok()?, PORT))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_are_addresses_are_asked() {
        let text = "# nameserver 10.0.0.9\n nameserver 192.0.2.53 # first\nnameserver fd00::1\nnameserver fe80::1%eth0\nsearch a";
        let told: Vec<_> = nameservers(text).iter().map(ToString::to_string).collect();
        assert_eq!(told, ["192.0.2.53:53", "[fd00::1]:53"]);
    }
}
