//! Keeps up with what is configured: reads it anew when something in its directories changes, and asks plugins again that could not
//! give networks. Ends at the stop. Must never touch a pod.

use std::sync::Arc;
use std::time::Duration;

use barque_inotify::{Changes, WatchFlags};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::plugins::Plugins;

/// The wait after plugins could not be used; it doubles.
const RETRY: Duration = Duration::from_secs(1);
/// The longest wait.
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// Plugins that could be used are asked so often whether they still can.
const LOOK: Duration = Duration::from_secs(600);

/// The task.
pub(crate) struct PluginsTask {
    /// Who is kept up with.
    pub(crate) plugins: Arc<Plugins>,
    /// Told when pods may have networks now, or not any more.
    pub(crate) changed: watch::Sender<u64>,
}

impl PluginsTask {
    /// Runs until the token is cancelled.
    pub(crate) async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.keep()).await;
    }

    async fn keep(self) {
        let mut wait = RETRY;
        loop {
            // Before it is read, so that nothing is missed in between.
            let changes = Changes::of_any(self.plugins.directories(), whatever_happens())
                .inspect_err(|error| tracing::warn!(%error, "changes of the CNI configuration are seen late"))
                .ok();
            self.plugins.reload().await;
            self.changed.send_modify(|count| *count += 1);
            let due = match self.plugins.problem() {
                None => {
                    wait = RETRY;
                    LOOK
                }
                Some(_) => {
                    let due = wait;
                    wait = (wait * 2).min(LONGEST_RETRY);
                    due
                }
            };
            let change = async {
                let told = match &changes {
                    Some(changes) => changes.next().await.is_ok(),
                    None => false,
                };
                if !told {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = change => wait = RETRY,
                () = tokio::time::sleep(due) => {}
            }
        }
    }
}
/// Files that are written, come or go, and directories that go.
fn whatever_happens() -> WatchFlags {
    WatchFlags::CLOSE_WRITE
        | WatchFlags::CREATE
        | WatchFlags::MOVED_TO
        | WatchFlags::MOVED_FROM
        | WatchFlags::DELETE
        | WatchFlags::DELETE_SELF
}
