//! Forgets compacted history in small steps, between the entries that the state machine executes.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::ids::Revision;
use crate::raft::node::RaftHandle;
use crate::raft::state_machine::StateMachine;
use crate::state::published::Published;

/// Events forgotten in one step; about a millisecond's work.
const STEP_EVENTS: usize = 1000;

/// Works until `stop`; `collected` follows the revision below which nothing is left.
pub async fn run(
    raft: RaftHandle,
    published: std::sync::Arc<Published>,
    collected: watch::Sender<Revision>,
    stop: CancellationToken,
) {
    let mut milestones = published.milestones();
    loop {
        milestones.borrow_and_update();
        let target = published.peek().view.compact_revision();
        if *collected.borrow() < target {
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
                    collected.send_replace(target);
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
