//! The consensus library's own suite for log storages, on the write-ahead log.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use openraft::entry::RaftEntry;
use openraft::storage::{EntryResponder, RaftLogStorageExt, RaftSnapshotBuilder, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf};
use parking_lot::Mutex;
use tempfile::TempDir;

use super::*;
use crate::ids::{ClusterId, MemberId};
use crate::raft::types::StoredMembership;
use crate::wal::WalConfig;

#[derive(Clone, Default)]
struct Memory {
    applied: Option<LogId>,
    membership: StoredMembership,
    snapshot: Option<SnapshotMetaOf<TypeConfig>>,
}

/// The least state machine that the suite needs: it remembers positions and memberships.
#[derive(Clone, Default)]
struct MemoryMachine(Arc<Mutex<Memory>>);

impl RaftSnapshotBuilder<TypeConfig> for MemoryMachine {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<TypeConfig, ()>, io::Error> {
        let mut memory = self.0.lock();
        let meta = SnapshotMetaOf::<TypeConfig> {
            last_log_id: memory.applied,
            last_membership: memory.membership.clone(),
        };
        memory.snapshot = Some(meta.clone());
        Ok(SnapshotOf::<TypeConfig, ()> { meta, snapshot: () })
    }
}

impl RaftStateMachine<TypeConfig> for MemoryMachine {
    type SnapshotData = ();
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let memory = self.0.lock();
        Ok((memory.applied, memory.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let mut memory = self.0.lock();
            memory.applied = Some(entry.log_id);
            if let EntryPayload::Membership(membership) = entry.payload {
                memory.membership = StoredMembership::new(Some(entry.log_id), membership);
            }
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMetaOf<TypeConfig>, (): ()) -> Result<(), io::Error> {
        let mut memory = self.0.lock();
        memory.applied = meta.last_log_id;
        memory.membership = meta.last_membership.clone();
        memory.snapshot = Some(meta.clone());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<TypeConfig, ()>>, io::Error> {
        let meta = self.0.lock().snapshot.clone();
        Ok(meta.map(|meta| SnapshotOf::<TypeConfig, ()> { meta, snapshot: () }))
    }
}

struct Builder {
    cache_bytes: u64,
    segment_bytes: u32,
}

fn open(dir: &TempDir, builder: &Builder) -> LogStore {
    let mut config = WalConfig::new(dir.path().join("wal"), ClusterId(1), MemberId(0));
    config.cache_bytes = builder.cache_bytes;
    config.segment_bytes = builder.segment_bytes;
    LogStore::new(Wal::open(config).unwrap().0)
}

impl StoreBuilder<TypeConfig, LogStore, MemoryMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, MemoryMachine), openraft::StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir, self);
        Ok((dir, store, MemoryMachine::default()))
    }
}

#[tokio::test]
async fn openrafts_suite_passes_with_entries_from_memory() {
    Suite::test_all(Builder { cache_bytes: 1 << 20, segment_bytes: 64 << 10 }).await.unwrap();
}

#[tokio::test]
async fn openrafts_suite_passes_with_entries_from_disk() {
    Suite::test_all(Builder { cache_bytes: 0, segment_bytes: 8 << 10 }).await.unwrap();
}

fn batch(term: u64, index: u64, bytes: usize) -> Entry {
    Entry { log_id: log_id(term, index), payload: EntryPayload::Normal(Batch(vec![7; bytes].into())) }
}

const SMALL: Builder = Builder { cache_bytes: 0, segment_bytes: 64 << 10 };

#[tokio::test]
async fn a_reopened_log_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(&dir, &SMALL);
    let nodes = [(
        3,
        crate::raft::types::PeerNode { peer_urls: vec!["https://a:2380".into()], ..Default::default() },
    )];
    let membership = Membership::new(vec![[3].into()], std::collections::BTreeMap::from(nodes)).unwrap();
    let entries = [
        Entry::new_membership(log_id(1, 0), membership),
        Entry::new_blank(log_id(1, 1)),
        batch(1, 2, 100_000),
        batch(2, 3, 0),
    ];
    store.save_vote(&Vote::new_committed(2, 3)).await.unwrap();
    store.blocking_append(entries.clone()).await.unwrap();
    store.save_committed(Some(log_id(1, 2))).await.unwrap();
    store.wal().close().await.unwrap();
    assert!(store.append([batch(2, 4, 1)], IOFlushed::noop()).await.is_err(), "it is closed");

    let mut store = open(&dir, &SMALL);
    assert_eq!(store.try_get_log_entries(..).await.unwrap(), entries);
    assert_eq!(store.read_vote().await.unwrap(), Some(Vote::new_committed(2, 3)));
    assert_eq!(store.read_committed().await.unwrap(), Some(log_id(1, 2)));
    assert_eq!(store.last_durable_log_id(), Some(log_id(2, 3)));
}

#[tokio::test]
async fn a_replication_read_is_limited_in_bytes_and_never_empty() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(&dir, &SMALL);
    let large = READ_LIMIT_BYTES as usize + 1;
    store
        .blocking_append([batch(1, 0, large), batch(1, 1, large / 2), batch(1, 2, 10), batch(1, 3, large)])
        .await
        .unwrap();
    let mut read = async |start| store.limited_get_log_entries(start, 4).await.unwrap().len();
    assert_eq!((read(0).await, read(1).await, read(3).await), (1, 2, 1));
    let all: Vec<_> = store.entries_stream(0..4).await.try_collect().await.unwrap();
    assert_eq!(all.len(), 4, "a stream goes on behind the limit");
}

/// What comes first is taken for what follows the entry before `start`.
#[tokio::test]
async fn a_replication_is_not_given_later_entries_in_the_place_of_purged_ones() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(&dir, &SMALL);
    store.blocking_append((0..6).map(|index| batch(1, index, 10))).await.unwrap();
    store.purge(log_id(1, 3)).await.unwrap();
    assert!(store.limited_get_log_entries(2, 6).await.unwrap().is_empty());
    assert!(store.limited_get_log_entries(3, 6).await.unwrap().is_empty());
    assert_eq!(store.limited_get_log_entries(4, 6).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_leaders_stream_ends_when_the_vote_changes() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(&dir, &SMALL);
    let vote = Vote::new_committed(1, 3);
    store.save_vote(&vote).await.unwrap();
    store.blocking_append((0..3).map(|index| batch(1, index, 10))).await.unwrap();
    let mut reader = store.get_log_reader().await;
    let mut stream = reader.leader_bounded_stream(*vote.leader_id(), 0..3).await;
    assert_eq!(stream.next().await.unwrap().unwrap().log_id, log_id(1, 0));
    store.save_vote(&Vote::new(2, 4)).await.unwrap();
    let changed = stream.next().await.unwrap().unwrap_err();
    assert!(matches!(changed, LeaderBoundedStreamError::LeaderChanged(_)));
    assert!(stream.next().await.is_none());
}
