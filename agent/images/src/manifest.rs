//! Manifests, indexes and configurations of images, Docker's (schema 2) and OCI's, as registries and archives bring them. Pure:
//! turns bytes into values and says what is wrong with them. Never trusts a size or a digest in them: those are what content is
//! checked against.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::ImageConfig;
use crate::platform::Platform;

/// What registries let through (distribution's limit for manifests).
pub(crate) const LARGEST_MANIFEST: u64 = 4 << 20;
/// Configurations carry a line of history for each layer, no more.
pub(crate) const LARGEST_CONFIG: u64 = 8 << 20;
/// Far above what Docker (127) and overlayfs (500) take.
const MOST_LAYERS: usize = 500;

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// What a registry is asked for.
pub(crate) const ACCEPT: &str = "application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.oci.image.index.v1+json, */*;q=0.1";

/// A piece of content, by what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// One image: its configuration and layers, the lowest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) media_type: String,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// Images for several platforms, or several images of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) media_type: String,
    #[serde(default)]
    pub(crate) manifests: Vec<Descriptor>,
}

/// One or the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Document {
    Manifest(Manifest),
    Index(Index),
}

/// The parts of a configuration that tell which layers belong to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) platform: Platform,
    pub(crate) created: Option<String>,
    pub(crate) config: ImageConfig,
    pub(crate) diff_ids: Vec<Digest>,
}

impl Document {
    /// Reads a manifest or an index. `media_type` is what the server or the descriptor says; what the document says of itself goes
    /// before it, and without either it is told by its fields.
    pub(crate) fn parse(what: &str, media_type: &str, bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Shape {
            schema_version: u32,
            #[serde(default)]
            media_type: String,
            manifests: Option<serde_json::Value>,
            layers: Option<serde_json::Value>,
        }
        let shape: Shape = serde_json::from_slice(bytes).map_err(|error| Error::invalid(what, error))?;
        if shape.schema_version != 2 {
            let why = format!("its schema version is {}, only 2 is supported", shape.schema_version);
            return Err(Error::invalid(what, why));
        }
        let media_type = if shape.media_type.is_empty() { media_type } else { shape.media_type.as_str() };
        let is_index = match media_type {
            OCI_INDEX | DOCKER_LIST => true,
            OCI_MANIFEST | DOCKER_MANIFEST => false,
            _ => shape.manifests.is_some() && shape.layers.is_none(),
        };
        // What is read as one by some and as the other by others is an attack (CVE-2021-41190).
        if if is_index { shape.layers.is_some() } else { shape.manifests.is_some() } {
            return Err(Error::invalid(what, "it has both manifests and layers"));
        }
        if is_index {
            let index = serde_json::from_slice(bytes).map_err(|error| Error::invalid(what, error))?;
            return Ok(Self::Index(index));
        }
        let manifest: Manifest =
            serde_json::from_slice(bytes).map_err(|error| Error::invalid(what, error))?;
        if manifest.layers.len() > MOST_LAYERS {
            let why = format!("it has {} layers, more than {MOST_LAYERS}", manifest.layers.len());
            return Err(Error::invalid(what, why));
        }
        Ok(Self::Manifest(manifest))
    }
}

impl Index {
    /// The manifest that is best for `here`. One without a platform is taken when it is the only one.
    pub(crate) fn choose(&self, here: &Platform) -> Result<&Descriptor> {
        let mut best: Option<(u32, &Descriptor)> = None;
        for descriptor in &self.manifests {
            let fitness = match &descriptor.platform {
                Some(platform) => here.fitness(platform),
                None => (self.manifests.len() == 1).then_some(0),
            };
            // Of equals the first wins.
            if let Some(fitness) = fitness.filter(|fitness| best.is_none_or(|(other, _)| *fitness > other)) {
                best = Some((fitness, descriptor));
            }
        }
        best.map(|(_, descriptor)| descriptor).ok_or_else(|| Error::NoPlatform { platform: here.to_string() })
    }
}

impl Config {
    /// Reads a configuration, which must name as many layers as its manifest has.
    pub(crate) fn parse(bytes: &[u8], layers: usize) -> Result<Self> {
        #[derive(Deserialize)]
        struct File {
            #[serde(default)]
            architecture: String,
            #[serde(default)]
            os: String,
            #[serde(default)]
            variant: Option<String>,
            #[serde(default)]
            created: Option<String>,
            #[serde(default)]
            config: Option<ImageConfig>,
            rootfs: RootFs,
        }
        #[derive(Deserialize)]
        struct RootFs {
            #[serde(default)]
            diff_ids: Option<Vec<Digest>>,
        }
        let what = "the configuration of the image";
        let file: File = serde_json::from_slice(bytes).map_err(|error| Error::invalid(what, error))?;
        let diff_ids = file.rootfs.diff_ids.unwrap_or_default();
        if diff_ids.len() != layers {
            let why = format!("it names {} layers, its manifest {layers}", diff_ids.len());
            return Err(Error::invalid(what, why));
        }
        Ok(Self {
            platform: Platform { architecture: file.architecture, os: file.os, variant: file.variant },
            created: file.created,
            config: file.config.unwrap_or_default(),
            diff_ids,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn parse(media_type: &str, text: &str) -> Result<Document> {
        Document::parse("it", media_type, text.replace("HEX", &format!("sha256:{HEX}")).as_bytes())
    }

    #[test]
    fn manifests_and_indexes_are_told_apart() {
        let manifest = r#"{"schemaVersion":2,"config":{"digest":"HEX","size":1},"layers":[]}"#;
        let index = r#"{"schemaVersion":2,"manifests":[]}"#;
        assert!(matches!(parse("", manifest), Ok(Document::Manifest(_))));
        assert!(matches!(parse(DOCKER_MANIFEST, manifest), Ok(Document::Manifest(_))));
        assert!(matches!(parse("text/plain", index), Ok(Document::Index(_))));
        for (media_type, text, part) in [
            (OCI_INDEX, manifest, "both"),
            (OCI_MANIFEST, index, "both"),
            ("", r#"{"schemaVersion":1,"fsLayers":[]}"#, "schema version is 1"),
            ("", r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#, "both"),
            ("", "<html>", "expected value"),
            ("", r#"{"schemaVersion":2,"config":{"digest":"sha256:../..","size":1},"layers":[]}"#, "digest"),
        ] {
            let error = parse(media_type, text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn an_index_without_this_platform_says_so() {
        let text = r#"{"schemaVersion":2,"manifests":[
            {"digest":"HEX","size":1,"platform":{"os":"unknown","architecture":"unknown"}},
            {"digest":"HEX","size":2,"platform":{"os":"linux","architecture":"s390x"}},
            {"digest":"HEX","size":3,"platform":{"os":"linux","architecture":"s390x"}}]}"#;
        let Document::Index(index) = parse("", text).unwrap() else { panic!("an index") };
        let platform = |architecture: &str| Platform {
            architecture: architecture.into(),
            os: "linux".into(),
            variant: None,
        };
        assert_eq!(index.choose(&platform("s390x")).unwrap().size, 2);
        let error = index.choose(&platform("amd64")).unwrap_err().to_string();
        assert!(error.contains("linux/amd64"), "{error}");
    }

    #[test]
    fn a_configuration_and_its_manifest_agree_on_layers() {
        let text =
            format!(r#"{{"os":"linux","architecture":"amd64","rootfs":{{"diff_ids":["sha256:{HEX}"]}}}}"#);
        assert_eq!(Config::parse(text.as_bytes(), 1).unwrap().diff_ids.len(), 1);
        assert!(Config::parse(text.as_bytes(), 2).is_err());
        assert!(Config::parse(br#"{"rootfs":{"diff_ids":null},"config":null}"#, 0).is_ok());
    }
}
