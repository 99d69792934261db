//! What readers see: a consistent picture of the whole state, replaced after each applied batch.
//!
//! Reading it is an atomic load; nobody who reads can make the state machine wait.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

use super::members::MemberTable;
use super::{Alarms, EVERYBODY};
use crate::auth::{AuthState, Rights};
use crate::command::{AlarmKind, CommandError};
use crate::event::{Event, look_before_revisions};
use crate::ids::{LeaseId, MemberId, Revision};
use crate::lease::table::LeaseTable;
use crate::mvcc::view::View;
use crate::stored::StateMeta;
use crate::timeline::Timeline;
use crate::watch::History;

/// Events read before their bytes are looked at.
const READ_AHEAD_EVENTS: usize = 64;

/// The state at one log entry.
#[derive(Clone)]
pub struct Picture {
    /// The keyspace.
    pub view: View,
    /// The leases with their keys.
    pub leases: LeaseTable,
    /// The alarms that are raised.
    pub alarms: Arc<Alarms>,
    /// What members told about themselves.
    pub members: Arc<MemberTable>,
    /// Users and roles.
    pub auth: Arc<AuthState>,
    /// Which revision was current when.
    pub timeline: Arc<Timeline>,
    /// The membership with its log id, encoded.
    pub membership: Arc<[u8]>,
    /// Term of the last applied log entry.
    pub applied_term: u64,
    /// Index of the last applied log entry.
    pub applied_index: u64,
}

impl Picture {
    /// Whether `member` was found to hold other data than the majority, or nobody knows who is right.
    #[must_use]
    pub fn is_corrupt(&self, member: MemberId) -> bool {
        !self.alarms.is_empty()
            && [member, EVERYBODY].iter().any(|id| self.alarms.contains(&(*id, AlarmKind::Corrupt)))
    }

    /// Whether `member` holds other data than a majority that is known to be right.
    #[must_use]
    pub fn is_corrupt_alone(&self, member: MemberId) -> bool {
        self.is_corrupt(member) && !self.is_corrupt(EVERYBODY)
    }

    /// Everything beside the keyspace, as disk keeps it.
    #[must_use]
    pub fn meta(&self) -> StateMeta {
        StateMeta {
            applied_term: self.applied_term,
            applied_index: self.applied_index,
            membership: self.membership.to_vec(),
            revision: self.view.revision(),
            compact_revision: self.view.compact_revision(),
            leases: self
                .leases
                .iter()
                .map(|lease| (lease.id(), lease.ttl_s(), lease.remaining_s()))
                .collect(),
            alarms: self.alarms.iter().copied().collect(),
            members: self.members.published().cloned().collect(),
            removed: self.members.removed().collect(),
            auth: Arc::clone(self.auth.stored()),
            timeline: Arc::clone(&self.timeline),
        }
    }
}

impl Rights for Picture {
    fn auth(&self) -> &AuthState {
        &self.auth
    }

    fn lease_keys(&self, lease: LeaseId) -> Box<dyn Iterator<Item = &[u8]> + '_> {
        Box::new(self.leases.keys(lease))
    }
}

/// The newest picture.
pub struct Published {
    picture: ArcSwap<Picture>,
    applied: watch::Sender<u64>,
    /// Followed by those who need not look at each batch.
    milestones: watch::Sender<Milestones>,
}

/// What happens now and then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Milestones {
    /// Counts compactions.
    pub compactions: u64,
    /// Counts changes of alarms and of what members tell.
    pub members_or_alarms: u64,
    /// Counts what the log grew by, in steps.
    pub growth: u64,
}

impl Published {
    /// Starts with a picture.
    #[must_use]
    pub fn new(picture: Picture) -> Self {
        let applied = watch::Sender::new(picture.applied_index);
        Self { picture: ArcSwap::from_pointee(picture), applied, milestones: watch::Sender::default() }
    }

    /// Replaces the picture; then tells those that wait for a log index.
    pub fn publish(&self, picture: Arc<Picture>) {
        let index = picture.applied_index;
        self.picture.store(picture);
        self.applied.send_replace(index);
    }

    /// The newest picture, for a short look.
    #[must_use]
    pub fn peek(&self) -> Guard<Arc<Picture>> {
        self.picture.load()
    }

    /// The newest picture, to keep.
    #[must_use]
    pub fn picture(&self) -> Arc<Picture> {
        self.picture.load_full()
    }

    /// Follows the index of the last applied log entry.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }
}

impl Published {
    /// Tells that something happened which happens now and then.
    pub fn mark(&self, change: impl FnOnce(&mut Milestones)) {
        self.milestones.send_modify(change);
    }

    /// Follows what happens now and then.
    #[must_use]
    pub fn milestones(&self) -> watch::Receiver<Milestones> {
        self.milestones.subscribe()
    }
}

impl History for Published {
    fn revision(&self) -> Revision {
        self.peek().view.revision()
    }

    fn compact_revision(&self) -> Revision {
        self.peek().view.compact_revision()
    }

    fn read(&self, from: Revision, max_events: usize, max_bytes: usize) -> Result<Vec<Event>, CommandError> {
        let mut cursor = self.peek().view.events_from(from)?;
        let mut events: Vec<Event> = Vec::new();
        let mut bytes = 0;
        while events.len() < max_events && bytes < max_bytes {
            let batch = cursor.next_batch((max_events - events.len()).min(READ_AHEAD_EVENTS), true)?;
            if batch.is_empty() {
                break;
            }
            let previous = |event: &Event| event.previous.as_ref().map_or(0, |record| record.encoded().len());
            bytes += batch.iter().map(|event| event.record.encoded().len() + previous(event)).sum::<usize>();
            events.extend(batch);
        }
        look_before_revisions(&mut events);
        Ok(events)
    }

    fn is_cold(&self, from: Revision) -> bool {
        self.peek().view.is_cold(from)
    }
}
