//! `barque_snapshot_*`: the snapshots that a member takes by itself.

use prometheus::{Histogram, IntCounter, IntGauge};

use super::{Register, doubling};

/// How they fare.
#[derive(Clone, Debug)]
pub struct BackupMetrics {
    /// When the last good one was taken, also in an earlier run, in seconds since 1970; 0 when there is none.
    pub last_success_timestamp_seconds: IntGauge,
    /// The size of that one.
    pub size_bytes: IntGauge,
    /// Those that could not be taken.
    pub failures: IntCounter,
    /// One that was taken: written, synced and read again, in seconds.
    pub duration_seconds: Histogram,
}

impl BackupMetrics {
    pub(super) fn new(r: &Register<'_>) -> Self {
        Self {
            last_success_timestamp_seconds: r.gauge(
                "barque_snapshot_last_success_timestamp_seconds",
                "When the last good scheduled snapshot was taken, in seconds since 1970.",
            ),
            size_bytes: r
                .gauge("barque_snapshot_size_bytes", "The size of the last good scheduled snapshot."),
            failures: r
                .counter("barque_snapshot_failures_total", "Scheduled snapshots that could not be taken."),
            duration_seconds: r.histogram(
                "barque_snapshot_duration_seconds",
                "The latency distributions of taking and verifying scheduled snapshots.",
                doubling(0.01, 17),
            ),
        }
    }
}
