//! One request on the wire with every field it has, sent once, and the reply as it came.
//!
//! Workloads, replays and comparisons with etcd all send by this. Must never change a request, nor try it twice.

use barque_proto::etcdserverpb as pb;
use tonic::Status;

use crate::client::Client;

/// One unary request (or one keep-alive).
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// A read.
    Range(pb::RangeRequest),
    /// A write of one key.
    Put(pb::PutRequest),
    /// A deletion.
    Delete(pb::DeleteRangeRequest),
    /// A transaction.
    Txn(pb::TxnRequest),
    /// A compaction.
    Compact(pb::CompactionRequest),
    /// A new lease.
    Grant(pb::LeaseGrantRequest),
    /// The end of a lease.
    Revoke(pb::LeaseRevokeRequest),
    /// A renewal, on a stream of its own.
    KeepAlive(pb::LeaseKeepAliveRequest),
    /// What is left of a lease.
    TimeToLive(pb::LeaseTimeToLiveRequest),
    /// All leases.
    Leases(pb::LeaseLeasesRequest),
    /// A user gets a role.
    GrantRole(pb::AuthUserGrantRoleRequest),
    /// A user loses a role.
    RevokeRole(pb::AuthUserRevokeRoleRequest),
    /// Users and rights count from now on.
    AuthEnable(pb::AuthEnableRequest),
    /// Users and rights no longer count.
    AuthDisable(pb::AuthDisableRequest),
}

/// What a store replied to a call of the same name.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "each is the message that its name says")]
pub enum Reply {
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
    GrantRole(pb::AuthUserGrantRoleResponse),
    RevokeRole(pb::AuthUserRevokeRoleResponse),
    AuthEnable(pb::AuthEnableResponse),
    AuthDisable(pb::AuthDisableResponse),
}

macro_rules! send {
    ($client:expr, $method:ident, $request:expr, $reply:ident) => {
        Ok(Reply::$reply($client.clone().$method($request.clone()).await?.into_inner()))
    };
}

impl Call {
    /// Sends it to the member that `client` speaks with.
    ///
    /// # Errors
    /// What the store, or the way to it, said.
    pub async fn send(&self, client: &Client) -> Result<Reply, Status> {
        let Client { kv, lease, auth, .. } = client;
        match self {
            Self::Range(request) => send!(kv, range, request, Range),
            Self::Put(request) => send!(kv, put, request, Put),
            Self::Delete(request) => send!(kv, delete_range, request, Delete),
            Self::Txn(request) => send!(kv, txn, request, Txn),
            Self::Compact(request) => send!(kv, compact, request, Compact),
            Self::Grant(request) => send!(lease, lease_grant, request, Grant),
            Self::Revoke(request) => send!(lease, lease_revoke, request, Revoke),
            Self::KeepAlive(request) => client.lease_keep_alive(request.id).await.map(Reply::KeepAlive),
            Self::TimeToLive(request) => send!(lease, lease_time_to_live, request, TimeToLive),
            Self::Leases(request) => send!(lease, lease_leases, request, Leases),
            Self::GrantRole(request) => send!(auth, user_grant_role, request, GrantRole),
            Self::RevokeRole(request) => send!(auth, user_revoke_role, request, RevokeRole),
            Self::AuthEnable(request) => send!(auth, auth_enable, request, AuthEnable),
            Self::AuthDisable(request) => send!(auth, auth_disable, request, AuthDisable),
        }
    }
}

impl Reply {
    fn header(&self) -> &Option<pb::ResponseHeader> {
        match self {
            Self::Range(reply) => &reply.header,
            Self::Put(reply) => &reply.header,
            Self::Delete(reply) => &reply.header,
            Self::Txn(reply) => &reply.header,
            Self::Compact(reply) => &reply.header,
            Self::Grant(reply) => &reply.header,
            Self::Revoke(reply) => &reply.header,
            Self::KeepAlive(reply) => &reply.header,
            Self::TimeToLive(reply) => &reply.header,
            Self::Leases(reply) => &reply.header,
            Self::GrantRole(reply) => &reply.header,
            Self::RevokeRole(reply) => &reply.header,
            Self::AuthEnable(reply) => &reply.header,
            Self::AuthDisable(reply) => &reply.header,
        }
    }

    /// Its header, to be changed.
    pub fn header_mut(&mut self) -> &mut Option<pb::ResponseHeader> {
        match self {
            Self::Range(reply) => &mut reply.header,
            Self::Put(reply) => &mut reply.header,
            Self::Delete(reply) => &mut reply.header,
            Self::Txn(reply) => &mut reply.header,
            Self::Compact(reply) => &mut reply.header,
            Self::Grant(reply) => &mut reply.header,
            Self::Revoke(reply) => &mut reply.header,
            Self::KeepAlive(reply) => &mut reply.header,
            Self::TimeToLive(reply) => &mut reply.header,
            Self::Leases(reply) => &mut reply.header,
            Self::GrantRole(reply) => &mut reply.header,
            Self::RevokeRole(reply) => &mut reply.header,
            Self::AuthEnable(reply) => &mut reply.header,
            Self::AuthDisable(reply) => &mut reply.header,
        }
    }

    /// The revision in its header; 0 without a header.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.header().as_ref().map_or(0, |header| header.revision)
    }
}
