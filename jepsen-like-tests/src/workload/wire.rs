//! Requests and answers of the record as they are on the wire.

use barque_proto::etcdserverpb as pb;
use barque_proto::etcdserverpb::{compare, request_op, response_op};
use barque_proto::mvccpb;
use bytes::Bytes;

use crate::history::{Answer, Compare, Event, KeyValue, Request, Span, Target, WatchRequest};

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

/// A range of the wire.
pub(super) fn range(span: &Span, limit: i64, revision: i64, serializable: bool) -> pb::RangeRequest {
    pb::RangeRequest {
        key: Bytes::from(span.key.clone()),
        range_end: Bytes::from(span.end.clone()),
        limit,
        revision,
        serializable,
        ..Default::default()
    }
}

/// A put of the wire.
pub(super) fn put(key: &str, value: &str, lease: i64) -> pb::PutRequest {
    pb::PutRequest {
        key: Bytes::from(key.to_owned()),
        value: Bytes::from(value.to_owned()),
        lease,
        ..Default::default()
    }
}

/// A deletion of the wire.
pub(super) fn delete(span: &Span) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        key: Bytes::from(span.key.clone()),
        range_end: Bytes::from(span.end.clone()),
        ..Default::default()
    }
}

/// A transaction of the wire.
pub(super) fn txn(compares: &[Compare], then: &[Request], otherwise: &[Request]) -> pb::TxnRequest {
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
    };
    pb::Compare {
        result: compare::CompareResult::Equal as i32,
        target: target as i32,
        key: Bytes::from(compare.key.clone()),
        target_union: Some(union),
        ..Default::default()
    }
}

/// What may stand in a transaction; leases and compactions may not.
fn op(request: &Request) -> Option<pb::RequestOp> {
    let request = match request {
        Request::Range { span, limit, revision, serializable } => {
            request_op::Request::RequestRange(range(span, *limit, *revision, *serializable))
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

/// The answer of a range.
pub(super) fn range_answer(answer: &pb::RangeResponse) -> Answer {
    Answer::Range { kvs: answer.kvs.iter().map(key_value).collect(), count: answer.count, more: answer.more }
}

/// The answer of a transaction.
pub(super) fn txn_answer(answer: &pb::TxnResponse) -> Answer {
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
pub(super) fn watch(request: &WatchRequest) -> pb::WatchCreateRequest {
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
