//! The snapshots of this member: which is the newest, how long an older one is of use, and which part of the log
//! must stay for members that are being sent one. Never removes the newest file, nor one while its head is read.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use openraft::storage::{Snapshot as RaftSnapshot, SnapshotMeta};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::codec;
use super::types::{TypeConfig, log_id};
use crate::ids::{ClusterId, MemberId, Revision};
use crate::snapshot::{self, Manifest, SnapshotError, SnapshotFile, SnapshotReader};
use crate::state::published::Picture;

/// A snapshot as openraft handles it.
pub type Snapshot = openraft::type_config::alias::SnapshotOf<TypeConfig, OpenSnapshot>;

/// How long the log behind a snapshot stays after it was sent, for the member to catch up from there (etcd: 30 s).
const CATCH_UP: Duration = Duration::from_secs(30);

/// A snapshot file that is held open: it can be sent to its end though a newer one has taken its place.
#[derive(Clone, Debug)]
pub struct OpenSnapshot {
    /// Which.
    pub file: SnapshotFile,
    /// Its content.
    pub open: Arc<File>,
}

/// A snapshot file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DescribeError {
    /// It is damaged.
    #[error(transparent)]
    File(#[from] SnapshotError),
    /// It cannot be opened.
    #[error("the snapshot {path} cannot be opened: {source}")]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Its membership cannot be read.
    #[error(transparent)]
    Membership(#[from] codec::CodecError),
}

impl OpenSnapshot {
    /// Opens it.
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    pub fn open(file: SnapshotFile) -> Result<Self, DescribeError> {
        let open = File::open(&file.path)
            .map_err(|source| DescribeError::Open { path: file.path.clone(), source })?;
        Ok(Self { file, open: Arc::new(open) })
    }

    /// With what openraft wants to know of it, read from its head.
    ///
    /// # Errors
    /// When its manifest cannot be read.
    pub fn described(self) -> Result<Snapshot, DescribeError> {
        let reader = SnapshotReader::open(&self.file.path)?;
        let state = &reader.manifest().state;
        let last_membership = codec::decode_stored_membership(&state.membership)?;
        let last_log_id = (state.applied_index > 0 || state.applied_term > 0)
            .then(|| log_id(state.applied_term, state.applied_index));
        Ok(RaftSnapshot { meta: SnapshotMeta { last_log_id, last_membership }, snapshot: self })
    }
}

/// The snapshots of this member on disk.
#[derive(Debug)]
pub struct Snapshots {
    /// Where they are.
    pub dir: PathBuf,
    /// Written into manifests.
    pub cluster: ClusterId,
    /// Written into manifests.
    pub member: MemberId,
    current: Mutex<Option<SnapshotFile>>,
    pins: Mutex<Pins>,
}

impl Snapshots {
    /// `current` is the newest verified one.
    #[must_use]
    pub fn new(dir: PathBuf, cluster: ClusterId, member: MemberId, current: Option<SnapshotFile>) -> Self {
        Self { dir, cluster, member, current: Mutex::new(current), pins: Mutex::default() }
    }

    /// The newest verified one.
    #[must_use]
    pub fn current(&self) -> Option<SnapshotFile> {
        self.current.lock().clone()
    }

    /// What a snapshot of `picture` says about itself, or an increment that begins after a revision.
    #[must_use]
    pub fn manifest(&self, picture: &Picture, since: Option<Revision>) -> Manifest {
        let since_1970 =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Manifest {
            cluster: self.cluster,
            member: self.member,
            written_at_ms: u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX),
            state: picture.meta(),
            since,
        }
    }

    /// Makes `file` the newest, unless a newer one came while it was written, and removes older ones; what cannot
    /// be removed is left for the next time.
    pub(super) fn replace(&self, file: SnapshotFile) {
        // The lock is held until the old file is gone: who reads the current one holds it too.
        let mut current = self.current.lock();
        if current.as_ref().is_none_or(|newest| newest.applied_index <= file.applied_index) {
            *current = Some(file);
        }
        let Some(newest) = &*current else { return };
        if let Err(error) = snapshot::directory::remove_older(&self.dir, &newest.path) {
            tracing::warn!(%error, "an old snapshot stays");
        }
    }

    /// The newest one as openraft handles it.
    pub(super) fn described(&self) -> Result<Option<Snapshot>, DescribeError> {
        let current = self.current.lock();
        current.clone().map(|file| OpenSnapshot::open(file)?.described()).transpose()
    }

    /// Keeps the log behind the entry at `index` while a member is sent the snapshot of that entry, and for a
    /// while after the answer is dropped.
    pub(super) fn pin(self: &Arc<Self>, index: u64) -> Pin {
        self.pins.lock().add(index);
        Pin { snapshots: Arc::clone(self), index }
    }

    /// The entry behind which the log must stay, if any.
    #[must_use]
    pub fn pinned_from(&self) -> Option<u64> {
        self.pins.lock().lowest(Instant::now())
    }
}

/// See [`Snapshots::pin`].
pub(super) struct Pin {
    snapshots: Arc<Snapshots>,
    index: u64,
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.snapshots.pins.lock().release(self.index, Instant::now() + CATCH_UP);
    }
}

/// Entries behind which the log must stay, each until a moment that is known once its member was served.
#[derive(Debug, Default)]
struct Pins(Vec<(u64, Option<Instant>)>);

impl Pins {
    fn add(&mut self, index: u64) {
        self.0.push((index, None));
    }

    fn release(&mut self, index: u64, until: Instant) {
        if let Some(pin) = self.0.iter_mut().find(|pin| **pin == (index, None)) {
            pin.1 = Some(until);
        }
    }

    fn lowest(&mut self, now: Instant) -> Option<u64> {
        self.0.retain(|(_, until)| until.is_none_or(|until| until > now));
        self.0.iter().map(|(index, _)| *index).min()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;
    use std::os::unix::fs::FileExt as _;

    use super::super::types::{Membership, PeerNode, StoredMembership};
    use super::*;
    use crate::snapshot::testing::{state, versions};

    fn write(snapshots: &Snapshots, index: u64) -> SnapshotFile {
        let node = PeerNode { peer_urls: vec!["http://a".to_owned()], vote_when_ready: false };
        let members = Membership::new(vec![[1].into()], BTreeMap::from([(1, node)])).unwrap();
        let membership = codec::encode_stored_membership(&StoredMembership::new(None, members));
        let state = crate::stored::StateMeta { membership, ..state(index) };
        let manifest =
            Manifest { cluster: ClusterId(1), member: MemberId(1), written_at_ms: 0, state, since: None };
        let versions = versions(20).into_iter().map(Ok::<_, Infallible>);
        snapshot::write_file(&snapshots.dir, &manifest, versions, &mut |_| ()).unwrap()
    }

    fn empty(dir: &tempfile::TempDir) -> Arc<Snapshots> {
        Arc::new(Snapshots::new(dir.path().to_owned(), ClusterId(1), MemberId(1), None))
    }

    fn index(snapshot: &Snapshot) -> u64 {
        snapshot.meta.last_log_id.unwrap().index
    }

    /// The head of the newest one can be read at any moment, however fast newer ones come.
    #[test]
    fn a_snapshot_is_not_removed_while_its_head_is_read() {
        const NEWEST: u64 = 100;
        let dir = tempfile::tempdir().unwrap();
        let snapshots = empty(&dir);
        snapshots.replace(write(&snapshots, 1));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for index in 2..=NEWEST {
                    snapshots.replace(write(&snapshots, index));
                }
            });
            let mut seen = 0;
            while seen < NEWEST {
                let found = index(&snapshots.described().unwrap().unwrap());
                assert!(found >= seen);
                seen = found;
            }
        });
    }

    #[test]
    fn one_that_is_being_sent_can_be_read_to_its_end_after_it_was_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = empty(&dir);
        let first = write(&snapshots, 1);
        let content = std::fs::read(&first.path).unwrap();
        snapshots.replace(first.clone());
        let sent = snapshots.described().unwrap().unwrap().snapshot;
        snapshots.replace(write(&snapshots, 2));
        assert!(!first.path.exists());
        let mut read = vec![0; content.len()];
        sent.open.read_exact_at(&mut read, 0).unwrap();
        assert_eq!(read, content);
    }

    #[test]
    fn one_that_was_written_too_slowly_does_not_replace_a_newer_one() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = empty(&dir);
        let (slow, received) = (write(&snapshots, 5), write(&snapshots, 9));
        snapshots.replace(received.clone());
        snapshots.replace(slow.clone());
        assert_eq!(snapshots.current(), Some(received));
        assert!(!slow.path.exists());
    }

    #[test]
    fn the_log_stays_for_those_that_are_sent_a_snapshot_and_a_while_longer() {
        let mut pins = Pins::default();
        let now = Instant::now();
        let later = now + CATCH_UP;
        assert_eq!(pins.lowest(now), None);
        for index in [7, 5, 5] {
            pins.add(index);
        }
        pins.release(5, later);
        assert_eq!(pins.lowest(later), Some(5), "one of the two still goes on");
        pins.release(5, later);
        assert_eq!(pins.lowest(now), Some(5));
        assert_eq!(pins.lowest(later), Some(7));
    }
}
