//! Load while things break: writers, readers and watchers that remember what they were told, and the checks of
//! what they remember against the store's history.
//!
//! A write without an answer may or may not have happened; it is never tried again with the same value, so a
//! value that appears twice in the history is the store's doing.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use barque_proto::etcdserverpb as pb;
use barque_proto::mvccpb;
use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::client::Client;

/// A request that takes longer counts as unanswered.
const REQUEST_PATIENCE: Duration = Duration::from_secs(3);

/// Pause after a failure, so that clients of a dead cluster do not spin.
const BACK_OFF: Duration = Duration::from_millis(10);

/// A watch on which nothing comes for so long is opened anew: its member may be paused.
const WATCH_IDLE: Duration = Duration::from_secs(2);

/// Keys of one writer; it overwrites them in turn.
const KEYS_PER_WRITER: u64 = 7;

/// Keys that load writes start with this.
pub const PREFIX: &str = "load/";

/// Change of one key, as a watch tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The revision of the change.
    pub revision: i64,
    /// The key.
    pub key: Bytes,
    /// The new value; `None` for a deletion.
    pub value: Option<Bytes>,
}

impl Change {
    fn of(event: mvccpb::Event) -> Self {
        let deleted = event.r#type() == mvccpb::event::EventType::Delete;
        let kv = event.kv.unwrap_or_default();
        Self { revision: kv.mod_revision, key: kv.key, value: (!deleted).then_some(kv.value) }
    }
}

/// A write that the store has acknowledged.
#[derive(Clone, Debug)]
pub struct Acknowledged {
    /// The key.
    pub key: Bytes,
    /// The value, unique in the run.
    pub value: Bytes,
    /// The revision that the answer named.
    pub revision: i64,
}

/// What the clients of a run remember.
#[derive(Debug, Default)]
pub struct Memories {
    /// Every acknowledged write.
    pub acknowledged: Vec<Acknowledged>,
    /// Everything that each watcher saw, in its order.
    pub watched: Vec<Vec<Change>>,
}

enum Memory {
    Writer(Vec<Acknowledged>),
    Reader,
    Watcher(Vec<Change>),
}

/// Clients at work.
#[derive(Debug)]
pub struct Load {
    tasks: JoinSet<Memory>,
    /// The revision up to which watchers go on; 0 while the load runs.
    last_revision: watch::Sender<Option<i64>>,
    acknowledged: Arc<watch::Sender<u64>>,
    endpoints: watch::Sender<Vec<String>>,
}

impl Load {
    /// Starts `writers` writers, one reader and two watchers, all of which go to the endpoints in turn.
    #[must_use]
    pub fn start(endpoints: &[String], writers: usize) -> Self {
        let mut tasks = JoinSet::new();
        let last_revision = watch::Sender::new(None);
        let acknowledged = Arc::new(watch::Sender::new(0));
        let endpoints = watch::Sender::new(endpoints.to_vec());
        for writer in 0..writers {
            let clients = Clients::new(endpoints.subscribe(), writer);
            tasks.spawn(write(writer, clients, last_revision.subscribe(), Arc::clone(&acknowledged)));
        }
        tasks.spawn(read(Clients::new(endpoints.subscribe(), 1), last_revision.subscribe()));
        for watcher in 0..2 {
            tasks.spawn(follow(Clients::new(endpoints.subscribe(), watcher), last_revision.subscribe()));
        }
        Self { tasks, last_revision, acknowledged, endpoints }
    }

    /// Spreads the clients over these endpoints from now on, each as soon as its present request is over.
    pub fn spread_over(&self, endpoints: &[String]) {
        self.endpoints.send_replace(endpoints.to_vec());
    }

    /// Waits until `more` further writes have been acknowledged.
    pub async fn acknowledged(&self, more: u64, patience: Duration) {
        let mut count = self.acknowledged.subscribe();
        let before = *count.borrow();
        // What `wait_for` returns holds a lock that writers wait for.
        let enough = timeout(patience, count.wait_for(|count| *count >= before + more)).await.is_ok();
        let now = *self.acknowledged.borrow();
        assert!(enough, "only {} of {more} writes were acknowledged in {patience:?}", now - before);
    }

    /// Ends the writers, lets the watchers see everything, and returns what all remember.
    pub async fn stop(mut self) -> Memories {
        let revision = Clients::new(self.endpoints.subscribe(), 0).revision().await;
        // A write that is under way may still be applied; the watchers need not wait for it.
        self.last_revision.send_replace(Some(revision));
        let mut memories = Memories::default();
        while let Some(memory) = self.tasks.join_next().await {
            match memory.unwrap_or_else(|why| std::panic::resume_unwind(why.into_panic())) {
                Memory::Writer(writes) => memories.acknowledged.extend(writes),
                Memory::Watcher(changes) => memories.watched.push(changes),
                Memory::Reader => {}
            }
        }
        memories
    }
}

/// Clients of all members, one of which is in use until it fails or the members change.
struct Clients {
    endpoints: watch::Receiver<Vec<String>>,
    /// Where among the members this one begins.
    first: usize,
    all: Vec<Client>,
    current: usize,
}

impl Clients {
    fn new(mut endpoints: watch::Receiver<Vec<String>>, first: usize) -> Self {
        let all = Self::of(&endpoints.borrow_and_update());
        Self { endpoints, first, current: first % all.len(), all }
    }

    fn of(endpoints: &[String]) -> Vec<Client> {
        endpoints.iter().map(|url| Client::to(url)).collect()
    }

    fn current(&self) -> &Client {
        &self.all[self.current]
    }

    /// Follows a change of the members; whether there was one.
    fn follow(&mut self) -> bool {
        // Whoever could change them may be gone; then they stay.
        let changed = self.endpoints.has_changed().unwrap_or(false);
        if changed {
            self.all = Self::of(&self.endpoints.borrow_and_update());
            self.current = self.first % self.all.len();
        }
        changed
    }

    async fn next(&mut self) {
        if !self.follow() {
            self.current = (self.current + 1) % self.all.len();
        }
        sleep(BACK_OFF).await;
    }

    async fn revision(&mut self) -> i64 {
        loop {
            if let Ok(Ok(revision)) = timeout(REQUEST_PATIENCE, self.current().revision()).await {
                return revision;
            }
            self.next().await;
        }
    }
}

async fn write(
    writer: usize,
    mut clients: Clients,
    stop: watch::Receiver<Option<i64>>,
    acknowledged: Arc<watch::Sender<u64>>,
) -> Memory {
    let mut writes: Vec<Acknowledged> = Vec::new();
    let mut number = 0_u64;
    while stop.borrow().is_none() {
        clients.follow();
        number += 1;
        let key = Bytes::from(format!("{PREFIX}{writer}/{}", number % KEYS_PER_WRITER));
        let value = Bytes::from(format!("{writer}-{number}"));
        let answer = timeout(REQUEST_PATIENCE, clients.current().put(key.clone(), value.clone())).await;
        let Ok(Ok(answer)) = answer else {
            clients.next().await;
            continue;
        };
        let revision = answer.header.expect("every answer has a header").revision;
        if let Some(before) = writes.last() {
            assert!(
                revision > before.revision,
                "writer {writer} was given revision {revision} after {}",
                before.revision
            );
        }
        writes.push(Acknowledged { key, value, revision });
        acknowledged.send_modify(|count| *count += 1);
    }
    Memory::Writer(writes)
}

/// One linearizable read after another, over all members: the revision must never go back.
async fn read(mut clients: Clients, stop: watch::Receiver<Option<i64>>) -> Memory {
    let mut highest = 0;
    while stop.borrow().is_none() {
        if let Ok(Ok(revision)) = timeout(REQUEST_PATIENCE, clients.current().revision()).await {
            assert!(revision >= highest, "a linearizable read saw revision {revision} after {highest}");
            highest = revision;
        }
        clients.next().await;
    }
    Memory::Reader
}

/// One watch over everything, opened again from the last revision whenever it breaks.
async fn follow(mut clients: Clients, mut stop: watch::Receiver<Option<i64>>) -> Memory {
    let mut changes: Vec<Change> = Vec::new();
    loop {
        let seen = changes.last().map_or(1, |change| change.revision);
        if stop.borrow().is_some_and(|last| seen >= last) {
            return Memory::Watcher(changes);
        }
        let opened = timeout(REQUEST_PATIENCE, clients.current().watch(everything_after(seen))).await;
        let Ok(Ok(mut stream)) = opened else {
            clients.next().await;
            continue;
        };
        loop {
            let answer = tokio::select! {
                answer = stream.next(WATCH_IDLE) => answer,
                // The end of the load: look at how far the watch has to go.
                Ok(()) = stop.changed() => break,
            };
            let Ok(answer) = answer else { break };
            assert!(!answer.canceled, "a watch was cancelled: {answer:?}");
            changes.extend(answer.events.into_iter().map(Change::of));
            let seen = changes.last().map_or(1, |change| change.revision);
            if stop.borrow().is_some_and(|last| seen >= last) {
                return Memory::Watcher(changes);
            }
        }
        clients.next().await;
    }
}

fn everything_after(revision: i64) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        start_revision: revision + 1,
        ..Default::default()
    }
}

/// The whole history that a member tells, up to its present revision.
pub async fn history(client: &Client) -> Vec<Change> {
    let last = client.revision().await.expect("a healthy member reads");
    let mut changes: Vec<Change> = Vec::new();
    if last <= 1 {
        return changes;
    }
    let mut stream = client.watch(everything_after(1)).await.expect("a healthy member opens watches");
    while changes.last().is_none_or(|change| change.revision < last) {
        let answer = stream.next(REQUEST_PATIENCE).await.expect("a healthy member tells its history");
        changes.extend(answer.events.into_iter().map(Change::of));
    }
    changes
}

/// Checks what the clients remember against a member's history.
///
/// # Panics
/// When an acknowledged write is missing or different, a value was written twice, or a watcher missed,
/// repeated or reordered something.
pub fn check(memories: &Memories, history: &[Change]) {
    let mut by_place = BTreeMap::new();
    let mut values = HashSet::new();
    for change in history {
        by_place.insert((change.revision, change.key.clone()), change);
        if let Some(value) = &change.value {
            assert!(values.insert(value.clone()), "the value {value:?} was written twice");
        }
    }
    for write in &memories.acknowledged {
        let found = by_place.get(&(write.revision, write.key.clone()));
        let value = found.and_then(|change| change.value.as_ref());
        assert_eq!(value, Some(&write.value), "an acknowledged write is not in the history: {write:?}");
    }
    for (watcher, seen) in memories.watched.iter().enumerate() {
        let expected = &history[..seen.len().min(history.len())];
        if let Some(place) = seen.iter().zip(expected).position(|(seen, expected)| seen != expected) {
            panic!(
                "watcher {watcher} saw {:?} as its change number {place}; the history has {:?}",
                seen[place], expected[place]
            );
        }
        assert_eq!(seen.len(), expected.len(), "watcher {watcher} saw more than the history holds");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(revision: i64, key: &'static str, value: &'static str) -> Change {
        Change { revision, key: key.into(), value: Some(value.into()) }
    }

    fn acknowledged(revision: i64, key: &'static str, value: &'static str) -> Acknowledged {
        Acknowledged { key: key.into(), value: value.into(), revision }
    }

    fn history() -> Vec<Change> {
        vec![change(2, "a", "1"), change(3, "b", "2"), change(4, "a", "3")]
    }

    /// A history with an unacknowledged write in the middle, and a watcher that has not seen the end.
    #[test]
    fn what_agrees_passes() {
        let memories = Memories {
            acknowledged: vec![acknowledged(2, "a", "1"), acknowledged(4, "a", "3")],
            watched: vec![history(), history()[..2].to_vec(), Vec::new()],
        };
        check(&memories, &history());
    }

    #[test]
    #[should_panic(expected = "is not in the history")]
    fn a_lost_write_is_found() {
        check(&Memories { acknowledged: vec![acknowledged(5, "a", "4")], watched: vec![] }, &history());
    }

    #[test]
    #[should_panic(expected = "is not in the history")]
    fn a_write_at_another_revision_is_found() {
        check(&Memories { acknowledged: vec![acknowledged(3, "a", "3")], watched: vec![] }, &history());
    }

    #[test]
    #[should_panic(expected = "was written twice")]
    fn a_write_that_was_applied_twice_is_found() {
        check(&Memories::default(), &[change(2, "a", "1"), change(3, "a", "1")]);
    }

    #[test]
    #[should_panic(expected = "as its change number 1")]
    fn a_gap_in_a_watch_is_found() {
        let watched = vec![vec![change(2, "a", "1"), change(4, "a", "3")]];
        check(&Memories { acknowledged: vec![], watched }, &history());
    }

    #[test]
    #[should_panic(expected = "as its change number 1")]
    fn an_event_that_a_watch_repeats_is_found() {
        let watched = vec![vec![change(2, "a", "1"), change(2, "a", "1"), change(3, "b", "2")]];
        check(&Memories { acknowledged: vec![], watched }, &history());
    }
}
