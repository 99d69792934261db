//! Where registries are: mirrors, TLS and credentials in the form of k3s' `registries.yaml`, and which endpoints serve an image, in
//! which order. Pure; never connects.

use std::collections::BTreeMap;
use std::path::PathBuf;

use regex::Regex;
use serde::Deserialize;

use crate::credentials::Credential;
use crate::error::{Error, Result};
use crate::reference::{DEFAULT_REGISTRY, Reference};

/// The registries of a node.
#[derive(Debug, Clone, Default)]
pub struct Registries {
    mirrors: BTreeMap<String, Mirror>,
    hosts: BTreeMap<String, Host>,
}

#[derive(Debug, Clone, Default)]
struct Mirror {
    endpoints: Vec<Base>,
    rewrites: Vec<(Regex, String)>,
}

/// What is special about a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) credential: Option<Credential>,
    pub(crate) tls: Tls,
}

/// How the other side is known, and who we are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tls {
    /// Certificates to trust besides those of the system, PEM.
    pub(crate) ca_file: Option<PathBuf>,
    /// Our certificate, PEM.
    pub(crate) cert_file: Option<PathBuf>,
    /// Its key, PEM.
    pub(crate) key_file: Option<PathBuf>,
    /// Whoever answers is believed.
    #[serde(default)]
    pub(crate) insecure_skip_verify: bool,
}

/// The start of a registry's URLs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Base {
    pub(crate) https: bool,
    /// Host and port.
    pub(crate) authority: String,
    /// Of the API, without a slash at the end.
    pub(crate) path: String,
}

/// One place to ask for an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) base: Base,
    /// The repository there.
    pub(crate) repository: String,
    /// The registry that a mirror stands for.
    pub(crate) mirrors: Option<String>,
    /// What is special about the host.
    pub(crate) host: Host,
    /// The next endpoint is the same registry without TLS: failing to connect here says nothing.
    pub(crate) try_plain_next: bool,
}

impl Base {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} must be a URL such as https://registry.example.com:5000");
        let with_scheme = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let uri: http::Uri = with_scheme.parse().map_err(|_| wrong())?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong()),
        };
        let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        if authority.is_empty() || authority.contains('@') || uri.query().is_some() {
            return Err(wrong());
        }
        let path = match uri.path().trim_end_matches('/') {
            "" => "/v2",
            path => path,
        };
        Ok(Self { https, authority: authority.to_owned(), path: path.to_owned() })
    }

    /// The start of URLs.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}{}", if self.https { "https" } else { "http" }, self.authority, self.path)
    }
}

impl Registries {
    /// Reads `registries.yaml`:
    ///
    /// ```yaml
    /// mirrors:
    ///   docker.io:
    ///     endpoint: ["https://mirror.example.com:5000"]
    ///     rewrite: {"^team/(.*)": "cache/$1"}
    ///   "*":
    ///     endpoint: ["https://everything.example.com"]
    /// configs:
    ///   mirror.example.com:5000:
    ///     auth: {username: me, password: secret}
    ///     tls: {ca_file: /etc/ca.pem, cert_file: ..., key_file: ..., insecure_skip_verify: false}
    /// ```
    ///
    /// # Errors
    /// When it is not of that form; the error names the place.
    pub fn from_yaml(text: &str) -> Result<Self> {
        let wrong = |why: String| Error::Configuration { file: "registries.yaml".into(), why };
        let file: File = if text.trim().is_empty() {
            File::default()
        } else {
            serde_saphyr::from_str(text).map_err(|error| wrong(error.to_string()))?
        };
        let mut registries = Self::default();
        for (registry, mirror) in file.mirrors.unwrap_or_default() {
            let mirror = mirror.unwrap_or_default();
            let mut read = Mirror::default();
            for endpoint in mirror.endpoint.unwrap_or_default() {
                let base = Base::parse(&endpoint)
                    .map_err(|why| wrong(format!("mirrors.{registry:?}.endpoint: {why}")))?;
                read.endpoints.push(base);
            }
            for (pattern, replacement) in mirror.rewrite.unwrap_or_default() {
                let pattern = Regex::new(&pattern)
                    .map_err(|error| wrong(format!("mirrors.{registry:?}.rewrite: {error}")))?;
                read.rewrites.push((pattern, replacement));
            }
            registries.mirrors.insert(canonical(&registry), read);
        }
        for (host, config) in file.configs.unwrap_or_default() {
            let config = config.unwrap_or_default();
            let credential = match config.auth {
                Some(auth) => {
                    auth.credential().map_err(|why| wrong(format!("configs.{host:?}.auth: {why}")))?
                }
                None => None,
            };
            let tls = config.tls.unwrap_or_default();
            if tls.cert_file.is_some() != tls.key_file.is_some() {
                let why = format!("configs.{host:?}.tls: cert_file and key_file belong together");
                return Err(wrong(why));
            }
            let name =
                host.strip_prefix("https://").or_else(|| host.strip_prefix("http://")).unwrap_or(&host);
            registries.hosts.insert(canonical(name.trim_end_matches('/')), Host { credential, tls });
        }
        Ok(registries)
    }

    /// Where to ask for an image: its mirrors in their order, then the registry itself.
    pub(crate) fn endpoints(&self, image: &Reference) -> Vec<Endpoint> {
        let mut endpoints = Vec::new();
        let mirror = self.mirrors.get(image.registry()).or_else(|| self.mirrors.get("*"));
        if let Some(mirror) = mirror {
            for base in &mirror.endpoints {
                let own = base.authority == image.registry();
                endpoints.push(Endpoint {
                    base: base.clone(),
                    repository: mirror.rewrite(image.repository()),
                    mirrors: (!own).then(|| image.registry().to_owned()),
                    host: self.host(&base.authority).cloned().unwrap_or_default(),
                    try_plain_next: false,
                });
            }
        }
        let authority = match image.registry() {
            DEFAULT_REGISTRY => "registry-1.docker.io",
            other => other,
        };
        let special = self.host(authority).or_else(|| self.host(image.registry())).cloned();
        // As Docker does: who is on this machine need not prove it, and may speak plainly.
        let local = is_local(authority);
        let known = special.is_some();
        let mut host = special.unwrap_or_default();
        if local && !known {
            host.tls.insecure_skip_verify = true;
        }
        let own = |https: bool, try_plain_next: bool| Endpoint {
            base: Base { https, authority: authority.to_owned(), path: "/v2".into() },
            repository: image.repository().to_owned(),
            mirrors: None,
            host: host.clone(),
            try_plain_next,
        };
        let mirrored = |https: bool| {
            endpoints
                .iter()
                .any(|endpoint| endpoint.base == own(https, false).base && endpoint.mirrors.is_none())
        };
        let mut last = Vec::new();
        if mirrored(false) {
            // The registry is served without TLS, as its own mirror says.
        } else if local && (!known || host.tls == Tls::default()) {
            last = vec![own(true, true), own(false, false)];
        } else if !mirrored(true) {
            last = vec![own(true, false)];
        }
        endpoints.extend(last);
        endpoints
    }

    fn host(&self, authority: &str) -> Option<&Host> {
        self.hosts.get(authority).or_else(|| self.hosts.get("*"))
    }
}

impl Mirror {
    /// The first pattern that matches replaces what it matches, as in k3s.
    fn rewrite(&self, repository: &str) -> String {
        let matching = self.rewrites.iter().find(|(pattern, _)| pattern.is_match(repository));
        matching.map_or_else(
            || repository.to_owned(),
            |(pattern, replacement)| pattern.replace_all(repository, replacement).into_owned(),
        )
    }
}

fn canonical(registry: &str) -> String {
    match registry {
        "index.docker.io" => DEFAULT_REGISTRY.to_owned(),
        other => other.to_owned(),
    }
}

fn is_local(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => host,
        _ => authority,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<core::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    mirrors: Option<BTreeMap<String, Option<MirrorFile>>>,
    configs: Option<BTreeMap<String, Option<HostFile>>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct MirrorFile {
    #[serde(alias = "endpoints")]
    endpoint: Option<Vec<String>>,
    rewrite: Option<BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct HostFile {
    auth: Option<Auth>,
    tls: Option<Tls>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Auth {
    username: String,
    password: String,
    auth: String,
    #[serde(alias = "identitytoken")]
    identity_token: String,
}

impl Auth {
    fn credential(self) -> Result<Option<Credential>, &'static str> {
        if !self.identity_token.is_empty() {
            Ok(Some(Credential::Identity(self.identity_token)))
        } else if !self.auth.is_empty() {
            let read = Credential::from_auth(&self.auth);
            read.map(Some).ok_or("auth must be a name and a password, joined by ':', in base64")
        } else if self.username.is_empty() {
            Ok(None)
        } else {
            Ok(Some(Credential::Basic { username: self.username, password: self.password }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YAML: &str = r#"
mirrors:
  docker.io:
    endpoint:
      - "https://mirror.example.com:5000"
      - "http://10.0.0.1:5000/proxy/v2/"
    rewrite:
      "^team/(.*)": "cache/$1"
  plain.example.com:
    endpoint: ["http://plain.example.com"]
  "*":
    endpoint: ["everything.example.com"]
configs:
  mirror.example.com:5000:
    auth:
      username: me
      password: secret
    tls:
      ca_file: /etc/ca.pem
"#;

    fn urls(registries: &Registries, image: &str) -> Vec<String> {
        let endpoints = registries.endpoints(&image.parse().unwrap());
        endpoints.iter().map(|endpoint| format!("{} {}", endpoint.base.url(), endpoint.repository)).collect()
    }

    #[test]
    fn mirrors_are_asked_in_their_order_and_the_registry_last() {
        let registries = Registries::from_yaml(YAML).unwrap();
        assert_eq!(
            urls(&registries, "team/app"),
            [
                "https://mirror.example.com:5000/v2 cache/app",
                "http://10.0.0.1:5000/proxy/v2 cache/app",
                "https://registry-1.docker.io/v2 team/app"
            ]
        );
        assert_eq!(
            urls(&registries, "quay.io/a"),
            ["https://everything.example.com/v2 a", "https://quay.io/v2 a"]
        );
        assert_eq!(urls(&registries, "plain.example.com/a"), ["http://plain.example.com/v2 a"]);
        let endpoints = registries.endpoints(&"busybox".parse().unwrap());
        assert!(endpoints[0].host.credential.is_some() && endpoints[0].host.tls.ca_file.is_some());
        assert_eq!(endpoints[0].mirrors.as_deref(), Some("docker.io"));
        assert_eq!((endpoints[2].mirrors.as_deref(), &endpoints[2].host), (None, &Host::default()));
    }

    #[test]
    fn registries_of_this_machine_may_speak_plainly() {
        let registries = Registries::default();
        for registry in ["localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000"] {
            assert_eq!(
                urls(&registries, &format!("{registry}/a")),
                [format!("https://{registry}/v2 a"), format!("http://{registry}/v2 a")]
            );
        }
        assert_eq!(urls(&registries, "10.0.0.1/a"), ["https://10.0.0.1/v2 a"]);
        let known = Registries::from_yaml("configs: {\"localhost:1\": {tls: {ca_file: /ca}}}").unwrap();
        let endpoints = known.endpoints(&"localhost:1/a".parse().unwrap());
        assert!(!endpoints[0].host.tls.insecure_skip_verify);
    }

    #[test]
    fn what_is_wrong_in_the_file_is_named() {
        for (text, part) in [
            ("mirrors: {a: {endpoint: [\"ftp://x\"]}}", "ftp://x"),
            ("mirrors: {a: {endpoint: [\"https://me:pw@x\"]}}", "must be a URL"),
            ("mirrors: {a: {rewrite: {\"(\": x}}}", "rewrite"),
            ("mirrors: {a: {endpont: []}}", "endpont"),
            ("configs: {a: {auth: {auth: \"!\"}}}", "base64"),
            ("configs: {a: {tls: {cert_file: /x}}}", "belong together"),
            ("mirror: {}", "mirror"),
        ] {
            let error = Registries::from_yaml(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(Registries::from_yaml("\n").is_ok());
        assert!(Registries::from_yaml("mirrors:\nconfigs:\n").is_ok());
    }
}
