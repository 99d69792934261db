//! Requests that want to leave HTTP: how that is told from their headers, and what is spoken then. Pure; must never judge who
//! may.

use http::header::{CONNECTION, CONTENT_TYPE, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use crate::websocket::{self, Protocol};

/// A token that browsers hide among the protocols, as they cannot send the header for it.
const TOKEN_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// Whether a request wants to leave HTTP.
#[must_use]
pub fn is_upgrade(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.any(|value| value.to_ascii_lowercase().contains("upgrade"))
}

/// Whether a request wants to become a WebSocket.
#[must_use]
pub fn is_websocket(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(UPGRADE).and_then(|value| value.to_str().ok());
    is_upgrade(headers) && upgrade.is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
}

/// The protocols of a WebSocket in the client's order, without tokens.
#[must_use]
pub fn protocols(headers: &HeaderMap) -> Vec<&str> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let all = values.flat_map(|value| value.split(',')).map(str::trim);
    all.filter(|one| !one.is_empty() && !one.starts_with(TOKEN_PROTOCOL)).collect()
}

/// What a client names the protocols inside of SPDY with, and is answered with.
const INNER_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
/// What a client that named none of ours is told.
const KNOWN_PROTOCOLS: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");
const SPDY: &str = "SPDY/3.1";

/// What streams are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Something runs in a container.
    Process,
    /// Ports of a pod are forwarded.
    Ports,
}

/// How a process is spoken of inside of SPDY, from the oldest to the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// `channel.k8s.io`, and who names none.
    V1,
    /// `v2.channel.k8s.io`
    V2,
    /// `v3.channel.k8s.io`: a terminal's size can change.
    V3,
    /// `v4.channel.k8s.io`: the end is told as a Status, with the exit code.
    V4,
}

impl Version {
    const NEWEST_FIRST: [Self; 4] = [Self::V4, Self::V3, Self::V2, Self::V1];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V1 => "channel.k8s.io",
            Self::V2 => "v2.channel.k8s.io",
            Self::V3 => "v3.channel.k8s.io",
            Self::V4 => "v4.channel.k8s.io",
        }
    }
}

/// The protocol of forwarded ports inside of SPDY.
pub const PORTS: &str = "portforward.k8s.io";

/// What is spoken on a connection that left HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    /// SPDY/3.1; the version matters to processes only.
    Spdy(Version),
    /// A WebSocket.
    WebSocket(Protocol),
}

/// Why a connection does not leave HTTP.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is no upgrade to anything that is spoken here.
    #[error("unable to upgrade: missing upgrade headers in request")]
    NoUpgrade,
    /// A WebSocket without a key.
    #[error("unable to upgrade: Sec-WebSocket-Key is missing")]
    NoKey,
    /// No protocol that both know.
    #[error(
        "unable to upgrade: unable to negotiate protocol: client supports [{}], server accepts [{}]",
        offered.join(" "),
        known.join(" ")
    )]
    NoProtocol {
        /// What the client knows.
        offered: Vec<String>,
        /// What is known here.
        known: Vec<&'static str>,
    },
}

impl Refusal {
    /// The answer, with the sentence as its body.
    #[must_use]
    pub fn answer(&self) -> Response<String> {
        let mut response = Response::new(format!("{self}\n"));
        *response.status_mut() = StatusCode::BAD_REQUEST;
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, plain);
        if let Self::NoProtocol { known, .. } = self {
            *response.status_mut() = StatusCode::FORBIDDEN;
            for one in known {
                response.headers_mut().append(KNOWN_PROTOCOLS, HeaderValue::from_static(one));
            }
        }
        response
    }
}

/// Chooses what is spoken with a client, and the head of the answer that begins it.
///
/// # Errors
/// Why the connection stays with HTTP.
pub fn negotiate(request: &HeaderMap, purpose: Purpose) -> Result<(Spoken, Response<()>), Refusal> {
    if is_websocket(request) {
        let offered = protocols(request);
        let known = Protocol::known_to_servers(purpose);
        let chosen = offered.iter().find_map(|name| known.iter().find(|one| one.name() == *name));
        let Some(chosen) = chosen.copied() else {
            let offered = offered.into_iter().map(str::to_owned).collect();
            return Err(Refusal::NoProtocol { offered, known: known.iter().map(|one| one.name()).collect() });
        };
        let response = websocket::accepted(request, Some(chosen)).ok_or(Refusal::NoKey)?;
        return Ok((Spoken::WebSocket(chosen), response));
    }
    let to = request.get(UPGRADE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !is_upgrade(request) || !to.to_ascii_lowercase().contains("spdy/3.1") {
        return Err(Refusal::NoUpgrade);
    }
    let values = request.get_all(INNER_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let offered: Vec<String> =
        values.flat_map(|value| value.split(',')).map(|one| one.trim().to_owned()).collect();
    let known: Vec<&'static str> = match purpose {
        Purpose::Process => Version::NEWEST_FIRST.map(Version::name).to_vec(),
        Purpose::Ports => vec![PORTS],
    };
    let chosen = offered.iter().find_map(|name| known.iter().find(|one| **one == name.as_str())).copied();
    if chosen.is_none() && !offered.is_empty() {
        return Err(Refusal::NoProtocol { offered, known });
    }
    let version = Version::NEWEST_FIRST.into_iter().find(|one| Some(one.name()) == chosen);
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(SPDY));
    if let Some(chosen) = chosen {
        headers.insert(INNER_PROTOCOL, HeaderValue::from_static(chosen));
    }
    Ok((Spoken::Spdy(version.unwrap_or(Version::V1)), response))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        pairs.collect()
    }

    fn spdy(inner: &[&'static str]) -> HeaderMap {
        let mut headers = request(&[("connection", "Upgrade"), ("upgrade", "SPDY/3.1")]);
        for one in inner {
            headers.append(INNER_PROTOCOL, HeaderValue::from_static(one));
        }
        headers
    }

    #[test]
    fn the_clients_first_protocol_that_is_known_is_chosen() {
        let chosen = |offered: &[&'static str], purpose| {
            negotiate(&spdy(offered), purpose)
                .map(|(spoken, answer)| (spoken, answer.headers().get(INNER_PROTOCOL).cloned()))
        };
        let named = |name| Some(HeaderValue::from_static(name));
        let table: [(&[&'static str], Version, Option<HeaderValue>); 4] = [
            (&["v5.channel.k8s.io", "v4.channel.k8s.io"], Version::V4, named("v4.channel.k8s.io")),
            (&["v2.channel.k8s.io, channel.k8s.io"], Version::V2, named("v2.channel.k8s.io")),
            (&["channel.k8s.io"], Version::V1, named("channel.k8s.io")),
            (&[], Version::V1, None),
        ];
        for (offered, version, answered) in table {
            assert_eq!(chosen(offered, Purpose::Process), Ok((Spoken::Spdy(version), answered)));
        }
        assert!(chosen(&["portforward.k8s.io"], Purpose::Ports).is_ok());
        let refused = chosen(&["v9.channel.k8s.io"], Purpose::Ports).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "unable to upgrade: unable to negotiate protocol: client supports [v9.channel.k8s.io], server accepts \
             [portforward.k8s.io]"
        );
        assert_eq!(refused.answer().status(), 403);
    }

    #[test]
    fn what_is_no_upgrade_stays_with_http() {
        let table = [
            (request(&[]), Refusal::NoUpgrade),
            (request(&[("upgrade", "SPDY/3.1")]), Refusal::NoUpgrade),
            (request(&[("connection", "upgrade"), ("upgrade", "h2c")]), Refusal::NoUpgrade),
            (
                request(&[
                    ("connection", "upgrade"),
                    ("upgrade", "websocket"),
                    ("sec-websocket-protocol", "v5.channel.k8s.io"),
                ]),
                Refusal::NoKey,
            ),
        ];
        for (headers, refusal) in table {
            assert_eq!(negotiate(&headers, Purpose::Process).map(|_| ()), Err(refusal.clone()));
            assert_eq!(refusal.answer().status(), 400);
        }
    }
}
