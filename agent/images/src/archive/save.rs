//! Images into an archive: an OCI layout that also has Docker's list, so that everybody loads it. What is written is what was pulled,
//! byte for byte.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Write};

use serde_json::json;
use tar::{EntryType, Header};

use super::{DOCKER_LIST_FILE, FULL_NAME, INDEX_FILE, LAYOUT_FILE, REF_NAME};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::ImageId;
use crate::manifest::{Descriptor, Document, Index, LARGEST_MANIFEST, Manifest, OCI_INDEX, OCI_MANIFEST};
use crate::reference::Reference;
use crate::store::ImageStore;
use crate::store::record::Entry;

const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// One image to write, and the names it gets.
struct Chosen {
    manifest: Manifest,
    descriptor: Descriptor,
    names: Vec<String>,
}

impl ImageStore {
    /// Writes images as one tar archive that [`ImageStore::load`], Docker, Podman and containerd read. One that is named by its id has
    /// no name in the archive.
    ///
    /// # Errors
    /// When there is no such image, its compressed layers were not kept ([`Error::NotKept`]), or writing fails.
    pub fn save<W: Write>(&self, images: &[&str], writer: W) -> Result<()> {
        let record = self.directory().read()?;
        let mut by_id: BTreeMap<ImageId, (Entry, Vec<String>)> = BTreeMap::new();
        for text in images {
            let id = record.find(text)?.ok_or_else(|| Error::NotFound((*text).to_owned()))?;
            let Some(entry) = record.images.get(&id) else { continue };
            let (_, names) = by_id.entry(id.clone()).or_insert_with(|| (entry.clone(), Vec::new()));
            let name = text
                .parse::<Reference>()
                .ok()
                .filter(|name| record.find_reference(name).as_ref() == Some(&id));
            names.extend(name.filter(|name| name.digest().is_none()).map(|name| name.to_string()));
        }
        let needed: Vec<Digest> = by_id.values().flat_map(|(entry, _)| entry.blobs.keys()).cloned().collect();
        // Until it is written.
        let _work = self.work_that_needs(&needed)?;
        let chosen = by_id.iter().map(|(id, (entry, names))| self.choose(id, entry, names.clone()));
        let chosen = chosen.collect::<Result<Vec<_>>>()?;
        self.write(&chosen, writer)
    }

    fn choose(&self, id: &ImageId, entry: &Entry, names: Vec<String>) -> Result<Chosen> {
        let blob = |digest: &Digest| {
            File::open(self.directory().blob(digest)).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => Error::NotKept { image: id.clone() },
                _ => Error::io(format!("reading {digest}"))(error),
            })
        };
        let mut bytes = Vec::new();
        blob(&entry.manifest)?
            .take(LARGEST_MANIFEST)
            .read_to_end(&mut bytes)
            .map_err(Error::io(format!("reading {}", entry.manifest)))?;
        let what = format!("the manifest of {id}");
        let Document::Manifest(manifest) = Document::parse(&what, OCI_MANIFEST, &bytes)? else {
            return Err(Error::invalid(what, "it is an index"));
        };
        for layer in &manifest.layers {
            blob(&layer.digest)?;
        }
        let media_type = match manifest.media_type.as_str() {
            "" => OCI_MANIFEST,
            media_type => media_type,
        };
        let descriptor = Descriptor {
            media_type: media_type.to_owned(),
            digest: entry.manifest.clone(),
            size: bytes.len() as u64,
            platform: None,
            annotations: BTreeMap::new(),
        };
        Ok(Chosen { manifest, descriptor, names })
    }

    fn write<W: Write>(&self, images: &[Chosen], writer: W) -> Result<()> {
        let mut archive = tar::Builder::new(writer);
        let mut append = |name: &str, size: u64, content: &mut dyn Read| {
            let mut header = Header::new_gnu();
            header.set_entry_type(EntryType::Regular);
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_size(size);
            // The same images make the same archive.
            header.set_mtime(0);
            archive.append_data(&mut header, name, content).map_err(Error::io(format!("writing {name}")))
        };
        append(LAYOUT_FILE, LAYOUT.len() as u64, &mut &LAYOUT[..])?;
        let mut written = BTreeSet::new();
        for image in images {
            let blobs = [&image.descriptor, &image.manifest.config].into_iter().chain(&image.manifest.layers);
            for blob in blobs.filter(|blob| written.insert(blob.digest.clone())) {
                let mut file = File::open(self.directory().blob(&blob.digest))
                    .map_err(Error::io(format!("reading {}", blob.digest)))?;
                append(&path(&blob.digest), blob.size, &mut file)?;
            }
        }
        let mut index = Index { schema_version: 2, media_type: OCI_INDEX.into(), manifests: Vec::new() };
        let mut list = Vec::new();
        for image in images {
            if image.names.is_empty() {
                index.manifests.push(image.descriptor.clone());
            }
            for name in &image.names {
                let mut descriptor = image.descriptor.clone();
                descriptor.annotations.insert(FULL_NAME.into(), name.clone());
                let tag = name.rsplit_once(':').map(|(_, tag)| tag.to_owned()).unwrap_or_default();
                descriptor.annotations.insert(REF_NAME.into(), tag);
                index.manifests.push(descriptor);
            }
            let familiar =
                image.names.iter().filter_map(|name| Some(name.parse::<Reference>().ok()?.familiar()));
            list.push(json!({
                "Config": path(&image.manifest.config.digest),
                "RepoTags": familiar.collect::<Vec<_>>(),
                "Layers": image.manifest.layers.iter().map(|layer| path(&layer.digest)).collect::<Vec<_>>(),
            }));
        }
        let json =
            |value: serde_json::Result<Vec<u8>>| value.map_err(|error| Error::invalid("the archive", error));
        let index = json(serde_json::to_vec(&index))?;
        append(INDEX_FILE, index.len() as u64, &mut &index[..])?;
        let list = json(serde_json::to_vec(&list))?;
        append(DOCKER_LIST_FILE, list.len() as u64, &mut &list[..])?;
        let mut writer = archive.into_inner().map_err(Error::io("writing the end of the archive"))?;
        writer.flush().map_err(Error::io("writing the end of the archive"))
    }
}

fn path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
