use std::sync::Arc;
use barque_store::ids::*;
use barque_store::member::start::*;
use barque_store::member::join::Named;
use barque_store::member::compactor::AutoCompaction;
use barque_store::member::snapshots::SnapshotRule;
use barque_store::raft::node::RaftTiming;
use barque_store::rpc::backend::Limits;
use barque_proto::server::peer::peer_server::PeerServer;
#[global_allocator]
static A: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
fn id_of(_: &MemberSettings, urls: &[String]) -> MemberId { let mut h = 1469598103934665603u64; for b in urls.join(",").bytes() { h = (h ^ b as u64).wrapping_mul(1099511628211);} MemberId(h) }
#[tokio::main]
async fn main() {
    tracing_subscriber::fmt().with_env_filter(std::env::var("RUST_LOG").unwrap_or("info,openraft=warn".into())).with_writer(std::io::stderr).init();
    let a: Vec<String> = std::env::args().collect();
    let (name, dir, client, cluster) = (a[1].clone(), a[2].clone(), a[3].clone(), a[4].clone());
    let initial: Vec<Named> = cluster.split(',').map(|p| { let (n,u)=p.split_once('=').unwrap(); Named{name:n.into(), peer_urls: vec![u.into()]} }).collect();
    let me = initial.iter().find(|m| m.name==name).unwrap().clone();
    let s = MemberSettings{ name, data_dir: dir.into(), peer_urls: me.peer_urls.clone(), client_urls: vec![format!("http://{client}")], initial_cluster: initial, member_id_of: id_of, cluster_id: ClusterId(77), token: "t".into(), new_cluster: true, timing: RaftTiming{heartbeat_ms:100, election_ms:1000}, limits: Limits{max_request_bytes: 1572864, max_txn_ops:128, min_lease_ttl_s:2}, quota_bytes: 8<<30, auto_compaction: AutoCompaction::Off, snapshots: SnapshotRule{entries: 10000, keep_log_bytes: 64<<20}, wal_metrics: Arc::new(()), peer_tls: None };
    let st = match start(&s).await { Ok(s)=>s, Err(e)=>{ eprintln!("error: {e}"); std::process::exit(1) } };
    let peer = me.peer_urls[0].trim_start_matches("http://").parse().unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let s1 = stop.clone(); let ps = st.peer_service;
    let h1 = tokio::spawn(async move { tonic::transport::Server::builder().initial_connection_window_size(32<<20).initial_stream_window_size(8<<20).add_service(PeerServer::new(ps).max_decoding_message_size(64<<20)).serve_with_shutdown(peer, s1.cancelled_owned()).await.unwrap() });
    st.member.take_part(&s).await.unwrap();
    let routes = barque_store::rpc::routes(&st.member, barque_store::rpc::Watches{hub: st.member.hub().clone(), history: st.member.published().clone(), config: Default::default()});
    let s2 = stop.clone(); let caddr = client.parse().unwrap();
    let h2 = tokio::spawn(async move { tonic::transport::Server::builder().add_routes(routes).serve_with_shutdown(caddr, s2.cancelled_owned()).await.unwrap() });
    let m = st.member.clone();
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
    tokio::select!{ r = m.failed() => { eprintln!("failed: {r}"); std::process::exit(1) } _ = tokio::signal::ctrl_c() => {} _ = term.recv() => {} }
    m.stop().await; stop.cancel(); drop((h1,h2));
}
