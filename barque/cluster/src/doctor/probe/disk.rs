//! Measures the disk of the store. Must never leave a file behind, also when it is killed.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::super::judge::disk::DiskSeen;

/// About what a write of the store's log is, in bytes.
const PIECE: usize = 2300;
/// So many are made.
const PIECES: usize = 200;
/// And for no longer than this.
const PATIENCE: Duration = Duration::from_secs(2);

/// Measures; takes up to two seconds of a thread.
pub(crate) fn look(directory: &Path) -> DiskSeen {
    DiskSeen {
        directory: directory.to_owned(),
        syncs: syncs(directory).map_err(|error| error.to_string()),
        room: room(directory).map_err(|error| error.to_string()),
    }
}

fn syncs(directory: &Path) -> io::Result<Vec<Duration>> {
    let path = directory.join(format!(".doctor-{}", std::process::id()));
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
    // Its name goes at once: what is left of it goes with this process.
    fs::remove_file(&path)?;
    let piece = [0x5a; PIECE];
    let (begin, mut times) = (Instant::now(), Vec::with_capacity(PIECES));
    while times.len() < PIECES && begin.elapsed() < PATIENCE {
        file.write_all(&piece)?;
        let before = Instant::now();
        file.sync_data()?;
        times.push(before.elapsed());
    }
    Ok(times)
}

fn room(directory: &Path) -> io::Result<(u64, u64)> {
    let found = rustix::fs::statvfs(directory)?;
    Ok((found.f_bavail.saturating_mul(found.f_frsize), found.f_blocks.saturating_mul(found.f_frsize)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_behind() {
        let directory = tempfile::tempdir().unwrap();
        let seen = look(directory.path());
        assert!(!seen.syncs.unwrap().is_empty());
        let (free, all) = seen.room.unwrap();
        assert!(free <= all && all > 0);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        let nowhere = look(&directory.path().join("nowhere"));
        assert!(nowhere.syncs.unwrap_err().contains("No such file"));
    }
}
