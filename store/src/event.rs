//! A change of one key, as the state machine reports it and as watches tell it.

use crate::ids::SubRevision;
use crate::record::Record;

/// `mvccpb.Event.EventType`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The key was written.
    Put,
    /// The key was deleted.
    Delete,
}

/// A change of one key. Cloning copies pointers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When; the record's `mod_revision` is `at.main`.
    pub at: SubRevision,
    /// What happened.
    pub kind: EventKind,
    /// The new version; a tombstone for a deletion.
    pub record: Record,
    /// The version before; `None` when the key did not exist, or that version is compacted.
    pub previous: Option<Record>,
}
