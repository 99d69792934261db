//! Versions and manifests for the tests of snapshots and records.

use std::sync::Arc;

use proptest::prelude::*;

use super::format::Manifest;
use crate::command::AlarmKind;
use crate::ids::{ClusterId, Incarnation, LeaseId, MemberId, Revision, SubRevision};
use crate::record::{Fields, Record};
use crate::stored::{PublishedMember, StateMeta, StoredVersion};
use crate::timeline::{Mark, Timeline};

pub(crate) fn state(index: u64) -> StateMeta {
    StateMeta {
        applied_term: 7,
        applied_index: index,
        membership: vec![1, 2, 3],
        revision: Revision(index as i64 + 1),
        compact_revision: Revision(3),
        leases: vec![(LeaseId(5), 60, 0)],
        alarms: vec![(MemberId(1), AlarmKind::NoSpace)],
        members: vec![PublishedMember {
            id: MemberId(1),
            name: "a".to_owned(),
            client_urls: vec!["http://127.0.0.1:1".to_owned()],
            incarnation: Incarnation(9),
        }],
        removed: vec![MemberId(4)],
        auth: Arc::default(),
        timeline: Arc::new(timeline()),
    }
}

fn timeline() -> Timeline {
    let mut timeline = Timeline::default();
    timeline.mark(Mark { revision: Revision(3), time_ms: 1_700_000_000_000 });
    timeline.mark(Mark { revision: Revision(4), time_ms: 1_700_000_001_000 });
    timeline
}

pub(super) fn manifest(index: u64) -> Manifest {
    Manifest {
        cluster: ClusterId(11),
        member: MemberId(1),
        written_at_ms: 1234,
        state: state(index),
        since: None,
    }
}

pub(crate) fn version(main: i64, sub: u32, value: &[u8]) -> StoredVersion {
    let key = format!("/registry/pods/{}", main % 17);
    let at = SubRevision { main: Revision(main), sub };
    if value.is_empty() {
        let record = Record::tombstone(key.as_bytes(), Revision(main));
        return StoredVersion { at, record, tombstone: true };
    }
    let record = Record::new(&Fields {
        key: key.as_bytes(),
        create_revision: Revision(1),
        mod_revision: Revision(main),
        version: 3,
        value,
        lease: (main % 3 == 0).then_some(LeaseId(4)),
    });
    StoredVersion { at, record, tombstone: false }
}

/// `count` versions of different sizes, some of them deletions.
pub(crate) fn versions(count: i64) -> Vec<StoredVersion> {
    (2..count + 2).map(|n| version(n, (n % 2) as u32, &vec![n as u8; (n as usize * 37) % 700])).collect()
}

pub(super) fn any_version() -> impl Strategy<Value = StoredVersion> {
    let value = prop_oneof![
        20 => prop::collection::vec(any::<u8>(), 0..300),
        1 => any::<u8>().prop_map(|byte| vec![byte; 300_000]),
    ];
    (any::<i64>(), any::<u32>(), value).prop_map(|(main, sub, value)| version(main, sub, &value))
}
