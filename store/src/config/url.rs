//! A member's URL: scheme, host and port, nothing else.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use thiserror::Error;

/// How to speak on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// Plain.
    Http,
    /// TLS.
    Https,
}

/// `http://host:port` or `https://host:port`. Text in, the same text out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Url {
    /// Plain or TLS.
    pub scheme: Scheme,
    /// A name or an address; an IPv6 address without its brackets.
    pub host: String,
    /// TCP port; 0 only for listening, where the system then chooses one.
    pub port: u16,
}

/// Why a text is not a member's URL.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UrlError {
    /// Other scheme, or none.
    #[error("the URL must begin with http:// or https://")]
    Scheme,
    /// No port, or not a number up to 65535.
    #[error("the URL must have the form scheme://host:port")]
    HostPort,
    /// Something after the port.
    #[error("the URL must end after the port, without a path")]
    Path,
    /// A name where an address must be.
    #[error("the host must be an IP address or localhost, because it is bound; 0.0.0.0 is all addresses")]
    NotAnAddress,
    /// Nobody can connect to port 0.
    #[error("the port must not be 0: others connect to it")]
    PortZero,
    /// Nobody can connect to a wildcard.
    #[error("the host must be one that others reach, not the wildcard address")]
    Wildcard,
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let text = text.trim();
        let (scheme, rest) = if let Some(rest) = text.strip_prefix("http://") {
            (Scheme::Http, rest)
        } else if let Some(rest) = text.strip_prefix("https://") {
            (Scheme::Https, rest)
        } else {
            return Err(UrlError::Scheme);
        };
        if rest.contains(['/', '?', '#']) {
            return Err(UrlError::Path);
        }
        let (host, port) = rest.rsplit_once(':').ok_or(UrlError::HostPort)?;
        if !port.bytes().all(|b| b.is_ascii_digit()) {
            return Err(UrlError::HostPort);
        }
        let port = port.parse().map_err(|_| UrlError::HostPort)?;
        let host = match host.strip_prefix('[') {
            Some(host) => {
                let host = host.strip_suffix(']').ok_or(UrlError::HostPort)?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| UrlError::HostPort)?;
                host
            }
            None if host.contains([':', '@', '[', ']', ' ']) => return Err(UrlError::HostPort),
            None => host,
        };
        if host.is_empty() {
            return Err(UrlError::HostPort);
        }
        Ok(Self { scheme, host: host.into(), port })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

impl Url {
    /// Whether connections carry TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.scheme == Scheme::Https
    }

    /// The address to bind. `localhost` is 127.0.0.1.
    ///
    /// # Errors
    /// The host is a name.
    pub fn bind_address(&self) -> Result<SocketAddr, UrlError> {
        let ip = if self.host == "localhost" {
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        } else {
            self.host.parse().map_err(|_| UrlError::NotAnAddress)?
        };
        Ok(SocketAddr::new(ip, self.port))
    }

    /// Whether others can connect to it by this text.
    ///
    /// # Errors
    /// Port 0 or a wildcard address.
    pub fn check_advertised(&self) -> Result<(), UrlError> {
        if self.port == 0 {
            return Err(UrlError::PortZero);
        }
        match self.host.parse::<IpAddr>() {
            Ok(ip) if ip.is_unspecified() => Err(UrlError::Wildcard),
            _ => Ok(()),
        }
    }
}
