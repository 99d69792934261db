//! The log with its threads: group commit, failure, space, locks.

use std::sync::atomic::AtomicUsize;

use super::sim_disk::{Fault, SimDisk};
use super::*;

fn config() -> WalConfig {
    let mut config = WalConfig::new("/wal".into(), ClusterId(7), MemberId(1));
    config.segment_bytes = 8 << 10;
    config.cache_bytes = 1 << 10;
    config
}

fn on(disk: &SimDisk, config: &WalConfig) -> (Wal, Recovered) {
    Wal::open_on(Arc::new(disk.clone()), config, &OwnThread, Segments::AheadOfTime).unwrap()
}

fn entry(index: u64, bytes: usize) -> LogEntry {
    LogEntry {
        position: Position { term: 1, index },
        payload: Payload::Batch(vec![index as u8; bytes].into()),
    }
}

fn answer() -> (Completion, oneshot::Receiver<io::Result<()>>) {
    let (sender, receiver) = oneshot::channel();
    (Box::new(|result| drop(sender.send(result))), receiver)
}

async fn append(wal: &Wal, entry: LogEntry) -> io::Result<()> {
    let (done, synced) = answer();
    wal.append(vec![entry], done).await?;
    synced.await.unwrap()
}

#[tokio::test]
async fn what_arrives_during_a_sync_shares_the_next_one() {
    let disk = SimDisk::default();
    let mut config = config();
    config.segment_bytes = 1 << 20;
    let (wal, _) = on(&disk, &config);
    // The next segment is made in the background; its syncs must not be counted here.
    append(&wal, entry(0, 10)).await.unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    disk.hold_syncs();
    let (done, first) = answer();
    wal.append(vec![entry(1, 10)], done).await.unwrap();
    disk.wait_for_held_sync();
    let before = wal.last_durable();
    for index in 2..100 {
        let order = order.clone();
        let done: Completion = Box::new(move |result| order.lock().push((index, result.is_ok())));
        wal.append(vec![entry(index, 10)], done).await.unwrap();
        assert_eq!(wal.read(index..index + 1, 0).await.unwrap(), [entry(index, 10)], "readable at once");
    }
    let (done, last) = answer();
    wal.append(vec![entry(100, 10)], done).await.unwrap();
    assert!(order.lock().is_empty(), "nothing is acknowledged before its sync");
    assert_eq!(wal.last_durable(), before);
    let syncs = disk.syncs();
    disk.release_syncs();
    first.await.unwrap().unwrap();
    last.await.unwrap().unwrap();
    assert!(disk.syncs() - syncs <= 3, "{} syncs for 100 appends", disk.syncs() - syncs);
    assert_eq!(*order.lock(), (2..100).map(|index| (index, true)).collect::<Vec<_>>());
    assert_eq!(wal.last_durable(), Some(Position { term: 1, index: 100 }));
}

#[tokio::test]
async fn a_full_inbox_makes_the_caller_wait() {
    let disk = SimDisk::default();
    let mut config = config();
    config.inbox_bytes = 4 << 10;
    let (wal, _) = on(&disk, &config);
    disk.hold_syncs();
    let (done, _first) = answer();
    wal.append(vec![entry(0, 3000)], done).await.unwrap();
    disk.wait_for_held_sync();
    let (done, _second) = answer();
    let mut waiting = std::pin::pin!(wal.append(vec![entry(1, 3000)], done));
    assert!(futures::poll!(&mut waiting).is_pending());
    disk.release_syncs();
    waiting.await.unwrap();
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_acknowledged_and_a_restart_is_sound() {
    // A write, then its sync.
    for step in [1, 2] {
        let disk = SimDisk::default();
        let mut config = config();
        config.segment_bytes = 1 << 20;
        let (wal, _) = on(&disk, &config);
        append(&wal, entry(0, 10)).await.unwrap();
        // Ends the thread that prepares segments, whose steps would be counted too.
        wal.close().await.unwrap();
        let (journal, index, recovered) =
            open_journal(Arc::new(disk.clone()), &config, &Arc::default(), Segments::InOrder).unwrap();
        let wal = started(journal, index, recovered, &config);
        let mut failed = wal.failed();
        disk.fail_after(step, Fault::Error);
        let error = append(&wal, entry(1, 10)).await.unwrap_err();
        assert!(error.to_string().contains("must stop"), "{error}");
        failed.changed().await.unwrap();
        assert!(failed.borrow().is_some());
        append(&wal, entry(2, 10)).await.unwrap_err();
        wal.save_vote(SavedVote::default()).await.unwrap_err();
        wal.purge(Position { term: 1, index: 0 }).await.unwrap_err();
        wal.truncate_after(None).await.unwrap_err();
        wal.save_committed(Position::default()).unwrap_err();
        wal.vote().unwrap_err();
        wal.close().await.unwrap_err();
        assert_eq!(wal.last_durable(), Some(Position { term: 1, index: 0 }));
        let (_, recovered) = on(&disk.restart(1), &config);
        assert_eq!(recovered.last, Some(Position { term: 1, index: 0 }));
    }
}

/// A log whose housekeeping has no thread.
fn started(journal: Journal, index: LogIndex, recovered: Recovered, config: &WalConfig) -> Wal {
    Wal::start(journal, index, recovered, config, Arc::default(), &OwnThread).unwrap()
}

#[tokio::test]
async fn a_full_disk_stops_the_log_and_space_lets_it_start_again() {
    let disk = SimDisk::default();
    disk.set_capacity(Some(40_000));
    let (wal, _) = on(&disk, &config());
    let mut acknowledged = 0;
    let error = loop {
        match append(&wal, entry(acknowledged, 500)).await {
            Ok(()) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("make space"), "{error}");
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert!(acknowledged > 10);
    wal.close().await.unwrap_err();
    // Still full: the log can be read. With space it goes on.
    let disk = disk.restart(2);
    let (wal, recovered) = on(&disk, &config());
    assert!(recovered.last.unwrap().index >= acknowledged - 1);
    assert_eq!(wal.read(0..1, 0).await.unwrap(), [entry(0, 500)]);
    disk.set_capacity(None);
    let next = recovered.last.unwrap().index + 1;
    for index in next..next + 50 {
        append(&wal, entry(index, 500)).await.unwrap();
    }
}

#[tokio::test]
async fn purging_gives_space_back_and_everything_else_stays_readable() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config();
    config.dir = dir.path().join("wal");
    let (wal, _) = Wal::open(config.clone()).unwrap();
    for index in 0..200 {
        append(&wal, entry(index, 500)).await.unwrap();
    }
    let vote = SavedVote { term: 3, voted_for: 2, committed: true };
    wal.save_vote(vote).await.unwrap();
    assert!(wal.bytes_behind(150) >= 49 * 500 && wal.bytes_behind(150) < 49 * 600);
    let before = wal.size_on_disk();
    assert!(before > 100_000);
    wal.purge(Position { term: 1, index: 180 }).await.unwrap();
    assert!(wal.read(0..181, u64::MAX).await.unwrap().is_empty());
    let expected: Vec<_> = (181..200).map(|index| entry(index, 500)).collect();
    assert_eq!(wal.read(0..u64::MAX, u64::MAX).await.unwrap(), expected);
    wal.save_committed(Position { term: 1, index: 190 }).unwrap();
    wal.close().await.unwrap();
    drop(wal);

    let (wal, recovered) = Wal::open(config.clone()).unwrap();
    assert!(wal.size_on_disk() < before / 3, "{} of {before}", wal.size_on_disk());
    let expected_recovered = Recovered {
        vote: Some(vote),
        purged: Some(Position { term: 1, index: 180 }),
        committed: Some(Position { term: 1, index: 190 }),
        last: Some(Position { term: 1, index: 199 }),
        entries: 19,
        torn_bytes: 0,
    };
    assert_eq!(recovered, expected_recovered);
    assert_eq!(wal.read(0..u64::MAX, u64::MAX).await.unwrap(), expected);

    assert!(matches!(Wal::open(config.clone()), Err(WalError::Locked { .. })));
    wal.close().await.unwrap();
    config.identity.member_id = MemberId(2);
    let error = Wal::open(config).err().unwrap();
    assert!(matches!(error, WalError::Foreign { .. }), "{error}");
    assert!(error.to_string().contains("member 1 of cluster 7"), "{error}");
}

#[tokio::test]
async fn a_committed_position_is_never_written_ahead_of_its_entry() {
    let disk = SimDisk::default();
    let (wal, _) = on(&disk, &config());
    append(&wal, entry(0, 10)).await.unwrap();
    wal.save_committed(Position { term: 1, index: 5 }).unwrap();
    wal.save_vote(SavedVote { term: 2, voted_for: 1, committed: false }).await.unwrap();
    let (_, recovered) = on(&disk.restart(1), &config());
    assert_eq!(recovered.committed, None);
    for index in 1..=5 {
        append(&wal, entry(index, 10)).await.unwrap();
    }
    let (_, recovered) = on(&disk.restart(1), &config());
    assert_eq!(recovered.committed, Some(Position { term: 1, index: 5 }));
}

#[tokio::test]
async fn damage_is_noticed_when_an_entry_is_read_back() {
    let disk = SimDisk::default();
    let (wal, _) = on(&disk, &config());
    for index in 0..20 {
        append(&wal, entry(index, 500)).await.unwrap();
    }
    let first = disk.segment_names()[0].clone();
    disk.corrupt(&first, 4096 + 100, 1);
    let error = wal.read(0..20, u64::MAX).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(error.to_string().contains("log entry 0 is damaged"), "{error}");
}

#[tokio::test]
async fn a_hole_is_refused_and_changes_nothing() {
    let disk = SimDisk::default();
    let (wal, _) = on(&disk, &config());
    append(&wal, entry(5, 10)).await.unwrap();
    assert_eq!(append(&wal, entry(7, 10)).await.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    append(&wal, entry(6, 10)).await.unwrap();
}

#[tokio::test]
async fn a_dropped_log_writes_what_it_was_given() {
    struct Counting(AtomicUsize, AtomicU64);
    impl WalMetrics for Counting {
        fn synced(&self, _took: Duration) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        fn written(&self, bytes: u64, _took: Duration) {
            self.1.fetch_add(bytes, Ordering::Relaxed);
        }
    }
    let disk = SimDisk::default();
    let mut config = config();
    let counting = Arc::new(Counting(AtomicUsize::new(0), AtomicU64::new(0)));
    config.metrics = counting.clone();
    let (wal, _) = on(&disk, &config);
    wal.append(vec![entry(0, 10), entry(1, 10)], Box::new(|_| {})).await.unwrap();
    drop(wal);
    assert_eq!(on(&disk.restart(1), &config).1.entries, 2);
    assert!(counting.0.load(Ordering::Relaxed) >= 1);
    assert!(counting.1.load(Ordering::Relaxed) >= 2 * entry(0, 10).encoded_bytes() as u64);
}

/// A member that was given a snapshot is asked at once how far it is, while its log's writer is busy.
#[tokio::test]
async fn what_a_snapshot_replaced_counts_as_durable_at_once() {
    let disk = SimDisk::default();
    let (wal, _) = on(&disk, &config());
    append(&wal, entry(0, 10)).await.unwrap();
    disk.hold_syncs();
    let (done, synced) = answer();
    wal.append(vec![entry(1, 10)], done).await.unwrap();
    disk.wait_for_held_sync();
    let snapshot = Position { term: 1, index: 50 };
    wal.purge(snapshot).await.unwrap();
    assert_eq!(wal.last_durable(), Some(snapshot));
    disk.release_syncs();
    synced.await.unwrap().unwrap();
    wal.close().await.unwrap();
}
