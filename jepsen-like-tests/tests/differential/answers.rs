//! Answers in the form in which two stores can be compared.

use barque_proto::etcdserverpb as pb;
use jepsen_like_tests::client::Client;
use tonic::{Code, Status};

use crate::requests::Request;

/// What a store said to one request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Range(pb::RangeResponse),
    Put(pb::PutResponse),
    Delete(pb::DeleteRangeResponse),
    Txn(pb::TxnResponse),
    Compact(pb::CompactionResponse),
    Grant(pb::LeaseGrantResponse),
    Revoke(pb::LeaseRevokeResponse),
    KeepAlive(pb::LeaseKeepAliveResponse),
    TimeToLive(pb::LeaseTimeToLiveResponse),
    Leases(pb::LeaseLeasesResponse),
    /// The code and the exact text.
    Error(Code, String),
}

/// Ids and terms belong to one cluster; the revision must be equal.
pub(crate) fn without_ids(header: &mut Option<pb::ResponseHeader>) {
    if let Some(header) = header {
        assert!(header.cluster_id != 0 && header.member_id != 0, "a header without ids: {header:?}");
        (header.cluster_id, header.member_id, header.raft_term) = (0, 0, 0);
    }
}

macro_rules! call {
    ($client:expr, $method:ident, $request:expr, $variant:ident) => {
        $client.$method($request.clone()).await.map(|answer| {
            let mut answer = answer.into_inner();
            without_ids(&mut answer.header);
            Answer::$variant(answer)
        })
    };
}

/// Sends the request and returns the comparable answer.
pub(crate) async fn ask(client: &Client, request: &Request) -> Answer {
    let mut kv = client.kv.clone();
    let mut lease = client.lease.clone();
    let answer: Result<Answer, Status> = match request {
        Request::Range(request) => call!(kv, range, request, Range),
        Request::Put(request) => call!(kv, put, request, Put),
        Request::Delete(request) => call!(kv, delete_range, request, Delete),
        Request::Txn(request) => call!(kv, txn, request, Txn),
        Request::Compact(request) => call!(kv, compact, request, Compact),
        Request::Grant(request) => call!(lease, lease_grant, request, Grant),
        Request::Revoke(request) => call!(lease, lease_revoke, request, Revoke),
        Request::KeepAlive(request) => client.lease_keep_alive(request.id).await.map(|mut answer| {
            without_ids(&mut answer.header);
            Answer::KeepAlive(answer)
        }),
        Request::TimeToLive(request) => call!(lease, lease_time_to_live, request, TimeToLive),
        Request::Leases(request) => call!(lease, lease_leases, request, Leases),
    };
    match answer {
        // Both orders are those of a hash table or of the expiry to the nanosecond.
        Ok(Answer::TimeToLive(mut answer)) => {
            answer.keys.sort();
            Answer::TimeToLive(answer)
        }
        Ok(Answer::Leases(mut answer)) => {
            answer.leases.sort_by_key(|lease| lease.id);
            Answer::Leases(answer)
        }
        Ok(answer) => answer,
        Err(status) => Answer::Error(status.code(), status.message().to_owned()),
    }
}

impl Answer {
    /// The store's revision after a successful request.
    pub(crate) fn revision(&self) -> Option<i64> {
        let header = match self {
            Self::Range(answer) => &answer.header,
            Self::Put(answer) => &answer.header,
            Self::Delete(answer) => &answer.header,
            Self::Txn(answer) => &answer.header,
            Self::Compact(answer) => &answer.header,
            Self::Grant(answer) => &answer.header,
            Self::Revoke(answer) => &answer.header,
            Self::KeepAlive(answer) => &answer.header,
            Self::TimeToLive(answer) => &answer.header,
            Self::Leases(answer) => &answer.header,
            Self::Error(..) => return None,
        };
        header.as_ref().map(|header| header.revision)
    }

    /// Equal but for the seconds that pass between two questions about the same lease.
    pub(crate) fn agrees_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::TimeToLive(one), Self::TimeToLive(two)) if (one.ttl - two.ttl).abs() <= 3 => {
                pb::LeaseTimeToLiveResponse { ttl: two.ttl, ..one.clone() } == *two
            }
            _ => self == other,
        }
    }
}
