//! What is known of an image that is here. Vocabulary.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize};

use crate::digest::Digest;

/// An image: the digest of its configuration, as Docker and the CRI name it.
pub type ImageId = Digest;

/// An image that is here, all its layers unpacked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Image {
    /// The digest of its configuration.
    pub id: ImageId,
    /// Names with tags, as `docker.io/library/busybox:latest`.
    pub references: Vec<String>,
    /// Names with the digest that a registry knows it by.
    pub repo_digests: Vec<String>,
    /// The digest of its manifest, which differs from that of `repo_digests` where an index was pulled.
    pub manifest: Digest,
    /// What it takes on disk, in bytes, layers that others share included.
    pub size_bytes: u64,
    /// The directories that overlayfs stacks, the lowest first. They must never be written to.
    pub layers: Vec<PathBuf>,
    /// The layers by the digests of their uncompressed archives, the lowest first.
    pub diff_ids: Vec<Digest>,
    /// What containers of it run by default.
    pub config: ImageConfig,
    /// As `linux/amd64`.
    pub platform: String,
    /// When it was built, in RFC 3339, as its maker says.
    pub created: Option<String>,
    /// When it came here, in nanoseconds since 1970.
    pub pulled_ns: i64,
    /// When a container last used it, in nanoseconds since 1970; when it came, if none did.
    pub used_ns: i64,
    /// Never collected: the node needs it itself.
    pub pinned: bool,
}

/// What containers of an image run by default (OCI image configuration, `config`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageConfig {
    /// The program and its first words.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// What follows the entrypoint unless the container says otherwise.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// `NAME=value`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Where it begins; empty for `/`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// `user`, `uid`, `user:group`, `uid:gid` and mixtures; empty for root.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// As `SIGTERM`; empty for the default.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// What its maker says of it.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// As `80/tcp`.
    #[serde(deserialize_with = "set", serialize_with = "as_set", skip_serializing_if = "Vec::is_empty")]
    pub exposed_ports: Vec<String>,
    /// Paths that its maker wants to be volumes.
    #[serde(deserialize_with = "set", serialize_with = "as_set", skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
}

/// Go writes what is empty as null.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// Sets are objects with empty values.
fn set<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let set: Option<BTreeMap<String, serde::de::IgnoredAny>> = Option::deserialize(from)?;
    Ok(set.unwrap_or_default().into_keys().collect())
}

fn as_set<S: serde::Serializer>(keys: &[String], to: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Empty {}
    to.collect_map(keys.iter().map(|key| (key, Empty {})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_of_go_programs_are_read_and_written() {
        let text = r#"{"Entrypoint":null,"Cmd":["sh"],"Labels":null,"User":"1000:staff","WorkingDir":null,
            "ExposedPorts":{"80/tcp":{}},"Volumes":null,"OnBuild":null}"#;
        let config: ImageConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config.cmd, ["sh"]);
        assert_eq!(config.exposed_ports, ["80/tcp"]);
        assert_eq!(config.user, "1000:staff");
        let again = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<ImageConfig>(&again).unwrap(), config);
    }
}
