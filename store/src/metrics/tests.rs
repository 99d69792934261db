//! Names that dashboards select, moved by what they name.

use super::*;
use crate::ids::MemberId;

fn text(metrics: &Metrics) -> String {
    String::from_utf8(metrics.text()).unwrap()
}

#[test]
fn a_scrape_has_the_names_that_alert_rules_select() {
    let metrics = Metrics::new();
    let _ = metrics.network.peer(MemberId(1), MemberId(2));
    let text = text(&metrics);
    for name in [
        "etcd_server_has_leader",
        "etcd_server_leader_changes_seen_total",
        "etcd_server_proposals_failed_total",
        "etcd_server_quota_backend_bytes",
        "etcd_disk_wal_fsync_duration_seconds_bucket",
        "etcd_disk_backend_commit_duration_seconds_bucket",
        "etcd_mvcc_db_total_size_in_bytes",
        "etcd_mvcc_db_total_size_in_use_in_bytes",
        "etcd_network_peer_round_trip_time_seconds_bucket",
        "etcd_network_peer_sent_failures_total",
        "etcd_debugging_lease_granted_total",
        "etcd_debugging_mvcc_watcher_total",
        "grpc_server_handling_seconds_bucket",
        "grpc_server_handled_total",
        "process_resident_memory_bytes",
        "os_fd_used",
    ] {
        assert!(text.lines().any(|line| line.starts_with(name)), "{name} is missing");
    }
}

#[test]
fn what_happens_is_what_is_counted() {
    let metrics = Metrics::new();
    metrics.server.identity("3.6.5", "3.6", MemberId(0xab));
    metrics.server.applied("Put", true, 0.0003);
    metrics.server.alarm(MemberId(0xab), "NOSPACE", true);
    metrics.disk.wal_fsync_duration_seconds.observe(0.0015);
    metrics.network.peer(MemberId(1), MemberId(2)).sent_bytes.inc_by(7);
    let text = text(&metrics);
    for line in [
        "etcd_server_version{server_version=\"3.6.5\"} 1",
        "etcd_server_id{server_id=\"ab\"} 1",
        "etcd_cluster_version{cluster_version=\"3.6\"} 1",
        "etcd_server_apply_duration_seconds_count{op=\"Put\",success=\"true\",version=\"v3\"} 1",
        "etcd_debugging_server_alarms{alarm_type=\"NOSPACE\",server_id=\"ab\"} 1",
        "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.001\"} 0",
        "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.002\"} 1",
        "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"8.192\"} 1",
        "etcd_network_peer_sent_bytes_total{To=\"2\"} 7",
    ] {
        assert!(text.lines().any(|got| got == line), "{line} is missing");
    }
}

#[test]
fn calls_are_counted_by_method_and_code() {
    let metrics = Metrics::new();
    let mut put = metrics.grpc.start("/etcdserverpb.KV/Put").unwrap();
    put.method().received(10);
    put.sent(20);
    put.end(Code::from_header(b"8"));
    put.end(Code::OK);
    drop(put);
    drop(metrics.grpc.start("/etcdserverpb.Watch/Watch").unwrap());
    assert!(metrics.grpc.start("/etcdserverpb.KV/Nothing").is_none());
    let text = text(&metrics);
    let put = "grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"}";
    for line in [
        format!("grpc_server_started_total{{{put} 1"),
        format!("grpc_server_handled_total{{grpc_code=\"ResourceExhausted\",{put} 1"),
        format!("grpc_server_handled_total{{grpc_code=\"OK\",{put} 0"),
        format!("grpc_server_handling_seconds_count{{{put} 1"),
        "grpc_server_handled_total{grpc_code=\"Canceled\",grpc_method=\"Watch\",grpc_service=\"etcdserverpb.Watch\",\
         grpc_type=\"bidi_stream\"} 1"
            .into(),
        "etcd_network_client_grpc_received_bytes_total 10".into(),
        "etcd_network_client_grpc_sent_bytes_total 20".into(),
    ] {
        assert!(text.lines().any(|got| got == line), "{line} is missing");
    }
    assert!(!text.contains("Nothing"));
}
