//! Answers in the form in which those of two stores can be compared: the one place where what cannot be equal is taken out.

use barque_proto::etcdserverpb as pb;
use tonic::{Code, Status};

use crate::call::{Call, Reply};
use crate::client::Client;

/// Seconds by which what is left of a lease may differ between two stores that were asked one after the other.
const TTL_TOLERANCE_S: i64 = 3;

/// What a store said to one call.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// A reply, without ids and terms.
    Reply(Reply),
    /// The code and the exact text.
    Error(Code, String),
}

/// Ids and terms belong to one cluster, so that only whether ids are there stays; the revision must be equal.
pub fn without_ids(header: &mut Option<pb::ResponseHeader>) {
    if let Some(header) = header {
        header.cluster_id = u64::from(header.cluster_id != 0);
        header.member_id = u64::from(header.member_id != 0);
        header.raft_term = 0;
    }
}

impl Answer {
    /// The comparable form of what came.
    #[must_use]
    pub fn of(result: Result<Reply, Status>) -> Self {
        match result {
            Err(status) => Self::Error(status.code(), status.message().to_owned()),
            Ok(mut reply) => {
                without_ids(reply.header_mut());
                match &mut reply {
                    // Both orders are those of a hash table or of the expiry to the nanosecond.
                    Reply::TimeToLive(reply) => reply.keys.sort(),
                    Reply::Leases(reply) => reply.leases.sort_by_key(|lease| lease.id),
                    _ => {}
                }
                Self::Reply(reply)
            }
        }
    }

    /// The store's revision after a successful request.
    #[must_use]
    pub fn revision(&self) -> Option<i64> {
        match self {
            Self::Reply(reply) => Some(reply.revision()),
            Self::Error(..) => None,
        }
    }

    /// Equal but for the seconds that pass between two questions about the same lease.
    #[must_use]
    pub fn agrees_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Reply(Reply::TimeToLive(one)), Self::Reply(Reply::TimeToLive(two)))
                if (one.ttl - two.ttl).abs() <= TTL_TOLERANCE_S =>
            {
                pb::LeaseTimeToLiveResponse { ttl: two.ttl, ..one.clone() } == *two
            }
            _ => self == other,
        }
    }
}

/// Sends the call and gives the comparable answer.
pub async fn ask(client: &Client, call: &Call) -> Answer {
    Answer::of(call.send(client).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(cluster_id: u64, member_id: u64, revision: i64) -> Option<pb::ResponseHeader> {
        Some(pb::ResponseHeader { cluster_id, member_id, revision, raft_term: cluster_id })
    }

    fn put(header: Option<pb::ResponseHeader>) -> Answer {
        Answer::of(Ok(Reply::Put(pb::PutResponse { header, prev_kv: None })))
    }

    fn left(ttl: i64, granted_ttl: i64, keys: [&'static str; 2]) -> Answer {
        let keys = keys.map(Into::into).to_vec();
        let header = header(1, 2, 3);
        let reply = pb::LeaseTimeToLiveResponse { header, id: 7, ttl, granted_ttl, keys };
        Answer::of(Ok(Reply::TimeToLive(reply)))
    }

    #[test]
    fn what_belongs_to_one_cluster_is_not_compared_and_everything_else_is() {
        let refused = |code, text: &str| Answer::of(Err(Status::new(code, text)));
        for (one, two, agree) in [
            (put(header(1, 2, 3)), put(header(4, 5, 3)), true),
            (put(header(1, 2, 3)), put(header(1, 2, 4)), false),
            (put(header(1, 2, 3)), put(header(1, 0, 3)), false),
            (put(header(1, 2, 3)), put(None), false),
            (left(59, 60, ["a", "b"]), left(58, 60, ["b", "a"]), true),
            (left(59, 60, ["a", "b"]), left(50, 60, ["a", "b"]), false),
            (left(59, 60, ["a", "b"]), left(59, 61, ["a", "b"]), false),
            (left(59, 60, ["a", "b"]), left(59, 60, ["a", "c"]), false),
            (refused(Code::NotFound, "a"), refused(Code::NotFound, "a"), true),
            (refused(Code::NotFound, "a"), refused(Code::NotFound, "b"), false),
            (refused(Code::NotFound, "a"), refused(Code::Unknown, "a"), false),
            (refused(Code::NotFound, "a"), put(None), false),
        ] {
            assert_eq!(one.agrees_with(&two), agree, "{one:?} and {two:?}");
            assert_eq!(two.agrees_with(&one), agree, "{two:?} and {one:?}");
        }
    }
}
