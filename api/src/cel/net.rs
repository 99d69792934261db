//! URLs, addresses and networks in expressions. Must never resolve a name.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::machine::EvalError;
use super::value::Val;

/// The parts of a URL, as they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    scheme: String,
    host: String,
    path: String,
    query: String,
}

fn parse_url(text: &str) -> Option<Url> {
    if text.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return None;
    }
    let text = text.split('#').next().unwrap_or(text);
    let (before, query) = text.split_once('?').unwrap_or((text, ""));
    if before.starts_with('/') {
        let path = before.to_owned();
        return Some(Url { scheme: String::new(), host: String::new(), path, query: query.to_owned() });
    }
    let (scheme, rest) = before.split_once("://")?;
    let mut letters = scheme.chars();
    let named = letters.next().is_some_and(|first| first.is_ascii_alphabetic())
        && letters.all(|one| one.is_ascii_alphanumeric() || matches!(one, '+' | '-' | '.'));
    let slash = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(slash);
    let host = authority.rsplit('@').next().unwrap_or(authority);
    let (name, port) = split_port(host);
    let good_name = match name.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').is_some_and(|inner| inner.parse::<Ipv6Addr>().is_ok()),
        None => !name.contains(['[', ']', ':', '<', '>', '"', '\\', '^', '`', '{', '|', '}']),
    };
    let good_port = port.bytes().all(|byte| byte.is_ascii_digit());
    (named && good_name && good_port).then(|| Url {
        scheme: scheme.to_ascii_lowercase(),
        host: host.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
    })
}

fn split_port(host: &str) -> (&str, &str) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (host, ""),
    }
}

/// An address that is written in one way only: no zone, no leading zeros, no IPv4 inside IPv6.
fn parse_ip(text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.parse().ok()?;
    match address {
        IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => None,
        address => Some(address),
    }
}

fn parse_cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = text.split_once('/')?;
    let address = parse_ip(address)?;
    let digits =
        length.bytes().all(|byte| byte.is_ascii_digit()) && (length == "0" || !length.starts_with('0'));
    let length: u8 = digits.then(|| length.parse().ok())??;
    (length <= bits(address)).then_some((address, length))
}

const fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn masked(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from(u32::from(address) & mask))
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(address) & mask))
        }
    }
}

/// The functions that make these values, and those that tell whether they could.
pub(super) fn global<'a>(name: &str, text: &str) -> Result<Val<'a>, EvalError> {
    Ok(match name {
        "isURL" => Val::Bool(parse_url(text).is_some()),
        "isIP" => Val::Bool(parse_ip(text).is_some()),
        "isCIDR" => Val::Bool(parse_cidr(text).is_some()),
        "url" => {
            let url = parse_url(text);
            Val::Url(Arc::new(url.ok_or_else(|| EvalError::other(format!("URL parse error: {text:?}")))?))
        }
        "ip.isCanonical" => {
            let address = parse_ip(text).ok_or_else(|| not_an_ip(text))?;
            Val::Bool(address.to_string() == text)
        }
        "ip" => Val::Ip(parse_ip(text).ok_or_else(|| not_an_ip(text))?),
        "cidr" => {
            let parsed = parse_cidr(text);
            let (address, length) =
                parsed.ok_or_else(|| EvalError::other(format!("network address parse error: {text:?}")))?;
            Val::Cidr(address, length)
        }
        _ => return Err(EvalError::NoSuchOverload),
    })
}

fn not_an_ip(text: &str) -> EvalError {
    EvalError::other(format!("IP Address {text:?} parse error during conversion from string"))
}

/// Functions of a URL.
pub(super) fn of_url<'a>(name: &str, url: &Url) -> Result<Val<'a>, EvalError> {
    let (host, port) = split_port(&url.host);
    Ok(match name {
        "getScheme" => Val::text(url.scheme.as_str()),
        "getHost" => Val::text(url.host.as_str()),
        "getHostname" => Val::text(host.trim_start_matches('[').trim_end_matches(']')),
        "getPort" => Val::text(port),
        "getEscapedPath" => Val::text(escaped(&url.path)),
        "getQuery" => query(&url.query),
        _ => return Err(EvalError::NoSuchOverload),
    })
}

fn escaped(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@%!'()*".contains(&byte);
    path.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// The parameters of a query, each with all its values.
fn query<'a>(query: &str) -> Val<'a> {
    let mut found: Vec<(String, Vec<Val<'a>>)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (unescaped(name), Val::text(unescaped(value)));
        match found.iter_mut().find(|(one, _)| *one == name) {
            Some((_, values)) => values.push(value),
            None => found.push((name, vec![value])),
        }
    }
    Val::named(found.into_iter().map(|(name, values)| (name, Val::list(values))))
}

fn unescaped(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (bytes[at], hex) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Functions of an address.
pub(super) fn of_ip<'a>(name: &str, address: IpAddr) -> Result<Val<'a>, EvalError> {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    let link_local_multicast = match address {
        IpAddr::V4(address) => address.octets()[..3] == [224, 0, 0],
        IpAddr::V6(address) => address.segments()[0] & 0xff0f == 0xff02,
    };
    let broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    Ok(match name {
        "family" => Val::Int(if address.is_ipv4() { 4 } else { 6 }),
        "isUnspecified" => Val::Bool(address.is_unspecified()),
        "isLoopback" => Val::Bool(address.is_loopback()),
        "isLinkLocalUnicast" => Val::Bool(link_local),
        "isLinkLocalMulticast" => Val::Bool(link_local_multicast),
        "isGlobalUnicast" => {
            let other = address.is_unspecified() || address.is_loopback() || address.is_multicast();
            Val::Bool(!(other || broadcast || link_local))
        }
        _ => return Err(EvalError::NoSuchOverload),
    })
}

/// Functions of a network.
pub(super) fn of_cidr<'a>(
    name: &str,
    address: IpAddr,
    length: u8,
    args: &[Val<'a>],
) -> Result<Val<'a>, EvalError> {
    let holds = |other: IpAddr| {
        other.is_ipv4() == address.is_ipv4() && masked(other, length) == masked(address, length)
    };
    let network = |text: &str| {
        parse_cidr(text).ok_or_else(|| EvalError::other(format!("network address parse error: {text:?}")))
    };
    Ok(match (name, args) {
        ("ip", []) => Val::Ip(address),
        ("masked", []) => Val::Cidr(masked(address, length), length),
        ("prefixLength", []) => Val::Int(i64::from(length)),
        ("containsIP", [Val::Ip(other)]) => Val::Bool(holds(*other)),
        ("containsIP", [Val::Text(text)]) => Val::Bool(holds(parse_ip(text).ok_or_else(|| not_an_ip(text))?)),
        ("containsCIDR", [Val::Cidr(other, narrower)]) => Val::Bool(holds(*other) && *narrower >= length),
        ("containsCIDR", [Val::Text(text)]) => {
            let (other, narrower) = network(text)?;
            Val::Bool(holds(other) && narrower >= length)
        }
        _ => return Err(EvalError::NoSuchOverload),
    })
}
