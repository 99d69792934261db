//! The writer of events: takes them from the queue, one after the other. Must never hold up who tells them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::correlate::{Correlator, Decision, Key};
use super::{Counts, Reporter, Told};

/// How often an event is tried that no server takes.
const TRIES: u32 = 6;
/// The wait after the first try; it doubles.
const WAIT: Duration = Duration::from_secs(1);
/// The longest story.
const STORY: usize = 1024;

/// Writes events until it is told to stop.
pub struct Writer {
    client: Client,
    reporter: Reporter,
    events: mpsc::Receiver<Told>,
    counts: Arc<Counts>,
    correlator: Correlator,
    start: Instant,
}

impl Writer {
    pub(super) fn new(
        client: Client,
        reporter: Reporter,
        events: mpsc::Receiver<Told>,
        counts: Arc<Counts>,
    ) -> Self {
        Self { client, reporter, events, counts, correlator: Correlator::new(), start: Instant::now() }
    }

    /// Writes. Ends when the token is cancelled, with what waits unwritten, or when the last recorder is gone.
    pub async fn run(mut self, stop: CancellationToken) {
        while let Some(Some(told)) = stop.run_until_cancelled(self.events.recv()).await {
            if stop.run_until_cancelled(self.write(told)).await.is_none() {
                return;
            }
        }
    }

    async fn write(&mut self, told: Told) {
        let now = self.start.elapsed();
        match self.correlator.decide(&told.regarding, &told.note, now) {
            Decision::Limited => {
                self.counts.limited.fetch_add(1, Ordering::Relaxed);
            }
            Decision::Create(key, story) => self.create(told, &key, &story).await,
            Decision::Count(key, name, count) => self.count(told, &key, &name, count).await,
        }
    }

    fn api(&self, told: &Told) -> Api<Event> {
        Api::namespaced(self.client.clone(), namespace(told))
    }

    async fn create(&mut self, told: Told, key: &Key, story: &str) {
        let event = event(&told, &self.reporter, story);
        let name = event.metadata.name.clone().unwrap_or_default();
        let api = self.api(&told);
        for again in 0..TRIES {
            match api.create(&PostParams::default(), &event).await {
                Ok(_) => return self.correlator.created(key, name, self.start.elapsed()),
                // An earlier try had arrived: its name has the time, so it is this one.
                Err(kube::Error::Api(status)) if again > 0 && status.is_already_exists() => {
                    return self.correlator.created(key, name, self.start.elapsed());
                }
                Err(error) if is_final(&error) => return self.failed(&error),
                Err(error) => self.pause(&error, again).await,
            }
        }
        self.counts.failed.fetch_add(1, Ordering::Relaxed);
    }

    async fn count(&mut self, told: Told, key: &Key, name: &str, count: i32) {
        let series = EventSeries { count, last_observed_time: MicroTime(told.at) };
        let patch = Patch::Merge(serde_json::json!({ "series": series }));
        let api = self.api(&told);
        for again in 0..TRIES {
            match api.patch(name, &PatchParams::default(), &patch).await {
                Ok(_) => return,
                // Events live for an hour.
                Err(kube::Error::Api(status)) if status.is_not_found() => {
                    self.correlator.gone(key, self.start.elapsed());
                    let story = told.note.text.clone();
                    return self.create(told, key, &story).await;
                }
                Err(error) if is_final(&error) => return self.failed(&error),
                Err(error) => self.pause(&error, again).await,
            }
        }
        self.counts.failed.fetch_add(1, Ordering::Relaxed);
    }

    fn failed(&self, error: &kube::Error) {
        tracing::warn!(%error, "an event was not taken");
        self.counts.failed.fetch_add(1, Ordering::Relaxed);
    }

    async fn pause(&self, error: &kube::Error, again: u32) {
        tracing::debug!(%error, "an event is tried again");
        if again + 1 < TRIES {
            sleep(WAIT * (1 << again)).await;
        }
    }
}

/// Whether trying again would not help: the server has judged the event.
fn is_final(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code < 500 && status.code != 429)
}

/// Where the event is written: beside its object, or in `default` for one without a namespace.
fn namespace(told: &Told) -> &str {
    told.regarding.namespace.as_deref().filter(|it| !it.is_empty()).unwrap_or("default")
}

fn event(told: &Told, reporter: &Reporter, story: &str) -> Event {
    let object = told.regarding.name.as_deref().unwrap_or_default();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{object}.{:x}", told.at.as_nanosecond())),
            namespace: Some(namespace(told).to_owned()),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(told.at)),
        reporting_controller: Some(reporter.controller.clone()),
        reporting_instance: Some(reporter.instance.clone()),
        action: Some(told.note.action.clone()),
        reason: Some(told.note.reason.clone()),
        regarding: Some(told.regarding.clone()),
        note: Some(story[..story.floor_char_boundary(STORY)].to_owned()),
        type_: Some(told.note.kind.word().to_owned()),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ObjectReference;
    use k8s_openapi::jiff::Timestamp;

    use super::super::{Kind, Note};
    use super::*;

    #[test]
    fn an_event_says_all_that_is_required() {
        let note = Note {
            kind: Kind::Normal,
            reason: "Scheduled".into(),
            action: "Binding".into(),
            text: String::new(),
        };
        let node = ObjectReference {
            kind: Some("Node".into()),
            name: Some("n1".into()),
            ..ObjectReference::default()
        };
        let told = Told { regarding: node, note, at: Timestamp::from_second(1_700_000_000).unwrap() };
        let reporter = Reporter { controller: "scheduler".into(), instance: "scheduler-m1".into() };
        let event = event(&told, &reporter, &"ü".repeat(600));
        assert_eq!(event.metadata.name.as_deref(), Some("n1.17979cfe362a0000"));
        assert_eq!(event.metadata.namespace.as_deref(), Some("default"), "a node has none");
        assert_eq!(event.note.unwrap().len(), 1024);
        assert_eq!(event.type_.as_deref(), Some("Normal"));
    }
}
