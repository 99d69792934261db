//! What disk keeps of the state machine: versions of keys, and everything beside the keyspace.
//!
//! Shapes only. The snapshot file and the record store write them; the state machine is rebuilt from them.

mod auth;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::auth::{StoredAuth, StoredUser};

use crate::command::AlarmKind;
use crate::event::{Event, EventKind};
use crate::ids::{Incarnation, LeaseId, MemberId, Revision, SubRevision};
use crate::record::Record;

/// One version of a key as disk keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredVersion {
    /// Where in history it stands.
    pub at: SubRevision,
    /// The version.
    pub record: Record,
    /// Whether it is a deletion.
    pub tombstone: bool,
}

impl From<Event> for StoredVersion {
    fn from(event: Event) -> Self {
        Self { at: event.at, record: event.record, tombstone: event.kind == EventKind::Delete }
    }
}

/// Everything of the state machine beside the keyspace, small enough to be written as one piece.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateMeta {
    /// Term of the last applied log entry. 0, with an index of 0, when nothing was applied.
    pub applied_term: u64,
    /// Index of the last applied log entry.
    pub applied_index: u64,
    /// The membership with its log id, encoded by the module that owns Raft's types.
    pub membership: Vec<u8>,
    /// The current revision.
    pub revision: Revision,
    /// The oldest revision that is readable.
    pub compact_revision: Revision,
    /// Lease, full time and remaining time, both in seconds.
    pub leases: Vec<(LeaseId, i64, i64)>,
    /// The alarms that are raised.
    pub alarms: Vec<(MemberId, AlarmKind)>,
    /// What members told about themselves.
    pub members: Vec<PublishedMember>,
    /// Ids of members that were removed; they never come back.
    pub removed: Vec<MemberId>,
    /// Users and roles. Not part of the encoding of this struct: it is written as [`StateMeta::auth_section`], so
    /// that what was written before there were any can still be read.
    #[serde(skip)]
    pub auth: Arc<StoredAuth>,
}

impl StateMeta {
    /// What is written behind the encoded struct: nothing when there are neither users nor roles.
    #[must_use]
    pub fn auth_section(&self) -> Vec<u8> {
        if *self.auth == StoredAuth::default() { Vec::new() } else { self.auth.encode() }
    }

    /// Takes what [`StateMeta::auth_section`] made.
    ///
    /// # Errors
    /// When it is something else; a sentence that says what.
    pub fn set_auth_section(&mut self, bytes: &[u8]) -> Result<(), String> {
        if !bytes.is_empty() {
            self.auth = Arc::new(StoredAuth::decode(bytes)?);
        }
        Ok(())
    }
}

/// What a member told about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedMember {
    /// The member.
    pub id: MemberId,
    /// Human name.
    pub name: String,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// The data directory it runs on.
    pub incarnation: Incarnation,
}
