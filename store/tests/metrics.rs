//! A member does everything it can do alone; then every metric that it shows has moved, or is known not to.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use barque_proto::etcdserverpb::alarm_request::AlarmAction;
use barque_proto::etcdserverpb::auth_client::AuthClient;
use barque_proto::etcdserverpb::kv_client::KvClient;
use barque_proto::etcdserverpb::lease_client::LeaseClient;
use barque_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use barque_proto::etcdserverpb::request_op::Request as Op;
use barque_proto::etcdserverpb::watch_client::WatchClient;
use barque_proto::etcdserverpb::watch_request::RequestUnion;
use barque_proto::etcdserverpb::{
    AlarmRequest, AlarmType, AuthRoleAddRequest, CompactionRequest, DeleteRangeRequest, HashKvRequest,
    HashRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest, PutRequest, RangeRequest,
    RequestOp, SnapshotRequest, TxnRequest, WatchCreateRequest, WatchRequest, WatchResponse,
};
use barque_store::config::{MemberConfig, ValidConfig};
use barque_store::server::{ServerError, run};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

/// Shown by a member that is alone, and not moved by what this test does.
const NOT_MOVED: &[(&str, &str)] = &[
    ("etcd_server_is_learner", "a member of its own cluster votes"),
    ("etcd_server_learner_promote_successes", "needs a second member"),
    ("etcd_server_heartbeat_send_failures_total", "needs a second member"),
    ("etcd_server_snapshot_apply_in_progress_total", "needs a second member, and a look at the right moment"),
    ("etcd_snap_db_save_total_duration_seconds", "needs a second member"),
    ("etcd_snap_db_fsync_duration_seconds", "needs a second member"),
    ("etcd_disk_backend_defrag_duration_seconds", "needs megabytes of records that were compacted"),
    ("etcd_server_proposals_pending", "needs a look at the right moment"),
    ("etcd_mvcc_db_open_read_transactions", "needs a look at the right moment"),
    ("etcd_debugging_mvcc_slow_watcher_total", "needs a look at the right moment"),
    ("etcd_debugging_mvcc_pending_events_total", "needs a look at the right moment"),
    ("etcd_server_proposals_failed_total", "needs a cluster without a quorum"),
    ("etcd_server_read_indexes_failed_total", "needs a cluster without a quorum"),
    ("etcd_server_slow_read_indexes_total", "needs a cluster without a leader"),
    ("etcd_server_slow_apply_total", "needs a command that takes 100 ms"),
    ("barque_quota_warning", "needs a quota that is nearly used"),
    ("barque_snapshot_failures_total", "needs a directory that fails"),
];

/// Puts after which a snapshot was certainly written.
const MOST_PUTS: usize = 5_000;

struct Alone {
    address: SocketAddr,
    channel: Channel,
    stop: CancellationToken,
    server: JoinSet<Result<(), ServerError>>,
}

/// An address that nobody listens at.
fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn config(data_dir: &std::path::Path, client: SocketAddr, peer: SocketAddr) -> ValidConfig {
    let config = MemberConfig {
        name: "alone".into(),
        data_dir: Some(data_dir.to_owned()),
        listen_client_urls: vec![format!("http://{client}")],
        advertise_client_urls: Some(vec![format!("http://{client}")]),
        listen_peer_urls: vec![format!("http://{peer}")],
        initial_advertise_peer_urls: vec![format!("http://{peer}")],
        initial_cluster: Some(format!("alone=http://{peer}")),
        snapshot_count: 100,
        snapshot_schedule: "@every 1s".into(),
        ..MemberConfig::default()
    };
    config.validate().unwrap()
}

impl Alone {
    async fn start(data_dir: &std::path::Path) -> Self {
        let (address, peer) = (free_address(), free_address());
        let stop = CancellationToken::new();
        let mut running = Box::pin(run(config(data_dir, address, peer), stop.clone()));
        // Ports are bound before the first wait, so connections queue up until they are served.
        assert!(futures::poll!(&mut running).is_pending());
        let mut server = JoinSet::new();
        server.spawn(running);
        let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        Self { address, channel, stop, server }
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: member\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    async fn scrape(&self) -> Scrape {
        let (status, text) = self.get("/metrics").await;
        assert_eq!(status, 200);
        Scrape::parse(&text)
    }

    fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone())
    }

    async fn put(&self, key: &str, lease: i64) {
        let put =
            PutRequest { key: key.to_owned().into(), value: "value".into(), lease, ..Default::default() };
        self.kv().put(put).await.unwrap();
    }

    async fn stop(mut self) {
        drop(self.channel);
        self.stop.cancel();
        self.server.join_next().await.unwrap().unwrap().unwrap();
    }
}

/// The samples of each metric: series, value. Of histograms only the counts.
struct Scrape(BTreeMap<String, BTreeMap<String, f64>>);

impl Scrape {
    fn parse(text: &str) -> Self {
        let mut families = BTreeMap::new();
        let (mut name, mut histogram) = (String::new(), false);
        for line in text.lines() {
            if let Some(declared) = line.strip_prefix("# TYPE ") {
                let (declared, kind) = declared.split_once(' ').unwrap();
                (name, histogram) = (declared.to_owned(), kind == "histogram");
                families.insert(name.clone(), BTreeMap::new());
            } else if !line.starts_with('#') && (!histogram || line.starts_with(&format!("{name}_count"))) {
                let (series, value) = line.rsplit_once(' ').unwrap();
                families.get_mut(&name).unwrap().insert(series.to_owned(), value.parse().unwrap());
            }
        }
        Self(families)
    }

    fn sum(&self, name: &str) -> f64 {
        self.0.get(name).unwrap_or_else(|| panic!("{name} is not shown")).values().sum()
    }

    fn moved(&self) -> BTreeSet<&str> {
        let moved = self.0.iter().filter(|(_, series)| series.values().any(|value| *value != 0.0));
        moved.map(|(name, _)| name.as_str()).collect()
    }
}

fn op(request: Op) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn range(key: &'static str) -> RangeRequest {
    RangeRequest { key: key.into(), ..Default::default() }
}

async fn watch(alone: &Alone, key: &'static str) -> Streaming<WatchResponse> {
    let create = WatchCreateRequest { key: key.into(), ..Default::default() };
    let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let (sender, requests) = tokio::sync::mpsc::channel(1);
    sender.send(request).await.unwrap();
    let requests = futures::stream::unfold((requests, sender), |(mut requests, sender)| async {
        // The sender stays, so the stream stays open.
        requests.recv().await.map(|request| (request, (requests, sender)))
    });
    let mut answers = WatchClient::new(alone.channel.clone()).watch(requests).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().unwrap().created);
    answers
}

/// A lease that is kept alive and revoked, and one that runs out.
async fn use_leases(alone: &Alone) {
    let mut leases = LeaseClient::new(alone.channel.clone());
    let grant = |ttl, id| LeaseGrantRequest { ttl, id };
    leases.lease_grant(grant(60, 1)).await.unwrap();
    let keep_alive = futures::stream::once(async { LeaseKeepAliveRequest { id: 1 } });
    let mut kept = leases.lease_keep_alive(keep_alive).await.unwrap().into_inner();
    assert_eq!(kept.message().await.unwrap().unwrap().ttl, 60);
    leases.lease_revoke(LeaseRevokeRequest { id: 1 }).await.unwrap();

    let mut events = watch(alone, "leased").await;
    leases.lease_grant(grant(1, 2)).await.unwrap();
    alone.put("leased", 2).await;
    let seen = alone.scrape().await;
    assert_eq!(seen.sum("etcd_debugging_mvcc_watcher_total"), 1.0);
    assert_eq!(seen.sum("etcd_debugging_mvcc_watch_stream_total"), 1.0);
    let mut ended = 0;
    while ended == 0 {
        let events = events.message().await.unwrap().unwrap().events;
        ended = events.iter().filter(|event| event.r#type == 1).count();
    }
}

/// Each kind of operation on keys once, beside `puts` puts that came before.
async fn use_keys(alone: &Alone) {
    alone.kv().range(range("a")).await.unwrap();
    let range_end = range("a");
    let read_only = TxnRequest { success: vec![op(Op::RequestRange(range_end))], ..Default::default() };
    alone.kv().txn(read_only).await.unwrap();
    let put = PutRequest { key: "b".into(), value: "value".into(), ..Default::default() };
    let delete = DeleteRangeRequest { key: "a".into(), ..Default::default() };
    let txn = TxnRequest {
        success: vec![op(Op::RequestPut(put)), op(Op::RequestDeleteRange(delete))],
        ..Default::default()
    };
    alone.kv().txn(txn).await.unwrap();
    let delete = DeleteRangeRequest { key: "b".into(), ..Default::default() };
    alone.kv().delete_range(delete).await.unwrap();
    alone.kv().range(RangeRequest { revision: 1_000_000, ..range("a") }).await.unwrap_err();
}

async fn use_maintenance(alone: &Alone) {
    let mut maintenance = MaintenanceClient::new(alone.channel.clone());
    maintenance.hash(HashRequest {}).await.unwrap();
    let role = AuthRoleAddRequest { name: "role".into() };
    AuthClient::new(alone.channel.clone()).role_add(role).await.unwrap();
    maintenance.hash_kv(HashKvRequest::default()).await.unwrap();
    let mut snapshot = maintenance.snapshot(SnapshotRequest {}).await.unwrap().into_inner();
    while snapshot.message().await.unwrap().is_some() {}
    alone.kv().compact(CompactionRequest { revision: 50, physical: true }).await.unwrap();

    let member_id = alone.kv().range(range("a")).await.unwrap().into_inner().header.unwrap().member_id;
    let alarm = |action: AlarmAction| AlarmRequest {
        action: action.into(),
        member_id,
        alarm: AlarmType::Corrupt.into(),
    };
    assert_eq!(alone.get("/health").await.0, 200);
    maintenance.alarm(alarm(AlarmAction::Activate)).await.unwrap();
    assert_eq!(alone.get("/health").await.0, 503);
    let raised = alone.scrape().await;
    let name = "etcd_debugging_server_alarms";
    let series = format!("{name}{{alarm_type=\"CORRUPT\",server_id=\"{member_id:x}\"}}");
    assert_eq!(raised.0[name], BTreeMap::from([(series, 1.0)]));
    maintenance.alarm(alarm(AlarmAction::Deactivate)).await.unwrap();
    assert_eq!(alone.get("/readyz").await.0, 200);
}

#[tokio::test]
async fn every_metric_moves_with_what_it_names() {
    let data_dir = tempfile::tempdir().unwrap();
    let alone = Alone::start(&data_dir.path().join("data")).await;

    let mut puts = 0;
    loop {
        alone.put(&format!("key/{}", puts % 10), 0).await;
        puts += 1;
        if puts % 50 == 0 && alone.scrape().await.sum("etcd_debugging_snap_save_total_duration_seconds") > 0.0
        {
            break;
        }
        assert!(puts < MOST_PUTS, "no snapshot was written");
    }
    alone.put("a", 0).await;
    puts += 1;
    use_keys(&alone).await;
    puts += 1;
    use_leases(&alone).await;
    puts += 1;
    let before_compaction = alone.scrape().await;
    use_maintenance(&alone).await;
    // Leases took longer than the schedule, so that it is there already, or just being written.
    while alone.scrape().await.sum("barque_snapshot_duration_seconds") == 0.0 {}
    let last = alone.scrape().await;

    for (name, value) in [
        ("etcd_mvcc_put_total", puts as f64),
        ("etcd_debugging_mvcc_total_put_size_in_bytes", ((puts - 3) * 10 + 6 + 6 + 11) as f64),
        ("etcd_mvcc_delete_total", 2.0),
        ("etcd_mvcc_txn_total", 2.0),
        // Those of clients, the one in a transaction, and the one that asked who the member is.
        ("etcd_mvcc_range_total", 4.0),
        ("etcd_server_range_duration_seconds", 3.0),
        ("etcd_debugging_mvcc_keys_total", 10.0),
        ("etcd_debugging_mvcc_compact_revision", 50.0),
        ("etcd_debugging_lease_granted_total", 2.0),
        ("etcd_debugging_lease_revoked_total", 2.0),
        ("etcd_debugging_lease_renewed_total", 1.0),
        ("etcd_debugging_server_lease_expired_total", 1.0),
        ("etcd_debugging_mvcc_events_total", 2.0),
        ("etcd_mvcc_hash_duration_seconds", 1.0),
        ("etcd_mvcc_hash_rev_duration_seconds", 1.0),
        ("etcd_disk_backend_snapshot_duration_seconds", 1.0),
        ("etcd_debugging_mvcc_db_compaction_total_duration_milliseconds", 1.0),
        ("etcd_debugging_auth_revision", 2.0),
        ("etcd_server_has_leader", 1.0),
        ("etcd_server_is_leader", 1.0),
        ("etcd_server_leader_changes_seen_total", 1.0),
        ("etcd_server_health_success", 1.0),
        ("etcd_server_health_failures", 1.0),
        ("etcd_server_quota_backend_bytes", f64::from(1u32 << 31)),
    ] {
        assert_eq!(last.sum(name), value, "{name}");
    }
    assert_eq!(before_compaction.sum("etcd_debugging_mvcc_db_compaction_keys_total"), 0.0);
    assert_eq!(
        last.sum("etcd_debugging_mvcc_current_revision"),
        before_compaction.sum("etcd_debugging_mvcc_current_revision")
    );
    assert!(
        last.sum("etcd_server_proposals_applied_total") <= last.sum("etcd_server_proposals_committed_total")
    );

    let moved: BTreeSet<_> = before_compaction.moved().union(&last.moved()).copied().collect();
    let excused: BTreeSet<_> = NOT_MOVED.iter().map(|(name, _)| *name).collect();
    // A look at the right moment may happen by chance, so an excuse that was not needed is none's fault.
    let shown: BTreeSet<_> = last.0.keys().map(String::as_str).collect();
    let still: Vec<_> =
        shown.iter().filter(|name| !moved.contains(*name) && !excused.contains(*name)).collect();
    assert!(still.is_empty(), "not moved: {still:?}");
    let gone: Vec<_> = excused.difference(&shown).collect();
    assert!(gone.is_empty(), "excused, but not shown: {gone:?}");
    alone.stop().await;
}
