//! `etcd_disk_*` and `etcd_snap_*`: what the disk takes.

use prometheus::{Histogram, IntCounter};

use super::{Register, doubling};

/// What is written, and how long that takes, in seconds.
#[derive(Clone, Debug)]
pub struct DiskMetrics {
    /// One sync of the log.
    pub wal_fsync_duration_seconds: Histogram,
    /// One write to the log.
    pub wal_write_duration_seconds: Histogram,
    /// Bytes written to the log.
    pub wal_write_bytes: IntCounter,
    /// One batch of records written behind.
    pub backend_commit_duration_seconds: Histogram,
    /// The records written anew, which gives space back.
    pub backend_defrag_duration_seconds: Histogram,
    /// One snapshot sent to a client, from its writing to its last byte.
    pub backend_snapshot_duration_seconds: Histogram,
    /// One snapshot of this member's own, written.
    pub snap_save_total_duration_seconds: Histogram,
    /// One sync of a snapshot file that this member writes.
    pub snap_fsync_duration_seconds: Histogram,
    /// One snapshot received from the leader and saved.
    pub snap_db_save_total_duration_seconds: Histogram,
    /// The last sync of a snapshot received from the leader.
    pub snap_db_fsync_duration_seconds: Histogram,
}

impl DiskMetrics {
    pub(super) fn new(r: &Register<'_>) -> Self {
        Self {
            wal_fsync_duration_seconds: r.histogram(
                "etcd_disk_wal_fsync_duration_seconds",
                "The latency distributions of fsync called by WAL.",
                doubling(0.001, 14),
            ),
            wal_write_duration_seconds: r.histogram(
                "etcd_disk_wal_write_duration_seconds",
                "The latency distributions of writes to the WAL.",
                doubling(0.001, 14),
            ),
            wal_write_bytes: r.counter("etcd_disk_wal_write_bytes_total", "Bytes written to the WAL."),
            backend_commit_duration_seconds: r.histogram(
                "etcd_disk_backend_commit_duration_seconds",
                "The latency distributions of batches written behind to the backend.",
                doubling(0.001, 14),
            ),
            backend_defrag_duration_seconds: r.histogram(
                "etcd_disk_backend_defrag_duration_seconds",
                "The latency distributions of writing the backend anew to give space back.",
                doubling(0.1, 13),
            ),
            backend_snapshot_duration_seconds: r.histogram(
                "etcd_disk_backend_snapshot_duration_seconds",
                "The latency distributions of snapshots sent to clients.",
                doubling(0.01, 17),
            ),
            snap_save_total_duration_seconds: r.histogram(
                "etcd_debugging_snap_save_total_duration_seconds",
                "The latency distributions of writing this member's own snapshots.",
                doubling(0.001, 14),
            ),
            snap_fsync_duration_seconds: r.histogram(
                "etcd_snap_fsync_duration_seconds",
                "The latency distributions of fsync of snapshots.",
                doubling(0.001, 14),
            ),
            snap_db_save_total_duration_seconds: r.histogram(
                "etcd_snap_db_save_total_duration_seconds",
                "The latency distributions of saving snapshots of the leader.",
                doubling(0.1, 10),
            ),
            snap_db_fsync_duration_seconds: r.histogram(
                "etcd_snap_db_fsync_duration_seconds",
                "The latency distributions of fsync of snapshots of the leader.",
                doubling(0.001, 14),
            ),
        }
    }
}
