//! An EncryptionConfiguration, checked: which providers serve which collection. Pure.

use std::sync::Arc;

use barque_api::kind::GroupResource;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

use super::provider::{Key, Kind, Provider, Providers};

/// What is wrong with a configuration: the field, and what would be right. Never the secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("EncryptionConfiguration: {0}")]
pub struct EncryptionError(String);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Configuration {
    api_version: String,
    kind: String,
    resources: Vec<Resources>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resources {
    resources: Vec<String>,
    providers: Vec<ProviderConfig>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProviderConfig {
    aesgcm: Option<Keys>,
    aescbc: Option<Keys>,
    secretbox: Option<Keys>,
    identity: Option<Identity>,
    kms: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    keys: Vec<KeyConfig>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyConfig {
    name: String,
    secret: String,
}

/// Which collections an entry is for.
#[derive(Debug)]
struct Names {
    /// `*` for all.
    resource: String,
    /// `*` for all.
    group: String,
}

impl Names {
    fn include(&self, resource: &GroupResource) -> bool {
        (self.resource == "*" || *self.resource == *resource.resource)
            && (self.group == "*" || *self.group == *resource.group)
    }
}

/// See the module's description.
pub(super) struct Config {
    lists: Vec<(Vec<Names>, Arc<Providers>)>,
    /// What it was made of, to see whether another one says the same.
    pub(super) source: Value,
}

impl Config {
    pub(super) const fn none() -> Self {
        Self { lists: Vec::new(), source: Value::Null }
    }

    pub(super) fn read(configuration: &Value) -> Result<Self, EncryptionError> {
        let wrong = |why: String| EncryptionError(why);
        let read = Configuration::deserialize(configuration).map_err(|error| wrong(error.to_string()))?;
        if read.api_version != "apiserver.config.k8s.io/v1" || read.kind != "EncryptionConfiguration" {
            let why = "apiVersion and kind must be apiserver.config.k8s.io/v1 and EncryptionConfiguration";
            return Err(wrong(why.to_owned()));
        }
        if read.resources.is_empty() {
            return Err(wrong("resources: at least one entry is required".to_owned()));
        }
        let mut lists = Vec::new();
        for (at, entry) in read.resources.iter().enumerate() {
            let place = format!("resources[{at}]");
            lists.push((names(&place, &entry.resources)?, Arc::new(providers(&place, &entry.providers)?)));
        }
        Ok(Self { lists, source: configuration.clone() })
    }

    /// The first entry that includes a collection counts.
    pub(super) fn providers(&self, resource: &GroupResource) -> Option<Arc<Providers>> {
        let found = self.lists.iter().find(|(names, _)| names.iter().any(|names| names.include(resource)));
        found.map(|(_, providers)| Arc::clone(providers))
    }
}

fn names(place: &str, resources: &[String]) -> Result<Vec<Names>, EncryptionError> {
    if resources.is_empty() {
        return Err(EncryptionError(format!("{place}.resources: at least one resource is required")));
    }
    let read = |(at, text): (usize, &String)| {
        let wrong = |why: &str| EncryptionError(format!("{place}.resources[{at}]: {text:?}: {why}"));
        if text.is_empty() || text.chars().any(|letter| letter.is_ascii_uppercase()) {
            return Err(wrong("must be the name of a resource in small letters"));
        }
        if text == "*" {
            return Err(wrong("write '*.' for all resources of the core group, or '*.*' for all resources"));
        }
        let (resource, group) = text.split_once('.').unwrap_or((text, ""));
        match (resource, group) {
            (_, "events.k8s.io") => Err(wrong("these are stored as 'events'; name those")),
            (_, "extensions") => Err(wrong("this group is no longer there")),
            (resource, "*") if resource != "*" => {
                Err(wrong("one resource cannot be encrypted across groups; write '*.*'"))
            }
            _ => Ok(Names { resource: resource.to_owned(), group: group.to_owned() }),
        }
    };
    let names: Vec<Names> = resources.iter().enumerate().map(read).collect::<Result<_, _>>()?;
    for (at, names_here) in names.iter().enumerate() {
        let exact = GroupResource::new(&names_here.group, &names_here.resource);
        let masked = names.iter().enumerate().any(|(other, wider)| other != at && wider.include(&exact));
        if masked {
            let text = &resources[at];
            let why =
                format!("{place}.resources[{at}]: {text:?}: another name of the list includes it already");
            return Err(EncryptionError(why));
        }
    }
    Ok(names)
}

fn providers(place: &str, configs: &[ProviderConfig]) -> Result<Providers, EncryptionError> {
    if configs.is_empty() {
        return Err(EncryptionError(format!("{place}.providers: at least one provider is required")));
    }
    let mut providers = Vec::new();
    for (at, config) in configs.iter().enumerate() {
        let place = format!("{place}.providers[{at}]");
        if config.kms.is_some() {
            return Err(EncryptionError(format!("{place}.kms: this provider is not supported")));
        }
        let kinds = [
            (Kind::AesGcm, &config.aesgcm),
            (Kind::AesCbc, &config.aescbc),
            (Kind::Secretbox, &config.secretbox),
        ];
        let mut given: Vec<Provider> = Vec::new();
        for (kind, keys) in kinds {
            if let Some(keys) = keys {
                given.push(Provider::Keys(kind, read_keys(&format!("{place}.{}", kind.name()), kind, keys)?));
            }
        }
        given.extend(config.identity.as_ref().map(|_| Provider::Identity));
        match (given.pop(), given.is_empty()) {
            (Some(provider), true) => providers.push(provider),
            _ => return Err(EncryptionError(format!("{place}: exactly one provider must stand here"))),
        }
    }
    Ok(Providers(providers))
}

fn read_keys(place: &str, kind: Kind, keys: &Keys) -> Result<Vec<Key>, EncryptionError> {
    if keys.keys.is_empty() {
        return Err(EncryptionError(format!("{place}.keys: at least one key is required")));
    }
    let read = |(at, key): (usize, &KeyConfig)| {
        let wrong = |why: String| EncryptionError(format!("{place}.keys[{at}]{why}"));
        if key.name.is_empty() || key.name.contains(':') {
            return Err(wrong(".name: must be given, without a colon".to_owned()));
        }
        if keys.keys[..at].iter().any(|before| before.name == key.name) {
            return Err(wrong(format!(".name: {:?} is there twice", key.name)));
        }
        let secret = STANDARD.decode(key.secret.trim());
        let secret = secret.map_err(|_| wrong(".secret: must be base64 encoded".to_owned()))?;
        Key::new(kind, &key.name, &secret).ok_or_else(|| {
            let (len, right) = (secret.len(), kind.key_bytes());
            wrong(format!(".secret: has {len} bytes; {} takes keys of {right:?} bytes", kind.name()))
        })
    };
    keys.keys.iter().enumerate().map(read).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(resources: Value) -> Value {
        json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration", "resources": resources})
    }

    #[test]
    fn the_first_entry_that_includes_a_collection_counts() {
        let identity = json!([{"identity": {}}]);
        let secret = STANDARD.encode([1; 32]);
        let gcm = json!([{"aesgcm": {"keys": [{"name": "k", "secret": secret}]}}]);
        let config = Config::read(&config(json!([
            {"resources": ["events"], "providers": identity},
            {"resources": ["secrets", "pandas.bears.example", "*.apps"], "providers": gcm},
            {"resources": ["*."], "providers": identity},
        ])))
        .unwrap();
        let is_encrypted = |group, resource| {
            config
                .providers(&GroupResource::new(group, resource))
                .map(|providers| !matches!(providers.0[0], Provider::Identity))
        };
        let table = [
            ("", "events", Some(false)),
            ("", "secrets", Some(true)),
            ("bears.example", "pandas", Some(true)),
            ("apps", "deployments", Some(true)),
            ("", "pods", Some(false)),
            ("bears.example", "cubs", None),
            ("apps", "secrets", Some(true)),
        ];
        for (group, resource, expected) in table {
            assert_eq!(is_encrypted(group, resource), expected, "{resource}.{group}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_and_no_secret_is_told() {
        let short = STANDARD.encode([1; 5]);
        let good = STANDARD.encode([1; 32]);
        let with = |resources: Value, providers: Value| {
            config(json!([{"resources": resources, "providers": providers}]))
        };
        let keys = |kind: &str, keys: Value| with(json!(["secrets"]), json!([{kind: {"keys": keys}}]));
        let identity = || json!([{"identity": {}}]);
        let table = [
            (json!({}), "apiVersion"),
            (
                json!({"apiVersion": "v1", "kind": "EncryptionConfiguration", "resources": []}),
                "apiserver.config.k8s.io/v1",
            ),
            (config(json!([])), "at least one entry"),
            (with(json!([]), identity()), "resources[0].resources"),
            (with(json!(["*"]), identity()), "'*.*'"),
            (with(json!(["Secrets"]), identity()), "small letters"),
            (with(json!(["secrets.*"]), identity()), "across groups"),
            (with(json!(["events.events.k8s.io"]), identity()), "stored as 'events'"),
            (with(json!(["secrets", "*."]), identity()), "resources[0].resources[0]"),
            (with(json!(["secrets", "secrets"]), identity()), "includes it already"),
            (with(json!(["secrets"]), json!([])), "at least one provider"),
            (with(json!(["secrets"]), json!([{}])), "exactly one provider"),
            (
                with(
                    json!(["secrets"]),
                    json!([{"identity": {}, "aesgcm": {"keys": [{"name": "k", "secret": good}]}}]),
                ),
                "exactly one",
            ),
            (with(json!(["secrets"]), json!([{"kms": {"name": "x"}}])), "providers[0].kms"),
            (with(json!(["secrets"]), json!([{"rot13": {}}])), "rot13"),
            (keys("aesgcm", json!([])), "aesgcm.keys"),
            (keys("aesgcm", json!([{"name": "", "secret": good}])), "keys[0].name"),
            (keys("aesgcm", json!([{"name": "a:b", "secret": good}])), "colon"),
            (keys("aesgcm", json!([{"name": "a", "secret": good}, {"name": "a", "secret": good}])), "twice"),
            (keys("aescbc", json!([{"name": "a", "secret": "!"}])), "base64"),
            (
                keys("aescbc", json!([{"name": "a", "secret": short}])),
                "has 5 bytes; aescbc takes keys of [32] bytes",
            ),
            (keys("secretbox", json!([{"name": "a", "secret": short}])), "secretbox takes"),
        ];
        for (configuration, text) in table {
            let error = Config::read(&configuration).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(text), "{error}: {text}");
            assert!(!error.contains(&good) && !error.contains(&short), "{error}");
        }
    }
}
