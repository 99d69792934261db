//! Every unary call that a command makes, as a method: etcd's API, and Barque's own beside it.

use barque_proto::admin;
use barque_proto::admin::admin_client::AdminClient;
use barque_proto::etcdserverpb as pb;
use barque_proto::etcdserverpb::auth_client::AuthClient;
use barque_proto::etcdserverpb::cluster_client::ClusterClient;
use barque_proto::etcdserverpb::kv_client::KvClient;
use barque_proto::etcdserverpb::lease_client::LeaseClient;
use barque_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use barque_proto::v3electionpb as election;
use barque_proto::v3electionpb::election_client::ElectionClient;
use barque_proto::v3lockpb as lock;
use barque_proto::v3lockpb::lock_client::LockClient;
use tonic::{Response, Status, Streaming};

use super::{Connection, MAX_REQUEST_BYTES, Repeat};
use crate::error::Failure;

/// Methods of [`Connection`]: `name(Request) -> Answer, whether another member may be asked`.
macro_rules! calls {
    ($($client:ident { $($method:ident($request:ty) -> $answer:ty, $repeat:ident;)* })*) => {
        impl Connection {$($(
            pub(crate) async fn $method(&self, request: $request) -> Result<$answer, Failure> {
                let (send, receive) = self.limits();
                let call = |service| {
                    let client = $client::new(service);
                    let mut client =
                        client.max_encoding_message_size(send).max_decoding_message_size(receive);
                    let request = request.clone();
                    async move { client.$method(request).await }
                };
                // A call's future holds the whole client; on the heap it does not swell its callers.
                Box::pin(self.call(Repeat::$repeat, call)).await
            }
        )*)*}
    };
}

calls! {
    KvClient {
        range(pb::RangeRequest) -> pb::RangeResponse, Yes;
        put(pb::PutRequest) -> pb::PutResponse, No;
        delete_range(pb::DeleteRangeRequest) -> pb::DeleteRangeResponse, No;
        txn(pb::TxnRequest) -> pb::TxnResponse, No;
        compact(pb::CompactionRequest) -> pb::CompactionResponse, No;
    }
    LeaseClient {
        lease_grant(pb::LeaseGrantRequest) -> pb::LeaseGrantResponse, No;
        lease_revoke(pb::LeaseRevokeRequest) -> pb::LeaseRevokeResponse, No;
        lease_time_to_live(pb::LeaseTimeToLiveRequest) -> pb::LeaseTimeToLiveResponse, Yes;
        lease_leases(pb::LeaseLeasesRequest) -> pb::LeaseLeasesResponse, Yes;
    }
    ClusterClient {
        member_add(pb::MemberAddRequest) -> pb::MemberAddResponse, No;
        member_remove(pb::MemberRemoveRequest) -> pb::MemberRemoveResponse, No;
        member_update(pb::MemberUpdateRequest) -> pb::MemberUpdateResponse, No;
        member_list(pb::MemberListRequest) -> pb::MemberListResponse, Yes;
        member_promote(pb::MemberPromoteRequest) -> pb::MemberPromoteResponse, No;
    }
    MaintenanceClient {
        alarm(pb::AlarmRequest) -> pb::AlarmResponse, No;
        status(pb::StatusRequest) -> pb::StatusResponse, Yes;
        defragment(pb::DefragmentRequest) -> pb::DefragmentResponse, No;
        hash_kv(pb::HashKvRequest) -> pb::HashKvResponse, Yes;
        move_leader(pb::MoveLeaderRequest) -> pb::MoveLeaderResponse, No;
        downgrade(pb::DowngradeRequest) -> pb::DowngradeResponse, No;
    }
    AuthClient {
        auth_enable(pb::AuthEnableRequest) -> pb::AuthEnableResponse, No;
        auth_disable(pb::AuthDisableRequest) -> pb::AuthDisableResponse, No;
        auth_status(pb::AuthStatusRequest) -> pb::AuthStatusResponse, Yes;
        user_add(pb::AuthUserAddRequest) -> pb::AuthUserAddResponse, No;
        user_get(pb::AuthUserGetRequest) -> pb::AuthUserGetResponse, Yes;
        user_list(pb::AuthUserListRequest) -> pb::AuthUserListResponse, Yes;
        user_delete(pb::AuthUserDeleteRequest) -> pb::AuthUserDeleteResponse, No;
        user_change_password(pb::AuthUserChangePasswordRequest) -> pb::AuthUserChangePasswordResponse, No;
        user_grant_role(pb::AuthUserGrantRoleRequest) -> pb::AuthUserGrantRoleResponse, No;
        user_revoke_role(pb::AuthUserRevokeRoleRequest) -> pb::AuthUserRevokeRoleResponse, No;
        role_add(pb::AuthRoleAddRequest) -> pb::AuthRoleAddResponse, No;
        role_get(pb::AuthRoleGetRequest) -> pb::AuthRoleGetResponse, Yes;
        role_list(pb::AuthRoleListRequest) -> pb::AuthRoleListResponse, Yes;
        role_delete(pb::AuthRoleDeleteRequest) -> pb::AuthRoleDeleteResponse, No;
        role_grant_permission(pb::AuthRoleGrantPermissionRequest) -> pb::AuthRoleGrantPermissionResponse, No;
        role_revoke_permission(pb::AuthRoleRevokePermissionRequest) -> pb::AuthRoleRevokePermissionResponse, No;
    }
    // With the same lease, asking again waits for the same place in the queue.
    LockClient {
        lock(lock::LockRequest) -> lock::LockResponse, Yes;
    }
    ElectionClient {
        campaign(election::CampaignRequest) -> election::CampaignResponse, Yes;
    }
    AdminClient {
        space(admin::SpaceRequest) -> admin::SpaceResponse, Yes;
        revision_at(admin::RevisionAtRequest) -> admin::RevisionAtResponse, Yes;
        time_of(admin::TimeOfRequest) -> admin::TimeOfResponse, Yes;
        list_snapshots(admin::ListSnapshotsRequest) -> admin::ListSnapshotsResponse, Yes;
    }
}

impl Connection {
    /// The largest request and answer, in bytes.
    pub(super) fn limits(&self) -> (usize, usize) {
        let or = |limit: usize, default: usize| if limit == 0 { default } else { limit };
        let settings = self.settings();
        (or(settings.max_request_bytes, MAX_REQUEST_BYTES), or(settings.max_recv_bytes, i32::MAX as usize))
    }

    /// Renews a lease once.
    pub(crate) async fn lease_keep_alive_once(&self, id: i64) -> Result<pb::LeaseKeepAliveResponse, Failure> {
        let call = |service| async move {
            let requests = tokio_stream::once(pb::LeaseKeepAliveRequest { id });
            let answers = LeaseClient::new(service).lease_keep_alive(requests).await?;
            first(answers).await
        };
        Box::pin(self.call(Repeat::Yes, call)).await
    }

    /// An election's leaders, one after the other. The stream ends with the member that is asked.
    pub(crate) async fn observe(&self, name: Vec<u8>) -> Result<Leaders, Failure> {
        let call = |service| {
            let request = election::LeaderRequest { name: name.clone().into() };
            async move { ElectionClient::new(service).observe(request).await }
        };
        Ok(Leaders(Box::pin(self.call(Repeat::Yes, call)).await?))
    }
}

impl Connection {
    /// What a member does, about once a second.
    pub(crate) async fn activity(&self, request: admin::ActivityRequest) -> Result<Activities, Failure> {
        let call = |service| {
            let request = request.clone();
            async move { AdminClient::new(service).activity(request).await }
        };
        Ok(Activities(Box::pin(self.call(Repeat::Yes, call)).await?))
    }
}

/// See [`Connection::activity`].
pub(crate) struct Activities(Streaming<admin::ActivityResponse>);

impl Activities {
    /// The next answer.
    ///
    /// # Errors
    /// When the stream has ended.
    pub(crate) async fn next(&mut self) -> Result<admin::ActivityResponse, Failure> {
        match self.0.message().await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(Failure::Interrupted("the server ended the stream".into())),
            Err(status) => Err(Failure::Interrupted(format!("the stream broke: {}", status.message()))),
        }
    }
}

async fn first<T>(answers: Response<Streaming<T>>) -> Result<Response<T>, Status> {
    let answer = answers.into_inner().message().await?;
    answer.map(Response::new).ok_or_else(|| Status::unavailable("the stream ended without an answer"))
}

/// See [`Connection::observe`].
pub(crate) struct Leaders(Streaming<election::LeaderResponse>);

impl Leaders {
    /// The next leader; `None` when the stream has ended.
    pub(crate) async fn next(&mut self) -> Option<election::LeaderResponse> {
        self.0.message().await.ok().flatten()
    }
}
