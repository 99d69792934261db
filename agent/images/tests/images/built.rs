//! Images made by the tests themselves.

use std::io::Write as _;

use barque_images::Digest;
use flate2::write::GzEncoder;
use serde_json::json;
use tar::{EntryType, Header};

/// How a layer is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packed {
    Plain,
    Gzip,
    Zstd,
}

/// A blob and its digest.
#[derive(Debug, Clone)]
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    pub(crate) bytes: Vec<u8>,
}

/// An image as a registry has it.
#[derive(Debug, Clone)]
pub(crate) struct Built {
    pub(crate) config: Blob,
    pub(crate) layers: Vec<Blob>,
    pub(crate) diff_ids: Vec<Digest>,
    pub(crate) manifest: Blob,
}

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

impl Blob {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self { digest: Digest::of(&bytes), bytes }
    }
}

impl Built {
    /// From the archives of its layers, the lowest first.
    pub(crate) fn new(layers: &[(Vec<u8>, Packed)], config: &serde_json::Value) -> Self {
        Self::for_architecture(layers, config, architecture())
    }

    pub(crate) fn for_architecture(
        layers: &[(Vec<u8>, Packed)],
        config: &serde_json::Value,
        architecture: &str,
    ) -> Self {
        let diff_ids: Vec<Digest> = layers.iter().map(|(archive, _)| Digest::of(archive)).collect();
        let config = Blob::new(to_vec(&json!({
            "architecture": architecture, "os": "linux", "config": config, "created": "2024-01-02T03:04:05Z",
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        })));
        let blobs: Vec<Blob> =
            layers.iter().map(|(archive, packed)| Blob::new(pack(archive, *packed))).collect();
        let described = layers.iter().zip(&blobs).map(|((_, packed), blob)| {
            let suffix = match packed {
                Packed::Plain => "",
                Packed::Gzip => "+gzip",
                Packed::Zstd => "+zstd",
            };
            json!({
                "mediaType": format!("application/vnd.oci.image.layer.v1.tar{suffix}"),
                "digest": blob.digest, "size": blob.bytes.len(),
            })
        });
        let described: Vec<_> = described.collect();
        let manifest = Blob::new(to_vec(&json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": config.digest, "size": config.bytes.len(),
            },
            "layers": described,
        })));
        Self { config, layers: blobs, diff_ids, manifest }
    }

    /// Configuration and layers.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Blob> {
        self.layers.iter().chain([&self.config])
    }
}

/// An index of images for architectures.
pub(crate) fn index(images: &[(&Built, &str)]) -> Blob {
    let described: Vec<_> = images
        .iter()
        .map(|(image, architecture)| {
            json!({
                "mediaType": OCI_MANIFEST, "digest": image.manifest.digest, "size": image.manifest.bytes.len(),
                "platform": {"os": "linux", "architecture": architecture},
            })
        })
        .collect();
    Blob::new(to_vec(&json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": described})))
}

/// As Go names that of this machine.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// One that no machine of these tests has.
pub(crate) const ELSEWHERE: &str = "s390x";

/// An archive: names that end with a slash are directories, those with an arrow links, all others files.
pub(crate) fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = Header::new_gnu();
        header.set_mtime(1_700_000_000);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        if let Some((link, target)) = name.split_once(" -> ") {
            header.set_entry_type(EntryType::Symlink);
            header.set_mode(0o777);
            builder.append_link(&mut header, link, target).unwrap();
        } else if name.ends_with('/') {
            header.set_entry_type(EntryType::Directory);
            header.set_mode(0o755);
            builder.append_data(&mut header, name, &b""[..]).unwrap();
        } else {
            header.set_entry_type(EntryType::Regular);
            header.set_mode(0o755);
            header.set_size(content.len() as u64);
            builder.append_data(&mut header, name, *content).unwrap();
        }
    }
    builder.into_inner().unwrap()
}

/// One layer of one file.
pub(crate) fn file_layer(name: &str, content: &[u8]) -> (Vec<u8>, Packed) {
    (archive(&[(name, content)]), Packed::Gzip)
}

/// Bytes that do not compress, the same for the same seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
    .take(length)
    .collect()
}

fn pack(archive: &[u8], packed: Packed) -> Vec<u8> {
    match packed {
        Packed::Plain => archive.to_vec(),
        Packed::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(archive).unwrap();
            encoder.finish().unwrap()
        }
        Packed::Zstd => {
            ruzstd::encoding::compress_to_vec(archive, ruzstd::encoding::CompressionLevel::Fastest)
        }
    }
}

fn to_vec(value: &serde_json::Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}
