//! No lease ends before its time, counted from the last renewal that its client knows of, whoever led meanwhile and
//! whatever clocks did within their bounds.

use std::collections::BTreeMap;

use super::state_machine_safety::Changes;
use crate::simulation::operation::{Answer, LEASE_KEYS, Operation, Request, lease_key};
use crate::simulation::violation::Violation;

const PROPERTY: &str = "no lease ends early";

#[derive(Clone, Copy, Debug)]
struct Promise {
    ttl_ms: u64,
    /// When the renewal was asked for that was answered last.
    renewed_ms: u64,
}

/// What clients know of their leases.
#[derive(Debug)]
pub struct LeaseNotEarly {
    promises: BTreeMap<i64, Promise>,
    /// The fastest clock runs so many milliseconds in one.
    fastest_rate: f64,
    ended: u64,
}

impl LeaseNotEarly {
    /// `fastest_rate` is the bound on clocks.
    #[must_use]
    pub fn new(fastest_rate: f64) -> Self {
        Self { promises: BTreeMap::new(), fastest_rate, ended: 0 }
    }

    /// Takes note of an answer.
    pub fn answered(&mut self, operation: &Operation) {
        let renewed_ms = operation.asked_ms;
        match (&operation.request, &operation.answer) {
            (Request::Grant { id, ttl_s }, Answer::Written { .. }) => {
                let ttl_ms = u64::try_from(*ttl_s).unwrap_or(0) * 1000;
                self.promises.insert(*id, Promise { ttl_ms, renewed_ms });
            }
            (Request::KeepAlive { id }, Answer::Renewed { is_alive: true }) => {
                if let Some(promise) = self.promises.get_mut(id) {
                    promise.renewed_ms = promise.renewed_ms.max(renewed_ms);
                }
            }
            _ => {}
        }
    }

    /// Judges changes that were just executed for the first time.
    ///
    /// # Errors
    /// When a key of a lease went too early: clients never delete those.
    pub fn changed(&mut self, now_ms: u64, revision: i64, changes: &Changes) -> Result<(), Violation> {
        let deleted = changes.iter().filter(|change| change.value.is_none());
        for change in deleted.filter(|change| change.key.starts_with(LEASE_KEYS)) {
            let Some((id, promise)) = self.promises.iter().find(|(id, _)| lease_key(**id) == change.key)
            else {
                continue;
            };
            self.ended += 1;
            let lived_ms = now_ms.saturating_sub(promise.renewed_ms);
            if lived_ms as f64 * self.fastest_rate + 1.0 < promise.ttl_ms as f64 {
                let detail = format!(
                    "lease {id:x} of {} ms ended at {now_ms} ms (revision {revision}), {lived_ms} ms after it was renewed",
                    promise.ttl_ms
                );
                return Err(Violation::of(PROPERTY, detail));
            }
        }
        Ok(())
    }

    /// How many leases with keys ended.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.ended
    }
}
