//! Holds up the machine's shutdown until the node's pods have ended. Must never decide who ends when: that is the plan's.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::{Fuse, FusedFuture as _, FutureExt as _, join_all};
use k8s_openapi::api::core::v1::Node;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::logind::{Logind, LogindError};
use super::plan::{Periods, groups, terminated};
use crate::error_story::story;
use crate::node_api::containers::KnownPods as _;
use crate::pods::index::Index;
use crate::pods::spec;
use crate::tell::{Teller, about_node, normal};

/// The wait before logind is asked again; it doubles.
const RETRY: Duration = Duration::from_secs(1);
/// The longest such wait.
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// So often a limit that was raised is looked at, with such waits between: nothing tells when logind has read its files.
const LOOKS: u32 = 6;

/// What an agent is told of shutdowns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShutdownConfig {
    /// How long pods have.
    pub periods: Periods,
    /// Where logind is told to allow that.
    pub logind_conf_dir: PathBuf,
}

/// What the task is made of.
pub(crate) struct ShutdownTask {
    pub(crate) config: ShutdownConfig,
    pub(crate) pods: Index,
    /// The nodes of the process, each with who takes its events.
    pub(crate) nodes: Vec<(Node, Arc<dyn Teller>)>,
    /// Who wants to know whether the machine goes down.
    pub(crate) shutting_down: watch::Sender<bool>,
}

impl ShutdownTask {
    /// Waits for shutdowns until the token is cancelled.
    pub(crate) async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.keep()).await;
    }

    async fn keep(&self) {
        let (mut failures, mut wait) = (0_u32, RETRY);
        loop {
            let Err(error) = self.follow(&mut failures).await;
            if failures == 0 {
                tracing::warn!(
                    error = story(&error),
                    "a shutdown of this machine will not wait for its pods, which --shutdown-grace-period asks for; \
                     it is tried again"
                );
                wait = RETRY;
            }
            failures = failures.saturating_add(1);
            sleep(wait).await;
            wait = (wait * 2).min(LONGEST_RETRY);
        }
    }

    /// Follows what logind tells, as long as it does.
    async fn follow(&self, failures: &mut u32) -> Result<std::convert::Infallible, LogindError> {
        let logind = Logind::connect().await?;
        // Before anything is asked, so that nothing is missed.
        let mut shutdowns = logind.shutdowns().await?;
        let is_late = logind.is_shutting_down().await?;
        // It goes down whatever is held up now.
        let mut inhibitor = if is_late { None } else { Some(logind.inhibit().await?) };
        let allowed = self.allowed(&logind).await?;
        tracing::info!(
            wanted = ?self.config.periods.whole(),
            ?allowed,
            "a shutdown of this machine waits for its pods"
        );
        *failures = 0;
        let mut ending = pin!(Fuse::terminated());
        if self.tell(is_late) && is_late {
            ending.set(self.end_pods().fuse());
        }
        loop {
            tokio::select! {
                begins = shutdowns.next() => match begins {
                    None => {
                        if !ending.is_terminated() {
                            ending.as_mut().await;
                        }
                        return Err(LogindError::Ended);
                    }
                    Some(true) => if self.tell(true) {
                        ending.set(self.end_pods().fuse());
                    },
                    Some(false) => {
                        self.tell(false);
                        ending.set(Fuse::terminated());
                        if inhibitor.is_none() {
                            inhibitor = Some(logind.inhibit().await?);
                        }
                    }
                },
                () = &mut ending => {
                    tracing::info!("the machine may go down");
                    inhibitor = None;
                }
            }
        }
    }

    /// How long logind lets pods take; it is told to let them have as long as they shall.
    async fn allowed(&self, logind: &Logind) -> Result<Duration, LogindError> {
        let wanted = self.config.periods.whole();
        let mut allowed = logind.longest_delay().await?;
        if allowed >= wanted {
            return Ok(allowed);
        }
        let raised = logind.raise(&self.config.logind_conf_dir, wanted).await;
        let mut why = "it keeps its limit".to_owned();
        match raised {
            Ok(()) => {
                let mut pause = Duration::from_millis(50);
                for _ in 0..LOOKS {
                    allowed = logind.longest_delay().await?;
                    if allowed >= wanted {
                        return Ok(allowed);
                    }
                    sleep(pause).await;
                    pause *= 2;
                }
            }
            Err(error) => why = story(&error),
        }
        tracing::warn!(
            ?wanted,
            ?allowed,
            why,
            "systemd-logind holds a shutdown up for less than pods shall have (--shutdown-grace-period): whatever has \
             not ended then is killed; raise InhibitDelayMaxSec of logind.conf"
        );
        Ok(allowed)
    }

    /// Tells whether the machine goes down. Says whether that is new.
    fn tell(&self, begins: bool) -> bool {
        let is_new = self.shutting_down.send_if_modified(|told| std::mem::replace(told, begins) != begins);
        if is_new {
            let what = if begins { "event" } else { "cancellation" };
            tracing::info!(
                "the machine {}",
                if begins { "shuts down" } else { "does not shut down after all" }
            );
            for (node, teller) in &self.nodes {
                let text = format!("Shutdown manager detected shutdown {what}");
                teller.tell(about_node(node), normal("NodeShutdown", text));
            }
        }
        is_new
    }

    /// One group after the other ends, and is waited for no longer than it has.
    async fn end_pods(&self) {
        for group in groups(&self.config.periods, self.pods.all()) {
            tracing::info!(pods = group.pods.len(), grace = ?group.grace, "ends pods");
            let all = group.pods.iter().map(|pod| {
                self.pods.end(spec::uid(pod), terminated(Some(group.grace)));
                self.pods.ended(spec::uid(pod))
            });
            if timeout(group.grace, join_all(all)).await.is_err() {
                tracing::warn!(grace = ?group.grace, "pods have not ended in their time");
            }
        }
    }
}
