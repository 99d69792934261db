//! From the narrow waist to etcd's messages and back. Shapes only: never decides what is asked.

use barque_proto::etcdserverpb as pb;
use barque_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use barque_proto::etcdserverpb::request_op::Request;
use barque_proto::etcdserverpb::response_op::Response;
use barque_proto::mvccpb;
use bytes::Bytes;

use crate::storage::{
    Action, Change, Entry, Expected, Listed, Page, Revision, StorageError, Write, Written, prefix_end,
};

/// The revision of an answer's header.
pub(super) fn revision(header: Option<&pb::ResponseHeader>) -> Revision {
    Revision::of_wire(header.map_or(0, |header| header.revision))
}

/// A record in memory of its own: what was received is one piece, and a key that is kept long must not keep all of it.
pub(super) fn entry(kv: mvccpb::KeyValue) -> Entry {
    let both = Bytes::from([&kv.key[..], &kv.value[..]].concat());
    let revision = Revision::of_wire(kv.mod_revision);
    Entry { key: both.slice(..kv.key.len()), value: both.slice(kv.key.len()..), revision }
}

pub(super) fn range(page: &Page) -> pb::RangeRequest {
    let end = prefix_end(&page.prefix);
    pb::RangeRequest {
        key: page.start.clone().max(page.prefix.clone()),
        range_end: if end.is_empty() { Bytes::from_static(&[0]) } else { end },
        limit: i64::try_from(page.limit).unwrap_or(i64::MAX),
        revision: page.revision.map_or(0, Revision::to_wire),
        ..pb::RangeRequest::default()
    }
}

pub(super) fn listed(page: &Page, answer: pb::RangeResponse) -> Listed {
    let remaining = u64::try_from(answer.count).unwrap_or(0).saturating_sub(answer.kvs.len() as u64);
    let revision = page.revision.unwrap_or_else(|| revision(answer.header.as_ref()));
    Listed { entries: answer.kvs.into_iter().map(entry).collect(), revision, remaining }
}

fn op(request: Request) -> Vec<pb::RequestOp> {
    vec![pb::RequestOp { request: Some(request) }]
}

/// The guarded write as a transaction: when the guard fails, it reads what stands there.
pub(super) fn transaction(write: &Write) -> pb::TxnRequest {
    let (target, operand) = match write.expected {
        Expected::Absent => (CompareTarget::Create, TargetUnion::CreateRevision(0)),
        Expected::At(revision) => (CompareTarget::Mod, TargetUnion::ModRevision(revision.to_wire())),
    };
    let compare = pb::Compare {
        result: CompareResult::Equal.into(),
        target: target.into(),
        key: write.key.clone(),
        target_union: Some(operand),
        ..pb::Compare::default()
    };
    let key = write.key.clone();
    let action = match &write.action {
        Action::Put { value, lease } => Request::RequestPut(pb::PutRequest {
            key,
            value: value.clone(),
            lease: lease.map_or(0, |lease| lease.0),
            ..pb::PutRequest::default()
        }),
        Action::Delete => {
            Request::RequestDeleteRange(pb::DeleteRangeRequest { key, ..pb::DeleteRangeRequest::default() })
        }
    };
    let read = pb::RangeRequest { key: write.key.clone(), ..pb::RangeRequest::default() };
    pb::TxnRequest { compare: vec![compare], success: op(action), failure: op(Request::RequestRange(read)) }
}

pub(super) fn written(answer: pb::TxnResponse) -> Result<Written, StorageError> {
    if answer.succeeded {
        return Ok(Written::Done(revision(answer.header.as_ref())));
    }
    match answer.responses.into_iter().next().and_then(|op| op.response) {
        Some(Response::ResponseRange(found)) => Ok(Written::Differs(found.kvs.into_iter().next().map(entry))),
        _ => Err(StorageError::internal("a guarded write was answered with something else")),
    }
}

/// `None` for an event without a record, which no server sends.
pub(super) fn change(event: mvccpb::Event) -> Option<Change> {
    let is_put = event.r#type() == mvccpb::event::EventType::Put;
    let Entry { key, value, revision } = entry(event.kv?);
    Some(Change { key, revision, value: is_put.then_some(value), previous: event.prev_kv.map(entry) })
}

/// Whether progress that this version tells is never ahead of its events.
pub(super) fn has_sound_progress(version: &str) -> bool {
    let mut parts = version.split(['.', '-']).map(|part| part.parse::<u32>().ok());
    let (major, minor, patch) = (parts.next().flatten(), parts.next().flatten(), parts.next().flatten());
    match (major, minor, patch) {
        (Some(3), Some(4), Some(patch)) => patch >= 31,
        (Some(3), Some(5), Some(patch)) => patch >= 13,
        (Some(3), Some(minor), _) => minor >= 6,
        (Some(major), ..) => major > 3,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_with_sound_progress_are_told_apart() {
        for sound in ["3.4.31", "3.5.13", "3.6.0", "3.6.5", "3.7.0-alpha.0", "4.0.0"] {
            assert!(has_sound_progress(sound), "{sound}");
        }
        for unsound in ["3.4.23", "3.5.12", "3.3.99", "2.9.0", "", "x"] {
            assert!(!has_sound_progress(unsound), "{unsound}");
        }
    }
}
