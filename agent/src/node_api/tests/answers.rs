//! Logs, pods, statistics and metrics.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncReadExt as _;

use super::{ADMIN, Client, Node, code, pod, rest};
use crate::pods::probes::ProbeKind;

fn append(path: &Path, line: &str) {
    let mut file = File::options().create(true).append(true).open(path).unwrap();
    writeln!(file, "2026-01-02T03:04:05.5Z stdout F {line}").unwrap();
}

async fn read_until(client: &mut Client, end: &str) -> String {
    let mut said = Vec::new();
    while !said.ends_with(end.as_bytes()) {
        said.push(client.read_u8().await.unwrap());
    }
    String::from_utf8(said).unwrap()
}

#[tokio::test]
async fn a_log_is_followed_over_a_rotation_until_its_container_ends() {
    let node = Node::start().await;
    let path = node.path().join("1.log");
    append(&path, "old");
    append(&path, "one");
    let headers = format!("authorization: Bearer {ADMIN}\r\nconnection: close\r\n");
    let asked = "/containerLogs/default/p/c?follow=true&tailLines=1";
    let (mut client, head) = node.begin("GET", asked, &headers).await;
    assert_eq!(code(&head), 200, "{head}");
    let first = read_until(&mut client, "one\n").await;
    assert!(!first.contains("old"), "{first}");
    std::fs::rename(&path, node.path().join("1.log.20260102-030405")).unwrap();
    append(&path, "two");
    read_until(&mut client, "two\n").await;
    append(&path, "three");
    node.containers.ended.cancel();
    let last = rest(client).await;
    assert!(last.contains("three\n") && last.ends_with("0\r\n\r\n"), "{last}");
    node.stop().await;
}

#[tokio::test]
async fn logs_are_given_as_they_are_asked_for() {
    let node = Node::start().await;
    append(&node.path().join("0.log"), "before");
    append(&node.path().join("1.log"), "now");
    let table = [
        ("c", 200, "now\n"),
        ("c?previous=true", 200, "before\n"),
        ("c?timestamps=true", 200, "2026-01-02T03:04:05.500000000Z now\n"),
        ("c?limitBytes=2", 200, "no"),
        ("late", 400, "container \"late\" in pod \"p\" is waiting to start: ContainerCreating"),
        ("late?previous=true", 400, "previous terminated container \"late\" in pod \"p\" not found"),
        ("x", 404, "container \"x\" not found in pod \"p\""),
        ("c?tailLines=x", 400, "tailLines"),
    ];
    for (path, wanted, told) in table {
        let (code, answer) = node.get(&format!("/containerLogs/default/p/{path}")).await;
        assert_eq!(code, wanted, "{path}: {answer}");
        assert!(answer.contains(told), "{path}: {answer}");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_log_that_is_followed_does_not_hold_up_a_server_that_stops() {
    let node = Node::start().await;
    append(&node.path().join("1.log"), "one");
    let headers = format!("authorization: Bearer {ADMIN}\r\n");
    let (mut client, _) = node.begin("GET", "/containerLogs/default/p/c?follow=true", &headers).await;
    read_until(&mut client, "one\n").await;
    node.stop().await;
}

#[tokio::test]
async fn pods_statistics_and_metrics_are_told() {
    let node = Node::start().await;
    for succeeded in [true, false] {
        let took = std::time::Duration::from_millis(3);
        node.metrics.probes().asked(&pod(), "c", ProbeKind::Readiness, succeeded, took);
    }
    assert!(node.get("/healthz").await.1.ends_with("\r\n\r\nok"));
    let pods = node.json("/pods").await;
    assert_eq!((&pods["kind"], &pods["items"][0]["metadata"]["name"]), (&"PodList".into(), &"p".into()));
    let summary = node.json("/stats/summary").await;
    assert_eq!(summary["node"]["nodeName"], "n1");
    assert!(summary["node"]["memory"]["workingSetBytes"].as_u64().unwrap() > 0);
    assert_eq!(summary["pods"][0]["containers"][0]["memory"]["workingSetBytes"], 4096);
    let volumes = &summary["pods"][0]["volume"];
    assert_eq!((&volumes[0]["name"], &volumes[0]["usedBytes"]), (&"cache".into(), &7.into()));
    assert!(volumes[0].get("pvcRef").is_none());
    let reference = serde_json::json!({"name": "claim", "namespace": "default"});
    assert_eq!((&volumes[1]["pvcRef"], &volumes[1]["capacityBytes"]), (&reference, &100.into()));
    let claim = "{namespace=\"default\",persistentvolumeclaim=\"claim\"}";
    // However many ask, nobody looks at all files again so soon.
    let used = format!("kubelet_volume_stats_used_bytes{claim} 40\n");
    let available = format!("kubelet_volume_stats_available_bytes{claim} 60\n");
    for (path, told) in [
        ("/metrics", used.as_str()),
        ("/metrics", available.as_str()),
        (
            "/metrics/probes",
            "prober_probe_total{container=\"c\",namespace=\"default\",pod=\"p\",pod_uid=\"u\",probe_type=\"Readiness\",result=\"failed\"} 1",
        ),
        (
            "/metrics/probes",
            "prober_probe_duration_seconds_count{container=\"c\",namespace=\"default\",pod=\"p\",probe_type=\"Readiness\"} 2",
        ),
        ("/metrics", "kubelet_running_pods"),
        ("/metrics/resource", "pod_memory_working_set_bytes{namespace=\"default\",pod=\"p\"} 4096"),
        ("/metrics/resource", "resource_scrape_error 0"),
        ("/metrics/cadvisor", "container_cpu_usage_seconds_total{container=\"c\",image=\"i\""),
    ] {
        let (code, answer) = node.get(path).await;
        assert_eq!(code, 200);
        assert!(answer.contains(told), "{path}: {answer}");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_command_can_be_run_without_streams() {
    let node = Node::start().await;
    let (code, answer) = node.ask_as(ADMIN, "POST", "/run/default/p/c?cmd=echo+hello").await;
    assert_eq!(code, 200, "{answer}");
    assert!(answer.ends_with("\r\n\r\nhello\n"), "{answer}");
    let (code, answer) = node.ask_as(ADMIN, "POST", "/run/default/p/c?cmd=false").await;
    assert_eq!(code, 500);
    assert!(answer.contains("command exited with 1"), "{answer}");
    node.stop().await;
}

#[tokio::test]
async fn http_2_is_spoken_too() {
    let node = Node::start().await;
    let client = node.speaking(&[b"h2"], None).await;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client)).await.unwrap();
    let asking = async {
        let request = Request::get("https://n1/pods")
            .header("authorization", format!("Bearer {ADMIN}"))
            .body(Empty::<bytes::Bytes>::new())
            .unwrap();
        let answer = sender.send_request(request).await.unwrap();
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        drop(sender);
        (status.as_u16(), body)
    };
    let ((status, body), ended) = tokio::join!(asking, connection);
    ended.unwrap();
    assert_eq!(status, 200);
    assert!(body.starts_with(b"{\"apiVersion\":\"v1\""), "{body:?}");
    node.stop().await;
}
