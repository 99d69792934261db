//! `apiserver_watch_cache_*`, `apiserver_resource_objects`: what the caches hold and did, looked at when a scrape comes. Must
//! never hold up a cache.

use std::collections::HashSet;

use barque_api::kind::GroupResource;
use parking_lot::Mutex;
use prometheus::{IntCounterVec, IntGaugeVec};

use super::register::Register;
use crate::watch_cache::counts::Counts;

/// See the module's description.
#[derive(Debug)]
pub struct CacheMetrics {
    objects: IntGaugeVec,
    storage_objects: IntGaugeVec,
    bytes: IntGaugeVec,
    capacity: IntGaugeVec,
    revision: IntGaugeVec,
    watchers: IntGaugeVec,
    received: IntCounterVec,
    dispatched: IntCounterVec,
    initializations: IntCounterVec,
    known: Mutex<HashSet<GroupResource>>,
}

impl CacheMetrics {
    pub(super) fn new(r: &Register<'_>) -> Self {
        let of = ["group", "resource"];
        Self {
            objects: r.gauges("apiserver_resource_objects", "Objects of each collection.", &of),
            storage_objects: r.gauges(
                "apiserver_storage_objects",
                "Objects of each collection (apiserver_resource_objects has more labels).",
                &["resource"],
            ),
            bytes: r.gauges(
                "apiserver_resource_size_estimate_bytes",
                "Bytes of the objects of each collection.",
                &of,
            ),
            capacity: r.gauges("watch_cache_capacity", "Events that a cache keeps at most.", &of),
            revision: r.gauges(
                "apiserver_watch_cache_resource_version",
                "How new each cache is; the last 15 digits.",
                &of,
            ),
            watchers: r.gauges("barque_watch_cache_watchers", "Watchers of each cache.", &of),
            received: r.counters(
                "apiserver_watch_cache_events_received_total",
                "Changes that came from the store.",
                &of,
            ),
            dispatched: r.counters(
                "apiserver_watch_cache_events_dispatched_total",
                "Events that were handed to watchers.",
                &of,
            ),
            initializations: r.counters(
                "apiserver_watch_cache_initializations_total",
                "How often each cache was filled anew.",
                &of,
            ),
            known: Mutex::default(),
        }
    }

    /// Tells what these caches hold, and forgets all others. Counters go on from where they were.
    pub fn look(&self, caches: impl IntoIterator<Item = (GroupResource, Counts)>) {
        let mut known = self.known.lock();
        let mut now = HashSet::new();
        for (resource, counts) in caches {
            let of = [&*resource.group, &*resource.resource];
            let set = |gauge: &IntGaugeVec, value: u64| {
                gauge.with_label_values(&of).set(i64::try_from(value).unwrap_or(i64::MAX));
            };
            set(&self.objects, counts.objects);
            set(&self.bytes, counts.bytes);
            set(&self.capacity, counts.capacity);
            set(&self.revision, counts.revision.0 % 1_000_000_000_000_000);
            set(&self.watchers, counts.watchers);
            let objects = i64::try_from(counts.objects).unwrap_or(i64::MAX);
            self.storage_objects.with_label_values(&[resource.to_string()]).set(objects);
            for (counter, total) in [
                (&self.received, counts.received),
                (&self.dispatched, counts.dispatched),
                (&self.initializations, counts.initializations),
            ] {
                let counter = counter.with_label_values(&of);
                counter.inc_by(total.saturating_sub(counter.get()));
            }
            now.insert(resource);
        }
        for gone in known.difference(&now) {
            let of = [&*gone.group, &*gone.resource];
            // All of them were set by the look before.
            for gauge in [&self.objects, &self.bytes, &self.capacity, &self.revision, &self.watchers] {
                let _ = gauge.remove_label_values(&of);
            }
            let _ = self.storage_objects.remove_label_values(&[gone.to_string()]);
            for counter in [&self.received, &self.dispatched, &self.initializations] {
                let _ = counter.remove_label_values(&of);
            }
        }
        *known = now;
    }
}
