//! Brings the files of this master's directory into the cluster, as `plan` says. Must never write over a version that was not seen.

mod plan;

use std::sync::Arc;
use std::time::Duration;

use barque_client::error_story::told;
use barque_client::events::{Kind, Note, Recorder};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::MANAGER;
use crate::file::Listing;
use crate::observe::Seen;
use crate::published::{Published, packed, secret};

pub(crate) use plan::All;
use plan::{Found, Step, Story, plan};

/// The wait after a request that failed; it doubles up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(500);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(30);

/// What publishes.
pub(crate) struct Publisher {
    pub(crate) master: String,
    pub(crate) secrets: Api<Secret>,
    pub(crate) recorder: Recorder,
}

/// A step that was not done, and is tried again.
#[derive(Debug)]
struct Again;

impl Publisher {
    /// Publishes until the token is cancelled.
    pub(crate) async fn run(
        self,
        mut listed: watch::Receiver<Option<Arc<Listing>>>,
        mut seen: watch::Receiver<Seen>,
        stop: CancellationToken,
    ) {
        let publishing = async {
            let (mut found, mut failures) = (Found::default(), 0_u32);
            loop {
                let listing = listed.borrow_and_update().clone();
                if let Some(listing) = &listing {
                    found.see(listing);
                }
                let all = seen.borrow_and_update().clone();
                let mut outcome = Ok(());
                if let (Some(listing), Some(all)) = (listing, all) {
                    for step in plan(&self.master, &listing, &found, &all) {
                        outcome = outcome.and(self.act(step).await);
                    }
                }
                failures = if outcome.is_ok() { 0 } else { failures + 1 };
                let again = async {
                    match failures {
                        0 => std::future::pending().await,
                        _ => sleep(FIRST.saturating_mul(1 << (failures - 1).min(10)).min(LONGEST)).await,
                    }
                };
                tokio::select! {
                    () = again => {}
                    Ok(()) = listed.changed() => {}
                    Ok(()) = seen.changed() => {}
                }
            }
        };
        let _: Option<()> = stop.run_until_cancelled(publishing).await;
    }

    async fn act(&self, step: Step<'_>) -> Result<(), Again> {
        match step {
            Step::Create { file, content, holders } => {
                let Some(content) = self.packed(file, content) else { return Ok(()) };
                let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
                match self.secrets.create(&params, &secret(file, content, &holders)).await {
                    Ok(_) => tracing::info!(file, "the manifest is published"),
                    Err(error) => return Err(again(file, &error)),
                }
                Ok(())
            }
            Step::Hold { published, content, holders, story } => {
                let packed = content.map(|content| self.packed(&published.file, content));
                if packed.as_ref().is_some_and(Option::is_none) {
                    return Ok(());
                }
                self.patch(published, published.held(&holders, packed.flatten().as_ref())).await?;
                if content.is_some() {
                    tracing::info!(file = published.file, "the manifest is published");
                }
                if let Some(story) = story {
                    self.tell(published, &story);
                }
                Ok(())
            }
            Step::Delete { published } => {
                let preconditions = Preconditions {
                    uid: Some(published.uid.clone()),
                    resource_version: Some(published.version.clone()),
                };
                let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
                match self.secrets.delete(&published.name, &params).await {
                    Ok(_) => {
                        tracing::info!(
                            file = published.file,
                            "the manifest is gone, and what it has brought goes"
                        );
                        Ok(())
                    }
                    Err(error) => unless_seen_soon(&published.file, &error),
                }
            }
        }
    }

    fn packed(&self, file: &str, content: &crate::file::Content) -> Option<crate::published::Packed> {
        packed(content).map_err(|why| tracing::error!(file, "the manifest is not published: {why}")).ok()
    }

    async fn patch(&self, published: &Published, patch: Value) -> Result<(), Again> {
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        match self.secrets.patch(&published.name, &params, &Patch::Merge(patch)).await {
            Ok(_) => Ok(()),
            Err(error) => unless_seen_soon(&published.file, &error),
        }
    }

    fn tell(&self, published: &Published, story: &Story) {
        let (master, file) = (&self.master, &published.file);
        let (reason, text) = match story {
            Story::Replaces(others) => (
                "Replaced",
                format!(
                    "{file} of master {master} was changed and counts now; that of {} differs",
                    others.join(", ")
                ),
            ),
            Story::Yields => (
                "NotReplaced",
                format!(
                    "{file} of master {master} was there when it started, differs from what the cluster has, and does not count until it is changed"
                ),
            ),
        };
        tracing::warn!("{text}");
        let note =
            Note { kind: Kind::Warning, reason: reason.to_owned(), action: "Publishing".to_owned(), text };
        self.recorder.publish(published.regarding(), note);
    }
}

/// What somebody else has written meanwhile is seen, and thought of anew then.
fn unless_seen_soon(file: &str, error: &kube::Error) -> Result<(), Again> {
    match error {
        kube::Error::Api(status) if matches!(status.code, 404 | 409) => Ok(()),
        error => Err(again(file, error)),
    }
}

fn again(file: &str, error: &kube::Error) -> Again {
    tracing::warn!(file, "the manifest is not published yet: {}", told(error));
    Again
}
