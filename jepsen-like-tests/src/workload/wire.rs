//! Requests and answers of the record as they are on the wire.

use barque_proto::etcdserverpb as pb;
use barque_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use barque_proto::etcdserverpb::{compare, request_op, response_op};
use barque_proto::mvccpb;
use bytes::Bytes;

use crate::call::{Call, Reply};
use crate::history::{
    Answer, Compare, Event, KeyValue, Relation, Request, Selection, Sort, SortBy, Span, Target, WatchRequest,
};
use crate::secure::{GUEST, GUEST_ROLE};

fn text(bytes: &Bytes) -> String {
    // Clients write text only; anything else is damage, which a checker must see as a difference.
    String::from_utf8_lossy(bytes).into_owned()
}

/// A key as the record has it.
pub(crate) fn key_value(kv: &mvccpb::KeyValue) -> KeyValue {
    KeyValue {
        key: text(&kv.key),
        value: text(&kv.value),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

/// An event as the record has it.
pub(super) fn event(event: &mvccpb::Event) -> Event {
    Event {
        kv: event.kv.as_ref().map(key_value).unwrap_or_default(),
        deleted: event.r#type() == mvccpb::event::EventType::Delete,
        prev: event.prev_kv.as_ref().map(key_value),
    }
}

/// A request of the wire.
pub(crate) fn call(request: &Request) -> Call {
    match request {
        Request::Range { span, limit, revision, serializable, selection } => {
            Call::Range(range(span, *limit, *revision, *serializable, selection))
        }
        Request::Put { key, value, lease } => Call::Put(put(key, value, *lease)),
        Request::Delete { span } => Call::Delete(delete(span)),
        Request::Txn { compares, then, otherwise } => Call::Txn(txn(compares, then, otherwise)),
        Request::LeaseGrant { id, ttl_s } => Call::Grant(pb::LeaseGrantRequest { id: *id, ttl: *ttl_s }),
        Request::LeaseKeepAlive { id } => Call::KeepAlive(pb::LeaseKeepAliveRequest { id: *id }),
        Request::LeaseRevoke { id } => Call::Revoke(pb::LeaseRevokeRequest { id: *id }),
        Request::Compact { revision } => {
            Call::Compact(pb::CompactionRequest { revision: *revision, physical: false })
        }
        Request::AuthGrant => Call::GrantRole(pb::AuthUserGrantRoleRequest {
            user: GUEST.to_owned(),
            role: GUEST_ROLE.to_owned(),
        }),
        Request::AuthRevoke => Call::RevokeRole(pb::AuthUserRevokeRoleRequest {
            name: GUEST.to_owned(),
            role: GUEST_ROLE.to_owned(),
        }),
        Request::AuthEnable => Call::AuthEnable(pb::AuthEnableRequest {}),
        Request::AuthDisable => Call::AuthDisable(pb::AuthDisableRequest {}),
    }
}

/// A range of the wire.
fn range(
    span: &Span,
    limit: i64,
    revision: i64,
    serializable: bool,
    selection: &Selection,
) -> pb::RangeRequest {
    let order = |sort: Sort| if sort.descending { SortOrder::Descend } else { SortOrder::Ascend };
    let target = |sort: Sort| match sort.by {
        SortBy::Key => SortTarget::Key,
        SortBy::Version => SortTarget::Version,
        SortBy::CreateRevision => SortTarget::Create,
        SortBy::ModRevision => SortTarget::Mod,
        SortBy::Value => SortTarget::Value,
    };
    pb::RangeRequest {
        key: Bytes::from(span.key.clone()),
        range_end: Bytes::from(span.end.clone()),
        limit,
        revision,
        sort_order: selection.sort.map_or(SortOrder::None, order).into(),
        sort_target: selection.sort.map_or(SortTarget::Key, target).into(),
        serializable,
        keys_only: selection.keys_only,
        count_only: selection.count_only,
        min_mod_revision: selection.min_mod_revision,
        max_mod_revision: selection.max_mod_revision,
        min_create_revision: selection.min_create_revision,
        max_create_revision: selection.max_create_revision,
    }
}

/// A put of the wire.
fn put(key: &str, value: &str, lease: i64) -> pb::PutRequest {
    pb::PutRequest {
        key: Bytes::from(key.to_owned()),
        value: Bytes::from(value.to_owned()),
        lease,
        ..Default::default()
    }
}

/// A deletion of the wire.
fn delete(span: &Span) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        key: Bytes::from(span.key.clone()),
        range_end: Bytes::from(span.end.clone()),
        ..Default::default()
    }
}

/// A transaction of the wire.
fn txn(compares: &[Compare], then: &[Request], otherwise: &[Request]) -> pb::TxnRequest {
    pb::TxnRequest {
        compare: compares.iter().map(compare_of).collect(),
        success: then.iter().filter_map(op).collect(),
        failure: otherwise.iter().filter_map(op).collect(),
    }
}

fn compare_of(compare: &Compare) -> pb::Compare {
    let (target, union) = match &compare.target {
        Target::Value(value) => {
            (compare::CompareTarget::Value, compare::TargetUnion::Value(Bytes::from(value.clone())))
        }
        Target::ModRevision(revision) => {
            (compare::CompareTarget::Mod, compare::TargetUnion::ModRevision(*revision))
        }
        Target::CreateRevision(revision) => {
            (compare::CompareTarget::Create, compare::TargetUnion::CreateRevision(*revision))
        }
        Target::Version(version) => {
            (compare::CompareTarget::Version, compare::TargetUnion::Version(*version))
        }
        Target::Lease(lease) => (compare::CompareTarget::Lease, compare::TargetUnion::Lease(*lease)),
    };
    let result = match compare.relation {
        Relation::Equal => compare::CompareResult::Equal,
        Relation::NotEqual => compare::CompareResult::NotEqual,
        Relation::Greater => compare::CompareResult::Greater,
        Relation::Less => compare::CompareResult::Less,
    };
    pb::Compare {
        result: result.into(),
        target: target.into(),
        key: Bytes::from(compare.span.key.clone()),
        range_end: Bytes::from(compare.span.end.clone()),
        target_union: Some(union),
    }
}

/// What may stand in a transaction; leases and compactions may not.
fn op(request: &Request) -> Option<pb::RequestOp> {
    let request = match request {
        Request::Range { span, limit, revision, serializable, selection } => {
            request_op::Request::RequestRange(range(span, *limit, *revision, *serializable, selection))
        }
        Request::Put { key, value, lease } => request_op::Request::RequestPut(put(key, value, *lease)),
        Request::Delete { span } => request_op::Request::RequestDeleteRange(delete(span)),
        Request::Txn { compares, then, otherwise } => {
            request_op::Request::RequestTxn(txn(compares, then, otherwise))
        }
        _ => return None,
    };
    Some(pb::RequestOp { request: Some(request) })
}

/// A reply as the record has it.
pub(super) fn answer(reply: &Reply) -> Answer {
    match reply {
        Reply::Range(range) => range_answer(range),
        Reply::Put(_) => Answer::Put,
        Reply::Delete(delete) => Answer::Delete { deleted: delete.deleted },
        Reply::Txn(txn) => txn_answer(txn),
        Reply::Grant(grant) => Answer::Lease { ttl_s: grant.ttl },
        Reply::KeepAlive(renewal) => Answer::Lease { ttl_s: renewal.ttl },
        Reply::Compact(_)
        | Reply::Revoke(_)
        | Reply::TimeToLive(_)
        | Reply::Leases(_)
        | Reply::GrantRole(_)
        | Reply::RevokeRole(_)
        | Reply::AuthEnable(_)
        | Reply::AuthDisable(_) => Answer::Done,
    }
}

/// The answer of a range.
fn range_answer(answer: &pb::RangeResponse) -> Answer {
    Answer::Range { kvs: answer.kvs.iter().map(key_value).collect(), count: answer.count, more: answer.more }
}

/// The answer of a transaction.
fn txn_answer(answer: &pb::TxnResponse) -> Answer {
    let one = |response: &pb::ResponseOp| match &response.response {
        Some(response_op::Response::ResponseRange(range)) => range_answer(range),
        Some(response_op::Response::ResponsePut(_)) => Answer::Put,
        Some(response_op::Response::ResponseDeleteRange(delete)) => {
            Answer::Delete { deleted: delete.deleted }
        }
        Some(response_op::Response::ResponseTxn(txn)) => txn_answer(txn),
        None => Answer::Done,
    };
    Answer::Txn { succeeded: answer.succeeded, answers: answer.responses.iter().map(one).collect() }
}

/// A watch of the wire.
pub(crate) fn watch(request: &WatchRequest) -> pb::WatchCreateRequest {
    let filter = |on: bool, kind: pb::watch_create_request::FilterType| on.then_some(kind as i32);
    let no_put = filter(request.no_put, pb::watch_create_request::FilterType::Noput);
    let no_delete = filter(request.no_delete, pb::watch_create_request::FilterType::Nodelete);
    pb::WatchCreateRequest {
        key: Bytes::from(request.span.key.clone()),
        range_end: Bytes::from(request.span.end.clone()),
        start_revision: request.start_revision,
        prev_kv: request.prev_kv,
        progress_notify: true,
        filters: no_put.into_iter().chain(no_delete).collect(),
        ..Default::default()
    }
}
