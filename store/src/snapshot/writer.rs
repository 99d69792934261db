//! Writing snapshots. A stop at any moment leaves either no new file under a final name or a whole one.

use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::directory::{SnapshotFile, WRITING_ENDING, finished_path, publish, writing_path};
use super::error::SnapshotError;
use super::format::{BlockBuilder, FOOTER_LEN, Footer, Manifest, digest, encode_header};
use super::reader::verify_while;
use crate::stored::StoredVersion;

/// Bytes after which what was written is synced, so that the last sync, and the log's syncs on the same
/// disk meanwhile, never wait for hundreds of megabytes at once.
const SYNC_EACH_BYTES: u64 = 16 * 1024 * 1024;

/// Encodes a snapshot into any stream. Writes whole blocks; the stream needs no buffer of its own.
#[derive(Debug)]
pub struct SnapshotWriter<W> {
    out: W,
    digest: Sha256,
    block: BlockBuilder,
    versions: u64,
    blocks: u64,
    written: u64,
}

/// Counts and digest of a finished stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Bytes.
    pub size_bytes: u64,
    /// Versions of keys.
    pub versions: u64,
    /// The digest in the footer.
    pub sha256: [u8; 32],
}

impl<W: Write> SnapshotWriter<W> {
    /// Begins a snapshot.
    ///
    /// # Errors
    /// When the stream fails.
    pub fn new(out: W, manifest: &Manifest) -> io::Result<Self> {
        let mut writer =
            Self { out, digest: digest(), block: BlockBuilder::new(), versions: 0, blocks: 0, written: 0 };
        let header = encode_header(manifest).map_err(io::Error::other)?;
        writer.put(&header)?;
        Ok(writer)
    }

    /// Appends a version.
    ///
    /// # Errors
    /// When the stream fails.
    pub fn push(&mut self, version: &StoredVersion) -> io::Result<()> {
        self.versions += 1;
        if self.block.push(version) { self.put_block() } else { Ok(()) }
    }

    /// Writes what is left and the footer. The stream is neither flushed nor synced.
    ///
    /// # Errors
    /// When the stream fails.
    pub fn finish(mut self) -> io::Result<(W, Written)> {
        self.put_block()?;
        let counts = Footer::encode_counts(self.versions, self.blocks);
        self.put(&counts)?;
        let sha256: [u8; 32] = self.digest.finalize().into();
        self.out.write_all(&sha256)?;
        let size_bytes = self.written + sha256.len() as u64;
        debug_assert!(size_bytes > FOOTER_LEN as u64);
        Ok((self.out, Written { size_bytes, versions: self.versions, sha256 }))
    }

    fn put_block(&mut self) -> io::Result<()> {
        if let Some(block) = self.block.finish().map_err(io::Error::other)? {
            self.digest.update(block);
            self.out.write_all(block)?;
            self.written += block.len() as u64;
            self.blocks += 1;
            self.block.clear();
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.digest.update(bytes);
        self.out.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}

/// Writes a snapshot into `dir`, which must exist, and returns when it is on disk under its final name.
/// Blocks the thread. Older files stay: [`super::directory::remove_older`] when nothing needs them. `synced`
/// hears how long each sync of the file took.
///
/// # Errors
/// When the disk fails or `versions` yields an error. Then nothing of it is left, and what was there before
/// is untouched.
pub fn write_file<E: Display>(
    dir: &Path,
    manifest: &Manifest,
    versions: impl IntoIterator<Item = Result<StoredVersion, E>>,
    synced: &mut dyn FnMut(Duration),
) -> Result<SnapshotFile, SnapshotError> {
    let (term, index) = (manifest.state.applied_term, manifest.state.applied_index);
    let writing = writing_path(dir, term, index);
    let done = write_unfinished(&writing, manifest, versions, synced, &|| true).and_then(|written| {
        let path = finished_path(dir, term, index);
        publish(&writing, &path)?;
        Ok(SnapshotFile {
            path,
            size_bytes: written.size_bytes,
            sha256: written.sha256,
            applied_term: term,
            applied_index: index,
            versions: written.versions,
        })
    });
    if done.is_err() {
        // Only wasted space when this fails too; the next start removes it.
        let _ = fs::remove_file(&writing);
    }
    done
}

/// Writes a snapshot under a name of the caller's, and reads it again completely before it gets that name, all as
/// long as `go_on` says so. Blocks the thread.
///
/// # Errors
/// When the disk fails, holds something else than was written, or `versions` yields an error; `Stopped`. Then nothing
/// of it is left.
pub fn write_verified<E: Display>(
    path: &Path,
    manifest: &Manifest,
    versions: impl IntoIterator<Item = Result<StoredVersion, E>>,
    go_on: &dyn Fn() -> bool,
) -> Result<SnapshotFile, SnapshotError> {
    let writing = path.with_extension(&WRITING_ENDING[1..]);
    let done = write_unfinished(&writing, manifest, versions, &mut |_| {}, go_on).and_then(|written| {
        let summary = verify_while(&writing, go_on)?;
        if summary.file.sha256 != written.sha256 {
            return Err(SnapshotError::damaged(&writing, 0, "it is not what was written"));
        }
        publish(&writing, path)?;
        Ok(SnapshotFile { path: path.to_owned(), ..summary.file })
    });
    if done.is_err() {
        let _ = fs::remove_file(&writing);
    }
    done
}

/// The first half of [`write_file`]: a complete, synced file that does not have its name yet.
fn write_unfinished<E: Display>(
    path: &Path,
    manifest: &Manifest,
    versions: impl IntoIterator<Item = Result<StoredVersion, E>>,
    synced: &mut dyn FnMut(Duration),
    go_on: &dyn Fn() -> bool,
) -> Result<Written, SnapshotError> {
    let failed = || SnapshotError::io(path, "write");
    // It holds hashes of passwords and the key that signs tokens.
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let file = file.map_err(SnapshotError::io(path, "create the file"))?;
    let out = SyncedInPieces { file, unsynced: 0, synced };
    let mut writer = SnapshotWriter::new(out, manifest).map_err(failed())?;
    let mut blocks = writer.blocks;
    for version in versions {
        let version = version.map_err(|e| SnapshotError::Source(e.to_string()))?;
        writer.push(&version).map_err(failed())?;
        if writer.blocks > blocks {
            blocks = writer.blocks;
            if !go_on() {
                return Err(SnapshotError::Stopped);
            }
        }
    }
    let (out, written) = writer.finish().map_err(failed())?;
    let began = Instant::now();
    out.file.sync_all().map_err(SnapshotError::io(path, "sync"))?;
    (out.synced)(began.elapsed());
    Ok(written)
}

struct SyncedInPieces<'a> {
    file: File,
    unsynced: u64,
    synced: &'a mut dyn FnMut(Duration),
}

impl Write for SyncedInPieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.unsynced += written as u64;
        if self.unsynced >= SYNC_EACH_BYTES {
            let began = Instant::now();
            self.file.sync_data()?;
            (self.synced)(began.elapsed());
            self.unsynced = 0;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::convert::Infallible;
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::directory::{clean, list, remove_older};
    use super::super::reader::verify;
    use super::super::testing::{manifest, versions};
    use super::*;

    fn write(dir: &Path, index: u64) -> SnapshotFile {
        write_file(dir, &manifest(index), versions(50).into_iter().map(Ok::<_, Infallible>), &mut |_| {})
            .unwrap()
    }

    #[test]
    fn a_stop_at_any_step_leaves_the_older_snapshot() {
        let dir = tempfile::tempdir().unwrap();
        let old = write(dir.path(), 1);
        let bytes = {
            let whole = writing_path(dir.path(), 7, 2);
            write_unfinished(
                &whole,
                &manifest(2),
                versions(50).into_iter().map(Ok::<_, Infallible>),
                &mut |_| {},
                &|| true,
            )
            .unwrap();
            fs::read(whole).unwrap()
        };
        // Before the rename: any part of the file may be there.
        for cut in [0, 1, 20, bytes.len() / 2, bytes.len() - 1, bytes.len()] {
            fs::write(writing_path(dir.path(), 7, 2), &bytes[..cut]).unwrap();
            assert_eq!(list(dir.path()).unwrap(), std::slice::from_ref(&old.path));
            clean(dir.path()).unwrap();
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
            verify(&old.path).unwrap();
        }
        // After it, before the older one was removed: both are there, the newer first.
        let new = write(dir.path(), 2);
        clean(dir.path()).unwrap();
        assert_eq!(list(dir.path()).unwrap(), [new.path.clone(), old.path]);
        remove_older(dir.path(), &new.path).unwrap();
        assert_eq!(list(dir.path()).unwrap(), [new.path]);
    }

    #[test]
    fn a_failing_source_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let old = write(dir.path(), 1);
        let source = versions(3).into_iter().map(Ok).chain([Err("lost")]);
        let error = write_file(dir.path(), &manifest(2), source, &mut |_| {}).unwrap_err();
        assert!(matches!(error, SnapshotError::Source(text) if text == "lost"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        verify(&old.path).unwrap();
    }

    #[test]
    fn a_full_disk_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("gone");
        let source = versions(3).into_iter().map(Ok::<_, Infallible>);
        let error = write_file(&gone, &manifest(2), source, &mut |_| {}).unwrap_err();
        assert!(matches!(error, SnapshotError::Io { .. }), "{error}");
        // A device that takes no byte: the state of a full disk.
        let error = SnapshotWriter::new(File::options().write(true).open("/dev/full").unwrap(), &manifest(1));
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn a_name_of_the_callers_is_given_to_what_was_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a-1.snapshot");
        let source = || versions(3000).into_iter().map(Ok::<_, Infallible>);
        let written = write_verified(&path, &manifest(2), source(), &|| true).unwrap();
        assert_eq!(verify(&path).unwrap().file, written);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        // Given up while it is written, and while it is read.
        let other = dir.path().join("a-2.snapshot");
        for blocks in 0..5 {
            let left = Cell::<u32>::new(blocks);
            let go_on = || left.replace(left.get().saturating_sub(1)) > 0;
            let error = write_verified(&other, &manifest(2), source(), &go_on).unwrap_err();
            assert!(matches!(error, SnapshotError::Stopped), "{error}");
        }
        let failing = versions(3).into_iter().map(Ok).chain([Err("lost")]);
        write_verified(&other, &manifest(2), failing, &|| true).unwrap_err();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_same_log_entry_replaces_its_own_file() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(write(dir.path(), 1), write(dir.path(), 1));
        assert_eq!(list(dir.path()).unwrap().len(), 1);
    }
}
