//! Where the feed of one cache writes, and its readers and watchers look. Locks are held for work in memory alone; who
//! holds the state never takes the registry.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::counts::FeedCounts;
use super::object::FieldIndex;
use super::registry::Registry;
use super::state::State;
use crate::storage::Revision;

/// See the module's description.
pub(super) struct Board {
    /// `None` until the collection was listed.
    pub(super) state: RwLock<Option<State>>,
    pub(super) registry: Mutex<Registry>,
    /// The indexed field.
    pub(super) field: Option<FieldIndex>,
    /// Events that may wait for one watcher.
    pub(super) queue: usize,
    /// The state's revision, for those who wait for one; 0 until there is a state.
    pub(super) revision: watch::Sender<Revision>,
    /// How many wait.
    pub(super) waiting: watch::Sender<usize>,
    pub(super) counts: FeedCounts,
    /// The feed is over.
    pub(super) ended: CancellationToken,
}

impl Board {
    pub(super) fn new(prefix: Bytes, field: Option<FieldIndex>, queue: usize) -> Self {
        Self {
            state: RwLock::new(None),
            registry: Mutex::new(Registry::new(prefix, field)),
            field,
            queue,
            revision: watch::Sender::new(Revision(0)),
            waiting: watch::Sender::new(0),
            counts: FeedCounts::default(),
            ended: CancellationToken::new(),
        }
    }

    /// Waits until the state is this new. Dropping it is giving up.
    pub(super) async fn reached(self: &Arc<Self>, revision: Revision) {
        let mut seen = self.revision.subscribe();
        if *seen.borrow() >= revision {
            return;
        }
        let _waiting = Waiting::new(self);
        // The sender lives as long as this does.
        let _ = seen.wait_for(|seen| *seen >= revision).await;
    }
}

/// Somebody waits, for as long as this lives.
struct Waiting(Arc<Board>);

impl Waiting {
    fn new(board: &Arc<Board>) -> Self {
        board.waiting.send_modify(|waiting| *waiting += 1);
        Self(Arc::clone(board))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.send_modify(|waiting| *waiting -= 1);
    }
}
