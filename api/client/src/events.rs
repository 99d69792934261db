//! Events (`events.k8s.io/v1`): what happened to an object, told to people. Must never make the caller wait: what does not fit
//! into the queue is counted and dropped.
//!
//! What is told again is counted in the event's series; who tells too much about one object is not written.

mod correlate;
mod recent;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use tokio::sync::mpsc;

pub use write::Writer;

/// How many events wait at most.
const QUEUE: usize = 1000;

/// Whether it is as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// As it should be.
    Normal,
    /// Somebody should look.
    Warning,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Whether it is as it should be.
    pub kind: Kind,
    /// Why, in one word such as `FailedScheduling`; at most 128 bytes.
    pub reason: String,
    /// What was done or tried, in one word such as `Scheduling`; at most 128 bytes.
    pub action: String,
    /// The story; what is above 1024 bytes is cut off.
    pub text: String,
}

/// Who tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reporter {
    /// The name of the controller, as `kubernetes.io/kubelet`.
    pub controller: String,
    /// Which of its instances; at most 128 bytes.
    pub instance: String,
}

/// An event on its way to the writer.
#[derive(Debug, Clone, PartialEq)]
struct Told {
    regarding: ObjectReference,
    note: Note,
    at: Timestamp,
}

/// What became of events.
#[derive(Debug, Default)]
struct Counts {
    dropped: AtomicU64,
    limited: AtomicU64,
    failed: AtomicU64,
}

/// Takes events. Clones tell to the same writer.
#[derive(Debug, Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Told>,
    counts: Arc<Counts>,
}

impl Recorder {
    /// Tells of an object. Never waits.
    pub fn publish(&self, regarding: ObjectReference, note: Note) {
        let told = Told { regarding, note, at: Timestamp::now() };
        if self.queue.try_send(told).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many events did not fit into the queue, or came after the writer had ended.
    pub fn dropped(&self) -> u64 {
        self.counts.dropped.load(Ordering::Relaxed)
    }

    /// How many events were not written because there were too many about their object. Their series counts them.
    pub fn limited(&self) -> u64 {
        self.counts.limited.load(Ordering::Relaxed)
    }

    /// How many events the API server did not take.
    pub fn failed(&self) -> u64 {
        self.counts.failed.load(Ordering::Relaxed)
    }
}

/// A recorder, and the writer that its owner runs.
pub fn recorder(client: Client, reporter: Reporter) -> (Recorder, Writer) {
    let (queue, events) = mpsc::channel(QUEUE);
    let counts = Arc::new(Counts::default());
    (Recorder { queue, counts: counts.clone() }, Writer::new(client, reporter, events, counts))
}
