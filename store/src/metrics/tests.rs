//! Names that dashboards select, moved by what they name.

use std::sync::Arc;

use super::*;
use crate::command::{
    AlarmKind, Command, CommandError, OpOutcome, Outcome, Put, PutOutcome, Range, Txn, TxnOp, TxnOutcome,
};
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
        "etcd_disk_backend_defrag_duration_seconds_bucket",
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
    metrics.server.set_alarms([(MemberId(0xab), AlarmKind::Corrupt)]);
    metrics.server.set_alarms([(MemberId(0xab), AlarmKind::NoSpace)]);
    metrics.disk.wal_fsync_duration_seconds.observe(0.0015);
    metrics.network.peer(MemberId(1), MemberId(2)).sent_bytes.inc_by(7);
    let text = text(&metrics);
    assert!(!text.contains("CORRUPT"), "an alarm that was cleared is gone");
    for line in [
        "etcd_server_version{server_version=\"3.6.5\"} 1",
        "etcd_server_id{server_id=\"ab\"} 1",
        "etcd_cluster_version{cluster_version=\"3.6\"} 1",
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

#[test]
fn the_state_machine_counts_operations_and_hands_them_over() {
    let metrics = Arc::new(Metrics::new());
    let mut counts = ApplyCounts::new(Arc::clone(&metrics));
    let put = |key: &'static str| Put { key: key.into(), value: "12345".into(), ..Put::default() };
    let txn = Txn {
        success: vec![TxnOp::Put(put("never"))],
        failure: vec![TxnOp::Put(put("b")), TxnOp::Range(Range::default())],
        ..Txn::default()
    };
    let responses = vec![
        OpOutcome::Put(PutOutcome::default()),
        OpOutcome::Range(crate::command::RangeOutcome::default()),
    ];
    counts.begin();
    counts.executed(&Command::Put(put("a")), &Ok(Outcome::Put(PutOutcome::default())));
    counts.executed(&Command::Put(put("a")), &Err(CommandError::LeaseNotFound));
    let outcome = Outcome::Txn(TxnOutcome { succeeded: false, responses });
    counts.executed(&Command::Txn(txn), &Ok(outcome));
    assert!(text(&metrics).contains("etcd_mvcc_put_total 0"), "not handed over yet");
    counts.flush();
    counts.flush();
    let text = text(&metrics);
    for line in [
        "etcd_mvcc_put_total 2",
        "etcd_mvcc_range_total 1",
        "etcd_mvcc_txn_total 1",
        "etcd_debugging_mvcc_total_put_size_in_bytes 12",
        "etcd_server_apply_duration_seconds_count{op=\"Put\",success=\"true\",version=\"v3\"} 1",
        "etcd_server_apply_duration_seconds_count{op=\"Put\",success=\"false\",version=\"v3\"} 1",
        "etcd_server_apply_duration_seconds_count{op=\"Txn\",success=\"true\",version=\"v3\"} 1",
    ] {
        assert!(text.lines().any(|got| got == line), "{line} is missing");
    }
}
