//! The leader's work: what the cluster's files say is applied, and what they do not say any more goes, as `plan` decides. Must never
//! apply what is not written down as its doing, nor delete what it did not bring.

mod attempts;
mod objects;
mod plan;

use std::sync::Arc;

use barque_client::error_story::told;
use barque_client::events::{Kind, Note, Recorder};
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::MANAGER;
use crate::manifest::{Manifest, Reference};
use crate::observe::Seen;
use crate::publish::All;
use crate::published::Published;
use attempts::Attempts;
use objects::Objects;
use plan::{Work, dropped, unrecorded, work};

/// How many mistakes of a file are told at once.
const TOLD: usize = 5;

/// What the leader works with.
#[derive(Clone)]
pub(crate) struct Applier {
    pub(crate) client: Client,
    pub(crate) secrets: Api<Secret>,
    pub(crate) recorder: Recorder,
}

/// Why a file was not brought to its end.
enum Stop {
    /// Its Secret was written by somebody else, and is seen anew.
    Outdated,
    /// People should know; it is tried again.
    Failed(String),
}

impl Applier {
    /// Works for ever: one file after the other, in the order of their names.
    pub(crate) async fn run(self, mut seen: watch::Receiver<Seen>) {
        let start = Instant::now();
        let mut attempts = Attempts::default();
        loop {
            let all = seen.borrow_and_update().clone();
            if let Some(all) = &all {
                attempts.retain(|name| all.contains_key(name));
                if self.one(all, &mut attempts, start).await {
                    // It took its time: what is next is asked of what is there now.
                    continue;
                }
            }
            let again = async {
                match attempts.next() {
                    Some(due) => sleep_until(start + due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = again => {}
                changed = seen.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Works on the first file that is due, if there is one.
    async fn one(&self, all: &Arc<All>, attempts: &mut Attempts, start: Instant) -> bool {
        for published in all.values() {
            if !attempts.is_due(published, start.elapsed()) {
                continue;
            }
            let outcome = match work(published) {
                Work::Nothing => {
                    attempts.forget(&published.name);
                    continue;
                }
                Work::Apply { checksum, manifests } => {
                    self.apply(published, &checksum, &manifests, all).await
                }
                Work::Remove => self.remove(published, all).await,
                Work::Refuse(why) => Err(Stop::Failed(why)),
            };
            match outcome {
                Ok(()) | Err(Stop::Outdated) => attempts.written(published),
                Err(Stop::Failed(why)) => {
                    attempts.failed(published, start.elapsed());
                    self.tell_failure(published, &why).await;
                }
            }
            return true;
        }
        false
    }

    async fn apply(
        &self,
        published: &Published,
        checksum: &str,
        manifests: &[Manifest],
        all: &All,
    ) -> Result<(), Stop> {
        let wanted: Vec<Reference> = manifests.iter().map(Manifest::reference).collect();
        if let Some(recorded) = unrecorded(published, &wanted) {
            // It goes on when that is seen.
            return self.write(published, published.recording(&recorded)).await;
        }
        let mut objects = Objects::new(self.client.clone());
        let mut problems = Vec::new();
        for manifest in manifests {
            if let Err(why) = objects.apply(manifest).await {
                problems.push(format!("{}: {why}", manifest.reference()));
            }
        }
        failed(problems)?;
        // Only now: what takes the place of the old is there.
        self.delete(&mut objects, published, &dropped(published, &wanted, all.values())).await?;
        let count = match manifests.len() {
            1 => "1 object".to_owned(),
            count => format!("{count} objects"),
        };
        let text = format!("{} is applied: {count}", published.file);
        self.write(published, published.finished(checksum, &wanted, &text)).await?;
        tracing::info!("{text}");
        self.tell(published, Kind::Normal, "Applied", "Applying", text);
        Ok(())
    }

    async fn remove(&self, published: &Published, all: &All) -> Result<(), Stop> {
        let mut objects = Objects::new(self.client.clone());
        self.delete(&mut objects, published, &dropped(published, &[], all.values())).await?;
        self.write(published, published.released()).await?;
        tracing::info!(file = published.file, "what the manifest has brought is gone");
        Ok(())
    }

    async fn delete(
        &self,
        objects: &mut Objects,
        published: &Published,
        dropped: &[Reference],
    ) -> Result<(), Stop> {
        let mut problems = Vec::new();
        for reference in dropped {
            if let Err(why) = objects.delete(reference, &published.file).await {
                problems.push(format!("{reference} cannot be deleted: {why}"));
            }
        }
        failed(problems)
    }

    /// Writes a Secret.
    async fn write(&self, published: &Published, patch: Value) -> Result<(), Stop> {
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        match self.secrets.patch(&published.name, &params, &Patch::Merge(patch)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Err(Stop::Outdated),
            Err(error) => {
                Err(Stop::Failed(format!("what was applied cannot be written down: {}", told(&error))))
            }
        }
    }

    async fn tell_failure(&self, published: &Published, why: &str) {
        let text = format!("{} cannot be applied: {why}", published.file);
        tracing::warn!("{text}");
        // A status that is not written is told by the event all the same.
        if let Some(patch) = published.telling(&text)
            && let Err(Stop::Failed(error)) = self.write(published, patch).await
        {
            tracing::debug!(file = published.file, "{error}");
        }
        self.tell(published, Kind::Warning, "FailedApply", "Applying", text);
    }

    fn tell(&self, published: &Published, kind: Kind, reason: &str, action: &str, text: String) {
        let note = Note { kind, reason: reason.to_owned(), action: action.to_owned(), text };
        self.recorder.publish(published.regarding(), note);
    }
}

/// A failure, when there are problems.
fn failed(problems: Vec<String>) -> Result<(), Stop> {
    let more = problems.len().saturating_sub(TOLD);
    if problems.is_empty() {
        return Ok(());
    }
    let mut text = problems[..problems.len().min(TOLD)].join("; ");
    if more > 0 {
        text.push_str(&format!("; and {more} more"));
    }
    Err(Stop::Failed(text))
}
