//! Takes down what clients do, in the order in which it happens, while it happens.
//!
//! The file carries another ending until it is complete, so that a history under its own name is a whole one.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::entry::{ClientId, Entry, FaultId, OperationId, WatchId, WatchRequest};
use super::lines::write_lines;
use super::request::{Outcome, Request};

/// The record could not be kept.
#[derive(Debug, thiserror::Error)]
#[error("the history cannot be written to {}: {source}; give a directory on a disk with room as --out", path.display())]
pub struct RecorderError {
    path: PathBuf,
    source: io::Error,
}

#[derive(Debug)]
struct Taken {
    entries: Vec<Entry>,
    file: Option<BufWriter<File>>,
    /// Why the file lacks entries; told when the record is finished.
    broken: Option<io::Error>,
    operations: u64,
    watches: u64,
    faults: u64,
}

/// The record of a run that goes on. All clients share one, and with it one clock.
#[derive(Debug)]
pub struct Recorder {
    began: Instant,
    path: Option<PathBuf>,
    taken: Mutex<Taken>,
}

fn unfinished(path: &Path) -> PathBuf {
    path.with_extension("part")
}

/// The file of a record that goes on.
pub(crate) fn part_of(path: &Path) -> Result<BufWriter<File>, RecorderError> {
    let part = unfinished(path);
    File::create(&part).map(BufWriter::new).map_err(|source| RecorderError { path: part, source })
}

/// Gives the file of a record its name, unless it is broken.
pub(crate) fn complete_file(
    path: &Path,
    file: BufWriter<File>,
    broken: Option<io::Error>,
) -> Result<(), RecorderError> {
    complete(path, file, broken).map_err(|source| RecorderError { path: path.to_owned(), source })
}

impl Recorder {
    /// A record that begins now; with a path, it is written there too.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn begin(path: Option<PathBuf>) -> Result<Self, RecorderError> {
        let file = path.as_deref().map(part_of).transpose()?;
        let taken = Taken { entries: Vec::new(), file, broken: None, operations: 0, watches: 0, faults: 0 };
        Ok(Self { began: Instant::now(), path, taken: Mutex::new(taken) })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // An entry is pushed whole or not at all, whatever became of a thread.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nanoseconds since the run began.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn push(taken: &mut Taken, entry: Entry) {
        if let Some(file) = &mut taken.file
            && taken.broken.is_none()
        {
            taken.broken = write_lines(std::slice::from_ref(&entry), file).err();
        }
        taken.entries.push(entry);
    }

    /// Takes down an entry that carries no time, or its own.
    pub fn note(&self, entry: Entry) {
        Self::push(&mut self.taken(), entry);
    }

    /// A client is about to send a request.
    pub fn invoked(&self, client: ClientId, member: &str, request: Request) -> OperationId {
        let mut taken = self.taken();
        taken.operations += 1;
        let (operation, time_ns) = (OperationId(taken.operations), self.now_ns());
        let member = member.to_owned();
        Self::push(&mut taken, Entry::Invoked { time_ns, operation, client, member, request });
        operation
    }

    /// A client has its answer. The time is taken before anything else, so that waiting for the record does not
    /// make the request look longer.
    pub fn completed(&self, operation: OperationId, outcome: Outcome) {
        let time_ns = self.now_ns();
        Self::push(&mut self.taken(), Entry::Completed { time_ns, operation, outcome });
    }

    /// A client is about to ask for a watch.
    pub fn watch_opened(&self, client: ClientId, member: &str, request: WatchRequest) -> WatchId {
        let mut taken = self.taken();
        taken.watches += 1;
        let (watch, time_ns) = (WatchId(taken.watches), self.now_ns());
        let member = member.to_owned();
        Self::push(&mut taken, Entry::WatchOpened { time_ns, watch, client, member, request });
        watch
    }

    /// A fault is about to begin.
    pub fn fault_began(&self, kind: &str, members: Vec<String>) -> FaultId {
        let mut taken = self.taken();
        taken.faults += 1;
        let (fault, time_ns) = (FaultId(taken.faults), self.now_ns());
        Self::push(&mut taken, Entry::FaultBegan { time_ns, fault, kind: kind.to_owned(), members });
        fault
    }

    /// A fault is over.
    pub fn fault_ended(&self, fault: FaultId) {
        self.note(Entry::FaultEnded { time_ns: self.now_ns(), fault });
    }

    /// How many requests have been sent.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.taken().operations
    }

    /// Completes the file, and gives the entries.
    ///
    /// # Errors
    /// When the file could not be written whole; it keeps its other ending then.
    pub fn finish(&self) -> Result<Vec<Entry>, RecorderError> {
        let mut taken = self.taken();
        if let (Some(path), Some(file)) = (&self.path, taken.file.take()) {
            complete_file(path, file, taken.broken.take())?;
        }
        Ok(std::mem::take(&mut taken.entries))
    }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "in a test a failure is the message")]

    use super::*;
    use crate::history::read_lines;

    #[test]
    fn a_file_gets_its_name_when_it_is_complete() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("history.jsonl");
        let recorder = Recorder::begin(Some(path.clone())).unwrap();
        let operation = recorder.invoked(ClientId(1), "m1", Request::get("a"));
        recorder.completed(operation, Outcome::Failed { error: "refused".to_owned() });
        let fault = recorder.fault_began("kill", vec!["m1".to_owned()]);
        recorder.fault_ended(fault);
        assert!(!path.exists());
        let entries = recorder.finish().unwrap();
        assert_eq!(entries.len(), 4);
        let file = io::BufReader::new(File::open(&path).unwrap());
        assert_eq!(read_lines::<Entry>(file).unwrap(), entries);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let error = Recorder::begin(Some(PathBuf::from("/no/such/place/history.jsonl"))).unwrap_err();
        assert!(error.to_string().contains("/no/such/place/history.part"), "{error}");
    }
}
