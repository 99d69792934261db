//! Whole streams against a model of what each watch must see.

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

#[tokio::test(start_paused = true)]
async fn creating_answers_as_etcd_does() {
    let member = Member::new(SMALL, small_config());
    for n in 0..4 {
        member.put("a", &n.to_string());
    }
    member.history.store.lock().compacted = 4;
    let mut stream = member.stream();
    let mut ids = Vec::new();
    let with_id = |id| WatchCreateRequest { watch_id: id, ..create("a", "", 0) };
    for id in [0, 7, 0, 7, 2, 0] {
        ask(&mut stream, with_id(id));
        let answer = next(&mut stream).await.unwrap();
        assert!(answer.created && told(&answer) == 5);
        ids.push((answer.watch_id, answer.canceled, answer.cancel_reason));
    }
    let ok = |id| (id, false, String::new());
    let refused = |reason: &str| (NO_WATCH, true, reason.to_owned());
    let duplicate = refused("mvcc: duplicate watch ID provided on the WatchStream");
    assert_eq!(ids, [ok(0), ok(7), ok(1), duplicate, ok(2), ok(3)]);

    ask(&mut stream, create("b", "a", 0));
    ask(&mut stream, create("b", "a", -1));
    stream.deny(&create("a", "", 0), "no");
    let answers: Vec<_> = drain(&mut stream).await;
    let reasons: Vec<_> =
        answers.into_iter().map(|a| (a.watch_id, a.created && a.canceled, a.cancel_reason)).collect();
    let compacted = "etcdserver: mvcc: required revision has been compacted";
    assert_eq!(reasons, [refused("mvcc: watcher range is empty"), refused(compacted), refused("no")]);

    // Before the compact revision: created, then told; at it: everything there is.
    ask(&mut stream, create("a", "", 3));
    let answers = drain(&mut stream).await;
    assert!(answers[0].created && !answers[0].canceled && answers[0].watch_id == 4);
    assert!(answers[1].canceled && answers[1].watch_id == 4 && answers[1].compact_revision == 4);
    assert_eq!(answers.len(), 2);
    ask(&mut stream, create("a", "", 4));
    let answers = drain(&mut stream).await;
    assert!(answers[0].created);
    assert_eq!(summary(&answers[1..]), [(5, 5, "a a".to_owned())]);

    // Cancelling an unknown watch is silent, a known one answers, once; one that compaction ended is known.
    let watches = stream.watches();
    ask_cancel(&mut stream, 4);
    ask_cancel(&mut stream, 5);
    ask_cancel(&mut stream, 5);
    let answers = drain(&mut stream).await;
    assert_eq!(answers.iter().map(|answer| answer.watch_id).collect::<Vec<_>>(), [4, 5]);
    assert!(answers.iter().all(|answer| answer.canceled && answer.cancel_reason.is_empty()));
    assert_eq!(stream.watches(), watches - 1);
    assert_eq!(member.hub.stats().watchers(), watches as i64 - 1);

    stream.cancel_all("etcdserver: no leader");
    let answers = drain(&mut stream).await;
    assert!(answers.iter().all(|a| a.canceled && a.cancel_reason == "etcdserver: no leader"));
    assert_eq!(answers.len(), watches - 1);
    assert_eq!(stream.next().await, None);
    drop(stream);
    let stats = member.hub.stats();
    let counts = (stats.streams(), stats.watchers(), stats.slow_watchers(), stats.pending_events());
    assert_eq!(counts, (0, 0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_start_in_the_future_hears_nothing_before() {
    let member = Member::new(SMALL, small_config());
    let mut stream = member.stream();
    ask(&mut stream, WatchCreateRequest { progress_notify: true, ..create("a", "", 4) });
    ask_progress(&mut stream);
    assert_eq!(drain(&mut stream).await.len(), 1);
    member.put("a", "2");
    member.put("a", "3");
    ask_progress(&mut stream);
    tokio::time::advance(Duration::from_secs(12)).await;
    assert_eq!(drain(&mut stream).await, []);
    member.put("a", "4");
    ask_progress(&mut stream);
    assert_eq!(summary(&drain(&mut stream).await), [(0, 4, "a".to_owned()), (NO_WATCH, 4, String::new())]);
}

#[tokio::test(start_paused = true)]
async fn progress_waits_for_what_the_client_may_have_read() {
    let member = Member::new(SMALL, small_config());
    let mut stream = member.stream();
    ask_progress(&mut stream);
    assert_eq!(drain(&mut stream).await, []);
    ask(&mut stream, create("a", "", 0));
    drain(&mut stream).await;
    // Visible to readers, but not published yet.
    member.write(&[(b"b", Some(b"1"))]);
    ask_progress(&mut stream);
    assert_eq!(drain(&mut stream).await, []);
    member.publish_all();
    assert_eq!(summary(&drain(&mut stream).await), [(NO_WATCH, 2, String::new())]);
    // One is catching up: dropped.
    member.put("a", "1");
    ask(&mut stream, create("a", "", 1));
    ask_progress(&mut stream);
    let answers = drain(&mut stream).await;
    assert!(answers.iter().all(|a| a.watch_id != NO_WATCH));
    ask_progress(&mut stream);
    assert_eq!(summary(&drain(&mut stream).await), [(NO_WATCH, 3, String::new())]);
}

#[tokio::test(start_paused = true)]
async fn periodic_progress_is_left_out_when_events_flowed() {
    let member = Member::new(SMALL, small_config());
    let mut stream = member.stream();
    ask(&mut stream, WatchCreateRequest { progress_notify: true, ..create("a", "", 0) });
    ask(&mut stream, create("b", "", 0));
    drain(&mut stream).await;
    tokio::time::advance(Duration::from_secs(12)).await;
    assert_eq!(summary(&drain(&mut stream).await), [(0, 1, String::new())]);
    member.put("a", "1");
    assert_eq!(drain(&mut stream).await.len(), 1);
    tokio::time::advance(Duration::from_secs(12)).await;
    assert_eq!(drain(&mut stream).await, []);
    member.put("c", "1");
    tokio::time::advance(Duration::from_secs(12)).await;
    assert_eq!(summary(&drain(&mut stream).await), [(0, 3, String::new())]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_does_not_read_is_bounded_and_goes_on_without_a_gap() {
    let member = Member::new(SMALL, WatchConfig { max_batched_bytes: 1 << 20, ..small_config() });
    let mut stream = member.stream();
    ask(&mut stream, create("k", "l", 0));
    drain(&mut stream).await;
    for n in 0..100 {
        member.put("k", &n.to_string());
    }
    // One portion is made for the one answer taken, no more.
    let first = next(&mut stream).await.unwrap();
    assert!(first.events.len() <= member.config.max_read_events);
    assert!(member.hub.stats().pending_events() <= member.config.max_read_events as i64);
    assert_eq!(member.hub.stats().slow_watchers(), 1);
    let answers = drain(&mut stream).await;
    let values: Vec<_> =
        std::iter::once(&first).chain(&answers).flat_map(events).map(|e| e.kv.unwrap().value).collect();
    assert_eq!(values, (0..100).map(|n| Bytes::from(n.to_string())).collect::<Vec<_>>());
    assert_eq!(member.hub.stats().slow_watchers(), 0);
    assert_eq!(member.hub.stats().events(), 100);
}

#[tokio::test(start_paused = true)]
async fn compaction_ends_watches_that_need_what_is_gone() {
    let member = Member::new(SMALL, small_config());
    let mut stream = member.stream();
    ask(&mut stream, create("k", "", 0));
    drain(&mut stream).await;
    for n in 0..20 {
        member.put("k", &n.to_string());
    }
    member.history.store.lock().compacted = 10;
    let answers = drain(&mut stream).await;
    assert_eq!(answers.len(), 1);
    assert!(answers[0].canceled && answers[0].compact_revision == 10 && answers[0].events.is_empty());
    assert_eq!(stream.watches(), 0);
}

#[tokio::test(start_paused = true)]
async fn cold_history_is_read_while_live_events_flow() {
    let member = Member::new(SMALL, small_config());
    for n in 0..20 {
        member.put("k", &n.to_string());
    }
    member.history.cold.store(true, Ordering::Relaxed);
    let mut stream = member.stream();
    ask(&mut stream, create("k", "", 1));
    ask(&mut stream, create("m", "", 0));
    member.put("m", "1");
    let answers = drain(&mut stream).await;
    let count = |id| answers.iter().filter(|a| a.watch_id == id).map(|a| a.events.len()).sum::<usize>();
    assert_eq!((count(0), count(1)), (20, 1));
    // History that cannot be read ends the watch aloud.
    member.history.store.lock().broken = true;
    ask(&mut stream, create("k", "", 1));
    let answers = drain(&mut stream).await;
    assert_eq!(answers[1].cancel_reason, "history cannot be read: broken");
    assert_eq!(stream.watches(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_cold_read_is_not_for_a_watch_that_came_later_and_needs_more() {
    let member = Member::new(SMALL, WatchConfig { max_read_events: 100, ..small_config() });
    for n in 0..20 {
        member.put("k", &n.to_string());
    }
    member.history.cold.store(true, Ordering::Relaxed);
    let mut stream = member.stream();
    ask(&mut stream, create("k", "", 15));
    {
        let _stopped = member.history.gate.lock();
        assert!(stream.next().now_or_never().flatten().unwrap().created);
        assert_eq!(stream.next().now_or_never(), None);
        // Dropping the future and asking for more does not lose the read.
        ask(&mut stream, create("k", "", 2));
        assert!(stream.next().now_or_never().flatten().unwrap().created);
        assert_eq!(stream.next().now_or_never(), None);
    }
    let answers = drain(&mut stream).await;
    for (id, wanted) in [(0, 15..=21), (1, 2..=21)] {
        let got = answers.iter().filter(|a| a.watch_id == id).flat_map(events);
        let got: Vec<_> = got.map(|e| e.kv.unwrap().mod_revision).collect();
        assert_eq!(got, wanted.collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_of_the_future_stays_live_when_the_ring_is_lost() {
    let member = Member::new(SMALL, small_config());
    let mut stream = member.stream();
    ask(&mut stream, create("k", "", 0));
    ask(&mut stream, create("k", "", 12));
    drain(&mut stream).await;
    for n in 0..9 {
        member.put("k", &n.to_string());
    }
    assert_eq!(drain(&mut stream).await.iter().map(|a| a.events.len()).sum::<usize>(), 9);
    assert_eq!(stream.watchers_catching_up(), 0);
    member.put("k", "");
    member.put("k", "");
    let answers = summary(&drain(&mut stream).await);
    assert!(answers.contains(&(1, 12, "k".to_owned())), "{answers:?}");
}

#[tokio::test(start_paused = true)]
async fn watchers_share_encoded_events() {
    let member = Member::new(HubLimits::default(), WatchConfig::default());
    let mut streams: Vec<_> = (0..3).map(|_| member.stream()).collect();
    for stream in &mut streams {
        ask(stream, create("k", "l", 0));
        drain(stream).await;
    }
    member.put("k", "1");
    let mut places = Vec::new();
    for stream in &mut streams {
        places.push(next(stream).await.unwrap().events[0].as_ptr());
    }
    assert_eq!(places, [places[0]; 3]);
}

/// What one watch of the model client knows.
struct Seen {
    range: WatchRange,
    create: WatchCreateRequest,
    /// First revision that it must see; known when it was created.
    start: Option<i64>,
    /// What a client could read when it asked.
    asked_at: i64,
    /// Events of the store's log that it has, counted.
    seen: usize,
    /// The newest promise.
    promised: i64,
    /// Between two fragments.
    in_fragments: bool,
}

impl Seen {
    /// What it must see of everything that ever was.
    fn wanted(&self, store: &Store) -> Vec<Event> {
        let Some(start) = self.start else { return Vec::new() };
        let filtered = |kind| match kind {
            EventKind::Put => self.create.filters.contains(&FilterType::Noput.into()),
            EventKind::Delete => self.create.filters.contains(&FilterType::Nodelete.into()),
        };
        let wanted =
            |e: &&Event| e.at.main.0 >= start && self.range.contains(e.record.key()) && !filtered(e.kind);
        store.events.iter().filter(wanted).cloned().collect()
    }

    /// Bookmarkable: whatever is not newer than the promise was seen.
    fn check_promise(&mut self, revision: i64, store: &Store) {
        let missing = self.wanted(store).get(self.seen).map_or(i64::MAX, |e| e.at.main.0);
        assert!(missing > revision, "promised {revision}, but {missing} was not sent");
        assert!(revision >= self.promised, "promises do not go back");
        assert!(revision <= store.revision);
        self.promised = revision;
    }

    fn check_events(&mut self, answer: &WatchResponse, store: &Store) {
        let wanted = self.wanted(store);
        for got in events(answer) {
            // Ordered, unique, reliable: exactly the next one.
            let want = &wanted[self.seen];
            let kv = |r: &Record| mvccpb::KeyValue::decode(r.encoded()).unwrap();
            assert_eq!(got.kv.unwrap(), kv(&want.record));
            assert_eq!(got.r#type == 1, want.kind == EventKind::Delete);
            assert_eq!(got.prev_kv, want.previous.as_ref().filter(|_| self.create.prev_kv).map(kv));
            self.seen += 1;
        }
        assert!(self.create.fragment || !answer.fragment);
        self.in_fragments = answer.fragment;
        if !answer.fragment {
            // Atomic: a revision is not cut.
            let (last, next) = (wanted[self.seen - 1].at.main, wanted.get(self.seen).map(|e| e.at.main));
            assert_ne!(Some(last), next);
            self.check_promise(told(answer), store);
        }
    }
}

/// A client with one stream, which checks every answer.
struct Client {
    stream: WatchStream,
    watches: HashMap<i64, Seen>,
    /// Ended by compaction and not yet canceled by the client.
    ended: HashSet<i64>,
    /// Requests without an answer yet, in order: the answers are in that order too.
    creating: Vec<Seen>,
}

impl Client {
    fn create(&mut self, create: WatchCreateRequest, asked_at: i64) {
        let range = WatchRange::from_request(&create.key, &create.range_end).unwrap();
        ask(&mut self.stream, create.clone());
        self.creating.push(Seen {
            range,
            create,
            start: None,
            asked_at,
            seen: 0,
            promised: 0,
            in_fragments: false,
        });
    }

    fn check(&mut self, answer: &WatchResponse, store: &Store) {
        if answer.created {
            let mut seen = self.creating.remove(0);
            let start = seen.create.start_revision;
            assert!(told(answer) >= seen.asked_at);
            seen.start = Some(if start == 0 { told(answer) + 1 } else { start });
            seen.promised = if start == 0 { told(answer) } else { 0 };
            assert!(self.watches.insert(answer.watch_id, seen).is_none());
        } else if answer.compact_revision != 0 {
            let seen = self.watches.remove(&answer.watch_id).unwrap();
            assert!(answer.canceled && answer.events.is_empty() && !seen.in_fragments);
            assert!(answer.compact_revision <= store.compacted);
            assert!(seen.promised < answer.compact_revision);
            self.ended.insert(answer.watch_id);
        } else if answer.canceled {
            assert!(self.watches.remove(&answer.watch_id).is_some() || self.ended.remove(&answer.watch_id));
        } else if answer.watch_id == NO_WATCH {
            assert!(!self.watches.is_empty());
            for seen in self.watches.values_mut() {
                assert!(seen.start.unwrap() <= told(answer) + 1 && !seen.in_fragments);
                assert!(seen.create.start_revision <= told(answer));
                seen.check_promise(told(answer), store);
            }
        } else {
            let seen = self.watches.get_mut(&answer.watch_id).expect("created first");
            if answer.events.is_empty() {
                assert!(seen.create.progress_notify && seen.create.start_revision <= told(answer));
                seen.check_promise(told(answer), store);
            } else {
                seen.check_events(answer, store);
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// One transaction, in history.
    Write(Vec<(&'static str, Option<u8>)>),
    /// One batch with this many revisions at most.
    Publish(i64),
    Create {
        client: usize,
        keys: (&'static str, &'static str),
        /// Relative to the current revision; 0 is "now".
        start: i64,
        flags: u8,
    },
    Cancel(usize, i64),
    Progress(usize),
    Read(usize, usize),
    Compact(i64),
    Restore,
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = prop::sample::select(vec!["a", "aa", "ab", "b", "ba", "c"]);
    let keys = prop::sample::select(vec![
        ("a", ""),
        ("b", ""),
        ("a", "b"),
        ("aa", "ab"),
        ("a", "c"),
        ("ab", "bz"),
        ("", "\0"),
        ("b", "\0"),
    ]);
    let write = prop::collection::vec((key, prop::option::weighted(0.7, 0u8..40)), 1..5);
    let client = 0usize..2;
    let step = prop_oneof![
        8 => write.prop_map(Step::Write),
        8 => (1i64..4).prop_map(Step::Publish),
        4 => (client.clone(), keys, prop_oneof![Just(0i64), -12i64..5], any::<u8>())
            .prop_map(|(client, keys, start, flags)| Step::Create { client, keys, start, flags }),
        1 => (client.clone(), 0i64..5).prop_map(|(client, id)| Step::Cancel(client, id)),
        2 => client.clone().prop_map(Step::Progress),
        8 => (client, 1usize..6).prop_map(|(client, n)| Step::Read(client, n)),
        1 => (0i64..10).prop_map(Step::Compact),
        1 => Just(Step::Restore),
        2 => (5u64..15).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..120)
}

async fn run(steps: Vec<Step>, cold: bool) {
    let member = Member::new(SMALL, small_config());
    member.history.cold.store(cold, Ordering::Relaxed);
    let mut clients: Vec<_> = (0..2)
        .map(|_| Client {
            stream: member.stream(),
            watches: HashMap::new(),
            ended: HashSet::new(),
            creating: Vec::new(),
        })
        .collect();
    for step in steps {
        match step {
            Step::Write(changes) => {
                let values: Vec<_> = changes.iter().map(|(_, v)| v.map(|n| vec![n; n.into()])).collect();
                let changes: Vec<_> =
                    changes.iter().zip(&values).map(|((k, _), v)| (k.as_bytes(), v.as_deref())).collect();
                // etcd refuses to change a key twice in one transaction.
                let mut distinct: Vec<(&[u8], Option<&[u8]>)> = Vec::new();
                for change in changes {
                    if distinct.iter().all(|(key, _)| *key != change.0) {
                        distinct.push(change);
                    }
                }
                member.write(&distinct);
            }
            Step::Publish(count) => {
                member.publish((member.hub.published().0 + count).min(member.revision()));
            }
            Step::Create { client, keys, start, flags } => {
                let start_revision = if start == 0 { 0 } else { (member.revision() + start).max(1) };
                let filters = match flags & 7 {
                    0 => vec![FilterType::Noput.into()],
                    1 => vec![FilterType::Nodelete.into()],
                    _ => vec![],
                };
                let asked = WatchCreateRequest {
                    prev_kv: flags & 8 != 0,
                    fragment: flags & 16 != 0,
                    progress_notify: flags & 32 != 0,
                    filters,
                    ..create(keys.0, keys.1, start_revision)
                };
                clients[client].create(asked, member.revision());
            }
            Step::Cancel(client, id) => ask_cancel(&mut clients[client].stream, id),
            Step::Progress(client) => ask_progress(&mut clients[client].stream),
            Step::Read(client, count) => {
                for _ in 0..count {
                    let Some(answer) = next(&mut clients[client].stream).await else { break };
                    clients[client].check(&answer, &member.history.store.lock());
                }
            }
            Step::Compact(back) => {
                let mut store = member.history.store.lock();
                store.compacted = store.compacted.max(store.revision - back);
            }
            Step::Restore => member.hub.restored(Revision(member.revision())),
            Step::Pass(seconds) => tokio::time::advance(Duration::from_secs(seconds)).await,
        }
    }
    member.publish_all();
    for client in &mut clients {
        for answer in drain(&mut client.stream).await {
            client.check(&answer, &member.history.store.lock());
        }
        assert!(client.creating.is_empty());
        let revision = member.revision();
        for seen in client.watches.values() {
            assert_eq!(seen.seen, seen.wanted(&member.history.store.lock()).len(), "nothing is missing");
        }
        assert_eq!(client.stream.watches(), client.watches.len());
        assert_eq!(client.stream.watchers_catching_up(), 0);
        // Everyone is in step, so progress is told, unless somebody waits for the future.
        ask_progress(&mut client.stream);
        let answers = drain(&mut client.stream).await;
        for answer in &answers {
            client.check(answer, &member.history.store.lock());
        }
        let wanted = !client.watches.is_empty()
            && client.watches.values().all(|seen| seen.create.start_revision <= revision);
        assert_eq!(answers.iter().any(|a| a.watch_id == NO_WATCH && told(a) == revision), wanted);
    }
    drop(clients);
    let stats = member.hub.stats();
    let counts = (stats.streams(), stats.watchers(), stats.slow_watchers(), stats.pending_events());
    assert_eq!(counts, (0, 0, 0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn all_guarantees_hold(steps in steps(), cold in any::<bool>()) {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(run(steps, cold));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn nothing_is_lost_while_the_applier_runs_on_another_thread() {
    const REVISIONS: i64 = 3000;
    let limits = HubLimits { max_events: 50, ..HubLimits::default() };
    let member = Arc::new(Member::new(limits, WatchConfig { max_read_events: 20, ..small_config() }));
    let mut readers = tokio::task::JoinSet::new();
    for reader in 0..6i64 {
        let mut stream = member.stream();
        // From the start, from the past, and one that never gets what it wants before the end.
        ask(&mut stream, create("k", "l", 1 + reader % 2));
        readers.spawn(async move {
            let mut next = 2;
            while next <= REVISIONS + 1 {
                let answer = stream.next().await.unwrap();
                for event in events(&answer) {
                    assert_eq!(event.kv.unwrap().mod_revision, next);
                    next += 1;
                }
                if !answer.created {
                    assert_eq!(told(&answer) + 1, next);
                }
            }
        });
    }
    let applier = tokio::task::spawn_blocking({
        let member = member.clone();
        move || {
            for n in 0..REVISIONS {
                member.put("k", &n.to_string());
            }
        }
    });
    applier.await.unwrap();
    while let Some(done) = readers.join_next().await {
        done.unwrap();
    }
}
