//! One lease for many short-lived objects (events): asking for one each would cost the store more than the objects.
//! Must never give an object less time than it was promised.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{LeaseId, Storage, StorageError};

/// A lease is given to new objects for so long at most.
const REUSE: Duration = Duration::from_secs(60);
/// And for this part of its time at most.
const REUSE_PART: u32 = 20;
/// And to so many objects at most: the store ends all of them at once.
const MAX_OBJECTS: u32 = 1000;

/// The lease that was granted last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Granted {
    id: LeaseId,
    ends: Instant,
    objects: u32,
}

/// How long a lease for objects of this time is shared.
fn reuse(ttl: Duration) -> Duration {
    REUSE.min(ttl / REUSE_PART)
}

/// Whether an object that is written now may hang on this lease.
fn fits(granted: &Granted, now: Instant, ttl: Duration) -> bool {
    let left = granted.ends.saturating_duration_since(now);
    granted.objects < MAX_OBJECTS && left >= ttl && left <= ttl + reuse(ttl)
}

/// Hands out leases. All objects of one of these have the same time to live, or few share a lease.
#[derive(Debug)]
pub struct EventLeases<S> {
    storage: S,
    last: Mutex<Option<Granted>>,
}

impl<S: Storage> EventLeases<S> {
    /// For objects of this storage.
    #[must_use]
    pub fn new(storage: S) -> Self {
        Self { storage, last: Mutex::new(None) }
    }

    /// A lease that lives for `ttl` at least and not much longer.
    ///
    /// # Errors
    /// When a new one is needed and the store grants none.
    pub async fn lease(&self, ttl: Duration) -> Result<LeaseId, StorageError> {
        // Those who wait here want the same lease.
        let mut last = self.last.lock().await;
        let now = Instant::now();
        if let Some(granted) = last.as_mut().filter(|granted| fits(granted, now, ttl)) {
            granted.objects += 1;
            return Ok(granted.id);
        }
        let time = ttl + reuse(ttl);
        let whole_s = time.as_secs() + u64::from(time.subsec_nanos() > 0);
        let id = self.storage.grant_lease(whole_s).await?;
        *last = Some(Granted { id, ends: now + Duration::from_secs(whole_s), objects: 1 });
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::memory::Memory;

    #[test]
    fn a_lease_is_shared_while_it_lasts_long_enough_and_not_too_long() {
        let now = Instant::now();
        let s = Duration::from_secs;
        let hour = s(3600);
        let granted = |left, objects| Granted { id: LeaseId(1), ends: now + left, objects };
        assert!(fits(&granted(hour + s(60), 1), now, hour));
        assert!(fits(&granted(hour, 1), now, hour));
        assert!(!fits(&granted(hour - s(1), 1), now, hour), "it would end too early");
        assert!(!fits(&granted(hour + s(61), 1), now, hour), "it would live too long");
        assert!(!fits(&granted(hour, MAX_OBJECTS), now, hour));
        assert_eq!(reuse(s(20)), s(1));
    }

    #[tokio::test(start_paused = true)]
    async fn objects_written_together_share_a_lease() {
        let leases = EventLeases::new(Memory::new());
        let hour = Duration::from_secs(3600);
        let first = leases.lease(hour).await.unwrap();
        assert_eq!(leases.lease(hour).await.unwrap(), first);
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_ne!(leases.lease(hour).await.unwrap(), first);
    }
}
