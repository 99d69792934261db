//! Reads the log of a member that does not run. Judges torn and damaged like the opening of the log, but never
//! changes a byte: what a crash tore is passed over, not cut off.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::disk::{Disk, DiskFile};
use super::format::LogEntry;
use super::recovery::{RecoveryConfig, recover};
use super::segment::{Housekeeper, is_temporary, sequence_of};
use super::{Identity, Recovered, WalError};

/// Everything in a log.
#[derive(Debug, Default)]
pub struct Content {
    /// What the log says of itself.
    pub recovered: Recovered,
    /// All entries, in order; in memory, which a log is kept small enough for.
    pub entries: Vec<LogEntry>,
}

/// Reads all of the log in `dir`. Nothing, when there is no log. Whoever calls holds the lock of the data directory.
///
/// # Errors
/// When the log is damaged, belongs to somebody else, or cannot be read.
pub fn read(dir: &Path, identity: Identity) -> Result<Content, WalError> {
    let disk = Arc::new(ReadOnlyDisk { directory: dir.to_owned() });
    let names = match disk.list() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Content::default()),
        other => other.map_err(WalError::io("list the log's directory"))?,
    };
    if names.iter().all(|name| sequence_of(name).is_none()) {
        return Ok(Content::default());
    }
    // It has nothing to do: there is a segment.
    let housekeeper = Housekeeper::new(disk.clone(), 0, Arc::new(AtomicU64::new(0)), false)
        .map_err(WalError::io("read the log"))?;
    let recovery = recover(&*disk, &RecoveryConfig { identity, cache_bytes: u64::MAX }, &housekeeper)?;
    let entries = recovery.index.find(0..u64::MAX, u64::MAX).cached;
    Ok(Content { recovered: Recovered::of(&recovery.journal.standing, recovery.torn_bytes), entries })
}

struct ReadOnlyDisk {
    directory: PathBuf,
}

fn refused<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "the log is only read"))
}

impl Disk for ReadOnlyDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            // Unfinished segments hold nothing, and are not to be removed.
            names.extend(entry?.file_name().into_string().ok().filter(|name| !is_temporary(name)));
        }
        Ok(names)
    }

    fn create(&self, _name: &str) -> io::Result<Box<dyn DiskFile>> {
        refused()
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(ReadOnlyFile(File::open(self.directory.join(name))?)))
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        refused()
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }

    fn path_of(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

struct ReadOnlyFile(File);

impl DiskFile for ReadOnlyFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(bytes, offset)
    }

    /// The one write of a recovery fills the torn end with zeros, which are read nowhere.
    fn write_at(&self, _bytes: &[u8], _offset: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::format::{Payload, Position};
    use super::super::{Wal, WalConfig};
    use super::*;
    use crate::ids::{ClusterId, MemberId};

    fn entry(index: u64) -> LogEntry {
        LogEntry { position: Position { term: 3, index }, payload: Payload::Batch(vec![7; 500].into()) }
    }

    fn bytes_of(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|file| file.unwrap().path())
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect();
        files.sort();
        files
    }

    #[tokio::test]
    async fn tells_what_is_there_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wal");
        let mut config = WalConfig::new(path.clone(), ClusterId(1), MemberId(2));
        config.segment_bytes = 16 << 10;
        let identity = config.identity;
        assert_eq!(read(&path, identity).unwrap().entries, []);
        let (wal, _) = Wal::open(config).unwrap();
        let entries: Vec<_> = (1..=100).map(entry).collect();
        wal.append(entries.clone(), Box::new(|_| ())).await.unwrap();
        wal.purge(Position { term: 3, index: 10 }).await.unwrap();
        wal.close().await.unwrap();
        drop(wal);

        // A write that a crash tore.
        let last =
            bytes_of(&path).into_iter().rfind(|(name, _)| name.extension().is_some_and(|e| e == "wal"));
        let (last, mut bytes) = last.unwrap();
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap().next_multiple_of(8) + 64;
        bytes[end] = 9;
        fs::write(&last, bytes).unwrap();
        let before = bytes_of(&path);
        let content = read(&path, identity).unwrap();
        assert_eq!(content.entries, entries[10..]);
        assert_eq!(content.recovered.last, Some(Position { term: 3, index: 100 }));
        assert!(content.recovered.torn_bytes > 0);
        assert!(bytes_of(&path) == before);

        let foreign = Identity { cluster_id: ClusterId(9), ..identity };
        assert!(matches!(read(&path, foreign), Err(WalError::Foreign { .. })));
    }
}
