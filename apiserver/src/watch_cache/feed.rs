//! The one task that asks the store: lists the collection, follows its changes, and begins again where it must. Must never
//! wait for a reader or watcher.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::board::Board;
use super::object::Object;
use super::reader::ObjectReader;
use super::ring::RingLimits;
use super::state::{ReadChange, State};
use crate::storage::{Change, Entry, Page, Revision, Storage, StorageError, StorageWatch, WatchItem};

/// Objects listed in one go.
const PAGE: usize = 1000;
/// Between attempts, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Progress is asked for so often while somebody waits for it: etcd does not answer while its watch is behind.
const ASK_WHILE_AWAITED: Duration = Duration::from_millis(100);
/// And so often for the sake of bookmarks.
const ASK_FOR_BOOKMARKS: Duration = Duration::from_secs(30);

/// See the module's description.
pub(super) struct Feed<S> {
    pub(super) storage: S,
    pub(super) board: Arc<Board>,
    pub(super) reader: Arc<ObjectReader>,
    pub(super) prefix: Bytes,
    pub(super) limits: RingLimits,
    pub(super) began: Instant,
}

impl<S: Storage> Feed<S> {
    /// Runs until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.go_on() => {}
        }
        self.board.ended.cancel();
    }

    async fn go_on(&self) {
        let mut pause = FIRST_PAUSE;
        let mut listed = false;
        loop {
            let result = if listed { self.follow(&mut pause).await } else { self.load().await };
            let collection = String::from_utf8_lossy(&self.prefix);
            match result {
                Ok(()) => {
                    listed = true;
                    continue;
                }
                Err(error @ StorageError::Compacted { .. }) => {
                    tracing::warn!(%collection, %error, "changes were lost; listing again");
                    listed = false;
                }
                Err(error) => tracing::warn!(%collection, %error, "the store is not followed; trying again"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Lists the collection at one revision.
    async fn load(&self) -> Result<(), StorageError> {
        let mut objects: Vec<Arc<Object>> = Vec::new();
        let mut page = Page { prefix: self.prefix.clone(), limit: PAGE, ..Page::default() };
        let revision = loop {
            let listed = self.storage.list(&page).await?;
            let last = listed.entries.last().map(|entry| entry.key.clone());
            for entry in listed.entries {
                objects.push(self.read(entry));
                tokio::task::coop::consume_budget().await;
            }
            match last {
                Some(last) if listed.remaining > 0 => {
                    page.start = [&last[..], &[0]].concat().into();
                    page.revision = Some(listed.revision);
                }
                _ => break listed.revision,
            }
        };
        let lost = {
            let mut state = self.board.state.write();
            match state.as_mut() {
                Some(state) => state.replace(&objects, revision, self.now()),
                None => {
                    *state = Some(State::new(&objects, revision, self.board.field, self.limits));
                    None
                }
            }
        };
        self.board.counts.initialized();
        self.hand_out(lost.as_slice(), revision);
        Ok(())
    }

    /// Follows changes until the watch breaks, which is an error.
    async fn follow(&self, pause: &mut Duration) -> Result<(), StorageError> {
        let from = self.board.revision.borrow().next();
        let mut watch = self.storage.watch(&self.prefix, from).await?;
        let mut waiting = self.board.waiting.subscribe();
        let mut ask_at = Instant::now() + ASK_FOR_BOOKMARKS;
        loop {
            let awaited = *waiting.borrow_and_update() > 0;
            tokio::select! {
                item = watch.next() => {
                    self.take(item?).await;
                    *pause = FIRST_PAUSE;
                }
                changed = waiting.changed() => {
                    // The sender is in what this task shares.
                    let _ = changed;
                    if *waiting.borrow() > 0 {
                        watch.request_progress().await;
                    }
                }
                () = tokio::time::sleep(ASK_WHILE_AWAITED), if awaited => watch.request_progress().await,
                () = tokio::time::sleep_until(ask_at) => {
                    ask_at = Instant::now() + ASK_FOR_BOOKMARKS;
                    watch.request_progress().await;
                }
            }
        }
    }

    fn read(&self, entry: Entry) -> Arc<Object> {
        let object = self.reader.read(entry);
        if let Some(why) = object.unreadable() {
            tracing::error!(key = %String::from_utf8_lossy(object.key()), why, "an object cannot be read");
        }
        Arc::new(object)
    }

    async fn take(&self, item: WatchItem) {
        let changes = match item {
            WatchItem::Progress(revision) => {
                if let Some(state) = self.board.state.write().as_mut() {
                    state.progress(revision);
                }
                self.hand_out(&[], revision);
                return;
            }
            WatchItem::Changes(changes) => changes,
        };
        let mut read = Vec::with_capacity(changes.len());
        for Change { key, revision, value, .. } in changes {
            let object = value.map(|value| self.read(Entry { key: key.clone(), value, revision }));
            read.push(ReadChange { key, revision, object });
            tokio::task::coop::consume_budget().await;
        }
        let Some(revision) = read.last().map(|change| change.revision) else { return };
        self.board.counts.received(read.len());
        let now = self.now();
        let events = self.board.state.write().as_mut().map(|state| state.apply(read, now));
        self.hand_out(&events.unwrap_or_default(), revision);
    }

    /// Tells watchers of events, and everybody how far the state is. The state has the events already.
    fn hand_out(&self, events: &[Arc<super::event::Event>], revision: Revision) {
        let mut let_go = 0;
        {
            let mut registry = self.board.registry.lock();
            for event in events {
                let_go += registry.dispatch(event);
            }
            registry.dispatched = registry.dispatched.max(revision);
        }
        if let_go > 0 {
            let collection = String::from_utf8_lossy(&self.prefix);
            tracing::debug!(%collection, let_go, "watchers do not keep up, or went away");
        }
        self.board.revision.send_if_modified(|seen| {
            let newer = revision > *seen;
            *seen = revision.max(*seen);
            newer
        });
    }
}
