//! Which headers of a request and of its answer are passed on, and what is said of where they come from. Pure; must never let
//! through what proves to others who the client is.

use std::net::IpAddr;

use barque_streams::upgrade::{is_upgrade, protocols};
use http::header::{
    AUTHORIZATION, CONNECTION, HOST, LOCATION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION,
    SEC_WEBSOCKET_PROTOCOL, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");

/// The host that the client means; HTTP/2 has it in the address.
#[must_use]
pub fn host(request: &http::request::Parts) -> Option<HeaderValue> {
    let of_address =
        || request.uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    request.headers.get(HOST).cloned().or_else(of_address)
}

/// The headers of a request as they are passed on to somebody else, who is told whence they come.
#[must_use]
pub fn passed_on(request: &http::request::Parts, client: IpAddr) -> HeaderMap {
    let mut headers = request.headers.clone();
    let upgrade = if is_upgrade(&headers) { headers.get(UPGRADE).cloned() } else { None };
    strip_hop_by_hop(&mut headers);
    let identity: Vec<HeaderName> = headers.keys().filter(|name| says_who(name)).cloned().collect();
    for name in identity {
        headers.remove(name);
    }
    if headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
        let left = protocols(&request.headers).join(", ");
        headers.remove(SEC_WEBSOCKET_PROTOCOL);
        if let Ok(value) = HeaderValue::from_str(&left)
            && !left.is_empty()
        {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, value);
        }
    }
    if let Some(upgrade) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, upgrade);
    }
    if let Some(host) = host(request) {
        headers.insert(FORWARDED_HOST, host.clone());
        headers.insert(HOST, host);
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
    headers
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
    for name in named {
        headers.remove(name);
    }
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
    for name in fixed {
        headers.remove(name);
    }
}

fn says_who(name: &HeaderName) -> bool {
    let name = name.as_str();
    name == AUTHORIZATION.as_str()
        || name.starts_with("impersonate-")
        || name == "x-remote-user"
        || name == "x-remote-uid"
        || name == "x-remote-group"
        || name.starts_with("x-remote-extra-")
}

/// Rewrites where an answer sends the client, so that it stays behind the proxy: a path of the same host gets in front of
/// it what stood before the proxied path.
///
/// `asked` is the path of the request, `proxied` what of it was passed on, `backend` the authority it went to.
pub fn keep_behind_proxy(headers: &mut HeaderMap, asked: &str, proxied: &str, backend: &str) {
    let Some(location) = headers.get(LOCATION).and_then(|value| value.to_str().ok()) else { return };
    let Ok(address) = location.parse::<http::Uri>() else { return };
    let elsewhere = address.authority().is_some_and(|authority| authority.as_str() != backend);
    if elsewhere
        || !address.path().starts_with('/')
        || (address.authority().is_none() && !location.starts_with('/'))
    {
        return;
    }
    let prefix = asked.strip_suffix(proxied).unwrap_or(asked).trim_end_matches('/');
    let query = address.query().map(|query| format!("?{query}")).unwrap_or_default();
    let fragment = location.split_once('#').map(|(_, text)| format!("#{text}")).unwrap_or_default();
    let path = address.path();
    let rewritten = if path.starts_with(prefix) {
        format!("{path}{query}{fragment}")
    } else {
        format!("{prefix}{path}{query}{fragment}")
    };
    if let Ok(value) = HeaderValue::from_str(&rewritten) {
        headers.insert(LOCATION, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&str, &str)]) -> http::request::Parts {
        let mut builder = http::Request::builder().uri("/api/v1/x/proxy/a?b=c");
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap().into_parts().0
    }

    fn passed(headers: &[(&str, &str)]) -> HeaderMap {
        passed_on(&request(headers), "192.0.2.7".parse().unwrap())
    }

    #[test]
    fn nothing_that_proves_who_the_client_is_goes_on() {
        let headers = passed(&[
            ("authorization", "Bearer secret"),
            ("impersonate-user", "root"),
            ("impersonate-extra-a", "b"),
            ("x-remote-user", "root"),
            ("x-remote-group", "system:masters"),
            ("x-remote-extra-a", "b"),
            ("proxy-authorization", "Basic x"),
            ("sec-websocket-protocol", "base64url.bearer.authorization.k8s.io.c2VjcmV0, v5.channel.k8s.io"),
            ("accept", "text/plain"),
        ]);
        let told = format!("{headers:?}");
        for secret in ["secret", "c2VjcmV0", "root", "masters", "extra", "Basic"] {
            assert!(!told.contains(secret), "{told}");
        }
        assert_eq!(headers["accept"], "text/plain");
        assert_eq!(headers["sec-websocket-protocol"], "v5.channel.k8s.io");
    }

    #[test]
    fn it_is_told_whence_a_request_comes() {
        let headers = passed(&[("host", "api.example:6443"), ("x-forwarded-for", "198.51.100.1")]);
        assert_eq!(headers["x-forwarded-for"], "198.51.100.1, 192.0.2.7");
        assert_eq!(headers["x-forwarded-host"], "api.example:6443");
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(headers["x-forwarded-uri"], "/api/v1/x/proxy/a");
        assert_eq!(headers["host"], "api.example:6443");
    }

    #[test]
    fn what_concerns_one_connection_stays_there_but_for_upgrades() {
        let headers = passed(&[
            ("connection", "keep-alive, x-own"),
            ("x-own", "1"),
            ("te", "trailers"),
            ("upgrade", "websocket"),
        ]);
        for name in ["connection", "x-own", "te", "upgrade"] {
            assert!(!headers.contains_key(name), "{name}");
        }
        let headers = passed(&[
            ("connection", "upgrade"),
            ("upgrade", "SPDY/3.1"),
            ("x-stream-protocol-version", "v4"),
        ]);
        assert_eq!(
            (&headers["connection"], &headers["upgrade"]),
            (&HeaderValue::from_static("Upgrade"), &HeaderValue::from_static("SPDY/3.1"))
        );
        assert_eq!(headers["x-stream-protocol-version"], "v4");
    }

    #[test]
    fn a_location_stays_behind_the_proxy() {
        let table = [
            ("/login?next=1", "/api/v1/x/proxy/login?next=1"),
            ("http://10.0.0.1:80/login", "/api/v1/x/proxy/login"),
            ("https://elsewhere.example/login", "https://elsewhere.example/login"),
            ("/api/v1/x/proxy/b", "/api/v1/x/proxy/b"),
            ("b/c", "b/c"),
        ];
        for (location, wanted) in table {
            let mut headers = HeaderMap::new();
            headers.insert(LOCATION, HeaderValue::from_static(location));
            keep_behind_proxy(&mut headers, "/api/v1/x/proxy/a", "/a", "10.0.0.1:80");
            assert_eq!(headers[LOCATION], wanted);
        }
    }
}
