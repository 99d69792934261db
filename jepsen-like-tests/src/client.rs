//! A thin client of one member: every field of every request, every error exactly as it came.
//!
//! It never retries, never picks another member, never hides anything; that is what tests need and what other
//! clients do not give.

use std::time::Duration;

use barque_proto::admin;
use barque_proto::admin::admin_client::AdminClient;
use barque_proto::etcdserverpb as pb;
use barque_proto::etcdserverpb::auth_client::AuthClient;
use barque_proto::etcdserverpb::cluster_client::ClusterClient;
use barque_proto::etcdserverpb::kv_client::KvClient;
use barque_proto::etcdserverpb::lease_client::LeaseClient;
use barque_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use barque_proto::etcdserverpb::watch_client::WatchClient;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};

use crate::door::{self, Bearer, Credentials, Door};

/// A connection whose requests carry their user's token.
pub type Line = InterceptedService<Channel, Bearer>;

/// Requests that a watch stream may hold before sending waits.
const WATCH_REQUESTS: usize = 64;

/// A connection to one member.
#[derive(Clone, Debug)]
pub struct Client {
    /// KV calls.
    pub kv: KvClient<Line>,
    /// Lease calls.
    pub lease: LeaseClient<Line>,
    /// Watch streams.
    pub watch: WatchClient<Line>,
    /// Membership calls.
    pub cluster: ClusterClient<Line>,
    /// Maintenance calls.
    pub maintenance: MaintenanceClient<Line>,
    /// Users and roles.
    pub auth: AuthClient<Line>,
    /// Barque's own calls.
    pub admin: AdminClient<Line>,
    bearer: Bearer,
    user: Option<Credentials>,
}

impl Client {
    /// A client of the member at `url`; it connects with the first request.
    #[must_use]
    pub fn to(url: &str) -> Self {
        Self::through(url, &Door::default())
    }

    /// A client of the member at `url` that comes in so; it connects with the first request.
    #[must_use]
    pub fn through(url: &str, door: &Door) -> Self {
        let endpoint = Endpoint::from_shared(url.to_owned()).expect("the harness makes proper URLs");
        let endpoint = endpoint.connect_timeout(Duration::from_secs(2)).tcp_nodelay(true);
        let channel = match door.tls.clone() {
            None => endpoint.connect_lazy(),
            Some(tls) => endpoint
                .connect_with_connector_lazy(tower::service_fn(move |uri| door::open(uri, tls.clone()))),
        };
        let bearer = Bearer::default();
        let channel = InterceptedService::new(channel, bearer.clone());
        Self {
            kv: KvClient::new(channel.clone()).max_decoding_message_size(usize::MAX),
            lease: LeaseClient::new(channel.clone()),
            watch: WatchClient::new(channel.clone()).max_decoding_message_size(usize::MAX),
            cluster: ClusterClient::new(channel.clone()),
            maintenance: MaintenanceClient::new(channel.clone()),
            auth: AuthClient::new(channel.clone()),
            admin: AdminClient::new(channel),
            bearer,
            user: door.user.clone(),
        }
    }

    /// Puts `value` at `key`.
    pub async fn put(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> Result<pb::PutResponse, Status> {
        let request = pb::PutRequest { key: key.into(), value: value.into(), ..Default::default() };
        Ok(self.kv.clone().put(request).await?.into_inner())
    }

    /// Any range.
    pub async fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, Status> {
        Ok(self.kv.clone().range(request).await?.into_inner())
    }

    /// The key's value by a linearizable read, or `None`.
    pub async fn get(&self, key: impl Into<Bytes>) -> Result<Option<Bytes>, Status> {
        let answer = self.range(pb::RangeRequest { key: key.into(), ..Default::default() }).await?;
        Ok(answer.kvs.into_iter().next().map(|kv| kv.value))
    }

    /// The store's revision by a linearizable read.
    pub async fn revision(&self) -> Result<i64, Status> {
        let request = pb::RangeRequest { key: "revision".into(), count_only: true, ..Default::default() };
        Ok(self.range(request).await?.header.map_or(0, |header| header.revision))
    }

    /// Any transaction.
    pub async fn txn(&self, request: pb::TxnRequest) -> Result<pb::TxnResponse, Status> {
        Ok(self.kv.clone().txn(request).await?.into_inner())
    }

    /// Grants a lease of `ttl_s` seconds; id 0 lets the server choose.
    pub async fn lease_grant(&self, id: i64, ttl_s: i64) -> Result<pb::LeaseGrantResponse, Status> {
        let request = pb::LeaseGrantRequest { id, ttl: ttl_s };
        Ok(self.lease.clone().lease_grant(request).await?.into_inner())
    }

    /// What is left of a lease.
    pub async fn lease_time_to_live(
        &self,
        id: i64,
        keys: bool,
    ) -> Result<pb::LeaseTimeToLiveResponse, Status> {
        let request = pb::LeaseTimeToLiveRequest { id, keys };
        Ok(self.lease.clone().lease_time_to_live(request).await?.into_inner())
    }

    /// One keep-alive, on a stream of its own.
    pub async fn lease_keep_alive(&self, id: i64) -> Result<pb::LeaseKeepAliveResponse, Status> {
        let requests = tokio_stream::once(pb::LeaseKeepAliveRequest { id });
        let mut answers = self.lease.clone().lease_keep_alive(requests).await?.into_inner();
        answers.message().await?.ok_or_else(|| Status::unavailable("the stream ended without an answer"))
    }

    /// The member's status.
    pub async fn status(&self) -> Result<pb::StatusResponse, Status> {
        Ok(self.maintenance.clone().status(pb::StatusRequest {}).await?.into_inner())
    }

    /// The member's hash of the keyspace at `revision` (0: the newest).
    pub async fn hash_kv(&self, revision: i64) -> Result<pb::HashKvResponse, Status> {
        Ok(self.maintenance.clone().hash_kv(pb::HashKvRequest { revision }).await?.into_inner())
    }

    /// Who takes how much space.
    pub async fn space(&self, request: admin::SpaceRequest) -> Result<admin::SpaceResponse, Status> {
        Ok(self.admin.clone().space(request).await?.into_inner())
    }

    /// When revisions were made.
    pub async fn time_of(&self, revisions: Vec<i64>) -> Result<Vec<admin::RevisionTime>, Status> {
        Ok(self.admin.clone().time_of(admin::TimeOfRequest { revisions }).await?.into_inner().times)
    }

    /// Adds a member that will listen at `peer_url`, with a vote or as a learner.
    pub async fn member_add(&self, peer_url: &str, learner: bool) -> Result<pb::MemberAddResponse, Status> {
        let request = pb::MemberAddRequest { peer_ur_ls: vec![peer_url.to_owned()], is_learner: learner };
        Ok(self.cluster.clone().member_add(request).await?.into_inner())
    }

    /// Removes the member with this id.
    pub async fn member_remove(&self, id: u64) -> Result<pb::MemberRemoveResponse, Status> {
        Ok(self.cluster.clone().member_remove(pb::MemberRemoveRequest { id }).await?.into_inner())
    }

    /// The token that a user gets for its password.
    pub async fn log_in(&self, name: &str, password: &str) -> Result<String, Status> {
        let request = pb::AuthenticateRequest { name: name.to_owned(), password: password.to_owned() };
        Ok(self.auth.clone().authenticate(request).await?.into_inner().token)
    }

    /// Logs in, if this client has a user and its last login is not good any more. Whether requests can be sent.
    pub async fn enter(&self) -> bool {
        match &self.user {
            Some(user) if self.bearer.is_needed() => {
                self.bearer.logged_in(self.log_in(&user.name, &user.password).await)
            }
            _ => true,
        }
    }

    /// Looks at a refusal; if it was about the login, the next request needs another one.
    pub fn refused(&self, status: &Status) {
        self.bearer.refused(status);
    }

    /// Opens a stream with one watch on it.
    pub async fn watch(&self, first: pb::WatchCreateRequest) -> Result<WatchStream, Status> {
        self.watch_as(first, None).await
    }

    /// Opens a stream with one watch on it, in the name of a token's user.
    pub async fn watch_as(
        &self,
        first: pb::WatchCreateRequest,
        token: Option<&str>,
    ) -> Result<WatchStream, Status> {
        let (requests, receiver) = mpsc::channel(WATCH_REQUESTS);
        let create = pb::watch_request::RequestUnion::CreateRequest(first);
        let send = requests.send(pb::WatchRequest { request_union: Some(create) });
        send.await.map_err(|_| Status::unavailable("the stream has ended"))?;
        let answers =
            self.watch.clone().watch(with_token(ReceiverStream::new(receiver), token)).await?.into_inner();
        Ok(WatchStream { requests, answers })
    }
}

/// The request with the token of its user; without one, as it is.
#[must_use]
pub fn with_token<T>(request: T, token: Option<&str>) -> Request<T> {
    let mut request = Request::new(request);
    if let Some(token) = token {
        let token = token.parse().expect("tokens are made for headers");
        request.metadata_mut().insert("token", token);
    }
    request
}

/// A watch stream with any number of watches.
#[derive(Debug)]
pub struct WatchStream {
    requests: mpsc::Sender<pb::WatchRequest>,
    answers: Streaming<pb::WatchResponse>,
}

impl WatchStream {
    async fn send(&self, request: pb::watch_request::RequestUnion) -> Result<(), Status> {
        let request = pb::WatchRequest { request_union: Some(request) };
        self.requests.send(request).await.map_err(|_| Status::unavailable("the stream has ended"))
    }

    /// Asks for another watch on this stream.
    pub async fn create(&self, request: pb::WatchCreateRequest) -> Result<(), Status> {
        self.send(pb::watch_request::RequestUnion::CreateRequest(request)).await
    }

    /// Ends a watch of this stream.
    pub async fn cancel(&self, watch_id: i64) -> Result<(), Status> {
        let request = pb::WatchCancelRequest { watch_id };
        self.send(pb::watch_request::RequestUnion::CancelRequest(request)).await
    }

    /// Asks how far the stream has come.
    pub async fn progress(&self) -> Result<(), Status> {
        self.send(pb::watch_request::RequestUnion::ProgressRequest(pb::WatchProgressRequest {})).await
    }

    /// The next answer; DEADLINE_EXCEEDED when none comes within `patience`.
    pub async fn next(&mut self, patience: Duration) -> Result<pb::WatchResponse, Status> {
        match timeout(patience, self.answers.message()).await {
            Ok(Ok(Some(answer))) => Ok(answer),
            Ok(Ok(None)) => Err(Status::unavailable("the stream has ended")),
            Ok(Err(status)) => Err(status),
            Err(_) => Err(Status::new(Code::DeadlineExceeded, "nothing came on the watch stream")),
        }
    }
}
