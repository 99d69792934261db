//! A history to save, as members save it, and what was true at each of its revisions.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::Step;
use super::cluster::membership;
use crate::command::{Command, DeleteRange, KeyRange, Put};
use crate::ids::{ClusterId, LeaseId, MemberId, Revision};
use crate::mvcc::builder::KeyspaceBuilder;
use crate::mvcc::keyspace::{Config, NEVER_COMPACTED};
use crate::raft::state_machine::StateMachine;
use crate::raft::types::log_id;
use crate::record::Record;
use crate::snapshot::{Manifest, SnapshotWriter};
use crate::state::State;
use crate::stored::{StateMeta, StoredVersion};

/// The living keys at a revision.
pub(super) type Living = BTreeMap<Vec<u8>, Record>;

pub(super) struct History {
    state: State,
    index: u64,
    /// What every revision looked like, remembered plainly.
    past: BTreeMap<i64, Living>,
}

pub(super) fn quiet() -> impl FnMut(Step) {
    |_| ()
}

pub(super) fn living(state: &State) -> Living {
    state.view().iter().map(|record| (record.key().to_vec(), record.clone())).collect()
}

impl History {
    pub(super) fn new() -> Self {
        let meta = StateMeta {
            revision: Revision::EMPTY,
            compact_revision: NEVER_COMPACTED,
            ..StateMeta::default()
        };
        let keyspace = KeyspaceBuilder::new(meta.revision, meta.compact_revision, Config::default(), None);
        let state = State::restore(keyspace.finish(), &meta);
        Self { state, index: 0, past: BTreeMap::from([(1, Living::new())]) }
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    pub(super) fn revision(&self) -> i64 {
        self.state.revision().0
    }

    /// The living keys at a revision.
    pub(super) fn at(&self, revision: i64) -> &Living {
        &self.past[&revision]
    }

    pub(super) fn apply(&mut self, command: &Command) -> bool {
        self.index += 1;
        let done = self.state.apply(1, command).is_ok();
        self.past.insert(self.revision(), living(&self.state));
        done
    }

    pub(super) fn put(&mut self, key: &str, value: &str, lease: Option<i64>) {
        let (key, value) = (key.to_owned().into(), value.to_owned().into());
        let put = Put { key, value, lease: lease.map(LeaseId), ..Put::default() };
        assert!(self.apply(&Command::Put(put)));
    }

    pub(super) fn delete(&mut self, key: &str) {
        let range = KeyRange { key: key.to_owned().into(), ..KeyRange::default() };
        assert!(self.apply(&Command::DeleteRange(DeleteRange { range, prev_kv: false })));
    }

    pub(super) fn grant(&mut self, id: i64, ttl_s: i64) {
        assert!(self.apply(&Command::LeaseGrant { id: LeaseId(id), ttl_s }));
    }

    pub(super) fn revoke(&mut self, id: i64) {
        assert!(self.apply(&Command::LeaseRevoke { id: LeaseId(id) }));
    }

    pub(super) fn compact(&mut self, revision: i64) {
        assert!(self.apply(&Command::Compact { revision: Revision(revision) }));
    }

    /// A whole snapshot, or an increment.
    pub(super) fn save(&self, dir: &Path, name: &str, since: Option<i64>) -> PathBuf {
        let members = membership([(MemberId(5), vec!["http://127.0.0.1:1".to_owned()])]);
        let picture = StateMachine::picture(&self.state, Some(&log_id(1, self.index)), &members.into(), None);
        let manifest = Manifest {
            cluster: ClusterId(11),
            member: MemberId(5),
            written_at_ms: 1_700_000_000_000,
            state: picture.meta(),
            since: since.map(Revision),
        };
        let after = since.unwrap_or(i64::MIN);
        let wanted = |version: &StoredVersion| version.at.main.0 > after;
        let versions = picture.view.items().map(|version| version.unwrap()).filter(wanted);
        let mut writer = SnapshotWriter::new(Vec::new(), &manifest).unwrap();
        versions.map(Ok::<_, Infallible>).for_each(|version| writer.push(&version.unwrap()).unwrap());
        let path = dir.join(name);
        fs::write(&path, writer.finish().unwrap().0).unwrap();
        path
    }

    /// Makes a file look as a client saves it.
    pub(super) fn pad(path: &Path) {
        let mut bytes = fs::read(path).unwrap();
        bytes.resize(bytes.len().next_multiple_of(barque_proto::SNAPSHOT_ALIGNMENT_BYTES as usize), 0);
        let digest = Sha256::digest(&bytes);
        bytes.extend_from_slice(&digest);
        fs::write(path, bytes).unwrap();
    }
}
