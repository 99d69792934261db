//! The file of etcd: recognised, its digest compared, its buckets read.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::super::bbolt::{Database, Item};
use super::super::{Progress, Step};
use super::error::{ImportError, Stop};

/// Snapshots end with a digest of so many bytes, and are otherwise a multiple of [`SECTOR_BYTES`] long.
const DIGEST_LEN: u64 = 32;
const SECTOR_BYTES: u64 = 512;
/// What every snapshot of ours begins with.
const OURS: &[u8; 8] = b"BRQSNAP\0";
/// Entries between two looks at the progress.
const ENTRIES_PER_STEP: u64 = 4096;

/// An open snapshot of etcd.
pub(super) struct Source {
    path: PathBuf,
    database: Database,
    len: u64,
    digest_compared: bool,
}

impl Source {
    /// Opens a file; with `digest` it must have one, and fit it.
    pub(super) fn open(path: &Path, digest: bool, progress: Progress<'_>) -> Result<Self, ImportError> {
        let io = |action| ImportError::io(path, action);
        let file = File::open(path).map_err(io("open"))?;
        let metadata = file.metadata().map_err(io("read"))?;
        let foreign = |what| ImportError::Foreign { path: path.to_owned(), what };
        if metadata.is_dir() {
            return Err(foreign("it is a directory"));
        }
        let mut head = Vec::new();
        (&file).take(64).read_to_end(&mut head).map_err(io("read"))?;
        if head.starts_with(OURS) {
            return Err(ImportError::Ours { path: path.to_owned() });
        }
        let size = metadata.len();
        let has_digest = size % SECTOR_BYTES == DIGEST_LEN;
        let len = if has_digest { size - DIGEST_LEN } else { size };
        let again = file.try_clone().map_err(io("read"))?;
        let database = match Database::open(again, len) {
            Ok(database) => database,
            Err(super::super::bbolt::BboltError::NoMeta) => return Err(foreign(look(&head))),
            Err(error) => return Err(Stop::from(error).of(path)),
        };
        if digest {
            match (has_digest, size % SECTOR_BYTES) {
                (true, _) => compare(&file, len, progress).map_err(io("read"))?,
                (false, 0) => return Err(ImportError::NoDigest { path: path.to_owned() }),
                (false, _) => false,
            }
            .then_some(())
            .ok_or_else(|| ImportError::Digest { path: path.to_owned() })?;
        }
        Ok(Self { path: path.to_owned(), database, len, digest_compared: digest })
    }

    pub(super) fn digest_compared(&self) -> bool {
        self.digest_compared
    }

    /// Hands out all keys and values of one of etcd's buckets; none when there is no such bucket.
    pub(super) fn for_each(
        &self,
        bucket: &[u8],
        mut take: impl FnMut(&[u8], &[u8]) -> Result<(), Stop>,
    ) -> Result<(), ImportError> {
        let mut read = || {
            let Some(bucket) = self.database.bucket(&self.database.root(), bucket)? else { return Ok(()) };
            self.database.for_each(&bucket, |key, item| match item {
                Item::Value(value) => take(key, value),
                Item::Bucket => Err("a bucket lies where etcd has none".to_owned().into()),
            })
        };
        let done: Result<(), Stop> = read();
        done.map_err(|stop| stop.of(&self.path))
    }

    /// The same, with a report now and then.
    pub(super) fn for_each_reported(
        &self,
        bucket: &[u8],
        what: &'static str,
        progress: Progress<'_>,
        mut take: impl FnMut(&[u8], &[u8]) -> Result<(), Stop>,
    ) -> Result<(), ImportError> {
        let (mut count, mut done) = (0_u64, 0_u64);
        self.for_each(bucket, |key, value| {
            count += 1;
            done += (key.len() + value.len()) as u64;
            if count.is_multiple_of(ENTRIES_PER_STEP) {
                progress(Step { what, done, total: self.len });
            }
            take(key, value)
        })
    }
}

/// Whether the digest behind the first `len` bytes is theirs.
fn compare(file: &File, len: u64, progress: Progress<'_>) -> io::Result<bool> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while at < len {
        let part = usize::try_from(len - at).map_or(buffer.len(), |left| left.min(buffer.len()));
        file.read_exact_at(&mut buffer[..part], at)?;
        hash.update(&buffer[..part]);
        at += part as u64;
        progress(Step { what: "comparing", done: at, total: len });
    }
    let mut written = [0; DIGEST_LEN as usize];
    file.read_exact_at(&mut written, len)?;
    Ok(<[u8; DIGEST_LEN as usize]>::from(hash.finalize()) == written)
}

/// What a file looks like that is no database.
fn look(head: &[u8]) -> &'static str {
    let is_text = head.iter().all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~'));
    match head {
        [] => "it is empty",
        _ if is_text => "it looks like text",
        _ => "it is no bbolt database, or not enough of one",
    }
}
