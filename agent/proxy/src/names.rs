//! Names of chains and sets, made of what they are for. Must never give two things one name.

use std::net::IpAddr;

use crate::nft::Name;

/// As long as the kernel and `nft` take them, with room for what is put behind.
const LONGEST: usize = 200;

/// A kind and what it is of, in letters that `nft` reads again. What is too long is cut, and ends with a hash of all of it.
pub(crate) fn name(kind: &str, of: &str) -> Name {
    let text = format!("{kind}-{}", of.replace(':', "."));
    if text.len() <= LONGEST {
        return text.into();
    }
    let mut end = LONGEST - 17;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}-{:016x}", &text[..end], hash(of.as_bytes())).into()
}

/// With an address and port behind.
pub(crate) fn of_socket(kind: &str, of: &str, address: IpAddr, port: u16) -> Name {
    name(kind, &format!("{of}__{address}/{port}"))
}

/// FNV-1a.
fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_readable_and_different() {
        assert_eq!(&*name("service", "default/web/tcp/http"), "service-default/web/tcp/http");
        assert_eq!(&*of_socket("endpoint", "a", "fd00::1".parse().unwrap(), 80), "endpoint-a__fd00..1/80");
        let long = "x".repeat(300);
        let (one, other) = (name("policy", &format!("{long}1")), name("policy", &format!("{long}2")));
        assert!(one.len() <= LONGEST && one != other, "{one} {other}");
    }
}
