//! Users whom a proxy in front has known: it shows its own certificate, and says in headers who asks (`--requestheader-*`).
//! Must never believe the headers of anybody else.

use std::collections::BTreeMap;

use barque_api::time::Time;
use http::HeaderMap;
use rustls::pki_types::CertificateDer;

use super::certificate::Authorities;
use super::impersonation::unescaped;
use crate::authorization::User;

/// A proxy, and where it says who asks.
#[derive(Clone, Debug)]
pub struct FrontProxy {
    /// Who signs its certificate.
    pub authorities: Authorities,
    /// Names that its certificate may have; empty for any.
    pub allowed_names: Vec<String>,
    /// Headers with the user's name, in lower case; the first that is there counts.
    pub username_headers: Vec<String>,
    /// Headers with the user's uid.
    pub uid_headers: Vec<String>,
    /// Headers with groups.
    pub group_headers: Vec<String>,
    /// What headers with other things begin with.
    pub extra_headers_prefix: Vec<String>,
}

impl FrontProxy {
    /// Who asks, if the request comes from the proxy and says so.
    #[must_use]
    pub fn user(&self, chain: &[CertificateDer<'_>], headers: &HeaderMap, now: Time) -> Option<User> {
        let text = |names: &[String]| {
            let first = names.iter().find_map(|name| headers.get(name.as_str()))?;
            first.to_str().ok().filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let name = text(&self.username_headers)?;
        let proxy = self.authorities.common_name(chain, now).ok()?;
        if !self.allowed_names.is_empty() && !self.allowed_names.contains(&proxy) {
            return None;
        }
        let groups = self.group_headers.iter().flat_map(|name| headers.get_all(name.as_str()));
        let groups = groups.filter_map(|value| value.to_str().ok()).map(str::to_owned).collect();
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (header, value) in headers {
            let key = self
                .extra_headers_prefix
                .iter()
                .find_map(|prefix| header.as_str().strip_prefix(prefix.as_str()));
            if let (Some(key), Ok(value)) = (key, value.to_str()) {
                extra.entry(unescaped(key)).or_default().push(value.to_owned());
            }
        }
        Some(User { name, uid: text(&self.uid_headers).unwrap_or_default(), groups, extra })
    }
}

#[cfg(test)]
mod tests {
    use super::super::certificate::tests::{authority, client};
    use super::*;

    #[test]
    fn headers_count_from_the_proxy_alone() {
        let (issuer, authorities) = authority();
        let proxy = FrontProxy {
            authorities,
            allowed_names: vec!["front".into()],
            username_headers: vec!["x-remote-user".into()],
            uid_headers: vec!["x-remote-uid".into()],
            group_headers: vec!["x-remote-group".into()],
            extra_headers_prefix: vec!["x-remote-extra-".into()],
        };
        let now = Time::of_unix(1_800_000_000);
        let mut headers = HeaderMap::new();
        headers.insert("x-remote-user", "eva".parse().unwrap());
        headers.append("x-remote-group", "a".parse().unwrap());
        headers.append("x-remote-group", "b".parse().unwrap());
        headers.insert("x-remote-extra-a%2fb", "c".parse().unwrap());
        let chain = [client(&issuer, "front", &[], |_| {})];
        let user = proxy.user(&chain, &headers, now).unwrap();
        assert_eq!((user.name.as_str(), user.groups.len()), ("eva", 2));
        assert_eq!(user.extra["a/b"], ["c"]);
        assert_eq!(proxy.user(&[client(&issuer, "other", &[], |_| {})], &headers, now), None);
        assert_eq!(proxy.user(&[client(&authority().0, "front", &[], |_| {})], &headers, now), None);
        assert_eq!(proxy.user(&[], &headers, now), None);
        assert_eq!(proxy.user(&chain, &HeaderMap::new(), now), None);
    }
}
