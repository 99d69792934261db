//! When to write a snapshot, and how much log to keep behind it.
//!
//! A snapshot is a whole copy of the state, so it is written only after the log has grown by a good part
//! of the last one: the disk then writes at most a few times what clients wrote. Entries behind it are
//! kept, up to a number of bytes, for members that lag, and all of them for one that is being sent a snapshot.

use openraft::async_runtime::WatchReceiver as _;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::raft::log_storage::LogStore;
use crate::raft::node::RaftHandle;
use crate::raft::snapshots::Snapshots;
use crate::state::published::Published;

/// When to write one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotRule {
    /// Entries since the last one, at least (`--snapshot-count`).
    pub entries: u64,
    /// Bytes of log kept behind a snapshot for members that lag.
    pub keep_log_bytes: u64,
}

/// The log, against the last snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Growth {
    entries: u64,
    log_bytes: u64,
    snapshot_bytes: u64,
}

impl SnapshotRule {
    /// Whether the log has grown enough. Many small entries count like half a snapshot of bytes; a log of
    /// large entries counts by its bytes alone, however few they are.
    fn is_due(self, growth: Growth) -> bool {
        let worth = growth.snapshot_bytes / 2;
        (growth.entries >= self.entries && growth.log_bytes >= worth)
            || growth.log_bytes >= (4 * self.keep_log_bytes).max(2 * growth.snapshot_bytes)
    }
}

/// Runs until `stop`.
pub async fn run(
    rule: SnapshotRule,
    raft: RaftHandle,
    log: LogStore,
    snapshots: Arc<Snapshots>,
    published: Arc<Published>,
    stop: CancellationToken,
) {
    let mut milestones = published.milestones();
    loop {
        milestones.borrow_and_update();
        let index = published.peek().applied_index;
        let last = snapshots.current();
        let from = last.as_ref().map_or(0, |file| file.applied_index);
        let growth = Growth {
            entries: index.saturating_sub(from),
            log_bytes: log.wal().bytes_behind(from),
            snapshot_bytes: last.as_ref().map_or(0, |file| file.size_bytes),
        };
        if rule.is_due(growth) {
            let done = write_and_purge(rule, &raft, &log, &snapshots, from);
            tokio::select! {
                () = stop.cancelled() => return,
                done = done => if !done { return },
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = milestones.changed() => if changed.is_err() { return },
        }
    }
}

/// The first entry that is kept for members that lag: as many as fit into `keep_bytes`.
fn first_kept(log: &LogStore, keep_bytes: u64, upto: u64) -> u64 {
    let (mut low, mut high) = (0, upto);
    while low < high {
        let middle = low + (high - low) / 2;
        if log.wal().bytes_behind(middle) > keep_bytes { low = middle + 1 } else { high = middle }
    }
    low
}

/// Whether Raft goes on.
async fn write_and_purge(
    rule: SnapshotRule,
    raft: &RaftHandle,
    log: &LogStore,
    snapshots: &Snapshots,
    from: u64,
) -> bool {
    let started = std::time::Instant::now();
    if raft.trigger().snapshot().await.is_err() {
        return false;
    }
    let mut metrics = raft.data_metrics();
    let newer = metrics.wait_until(|metrics| metrics.snapshot.is_some_and(|id| id.index() > from));
    if newer.await.is_err() {
        return false;
    }
    let Some(file) = snapshots.current() else { return true };
    let took_ms = started.elapsed().as_millis() as u64;
    tracing::info!(index = file.applied_index, bytes = file.size_bytes, took_ms, "wrote a snapshot");
    let keep_from = first_kept(log, rule.keep_log_bytes, file.applied_index);
    let pinned = snapshots.pinned_from().unwrap_or(u64::MAX);
    match keep_from.min(file.applied_index).min(pinned) {
        0 => true,
        upto => raft.trigger().purge_log(upto).await.is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_worth_its_writing() {
        let rule = SnapshotRule { entries: 100, keep_log_bytes: 1000 };
        let due =
            |entries, log_bytes, snapshot_bytes| rule.is_due(Growth { entries, log_bytes, snapshot_bytes });
        assert!(!due(99, 0, 0));
        assert!(due(100, 0, 0), "an empty store");
        assert!(!due(1_000, 400, 1000), "the log is small beside the last snapshot");
        assert!(due(1_000, 500, 1000));
        assert!(!due(3, 3_999, 0));
        assert!(due(3, 4_000, 0), "few large entries");
        assert!(!due(3, 4_000, 3_000));
    }
}
