//! The note beside the engine's files: which of its directories counts, and whether it can be trusted.
//!
//! One line of text in a file of its own: a word, the generation (the number of the engine's directory), and
//! after `clean` a fingerprint of the engine's files. Replaced atomically.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

const NAME: &str = "state";
const NEW: &str = "state.new";
const GENERATION: &str = "records-";

/// What is known about the engine's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Marker {
    /// In use, or its user stopped without closing it.
    Open(u64),
    /// Being opened. When a start finds this, that did not end.
    Opening(u64),
    /// Closed; its files had this fingerprint then.
    Clean(u64, String),
}

impl Marker {
    pub(super) fn generation(&self) -> u64 {
        match self {
            Self::Open(n) | Self::Opening(n) | Self::Clean(n, _) => *n,
        }
    }

    /// The marker, or none when there is none that can be understood.
    pub(super) fn read(dir: &Path) -> io::Result<Option<Self>> {
        match fs::read(dir.join(NAME)) {
            Ok(bytes) => Ok(std::str::from_utf8(&bytes).ok().and_then(Self::parse)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Returns when it is on disk.
    pub(super) fn write(&self, dir: &Path) -> io::Result<()> {
        let new = dir.join(NEW);
        let mut file = File::create(&new)?;
        file.write_all(self.text().as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, dir.join(NAME))?;
        File::open(dir)?.sync_all()
    }

    fn text(&self) -> String {
        match self {
            Self::Open(n) => format!("open {n}\n"),
            Self::Opening(n) => format!("opening {n}\n"),
            Self::Clean(n, fingerprint) => format!("clean {n} {fingerprint}\n"),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let parts: Vec<_> = text.strip_suffix('\n')?.split(' ').collect();
        match parts[..] {
            ["open", n] => Some(Self::Open(n.parse().ok()?)),
            ["opening", n] => Some(Self::Opening(n.parse().ok()?)),
            ["clean", n, fingerprint] => Some(Self::Clean(n.parse().ok()?, fingerprint.to_owned())),
            _ => None,
        }
    }
}

/// The engine's directory of a generation.
pub(super) fn generation_path(dir: &Path, generation: u64) -> PathBuf {
    dir.join(format!("{GENERATION}{generation}"))
}

/// Removes the directories of all generations but one; the numbers of those that were there.
pub(super) fn remove_generations_but(dir: &Path, keep: Option<u64>) -> io::Result<Vec<u64>> {
    let mut found = vec![];
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|n| n.strip_prefix(GENERATION)).and_then(|n| n.parse().ok());
        let Some(number) = number else { continue };
        found.push(number);
        if Some(number) != keep {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(found)
}

/// Tells whether the engine's files are those that were left. Contents of the small files, which the engine
/// believes without being able to tell a rolled back one; sizes of the large ones, whose contents it checks.
pub(super) fn fingerprint(db_dir: &Path) -> io::Result<String> {
    let mut lines = vec![];
    for (folder, with_content) in [("", true), ("metadata", true), ("slabs", false)] {
        for entry in fs::read_dir(db_dir.join(folder))? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_file() {
                let content =
                    if with_content { Sha256::digest(fs::read(entry.path())?).to_vec() } else { vec![] };
                lines.push((folder, entry.file_name(), metadata.len(), content));
            }
        }
    }
    lines.sort_unstable();
    let mut digest = Sha256::new();
    for (folder, name, len, content) in lines {
        digest.update(folder);
        digest.update([0]);
        digest.update(name.as_encoded_bytes());
        digest.update([0]);
        digest.update(len.to_le_bytes());
        digest.update(content);
    }
    Ok(format!("{:x}", digest.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_come_back_and_rubbish_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Marker::read(dir.path()).unwrap(), None);
        for marker in [Marker::Open(1), Marker::Opening(2), Marker::Clean(3, "ab".to_owned())] {
            marker.write(dir.path()).unwrap();
            assert_eq!(Marker::read(dir.path()).unwrap(), Some(marker));
        }
        for text in ["", "open", "open x\n", "clean 3\n", "clean 3 ab", "\u{fffd} 1\n"] {
            fs::write(dir.path().join(NAME), text).unwrap();
            assert_eq!(Marker::read(dir.path()).unwrap(), None, "{text:?}");
        }
        fs::write(dir.path().join(NAME), [0xff]).unwrap();
        assert_eq!(Marker::read(dir.path()).unwrap(), None);
    }
}
