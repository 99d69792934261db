//! The engine of one client's watch stream: requests in, answers out, at the client's pace.
//!
//! It has no task of its own: whoever drives it awaits [`WatchStream::next`] and may drop that future at
//! any time, for example to hand in a request that came meanwhile. Answers are only made when the ones
//! before were taken, so a client that does not read costs no more than one portion of them.

use std::collections::{HashSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use barque_proto::etcdserverpb::watch_create_request::FilterType;
use barque_proto::etcdserverpb::watch_request::RequestUnion;
use barque_proto::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchRequest};
use barque_proto::served::WatchResponse;
use tokio::time::{Instant, Sleep};
use tokio_util::task::AbortOnDropHandle;

use super::encode::SharedEvent;
use super::history::History;
use super::hub::{Listener, Taken, WatchHub};
use super::range::WatchRange;
use super::stats::add;
use super::watchers::{AnswerSizes, Audience, NO_WATCH, Watcher, Watchers};
use crate::activity::ClientId;
use crate::command::CommandError;
use crate::event::Event;
use crate::ids::Revision;

const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";

/// Answers to requests that may wait before no more requests should be handed in.
const MAX_WAITING_ANSWERS: usize = 128;

/// Makes the headers of answers: all but the revision is the member's business.
pub trait HeaderSource: Send + Sync + 'static {
    /// A header that says this revision.
    fn header(&self, revision: Revision) -> ResponseHeader;
}

impl<F: Fn(Revision) -> ResponseHeader + Send + Sync + 'static> HeaderSource for F {
    fn header(&self, revision: Revision) -> ResponseHeader {
        self(revision)
    }
}

/// How streams behave.
#[derive(Clone, Copy, Debug)]
pub struct WatchConfig {
    /// Time between progress notifications; up to a tenth is added at random for each stream.
    pub progress_interval: Duration,
    /// Answers of this size are split for watches that allow it.
    pub fragment_bytes: usize,
    /// Events of further revisions are not added to an answer of this size.
    pub max_batched_bytes: usize,
    /// Events looked at in one go.
    pub max_read_events: usize,
    /// Bytes of events looked at in one go.
    pub max_read_bytes: usize,
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self {
            progress_interval: Duration::from_secs(600),
            fragment_bytes: 2 << 20,
            max_batched_bytes: 256 << 10,
            max_read_events: 1024,
            max_read_bytes: 1 << 20,
        }
    }
}

/// A read of history that may wait for a disk.
#[derive(Debug)]
struct ColdRead {
    from: Revision,
    newest: Revision,
    events: AbortOnDropHandle<Result<Vec<Event>, CommandError>>,
}

/// One client stream.
pub struct WatchStream {
    hub: Arc<WatchHub>,
    history: Arc<dyn History>,
    header: Arc<dyn HeaderSource>,
    config: WatchConfig,
    listener: Arc<Listener>,
    watchers: Watchers,
    /// Everything before it that a live watch wants is in an answer.
    cursor: Revision,
    ready: VecDeque<WatchResponse>,
    /// A progress request waits until so much is published and told.
    progress_wanted: Option<Revision>,
    /// The hub was asked to wake this stream at that revision.
    awaited: Option<Revision>,
    progress_interval: Duration,
    progress_timer: Option<Pin<Box<Sleep>>>,
    cold_read: Option<ColdRead>,
    slow_reported: usize,
    /// Ids of watches that compaction ended: taken until the client cancels them, as in etcd.
    ended: HashSet<i64>,
    closed: bool,
}

impl WatchStream {
    /// A stream without watches.
    #[must_use]
    pub fn new(
        hub: Arc<WatchHub>,
        history: Arc<dyn History>,
        header: Arc<dyn HeaderSource>,
        config: WatchConfig,
    ) -> Self {
        add(&hub.stats().streams, 1);
        let cursor = hub.published().next();
        let jitter = config.progress_interval.mul_f64(rand::random::<f64>() / 10.0);
        Self {
            hub,
            history,
            header,
            config,
            listener: Arc::default(),
            watchers: Watchers::default(),
            cursor,
            ready: VecDeque::new(),
            progress_wanted: None,
            awaited: None,
            progress_interval: config.progress_interval + jitter,
            progress_timer: None,
            cold_read: None,
            slow_reported: 0,
            ended: HashSet::new(),
            closed: false,
        }
    }

    /// Says whose stream it is. Once.
    pub fn set_client(&mut self, client: ClientId) {
        // A second name would be of another stream, and is not believed.
        let _ = self.listener.client.set(client);
    }

    /// How many watches there are.
    #[must_use]
    pub fn watches(&self) -> usize {
        self.watchers.len()
    }

    /// How many of them read events which are not the newest.
    #[must_use]
    pub fn watchers_catching_up(&self) -> usize {
        self.watchers.catching_up()
    }

    /// Whether further requests may be handed in; otherwise take answers first.
    #[must_use]
    pub fn accepts_requests(&self) -> bool {
        self.ready.len() < MAX_WAITING_ANSWERS
    }

    /// Handles a request; its answers come out of [`WatchStream::next`]. The caller has checked that the
    /// client may read what a create request asks for, see [`WatchStream::deny`].
    pub fn request(&mut self, request: WatchRequest) {
        if self.closed {
            return;
        }
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(&create),
            Some(RequestUnion::CancelRequest(cancel)) => self.cancel(cancel.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => self.want_progress(),
            None => {}
        }
    }

    /// Answers a create request that the client has no right to. `reason` is what goes into
    /// `cancel_reason` (etcd puts its gRPC error's whole text there:
    /// `rpc error: code = PermissionDenied desc = etcdserver: permission denied`).
    pub fn deny(&mut self, create: &WatchCreateRequest, reason: &str) {
        if !self.closed {
            self.refuse(if create.start_revision < 0 { COMPACTED } else { reason });
        }
    }

    /// Ends all watches, each with this reason, and then the stream.
    pub fn cancel_all(&mut self, reason: &str) {
        let ids: Vec<_> = self.watchers.iter().map(|w| w.id).collect();
        for id in ids {
            self.remove(id);
            self.push_canceled(id, reason);
        }
        self.closed = true;
    }

    /// The next answer; `None` after [`WatchStream::cancel_all`]. May be dropped and called again without
    /// loss. Needs a Tokio runtime with a timer.
    pub async fn next(&mut self) -> Option<WatchResponse> {
        loop {
            if let Some(answer) = self.waiting_answer() {
                return Some(answer);
            }
            if self.closed {
                return None;
            }
            let mut more = self.follow();
            more |= self.catch_up();
            self.report_slow();
            self.tell_progress();
            if !self.ready.is_empty() {
                continue;
            }
            if more {
                // Nothing of this portion was wanted; other tasks have a turn before the next one.
                tokio::task::yield_now().await;
            } else {
                self.wait().await;
            }
        }
    }

    /// The next answer, if it is there already.
    pub fn waiting_answer(&mut self) -> Option<WatchResponse> {
        let answer = self.ready.pop_front()?;
        if !answer.events.is_empty() {
            let stats = self.hub.stats();
            add(&stats.pending_events, -(answer.events.len() as i64));
            stats.events.fetch_add(answer.events.len() as u64, Ordering::Relaxed);
        }
        Some(answer)
    }

    /// The newest revision that a client can know of.
    fn current(&self) -> Revision {
        self.hub.published().max(self.history.revision())
    }

    fn create(&mut self, create: &WatchCreateRequest) {
        if create.start_revision < 0 {
            return self.refuse(COMPACTED);
        }
        let range = match WatchRange::from_request(&create.key, &create.range_end) {
            Ok(range) => range,
            Err(empty) => return self.refuse(&empty.to_string()),
        };
        let id = match create.watch_id {
            0 => loop {
                let id = self.watchers.pick_id();
                if !self.ended.contains(&id) {
                    break id;
                }
            },
            id if self.watchers.contains(id) || self.ended.contains(&id) => return self.refuse(DUPLICATE_ID),
            id => id,
        };
        let start = Revision(create.start_revision);
        let compacted = self.history.compact_revision();
        if start.0 > 0 && start < compacted {
            self.push_created(id, self.current());
            self.push_compacted(id, compacted);
            self.ended.insert(id);
            return;
        }
        // First register, then look: what is newer than the look is marked for this stream.
        let (hub_group, registered) = self.hub.register(&self.listener, &range);
        add(&self.hub.stats().watchers, 1);
        let current = registered.max(self.history.revision());
        let catching_up = start.0 > 0 && start <= current;
        let has_filter = |filter: FilterType| create.filters.contains(&filter.into());
        self.watchers.insert(Watcher {
            id,
            range,
            start,
            next: if start.0 == 0 { current.next() } else { start },
            registered,
            hub_group,
            catching_up,
            no_put: has_filter(FilterType::Noput),
            no_delete: has_filter(FilterType::Nodelete),
            prev_kv: create.prev_kv,
            fragment: create.fragment,
            quiet: create.progress_notify.then_some(true),
        });
        if create.progress_notify && self.progress_timer.is_none() {
            self.progress_timer = Some(Box::pin(tokio::time::sleep(self.progress_interval)));
        }
        self.push_created(id, current);
    }

    fn cancel(&mut self, id: i64) {
        if self.remove(id) || self.ended.remove(&id) {
            self.push_canceled(id, "");
        }
    }

    fn remove(&mut self, id: i64) -> bool {
        let Some(watcher) = self.watchers.remove(id) else { return false };
        self.forget(&[watcher]);
        true
    }

    fn forget(&mut self, watchers: &[Watcher]) {
        self.hub.unregister(&self.listener, watchers.iter().map(|w| w.hub_group));
        add(&self.hub.stats().watchers, -(watchers.len() as i64));
        self.report_slow();
    }

    fn push_created(&mut self, id: i64, revision: Revision) {
        self.push(revision, WatchResponse { watch_id: id, created: true, ..WatchResponse::default() });
    }

    fn push_canceled(&mut self, id: i64, reason: &str) {
        let cancel_reason = reason.to_owned();
        self.push(
            self.current(),
            WatchResponse { watch_id: id, canceled: true, cancel_reason, ..WatchResponse::default() },
        );
    }

    fn push_compacted(&mut self, id: i64, compacted: Revision) {
        // etcd leaves the header's revision 0 here, so that it promises nothing.
        self.push(
            Revision(0),
            WatchResponse {
                watch_id: id,
                canceled: true,
                compact_revision: compacted.0,
                ..WatchResponse::default()
            },
        );
    }

    fn refuse(&mut self, reason: &str) {
        self.push(
            self.current(),
            WatchResponse {
                watch_id: NO_WATCH,
                created: true,
                canceled: true,
                cancel_reason: reason.to_owned(),
                ..WatchResponse::default()
            },
        );
    }

    fn push(&mut self, revision: Revision, answer: WatchResponse) {
        self.ready.push_back(WatchResponse { header: Some(self.header.header(revision)), ..answer });
    }

    /// A request counts only while every watch is in step, as in etcd; the client asks again.
    fn want_progress(&mut self) {
        let current = self.current();
        if self.watchers.len() > 0
            && self.watchers.catching_up() == 0
            && self.watchers.iter().all(|w| w.start <= current)
        {
            self.progress_wanted = self.progress_wanted.max(Some(current));
        }
    }

    /// Looks at what was published for live watches. Says whether more is waiting.
    fn follow(&mut self) -> bool {
        let (max_events, max_bytes) = (self.config.max_read_events, self.config.max_read_bytes);
        match self.hub.take(&self.listener, self.cursor, max_events, max_bytes) {
            Taken::Nothing { through } => {
                self.cursor = self.cursor.max(through.next());
                false
            }
            Taken::Lost { from, published } => {
                self.cursor = published.next();
                self.watchers.fall_back(from, self.cursor);
                false
            }
            Taken::Batches { batches, through } => {
                let audience = Audience::Live { cursor: self.cursor };
                self.deliver(batches.iter().flat_map(|b| &b.events), audience, through);
                self.cursor = through.next();
                true
            }
        }
    }

    /// Reads a portion of the past for the watches furthest behind. Says whether that went on.
    fn catch_up(&mut self) -> bool {
        if self.cold_read.is_some() {
            return false;
        }
        let Some(from) = self.watchers.furthest_behind() else { return false };
        let (max_events, max_bytes) = (self.config.max_read_events, self.config.max_read_bytes);
        if let Some((batches, through)) = self.hub.recent(from, max_events, max_bytes)
            && through >= from
        {
            self.deliver(batches.iter().flat_map(|b| &b.events), Audience::CatchingUp { from }, through);
            self.watchers.caught_up(from, through, self.cursor);
            return true;
        }
        let compacted = self.history.compact_revision();
        if from < compacted {
            self.cancel_compacted(compacted);
            return true;
        }
        let newest = self.history.revision();
        if newest < from {
            // Nothing there yet, though it was seen before: the next batch brings it.
            self.await_published(self.hub.published().next());
            return false;
        }
        if self.history.is_cold(from) {
            let history = self.history.clone();
            let read = tokio::task::spawn_blocking(move || history.read(from, max_events, max_bytes));
            self.cold_read = Some(ColdRead { from, newest, events: AbortOnDropHandle::new(read) });
            return false;
        }
        let events = self.history.read(from, max_events, max_bytes);
        self.take_history(from, newest, events);
        true
    }

    fn take_history(&mut self, from: Revision, newest: Revision, read: Result<Vec<Event>, CommandError>) {
        match read {
            Ok(events) => {
                let through = events.last().map_or(newest, |last| last.at.main);
                let events: Vec<_> = events.into_iter().map(SharedEvent::new).collect();
                self.deliver(events.iter(), Audience::CatchingUp { from }, through);
                self.watchers.caught_up(from, through, self.cursor);
            }
            Err(CommandError::Compacted) => {
                self.cancel_compacted(self.history.compact_revision().max(from.next()));
            }
            Err(error) => {
                let ended = self.watchers.remove_catching_up(|_| true);
                self.forget(&ended);
                for watcher in &ended {
                    self.push_canceled(watcher.id, &error.to_string());
                }
            }
        }
    }

    fn cancel_compacted(&mut self, compacted: Revision) {
        let ended = self.watchers.remove_catching_up(|w| w.next < compacted);
        self.forget(&ended);
        for watcher in &ended {
            self.push_compacted(watcher.id, compacted);
            self.ended.insert(watcher.id);
        }
    }

    fn deliver<'a>(
        &mut self,
        events: impl Iterator<Item = &'a SharedEvent>,
        audience: Audience,
        through: Revision,
    ) {
        let sizes = AnswerSizes {
            max_batched_bytes: self.config.max_batched_bytes,
            fragment_bytes: self.config.fragment_bytes,
        };
        let header = |revision| self.header.header(revision);
        let count = self.watchers.deliver(events, audience, through, sizes, &header, &mut self.ready);
        add(&self.hub.stats().pending_events, count as i64);
    }

    /// Tells how far the watches are, behind everything that is ready, if that is asked for or due.
    fn tell_progress(&mut self) {
        let told = Revision(self.cursor.0 - 1);
        if let Some(wanted) = self.progress_wanted {
            let in_step = self.watchers.len() > 0
                && self.watchers.catching_up() == 0
                && self.watchers.iter().all(|w| w.start <= wanted.max(told));
            // A watch that went live further ahead has already told of that revision.
            let needed = self.watchers.iter().map(|w| Revision(w.next.0 - 1)).fold(wanted, Revision::max);
            if !in_step {
                self.progress_wanted = None;
            } else if told >= needed {
                self.progress_wanted = None;
                self.push(told, WatchResponse { watch_id: NO_WATCH, ..WatchResponse::default() });
            } else {
                self.await_published(needed);
            }
        }
        let Some(timer) = &mut self.progress_timer else { return };
        if Instant::now() < timer.deadline() {
            return;
        }
        timer.as_mut().reset(Instant::now() + self.progress_interval);
        let mut due = Vec::new();
        for watcher in self.watchers.iter_mut() {
            let seen_all = !watcher.catching_up && told >= watcher.start && told.next() >= watcher.next;
            if let Some(quiet) = &mut watcher.quiet {
                if *quiet && seen_all {
                    due.push(watcher.id);
                }
                *quiet = true;
            }
        }
        for watch_id in due {
            self.push(told, WatchResponse { watch_id, ..WatchResponse::default() });
        }
    }

    fn await_published(&mut self, revision: Revision) {
        if self.awaited.is_none_or(|awaited| awaited != revision) {
            self.awaited = Some(revision);
            self.hub.stop_waiting(&self.listener);
            self.hub.wake_at(&self.listener, revision);
        }
    }

    fn report_slow(&mut self) {
        let at = self.watchers.furthest_behind().map_or(0, |revision| revision.0);
        self.listener.history_at.store(at, Ordering::Relaxed);
        let slow = self.watchers.catching_up();
        if slow != self.slow_reported {
            add(&self.hub.stats().slow_watchers, slow as i64 - self.slow_reported as i64);
            self.slow_reported = slow;
        }
    }

    /// Until there may be something to do.
    async fn wait(&mut self) {
        let Self { listener, cold_read, progress_timer, .. } = self;
        let read = async {
            match cold_read {
                Some(read) => (&mut read.events).await,
                None => std::future::pending().await,
            }
        };
        let timer = async {
            match progress_timer {
                Some(timer) => timer.as_mut().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = listener.notify.notified() => {}
            () = timer => {}
            events = read => {
                let events = events.unwrap_or_else(|e| Err(CommandError::History(e.to_string())));
                if let Some(ColdRead { from, newest, .. }) = self.cold_read.take() {
                    self.take_history(from, newest, events);
                }
            }
        }
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        self.hub.unregister(&self.listener, self.watchers.iter().map(|w| w.hub_group));
        if self.awaited.is_some() {
            self.hub.stop_waiting(&self.listener);
        }
        let stats = self.hub.stats();
        add(&stats.streams, -1);
        add(&stats.watchers, -(self.watchers.len() as i64));
        add(&stats.slow_watchers, -(self.slow_reported as i64));
        let pending: usize = self.ready.iter().map(|answer| answer.events.len()).sum();
        add(&stats.pending_events, -(pending as i64));
    }
}
