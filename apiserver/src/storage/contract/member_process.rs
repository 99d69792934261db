//! One member of the store, alone: in this process without ports, or with its ports and services.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use barque_store::config::{AutoCompaction, MemberConfig};
use barque_store::ids::{ClusterId, MemberId};
use barque_store::member::Member;
use barque_store::member::join::Named;
use barque_store::member::machine::ThisMachine;
use barque_store::member::snapshots::SnapshotRule;
use barque_store::member::start::{MemberSettings, start};
use barque_store::metrics::Metrics;
use barque_store::raft::node::RaftTiming;
use barque_store::rpc::backend::{Backend as _, Limits};
use barque_store::rpc::permit::LoginSettings;
use barque_store::server::{self, ServerError};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// An address on loopback that nobody had a moment ago.
pub(crate) fn free_url() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

pub(crate) struct Running {
    pub(crate) member: Member,
    _dir: TempDir,
}

impl Running {
    pub(crate) async fn stop(self) {
        self.member.drain().await;
        self.member.stop().await;
    }
}

/// A member that leads itself.
pub(crate) async fn in_process() -> Running {
    let dir = TempDir::new().unwrap();
    let id = MemberId(1);
    let named = Named { name: "one".to_owned(), peer_urls: vec!["http://127.0.0.1:1".to_owned()] };
    let settings = MemberSettings {
        name: named.name.clone(),
        data_dir: dir.path().join("data"),
        peer_urls: named.peer_urls.clone(),
        client_urls: Vec::new(),
        initial_cluster: vec![(id, named)],
        cluster_id: ClusterId(7),
        member_id: id,
        token: "contract".to_owned(),
        new_cluster: true,
        timing: RaftTiming { heartbeat_ms: 50, election_ms: 500 },
        limits: Limits { max_request_bytes: 1_572_864, max_txn_ops: 128, min_lease_ttl_s: 1 },
        logins: LoginSettings { token_ttl: Duration::from_secs(300), client_cert_auth: false },
        quota_bytes: -1,
        auto_compaction: AutoCompaction::Off,
        corrupt_check: None,
        snapshots: SnapshotRule { entries: 10_000, keep_log_bytes: 1 << 20 },
        backups: None,
        unsafe_no_fsync: false,
        metrics: Arc::new(Metrics::new()),
        machine: Arc::new(ThisMachine::new(None)),
    };
    let started = Box::pin(start(&settings)).await.unwrap();
    Box::pin(started.member.take_part(&settings)).await.unwrap();
    started.member.read_barrier().await.unwrap();
    Running { member: started.member, _dir: dir }
}

pub(super) struct Serving {
    pub(super) url: String,
    stop: CancellationToken,
    task: JoinHandle<Result<(), ServerError>>,
    _dir: TempDir,
}

impl Serving {
    pub(super) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

/// A member as `barque store` runs it.
pub(super) fn over_grpc() -> Serving {
    let dir = TempDir::new().unwrap();
    let (url, peer) = (free_url(), free_url());
    let config = MemberConfig {
        data_dir: Some(dir.path().join("data")),
        listen_client_urls: vec![url.clone()],
        advertise_client_urls: Some(vec![url.clone()]),
        listen_peer_urls: vec![peer.clone()],
        initial_advertise_peer_urls: vec![peer],
        ..MemberConfig::default()
    };
    let stop = CancellationToken::new();
    let task = tokio::spawn(server::run(config.validate().unwrap(), stop.clone()));
    Serving { url, stop, task, _dir: dir }
}
