//! The record of a run: what clients asked and were told, what watches delivered, which faults there were.
//!
//! Everything that a verdict rests on is in it, so that a history which was written to a file can be judged again by
//! anybody. It must never say more than a client can know: a request without an answer stays open.

mod assembled;
mod condition;
mod data;
mod entry;
mod ledger;
mod lines;
mod recorder;
mod request;

pub use assembled::{Fault, History, Malformed, Operation, Watch, WatchAnswer};
pub use condition::{Compare, Relation, Selection, Sort, SortBy, Target};
pub use data::{Event, KeyValue, Span};
pub use entry::{ClientId, Entry, FaultId, MemberState, OperationId, RevisionEvents, WatchId, WatchRequest};
pub(crate) use ledger::Ledger;
pub use ledger::RecorderError;
pub use lines::{LinesError, read_lines, write_lines};
pub use recorder::Recorder;
pub use request::{Answer, Outcome, Request};
