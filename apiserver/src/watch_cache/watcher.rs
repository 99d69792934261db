//! One client's watch: objects first where it asked for them, then the recent past from the ring, then events as they
//! come. Must never repeat, leave out or reorder an event, nor hold up anybody when its client is slow.
//!
//! A watcher is live, with a queue of its own that the feed fills, or it catches up and reads the ring. It becomes live
//! under the registry's lock, and only when the ring has nothing that it has not seen: whatever comes later is dispatched
//! under the same lock and finds it. When its queue is full it is let go, and catches up again behind the last event that
//! it got. It ends when the ring no longer reaches back to where it is, or when changes that concern it were lost.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use barque_api::status::Status;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::board::Board;
use super::event::{Event, Kind, What, transition};
use super::index::Index;
use super::object::Object;
use super::registry::{Queued, Registration, Selection, WatcherId, concerns};
use super::ring::TooOld;
use crate::storage::Revision;

/// Looked at in one go while it catches up or tells objects.
const AT_ONCE: usize = 256;
/// Between bookmarks.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);
/// One more so long before the end, so that the client can go on from there.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);

/// What a watcher tells.
#[derive(Clone, Debug)]
pub enum Told {
    /// An object.
    Object {
        /// What happened to it.
        kind: Kind,
        /// As it is now; as it was, when it is gone.
        object: Arc<Object>,
        /// The resource version to tell it with: that of the change.
        revision: Revision,
        /// Where its encoded form is shared with other watchers; `None` for the objects at the beginning.
        event: Option<Arc<Event>>,
    },
    /// Everything up to this revision was told.
    Bookmark {
        /// The resource version.
        revision: Revision,
        /// All objects that there were at the beginning were told: annotation `k8s.io/initial-events-end`.
        initial_events_end: bool,
    },
    /// The watch is over.
    Error(Status),
}

/// How a watch begins, once that is known.
pub(super) enum Start {
    /// With these objects; events from this sequence on are behind them.
    Objects { index: Index, revision: Revision, sequence: u64, marked: bool },
    /// With events from this sequence on, behind this revision.
    Events { sequence: u64, after: Revision },
    /// With its end.
    Failed(Status),
}

/// What a watch wants beside its objects.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wishes {
    pub(super) bookmarks: bool,
    pub(super) deadline: Option<Instant>,
}

enum Phase {
    Objects { index: Index, next: Bytes, sequence: u64, marked: bool },
    CatchUp { sequence: u64 },
    Live { id: WatcherId, events: mpsc::Receiver<Queued>, sequence: u64 },
    Over,
}

/// See the module's description.
pub struct Watcher {
    board: Arc<Board>,
    selection: Selection,
    wishes: Wishes,
    phase: Phase,
    ready: VecDeque<Told>,
    /// Everything up to here was told or is not wanted.
    revision: Revision,
    /// Events up to here are not wanted.
    after: Revision,
    /// When the next bookmark is due.
    bookmark: Option<Instant>,
}

/// When the next bookmark is due.
fn next_bookmark(now: Instant, deadline: Option<Instant>) -> Option<Instant> {
    let regular = now + BOOKMARK_INTERVAL;
    let Some(deadline) = deadline else { return Some(regular) };
    let due = deadline.checked_sub(BOOKMARK_BEFORE_END).map_or(now, |last| last.min(regular));
    (due > now).then_some(due)
}

impl Watcher {
    pub(super) fn new(board: Arc<Board>, selection: Selection, wishes: Wishes, start: Start) -> Self {
        let mut ready = VecDeque::new();
        let (phase, revision, after) = match start {
            Start::Objects { index, revision, sequence, marked } => {
                let next = selection.prefix.clone();
                (Phase::Objects { index, next, sequence, marked }, revision, Revision(0))
            }
            Start::Events { sequence, after } => (Phase::CatchUp { sequence }, after, after),
            Start::Failed(status) => {
                ready.push_back(Told::Error(status));
                (Phase::Over, Revision(0), Revision(0))
            }
        };
        let bookmark = if wishes.bookmarks { next_bookmark(Instant::now(), wishes.deadline) } else { None };
        Self { board, selection, wishes, phase, ready, revision, after, bookmark }
    }

    /// What comes next; `None` when the watch is over: after an error, at its deadline, or when the cache ends. May be
    /// dropped while it waits; nothing is lost by that.
    pub async fn next(&mut self) -> Option<Told> {
        loop {
            if let Some(told) = self.ready.pop_front() {
                if let Told::Error(_) = told {
                    self.end();
                }
                return Some(told);
            }
            match &mut self.phase {
                Phase::Over => return None,
                Phase::Objects { .. } => self.tell_objects(),
                Phase::CatchUp { sequence } => {
                    let sequence = *sequence;
                    self.catch_up(sequence);
                }
                Phase::Live { .. } => {
                    self.wait().await?;
                    continue;
                }
            }
            // Reading a long past must not hold up this thread's other tasks.
            tokio::task::coop::consume_budget().await;
        }
    }

    fn end(&mut self) {
        if let Phase::Live { id, .. } = &self.phase {
            self.board.registry.lock().remove(*id, &self.selection);
        }
        self.phase = Phase::Over;
        self.ready.clear();
    }

    fn tell_objects(&mut self) {
        let Phase::Objects { index, next, sequence, marked } = &self.phase else { return };
        let (sequence, marked) = (*sequence, *marked);
        let mut found = Vec::new();
        let mut last = None;
        let field = self.board.field;
        let mut look = |objects: &mut dyn Iterator<Item = &Arc<Object>>| {
            for object in objects.take(AT_ONCE) {
                last = Some([&object.key()[..], &[0]].concat());
                if self.selection.wants(object, field) {
                    found.push(Arc::clone(object));
                }
            }
        };
        let prefix = &self.selection.prefix;
        let value = self.selection.value.as_ref();
        if let Some(mut objects) = value.and_then(|value| index.scan_value(value, prefix, next)) {
            look(&mut objects);
        } else {
            look(&mut index.scan(prefix, next));
        }
        let told = found.into_iter().map(|object| {
            let revision = object.revision();
            told(Kind::Added, object, revision, None)
        });
        self.ready.extend(told);
        match (last, &mut self.phase) {
            (Some(last), Phase::Objects { next, .. }) => *next = last.into(),
            _ => {
                if marked {
                    let revision = self.revision;
                    self.ready.push_back(Told::Bookmark { revision, initial_events_end: true });
                }
                self.phase = Phase::CatchUp { sequence };
            }
        }
    }

    fn catch_up(&mut self, sequence: u64) {
        let read = self.board.state.read().as_ref().map(|state| state.ring.read(sequence, AT_ONCE));
        match read {
            None => self.phase = Phase::Over,
            Some(Err(too_old)) => self.fail(too_old_error(self.revision, too_old)),
            Some(Ok(events)) if events.is_empty() => self.go_live(sequence),
            Some(Ok(events)) => {
                for event in &events {
                    if !self.take(event) {
                        return;
                    }
                }
                self.phase = Phase::CatchUp { sequence: sequence + events.len() as u64 };
            }
        }
    }

    /// Tells an event from the ring, if it is wanted; whether the watch goes on.
    fn take(&mut self, event: &Arc<Event>) -> bool {
        if event.revision <= self.after {
            return true;
        }
        let field = self.board.field;
        match &event.what {
            What::Change(pair) => {
                if let Some(kind) = transition(pair, |object| self.selection.wants(object, field)) {
                    self.queue(&Queued { event: Arc::clone(event), kind });
                }
            }
            What::Gap { changed, .. } => {
                if concerns(changed, &self.selection, field) {
                    let oldest = TooOld { oldest: event.revision };
                    self.fail(too_old_error(self.revision, oldest));
                    return false;
                }
            }
        }
        self.revision = self.revision.max(event.revision);
        true
    }

    fn queue(&mut self, queued: &Queued) {
        let Queued { event, kind } = queued;
        let What::Change(pair) = &event.what else { return };
        let object = if *kind == Kind::Deleted { &pair.0 } else { &pair.1 };
        if let Some(object) = object {
            let event = Arc::clone(event);
            let revision = event.revision;
            self.ready.push_back(told(*kind, Arc::clone(object), revision, Some(event)));
        }
        self.revision = self.revision.max(event.revision);
    }

    fn fail(&mut self, status: Status) {
        self.phase = Phase::Over;
        self.ready.push_back(Told::Error(status));
    }

    /// Has events sent from now on, if nothing has come meanwhile.
    fn go_live(&mut self, sequence: u64) {
        let mut registry = self.board.registry.lock();
        let Some((end, revision)) =
            self.board.state.read().as_ref().map(|state| (state.ring.end(), state.revision))
        else {
            drop(registry);
            self.phase = Phase::Over;
            return;
        };
        if end != sequence {
            return;
        }
        let (id, events) = registry.add(Registration {
            selection: self.selection.clone(),
            capacity: self.board.queue,
            from: sequence,
            after: self.after,
        });
        self.revision = self.revision.max(revision);
        self.phase = Phase::Live { id, events, sequence };
    }

    /// Waits for an event, a bookmark's time, or the end.
    async fn wait(&mut self) -> Option<()> {
        let Phase::Live { events, sequence, .. } = &mut self.phase else { return Some(()) };
        let at = |time: Option<Instant>| async move {
            match time {
                Some(time) => tokio::time::sleep_until(time).await,
                None => std::future::pending().await,
            }
        };
        let queued = tokio::select! {
            biased;
            queued = events.recv() => queued,
            () = self.board.ended.cancelled() => {
                self.end();
                return None;
            }
            () = at(self.wishes.deadline) => {
                self.end();
                return None;
            }
            () = at(self.bookmark) => {
                self.tell_bookmark();
                return Some(());
            }
        };
        match queued {
            Some(queued) => {
                *sequence = queued.event.sequence + 1;
                self.queue(&queued);
            }
            // Let go: the rest is in the ring.
            None => self.phase = Phase::CatchUp { sequence: *sequence },
        }
        Some(())
    }

    fn tell_bookmark(&mut self) {
        self.bookmark = next_bookmark(Instant::now(), self.wishes.deadline);
        let Phase::Live { events, .. } = &self.phase else { return };
        let dispatched = {
            let registry = self.board.registry.lock();
            // What stands in the queue comes first; it is as good as a bookmark.
            if !events.is_empty() || events.is_closed() {
                return;
            }
            registry.dispatched
        };
        self.revision = self.revision.max(dispatched);
        self.ready.push_back(Told::Bookmark { revision: self.revision, initial_events_end: false });
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.end();
    }
}

/// An object that cannot be read ends the watch of everybody who may want it.
fn told(kind: Kind, object: Arc<Object>, revision: Revision, event: Option<Arc<Event>>) -> Told {
    match object.unreadable() {
        Some(why) => Told::Error(unreadable(&object, why)),
        None => Told::Object { kind, object, revision, event },
    }
}

pub(super) fn unreadable(object: &Object, why: &str) -> Status {
    Status::internal(format!("the object at {} cannot be read: {why}", String::from_utf8_lossy(object.key())))
}

pub(super) fn too_old_error(wanted: Revision, too_old: TooOld) -> Status {
    Status::expired(format!("too old resource version: {wanted} ({})", too_old.oldest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bookmarks_come_every_minute_and_once_before_the_end() {
        let now = Instant::now();
        let s = Duration::from_secs;
        let table = [
            (None, Some(s(60))),
            (Some(s(300)), Some(s(60))),
            (Some(s(61)), Some(s(59))),
            (Some(s(10)), Some(s(8))),
            (Some(s(2)), None),
            (Some(s(1)), None),
        ];
        for (deadline, due) in table {
            let due = due.map(|due| now + due);
            assert_eq!(next_bookmark(now, deadline.map(|deadline| now + deadline)), due);
        }
    }
}
