//! `etcd_mvcc_*` and `etcd_debugging_mvcc_*`: the keyspace.

use prometheus::{Histogram, IntCounter, IntGauge};

use super::{Register, doubling};

/// What the keyspace counts.
#[derive(Clone, Debug)]
pub struct MvccMetrics {
    /// Bytes that the store holds on disk.
    pub db_total_size: IntGauge,
    /// Bytes of live records: what the quota is held against.
    pub db_total_size_in_use: IntGauge,
    /// Views that are being read from.
    pub db_open_read_transactions: IntGauge,
    /// Ranges.
    pub range: IntCounter,
    /// Puts.
    pub put: IntCounter,
    /// Deletes.
    pub delete: IntCounter,
    /// Transactions.
    pub txn: IntCounter,
    /// One hash of everything.
    pub hash_duration_seconds: Histogram,
    /// One hash of a revision.
    pub hash_rev_duration_seconds: Histogram,
    /// Keys that exist.
    pub keys: IntGauge,
    /// The current revision.
    pub current_revision: IntGauge,
    /// The revision compacted to.
    pub compact_revision: IntGauge,
    /// Bytes of keys and values that were put since the start.
    pub total_put_size: IntGauge,
    /// One step of a compaction, in milliseconds.
    pub db_compaction_pause_milliseconds: Histogram,
    /// One whole compaction, in milliseconds.
    pub db_compaction_total_milliseconds: Histogram,
    /// When the last compaction ended, in seconds since 1970.
    pub db_compaction_last: IntGauge,
    /// Records that compactions removed.
    pub db_compaction_keys: IntCounter,
}

impl MvccMetrics {
    pub(super) fn new(r: &Register<'_>) -> Self {
        Self {
            db_total_size: r.gauge("etcd_mvcc_db_total_size_in_bytes", "Bytes held on disk."),
            db_total_size_in_use: r
                .gauge("etcd_mvcc_db_total_size_in_use_in_bytes", "Bytes of live records."),
            db_open_read_transactions: r
                .gauge("etcd_mvcc_db_open_read_transactions", "Views being read from."),
            range: r.counter("etcd_mvcc_range_total", "Ranges seen by this member."),
            put: r.counter("etcd_mvcc_put_total", "Puts seen by this member."),
            delete: r.counter("etcd_mvcc_delete_total", "Deletes seen by this member."),
            txn: r.counter("etcd_mvcc_txn_total", "Transactions seen by this member."),
            hash_duration_seconds: r.histogram(
                "etcd_mvcc_hash_duration_seconds",
                "The latency distributions of hashing everything.",
                doubling(0.01, 15),
            ),
            hash_rev_duration_seconds: r.histogram(
                "etcd_mvcc_hash_rev_duration_seconds",
                "The latency distributions of hashing a revision.",
                doubling(0.01, 15),
            ),
            keys: r.gauge("etcd_debugging_mvcc_keys_total", "Keys that exist."),
            current_revision: r.gauge("etcd_debugging_mvcc_current_revision", "The current revision."),
            compact_revision: r.gauge("etcd_debugging_mvcc_compact_revision", "The revision compacted to."),
            total_put_size: r
                .gauge("etcd_debugging_mvcc_total_put_size_in_bytes", "Bytes put since the start."),
            db_compaction_pause_milliseconds: r.histogram(
                "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
                "The distributions of one step of a compaction.",
                doubling(1.0, 13),
            ),
            db_compaction_total_milliseconds: r.histogram(
                "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
                "The distributions of whole compactions.",
                doubling(100.0, 14),
            ),
            db_compaction_last: r.gauge(
                "etcd_debugging_mvcc_db_compaction_last",
                "When the last compaction ended, in seconds since 1970.",
            ),
            db_compaction_keys: r
                .counter("etcd_debugging_mvcc_db_compaction_keys_total", "Records removed by compactions."),
        }
    }
}
