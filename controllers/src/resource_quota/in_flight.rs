//! What was charged to quotas a moment ago, and may be for objects that are still on their way: the API server charges first and
//! creates then. Must never be asked about charges that are older than [`WINDOW`].

use std::collections::HashMap;
use std::time::Duration;

use barque_api::quota::amounts::{Amounts, add};
use k8s_openapi::api::core::v1::ResourceQuota;
use parking_lot::Mutex;

use crate::cache::Change;
use crate::clock::Clock;
use crate::kind::{Key, Object as _};

/// The longest time from a charge to when its object is in the cache, on a cluster in trouble. For so long a charge is not
/// given back for which nothing can be seen.
pub(super) const WINDOW: Duration = Duration::from_secs(5);

/// Charges of the last moments, by quota.
pub(super) struct Charges {
    clock: Clock,
    of: Mutex<HashMap<Key, Vec<(Duration, Amounts)>>>,
}

/// What is used by a quota's own account.
pub(super) fn used(quota: &ResourceQuota) -> Amounts {
    let used = quota.status.as_ref().and_then(|status| status.used.as_ref());
    used.map(super::amounts).unwrap_or_default()
}

/// How much more the one is than the other, where it is more.
pub(super) fn rise(before: &Amounts, after: &Amounts) -> Amounts {
    let rises = after.iter().filter_map(|(name, after)| {
        let rise = before.get(name).map_or_else(|| after.clone(), |before| after.minus(before));
        (rise.sign() > 0).then(|| (name.clone(), rise))
    });
    rises.collect()
}

impl Charges {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, of: Mutex::default() }
    }

    /// A quota changed. Of one that is seen for the first time nobody knows when it was charged.
    pub(super) fn seen(&self, change: &Change<ResourceQuota>) {
        let key = change.latest().key();
        let mut all = self.of.lock();
        let Some(new) = &change.new else {
            all.remove(&key);
            return;
        };
        let now = self.clock.now();
        let rise = rise(&change.old.as_deref().map(used).unwrap_or_default(), &used(new));
        let recent = all.entry(key).or_default();
        recent.retain(|(at, _)| now.saturating_sub(*at) < WINDOW);
        if !rise.is_empty() {
            recent.push((now, rise));
        }
    }

    /// What was charged in the last moments.
    pub(super) fn recent(&self, key: &Key) -> Amounts {
        let now = self.clock.now();
        let mut sum = Amounts::new();
        for (at, amounts) in self.of.lock().get(key).into_iter().flatten() {
            if now.saturating_sub(*at) < WINDOW {
                add(&mut sum, amounts);
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use serde_json::json;

    use super::*;

    fn quota(pods: u32) -> Arc<ResourceQuota> {
        let quota = json!({"metadata": {"namespace": "ns", "name": "q"}, "status": {"used": {"pods": pods.to_string()}}});
        Arc::new(serde_json::from_value(quota).unwrap())
    }

    #[test]
    fn charges_are_known_for_a_moment() {
        let time = Arc::new(AtomicU64::new(100));
        let seconds = time.clone();
        let charges = Charges::new(Clock::new(move || Duration::from_secs(seconds.load(Ordering::Relaxed))));
        let at = |now: u64, old: Option<u32>, new: Option<u32>| {
            time.store(now, Ordering::Relaxed);
            charges.seen(&Change { old: old.map(quota), new: new.map(quota) });
        };
        let recent = |now: u64| {
            time.store(now, Ordering::Relaxed);
            charges.recent(&quota(0).key()).get("pods").map(barque_api::quantity::Quantity::value)
        };
        assert_eq!(recent(100), None);
        at(100, None, Some(3));
        assert_eq!(recent(100), Some(3));
        at(102, Some(3), Some(5));
        at(103, Some(5), Some(1));
        assert_eq!((recent(104), recent(106), recent(107)), (Some(5), Some(2), None));
        at(108, Some(1), Some(2));
        at(108, Some(2), None);
        assert_eq!(recent(108), None);
    }
}
