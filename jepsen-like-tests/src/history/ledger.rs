//! What a run is taken down in: entries in the order in which they happen, one clock for all, and a file. Must never know what an
//! entry says.
//!
//! The file carries another ending until it is complete, so that a history under its own name is a whole one.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;

use super::lines::write_lines;

/// The record could not be kept.
#[derive(Debug, thiserror::Error)]
#[error("the history cannot be written to {}: {source}; give a directory on a disk with room as --out", path.display())]
pub struct RecorderError {
    path: PathBuf,
    source: io::Error,
}

#[derive(Debug)]
struct Taken<E, N> {
    entries: Vec<E>,
    file: Option<BufWriter<File>>,
    /// Why the file lacks entries; told when the record is finished.
    broken: Option<io::Error>,
    numbers: N,
}

impl<E: Serialize, N> Taken<E, N> {
    fn push(&mut self, entry: E) {
        if let Some(file) = &mut self.file
            && self.broken.is_none()
        {
            self.broken = write_lines(std::slice::from_ref(&entry), file).err();
        }
        self.entries.push(entry);
    }
}

/// Entries `E` of a run that goes on, and the numbers `N` that were given to what they are about.
#[derive(Debug)]
pub(crate) struct Ledger<E, N> {
    began: Instant,
    path: Option<PathBuf>,
    taken: Mutex<Taken<E, N>>,
}

impl<E: Serialize, N: Default> Ledger<E, N> {
    /// One that begins now; with a path, it is written there too.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub(crate) fn begin(path: Option<PathBuf>) -> Result<Self, RecorderError> {
        let file = path.as_deref().map(make).transpose()?;
        let taken = Taken { entries: Vec::new(), file, broken: None, numbers: N::default() };
        Ok(Self { began: Instant::now(), path, taken: Mutex::new(taken) })
    }

    fn taken(&self) -> MutexGuard<'_, Taken<E, N>> {
        // An entry is pushed whole or not at all, whatever became of a thread.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nanoseconds since the run began.
    pub(crate) fn now_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Takes down an entry that carries no time, or its own.
    pub(crate) fn note(&self, entry: E) {
        self.taken().push(entry);
    }

    /// Takes down an entry about something new: with the numbers so far and the time of its place in the record.
    pub(crate) fn begun<T>(&self, entry: impl FnOnce(&mut N, u64) -> (T, E)) -> T {
        let mut taken = self.taken();
        let (what, entry) = entry(&mut taken.numbers, self.now_ns());
        taken.push(entry);
        what
    }

    /// What the numbers are now.
    pub(crate) fn numbers<T>(&self, read: impl FnOnce(&N) -> T) -> T {
        read(&self.taken().numbers)
    }

    /// Completes the file, and gives the entries.
    ///
    /// # Errors
    /// When the file could not be written whole; it keeps its other ending then.
    pub(crate) fn finish(&self) -> Result<Vec<E>, RecorderError> {
        let mut taken = self.taken();
        if let (Some(path), Some(file)) = (&self.path, taken.file.take()) {
            let wrong = |source| RecorderError { path: path.clone(), source };
            complete(path, file, taken.broken.take()).map_err(wrong)?;
        }
        Ok(std::mem::take(&mut taken.entries))
    }
}

fn unfinished(path: &Path) -> PathBuf {
    path.with_extension("part")
}

fn make(path: &Path) -> Result<BufWriter<File>, RecorderError> {
    let part = unfinished(path);
    File::create(&part).map(BufWriter::new).map_err(|source| RecorderError { path: part, source })
}

fn complete(path: &Path, mut file: BufWriter<File>, broken: Option<io::Error>) -> io::Result<()> {
    if let Some(broken) = broken {
        return Err(broken);
    }
    file.flush()?;
    file.get_ref().sync_all()?;
    std::fs::rename(unfinished(path), path)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}
