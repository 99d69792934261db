//! Which headers of a request are passed on to the service, and how it is told who asks. Pure; must never let through what
//! proves to others who the client is, nor what a client says of itself.

use std::net::IpAddr;

use http::header::{
    AUTHORIZATION, CONNECTION, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::authorization::User;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
const REMOTE_USER: HeaderName = HeaderName::from_static("x-remote-user");
const REMOTE_UID: HeaderName = HeaderName::from_static("x-remote-uid");
const REMOTE_GROUP: HeaderName = HeaderName::from_static("x-remote-group");
const REMOTE_EXTRA: &str = "x-remote-extra-";
/// A token that browsers hide among the protocols, as they cannot send the header for it.
const TOKEN_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// Something about a user that no header can say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("net/http: invalid header field value for {0:?}")]
pub struct Unsayable(pub String);

/// Whether a request wants to leave HTTP.
#[must_use]
pub fn is_upgrade(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.any(|value| value.to_ascii_lowercase().contains("upgrade"))
}

/// The headers of a request as they are passed on, without a host.
///
/// # Errors
/// When it cannot be said who asks.
pub fn passed_on(
    request: &http::request::Parts,
    user: &User,
    client: IpAddr,
) -> Result<HeaderMap, Unsayable> {
    let mut headers = request.headers.clone();
    let upgrade = if is_upgrade(&headers) { headers.get(UPGRADE).cloned() } else { None };
    strip_hop_by_hop(&mut headers);
    let identity: Vec<HeaderName> = headers.keys().filter(|name| says_who(name)).cloned().collect();
    for name in identity {
        headers.remove(name);
    }
    strip_token(&mut headers);
    if let Some(upgrade) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, upgrade);
    }
    let of_address =
        || request.uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    if let Some(host) = headers.remove(HOST).or_else(of_address) {
        headers.insert(FORWARDED_HOST, host);
    }
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static("https"));
    if let Ok(uri) = HeaderValue::from_str(request.uri.path()) {
        headers.insert(FORWARDED_URI, uri);
    }
    let before = request.headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
    let chain: Vec<String> = before.map(str::to_owned).chain([client.to_string()]).collect();
    if let Ok(chain) = HeaderValue::from_str(&chain.join(", ")) {
        headers.insert(FORWARDED_FOR, chain);
    }
    say_who(&mut headers, user)?;
    Ok(headers)
}

/// Tells who asks: those who believe this know by the certificate of this server that they may.
///
/// # Errors
/// When there is something that no header can say.
pub fn say_who(headers: &mut HeaderMap, user: &User) -> Result<(), Unsayable> {
    let value = |name: &HeaderName, text: &str| {
        HeaderValue::from_bytes(text.as_bytes()).map_err(|_| Unsayable(name.to_string()))
    };
    headers.insert(REMOTE_USER, value(&REMOTE_USER, &user.name)?);
    if !user.uid.is_empty() {
        headers.insert(REMOTE_UID, value(&REMOTE_UID, &user.uid)?);
    }
    for group in &user.groups {
        headers.append(REMOTE_GROUP, value(&REMOTE_GROUP, group)?);
    }
    for (key, texts) in &user.extra {
        let name = format!("{REMOTE_EXTRA}{}", escaped(key));
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Unsayable(name))?;
        for text in texts {
            headers.append(name.clone(), value(&name, text)?);
        }
    }
    Ok(())
}

/// Removes what concerns one connection only.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let fixed = [
        CONNECTION,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ];
    for name in named.into_iter().chain(fixed) {
        headers.remove(name);
    }
}

fn strip_token(headers: &mut HeaderMap) {
    if !headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
        return;
    }
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let all = values.flat_map(|value| value.split(',')).map(str::trim);
    let left: Vec<&str> = all.filter(|one| !one.is_empty() && !one.starts_with(TOKEN_PROTOCOL)).collect();
    let left = HeaderValue::from_str(&left.join(", "));
    headers.remove(SEC_WEBSOCKET_PROTOCOL);
    if let Ok(left) = left
        && !left.is_empty()
    {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, left);
    }
}

fn says_who(name: &HeaderName) -> bool {
    let name = name.as_str();
    name == AUTHORIZATION.as_str()
        || name.starts_with("impersonate-")
        || [REMOTE_USER, REMOTE_UID, REMOTE_GROUP].iter().any(|known| name == known.as_str())
        || name.starts_with(REMOTE_EXTRA)
}

/// A key as part of a header's name: what may not stand there as `%XX`.
fn escaped(key: &str) -> String {
    let mut escaped = String::with_capacity(key.len());
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn passed(headers: &[(&'static str, &'static str)], user: &User) -> Result<String, Unsayable> {
        let mut request = http::Request::new(());
        *request.uri_mut() = "/apis/g/v1/things?watch=1".parse().unwrap();
        for (name, value) in headers {
            request.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        let (request, ()) = request.into_parts();
        let passed = passed_on(&request, user, "10.0.0.9".parse().unwrap())?;
        let mut told: Vec<String> =
            passed.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        told.retain(|line| !line.starts_with("x-forwarded-"));
        told.sort();
        Ok(told.join("\n"))
    }

    #[test]
    fn who_asks_is_told_by_this_server_alone() {
        let user = User {
            name: "ann".into(),
            uid: "u1".into(),
            groups: vec!["a".into(), "b".into()],
            extra: BTreeMap::from([("example.com/Scopes%".to_owned(), vec!["x".into(), "y".into()])]),
        };
        let headers = [
            ("authorization", "Bearer secret"),
            ("impersonate-user", "eve"),
            ("x-remote-user", "root"),
            ("x-remote-group", "system:masters"),
            ("x-remote-extra-evil", "yes"),
            ("accept", "application/json"),
            ("connection", "keep-alive, x-mine"),
            ("x-mine", "1"),
        ];
        assert_eq!(
            passed(&headers, &user).unwrap(),
            "accept: application/json\n\
             x-remote-extra-example.com%2fscopes%25: x\n\
             x-remote-extra-example.com%2fscopes%25: y\n\
             x-remote-group: a\n\
             x-remote-group: b\n\
             x-remote-uid: u1\n\
             x-remote-user: ann"
        );
        let broken = User { name: "a\nb".into(), ..User::default() };
        assert_eq!(passed(&[], &broken), Err(Unsayable("x-remote-user".into())));
    }

    #[test]
    fn upgrades_are_passed_on_without_their_tokens() {
        let user = User { name: "ann".into(), ..User::default() };
        let headers = [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-protocol", "base64url.bearer.authorization.k8s.io.c2VjcmV0, v4.channel.k8s.io"),
        ];
        assert_eq!(
            passed(&headers, &user).unwrap(),
            "connection: Upgrade\nsec-websocket-protocol: v4.channel.k8s.io\nupgrade: websocket\nx-remote-user: ann"
        );
    }
}
