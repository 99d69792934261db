//! The services over a real channel on the loopback, with the fake member behind them.

mod admin;

use std::sync::Arc;

use barque_proto::etcdserverpb as pb;
use barque_proto::etcdserverpb::cluster_client::ClusterClient;
use barque_proto::etcdserverpb::compare::TargetUnion;
use barque_proto::etcdserverpb::kv_client::KvClient;
use barque_proto::etcdserverpb::lease_client::LeaseClient;
use barque_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use barque_proto::etcdserverpb::request_op::Request as Op;
use barque_proto::etcdserverpb::response_op::Response as OpResponse;
use barque_proto::health::HealthCheckRequest;
use barque_proto::health::health_client::HealthClient;
use barque_proto::v3electionpb::election_client::ElectionClient;
use barque_proto::v3electionpb::{CampaignRequest, LeaderRequest, ProclaimRequest, ResignRequest};
use barque_proto::v3lockpb::lock_client::LockClient;
use barque_proto::v3lockpb::{LockRequest, UnlockRequest};
use futures::StreamExt;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Status};

use super::backend::{Backend, ReadView};
use super::fake::{Fake, LEARNER, OTHER, OWN};
use super::{VERSION, Watches, routes};
use crate::command::{AlarmKind, Command, CommandError};
use crate::event::Event;
use crate::ids::Revision;
use crate::watch::{History, HubLimits, WatchConfig, WatchHub};

/// A fake member that serves, and a channel to it. The server ends with this value.
pub(super) struct Member {
    pub(super) fake: Fake,
    pub(super) channel: Channel,
    _server: JoinSet<Result<(), tonic::transport::Error>>,
}

/// History without events: watches have their own tests.
struct NoHistory;

impl History for NoHistory {
    fn revision(&self) -> Revision {
        Revision::EMPTY
    }

    fn compact_revision(&self) -> Revision {
        Revision(-1)
    }

    fn read(&self, _: Revision, _: usize, _: usize) -> Result<Vec<Event>, CommandError> {
        Ok(Vec::new())
    }

    fn is_cold(&self, _: Revision) -> bool {
        false
    }
}

fn no_watches() -> Watches {
    let hub = Arc::new(WatchHub::new(Revision::EMPTY, HubLimits::default()));
    Watches { hub, history: Arc::new(NoHistory), config: WatchConfig::default() }
}

impl Member {
    pub(super) async fn start() -> Self {
        let fake = Fake::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = JoinSet::new();
        server.spawn(
            Server::builder()
                .add_routes(routes(&fake, no_watches()))
                .serve_with_incoming(TcpIncoming::from(listener)),
        );
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        Self { fake, channel, _server: server }
    }

    fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone())
    }

    fn lease(&self) -> LeaseClient<Channel> {
        LeaseClient::new(self.channel.clone())
    }

    fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel.clone())
    }

    async fn put(&self, key: &'static str, value: &'static str) -> i64 {
        let answer = self.kv().put(put(key, value)).await.unwrap().into_inner();
        answer.header.unwrap().revision
    }
}

fn put(key: &'static str, value: &'static str) -> pb::PutRequest {
    pb::PutRequest { key: key.into(), value: value.into(), ..Default::default() }
}

fn get(key: &'static str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.into(), ..Default::default() }
}

fn op(request: Op) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

fn header(revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { cluster_id: 1, member_id: 2, revision, raft_term: 5 })
}

fn error<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.unwrap_err();
    (status.code(), status.message().to_owned())
}

fn with_leader<T>(request: T) -> Request<T> {
    let mut request = Request::new(request);
    request.metadata_mut().insert("hasleader", "true".parse().unwrap());
    request
}

#[tokio::test]
async fn keys_are_put_read_and_deleted() {
    let member = Member::start().await;
    let mut kv = member.kv();
    assert_eq!(member.put("a", "1").await, 2);
    let again = kv.put(pb::PutRequest { prev_kv: true, ..put("a", "2") }).await.unwrap().into_inner();
    assert_eq!(again.header, header(3));
    assert_eq!(again.prev_kv.unwrap().value, "1");

    let read = kv.range(get("a")).await.unwrap().into_inner();
    assert_eq!((read.header, read.count, read.more), (header(3), 1, false));
    let only = &read.kvs[0];
    assert_eq!((&only.value[..], only.version, only.create_revision), (&b"2"[..], 2, 2));

    let delete = pb::DeleteRangeRequest { key: "a".into(), prev_kv: true, ..Default::default() };
    let gone = kv.delete_range(delete.clone()).await.unwrap().into_inner();
    assert_eq!((gone.header, gone.deleted), (header(4), 1));
    assert_eq!(gone.prev_kvs[0].value, "2");
    let nothing = kv.delete_range(delete).await.unwrap().into_inner();
    assert_eq!((nothing.header, nothing.deleted), (header(4), 0));
}

#[tokio::test]
async fn only_linearizable_reads_ask_the_leader_and_reads_are_never_proposed() {
    let member = Member::start().await;
    let mut kv = member.kv();
    let serializable = || pb::RangeRequest { serializable: true, ..get("a") };
    kv.range(serializable()).await.unwrap();
    let txn = |range| pb::TxnRequest { success: vec![op(Op::RequestRange(range))], ..Default::default() };
    kv.txn(txn(serializable())).await.unwrap();
    assert_eq!(member.fake.barriers(), 0);
    kv.range(get("a")).await.unwrap();
    kv.txn(txn(get("a"))).await.unwrap();
    assert_eq!(member.fake.barriers(), 2);
    assert_eq!(member.fake.proposals(), []);
}

#[tokio::test]
async fn transactions_answer_with_etcds_headers() {
    let member = Member::start().await;
    let mut kv = member.kv();
    let request = pb::TxnRequest {
        compare: vec![pb::Compare {
            key: "a".into(),
            target: pb::compare::CompareTarget::Create.into(),
            target_union: Some(TargetUnion::CreateRevision(0)),
            ..Default::default()
        }],
        success: vec![op(Op::RequestRange(get("a"))), op(Op::RequestPut(put("a", "1")))],
        failure: vec![op(Op::RequestRange(get("a")))],
    };
    let first = kv.txn(request.clone()).await.unwrap().into_inner();
    assert_eq!((first.header, first.succeeded), (header(2), true));
    let inner = |revision| Some(pb::ResponseHeader { revision, ..Default::default() });
    match (&first.responses[0].response, &first.responses[1].response) {
        (Some(OpResponse::ResponseRange(range)), Some(OpResponse::ResponsePut(put))) => {
            assert_eq!((range.header, put.header), (inner(1), inner(2)));
        }
        other => panic!("{other:?}"),
    }
    let second = kv.txn(request).await.unwrap().into_inner();
    assert_eq!((second.header, second.succeeded), (header(2), false));
    let Some(OpResponse::ResponseRange(range)) = &second.responses[0].response else { panic!() };
    assert_eq!((range.header, &range.kvs[0].value[..]), (inner(2), &b"1"[..]));
}

#[tokio::test]
async fn wrong_requests_are_refused_before_anything_is_proposed() {
    let member = Member::start().await;
    let mut kv = member.kv();
    let invalid = |text: &str| (Code::InvalidArgument, format!("etcdserver: {text}"));
    assert_eq!(error(kv.range(get("")).await), invalid("key is not provided"));
    assert_eq!(error(kv.put(put("", "v")).await), invalid("key is not provided"));
    let ignoring = pb::PutRequest { ignore_value: true, ..put("a", "v") };
    assert_eq!(error(kv.put(ignoring).await), invalid("value is provided"));
    let sorted = pb::RangeRequest { sort_order: 7, ..get("a") };
    assert_eq!(error(kv.range(sorted).await), invalid("invalid sort option"));
    let twice = pb::TxnRequest { success: vec![op(Op::RequestPut(put("a", "1"))); 2], ..Default::default() };
    assert_eq!(error(kv.txn(twice).await), invalid("duplicate key given in txn request"));
    let many = pb::TxnRequest { success: vec![op(Op::RequestRange(get("a"))); 9], ..Default::default() };
    assert_eq!(error(kv.txn(many).await), invalid("too many operations in txn request"));
    let large = pb::PutRequest { value: vec![0; 64 * 1024].into(), ..put("a", "") };
    assert_eq!(error(kv.put(large).await), invalid("request is too large"));
    let oversized = pb::PutRequest { value: vec![0; 700 * 1024].into(), ..put("a", "") };
    let limit = 64 * 1024 + 512 * 1024;
    assert_eq!(
        error(kv.put(oversized).await),
        (
            Code::ResourceExhausted,
            format!("grpc: received message larger than max ({} vs. {limit})", 700 * 1024 + 7)
        )
    );
    assert_eq!(member.fake.proposals(), []);
    let future = pb::RangeRequest { revision: 99, ..get("a") };
    assert_eq!(
        error(kv.range(future).await),
        (Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision".to_owned())
    );
}

#[tokio::test]
async fn a_full_store_refuses_puts_and_raises_its_alarm_once() {
    let member = Member::start().await;
    member.put("a", "1").await;
    member.fake.fill_up();
    let full = (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded".to_owned());
    assert_eq!(error(member.kv().put(put("a", "2")).await), full);
    assert_eq!(error(member.lease().lease_grant(pb::LeaseGrantRequest { ttl: 9, id: 0 }).await), full);
    let raised = Command::Alarm { raise: true, member: OWN, kind: AlarmKind::NoSpace };
    assert_eq!(member.fake.proposals()[1..], [raised]);
    let delete = pb::DeleteRangeRequest { key: "a".into(), ..Default::default() };
    assert_eq!(member.kv().delete_range(delete).await.unwrap().into_inner().deleted, 1);

    let listed = member.maintenance().alarm(pb::AlarmRequest::default()).await.unwrap().into_inner();
    let alarm = pb::AlarmMember { member_id: 2, alarm: pb::AlarmType::Nospace.into() };
    assert_eq!(listed.alarms, std::slice::from_ref(&alarm));
    let disarm = pb::AlarmRequest { action: 2, member_id: 2, alarm: 1 };
    let disarmed = member.maintenance().alarm(disarm).await.unwrap().into_inner();
    assert_eq!(disarmed.alarms, [alarm]);
    let listed = member.maintenance().alarm(pb::AlarmRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.alarms, []);
}

#[tokio::test]
async fn ranges_are_streamed_in_chunks() {
    let member = Member::start().await;
    for i in 0..25 {
        let key = format!("k{i:02}");
        member.kv().put(pb::PutRequest { key: key.into(), ..Default::default() }).await.unwrap();
    }
    let all = || pb::RangeRequest { range_end: "l".into(), ..get("k") };
    let stream = member.kv().range_stream(all()).await.unwrap().into_inner();
    let chunks: Vec<_> = stream.map(|chunk| chunk.unwrap().range_response.unwrap()).collect().await;
    assert_eq!(chunks.iter().map(|chunk| chunk.kvs.len()).collect::<Vec<_>>(), [10, 15]);
    assert_eq!((chunks[0].header, chunks[1].header, chunks[1].count), (None, header(26), 25));
    let sorted = pb::RangeRequest { sort_order: 2, ..all() };
    assert_eq!(
        error(member.kv().range_stream(sorted).await),
        (Code::Unimplemented, "RangeStream does not support custom sort orders".to_owned())
    );
}

#[tokio::test]
async fn compaction() {
    let member = Member::start().await;
    member.put("a", "1").await;
    let compact = |revision| pb::CompactionRequest { revision, physical: true };
    let done = member.kv().compact(compact(2)).await.unwrap().into_inner();
    assert_eq!(done.header, header(2));
    let out_of_range = |text: &str| (Code::OutOfRange, format!("etcdserver: mvcc: required revision {text}"));
    assert_eq!(error(member.kv().compact(compact(2)).await), out_of_range("has been compacted"));
    assert_eq!(error(member.kv().compact(compact(3)).await), out_of_range("is a future revision"));
}

#[tokio::test]
async fn leases() {
    let member = Member::start().await;
    let mut lease = member.lease();
    let picked = lease.lease_grant(pb::LeaseGrantRequest { ttl: 1, id: 0 }).await.unwrap().into_inner();
    assert!(picked.id > 0);
    assert_eq!((picked.ttl, picked.header), (2, header(1)));
    let chosen = pb::LeaseGrantRequest { ttl: 60, id: 7 };
    assert_eq!(lease.lease_grant(chosen).await.unwrap().into_inner().ttl, 60);
    assert_eq!(
        error(lease.lease_grant(chosen).await),
        (Code::FailedPrecondition, "etcdserver: lease already exists".to_owned())
    );
    let long = pb::LeaseGrantRequest { ttl: 9_000_000_001, id: 0 };
    assert_eq!(
        error(lease.lease_grant(long).await),
        (Code::OutOfRange, "etcdserver: too large lease TTL".to_owned())
    );
    let listed = lease.lease_leases(pb::LeaseLeasesRequest {}).await.unwrap().into_inner().leases;
    assert_eq!(listed, [pb::LeaseStatus { id: 7 }, pb::LeaseStatus { id: picked.id }]);

    member.kv().put(pb::PutRequest { lease: 7, ..put("a", "1") }).await.unwrap();
    let ttl = |id| pb::LeaseTimeToLiveRequest { id, keys: true };
    let lives = lease.lease_time_to_live(ttl(7)).await.unwrap().into_inner();
    assert_eq!((lives.ttl, lives.granted_ttl, &lives.keys[..]), (59, 60, &["a".into()][..]));
    let missing = lease.lease_time_to_live(ttl(8)).await.unwrap().into_inner();
    assert_eq!((missing.id, missing.ttl, missing.granted_ttl), (8, -1, 0));

    let ids = [7, 8, 0].map(|id| pb::LeaseKeepAliveRequest { id });
    let answers = lease.lease_keep_alive(futures::stream::iter(ids)).await.unwrap().into_inner();
    let answers: Vec<_> = answers.map(|answer| answer.unwrap()).map(|a| (a.id, a.ttl)).collect().await;
    assert_eq!(answers, [(7, 60), (8, 0), (0, 0)]);

    let revoked = lease.lease_revoke(pb::LeaseRevokeRequest { id: 7 }).await.unwrap().into_inner();
    assert_eq!(revoked.header, header(3));
    assert_eq!(member.kv().range(get("a")).await.unwrap().into_inner().count, 0);
    for id in [7, 0] {
        assert_eq!(
            error(lease.lease_revoke(pb::LeaseRevokeRequest { id }).await),
            (Code::NotFound, "etcdserver: requested lease not found".to_owned())
        );
    }
}

#[tokio::test]
async fn members_come_and_go() {
    let member = Member::start().await;
    let mut cluster = ClusterClient::new(member.channel.clone());
    let listed =
        cluster.member_list(pb::MemberListRequest { linearizable: true }).await.unwrap().into_inner();
    assert_eq!((listed.header, listed.members.len(), member.fake.barriers()), (header(0), 3, 1));
    let add = |url: &str| pb::MemberAddRequest { peer_ur_ls: vec![url.to_owned()], is_learner: true };
    assert_eq!(
        error(cluster.member_add(add("nonsense")).await),
        (Code::InvalidArgument, "etcdserver: given member URLs are invalid".to_owned())
    );
    let added = cluster.member_add(add("http://127.0.0.1:9")).await.unwrap().into_inner();
    assert_eq!((added.members.len(), added.member.unwrap().id), (4, 9));
    let promoted = cluster.member_promote(pb::MemberPromoteRequest { id: 9 }).await.unwrap().into_inner();
    assert!(!promoted.members[3].is_learner);
    let urls = vec!["http://127.0.0.1:10".to_owned()];
    let update = pb::MemberUpdateRequest { id: 9, peer_ur_ls: urls.clone() };
    let updated = cluster.member_update(update).await.unwrap().into_inner();
    assert_eq!(updated.members[3].peer_ur_ls, urls);
    let invalid = |id| pb::MemberUpdateRequest { id, peer_ur_ls: vec!["nonsense".to_owned()] };
    assert_eq!(error(cluster.member_update(invalid(9)).await).0, Code::InvalidArgument);
    assert_eq!(error(cluster.member_update(invalid(8)).await).0, Code::NotFound);
    let remove = pb::MemberRemoveRequest { id: 9 };
    assert_eq!(cluster.member_remove(remove).await.unwrap().into_inner().members.len(), 3);
    assert_eq!(
        error(cluster.member_remove(remove).await),
        (Code::NotFound, "etcdserver: member not found".to_owned())
    );
}

#[tokio::test]
async fn maintenance() {
    let member = Member::start().await;
    let mut maintenance = member.maintenance();
    let status = maintenance.status(pb::StatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.header, &status.version[..], status.leader), (header(1), VERSION, OWN.0));
    assert_eq!((status.raft_index, status.raft_applied_index, status.raft_term), (20, 19, 5));
    assert_eq!((status.db_size, status.db_size_in_use, status.errors.len()), (4096, 1024, 0));
    assert_eq!(maintenance.defragment(pb::DefragmentRequest {}).await.unwrap().into_inner().header, None);
    assert_eq!(maintenance.hash(pb::HashRequest {}).await.unwrap().into_inner().hash, 77);
    let hashed = maintenance.hash_kv(pb::HashKvRequest { revision: 0 }).await.unwrap().into_inner();
    assert_eq!((hashed.hash, hashed.compact_revision, hashed.hash_revision), (78, -1, 1));

    let messages = maintenance.snapshot(pb::SnapshotRequest {}).await.unwrap().into_inner();
    let messages: Vec<_> = messages.map(|message| message.unwrap()).collect().await;
    assert_eq!(messages.iter().map(|m| m.remaining_bytes).collect::<Vec<_>>(), [512, 212, 0, 0]);
    assert_eq!(messages[0].header, header(1));
    let content = [&messages[0].blob[..], &messages[1].blob[..], &messages[2].blob[..]].concat();
    assert_eq!(&messages[3].blob[..], &Sha256::digest(content)[..]);

    let cancel = pb::DowngradeRequest { action: 2, version: String::new() };
    assert_eq!(maintenance.downgrade(cancel).await.unwrap().into_inner().version, "3.6");

    let to = |target: u64| pb::MoveLeaderRequest { target_id: target };
    for target in [LEARNER.0, 99] {
        assert_eq!(
            error(maintenance.move_leader(to(target)).await),
            (Code::FailedPrecondition, "etcdserver: bad leader transferee".to_owned())
        );
    }
    maintenance.move_leader(to(OTHER.0)).await.unwrap();
    assert_eq!(
        error(maintenance.move_leader(to(OTHER.0)).await),
        (Code::FailedPrecondition, "etcdserver: not leader".to_owned())
    );
}

#[tokio::test]
async fn a_learner_serves_three_calls_alone() {
    let member = Member::start().await;
    member.fake.become_learner();
    let refused = (Code::FailedPrecondition, "etcdserver: rpc not supported for learner".to_owned());
    let mut kv = member.kv();
    kv.range(pb::RangeRequest { serializable: true, ..get("a") }).await.unwrap();
    member.maintenance().status(pb::StatusRequest {}).await.unwrap();
    member.maintenance().snapshot(pb::SnapshotRequest {}).await.unwrap();
    assert_eq!(error(kv.range(get("a")).await), refused);
    assert_eq!(error(kv.put(put("a", "1")).await), refused);
    assert_eq!(error(kv.txn(pb::TxnRequest::default()).await), refused);
    assert_eq!(error(kv.range_stream(pb::RangeRequest { serializable: true, ..get("a") }).await), refused);
    assert_eq!(error(member.lease().lease_leases(pb::LeaseLeasesRequest {}).await), refused);
    assert_eq!(error(member.maintenance().hash(pb::HashRequest {}).await), refused);
    let mut cluster = ClusterClient::new(member.channel.clone());
    assert_eq!(error(cluster.member_list(pb::MemberListRequest::default()).await), refused);
    let mut lock = LockClient::new(member.channel.clone());
    assert_eq!(error(lock.unlock(UnlockRequest::default()).await), refused);
    assert_eq!(member.fake.proposals(), []);
}

#[tokio::test]
async fn calls_that_require_a_leader_fail_without_one() {
    let member = Member::start().await;
    let no_leader = (Code::Unavailable, "etcdserver: no leader".to_owned());
    let forever = || futures::stream::pending::<pb::LeaseKeepAliveRequest>();
    let mut lease = member.lease();
    let mut cut_off = lease.lease_keep_alive(with_leader(forever())).await.unwrap().into_inner();
    let mut patient = lease.lease_keep_alive(forever()).await.unwrap().into_inner();
    let serializable = || pb::RangeRequest { serializable: true, ..get("a") };
    member.kv().range(with_leader(serializable())).await.unwrap();

    member.fake.lose_leader();
    assert_eq!(error(cut_off.message().await), no_leader);
    assert_eq!(error(member.kv().range(with_leader(serializable())).await), no_leader);
    member.kv().range(serializable()).await.unwrap();
    assert_eq!(
        member.maintenance().status(pb::StatusRequest {}).await.unwrap().into_inner().errors,
        ["etcdserver: no leader"]
    );

    member.fake.shutdown().cancel();
    assert_eq!(error(patient.message().await), (Code::Unavailable, "etcdserver: server stopped".to_owned()));
}

#[tokio::test]
async fn health() {
    let member = Member::start().await;
    let mut health = HealthClient::new(member.channel.clone());
    let of = |service: &str| HealthCheckRequest { service: service.to_owned() };
    assert_eq!(health.check(of("")).await.unwrap().into_inner().status, 1);
    assert_eq!(error(health.check(of("x")).await), (Code::NotFound, "unknown service".to_owned()));
    let mut watched = health.watch(of("")).await.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().status, 1);
    let mut unknown = health.watch(of("x")).await.unwrap().into_inner();
    assert_eq!(unknown.message().await.unwrap().unwrap().status, 3);
    member.fake.shutdown().cancel();
    assert_eq!(error(watched.message().await).0, Code::Unavailable);
    assert_eq!(health.check(of("")).await.unwrap().into_inner().status, 2);
}

async fn lease_of(member: &Member, id: i64) -> i64 {
    member.lease().lease_grant(pb::LeaseGrantRequest { ttl: 60, id }).await.unwrap().into_inner().id
}

fn holds(keyspace: &super::fake::Keyspace, key: &'static str) -> bool {
    let range = crate::command::KeyRange { key: key.into(), range_end: Default::default() };
    let range = crate::command::Range { range, ..Default::default() };
    keyspace.range(&range).unwrap().count == 1
}

#[tokio::test]
async fn a_lock_goes_to_the_next_in_the_queue() {
    let member = Member::start().await;
    let mut lock = LockClient::new(member.channel.clone());
    let of = |lease| LockRequest { name: "n".into(), lease };
    let (first, second) = (lease_of(&member, 16).await, lease_of(&member, 17).await);
    let held = lock.lock(of(first)).await.unwrap().into_inner();
    assert_eq!((&held.key[..], held.header), (&b"n/10"[..], header(2)));
    // Again with the same lease changes nothing.
    assert_eq!(lock.lock(of(first)).await.unwrap().into_inner().key, held.key);

    let mut waiting = JoinSet::new();
    let mut other = lock.clone();
    waiting.spawn(async move { other.lock(of(second)).await });
    member.fake.when(|keyspace| holds(keyspace, "n/11")).await;
    assert!(waiting.try_join_next().is_none());
    let unlocked = lock.unlock(UnlockRequest { key: held.key }).await.unwrap().into_inner();
    assert_eq!(unlocked.header, header(4));
    let next = waiting.join_next().await.unwrap().unwrap().unwrap().into_inner();
    assert_eq!((&next.key[..], next.header), (&b"n/11"[..], header(4)));
}

#[tokio::test]
async fn who_stops_waiting_for_a_lock_leaves_the_queue() {
    let member = Member::start().await;
    let mut lock = LockClient::new(member.channel.clone());
    let of = |lease| LockRequest { name: "n".into(), lease };
    let (first, second) = (lease_of(&member, 16).await, lease_of(&member, 17).await);
    lock.lock(of(first)).await.unwrap();
    let mut waiting = JoinSet::new();
    let mut other = lock.clone();
    waiting.spawn(async move { other.lock(of(second)).await });
    member.fake.when(|keyspace| holds(keyspace, "n/11")).await;
    waiting.shutdown().await;
    member.fake.when(|keyspace| !holds(keyspace, "n/11")).await;
    assert!(holds(&member.fake.view(), "n/10"));
}

#[tokio::test]
async fn locks_without_a_lease_get_one_and_unknown_leases_are_told() {
    let member = Member::start().await;
    let mut lock = LockClient::new(member.channel.clone());
    let held = lock.lock(LockRequest { name: "n".into(), lease: 0 }).await.unwrap().into_inner();
    let leases = member.fake.leases();
    assert_eq!(held.key, format!("n/{}", leases[0]));
    assert_eq!(
        error(lock.lock(LockRequest { name: "n".into(), lease: 99 }).await),
        (Code::Unknown, "etcdserver: requested lease not found".to_owned())
    );
}

#[tokio::test]
async fn elections() {
    let member = Member::start().await;
    let mut election = ElectionClient::new(member.channel.clone());
    let observed = || LeaderRequest { name: "e".into() };
    assert_eq!(error(election.leader(observed()).await), (Code::Unknown, "election: no leader".to_owned()));
    assert_eq!(
        error(election.resign(ResignRequest { leader: None }).await),
        (Code::Unknown, "\"leader\" field must be provided".to_owned())
    );
    let mut seen = election.observe(observed()).await.unwrap().into_inner();
    let run = |lease, value: &'static str| CampaignRequest { name: "e".into(), lease, value: value.into() };
    let (first, second) = (lease_of(&member, 16).await, lease_of(&member, 17).await);
    let won = election.campaign(run(first, "one")).await.unwrap().into_inner();
    let leader = won.leader.unwrap();
    assert_eq!((&leader.key[..], leader.rev, leader.lease), (&b"e/10"[..], 2, 16));
    let told = seen.message().await.unwrap().unwrap();
    assert_eq!((told.header, told.kv.unwrap().value), (header(2), "one".into()));

    let proclaim =
        |value: &'static str| ProclaimRequest { leader: Some(leader.clone()), value: value.into() };
    election.proclaim(proclaim("more")).await.unwrap();
    assert_eq!(seen.message().await.unwrap().unwrap().kv.unwrap().value, "more");
    // Campaigning again proclaims the new value.
    election.campaign(run(first, "again")).await.unwrap();
    assert_eq!(seen.message().await.unwrap().unwrap().kv.unwrap().value, "again");

    let mut waiting = JoinSet::new();
    let mut other = election.clone();
    waiting.spawn(async move { other.campaign(run(second, "two")).await });
    member.fake.when(|keyspace| holds(keyspace, "e/11")).await;
    let now = election.leader(observed()).await.unwrap().into_inner();
    assert_eq!(now.kv.unwrap().value, "again");
    election.resign(ResignRequest { leader: Some(leader.clone()) }).await.unwrap();
    let next = waiting.join_next().await.unwrap().unwrap().unwrap().into_inner();
    assert_eq!(next.leader.unwrap().key, "e/11");
    assert_eq!(seen.message().await.unwrap().unwrap().kv.unwrap().value, "two");
    assert_eq!(
        error(election.proclaim(proclaim("late")).await),
        (Code::Unknown, "election: not leader".to_owned())
    );
}

#[tokio::test]
async fn a_member_with_wrong_data_serves_none_of_it() {
    let member = Member::start().await;
    let corrupt = (Code::DataLoss, "etcdserver: corrupt cluster".to_owned());
    let forever = || futures::stream::pending::<pb::LeaseKeepAliveRequest>();
    let mut open = member.lease().lease_keep_alive(forever()).await.unwrap().into_inner();
    member.fake.become_corrupt();
    assert_eq!(error(open.message().await), corrupt, "a stream that was open");
    let serializable = pb::RangeRequest { serializable: true, ..get("a") };
    assert_eq!(error(member.kv().range(serializable).await), corrupt);
    assert_eq!(error(member.kv().put(put("a", "1")).await), corrupt);
    assert_eq!(error(member.lease().lease_grant(pb::LeaseGrantRequest { ttl: 9, id: 0 }).await), corrupt);
    assert_eq!(error(member.maintenance().snapshot(pb::SnapshotRequest {}).await.map(drop)), corrupt);
    // What is needed to see and to mend it goes on.
    member.maintenance().status(pb::StatusRequest {}).await.unwrap();
    member.maintenance().hash_kv(pb::HashKvRequest { revision: 0 }).await.unwrap();
    let disarm = pb::AlarmRequest { action: 2, member_id: 0, alarm: 2 };
    member.maintenance().alarm(disarm).await.unwrap();
}
