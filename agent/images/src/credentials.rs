//! Credentials for registries, from the files that `docker login` and secrets of type `kubernetes.io/dockerconfigjson` and
//! `kubernetes.io/dockercfg` hold, chosen for an image by the kubelet's rules. Pure. Never shows a password.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::reference::Reference;

/// How to log in to a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A name and a password.
    Basic {
        /// The name.
        username: String,
        /// The password.
        password: String,
    },
    /// A token that tokens are got with (`identitytoken` of `docker login`).
    Identity(String),
    /// A token that is sent as it is (`registrytoken`).
    Bearer(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { username, .. } => write!(f, "Basic({username:?}, ..)"),
            Self::Identity(_) => f.write_str("Identity(..)"),
            Self::Bearer(_) => f.write_str("Bearer(..)"),
        }
    }
}

impl Credential {
    /// From the value of `auth`: the name and the password, joined by a colon, in base64.
    #[must_use]
    pub fn from_auth(auth: &str) -> Option<Self> {
        let decoded = STANDARD.decode(auth.trim().as_bytes()).ok()?;
        let text = String::from_utf8(decoded).ok()?;
        let (username, password) = text.split_once(':')?;
        // Some tools pad the password with zeros.
        let password = password.trim_matches('\0');
        Some(Self::Basic { username: username.to_owned(), password: password.to_owned() })
    }
}

/// Credentials by the registries they are for.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    entries: Vec<(Location, Credential)>,
}

/// `host[:port][/path]`, where labels of the host may have globs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Location {
    host: String,
    port: Option<String>,
    path: String,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
    #[serde(default)]
    identitytoken: String,
    #[serde(default)]
    registrytoken: String,
}

impl Keyring {
    /// Adds what a `config.json` of Docker or a `.dockerconfigjson` holds.
    ///
    /// # Errors
    /// When it is no such file.
    pub fn add_docker_config(&mut self, json: &[u8]) -> Result<()> {
        #[derive(Deserialize)]
        struct File {
            #[serde(default)]
            auths: BTreeMap<String, Entry>,
        }
        let file: File =
            serde_json::from_slice(json).map_err(|error| malformed(".dockerconfigjson", &error))?;
        self.add(file.auths)
    }

    /// Adds what a `.dockercfg` holds, the form before `config.json`.
    ///
    /// # Errors
    /// When it is no such file.
    pub fn add_legacy_docker_config(&mut self, json: &[u8]) -> Result<()> {
        let entries = serde_json::from_slice(json).map_err(|error| malformed(".dockercfg", &error))?;
        self.add(entries)
    }

    /// Adds one for a registry, as `quay.io`, `*.example.com` or `registry:5000/team`.
    pub fn insert(&mut self, registry: &str, credential: Credential) {
        self.entries.push((Location::parse(registry), credential));
        // The most special first; of equals, those that came first.
        self.entries.sort_by_cached_key(|(location, _)| std::cmp::Reverse(location.text()));
    }

    fn add(&mut self, entries: BTreeMap<String, Entry>) -> Result<()> {
        for (registry, entry) in entries {
            let credential = if !entry.identitytoken.is_empty() {
                Credential::Identity(entry.identitytoken)
            } else if !entry.registrytoken.is_empty() {
                Credential::Bearer(entry.registrytoken)
            } else if !entry.auth.is_empty() {
                Credential::from_auth(&entry.auth).ok_or_else(|| Error::Configuration {
                    file: format!("auth of {registry}"),
                    why: "it must be a name and a password, joined by ':', in base64".into(),
                })?
            } else if entry.username.is_empty() && entry.password.is_empty() {
                // What a credential helper keeps is not here.
                continue;
            } else {
                Credential::Basic { username: entry.username, password: entry.password }
            };
            self.insert(&registry, credential);
        }
        Ok(())
    }

    /// Those for an image, in the order in which they are tried.
    #[must_use]
    pub fn lookup(&self, image: &Reference) -> Vec<Credential> {
        let name = Location::parse(&image.name());
        let mut found: Vec<Credential> = Vec::new();
        for (location, credential) in &self.entries {
            if location.matches(&name) && !found.contains(credential) {
                found.push(credential.clone());
            }
        }
        found
    }
}

impl Location {
    /// From a key of a file: schemes and the paths of Docker's API versions say nothing; Docker Hub has many names.
    fn parse(text: &str) -> Self {
        let text = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
        let (authority, path) = text.split_once('/').unwrap_or((text, ""));
        let path = path.trim_end_matches('/');
        let path = match path {
            "v1" | "v2" => "",
            _ => path.strip_prefix("v1/").or_else(|| path.strip_prefix("v2/")).unwrap_or(path),
        };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port.to_owned())),
            _ => (authority, None),
        };
        let host = match host {
            "index.docker.io" | "registry-1.docker.io" | "hub.docker.com" => "docker.io",
            other => other,
        };
        Self { host: host.to_owned(), port, path: path.to_owned() }
    }

    fn text(&self) -> String {
        let port = self.port.as_deref().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}{port}/{}", self.host, self.path)
    }

    /// As many labels, each alike; the same port; the path begins with ours.
    fn matches(&self, image: &Self) -> bool {
        let (ours, theirs): (Vec<&str>, Vec<&str>) =
            (self.host.split('.').collect(), image.host.split('.').collect());
        self.port == image.port
            && ours.len() == theirs.len()
            && ours.iter().zip(&theirs).all(|(pattern, label)| glob(pattern.as_bytes(), label.as_bytes()))
            && image.path.starts_with(&self.path)
    }
}

/// `*` stands for any characters, `?` for one.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            glob(rest, text) || text.split_first().is_some_and(|(_, shorter)| glob(pattern, shorter))
        }
        (Some((b'?', rest)), Some((_, shorter))) => glob(rest, shorter),
        (Some((a, rest)), Some((b, shorter))) => a == b && glob(rest, shorter),
        _ => false,
    }
}

fn malformed(file: &str, error: &serde_json::Error) -> Error {
    // The place only: the text of the error could show a secret.
    let why = format!("it is not what Docker writes (line {}, column {})", error.line(), error.column());
    Error::Configuration { file: file.into(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(keyring: &Keyring, image: &str) -> Vec<String> {
        let found = keyring.lookup(&image.parse().unwrap());
        found
            .into_iter()
            .map(|credential| match credential {
                Credential::Basic { username, .. } => username,
                other => format!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn images_find_the_credentials_that_the_kubelet_would_use() {
        let mut keyring = Keyring::default();
        for (registry, name) in [
            ("https://index.docker.io/v1/", "hub"),
            ("quay.io", "quay"),
            ("quay.io/team", "team"),
            ("quay.io/team/app", "app"),
            ("*.example.com", "glob"),
            ("reg*.example.com", "reg"),
            ("registry:5000", "port"),
            ("http://plain/v2/", "plain"),
        ] {
            let credential = Credential::Basic { username: name.into(), password: "p".into() };
            keyring.insert(registry, credential);
        }
        for (image, expected) in [
            ("busybox", &["hub"][..]),
            ("docker.io/team/app", &["hub"]),
            ("quay.io/other", &["quay"]),
            ("quay.io/team/app:v1", &["app", "team", "quay"]),
            ("quay.io/team/b", &["team", "quay"]),
            ("reg1.example.com/a", &["reg", "glob"]),
            ("a.b.example.com/a", &[]),
            ("example.com/a", &[]),
            ("registry:5000/a", &["port"]),
            ("registry:5001/a", &[]),
            ("quay.io:443/a", &[]),
        ] {
            assert_eq!(names(&keyring, image), expected, "{image}");
        }
    }

    #[test]
    fn files_of_both_forms_are_read() {
        let mut keyring = Keyring::default();
        let auth = STANDARD.encode("me:se:cret");
        let entries = format!(
            r#"{{"a.io":{{"auth":"{auth}"}},"b.io":{{"username":"u","password":"p","email":"x"}},
                "c.io":{{"identitytoken":"t"}},"d.io":{{}}}}"#
        );
        keyring.add_docker_config(format!(r#"{{"auths":{entries},"credsStore":"x"}}"#).as_bytes()).unwrap();
        keyring.add_legacy_docker_config(entries.as_bytes()).unwrap();
        let lookup = |image: &str| keyring.lookup(&image.parse().unwrap());
        let secret = Credential::Basic { username: "me".into(), password: "se:cret".into() };
        assert_eq!(lookup("a.io/x"), [secret]);
        assert_eq!(lookup("b.io/x").len(), 1);
        assert_eq!(lookup("c.io/x"), [Credential::Identity("t".into())]);
        assert!(lookup("d.io/x").is_empty());
        assert!(!format!("{keyring:?}").contains("cret"));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_secret() {
        let mut keyring = Keyring::default();
        let error = keyring.add_docker_config(br#"{"auths":{"a.io":{"auth":"no!"}}}"#).unwrap_err();
        assert!(error.to_string().contains("a.io"), "{error}");
        let error = keyring.add_docker_config(br#"{"auths":{"a.io":{"auth":["hunter2"]}}}"#).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
