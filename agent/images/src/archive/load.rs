//! Images out of an archive. The archive is read once, into files of the operation; what its lists name is looked up there. Everything
//! in it is checked by digest, as what registries send.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::PathBuf;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tar::EntryType;
use tokio_util::sync::CancellationToken;

use super::{DOCKER_LIST_FILE, FULL_NAME, INDEX_FILE, LAYOUT_FILE, REF_NAME};
use crate::assemble::{self, LayerState};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::layer::compression::{Compression, plain};
use crate::layer::tar_stream::TarStream;
use crate::manifest::{
    Config, Descriptor, Document, LARGEST_CONFIG, LARGEST_MANIFEST, Manifest, OCI_CONFIG, OCI_INDEX,
    OCI_LAYER, OCI_MANIFEST,
};
use crate::platform::Platform;
use crate::progress::{Event, Progress};
use crate::reference::Reference;
use crate::store::directory::Work;
use crate::store::{ImageStore, now_ns};

/// Far more than any archive of images has.
const MOST_FILES: usize = 100_000;
/// Indexes name indexes in archives of several platforms, not deeper.
const DEEPEST_INDEX: usize = 4;

impl ImageStore {
    /// Loads all images of an archive for this platform: what `docker save`, `podman save`, `ctr image export` and
    /// [`ImageStore::save`] write, plain or compressed with gzip or zstd. An image without a name is found by its id.
    ///
    /// # Errors
    /// When it is no such archive, or something in it is not what it is named by.
    pub fn load<R: Read + Send>(&self, reader: R, progress: &dyn Progress) -> Result<Vec<Image>> {
        let work = self.work_that_needs(&[])?;
        let archive = Spool::read(reader, &work)?;
        let parts = if archive.files.contains_key(LAYOUT_FILE) && archive.files.contains_key(INDEX_FILE) {
            archive.oci(&self.options().platform)?
        } else if archive.files.contains_key(DOCKER_LIST_FILE) {
            archive.docker()?
        } else {
            let why = format!("it has neither {INDEX_FILE} nor {DOCKER_LIST_FILE}: it holds no images");
            return Err(Error::invalid("the archive", why));
        };
        parts.iter().map(|parts| self.install(&archive, &work, parts, progress)).collect()
    }

    fn install(&self, archive: &Spool, work: &Work, parts: &Parts, progress: &dyn Progress) -> Result<Image> {
        let config_file = archive.blob(&parts.manifest.config)?;
        let config_bytes = config_file.bytes("the configuration of an image", LARGEST_CONFIG)?;
        let config = Config::parse(&config_bytes, parts.manifest.layers.len())?;
        let here = &self.options().platform;
        if !config.platform.architecture.is_empty() && here.fitness(&config.platform).is_none() {
            return Err(Error::NoPlatform { platform: here.to_string() });
        }
        let manifest_digest = Digest::of(&parts.bytes);
        progress.event(Event::Resolved { digest: manifest_digest.clone(), layers: config.diff_ids.len() });
        let directory = self.directory();
        {
            let lock = directory.lock()?;
            work.need(&lock, assemble::needs(&parts.manifest, &manifest_digest, &config).iter())?;
        }
        let chain = assemble::chain(&config.diff_ids);
        let mut states = Vec::new();
        let layers = parts.manifest.layers.iter().zip(&config.diff_ids).zip(&chain);
        for (at, ((blob, diff_id), chain_id)) in layers.enumerate() {
            let kept = directory.blob(&blob.digest);
            // Another image of this archive may have taken the file.
            let file = if kept.exists() { kept.clone() } else { archive.blob(blob)?.path.clone() };
            match assemble::present(directory, diff_id, chain_id)? {
                Some(layer) => {
                    progress.event(Event::Present { layer: blob.digest.clone() });
                    states.push(LayerState::Kept(layer));
                }
                None => {
                    progress.event(Event::Unpacking { layer: blob.digest.clone() });
                    let never = CancellationToken::new();
                    let state = assemble::unpack_layer(directory, work, &file, diff_id, at == 0, &never)?;
                    let bytes = match &state {
                        LayerState::Kept(layer) => layer.bytes,
                        LayerState::Waiting { unpacked, .. } => unpacked.bytes,
                    };
                    progress.event(Event::Unpacked { layer: blob.digest.clone(), bytes });
                    states.push(state);
                }
            }
            if self.options().keep_blobs && file != kept {
                directory.keep_blob(&file, &blob.digest)?;
            }
        }
        assemble::keep_bytes(directory, work, &manifest_digest, &parts.bytes)?;
        assemble::keep_bytes(directory, work, &parts.manifest.config.digest, &config_bytes)?;
        let layers = assemble::settle(directory, states, &config.diff_ids)?;
        let size = parts.bytes.len() as u64;
        let (id, mut entry) =
            assemble::entry(directory, &parts.manifest, manifest_digest, size, config, layers, now_ns());
        for name in &parts.names {
            match name.digest() {
                Some(digest) => entry.repo_digests.push(name.by_digest(digest.clone()).to_string()),
                None => entry.references.push(name.to_string()),
            }
        }
        self.enter(id, entry)
    }
}

/// An image of an archive.
struct Parts {
    manifest: Manifest,
    /// The manifest as it is.
    bytes: Vec<u8>,
    names: Vec<Reference>,
}

/// The files of an archive.
struct Spool {
    files: BTreeMap<String, Spooled>,
    /// Archives of old Dockers name layers that several images have by links.
    links: BTreeMap<String, String>,
}

struct Spooled {
    path: PathBuf,
    size: u64,
    digest: Digest,
}

/// An image in Docker's list.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

impl Spool {
    fn read<R: Read + Send>(reader: R, work: &Work) -> Result<Self> {
        let reading = || Error::io("reading the archive");
        let (_, content) = plain(reader).map_err(reading())?;
        let mut stream = TarStream::new(content);
        let mut spool = Self { files: BTreeMap::new(), links: BTreeMap::new() };
        while let Some(entry) = stream.next().map_err(reading())? {
            let name = clean("", &String::from_utf8_lossy(&entry.path));
            match entry.kind {
                EntryType::Regular | EntryType::Continuous => {
                    if spool.files.len() == MOST_FILES {
                        return Err(Error::invalid(
                            "the archive",
                            format!("it has more than {MOST_FILES} files"),
                        ));
                    }
                    let path = work.place(&format!("file-{}", spool.files.len()));
                    let spooled = Spooled::write(path, &mut stream).map_err(reading())?;
                    spool.links.remove(&name);
                    spool.files.insert(name, spooled);
                }
                EntryType::Symlink | EntryType::Link => {
                    let target = String::from_utf8_lossy(&entry.link).into_owned();
                    let folder = if entry.kind == EntryType::Symlink {
                        name.rsplit_once('/').map(|(folder, _)| folder).unwrap_or_default()
                    } else {
                        ""
                    };
                    spool.links.insert(name.clone(), clean(folder, &target));
                }
                _ => {}
            }
        }
        Ok(spool)
    }

    fn file(&self, name: &str) -> Result<&Spooled> {
        let name = clean("", name);
        let target = self.links.get(&name).unwrap_or(&name);
        self.files
            .get(target)
            .ok_or_else(|| Error::invalid("the archive", format!("{name} is named in it, but not there")))
    }

    fn has(&self, blob: &Descriptor) -> bool {
        self.files.contains_key(&blob_name(&blob.digest)) || self.by_digest(&blob.digest).is_some()
    }

    fn by_digest(&self, digest: &Digest) -> Option<&Spooled> {
        self.files.values().find(|file| file.digest == *digest)
    }

    /// A blob, checked. Docker's archives have them under any name.
    fn blob(&self, blob: &Descriptor) -> Result<&Spooled> {
        let file = match self.files.get(&blob_name(&blob.digest)) {
            Some(file) => file,
            None => self.by_digest(&blob.digest).ok_or_else(|| {
                Error::invalid("the archive", format!("{} is named in it, but not there", blob.digest))
            })?,
        };
        let what = || blob_name(&blob.digest);
        if file.digest != blob.digest {
            return Err(Error::WrongDigest {
                what: what(),
                found: file.digest.clone(),
                expected: blob.digest.clone(),
            });
        }
        if file.size != blob.size {
            return Err(Error::WrongSize { what: what(), found: file.size, expected: blob.size });
        }
        Ok(file)
    }

    /// The images of an OCI layout.
    fn oci(&self, here: &Platform) -> Result<Vec<Parts>> {
        let bytes = self.file(INDEX_FILE)?.bytes(INDEX_FILE, LARGEST_MANIFEST)?;
        let Document::Index(index) = Document::parse(INDEX_FILE, OCI_INDEX, &bytes)? else {
            return Err(Error::invalid(INDEX_FILE, "it is no index"));
        };
        let docker_names =
            if self.files.contains_key(DOCKER_LIST_FILE) { self.docker_names()? } else { vec![] };
        let mut found: Vec<Parts> = Vec::new();
        for descriptor in index.manifests {
            let names = names(&descriptor)?;
            let Some((manifest, bytes)) = self.manifest(&descriptor, here, DEEPEST_INDEX)? else { continue };
            let known = found.iter_mut().find(|parts| parts.bytes == bytes);
            match known {
                Some(parts) => parts.names.extend(names),
                None => found.push(Parts { manifest, bytes, names }),
            }
        }
        for parts in &mut found {
            let more = docker_names.iter().filter(|(config, _)| *config == parts.manifest.config.digest);
            let more: Vec<Reference> = more.flat_map(|(_, names)| names.clone()).collect();
            parts.names.extend(more);
        }
        if found.is_empty() {
            return Err(Error::NoPlatform { platform: here.to_string() });
        }
        Ok(found)
    }

    /// The manifest that is for this machine; nothing for what is no image or was left out of the archive.
    fn manifest(
        &self,
        blob: &Descriptor,
        here: &Platform,
        depth: usize,
    ) -> Result<Option<(Manifest, Vec<u8>)>> {
        if depth == 0 {
            return Err(Error::invalid("the archive", "its indexes name each other"));
        }
        if blob.platform.as_ref().is_some_and(|platform| here.fitness(platform).is_none()) {
            return Ok(None);
        }
        let what = blob.digest.to_string();
        let bytes = self.blob(blob)?.bytes(&what, LARGEST_MANIFEST)?;
        match Document::parse(&what, &blob.media_type, &bytes)? {
            Document::Manifest(manifest) => Ok(Some((manifest, bytes))),
            Document::Index(mut index) => {
                index.manifests.retain(|blob| self.has(blob));
                match index.choose(here) {
                    Ok(chosen) => self.manifest(chosen, here, depth - 1),
                    Err(_) => Ok(None),
                }
            }
        }
    }

    fn docker_list(&self) -> Result<Vec<DockerImage>> {
        let bytes = self.file(DOCKER_LIST_FILE)?.bytes(DOCKER_LIST_FILE, LARGEST_MANIFEST)?;
        serde_json::from_slice(&bytes).map_err(|error| Error::invalid(DOCKER_LIST_FILE, error))
    }

    fn docker_names(&self) -> Result<Vec<(Digest, Vec<Reference>)>> {
        let images = self.docker_list()?.into_iter();
        images
            .map(|image| {
                let config = self.file(&image.config)?.digest.clone();
                Ok((config, parse_names(image.repo_tags.unwrap_or_default())?))
            })
            .collect()
    }

    /// The images of Docker's list, which has no manifests: they are made.
    fn docker(&self) -> Result<Vec<Parts>> {
        let mut found = Vec::new();
        for image in self.docker_list()? {
            let descriptor = |file: &Spooled, media_type: String| Descriptor {
                media_type,
                digest: file.digest.clone(),
                size: file.size,
                platform: None,
                annotations: BTreeMap::new(),
            };
            let mut layers = Vec::new();
            for name in image.layers.unwrap_or_default() {
                let file = self.file(&name)?;
                let compression = file.compression().map_err(Error::io(format!("reading {name}")))?;
                layers.push(descriptor(file, format!("{OCI_LAYER}{}", compression.suffix())));
            }
            let manifest = Manifest {
                schema_version: 2,
                media_type: OCI_MANIFEST.into(),
                config: descriptor(self.file(&image.config)?, OCI_CONFIG.into()),
                layers,
            };
            let bytes =
                serde_json::to_vec(&manifest).map_err(|error| Error::invalid("the manifest", error))?;
            found.push(Parts { manifest, bytes, names: parse_names(image.repo_tags.unwrap_or_default())? });
        }
        Ok(found)
    }
}

impl Spooled {
    fn write(path: PathBuf, content: &mut impl Read) -> io::Result<Self> {
        let mut file = File::options().create_new(true).write(true).open(&path)?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 128 << 10];
        let mut size = 0;
        loop {
            match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => {
                    file.write_all(&buffer[..read])?;
                    hash.update(&buffer[..read]);
                    size += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self { path, size, digest: Digest::from_hash(&hash.finalize()) })
    }

    fn bytes(&self, what: &str, limit: u64) -> Result<Vec<u8>> {
        if self.size > limit {
            return Err(Error::TooLarge { what: what.to_owned(), limit });
        }
        fs::read(&self.path).map_err(Error::io(format!("reading {what}")))
    }

    fn compression(&self) -> io::Result<Compression> {
        let mut start = Vec::new();
        File::open(&self.path)?.take(4).read_to_end(&mut start)?;
        Ok(Compression::of(&start))
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// A name inside the archive, without what leads up or nowhere.
fn clean(folder: &str, name: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let folder = if name.starts_with('/') { "" } else { folder };
    for part in folder.split('/').chain(name.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// What an entry of an index is called. Some tools write only a tag, which names nothing.
fn names(blob: &Descriptor) -> Result<Vec<Reference>> {
    let full = blob.annotations.get(FULL_NAME);
    let name = full.or_else(|| blob.annotations.get(REF_NAME).filter(|name| name.contains([':', '/'])));
    parse_names(name.cloned().into_iter().collect())
}

fn parse_names(names: Vec<String>) -> Result<Vec<Reference>> {
    let parsed =
        names.into_iter().map(|text| text.parse().map_err(|source| Error::Reference { text, source }));
    parsed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside_the_archive() {
        for (folder, name, cleaned) in [
            ("", "./a/b", "a/b"),
            ("x/y", "../z/layer.tar", "x/z/layer.tar"),
            ("x", "../../../../etc/passwd", "etc/passwd"),
            ("x", "/etc/passwd", "etc/passwd"),
        ] {
            assert_eq!(clean(folder, name), cleaned);
        }
    }
}
