//! What is handed over comes to disk, in order, and nobody waits for ever.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use super::super::{MemoryRecords, Opened, SledOptions, SledRecords};
use super::*;
use crate::snapshot::testing::{state, version};

fn at(main: i64) -> SubRevision {
    SubRevision { main: Revision(main), sub: 0 }
}

fn batch(main: i64) -> RecordBatch {
    RecordBatch { put: vec![version(main, 0, &[1; 100])], remove: vec![], meta: Some(state(main as u64 - 1)) }
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
    let writer = RecordWriter::start(store, WriterOptions::default(), (), no_failure).unwrap();
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
    entered: Sender<&'static str>,
    go: Mutex<Receiver<()>>,
    flushes: Arc<AtomicUsize>,
    fail: Arc<AtomicBool>,
    shrinks: Arc<Mutex<Vec<Shrink>>>,
}

struct Pace {
    inner: Arc<MemoryRecords>,
    entered: Receiver<&'static str>,
    go: Sender<()>,
    flushes: Arc<AtomicUsize>,
    fail: Arc<AtomicBool>,
    shrinks: Arc<Mutex<Vec<Shrink>>>,
}

fn paced() -> (Box<Paced>, Pace) {
    let (entered_tx, entered) = channel();
    let (go, go_rx) = channel();
    let inner = Arc::new(MemoryRecords::default());
    let (flushes, fail) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let shrinks = Arc::<Mutex<Vec<Shrink>>>::default();
    let store = Paced {
        inner: inner.clone(),
        entered: entered_tx,
        go: Mutex::new(go_rx),
        flushes: flushes.clone(),
        fail: fail.clone(),
        shrinks: shrinks.clone(),
    };
    (Box::new(store), Pace { inner, entered, go, flushes, fail, shrinks })
}

impl RecordStore for Paced {
    fn apply(&self, batch: RecordBatch) -> Result<(), RecordsError> {
        self.inner.apply(batch)
    }
    fn flush(&self) -> Result<(), RecordsError> {
        let _ = self.entered.send("flush");
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
    fn shrink(&self) -> Result<Shrink, RecordsError> {
        let _ = self.entered.send("shrink");
        let _ = self.go.lock().recv();
        Ok(self.shrinks.lock().pop().unwrap_or(Shrink::Idle))
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
        RecordWriter::start(Box::new(sled(dir.path()).0), WriterOptions::default(), (), no_failure).unwrap();
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
    let writer = RecordWriter::start(Box::new(store), WriterOptions::default(), (), no_failure).unwrap();
    assert_eq!(writer.persisted().borrow().revision, Revision(500));
    drop(writer);
    assert_eq!(sled(dir.path()).1, Opened::Unclean);
}

#[test]
fn batches_that_wait_become_one() {
    let (store, pace) = paced();
    let options = WriterOptions { flush_interval: Duration::ZERO, ..WriterOptions::default() };
    let writer = RecordWriter::start(store, options, (), no_failure).unwrap();
    writer.hand_over(batch(2));
    pace.entered.recv().unwrap();
    (3..100).for_each(|main| writer.hand_over(batch(main)));
    assert_eq!(writer.persisted().borrow().revision, Revision(0), "nothing is persisted before its flush");
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
    let writer = RecordWriter::start(store, options, (), no_failure).unwrap();
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
    let writer = RecordWriter::start(store, options, (), move |error| {
        assert!(error.to_string().contains("no space"));
        count.fetch_add(1, Ordering::SeqCst);
    });
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
    let writer = RecordWriter::start(store, options, (), no_failure).unwrap();
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

#[test]
fn space_is_given_back_behind_what_was_handed_over_and_holds_no_batch() {
    struct Rewritten(Arc<AtomicUsize>);

    impl RecordsMetrics for Rewritten {
        fn committed(&self, _: Duration) {}
        fn rewritten(&self, _: Duration) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    let (store, pace) = paced();
    let given_up = Shrink::GaveUp { why: "no space".to_owned() };
    let done = Shrink::Done { before_bytes: 2, after_bytes: 1 };
    // From the last to the first.
    *pace.shrinks.lock() = vec![Shrink::Idle, given_up, done, Shrink::More, Shrink::More, Shrink::More];
    let rewritten = Arc::new(AtomicUsize::new(0));
    let options = WriterOptions { flush_interval: Duration::ZERO, ..WriterOptions::default() };
    let writer = RecordWriter::start(store, options, Rewritten(rewritten.clone()), no_failure).unwrap();
    let next = |expected: &str| assert_eq!(pace.entered.recv().unwrap(), expected);
    let go = || pace.go.send(()).unwrap();

    writer.hand_over(batch(2));
    writer.give_space_back();
    next("flush");
    go();
    next("shrink");
    assert_eq!(writer.persisted().borrow().revision, Revision(2));
    writer.hand_over(batch(3));
    go();
    next("flush");
    writer.hand_over(batch(4));
    go();
    // Batches that come all the time do not hold it up either.
    next("shrink");
    assert_eq!(writer.persisted().borrow().revision, Revision(3));
    go();
    next("flush");
    go();
    next("shrink");
    // Nothing waits now.
    go();
    next("shrink");
    assert_eq!(rewritten.load(Ordering::SeqCst), 0);
    go();
    writer.hand_over(batch(5));
    next("flush");
    assert_eq!(rewritten.load(Ordering::SeqCst), 1);
    go();
    writer.drain().unwrap();
    // It is looked at only when somebody asks; that it fails is no failure of the store.
    for _ in 0..2 {
        writer.give_space_back();
        next("shrink");
        go();
    }
    writer.hand_over(batch(6));
    next("flush");
    go();
    writer.close().unwrap();
    assert_eq!(rewritten.load(Ordering::SeqCst), 1);
}
