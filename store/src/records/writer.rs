//! Writing behind: one thread takes batches over from the apply path and brings them to disk.
//!
//! Batches that wait are merged into one, and the thread sleeps through most of them: it is woken for the first
//! and when enough waits. The thread writes it when `flush_interval` has passed since the
//! last flush or `flush_bytes` wait, and waits for the flush, since the engine takes writes faster than it
//! flushes them and would hold them all in memory. Handing over costs the apply path a lock and moving a few
//! pointers; it waits only while more than `limit_bytes` wait, which is a disk slower than the network.
//!
//! When asked to, the same thread has the store give space back, a bounded part after each batch, so that batches wait
//! no longer than for one such part.
//!
//! A failure is told once, and from then on batches are dropped: log and snapshot have everything. What is
//! not on disk according to [`RecordWriter::persisted`] must stay in memory, so history then stays there.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use super::{RecordBatch, RecordStore, RecordsError, Shrink};
use crate::ids::{Revision, SubRevision};
use crate::record::Record;
use crate::stored::{StateMeta, StoredVersion};

/// When to write, and how much may wait.
#[derive(Clone, Copy, Debug)]
pub struct WriterOptions {
    /// Time between two flushes when little is written.
    pub flush_interval: Duration,
    /// So much is flushed without waiting for the time.
    pub flush_bytes: usize,
    /// Handing over waits while more than this waits. The batch being written comes on top, so memory is at
    /// most twice this, plus one batch; the records are shared with the keyspace as long as that has them.
    pub limit_bytes: usize,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self { flush_interval: Duration::from_secs(1), flush_bytes: 4 << 20, limit_bytes: 32 << 20 }
    }
}

/// Up to where disk has everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Persisted {
    /// All versions of this and earlier revisions are on disk, but those that were removed.
    pub revision: Revision,
    /// A restart executes the log from behind this entry on.
    pub applied_term: u64,
    /// Its index.
    pub applied_index: u64,
}

impl From<&StateMeta> for Persisted {
    fn from(meta: &StateMeta) -> Self {
        Self { revision: meta.revision, applied_term: meta.applied_term, applied_index: meta.applied_index }
    }
}

/// The writing thread and its queue. Dropping it writes what waits, without marking the store as closed.
pub struct RecordWriter {
    shared: Arc<Shared>,
    persisted: watch::Receiver<Persisted>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    store: Box<dyn RecordStore>,
    options: WriterOptions,
    queue: Mutex<Queue>,
    /// Something waits to be written, or the thread shall end.
    work: Condvar,
    /// The queue became shorter, or something was written.
    progress: Condvar,
}

#[derive(Default)]
struct Queue {
    /// Everything in the store goes before `batch` comes.
    clear: bool,
    /// Its state is in `meta`.
    batch: Option<RecordBatch>,
    /// The state after `batch`, made only when it is written.
    meta: Option<MetaSource>,
    bytes: usize,
    /// Number of hand-overs; `written` counts those that are on disk or dropped.
    handed_over: u64,
    written: u64,
    /// Somebody waits for the disk: write without waiting for more.
    draining: bool,
    /// Once what waits is written, the store shall look whether it can give space back.
    shrink: bool,
    closing: bool,
    failure: Option<String>,
}

/// Hears on the writing thread how long things took.
pub trait RecordsMetrics: Send + 'static {
    /// A batch is on disk.
    fn committed(&self, took: Duration);
    /// The records were written anew to give space back.
    fn rewritten(&self, took: Duration);
}

/// For whom nothing is worth counting.
impl RecordsMetrics for () {
    fn committed(&self, _: Duration) {}
    fn rewritten(&self, _: Duration) {}
}

/// What the thread does next.
#[derive(Default)]
struct Turn {
    work: Option<Work>,
    /// The store shall look whether it can give space back.
    shrink: bool,
}

/// What waited.
struct Work {
    clear: bool,
    batch: Option<RecordBatch>,
    meta: Option<MetaSource>,
    handed_over: u64,
}

/// Makes the state that belongs to a batch. Called on the writing thread, unless a later batch comes before.
pub type MetaSource = Box<dyn FnOnce() -> StateMeta + Send>;

/// What a record costs in the queue beside its bytes.
const VERSION_BYTES: usize = 64;

impl RecordWriter {
    /// Takes over a store. `on_failure` is called on the writing thread, at most once, when the store fails.
    ///
    /// # Errors
    /// When the store cannot be read or no thread can be started.
    pub fn start(
        store: Box<dyn RecordStore>,
        options: WriterOptions,
        metrics: impl RecordsMetrics,
        on_failure: impl FnOnce(&RecordsError) + Send + 'static,
    ) -> Result<Self, String> {
        let now = store.meta().map_err(|e| e.to_string())?.as_ref().map(Persisted::from).unwrap_or_default();
        let (persisted, receiver) = watch::channel(now);
        let shared = Arc::new(Shared {
            store,
            options,
            queue: Mutex::default(),
            work: Condvar::new(),
            progress: Condvar::new(),
        });
        let thread = thread::Builder::new().name("records".to_owned());
        let for_thread = shared.clone();
        let thread = thread.spawn(move || {
            if let Err(error) = for_thread.write_until_closed(&persisted, &metrics) {
                for_thread.give_up(&error);
                on_failure(&error);
            }
        });
        let thread = thread.map_err(|e| format!("cannot start the thread that writes records: {e}"))?;
        Ok(Self { shared, persisted: receiver, thread: Mutex::new(Some(thread)) })
    }

    /// Takes a batch; it will be on disk later. Waits while too much waits, see [`WriterOptions::limit_bytes`].
    /// After a failure it does nothing.
    pub fn hand_over(&self, mut batch: RecordBatch) {
        let meta = batch.meta.take().map(|meta| Box::new(|| meta) as MetaSource);
        self.hand_over_with(batch, meta);
    }

    /// As [`RecordWriter::hand_over`], for a state that is not worth making for each of many batches; takes the
    /// place of `batch.meta`.
    pub fn hand_over_with(&self, batch: RecordBatch, meta: Option<MetaSource>) {
        let mut queue = self.shared.queue.lock();
        while queue.bytes > self.shared.options.limit_bytes && queue.takes_batches() {
            self.shared.progress.wait(&mut queue);
        }
        if queue.takes_batches() {
            let enough = |bytes| bytes >= self.shared.options.flush_bytes;
            let enough_before = enough(queue.bytes);
            queue.bytes += cost(&batch);
            queue.handed_over += 1;
            // Dropped after the lock is released: it may be the last to hold on to a state.
            let replaced = std::mem::replace(&mut queue.meta, meta);
            let news = queue.batch.is_none() || (!enough_before && enough(queue.bytes));
            match &mut queue.batch {
                Some(waiting) => waiting.merge(batch),
                None => queue.batch = Some(batch),
            }
            drop(queue);
            drop(replaced);
            if news {
                self.shared.work.notify_one();
            }
        }
    }

    /// Removes everything, also what waits; batches that are handed over afterwards fill the store anew. For
    /// a snapshot that replaces the keyspace. [`RecordWriter::persisted`] falls back to nothing.
    pub fn clear(&self) {
        let mut queue = self.shared.queue.lock();
        if queue.takes_batches() {
            queue.batch = None;
            queue.meta = None;
            queue.bytes = 0;
            queue.clear = true;
            queue.handed_over += 1;
            self.shared.work.notify_one();
            self.shared.progress.notify_all();
        }
    }

    /// Has the store give space back to the file system, if that is worth it, once everything that was handed over is
    /// written. Does not wait for it.
    pub fn give_space_back(&self) {
        let mut queue = self.shared.queue.lock();
        if queue.takes_batches() {
            queue.shrink = true;
            self.shared.work.notify_one();
        }
    }

    /// Has everything written that was handed over, now, and returns when it is on disk.
    ///
    /// # Errors
    /// The store's failure.
    pub fn drain(&self) -> Result<(), String> {
        let mut queue = self.shared.queue.lock();
        let upto = queue.handed_over;
        loop {
            if let Some(failure) = &queue.failure {
                return Err(failure.clone());
            }
            if queue.written >= upto {
                return Ok(());
            }
            queue.draining = true;
            self.shared.work.notify_one();
            self.shared.progress.wait(&mut queue);
        }
    }

    /// Up to where disk has everything, with changes. Sent after the flush.
    #[must_use]
    pub fn persisted(&self) -> watch::Receiver<Persisted> {
        self.persisted.clone()
    }

    /// Why the store failed, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.shared.queue.lock().failure.clone()
    }

    /// Versions from `from` on, in order, at most `limit`. Sees what is persisted, and may miss what was
    /// handed over and is not: enough for history, which leaves memory only once it is persisted. Blocks the
    /// thread; milliseconds when it reads from disk.
    ///
    /// # Errors
    /// When the store is damaged or failed.
    pub fn scan(&self, from: SubRevision, limit: usize) -> Result<Vec<StoredVersion>, String> {
        let mut found = vec![];
        if limit > 0 {
            let visit = &mut |version| {
                found.push(version);
                if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            };
            self.shared.store.scan(from, visit).map_err(|e| e.to_string())?;
        }
        Ok(found)
    }

    /// One version; sees what [`RecordWriter::scan`] sees.
    ///
    /// # Errors
    /// When the store is damaged or failed.
    pub fn get(&self, at: SubRevision) -> Result<Option<Record>, String> {
        let found = self.shared.store.get(at).map_err(|e| e.to_string())?;
        Ok(found.map(|version| version.record))
    }

    /// Bytes on disk.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn size_on_disk(&self) -> Result<u64, String> {
        self.shared.store.size_on_disk().map_err(|e| e.to_string())
    }

    /// Writes what waits, ends the thread and closes the store, so that the next start need not check it.
    ///
    /// # Errors
    /// When the store fails or had failed.
    pub fn close(&self) -> Result<(), String> {
        self.end_thread();
        match self.failure() {
            Some(failure) => Err(failure),
            None => self.shared.store.close().map_err(|e| e.to_string()),
        }
    }

    fn end_thread(&self) {
        self.shared.queue.lock().closing = true;
        self.shared.work.notify_one();
        self.shared.progress.notify_all();
        // What waits to be written holds a picture of the state, and that holds on to this: the thread itself may be the
        // last to let go. It ends then when it looks for more work.
        if let Some(thread) = self.thread.lock().take()
            && thread.thread().id() != thread::current().id()
        {
            // A panic of `on_failure` is the only thing it could tell.
            let _ = thread.join();
        }
    }
}

impl Drop for RecordWriter {
    fn drop(&mut self) {
        self.end_thread();
    }
}

impl Queue {
    fn takes_batches(&self) -> bool {
        !self.closing && self.failure.is_none()
    }

    fn has_work(&self) -> bool {
        self.clear || self.batch.is_some()
    }

    fn take(&mut self) -> Work {
        self.draining = false;
        self.bytes = 0;
        Work {
            clear: std::mem::take(&mut self.clear),
            batch: self.batch.take(),
            meta: self.meta.take(),
            handed_over: self.handed_over,
        }
    }
}

impl Shared {
    fn write_until_closed(
        &self,
        persisted: &watch::Sender<Persisted>,
        metrics: &impl RecordsMetrics,
    ) -> Result<(), RecordsError> {
        let mut last_flush = Instant::now();
        // Since when space is being given back.
        let mut shrinking = None;
        while let Some(turn) = self.next_turn(last_flush, shrinking.is_some()) {
            if let Some(work) = turn.work {
                self.progress.notify_all();
                self.write(work, persisted, metrics)?;
                last_flush = Instant::now();
            }
            if turn.shrink {
                shrinking.get_or_insert_with(Instant::now);
            }
            if let Some(began) = shrinking {
                match self.store.shrink()? {
                    Shrink::More => continue,
                    Shrink::Idle => {}
                    Shrink::Done { before_bytes, after_bytes } => {
                        let took = began.elapsed();
                        metrics.rewritten(took);
                        let took_ms = took.as_millis() as u64;
                        tracing::info!(before_bytes, after_bytes, took_ms, "the records gave space back");
                    }
                    Shrink::GaveUp { why } => {
                        tracing::warn!(
                            error = why,
                            "the records could not be written anew; they stay as they are"
                        );
                    }
                }
                shrinking = None;
            }
        }
        Ok(())
    }

    /// Waits until there is something to do; `None` when the thread shall end.
    fn next_turn(&self, last_flush: Instant, shrinking: bool) -> Option<Turn> {
        let due = last_flush + self.options.flush_interval;
        let mut queue = self.queue.lock();
        loop {
            let has_work = queue.has_work();
            let at_once = queue.closing || queue.draining || queue.clear;
            if has_work && (at_once || queue.bytes >= self.options.flush_bytes || Instant::now() >= due) {
                let work = Some(queue.take());
                return Some(Turn { work, shrink: std::mem::take(&mut queue.shrink) });
            }
            if queue.closing {
                return None;
            }
            if shrinking {
                return Some(Turn::default());
            }
            if has_work {
                // Whether it timed out is seen above.
                let _ = self.work.wait_until(&mut queue, due);
            } else if std::mem::take(&mut queue.shrink) {
                return Some(Turn { work: None, shrink: true });
            } else {
                self.work.wait(&mut queue);
            }
        }
    }

    fn write(
        &self,
        work: Work,
        persisted: &watch::Sender<Persisted>,
        metrics: &impl RecordsMetrics,
    ) -> Result<(), RecordsError> {
        if work.clear {
            persisted.send_replace(Persisted::default());
            self.store.clear()?;
        }
        if let Some(mut batch) = work.batch {
            batch.meta = work.meta.map(|make| make());
            let now = batch.meta.as_ref().map(Persisted::from);
            let began = Instant::now();
            self.store.apply(batch)?;
            self.store.flush()?;
            metrics.committed(began.elapsed());
            if let Some(now) = now {
                persisted.send_replace(now);
            }
        }
        self.queue.lock().written = work.handed_over;
        self.progress.notify_all();
        Ok(())
    }

    fn give_up(&self, error: &RecordsError) {
        let mut queue = self.queue.lock();
        queue.failure = Some(error.to_string());
        queue.batch = None;
        queue.meta = None;
        queue.bytes = 0;
        self.progress.notify_all();
    }
}

fn cost(batch: &RecordBatch) -> usize {
    let put: usize = batch.put.iter().map(|v| v.record.encoded().len() + VERSION_BYTES).sum();
    put + batch.remove.len() * size_of::<SubRevision>()
}

#[cfg(test)]
mod tests;
