//! Takes down what clients and informers see, in the order in which it happens. All share one, and with it one clock. Must never
//! name a file as a history that is not whole.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::entry::{Entry, Outcome, Request};
use crate::history::{ClientId, FaultId, OperationId, RecorderError, complete_file, part_of, write_lines};

#[derive(Debug)]
struct Taken {
    entries: Vec<Entry>,
    file: Option<BufWriter<File>>,
    /// Why the file lacks entries; told when the record is finished.
    broken: Option<io::Error>,
    operations: u64,
    faults: u64,
}

/// The record of a run that goes on.
#[derive(Debug)]
pub struct Recorder {
    began: Instant,
    path: Option<PathBuf>,
    taken: Mutex<Taken>,
}

impl Recorder {
    /// A record that begins now; with a path, it is written there too.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn begin(path: Option<PathBuf>) -> Result<Self, RecorderError> {
        let file = path.as_deref().map(part_of).transpose()?;
        let taken = Taken { entries: Vec::new(), file, broken: None, operations: 0, faults: 0 };
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

    /// A client has its answer.
    pub fn completed(&self, operation: OperationId, outcome: Outcome) {
        // Before anything else, so that waiting for the record does not make the request look longer.
        let time_ns = self.now_ns();
        Self::push(&mut self.taken(), Entry::Completed { time_ns, operation, outcome });
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
