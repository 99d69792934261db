//! One saved file: recognised, and read version by version with everything checked that can be.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::chain::Link;
use super::error::OfflineError;
use super::{Progress, Step};
use crate::ids::{Revision, SubRevision};
use crate::snapshot::{Manifest, SnapshotReader, Summary};
use crate::stored::StoredVersion;

/// What every file of ours begins with.
const MAGIC: &[u8; 8] = b"BRQSNAP\0";
/// In etcd's database files at this place (the magic number of bbolt, little-endian).
const ETCD_MAGIC_AT: usize = 16;
const ETCD_MAGIC: [u8; 4] = 0xED0C_DAED_u32.to_le_bytes();
/// Versions between two looks at the progress.
const VERSIONS_PER_STEP: u64 = 4096;

/// A file whose head was read.
pub(super) struct SavedFile {
    path: PathBuf,
    reader: SnapshotReader,
}

impl SavedFile {
    /// Opens a file. With `digests` its digests will be compared as well.
    pub(super) fn open(path: &Path, digests: bool) -> Result<Self, OfflineError> {
        let io = |action| OfflineError::io(path, action);
        let mut file = File::open(path).map_err(io("open"))?;
        if file.metadata().map_err(io("read"))?.is_dir() {
            return Err(OfflineError::Foreign { path: path.to_owned(), what: "it is a directory" });
        }
        let mut head = Vec::new();
        file.by_ref().take(32).read_to_end(&mut head).map_err(io("read"))?;
        if !head.starts_with(MAGIC) {
            return Err(foreign(path, &head));
        }
        Ok(Self { path: path.to_owned(), reader: SnapshotReader::open_saved(path, digests)? })
    }

    /// What it says about itself.
    pub(super) fn manifest(&self) -> &Manifest {
        self.reader.manifest()
    }

    /// As part of a chain.
    pub(super) fn link(&self) -> Link {
        let Manifest { cluster, since, state, .. } = self.manifest();
        Link {
            path: self.path.clone(),
            cluster: *cluster,
            since: *since,
            revision: state.revision,
            compact_revision: state.compact_revision,
        }
    }

    /// The digest in its footer.
    pub(super) fn sha256(&self) -> [u8; 32] {
        self.reader.described().sha256
    }

    /// Reads it to its end, and hands every version out. What was handed out counts only when this succeeds.
    pub(super) fn read(
        mut self,
        progress: Progress<'_>,
        mut take: impl FnMut(StoredVersion),
    ) -> Result<Summary, OfflineError> {
        let mut order =
            Order { last: None, since: self.manifest().since, revision: self.manifest().state.revision };
        let mut count: u64 = 0;
        while let Some(version) = self.reader.next() {
            let version = version?;
            order.check(&version).map_err(|what| self.contradiction(what))?;
            take(version);
            count += 1;
            if count.is_multiple_of(VERSIONS_PER_STEP) {
                let (done, total) = self.reader.progress_bytes();
                progress(Step { what: "reading", done, total });
            }
        }
        Ok(self.reader.summary())
    }

    fn contradiction(&self, what: &'static str) -> OfflineError {
        OfflineError::Contradiction { path: self.path.clone(), what: what.to_owned() }
    }
}

fn foreign(path: &Path, head: &[u8]) -> OfflineError {
    let path = path.to_owned();
    if head.get(ETCD_MAGIC_AT..ETCD_MAGIC_AT + 4) == Some(&ETCD_MAGIC) {
        return OfflineError::Etcd { path };
    }
    let is_text =
        !head.is_empty() && head.iter().all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~'));
    let what = match head {
        [] => "it is empty",
        _ if is_text => "it looks like text",
        _ => "it begins with something else",
    };
    OfflineError::Foreign { path, what }
}

/// What holds of the versions of every file that a member wrote.
struct Order {
    last: Option<SubRevision>,
    since: Option<Revision>,
    revision: Revision,
}

impl Order {
    fn check(&mut self, version: &StoredVersion) -> Result<(), &'static str> {
        let at = version.at;
        if self.last.is_some_and(|last| last >= at) {
            return Err("its versions are not in order");
        }
        if at.main > self.revision {
            return Err("a version comes after the revision that the file says it ends at");
        }
        if self.since.is_some_and(|since| at.main <= since) {
            return Err("a version comes before the revision that the increment says it begins after");
        }
        if version.record.mod_revision() != at.main {
            return Err("a version stands at another revision than it was written at");
        }
        self.last = Some(at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::testing::version;

    #[test]
    fn foreign_files_are_recognised() {
        let mut etcd = [0; 32];
        etcd[16..20].copy_from_slice(&ETCD_MAGIC);
        for (head, text) in [
            (&etcd[..], "kvctl snapshot import"),
            (b"apiVersion: v1\nkind: Secret\n", "looks like text"),
            (b"", "is empty"),
            (b"\x7fELF\x02\x01\x01\0", "something else"),
        ] {
            let error = foreign(Path::new("x"), head).to_string();
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn contradictions_are_found() {
        let order = |last: Option<i64>, since: Option<i64>| Order {
            last: last.map(|main| SubRevision { main: Revision(main), sub: 0 }),
            since: since.map(Revision),
            revision: Revision(10),
        };
        let at = |main| version(main, 0, b"v");
        assert_eq!(order(None, None).check(&at(10)), Ok(()));
        assert_eq!(order(Some(3), Some(3)).check(&at(4)), Ok(()));
        assert!(order(None, None).check(&at(11)).is_err());
        assert!(order(Some(4), None).check(&at(4)).is_err());
        assert!(order(None, Some(4)).check(&at(4)).is_err());
        let moved = StoredVersion { at: SubRevision { main: Revision(5), sub: 0 }, ..at(4) };
        assert!(order(None, None).check(&moved).is_err());
    }
}
