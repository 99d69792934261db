//! What a master has in its directory: a listing of files, and which names are meant. Must never read a file.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

/// A file's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) bytes: Arc<[u8]>,
    /// SHA-256 in hexadecimal.
    pub(crate) checksum: String,
}

impl Content {
    pub(crate) fn of(bytes: Vec<u8>) -> Self {
        Self { checksum: checksum(&bytes), bytes: bytes.into() }
    }
}

/// SHA-256 in hexadecimal.
pub(crate) fn checksum(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}").expect("a text takes what is written");
    }
    text
}

/// A name of the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A manifest.
    File(Content),
    /// Nothing is done about it: somebody wants it so, or it cannot be read at the moment.
    LeftAlone,
}

/// All of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Listing {
    /// What tells this directory from any other one, of this master or another.
    pub(crate) directory: String,
    /// By the names of files.
    pub(crate) entries: BTreeMap<String, Entry>,
}

/// What a name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning<'a> {
    /// A manifest.
    Manifest,
    /// Says that the manifest of this name is to be left alone (k3s: `.skip`).
    Skip(&'a str),
    /// None of ours; also what editors put beside a file.
    Other,
}

/// What a name of the directory means.
pub(crate) fn meaning(name: &str) -> Meaning<'_> {
    if name.starts_with('.') {
        return Meaning::Other;
    }
    if let Some(skipped) = name.strip_suffix(".skip") {
        return Meaning::Skip(skipped);
    }
    let (stem, ending) = name.rsplit_once('.').unwrap_or((name, ""));
    if !stem.is_empty() && ["yaml", "yml", "json"].contains(&ending) {
        Meaning::Manifest
    } else {
        Meaning::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_is_a_manifest() {
        for (name, expected) in [
            ("a.yaml", Meaning::Manifest),
            ("a.b.yml", Meaning::Manifest),
            ("a.json", Meaning::Manifest),
            ("a.yaml.skip", Meaning::Skip("a.yaml")),
            (".a.yaml", Meaning::Other),
            (".yaml", Meaning::Other),
            ("a.yaml~", Meaning::Other),
            ("a.txt", Meaning::Other),
            ("yaml", Meaning::Other),
        ] {
            assert_eq!(meaning(name), expected, "{name}");
        }
    }

    #[test]
    fn a_checksum_is_that_of_sha256sum() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Content::of(Vec::new()).checksum, empty);
    }
}
