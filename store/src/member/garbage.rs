//! Forgets compacted history in small steps, between the entries that the state machine executes; then has its space
//! on disk given back.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::ids::Revision;
use crate::metrics::Metrics;
use crate::raft::node::RaftHandle;
use crate::raft::state_machine::StateMachine;
use crate::records::RecordWriter;
use crate::state::published::Published;

/// Events forgotten in one step; about a millisecond's work.
const STEP_EVENTS: usize = 1000;

/// Works until `stop`; `collected` follows the revision below which nothing is left.
pub async fn run(
    raft: RaftHandle,
    published: Arc<Published>,
    collected: watch::Sender<Revision>,
    records: Arc<RecordWriter>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    let mut milestones = published.milestones();
    let mut began = None;
    loop {
        milestones.borrow_and_update();
        let target = published.peek().view.compact_revision();
        if *collected.borrow() < target {
            let began_at = *began.get_or_insert_with(Instant::now);
            let step = raft.with_state_machine(|sm: &mut StateMachine| {
                Box::pin(async move { sm.collect_garbage(STEP_EVENTS) })
            });
            let more = tokio::select! {
                () = stop.cancelled() => return,
                more = step => more,
            };
            match more {
                Ok(true) => tokio::task::yield_now().await,
                Ok(false) => {
                    began = None;
                    collected.send_replace(target);
                    records.give_space_back();
                    let took_ms = began_at.elapsed().as_secs_f64() * 1e3;
                    metrics.mvcc.db_compaction_total_milliseconds.observe(took_ms);
                    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                    metrics.mvcc.db_compaction_last.set(i64::try_from(since_1970.as_secs()).unwrap_or(0));
                }
                Err(_) => return,
            }
            continue;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = milestones.changed() => if changed.is_err() { return },
        }
    }
}
