//! The bytes of request bodies that are in memory at once. Must never let a body begin for which there is no room.

use std::sync::Arc;

use barque_api::status::Status;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::limits::too_many_requests;

/// Room for bodies. Cloning copies a pointer.
#[derive(Clone, Debug)]
pub struct BodyRoom {
    bytes: Arc<Semaphore>,
    /// The most bytes of one body.
    largest: u32,
}

/// Room that is taken, for as long as this lives.
#[derive(Debug)]
pub struct BodyPermit(#[expect(dead_code, reason = "gives the room back when it goes")] OwnedSemaphorePermit);

impl BodyRoom {
    /// For so many bytes; no body may have more than `largest`, and one always fits.
    #[must_use]
    pub fn new(bytes: usize, largest: u32) -> Self {
        let bytes = bytes.clamp(largest as usize, Semaphore::MAX_PERMITS);
        Self { bytes: Arc::new(Semaphore::new(bytes)), largest }
    }

    /// Room for a body whose length is what its header says; one that does not say may be as large as any.
    ///
    /// # Errors
    /// 429 when there is none.
    pub fn take(&self, declared: Option<u64>) -> Result<BodyPermit, Status> {
        let bytes = declared.and_then(|length| u32::try_from(length).ok());
        let bytes = bytes.unwrap_or(self.largest).min(self.largest);
        let permit = Arc::clone(&self.bytes).try_acquire_many_owned(bytes);
        permit.map(BodyPermit).map_err(|_| too_many_requests())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_beyond_the_room_are_sent_away_until_others_are_done() {
        let room = BodyRoom::new(100, 60);
        let first = room.take(Some(50)).unwrap();
        assert_eq!(room.take(None).unwrap_err().reason.code(), 429);
        let second = room.take(Some(50)).unwrap();
        assert!(room.take(Some(0)).is_ok());
        assert!(room.take(Some(1)).is_err());
        drop((first, second));
        // What is larger than any body may be is refused while it is read.
        assert!(room.take(Some(u64::MAX)).is_ok());
    }
}
