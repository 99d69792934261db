//! When to write a snapshot, and how much log to keep behind it.
//!
//! A snapshot is a whole copy of the state, so it is written only after the log has grown by a good part
//! of the last one: the disk then writes at most a few times what clients wrote; and once more after a compaction
//! that left far less than the last one holds, which gives the disk its space back. Entries behind it are
//! kept, up to a number of bytes, for members that lag, and all of them for one that is being sent a snapshot.

use openraft::async_runtime::WatchReceiver as _;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::ids::Revision;
use crate::mvcc::view::View;
use crate::raft::log_storage::LogStore;
use crate::raft::node::RaftHandle;
use crate::raft::snapshots::Snapshots;
use crate::snapshot::SnapshotFile;
use crate::state::published::Published;

/// A smaller state is no reason for a snapshot before it gives back so much.
const WORTH_GIVING_BACK_BYTES: u64 = 8 << 20;

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
    /// About the bytes that a new one would hold, when history was compacted since the last look: nothing else
    /// makes it smaller, and an estimate that is too low then costs no more than one snapshot for each compaction.
    compacted_to_bytes: Option<u64>,
}

impl SnapshotRule {
    /// Whether the log has grown enough, or the state shrunk. Many small entries count like half a snapshot of
    /// bytes; a log of large entries counts by its bytes alone, however few they are. A state of less than half
    /// of the last snapshot counts when there is anything new at all: otherwise that one has no more either.
    fn is_due(self, growth: Growth) -> bool {
        let worth = growth.snapshot_bytes / 2;
        let has_shrunk = growth.compacted_to_bytes.is_some_and(|state_bytes| {
            growth.entries > 0
                && state_bytes < worth
                && growth.snapshot_bytes - state_bytes >= WORTH_GIVING_BACK_BYTES
        });
        (growth.entries >= self.entries && growth.log_bytes >= worth)
            || growth.log_bytes >= (4 * self.keep_log_bytes).max(2 * growth.snapshot_bytes)
            || has_shrunk
    }
}

/// About what a snapshot of `view` would hold. Of history that is on disk only the number of events is known;
/// they count like the last snapshot's versions.
fn state_bytes(view: &View, last: &SnapshotFile) -> u64 {
    let version_bytes = last.size_bytes / last.versions.max(1);
    let in_memory = view.history_bytes() as u64;
    view.live_bytes() + in_memory.max(view.history_events().saturating_mul(version_bytes))
}

/// Runs until `stop`.
pub async fn run(
    rule: SnapshotRule,
    raft: RaftHandle,
    log: LogStore,
    snapshots: Arc<Snapshots>,
    published: Arc<Published>,
    mut collected: watch::Receiver<Revision>,
    stop: CancellationToken,
) {
    let mut milestones = published.milestones();
    let mut looked_at = Revision(0);
    loop {
        milestones.borrow_and_update();
        let collected_to = *collected.borrow_and_update();
        let picture = published.picture();
        let index = picture.applied_index;
        let last = snapshots.current();
        let compacted = std::mem::replace(&mut looked_at, collected_to) < collected_to;
        let from = last.as_ref().map_or(0, |file| file.applied_index);
        let growth = Growth {
            entries: index.saturating_sub(from),
            log_bytes: log.wal().bytes_behind(from),
            snapshot_bytes: last.as_ref().map_or(0, |file| file.size_bytes),
            compacted_to_bytes: last
                .as_ref()
                .filter(|_| compacted)
                .map(|last| state_bytes(&picture.view, last)),
        };
        // It holds on to a state.
        drop(picture);
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
            changed = collected.changed() => if changed.is_err() { return },
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
        let due = |entries, log_bytes, snapshot_bytes| {
            rule.is_due(Growth { entries, log_bytes, snapshot_bytes, compacted_to_bytes: None })
        };
        assert!(!due(99, 0, 0));
        assert!(due(100, 0, 0), "an empty store");
        assert!(!due(1_000, 400, 1000), "the log is small beside the last snapshot");
        assert!(due(1_000, 500, 1000));
        assert!(!due(3, 3_999, 0));
        assert!(due(3, 4_000, 0), "few large entries");
        assert!(!due(3, 4_000, 3_000));
    }
    #[test]
    fn a_state_that_shrank_is_written_when_that_gives_back_enough() {
        let rule = SnapshotRule { entries: 100, keep_log_bytes: 1 << 30 };
        let mib = |mib: u64| mib << 20;
        let table = [
            (1, mib(100), Some(mib(49)), true, "half of it is gone"),
            (1, mib(100), Some(mib(50)), false, "too much is left"),
            (1, mib(100), Some(0), true, "everything is gone"),
            (0, mib(100), Some(0), false, "nothing is new"),
            (1, mib(100), None, false, "nothing was compacted"),
            (1, mib(8), Some(0), true, "just enough comes back"),
            (1, mib(8), Some(1), false, "too little comes back"),
            (1, 0, Some(0), false, "there is no snapshot"),
        ];
        for (entries, snapshot_bytes, compacted_to_bytes, expected, why) in table {
            let growth = Growth { entries, log_bytes: 0, snapshot_bytes, compacted_to_bytes };
            assert_eq!(rule.is_due(growth), expected, "{why}");
        }
    }
}
