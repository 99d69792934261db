//! `etcd_debugging_mvcc_*` about watchers.

use prometheus::{IntCounter, IntGauge};

use super::Register;

/// What the watch hub counts.
#[derive(Clone, Debug)]
pub struct WatchMetrics {
    /// Streams that are open.
    pub streams: IntGauge,
    /// Watchers on them.
    pub watchers: IntGauge,
    /// Watchers that read history because they are behind.
    pub slow_watchers: IntGauge,
    /// Events sent to watchers.
    pub events: IntCounter,
    /// Events that wait to be sent.
    pub pending_events: IntGauge,
}

impl WatchMetrics {
    pub(super) fn new(r: &Register<'_>) -> Self {
        Self {
            streams: r.gauge("etcd_debugging_mvcc_watch_stream_total", "Watch streams that are open."),
            watchers: r.gauge("etcd_debugging_mvcc_watcher_total", "Watchers."),
            slow_watchers: r.gauge("etcd_debugging_mvcc_slow_watcher_total", "Watchers that are behind."),
            events: r.counter("etcd_debugging_mvcc_events_total", "Events sent to watchers."),
            pending_events: r
                .gauge("etcd_debugging_mvcc_pending_events_total", "Events that wait to be sent."),
        }
    }
}
