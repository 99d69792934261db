//! Receiving a snapshot from another member, in chunks, with resume after a broken connection or a restart.
//!
//! What arrived lies in a file that is named by the identity of the announced snapshot, so bytes of two
//! snapshots never mix. It becomes a snapshot only after it was verified completely, from disk.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::directory::{RECEIVING, SnapshotFile, finished_path, publish, sync_dir, with_ending};
use super::error::SnapshotError;
use super::reader::{Summary, verify};

/// Bytes after which what arrived is synced, so that a restart finds it and the last sync is short.
const SYNC_EACH_BYTES: u64 = 16 * 1024 * 1024;

/// Which snapshot: two files with the same identity have the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Term of the last applied log entry.
    pub applied_term: u64,
    /// Index of the last applied log entry.
    pub applied_index: u64,
    /// Bytes of the file.
    pub size_bytes: u64,
    /// The digest in its footer.
    pub sha256: [u8; 32],
}

impl From<&SnapshotFile> for Identity {
    fn from(file: &SnapshotFile) -> Self {
        Self {
            applied_term: file.applied_term,
            applied_index: file.applied_index,
            size_bytes: file.size_bytes,
            sha256: file.sha256,
        }
    }
}

/// A snapshot on its way in. Dropping it keeps what arrived for the next attempt.
#[derive(Debug)]
pub struct Receiving {
    identity: Identity,
    dir: PathBuf,
    path: PathBuf,
    file: File,
    received: u64,
    unsynced: u64,
}

impl Receiving {
    /// Begins, or goes on with, receiving a snapshot into `dir`, which must exist. Removes what arrived of
    /// other snapshots. One at a time for a directory; all methods block the thread.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn begin(dir: &Path, identity: Identity) -> Result<Self, SnapshotError> {
        let path = dir.join(partial_name(&identity));
        for other in with_ending(dir, RECEIVING)?.iter().filter(|p| **p != path) {
            fs::remove_file(other).map_err(SnapshotError::io(other, "remove the partial file"))?;
        }
        let file = File::options().write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(SnapshotError::io(&path, "open"))?;
        let mut received = file.metadata().map_err(SnapshotError::io(&path, "tell the size"))?.len();
        if received > identity.size_bytes {
            file.set_len(0).map_err(SnapshotError::io(&path, "shorten"))?;
            received = 0;
        }
        sync_dir(dir)?;
        Ok(Self { identity, dir: dir.to_owned(), path, file, received, unsynced: 0 })
    }

    /// Where the next chunk must begin.
    #[must_use]
    pub fn received_bytes(&self) -> u64 {
        self.received
    }

    /// Whether all bytes are here.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.received == self.identity.size_bytes
    }

    /// Takes the next chunk.
    ///
    /// # Errors
    /// When it is not the next one, is longer than what was announced, or the disk fails.
    pub fn append(&mut self, offset: u64, chunk: &[u8]) -> Result<(), SnapshotError> {
        if offset != self.received {
            return Err(SnapshotError::WrongOffset { expected: self.received, found: offset });
        }
        let end = offset.saturating_add(chunk.len() as u64);
        if end > self.identity.size_bytes {
            return Err(SnapshotError::TooLong { announced: self.identity.size_bytes, end });
        }
        self.file.write_all_at(chunk, offset).map_err(SnapshotError::io(&self.path, "write"))?;
        self.received = end;
        self.unsynced += chunk.len() as u64;
        if self.unsynced >= SYNC_EACH_BYTES {
            self.file.sync_data().map_err(SnapshotError::io(&self.path, "sync"))?;
            self.unsynced = 0;
        }
        Ok(())
    }

    /// Syncs what arrived; [`Receiving::finish`] has little left to sync then.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn sync(&mut self) -> Result<(), SnapshotError> {
        self.unsynced = 0;
        self.file.sync_all().map_err(SnapshotError::io(&self.path, "sync"))
    }

    /// Verifies what arrived and makes it a snapshot of this directory. Older ones stay.
    ///
    /// # Errors
    /// When bytes are missing (they can still be sent), when the bytes are not those of the announced
    /// snapshot (then they are removed), or when the disk fails.
    pub fn finish(self) -> Result<Summary, SnapshotError> {
        if !self.is_complete() {
            let (received, announced) = (self.received, self.identity.size_bytes);
            return Err(SnapshotError::Incomplete { received, announced });
        }
        self.file.sync_all().map_err(SnapshotError::io(&self.path, "sync"))?;
        let mut summary = match verify(&self.path).and_then(|s| same(&self.identity, s)) {
            Ok(summary) => summary,
            Err(e @ SnapshotError::Io { .. }) => return Err(e),
            Err(e) => {
                fs::remove_file(&self.path)
                    .map_err(SnapshotError::io(&self.path, "remove the wrong file"))?;
                return Err(e);
            }
        };
        let path = finished_path(&self.dir, self.identity.applied_term, self.identity.applied_index);
        publish(&self.path, &path)?;
        summary.file.path = path;
        Ok(summary)
    }
}

fn same(announced: &Identity, summary: Summary) -> Result<Summary, SnapshotError> {
    let found = Identity::from(&summary.file);
    let what = if found.sha256 != announced.sha256 {
        "another digest"
    } else if found != *announced {
        "another log entry"
    } else if summary.manifest.since.is_some() {
        "only an increment"
    } else {
        return Ok(summary);
    };
    Err(SnapshotError::OtherSnapshot { what })
}

fn partial_name(identity: &Identity) -> String {
    use std::fmt::Write as _;

    let mut name =
        format!("{:020}-{:020}-{}-", identity.applied_index, identity.applied_term, identity.size_bytes);
    for byte in identity.sha256 {
        write!(name, "{byte:02x}").expect("writing into a String does not fail");
    }
    name + "." + RECEIVING
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::super::directory::{clean, list};
    use super::super::testing::{manifest, versions};
    use super::super::writer::write_file;
    use super::*;

    fn source(dir: &Path) -> (SnapshotFile, Vec<u8>) {
        let items = versions(40).into_iter().map(Ok::<_, Infallible>);
        let file = write_file(dir, &manifest(3), items, &mut |_| {}).unwrap();
        let bytes = fs::read(&file.path).unwrap();
        (file, bytes)
    }

    proptest! {
        #[test]
        fn chunks_and_restarts_make_the_same_file(chunks in prop::collection::vec((1usize..3000, any::<bool>()), 1..30)) {
            let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let (file, bytes) = source(from.path());
            let identity = Identity::from(&file);
            let mut receiving = Receiving::begin(to.path(), identity).unwrap();
            for (len, restart) in chunks.into_iter().cycle() {
                if receiving.is_complete() {
                    break;
                }
                if restart {
                    drop(receiving);
                    clean(to.path()).unwrap();
                    receiving = Receiving::begin(to.path(), identity).unwrap();
                }
                let at = receiving.received_bytes() as usize;
                receiving.append(at as u64, &bytes[at..bytes.len().min(at + len)]).unwrap();
            }
            let summary = receiving.finish().unwrap();
            prop_assert_eq!(fs::read(&summary.file.path).unwrap(), bytes);
            prop_assert_eq!(list(to.path()).unwrap(), vec![summary.file.path.clone()]);
            prop_assert_eq!(Identity::from(&summary.file), identity);
            prop_assert_eq!(summary.manifest, manifest(3));
        }
    }

    #[test]
    fn wrong_bytes_never_become_a_snapshot() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (file, mut bytes) = source(from.path());
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        let mut receiving = Receiving::begin(to.path(), Identity::from(&file)).unwrap();
        receiving.append(0, &bytes).unwrap();
        assert!(matches!(receiving.finish(), Err(SnapshotError::Damaged { .. })));
        assert_eq!(fs::read_dir(to.path()).unwrap().count(), 0, "it starts over");

        bytes[middle] ^= 1;
        let other = Identity { sha256: [1; 32], ..Identity::from(&file) };
        let mut receiving = Receiving::begin(to.path(), other).unwrap();
        receiving.append(0, &bytes).unwrap();
        assert!(matches!(receiving.finish(), Err(SnapshotError::OtherSnapshot { .. })));

        let other = Identity { applied_index: 4, ..Identity::from(&file) };
        let mut receiving = Receiving::begin(to.path(), other).unwrap();
        receiving.append(0, &bytes).unwrap();
        assert!(matches!(receiving.finish(), Err(SnapshotError::OtherSnapshot { .. })));
        assert!(list(to.path()).unwrap().is_empty());
    }

    #[test]
    fn chunks_must_fit() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (file, bytes) = source(from.path());
        let mut receiving = Receiving::begin(to.path(), Identity::from(&file)).unwrap();
        receiving.append(0, &bytes[..10]).unwrap();
        let gap = receiving.append(11, &bytes[11..20]).unwrap_err();
        assert!(matches!(gap, SnapshotError::WrongOffset { expected: 10, found: 11 }));
        let twice = receiving.append(0, &bytes[..10]).unwrap_err();
        assert!(matches!(twice, SnapshotError::WrongOffset { expected: 10, found: 0 }));
        let long = receiving.append(10, &[&bytes[10..], &b"x"[..]].concat()).unwrap_err();
        assert!(matches!(long, SnapshotError::TooLong { .. }));
        assert!(matches!(receiving.finish(), Err(SnapshotError::Incomplete { received: 10, .. })));
    }

    #[test]
    fn another_snapshot_drops_what_arrived_of_the_first() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (file, bytes) = source(from.path());
        let identity = Identity::from(&file);
        let mut receiving = Receiving::begin(to.path(), identity).unwrap();
        receiving.append(0, &bytes[..10]).unwrap();
        let newer = Identity { applied_index: 4, ..identity };
        assert_eq!(Receiving::begin(to.path(), newer).unwrap().received_bytes(), 0);
        assert_eq!(Receiving::begin(to.path(), identity).unwrap().received_bytes(), 0);
    }
}
