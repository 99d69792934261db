//! The state that a directory holds: its newest snapshot, and after that every entry of its log.

use std::path::Path;

use super::super::error::OfflineError;
use super::super::{Progress, Step};
use super::Found;
use crate::command::{AlarmKind, CommandError};
use crate::ids::{MemberId, Revision};
use crate::mvcc::builder::KeyspaceBuilder;
use crate::mvcc::keyspace::{Config, NEVER_COMPACTED};
use crate::raft::codec;
use crate::raft::types::PeerNode;
use crate::snapshot::{self, SnapshotReader};
use crate::state::{EVERYBODY, State, batch};
use crate::storage::data_dir::{DataDir, DataDirError, DiskIdentity};
use crate::stored::StateMeta;
use crate::wal::{self, LogEntry, Payload};

/// Entries between two looks at the progress.
const ENTRIES_PER_STEP: u64 = 256;

/// A directory's state, with all of its entries.
pub(super) struct Rebuilt {
    pub(super) state: State,
    pub(super) found: Found,
    /// The other members, who will not take part any more.
    pub(super) others: Vec<MemberId>,
}

/// Reads a directory and changes nothing in it.
pub(super) fn rebuild(dir: &DataDir, progress: Progress<'_>) -> Result<Rebuilt, OfflineError> {
    let identity = dir.identity()?.ok_or_else(|| DataDirError::Missing(dir.path().to_owned()))?;
    let wal_identity = wal::Identity { cluster_id: identity.cluster, member_id: identity.member };
    let log = wal::read_only::read(&dir.wal(), wal_identity)
        .map_err(|source| OfflineError::Log { dir: dir.path().to_owned(), source })?;
    let mut replay = Replay::from_snapshot(dir, progress)?;
    if let Some(purged) =
        log.recovered.purged.filter(|purged| Some(purged.index) > replay.last.map(|(_, i)| i))
    {
        let what = format!(
            "its log begins behind entry {}, and there is no snapshot up to there: a snapshot file was lost",
            purged.index
        );
        return Err(OfflineError::state(dir.path(), what));
    }
    let total = log.entries.len() as u64;
    for (done, entry) in (0u64..).zip(log.entries) {
        replay.entry(dir.path(), entry)?;
        if done.is_multiple_of(ENTRIES_PER_STEP) {
            progress(Step { what: "replaying", done, total });
        }
    }
    let committed = log.recovered.committed.map_or(0, |position| position.index);
    replay.found(dir.path(), identity, committed)
}

struct Replay {
    state: State,
    nodes: Vec<(MemberId, PeerNode)>,
    snapshot_index: u64,
    /// Term and index of the last entry.
    last: Option<(u64, u64)>,
}

impl Replay {
    fn from_snapshot(dir: &DataDir, progress: Progress<'_>) -> Result<Self, OfflineError> {
        let unreadable = |error: snapshot::SnapshotError| OfflineError::state(dir.path(), error);
        let newest = snapshot::directory::list(&dir.snapshots()).map_err(unreadable)?.into_iter().next();
        let Some(path) = newest else {
            let meta = StateMeta {
                revision: Revision::EMPTY,
                compact_revision: NEVER_COMPACTED,
                ..StateMeta::default()
            };
            let keyspace =
                KeyspaceBuilder::new(meta.revision, meta.compact_revision, Config::default(), None);
            let state = State::restore(keyspace.finish(), &meta);
            return Ok(Self { state, nodes: Vec::new(), snapshot_index: 0, last: None });
        };
        let mut reader = SnapshotReader::open(&path).and_then(SnapshotReader::whole).map_err(unreadable)?;
        let meta = reader.manifest().state.clone();
        let mut builder = KeyspaceBuilder::new(meta.revision, meta.compact_revision, Config::default(), None);
        let mut count = 0u64;
        while let Some(version) = reader.next() {
            builder.push(version.map_err(unreadable)?);
            count += 1;
            if count.is_multiple_of(4096) {
                let (done, total) = reader.progress_bytes();
                progress(Step { what: "reading", done, total });
            }
        }
        let membership = codec::decode_stored_membership(&meta.membership)
            .map_err(OfflineError::membership(dir.path()))?;
        Ok(Self {
            state: State::restore(builder.finish(), &meta),
            nodes: membership.nodes().map(|(id, node)| (MemberId(*id), node.clone())).collect(),
            snapshot_index: meta.applied_index,
            last: Some((meta.applied_term, meta.applied_index)),
        })
    }

    fn entry(&mut self, dir: &Path, entry: LogEntry) -> Result<(), OfflineError> {
        let position = entry.position;
        // A snapshot took the place of what follows, which was not cut off any more.
        if self.last.is_some_and(|(term, _)| position.term < term) {
            return Ok(());
        }
        let next = self.last.map_or(0, |(_, index)| index + 1);
        if position.index < next {
            return Ok(());
        }
        if position.index > next {
            let what = format!("entry {next} is missing between its snapshot and its log");
            return Err(OfflineError::state(dir, what));
        }
        match entry.payload {
            Payload::Blank => {}
            Payload::Membership(bytes) => {
                let membership = codec::decode_membership(&bytes).map_err(OfflineError::membership(dir))?;
                let nodes: Vec<_> =
                    membership.nodes().map(|(id, node)| (MemberId(*id), node.clone())).collect();
                let gone =
                    self.nodes.iter().map(|(id, _)| *id).filter(|id| !nodes.iter().any(|(i, _)| i == id));
                let gone: Vec<_> = gone.collect();
                self.state.remember_removed(gone);
                self.nodes = nodes;
            }
            Payload::Batch(bytes) => {
                let (_, commands) = batch::decode(&bytes).map_err(|error| {
                    OfflineError::state(dir, format!("entry {}: {error}", position.index))
                })?;
                for command in &commands {
                    // A command that may not do what it wants changes nothing, as when it was executed first.
                    if let Err(error @ CommandError::History(_)) = self.state.apply(position.term, command) {
                        return Err(OfflineError::state(dir, error));
                    }
                }
                self.state.take_effects();
            }
        }
        self.last = Some((position.term, position.index));
        Ok(())
    }

    fn found(self, dir: &Path, identity: DiskIdentity, committed: u64) -> Result<Rebuilt, OfflineError> {
        let Self { state, nodes, snapshot_index, last } = self;
        let Some((last_term, last_index)) = last else {
            return Err(OfflineError::state(dir, "it holds neither a snapshot nor an entry of the log"));
        };
        let Some((_, node)) = nodes.iter().find(|(id, _)| *id == identity.member) else {
            let what = format!("member {} is not a member of its cluster (any more)", identity.member);
            return Err(OfflineError::state(dir, what));
        };
        let corrupt =
            [identity.member, EVERYBODY].iter().any(|id| state.alarms().contains(&(*id, AlarmKind::Corrupt)));
        let name = |id: MemberId| state.members().get(id).map(|member| member.name.clone());
        let found = Found {
            member: identity.member,
            name: name(identity.member),
            peer_urls: node.peer_urls.clone(),
            cluster: identity.cluster,
            last_term,
            last_index,
            applied_index: committed.max(snapshot_index),
            revision: state.revision(),
            keys: state.view().live_keys() as u64,
            corrupt,
            members: nodes.iter().map(|(id, _)| name(*id).unwrap_or_else(|| id.to_string())).collect(),
        };
        let others = nodes.iter().map(|(id, _)| *id).filter(|id| *id != identity.member).collect();
        Ok(Rebuilt { state, found, others })
    }
}
