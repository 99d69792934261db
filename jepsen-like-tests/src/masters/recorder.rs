//! Takes down what clients and informers see, in the order in which it happens. All share one, and with it one clock. Must never
//! judge.

use std::path::PathBuf;

use super::entry::{Entry, Outcome, Request};
use crate::history::{ClientId, FaultId, Ledger, OperationId, RecorderError};

#[derive(Debug, Default)]
struct Numbers {
    operations: u64,
    faults: u64,
}

/// The record of a run that goes on.
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

    /// A client has its answer. The time is taken first, so that waiting for the record does not make the request look longer.
    pub fn completed(&self, operation: OperationId, outcome: Outcome) {
        let time_ns = self.now_ns();
        self.note(Entry::Completed { time_ns, operation, outcome });
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
