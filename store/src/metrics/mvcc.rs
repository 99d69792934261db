//! `etcd_mvcc_*` and `etcd_debugging_mvcc_*`: the keyspace.

use prometheus::{Histogram, IntCounter, IntGauge};

use super::apply::Operations;
use super::{Register, doubling};
use crate::command::{Txn, TxnOutcome};

/// What the keyspace counts.
#[derive(Clone, Debug)]
pub struct MvccMetrics {
    /// Bytes of the keyspace, history too: what `Maintenance.Status` tells as `dbSize`.
    pub db_total_size: IntGauge,
    /// Bytes of live records: what the quota is held against.
    pub db_total_size_in_use: IntGauge,
    /// Views that are being read from.
    pub db_open_read_transactions: IntGauge,
    /// Ranges read, those in transactions too.
    pub range: IntCounter,
    /// Puts executed, those in transactions too.
    pub put: IntCounter,
    /// Deletes executed, those in transactions too; one for each request, however many keys it deletes.
    pub delete: IntCounter,
    /// Transactions, those that only read and nested ones too.
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
    /// One step of a compaction, for which the execution of commands pauses, in milliseconds.
    pub db_compaction_pause_milliseconds: Histogram,
    /// One whole compaction, from its execution to its last step, in milliseconds.
    pub db_compaction_total_milliseconds: Histogram,
    /// When the last compaction ended, in seconds since 1970.
    pub db_compaction_last: IntGauge,
    /// Versions of keys that compactions removed.
    pub db_compaction_keys: IntCounter,
}

impl MvccMetrics {
    pub(super) fn new(r: &Register<'_>) -> Self {
        Self {
            db_total_size: r
                .gauge("etcd_mvcc_db_total_size_in_bytes", "Bytes of live records and of history."),
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
                .counter("etcd_debugging_mvcc_db_compaction_keys_total", "Versions removed by compactions."),
        }
    }

    /// Adds operations that were executed.
    pub(super) fn count(&self, operations: &Operations) {
        self.range.inc_by(operations.ranges);
        self.put.inc_by(operations.puts);
        self.total_put_size.add(i64::try_from(operations.put_bytes).unwrap_or(i64::MAX));
        self.delete.inc_by(operations.deletes);
        self.txn.inc_by(operations.txns);
    }

    /// Counts a transaction that only read.
    pub fn read_txn(&self, txn: &Txn, outcome: &TxnOutcome) {
        let mut operations = Operations::default();
        operations.count_txn(txn, outcome);
        self.count(&operations);
    }
}
