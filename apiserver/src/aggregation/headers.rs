//! How the service that serves a group is told who asks. Pure; must never repeat what a client says of itself.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::authorization::User;
use crate::relay;

const REMOTE_USER: HeaderName = HeaderName::from_static("x-remote-user");
const REMOTE_UID: HeaderName = HeaderName::from_static("x-remote-uid");
const REMOTE_GROUP: HeaderName = HeaderName::from_static("x-remote-group");
const REMOTE_EXTRA: &str = "x-remote-extra-";

/// Something about a user that no header can say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("net/http: invalid header field value for {0:?}")]
pub struct Unsayable(pub String);

/// The headers of a request as they are passed on.
///
/// # Errors
/// When it cannot be said who asks.
pub fn passed_on(
    request: &http::request::Parts,
    user: &User,
    client: IpAddr,
) -> Result<HeaderMap, Unsayable> {
    let mut headers = relay::headers::passed_on(request, client);
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
