//! Addresses of members as users write them.

use std::fmt;

/// One member's client address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// As it was written; it is what answers show.
    text: String,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) scheme: Option<Scheme>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Endpoint {
    /// Reads `host:port`, `http://host:port` or `https://host:port`.
    ///
    /// # Errors
    /// A sentence that names the endpoint and what would be right.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (scheme, address) = match text.split_once("://") {
            Some(("http", address)) => (Some(Scheme::Http), address),
            Some(("https", address)) => (Some(Scheme::Https), address),
            Some((other, _)) => {
                return Err(format!(
                    "the endpoint {text:?} begins with {other}://: it must be http:// or https://"
                ));
            }
            None => (None, text),
        };
        let address = address.trim_end_matches('/');
        let (host, port) = address
            .rsplit_once(':')
            .and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)))
            .filter(|(host, port)| !host.is_empty() && *port != 0 && !host.contains('/'))
            .ok_or_else(|| format!("the endpoint {text:?} is not host:port, such as 127.0.0.1:2379"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { text: text.to_owned(), host, port, scheme })
    }

    /// Whether TLS is spoken there; an address without a scheme follows the flags.
    pub(super) fn is_tls(&self, flags_ask_for_tls: bool) -> bool {
        match self.scheme {
            Some(scheme) => scheme == Scheme::Https,
            None => flags_ask_for_tls,
        }
    }

    /// The host as it stands in a URL.
    pub(super) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_host_and_port_with_or_without_a_scheme() {
        for (text, host, port, scheme) in [
            ("127.0.0.1:2379", "127.0.0.1", 2379, None),
            (" http://a.b:1/ ", "a.b", 1, Some(Scheme::Http)),
            ("https://[::1]:2379", "::1", 2379, Some(Scheme::Https)),
        ] {
            let endpoint = Endpoint::parse(text).unwrap();
            assert_eq!((endpoint.host.as_str(), endpoint.port, endpoint.scheme), (host, port, scheme));
            assert_eq!(endpoint.to_string(), text.trim());
        }
        assert_eq!(Endpoint::parse("https://[::1]:2379").unwrap().authority(), "[::1]:2379");
        for bad in ["", "a", ":1", "a:0", "a:b", "a:99999", "unix://x:1", "http://a/b:1"] {
            assert!(Endpoint::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn flags_decide_only_where_no_scheme_does() {
        let tls = |text: &str, flags| Endpoint::parse(text).unwrap().is_tls(flags);
        assert!(tls("a:1", true) && !tls("a:1", false));
        assert!(tls("https://a:1", false) && !tls("http://a:1", true));
    }
}
