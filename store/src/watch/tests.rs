//! Whole streams: a store with its hub, and what the streams of its clients say.

mod answers;
mod catching_up;
mod guarantees;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use barque_proto::etcdserverpb::watch_create_request::FilterType;
use barque_proto::etcdserverpb::watch_request::RequestUnion;
use barque_proto::etcdserverpb::{
    ResponseHeader, WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest,
};
use barque_proto::mvccpb;
use barque_proto::served::WatchResponse;
use bytes::Bytes;
use futures::FutureExt as _;
use parking_lot::Mutex;
use proptest::prelude::*;
use prost::Message as _;

use super::range::WatchRange;
use super::watchers::NO_WATCH;
use super::{HeaderSource, History, HubLimits, WatchConfig, WatchHub, WatchStream};
use crate::command::CommandError;
use crate::event::{Event, EventKind};
use crate::ids::{Revision, SubRevision};
use crate::record::{Fields, Record};

/// The store: a log of all events that ever were, and the keys that exist.
#[derive(Default)]
struct Store {
    events: Vec<Event>,
    keys: BTreeMap<Vec<u8>, Record>,
    revision: i64,
    compacted: i64,
    broken: bool,
}

impl Store {
    /// One transaction: keys to write (or to delete, without a value).
    fn write(&mut self, changes: &[(&[u8], Option<&[u8]>)]) {
        let main = Revision(self.revision + 1);
        let mut sub = 0;
        for (key, value) in changes {
            let previous = self.keys.get(*key).cloned();
            let (kind, record) = match value {
                Some(value) => {
                    let old = previous.as_ref().map(Record::fields);
                    let record = Record::new(&Fields {
                        key,
                        create_revision: old.map_or(main, |old| old.create_revision),
                        mod_revision: main,
                        version: old.map_or(0, |old| old.version) + 1,
                        value,
                        lease: None,
                    });
                    self.keys.insert(key.to_vec(), record.clone());
                    (EventKind::Put, record)
                }
                None if self.keys.remove(*key).is_some() => (EventKind::Delete, Record::tombstone(key, main)),
                None => continue,
            };
            self.events.push(Event { at: SubRevision { main, sub }, kind, record, previous });
            sub += 1;
        }
        self.revision += i64::from(sub > 0);
    }

    fn between(&self, after: i64, to: i64) -> Vec<Event> {
        let inside = |e: &&Event| e.at.main.0 > after && e.at.main.0 <= to;
        self.events.iter().filter(inside).cloned().collect()
    }
}

#[derive(Default)]
struct FakeHistory {
    store: Mutex<Store>,
    cold: AtomicBool,
    /// Whoever holds it stops reads.
    gate: Mutex<()>,
}

impl History for FakeHistory {
    fn revision(&self) -> Revision {
        Revision(self.store.lock().revision)
    }

    fn compact_revision(&self) -> Revision {
        Revision(self.store.lock().compacted)
    }

    fn read(&self, from: Revision, max_events: usize, max_bytes: usize) -> Result<Vec<Event>, CommandError> {
        drop(self.gate.lock());
        let store = self.store.lock();
        if store.broken {
            return Err(CommandError::History("broken".into()));
        }
        if from.0 < store.compacted {
            return Err(CommandError::Compacted);
        }
        let mut read: Vec<Event> = Vec::new();
        let mut bytes = 0;
        for revision in from.0..=store.revision {
            let events = store.between(revision - 1, revision);
            bytes += events.iter().map(|e| e.record.encoded().len()).sum::<usize>();
            if !read.is_empty() && (read.len() + events.len() > max_events || bytes > max_bytes) {
                break;
            }
            read.extend(events);
        }
        Ok(read)
    }

    fn is_cold(&self, _from: Revision) -> bool {
        self.cold.load(Ordering::Relaxed)
    }
}

/// A member: the store, its hub, and what was published.
struct Member {
    history: Arc<FakeHistory>,
    hub: Arc<WatchHub>,
    config: WatchConfig,
}

const SMALL: HubLimits = HubLimits { max_events: 4, max_bytes: 1 << 20 };

fn small_config() -> WatchConfig {
    WatchConfig {
        progress_interval: Duration::from_secs(10),
        fragment_bytes: 120,
        max_batched_bytes: 60,
        max_read_events: 3,
        max_read_bytes: 1000,
    }
}

fn header(revision: Revision) -> ResponseHeader {
    ResponseHeader { cluster_id: 1, member_id: 2, revision: revision.0, raft_term: 3 }
}

impl Member {
    fn new(limits: HubLimits, config: WatchConfig) -> Self {
        let history = FakeHistory::default();
        history.store.lock().revision = 1;
        Self { history: Arc::new(history), hub: Arc::new(WatchHub::new(Revision(1), limits)), config }
    }

    fn stream(&self) -> WatchStream {
        let header: Arc<dyn HeaderSource> = Arc::new(header);
        WatchStream::new(self.hub.clone(), self.history.clone(), header, self.config)
    }

    fn write(&self, changes: &[(&[u8], Option<&[u8]>)]) {
        self.history.store.lock().write(changes);
    }

    fn publish(&self, to: i64) {
        let from = self.hub.published().0;
        let events = self.history.store.lock().between(from, to);
        self.hub.publish(&events, Revision(to));
    }

    fn publish_all(&self) {
        self.publish(self.revision());
    }

    /// Writes and publishes.
    fn put(&self, key: &str, value: &str) {
        self.write(&[(key.as_bytes(), Some(value.as_bytes()))]);
        self.publish_all();
    }

    fn revision(&self) -> i64 {
        self.history.revision().0
    }
}

fn request(union: RequestUnion) -> WatchRequest {
    WatchRequest { request_union: Some(union) }
}

fn create(key: &str, range_end: &str, start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        range_end: Bytes::copy_from_slice(range_end.as_bytes()),
        start_revision,
        ..WatchCreateRequest::default()
    }
}

fn ask(stream: &mut WatchStream, create: WatchCreateRequest) {
    stream.request(request(RequestUnion::CreateRequest(create)));
}

fn ask_progress(stream: &mut WatchStream) {
    stream.request(request(RequestUnion::ProgressRequest(WatchProgressRequest {})));
}

fn ask_cancel(stream: &mut WatchStream, watch_id: i64) {
    stream.request(request(RequestUnion::CancelRequest(WatchCancelRequest { watch_id })));
}

/// The next answer, or `None` when the stream waits. Time is paused and so runs on only then.
async fn next(stream: &mut WatchStream) -> Option<WatchResponse> {
    tokio::time::timeout(Duration::from_millis(1), stream.next()).await.ok().flatten()
}

async fn drain(stream: &mut WatchStream) -> Vec<WatchResponse> {
    let mut answers = Vec::new();
    while let Some(answer) = next(stream).await {
        answers.push(answer);
    }
    answers
}

fn events(answer: &WatchResponse) -> Vec<mvccpb::Event> {
    answer.events.iter().map(|e| mvccpb::Event::decode(e.clone()).unwrap()).collect()
}

fn told(answer: &WatchResponse) -> i64 {
    answer.header.as_ref().unwrap().revision
}

/// `(watch, header revision, keys)` of answers with events.
fn summary(answers: &[WatchResponse]) -> Vec<(i64, i64, String)> {
    let keys = |answer: &WatchResponse| {
        let keys = events(answer).into_iter().map(|e| String::from_utf8(e.kv.unwrap().key.to_vec()).unwrap());
        keys.collect::<Vec<_>>().join(" ")
    };
    answers.iter().map(|a| (a.watch_id, told(a), keys(a))).collect()
}
