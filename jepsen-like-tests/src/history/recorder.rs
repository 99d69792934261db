//! Takes down what clients do, in the order in which it happens, while it happens.

use std::path::PathBuf;

use super::entry::{ClientId, Entry, FaultId, OperationId, WatchId, WatchRequest};
use super::ledger::{Ledger, RecorderError};
use super::request::{Outcome, Request};

#[derive(Debug, Default)]
struct Numbers {
    operations: u64,
    watches: u64,
    faults: u64,
}

/// The record of a run that goes on. All clients share one, and with it one clock.
#[derive(Debug)]
pub struct Recorder(Ledger<Entry, Numbers>);

impl Recorder {
    /// A record that begins now; with a path, it is written there too.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn begin(path: Option<PathBuf>) -> Result<Self, RecorderError> {
        Ledger::begin(path).map(Self)
    }

    /// Nanoseconds since the run began.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.0.now_ns()
    }

    /// Takes down an entry that carries no time, or its own.
    pub fn note(&self, entry: Entry) {
        self.0.note(entry);
    }

    /// A client is about to send a request.
    pub fn invoked(&self, client: ClientId, member: &str, request: Request) -> OperationId {
        let member = member.to_owned();
        self.0.begun(|numbers, time_ns| {
            numbers.operations += 1;
            let operation = OperationId(numbers.operations);
            (operation, Entry::Invoked { time_ns, operation, client, member, request })
        })
    }

    /// A client has its answer. The time is taken before anything else, so that waiting for the record does not
    /// make the request look longer.
    pub fn completed(&self, operation: OperationId, outcome: Outcome) {
        let time_ns = self.now_ns();
        self.note(Entry::Completed { time_ns, operation, outcome });
    }

    /// A client is about to ask for a watch.
    pub fn watch_opened(&self, client: ClientId, member: &str, request: WatchRequest) -> WatchId {
        let member = member.to_owned();
        self.0.begun(|numbers, time_ns| {
            numbers.watches += 1;
            let watch = WatchId(numbers.watches);
            (watch, Entry::WatchOpened { time_ns, watch, client, member, request })
        })
    }

    /// A fault is about to begin.
    pub fn fault_began(&self, kind: &str, members: Vec<String>) -> FaultId {
        let kind = kind.to_owned();
        self.0.begun(|numbers, time_ns| {
            numbers.faults += 1;
            let fault = FaultId(numbers.faults);
            (fault, Entry::FaultBegan { time_ns, fault, kind, members })
        })
    }

    /// A fault is over.
    pub fn fault_ended(&self, fault: FaultId) {
        self.note(Entry::FaultEnded { time_ns: self.now_ns(), fault });
    }

    /// How many requests have been sent.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.0.numbers(|numbers| numbers.operations)
    }

    /// Completes the file, and gives the entries.
    ///
    /// # Errors
    /// When the file could not be written whole; it keeps its other ending then.
    pub fn finish(&self) -> Result<Vec<Entry>, RecorderError> {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "in a test a failure is the message")]

    use std::fs::File;
    use std::io;

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
