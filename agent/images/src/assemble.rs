//! An image made of its parts: layers unpacked from files, stacked, and entered into the record. What pulls and archives have in
//! common. Blocks.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::ImageId;
use crate::layer::unpack::{Unpacked, inherit, unpack};
use crate::manifest::{Config, Manifest};
use crate::store::directory::{Directory, LayerFile, Work};
use crate::store::record::{Entry, Layer};

/// Where a layer is.
#[derive(Debug)]
pub(crate) enum LayerState {
    /// Where it stays.
    Kept(Layer),
    /// Unpacked, but some of its directories look as those below it, which must be there first.
    Waiting { made: PathBuf, unpacked: Unpacked },
}

/// The chain ids of layers, the lowest first.
pub(crate) fn chain(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        chain.push(Digest::chain(chain.last(), diff_id));
    }
    chain
}

/// A layer that is here already: on its own, or on top of just these.
pub(crate) fn present(directory: &Directory, diff_id: &Digest, chain_id: &Digest) -> Result<Option<Layer>> {
    for name in [chain_id, diff_id] {
        match directory.layer(name)? {
            Some(file) if file.diff_id == *diff_id => {
                return Ok(Some(Layer { diff_id: file.diff_id, directory: name.clone(), bytes: file.bytes }));
            }
            _ => {}
        }
    }
    Ok(None)
}

/// Unpacks a layer from a file, checks that it is the one, and keeps it if it depends on no other.
pub(crate) fn unpack_layer(
    directory: &Directory,
    work: &Work,
    archive: &Path,
    diff_id: &Digest,
    lowest: bool,
    cancel: &CancellationToken,
) -> Result<LayerState> {
    let failed = |source| {
        if cancel.is_cancelled() {
            Error::Cancelled
        } else {
            Error::Unpack { layer: diff_id.clone(), source }
        }
    };
    let made = work.place(&format!("layer-{}", diff_id.hex()));
    // A layer may be in an image twice.
    let made =
        (0_u32..).map(|n| made.with_extension(n.to_string())).find(|made| !made.exists()).unwrap_or(made);
    let files = made.join("diff");
    fs::create_dir(&made).map_err(failed)?;
    // What an archive says nothing of: a root that everybody may enter.
    fs::DirBuilder::new().mode(0o755).create(&files).map_err(failed)?;
    let unpacked = File::open(archive).and_then(|file| unpack(file, &files, cancel)).map_err(failed)?;
    if unpacked.diff_id != *diff_id {
        return Err(Error::WrongDigest {
            what: "the content of a layer".into(),
            found: unpacked.diff_id,
            expected: diff_id.clone(),
        });
    }
    if !lowest && !unpacked.implied.is_empty() {
        return Ok(LayerState::Waiting { made, unpacked });
    }
    keep(directory, &made, diff_id, &unpacked).map(LayerState::Kept)
}

/// Stacks the layers, the lowest first.
pub(crate) fn settle(
    directory: &Directory,
    states: Vec<LayerState>,
    diff_ids: &[Digest],
) -> Result<Vec<Layer>> {
    let mut layers = Vec::with_capacity(states.len());
    let mut below: Vec<PathBuf> = Vec::with_capacity(states.len());
    for (state, chain_id) in states.into_iter().zip(chain(diff_ids)) {
        let layer = match state {
            LayerState::Kept(layer) => layer,
            LayerState::Waiting { made, unpacked } => {
                for implied in &unpacked.implied {
                    inherit(&made.join("diff"), implied, &below)
                        .map_err(|source| Error::Unpack { layer: unpacked.diff_id.clone(), source })?;
                }
                keep(directory, &made, &chain_id, &unpacked)?
            }
        };
        below.push(directory.layer_files(&layer.directory));
        layers.push(layer);
    }
    Ok(layers)
}

fn keep(directory: &Directory, made: &Path, name: &Digest, unpacked: &Unpacked) -> Result<Layer> {
    let file = LayerFile { diff_id: unpacked.diff_id.clone(), bytes: unpacked.bytes };
    directory.keep_layer(made, name, &file)?;
    Ok(Layer { diff_id: file.diff_id, directory: name.clone(), bytes: file.bytes })
}

/// Keeps a small blob, as a manifest or a configuration.
pub(crate) fn keep_bytes(directory: &Directory, work: &Work, digest: &Digest, bytes: &[u8]) -> Result<()> {
    if directory.blob(digest).exists() {
        return Ok(());
    }
    let made = work.place(&format!("bytes-{}", digest.hex()));
    fs::write(&made, bytes).map_err(Error::io(format!("writing {}", made.display())))?;
    directory.keep_blob(&made, digest)
}

/// All that an operation needs to stay, whether it is there or not.
pub(crate) fn needs(manifest: &Manifest, manifest_digest: &Digest, config: &Config) -> Vec<Digest> {
    let mut digests = vec![manifest_digest.clone(), manifest.config.digest.clone()];
    digests.extend(manifest.layers.iter().map(|layer| layer.digest.clone()));
    digests.extend(config.diff_ids.iter().cloned());
    digests.extend(chain(&config.diff_ids));
    digests
}

/// What the record says of an image, but for its names.
pub(crate) fn entry(
    directory: &Directory,
    manifest: &Manifest,
    manifest_digest: Digest,
    manifest_size: u64,
    config: Config,
    layers: Vec<Layer>,
    now_ns: i64,
) -> (ImageId, Entry) {
    let mut blobs = BTreeMap::from([(manifest_digest.clone(), manifest_size)]);
    blobs.insert(manifest.config.digest.clone(), manifest.config.size);
    for layer in &manifest.layers {
        if directory.blob(&layer.digest).exists() {
            blobs.insert(layer.digest.clone(), layer.size);
        }
    }
    let entry = Entry {
        references: Vec::new(),
        repo_digests: Vec::new(),
        manifest: manifest_digest,
        layers,
        blobs,
        config: config.config,
        platform: config.platform.to_string(),
        created: config.created,
        pulled_ns: now_ns,
        used_ns: now_ns,
        pinned: false,
    };
    (manifest.config.digest.clone(), entry)
}
