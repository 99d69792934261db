//! What disk keeps of the state machine: versions of keys, and everything beside the keyspace.
//!
//! Shapes only. The snapshot file and the record store write them; the state machine is rebuilt from them.

mod auth;
pub mod sections;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::auth::{StoredAuth, StoredUser};
use sections::{SectionReader, SectionWriter};

use crate::command::AlarmKind;
use crate::event::{Event, EventKind};
use crate::ids::{Incarnation, LeaseId, MemberId, Revision, SubRevision};
use crate::record::Record;
use crate::timeline::Timeline;

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
    /// Users and roles. Like what follows not part of the encoding of this struct, but one of
    /// [`StateMeta::sections`], so that what was written before there were any can still be read.
    #[serde(skip)]
    pub auth: Arc<StoredAuth>,
    /// Which revision was current when.
    #[serde(skip)]
    pub timeline: Arc<Timeline>,
}

/// Numbers of the sections of a [`StateMeta`]. A new one takes the next number; none is ever given again.
mod section {
    pub(super) const AUTH: u16 = 7;
    pub(super) const TIMELINE: u16 = 8;
}

impl StateMeta {
    /// What is written behind the encoded struct; nothing when all of it is empty.
    #[must_use]
    pub fn sections(&self) -> Vec<u8> {
        let mut out = SectionWriter::default();
        if *self.auth != StoredAuth::default() {
            out.put(section::AUTH, &self.auth.encode()).expect("users and roles are far smaller than 4 GiB");
        }
        if *self.timeline != Timeline::default() {
            out.put(section::TIMELINE, &*self.timeline).expect("marks are numbers, and not many");
        }
        out.finish()
    }

    /// Takes what [`StateMeta::sections`] made.
    ///
    /// # Errors
    /// When it is something else; a sentence that says what.
    pub fn set_sections(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut from = SectionReader::new(bytes).map_err(|error| error.to_string())?;
        let auth: Vec<u8> = from.take(section::AUTH).map_err(|error| error.to_string())?;
        if !auth.is_empty() {
            self.auth = Arc::new(StoredAuth::decode(&auth)?);
        }
        self.timeline = Arc::new(from.take(section::TIMELINE).map_err(|error| error.to_string())?);
        from.finish().map_err(|error| error.to_string())
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
