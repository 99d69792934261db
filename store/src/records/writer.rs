//! Writing behind: one thread takes batches over from the apply path and brings them to disk.
//!
//! Batches that wait are merged into one, and the thread sleeps through most of them: it is woken for the first
//! and when enough waits. The thread writes it when `flush_interval` has passed since the
//! last flush or `flush_bytes` wait, and waits for the flush, since the engine takes writes faster than it
//! flushes them and would hold them all in memory. Handing over costs the apply path a lock and moving a few
//! pointers; it waits only while more than `limit_bytes` wait, which is a disk slower than the network.
//!
//! A failure is told once, and from then on batches are dropped: log and snapshot have everything. What is
//! not on disk according to [`RecordWriter::persisted`] must stay in memory, so history then stays there.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::watch;

use super::{RecordBatch, RecordStore, RecordsError};
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
        Self { flush_interval: Duration::from_millis(100), flush_bytes: 4 << 20, limit_bytes: 32 << 20 }
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
    closing: bool,
    failure: Option<String>,
}

/// Makes the state that belongs to a batch. Called on the writing thread, unless a later batch comes before.
pub type MetaSource = Box<dyn FnOnce() -> StateMeta + Send>;

/// What a record costs in the queue beside its bytes.
const VERSION_BYTES: usize = 64;

impl RecordWriter {
    /// Takes over a store. `committed` is called on the writing thread with the time that each batch took to
    /// be on disk, and `on_failure` is called on the writing thread, at most once, when the store fails.
    ///
    /// # Errors
    /// When the store cannot be read or no thread can be started.
    pub fn start(
        store: Box<dyn RecordStore>,
        options: WriterOptions,
        committed: impl Fn(Duration) + Send + 'static,
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
            if let Err(error) = for_thread.write_until_closed(&persisted, &committed) {
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
}

impl Shared {
    fn write_until_closed(
        &self,
        persisted: &watch::Sender<Persisted>,
        committed: &impl Fn(Duration),
    ) -> Result<(), RecordsError> {
        let mut last_flush = Instant::now();
        loop {
            let mut queue = self.queue.lock();
            while !queue.clear && queue.batch.is_none() {
                if queue.closing {
                    return Ok(());
                }
                self.work.wait(&mut queue);
            }
            self.wait_until_due(&mut queue, last_flush + self.options.flush_interval);
            let clear = std::mem::take(&mut queue.clear);
            let batch = queue.batch.take();
            let meta = queue.meta.take();
            queue.draining = false;
            let taken = queue.handed_over;
            queue.bytes = 0;
            drop(queue);
            self.progress.notify_all();

            if clear {
                persisted.send_replace(Persisted::default());
                self.store.clear()?;
            }
            if let Some(mut batch) = batch {
                batch.meta = meta.map(|make| make());
                let now = batch.meta.as_ref().map(Persisted::from);
                let began = Instant::now();
                self.store.apply(batch)?;
                self.store.flush()?;
                committed(began.elapsed());
                if let Some(now) = now {
                    persisted.send_replace(now);
                }
            }
            last_flush = Instant::now();
            self.queue.lock().written = taken;
            self.progress.notify_all();
        }
    }

    fn wait_until_due(&self, queue: &mut MutexGuard<'_, Queue>, due: Instant) {
        let at_once = |queue: &Queue| queue.closing || queue.draining || queue.clear;
        while !at_once(queue) && queue.bytes < self.options.flush_bytes {
            if self.work.wait_until(queue, due).timed_out() {
                return;
            }
        }
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
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::super::{MemoryRecords, Opened, SledOptions, SledRecords};
    use super::*;
    use crate::snapshot::testing::{state, version};

    fn at(main: i64) -> SubRevision {
        SubRevision { main: Revision(main), sub: 0 }
    }

    fn batch(main: i64) -> RecordBatch {
        RecordBatch {
            put: vec![version(main, 0, &[1; 100])],
            remove: vec![],
            meta: Some(state(main as u64 - 1)),
        }
    }

    fn sled(dir: &std::path::Path) -> (SledRecords, Opened) {
        SledRecords::open(dir, SledOptions::default(), &mut |_| {}).unwrap()
    }

    fn no_failure(error: &RecordsError) {
        panic!("{error}");
    }

    /// A picture holds on to the writer, and what waits to be written holds a picture.
    #[test]
    fn the_last_to_let_go_may_be_the_thread_that_writes() {
        let store = Box::new(MemoryRecords::default());
        let writer = RecordWriter::start(store, WriterOptions::default(), |_| (), no_failure).unwrap();
        let writer = Arc::new(writer);
        let held = Arc::clone(&writer);
        let (go, gone) = channel::<()>();
        let (told, hear) = channel();
        let meta = move || {
            gone.recv().unwrap();
            drop(held);
            told.send(()).unwrap();
            state(1)
        };
        writer.hand_over_with(batch(2), Some(Box::new(meta)));
        drop(writer);
        go.send(()).unwrap();
        hear.recv().unwrap();
    }

    /// A store whose flushes wait for the test and can fail.
    struct Paced {
        inner: Arc<MemoryRecords>,
        entered: Sender<()>,
        go: Mutex<Receiver<()>>,
        flushes: Arc<AtomicUsize>,
        fail: Arc<AtomicBool>,
    }

    struct Pace {
        inner: Arc<MemoryRecords>,
        entered: Receiver<()>,
        go: Sender<()>,
        flushes: Arc<AtomicUsize>,
        fail: Arc<AtomicBool>,
    }

    fn paced() -> (Box<Paced>, Pace) {
        let (entered_tx, entered) = channel();
        let (go, go_rx) = channel();
        let inner = Arc::new(MemoryRecords::default());
        let (flushes, fail) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let store = Paced {
            inner: inner.clone(),
            entered: entered_tx,
            go: Mutex::new(go_rx),
            flushes: flushes.clone(),
            fail: fail.clone(),
        };
        (Box::new(store), Pace { inner, entered, go, flushes, fail })
    }

    impl RecordStore for Paced {
        fn apply(&self, batch: RecordBatch) -> Result<(), RecordsError> {
            self.inner.apply(batch)
        }
        fn flush(&self) -> Result<(), RecordsError> {
            let _ = self.entered.send(());
            let _ = self.go.lock().recv();
            self.flushes.fetch_add(1, Ordering::SeqCst);
            if self.fail.load(Ordering::SeqCst) {
                return Err(RecordsError::Failed { dir: "x".to_owned(), what: "no space".to_owned() });
            }
            self.inner.flush()
        }
        fn load(&self, visit: &mut dyn FnMut(StoredVersion)) -> Result<(), RecordsError> {
            self.inner.load(visit)
        }
        fn scan(
            &self,
            from: SubRevision,
            visit: &mut dyn FnMut(StoredVersion) -> ControlFlow<()>,
        ) -> Result<(), RecordsError> {
            self.inner.scan(from, visit)
        }
        fn get(&self, at: SubRevision) -> Result<Option<StoredVersion>, RecordsError> {
            self.inner.get(at)
        }
        fn meta(&self) -> Result<Option<StateMeta>, RecordsError> {
            self.inner.meta()
        }
        fn clear(&self) -> Result<(), RecordsError> {
            self.inner.clear()
        }
        fn size_on_disk(&self) -> Result<u64, RecordsError> {
            self.inner.size_on_disk()
        }
        fn close(&self) -> Result<(), RecordsError> {
            self.inner.close()
        }
    }

    #[test]
    fn what_was_handed_over_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let writer =
            RecordWriter::start(Box::new(sled(dir.path()).0), WriterOptions::default(), |_| {}, no_failure)
                .unwrap();
        (2..500).for_each(|main| writer.hand_over(batch(main)));
        writer.drain().unwrap();
        let expected = Persisted { revision: Revision(499), applied_term: 7, applied_index: 498 };
        assert_eq!(*writer.persisted().borrow(), expected);
        assert_eq!(writer.get(at(17)).unwrap(), Some(version(17, 0, &[1; 100]).record));
        let some: Vec<_> = writer.scan(at(490), 3).unwrap().into_iter().map(|v| v.at).collect();
        assert_eq!(some, [at(490), at(491), at(492)]);
        assert!(writer.scan(at(490), 0).unwrap().is_empty());
        assert!(writer.size_on_disk().unwrap() > 0);
        // Without a drain: closing writes what waits.
        writer.hand_over(batch(500));
        writer.close().unwrap();
        drop(writer);
        let (store, opened) = sled(dir.path());
        assert_eq!(opened, Opened::Clean);
        assert_eq!(store.meta().unwrap(), Some(state(499)));
        let writer =
            RecordWriter::start(Box::new(store), WriterOptions::default(), |_| {}, no_failure).unwrap();
        assert_eq!(writer.persisted().borrow().revision, Revision(500));
        drop(writer);
        assert_eq!(sled(dir.path()).1, Opened::Unclean);
    }

    #[test]
    fn batches_that_wait_become_one() {
        let (store, pace) = paced();
        let options = WriterOptions { flush_interval: Duration::ZERO, ..WriterOptions::default() };
        let writer = RecordWriter::start(store, options, |_| {}, no_failure).unwrap();
        writer.hand_over(batch(2));
        pace.entered.recv().unwrap();
        (3..100).for_each(|main| writer.hand_over(batch(main)));
        assert_eq!(
            writer.persisted().borrow().revision,
            Revision(0),
            "nothing is persisted before its flush"
        );
        pace.go.send(()).unwrap();
        pace.entered.recv().unwrap();
        assert_eq!(writer.persisted().borrow().revision, Revision(2));
        pace.go.send(()).unwrap();
        writer.drain().unwrap();
        assert_eq!(writer.persisted().borrow().revision, Revision(99));
        assert_eq!(pace.flushes.load(Ordering::SeqCst), 2);
        assert_eq!(writer.scan(at(0), 1000).unwrap().len(), 98);
        drop(pace.go);
    }

    #[test]
    fn a_full_queue_holds_the_caller_until_the_disk_has_caught_up() {
        let (store, pace) = paced();
        let options = WriterOptions {
            flush_interval: Duration::ZERO,
            flush_bytes: 1,
            limit_bytes: 10 * (100 + VERSION_BYTES),
        };
        let writer = RecordWriter::start(store, options, |_| {}, no_failure).unwrap();
        let handed_over = AtomicUsize::new(0);
        thread::scope(|scope| {
            let (writer, handed_over) = (&writer, &handed_over);
            writer.hand_over(batch(2));
            pace.entered.recv().unwrap();
            scope.spawn(move || {
                for main in 3..100 {
                    writer.hand_over(batch(main));
                    handed_over.fetch_add(1, Ordering::SeqCst);
                }
            });
            let mut largest = 0;
            loop {
                // While the flush waits, the caller gets no further than the limit.
                let before = pace.flushes.load(Ordering::SeqCst);
                assert!(writer.shared.queue.lock().bytes <= options.limit_bytes + 300);
                pace.go.send(()).unwrap();
                pace.entered.recv().unwrap();
                let records = writer.scan(at(0), 1000).unwrap().len();
                largest = largest.max(records);
                assert_eq!(pace.flushes.load(Ordering::SeqCst), before + 1);
                if records == 98 {
                    break;
                }
            }
            pace.go.send(()).unwrap();
            assert_eq!(largest, 98);
        });
        writer.drain().unwrap();
        assert!(pace.flushes.load(Ordering::SeqCst) >= 8, "the queue never held more than its limit");
        drop(pace.go);
    }

    #[test]
    fn a_failure_is_told_once_and_holds_nobody() {
        let (store, pace) = paced();
        let told = Arc::new(AtomicUsize::new(0));
        let count = told.clone();
        let options = WriterOptions { flush_interval: Duration::ZERO, flush_bytes: 1, limit_bytes: 1 };
        let writer = RecordWriter::start(
            store,
            options,
            |_| {},
            move |error| {
                assert!(error.to_string().contains("no space"));
                count.fetch_add(1, Ordering::SeqCst);
            },
        );
        let writer = writer.unwrap();
        pace.fail.store(true, Ordering::SeqCst);
        writer.hand_over(batch(2));
        pace.go.send(()).unwrap();
        assert!(writer.drain().unwrap_err().contains("no space"));
        (3..50).for_each(|main| writer.hand_over(batch(main)));
        assert_eq!(writer.persisted().borrow().revision, Revision(0));
        assert!(writer.failure().is_some() && writer.close().is_err());
        assert_eq!(told.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn clear_drops_what_waits_and_what_was_written() {
        let (store, pace) = paced();
        drop(pace.go);
        let options = WriterOptions { flush_interval: Duration::from_secs(3600), ..WriterOptions::default() };
        let writer = RecordWriter::start(store, options, |_| {}, no_failure).unwrap();
        (2..10).for_each(|main| writer.hand_over(batch(main)));
        writer.clear();
        writer.hand_over(RecordBatch { meta: None, ..batch(20) });
        writer.drain().unwrap();
        assert_eq!(*writer.persisted().borrow(), Persisted::default());
        writer.hand_over(batch(21));
        writer.close().unwrap();
        assert_eq!(writer.persisted().borrow().revision, Revision(21));
        drop(pace.inner);
    }
}
