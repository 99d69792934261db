//! Requests into commands, and what executing them answered into answers. Pure. Bytes are moved or
//! shared, never copied; requests have passed [`super::validate`] before they come here.

use barque_proto::etcdserverpb as pb;
use barque_proto::etcdserverpb::ResponseHeader;
use barque_proto::etcdserverpb::compare::{
    CompareResult as PbResult, CompareTarget as PbTarget, TargetUnion,
};
use barque_proto::etcdserverpb::range_request as pb_range;
use barque_proto::served;
use bytes::Bytes;

use super::backend::{ActiveAlarm, MemberInfo};
use crate::command::{
    AlarmKind, Compare, CompareResult, CompareTarget, DeleteRange, DeleteRangeOutcome, KeyRange, OpOutcome,
    Put, PutOutcome, Range, RangeOutcome, SortOrder, SortTarget, Txn, TxnOp, TxnOutcome,
};
use crate::ids::{LeaseId, Revision};
use crate::record::Record;

pub(super) fn range(request: pb::RangeRequest) -> Range {
    let sort_order = match request.sort_order() {
        pb_range::SortOrder::None => SortOrder::None,
        pb_range::SortOrder::Ascend => SortOrder::Ascend,
        pb_range::SortOrder::Descend => SortOrder::Descend,
    };
    let sort_target = match request.sort_target() {
        pb_range::SortTarget::Key => SortTarget::Key,
        pb_range::SortTarget::Version => SortTarget::Version,
        pb_range::SortTarget::Create => SortTarget::Create,
        pb_range::SortTarget::Mod => SortTarget::Mod,
        pb_range::SortTarget::Value => SortTarget::Value,
    };
    Range {
        range: KeyRange { key: request.key, range_end: request.range_end },
        limit: request.limit,
        revision: Revision(request.revision),
        sort_order,
        sort_target,
        keys_only: request.keys_only,
        count_only: request.count_only,
        min_mod_revision: Revision(request.min_mod_revision),
        max_mod_revision: Revision(request.max_mod_revision),
        min_create_revision: Revision(request.min_create_revision),
        max_create_revision: Revision(request.max_create_revision),
    }
}

pub(super) fn put(request: pb::PutRequest) -> Put {
    Put {
        key: request.key,
        value: request.value,
        lease: lease(request.lease),
        prev_kv: request.prev_kv,
        ignore_value: request.ignore_value,
        ignore_lease: request.ignore_lease,
    }
}

/// A lease on the wire, where 0 means none.
pub(super) fn lease(id: i64) -> Option<LeaseId> {
    (id != 0).then_some(LeaseId(id))
}

pub(super) fn delete_range(request: pb::DeleteRangeRequest) -> DeleteRange {
    DeleteRange {
        range: KeyRange { key: request.key, range_end: request.range_end },
        prev_kv: request.prev_kv,
    }
}

pub(super) fn txn(request: pb::TxnRequest) -> Txn {
    Txn {
        compare: request.compare.into_iter().filter_map(compare).collect(),
        success: request.success.into_iter().filter_map(op).collect(),
        failure: request.failure.into_iter().filter_map(op).collect(),
    }
}

/// `None` for an empty operation, which validation refuses.
fn op(op: pb::RequestOp) -> Option<TxnOp> {
    use pb::request_op::Request;
    Some(match op.request? {
        Request::RequestRange(request) => TxnOp::Range(range(request)),
        Request::RequestPut(request) => TxnOp::Put(put(request)),
        Request::RequestDeleteRange(request) => TxnOp::DeleteRange(delete_range(request)),
        Request::RequestTxn(request) => TxnOp::Txn(txn(request)),
    })
}

/// `None` for a comparison that always holds.
///
/// An operand of another kind than the target counts as absent, that is as zero or empty. etcd accepts
/// numbers outside its enums: an unknown target compares as equal, an unknown result holds.
fn compare(compare: pb::Compare) -> Option<Compare> {
    let range = KeyRange { key: compare.key, range_end: compare.range_end };
    let result = PbResult::try_from(compare.result).ok();
    let Ok(target) = PbTarget::try_from(compare.target) else {
        return match result {
            None | Some(PbResult::Equal) => None,
            // Never holds.
            Some(_) => Some(Compare {
                range,
                result: CompareResult::Greater,
                target: CompareTarget::Version(i64::MAX),
            }),
        };
    };
    let Some(result) = result else {
        // Comparing values fails where there is none, whatever the result asked for.
        return (target == PbTarget::Value).then_some(Compare {
            range,
            result: CompareResult::NotEqual,
            target: CompareTarget::Version(0),
        });
    };
    let result = match result {
        PbResult::Equal => CompareResult::Equal,
        PbResult::Greater => CompareResult::Greater,
        PbResult::Less => CompareResult::Less,
        PbResult::NotEqual => CompareResult::NotEqual,
    };
    let target = match (target, compare.target_union) {
        (PbTarget::Version, Some(TargetUnion::Version(version))) => CompareTarget::Version(version),
        (PbTarget::Version, _) => CompareTarget::Version(0),
        (PbTarget::Create, Some(TargetUnion::CreateRevision(rev))) => CompareTarget::Create(Revision(rev)),
        (PbTarget::Create, _) => CompareTarget::Create(Revision(0)),
        (PbTarget::Mod, Some(TargetUnion::ModRevision(rev))) => CompareTarget::Mod(Revision(rev)),
        (PbTarget::Mod, _) => CompareTarget::Mod(Revision(0)),
        (PbTarget::Value, Some(TargetUnion::Value(value))) => CompareTarget::Value(value),
        (PbTarget::Value, _) => CompareTarget::Value(Bytes::new()),
        (PbTarget::Lease, Some(TargetUnion::Lease(id))) => CompareTarget::Lease(LeaseId(id)),
        (PbTarget::Lease, _) => CompareTarget::Lease(LeaseId(0)),
    };
    Some(Compare { range, result, target })
}

fn encoded(records: Vec<Record>) -> Vec<served::Encoded> {
    records.into_iter().map(Record::into_encoded).collect()
}

pub(super) fn range_response(header: ResponseHeader, outcome: RangeOutcome) -> served::RangeResponse {
    served::RangeResponse {
        header: Some(header),
        kvs: encoded(outcome.records),
        more: outcome.more,
        count: outcome.count,
    }
}

pub(super) fn put_response(header: ResponseHeader, outcome: PutOutcome) -> served::PutResponse {
    served::PutResponse { header: Some(header), prev_kv: outcome.prev.map(Record::into_encoded) }
}

pub(super) fn delete_range_response(
    header: ResponseHeader,
    outcome: DeleteRangeOutcome,
) -> served::DeleteRangeResponse {
    served::DeleteRangeResponse {
        header: Some(header),
        deleted: outcome.deleted,
        prev_kvs: encoded(outcome.prev),
    }
}

/// The answer to a transaction. `header.revision` is the revision after it, from which those inside
/// follow: etcd fills in there what the keyspace's revision was at that operation and nothing else, and
/// an empty header for a nested transaction.
pub(super) fn txn_response(header: ResponseHeader, outcome: TxnOutcome) -> served::TxnResponse {
    let after = header.revision;
    let mut revision = if changes(&outcome) { after - 1 } else { after };
    let responses = op_responses(outcome.responses, &mut revision, after);
    served::TxnResponse { header: Some(header), succeeded: outcome.succeeded, responses }
}

fn changes(outcome: &TxnOutcome) -> bool {
    outcome.responses.iter().any(|response| match response {
        OpOutcome::Range(_) => false,
        OpOutcome::Put(_) => true,
        OpOutcome::DeleteRange(outcome) => outcome.deleted > 0,
        OpOutcome::Txn(outcome) => changes(outcome),
    })
}

/// `revision` is that before the transaction until an operation changed something, then `after`.
fn op_responses(outcomes: Vec<OpOutcome>, revision: &mut i64, after: i64) -> Vec<served::ResponseOp> {
    let inner = |revision: i64| ResponseHeader { revision, ..Default::default() };
    outcomes
        .into_iter()
        .map(|outcome| {
            let response = match outcome {
                OpOutcome::Range(outcome) => {
                    served::Response::Range(range_response(inner(*revision), outcome))
                }
                OpOutcome::Put(outcome) => {
                    *revision = after;
                    served::Response::Put(put_response(inner(after), outcome))
                }
                OpOutcome::DeleteRange(outcome) => {
                    if outcome.deleted > 0 {
                        *revision = after;
                    }
                    served::Response::DeleteRange(delete_range_response(inner(*revision), outcome))
                }
                OpOutcome::Txn(outcome) => served::Response::Txn(served::TxnResponse {
                    header: Some(ResponseHeader::default()),
                    succeeded: outcome.succeeded,
                    responses: op_responses(outcome.responses, revision, after),
                }),
            };
            served::ResponseOp { response: Some(response) }
        })
        .collect()
}

pub(super) fn member(member: MemberInfo) -> pb::Member {
    pb::Member {
        id: member.id.0,
        name: member.name,
        peer_ur_ls: member.peer_urls,
        client_ur_ls: member.client_urls,
        is_learner: member.is_learner,
    }
}

pub(super) fn members(members: Vec<MemberInfo>) -> Vec<pb::Member> {
    members.into_iter().map(member).collect()
}

/// An alarm's name on the wire.
pub(super) fn alarm_type(kind: AlarmKind) -> pb::AlarmType {
    match kind {
        AlarmKind::NoSpace => pb::AlarmType::Nospace,
        AlarmKind::Corrupt => pb::AlarmType::Corrupt,
    }
}

pub(super) fn alarm(alarm: ActiveAlarm) -> pb::AlarmMember {
    pb::AlarmMember { member_id: alarm.member.0, alarm: alarm_type(alarm.kind).into() }
}

/// An alarm as etcd writes it among the errors of a status, with a blank at the end.
pub(super) fn alarm_text(alarm: ActiveAlarm) -> String {
    format!("memberID:{} alarm:{} ", alarm.member.0, alarm_type(alarm.kind).as_str_name())
}

#[cfg(test)]
mod tests {
    use barque_proto::mvccpb::KeyValue;
    use prost::Message as _;

    use super::*;
    use crate::ids::MemberId;
    use crate::record::Fields;

    fn record(key: &str) -> Record {
        Record::new(&Fields {
            key: key.as_bytes(),
            create_revision: Revision(3),
            mod_revision: Revision(4),
            version: 2,
            value: b"v",
            lease: Some(LeaseId(7)),
        })
    }

    #[test]
    fn ranges_keep_every_field() {
        let request = pb::RangeRequest {
            key: "a".into(),
            range_end: "b".into(),
            limit: 1,
            revision: 2,
            sort_order: pb_range::SortOrder::Descend.into(),
            sort_target: pb_range::SortTarget::Mod.into(),
            serializable: true,
            keys_only: true,
            count_only: true,
            min_mod_revision: 3,
            max_mod_revision: 4,
            min_create_revision: 5,
            max_create_revision: 6,
        };
        let expected = Range {
            range: KeyRange { key: "a".into(), range_end: "b".into() },
            limit: 1,
            revision: Revision(2),
            sort_order: SortOrder::Descend,
            sort_target: SortTarget::Mod,
            keys_only: true,
            count_only: true,
            min_mod_revision: Revision(3),
            max_mod_revision: Revision(4),
            min_create_revision: Revision(5),
            max_create_revision: Revision(6),
        };
        assert_eq!(range(request), expected);
    }

    #[test]
    fn keys_and_values_are_shared_and_not_copied() {
        let request = pb::PutRequest {
            key: Bytes::from(vec![1; 100]),
            value: Bytes::from(vec![2; 100]),
            lease: 9,
            prev_kv: true,
            ..Default::default()
        };
        let (key, value) = (request.key.as_ptr(), request.value.as_ptr());
        let put = put(request);
        assert_eq!((put.key.as_ptr(), put.value.as_ptr()), (key, value));
        assert_eq!((put.lease, put.prev_kv, put.ignore_value), (Some(LeaseId(9)), true, false));
        let stored = record("a");
        assert_eq!(encoded(vec![stored.clone()])[0].0.slice.as_ptr(), stored.encoded().as_ptr());
    }

    #[test]
    fn comparisons() {
        let pb = |result: i32, target: i32, target_union: Option<TargetUnion>| pb::Compare {
            result,
            target,
            key: "k".into(),
            range_end: "z".into(),
            target_union,
        };
        let is = |result, target| {
            Some(Compare { range: KeyRange { key: "k".into(), range_end: "z".into() }, result, target })
        };
        use CompareResult::{Equal, Greater, Less, NotEqual};
        let table = [
            (pb(0, 0, Some(TargetUnion::Version(5))), is(Equal, CompareTarget::Version(5))),
            (pb(1, 1, Some(TargetUnion::CreateRevision(5))), is(Greater, CompareTarget::Create(Revision(5)))),
            (pb(2, 2, Some(TargetUnion::ModRevision(5))), is(Less, CompareTarget::Mod(Revision(5)))),
            (pb(3, 3, Some(TargetUnion::Value("v".into()))), is(NotEqual, CompareTarget::Value("v".into()))),
            (pb(0, 4, Some(TargetUnion::Lease(5))), is(Equal, CompareTarget::Lease(LeaseId(5)))),
            (pb(0, 4, None), is(Equal, CompareTarget::Lease(LeaseId(0)))),
            (pb(0, 2, Some(TargetUnion::Version(5))), is(Equal, CompareTarget::Mod(Revision(0)))),
            (pb(0, 3, Some(TargetUnion::Version(5))), is(Equal, CompareTarget::Value(Bytes::new()))),
            // Numbers that etcd has no name for.
            (pb(0, 9, None), None),
            (pb(9, 9, None), None),
            (pb(3, 9, None), is(Greater, CompareTarget::Version(i64::MAX))),
            (pb(9, 0, None), None),
            (pb(9, 3, None), is(NotEqual, CompareTarget::Version(0))),
        ];
        for (request, expected) in table {
            assert_eq!(compare(request.clone()), expected, "{request:?}");
        }
    }

    fn header(revision: i64) -> ResponseHeader {
        ResponseHeader { cluster_id: 1, member_id: 2, revision, raft_term: 3 }
    }

    #[test]
    fn answers_are_what_a_client_decodes() {
        let outcome = RangeOutcome { records: vec![record("a"), record("b")], more: true, count: 9 };
        let bytes = range_response(header(8), outcome).encode_to_vec();
        let answer = pb::RangeResponse::decode(&bytes[..]).unwrap();
        let kv = |key: &'static str| KeyValue {
            key: key.into(),
            create_revision: 3,
            mod_revision: 4,
            version: 2,
            value: "v".into(),
            lease: 7,
        };
        assert_eq!(
            answer,
            pb::RangeResponse { header: Some(header(8)), kvs: vec![kv("a"), kv("b")], more: true, count: 9 }
        );
        let put = put_response(header(8), PutOutcome { prev: Some(record("a")) }).encode_to_vec();
        assert_eq!(pb::PutResponse::decode(&put[..]).unwrap().prev_kv, Some(kv("a")));
        let delete = DeleteRangeOutcome { deleted: 1, prev: vec![record("b")] };
        let delete = delete_range_response(header(8), delete).encode_to_vec();
        let delete = pb::DeleteRangeResponse::decode(&delete[..]).unwrap();
        assert_eq!((delete.deleted, delete.prev_kvs), (1, vec![kv("b")]));
    }

    /// The revisions of all headers, outermost first, in order.
    fn revisions(txn: &served::TxnResponse) -> Vec<i64> {
        let mut all = vec![txn.header.unwrap().revision];
        for response in &txn.responses {
            match response.response.as_ref().unwrap() {
                served::Response::Range(range) => all.push(range.header.unwrap().revision),
                served::Response::Put(put) => all.push(put.header.unwrap().revision),
                served::Response::DeleteRange(delete) => all.push(delete.header.unwrap().revision),
                served::Response::Txn(txn) => all.extend(revisions(txn)),
            }
        }
        all
    }

    #[test]
    fn headers_inside_a_transaction_tell_the_revision_at_that_operation() {
        let range = || OpOutcome::Range(RangeOutcome::default());
        let put = || OpOutcome::Put(PutOutcome::default());
        let delete = |deleted| OpOutcome::DeleteRange(DeleteRangeOutcome { deleted, prev: vec![] });
        let txn = |responses| OpOutcome::Txn(TxnOutcome { succeeded: true, responses });
        let table = [
            (vec![], vec![10]),
            (vec![range(), delete(0)], vec![10, 10, 10]),
            (vec![range(), put(), range()], vec![10, 9, 10, 10]),
            (vec![delete(0), delete(2), delete(0)], vec![10, 9, 10, 10]),
            (vec![txn(vec![range(), put()]), range()], vec![10, 0, 9, 10, 10]),
            (vec![put(), txn(vec![range()])], vec![10, 10, 0, 10]),
            (vec![txn(vec![txn(vec![])])], vec![10, 0, 0]),
        ];
        for (responses, expected) in table {
            let answer = txn_response(header(10), TxnOutcome { succeeded: true, responses });
            assert_eq!(revisions(&answer), expected);
            assert_eq!(answer.header, Some(header(10)));
        }
        let inner = txn_response(header(10), TxnOutcome { succeeded: false, responses: vec![put()] });
        let served::Response::Put(put) = inner.responses[0].response.clone().unwrap() else { panic!() };
        assert_eq!(put.header, Some(ResponseHeader { revision: 10, ..Default::default() }));
    }

    #[test]
    fn alarms_in_a_status_read_as_in_etcd() {
        let alarm = ActiveAlarm { member: MemberId(255), kind: AlarmKind::NoSpace };
        assert_eq!(alarm_text(alarm), "memberID:255 alarm:NOSPACE ");
    }
}
