//! What the store knows of its images: who is called what, what belongs to whom, who holds it. Pure; reading and writing it is for
//! the lock.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::{Image, ImageConfig, ImageId};
use crate::reference::Reference;

/// Of the file; another one is another form.
const VERSION: u32 = 1;
/// Shorter beginnings of ids are too easily meant differently.
const SHORTEST_PREFIX: usize = 4;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) version: u32,
    pub(crate) images: BTreeMap<ImageId, Entry>,
    /// Images that must stay, by who needs them.
    pub(crate) holds: BTreeMap<String, ImageId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) references: Vec<String>,
    pub(crate) repo_digests: Vec<String>,
    pub(crate) manifest: Digest,
    /// The lowest first.
    pub(crate) layers: Vec<Layer>,
    /// Manifest and configuration, and compressed layers where they are kept; with their sizes.
    pub(crate) blobs: BTreeMap<Digest, u64>,
    pub(crate) config: ImageConfig,
    pub(crate) platform: String,
    pub(crate) created: Option<String>,
    pub(crate) pulled_ns: i64,
    pub(crate) used_ns: i64,
    pub(crate) pinned: bool,
}

/// A layer that is unpacked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Layer {
    pub(crate) diff_id: Digest,
    /// What its directory is named by: its diff id, or its chain id where it depends on what is below it.
    pub(crate) directory: Digest,
    pub(crate) bytes: u64,
}

/// What became of a name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// Names that are gone.
    pub untagged: Vec<String>,
    /// Images that are gone.
    pub deleted: Vec<ImageId>,
}

impl Default for Record {
    fn default() -> Self {
        Self { version: VERSION, images: BTreeMap::new(), holds: BTreeMap::new() }
    }
}

impl Record {
    pub(crate) fn parse(file: &Path, bytes: &[u8]) -> Result<Self> {
        let wrong = |why: String| Error::Configuration { file: file.display().to_string(), why };
        let record: Self = serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))?;
        if record.version != VERSION {
            let why = format!(
                "it was written by another version of barque (form {}, not {VERSION})",
                record.version
            );
            return Err(wrong(why));
        }
        Ok(record)
    }

    /// An image by its id, by a name, or by the beginning of its id.
    pub(crate) fn find(&self, text: &str) -> Result<Option<ImageId>> {
        if let Ok(id) = text.parse::<Digest>() {
            return Ok(self.images.contains_key(&id).then_some(id));
        }
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        let is_hex = hex.len() >= SHORTEST_PREFIX && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        let reference = text.parse::<Reference>();
        if let Ok(reference) = &reference
            && let Some(id) = self.find_reference(reference)
        {
            return Ok(Some(id));
        }
        if is_hex {
            let mut begins = self.images.keys().filter(|id| id.hex().starts_with(hex));
            return match (begins.next(), begins.next()) {
                (Some(_), Some(_)) => Err(Error::Ambiguous(text.to_owned())),
                (found, _) => Ok(found.cloned()),
            };
        }
        match reference {
            Ok(_) => Ok(None),
            Err(source) => Err(Error::Reference { text: text.to_owned(), source }),
        }
    }

    /// By digest where there is one, as the CRI does with a name that has both.
    pub(crate) fn find_reference(&self, reference: &Reference) -> Option<ImageId> {
        let found = match reference.digest() {
            Some(digest) => {
                let name = reference.by_digest(digest.clone()).to_string();
                self.images.iter().find(|(_, entry)| entry.repo_digests.contains(&name))
            }
            None => {
                let name = reference.to_string();
                self.images.iter().find(|(_, entry)| entry.references.contains(&name))
            }
        };
        found.map(|(id, _)| id.clone())
    }

    /// Adds an image, or what is new of one that is here. Names that it has are taken from others.
    pub(crate) fn add(&mut self, id: ImageId, mut entry: Entry) {
        entry.references = union(Vec::new(), entry.references);
        entry.repo_digests = union(Vec::new(), entry.repo_digests);
        for name in &entry.references {
            self.take_name(name);
        }
        if let Some(old) = self.images.remove(&id) {
            entry.references = union(old.references, entry.references);
            entry.repo_digests = union(old.repo_digests, entry.repo_digests);
            // The blobs of the manifest before may be in archives that name it; what is not needed is small.
            if old.manifest == entry.manifest {
                entry.blobs.extend(old.blobs);
            }
            entry.pinned |= old.pinned;
            entry.used_ns = entry.used_ns.max(old.used_ns);
        }
        self.images.insert(id, entry);
    }

    /// Gives an image one more name.
    pub(crate) fn tag(&mut self, id: &ImageId, name: &Reference) -> Result<()> {
        if name.digest().is_some() {
            let why = "a tag has no digest; name it as in `repository:tag`";
            return Err(Error::invalid(format!("the name {name}"), why));
        }
        self.take_name(&name.to_string());
        let entry = self.images.get_mut(id).ok_or_else(|| Error::NotFound(id.to_string()))?;
        entry.references = union(std::mem::take(&mut entry.references), vec![name.to_string()]);
        Ok(())
    }

    /// By name: takes the name away, and the image with its last name. By id: takes everything away.
    pub(crate) fn remove(&mut self, text: &str) -> Result<Removed> {
        let id = self.find(text)?.ok_or_else(|| Error::NotFound(text.to_owned()))?;
        let name =
            text.parse::<Reference>().ok().filter(|name| self.find_reference(name).as_ref() == Some(&id));
        let Some(entry) = self.images.get(&id) else { return Err(Error::NotFound(text.to_owned())) };
        if let Some(name) = name {
            let full = match name.digest() {
                Some(digest) => name.by_digest(digest.clone()).to_string(),
                None => name.to_string(),
            };
            let others = if name.digest().is_some() {
                entry.repo_digests.len() + entry.references.len() - 1
            } else {
                entry.references.len() - 1
            };
            if others > 0 {
                if let Some(entry) = self.images.get_mut(&id) {
                    entry.references.retain(|other| *other != full);
                    entry.repo_digests.retain(|other| *other != full);
                }
                return Ok(Removed { untagged: vec![full], deleted: vec![] });
            }
        }
        self.delete(&id)
    }

    /// Takes an image away, unless somebody holds it.
    pub(crate) fn delete(&mut self, id: &ImageId) -> Result<Removed> {
        let holders: Vec<&str> =
            self.holds.iter().filter(|(_, held)| *held == id).map(|(name, _)| name.as_str()).collect();
        if !holders.is_empty() {
            return Err(Error::InUse { image: id.clone(), by: holders.join(", ") });
        }
        let entry = self.images.remove(id).ok_or_else(|| Error::NotFound(id.to_string()))?;
        Ok(Removed { untagged: union(entry.references, entry.repo_digests), deleted: vec![id.clone()] })
    }

    pub(crate) fn held(&self) -> BTreeSet<ImageId> {
        self.holds.values().cloned().collect()
    }

    /// Directories of layers that images need.
    pub(crate) fn layers(&self) -> BTreeSet<Digest> {
        self.images.values().flat_map(|entry| &entry.layers).map(|layer| layer.directory.clone()).collect()
    }

    /// Blobs that images need.
    pub(crate) fn blobs(&self) -> BTreeSet<Digest> {
        self.images.values().flat_map(|entry| entry.blobs.keys()).cloned().collect()
    }

    /// Bytes of everything, what is shared counted once.
    pub(crate) fn bytes(&self) -> u64 {
        let mut layers = BTreeMap::new();
        let mut blobs = BTreeMap::new();
        for entry in self.images.values() {
            layers.extend(entry.layers.iter().map(|layer| (&layer.directory, layer.bytes)));
            blobs.extend(entry.blobs.iter().map(|(digest, bytes)| (digest, *bytes)));
        }
        layers.values().sum::<u64>() + blobs.values().sum::<u64>()
    }

    fn take_name(&mut self, name: &str) {
        for entry in self.images.values_mut() {
            entry.references.retain(|other| other != name);
        }
    }
}

impl Entry {
    /// As others see it; `layer` tells where a layer's files are.
    pub(crate) fn image(&self, id: &ImageId, layer: impl Fn(&Digest) -> std::path::PathBuf) -> Image {
        Image {
            id: id.clone(),
            references: self.references.clone(),
            repo_digests: self.repo_digests.clone(),
            manifest: self.manifest.clone(),
            size_bytes: self.layers.iter().map(|layer| layer.bytes).sum::<u64>()
                + self.blobs.values().sum::<u64>(),
            layers: self.layers.iter().map(|unpacked| layer(&unpacked.directory)).collect(),
            diff_ids: self.layers.iter().map(|layer| layer.diff_id.clone()).collect(),
            config: self.config.clone(),
            platform: self.platform.clone(),
            created: self.created.clone(),
            pulled_ns: self.pulled_ns,
            used_ns: self.used_ns,
            pinned: self.pinned,
        }
    }
}

fn union(mut names: Vec<String>, more: Vec<String>) -> Vec<String> {
    for name in more {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(names: &[&str], digests: &[&str]) -> Entry {
        Entry {
            references: names.iter().map(|name| name.parse::<Reference>().unwrap().to_string()).collect(),
            repo_digests: digests.iter().map(|name| name.parse::<Reference>().unwrap().to_string()).collect(),
            manifest: Digest::of(b"m"),
            layers: vec![],
            blobs: BTreeMap::new(),
            config: ImageConfig::default(),
            platform: String::new(),
            created: None,
            pulled_ns: 1,
            used_ns: 1,
            pinned: false,
        }
    }

    fn record() -> (Record, [ImageId; 2], String) {
        let mut record = Record::default();
        let ids = [Digest::of(b"1"), Digest::of(b"2")];
        let by_digest = format!("busybox@{}", Digest::of(b"m"));
        record.add(ids[0].clone(), entry(&["busybox", "team/app:v1"], &[&by_digest]));
        record.add(ids[1].clone(), entry(&["quay.io/a"], &[]));
        (record, ids, by_digest)
    }

    #[test]
    fn images_are_found_by_every_name_they_have() {
        let (record, ids, by_digest) = record();
        let both = by_digest.replace('@', ":other@");
        for text in [
            "busybox",
            "docker.io/library/busybox:latest",
            "team/app:v1",
            &by_digest,
            &both,
            ids[0].as_str(),
            &ids[0].hex()[..12],
        ] {
            assert_eq!(record.find(text).unwrap().as_ref(), Some(&ids[0]), "{text}");
        }
        for text in ["busybox:1", "quay.io/busybox", "ffff", "sha256:ffff"] {
            assert_eq!(record.find(text).unwrap(), None, "{text}");
        }
        assert!(record.find("No").is_err());
    }

    #[test]
    fn a_name_moves_to_whoever_gets_it_last() {
        let (mut record, ids, _) = record();
        record.tag(&ids[1], &"busybox".parse().unwrap()).unwrap();
        assert_eq!(record.find("busybox").unwrap().as_ref(), Some(&ids[1]));
        assert_eq!(record.images[&ids[0]].references, ["docker.io/team/app:v1"]);
        record.add(ids[0].clone(), entry(&["busybox"], &[]));
        assert_eq!(record.find("busybox").unwrap().as_ref(), Some(&ids[0]));
        assert_eq!(record.images[&ids[0]].references.len(), 2);
        assert_eq!(record.images[&ids[0]].repo_digests.len(), 1);
    }

    #[test]
    fn an_image_goes_with_its_last_name_or_by_its_id() {
        let (mut record, ids, by_digest) = record();
        let removed = record.remove("busybox").unwrap();
        assert_eq!((removed.untagged.len(), removed.deleted.len()), (1, 0));
        let mut by_id = record.clone();
        assert_eq!(by_id.remove(ids[0].hex()).unwrap().deleted, [ids[0].clone()]);
        assert!(record.remove(&by_digest).unwrap().deleted.is_empty());
        assert_eq!(record.remove("team/app:v1").unwrap().deleted, [ids[0].clone()]);
        assert!(matches!(record.remove("team/app:v1"), Err(Error::NotFound(_))));
    }

    #[test]
    fn what_is_held_stays_and_says_who_holds_it() {
        let (mut record, ids, _) = record();
        record.holds.insert("container-1".into(), ids[1].clone());
        let error = record.remove("quay.io/a").unwrap_err().to_string();
        assert!(error.contains("container-1"), "{error}");
        assert!(record.images.contains_key(&ids[1]));
        record.holds.clear();
        assert!(!record.remove("quay.io/a").unwrap().deleted.is_empty());
    }
}
