//! What watches need of the state machine: the events of the past.

use crate::command::CommandError;
use crate::event::Event;
use crate::ids::Revision;

/// The state machine's history as it is now: each call answers from the newest state.
pub trait History: Send + Sync + 'static {
    /// The newest revision. Never less than one that was published before.
    fn revision(&self) -> Revision;

    /// History before this revision may be gone; 0 or less when nothing was ever compacted.
    fn compact_revision(&self) -> Revision;

    /// The events of `from` and later, in order and in whole revisions: as many revisions as stay
    /// within both limits, but the first one however large it is. Empty when `from` is in the future.
    ///
    /// # Errors
    /// [`CommandError::Compacted`] when `from` is before the compact revision;
    /// [`CommandError::History`] when history is unreadable.
    fn read(&self, from: Revision, max_events: usize, max_bytes: usize) -> Result<Vec<Event>, CommandError>;

    /// Whether reading from there may wait for a disk. Such reads are made where blocking is allowed.
    fn is_cold(&self, from: Revision) -> bool;
}
