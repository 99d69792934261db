//! Names that dashboards select, moved by what they name.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::json;

use super::*;
use crate::authorization::Decision;
use crate::http::answer;
use crate::http::request_info::{Query, request_info};
use crate::storage::memory::Memory;
use crate::storage::{Action, Expected, Page, Revision, Storage as _, StorageWatch as _, Write};
use crate::watch_cache::counts::Counts;

fn lines(metrics: &Metrics) -> Vec<String> {
    String::from_utf8(metrics.text()).unwrap().lines().map(str::to_owned).collect()
}

#[track_caller]
fn has(metrics: &Metrics, expected: &[&str]) {
    let lines = lines(metrics);
    for line in expected {
        assert!(lines.iter().any(|got| got == line), "{line} is missing in {lines:#?}");
    }
}

fn subject(line: &str) -> Subject {
    let (method, path) = line.split_once(' ').unwrap();
    let seen = Seen { is_served: true, ..Seen::default() };
    Subject::of(&request_info(method, path, Query::default()), seen)
}

const PODS: &str = "component=\"apiserver\",group=\"\",resource=\"pods\",scope=\"namespace\",subresource=\"\",verb=\"LIST\",version=\"v1\"";

#[tokio::test(start_paused = true)]
async fn a_request_is_counted_when_its_body_is_over() {
    let metrics = Arc::new(Metrics::new());
    let mut ongoing = metrics.request_began(subject("GET /api/v1/namespaces/a/pods"), false);
    has(&metrics, &["apiserver_current_inflight_requests{request_kind=\"readOnly\"} 1"]);
    tokio::time::advance(std::time::Duration::from_secs(3)).await;
    ongoing.waited(std::time::Duration::from_secs(2));
    let response = ongoing.answered(answer::text(StatusCode::OK, "x".repeat(1500)));
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), 1500);
    let with_code = "apiserver_request_total{code=\"200\",component=\"apiserver\",dry_run=\"\",group=\"\",\
        resource=\"pods\",scope=\"namespace\",subresource=\"\",verb=\"LIST\",version=\"v1\"} 1";
    has(
        &metrics,
        &[
            with_code,
            "apiserver_current_inflight_requests{request_kind=\"readOnly\"} 0",
            &format!("apiserver_request_sli_duration_seconds_sum{{{PODS}}} 1"),
            &format!("apiserver_response_sizes_sum{{{PODS}}} 1500"),
            "apiserver_request_duration_seconds_sum{component=\"apiserver\",dry_run=\"\",group=\"\",\
             resource=\"pods\",scope=\"namespace\",subresource=\"\",verb=\"LIST\",version=\"v1\"} 3",
        ],
    );
}

#[test]
fn a_request_without_an_answer_was_aborted_and_a_watch_is_long_running() {
    let metrics = Arc::new(Metrics::new());
    drop(metrics.request_began(subject("POST /api/v1/namespaces/a/pods"), false));
    let refused = metrics.request_began(subject("GET /api/v1/namespaces/a/pods"), false);
    refused.terminated(429);
    refused.ended(429, 10);
    let watch = metrics.request_began(subject("GET /api/v1/namespaces/a/pods"), true);
    has(
        &metrics,
        &[
            "apiserver_request_aborts_total{group=\"\",resource=\"pods\",scope=\"resource\",subresource=\"\",\
             verb=\"POST\",version=\"v1\"} 1",
            "apiserver_current_inflight_requests{request_kind=\"mutating\"} 0",
            &format!("apiserver_longrunning_requests{{{PODS}}} 1"),
            &format!("apiserver_request_terminations_total{{code=\"429\",{PODS}}} 1"),
        ],
    );
    watch.ended(200, 0);
    has(&metrics, &[&format!("apiserver_longrunning_requests{{{PODS}}} 0")]);
}

#[test]
fn an_answer_is_not_changed_by_being_counted() {
    let metrics = Arc::new(Metrics::new());
    let response: Response<_> = answer::text(StatusCode::OK, "abc");
    let counted = metrics.request_began(subject("GET /livez"), false).answered(response);
    let body = counted.body();
    assert_eq!(hyper::body::Body::size_hint(body).exact(), Some(3));
    assert!(!hyper::body::Body::is_end_stream(body));
}

#[tokio::test]
async fn a_measured_store_counts_by_collection() {
    let metrics = Metrics::new();
    let store = Measured::new(Memory::new(), "/registry", Arc::clone(&metrics.storage));
    let put = |key: &'static str, expected| Write {
        key: Bytes::from_static(key.as_bytes()),
        expected,
        action: Action::Put { value: Bytes::from_static(b"{}"), lease: None },
    };
    let mut watch = store.watch(&Bytes::from_static(b"/registry/minions/"), Revision(1)).await.unwrap();
    store.write(&put("/registry/minions/a", Expected::Absent)).await.unwrap();
    watch.next().await.unwrap();
    store.write(&put("/registry/services/specs/ns/a", Expected::Absent)).await.unwrap();
    store.write(&put("/registry/example.com/things/ns/a", Expected::At(Revision(99)))).await.unwrap();
    store.get(&Bytes::from_static(b"/registry/made-up/a")).await.unwrap();
    let page = Page { prefix: Bytes::from_static(b"/registry/deployments/ns/"), ..Page::default() };
    store.list(&page).await.unwrap();
    let future = Page { revision: Some(Revision(1 << 40)), ..page };
    assert!(store.list(&future).await.is_err());
    has(
        &metrics,
        &[
            "etcd_requests_total{group=\"\",operation=\"create\",resource=\"nodes\"} 1",
            "etcd_requests_total{group=\"\",operation=\"create\",resource=\"services\"} 1",
            "etcd_requests_total{group=\"example.com\",operation=\"update\",resource=\"things\"} 1",
            "etcd_requests_total{group=\"apps\",operation=\"list\",resource=\"deployments\"} 2",
            "etcd_request_errors_total{group=\"apps\",operation=\"list\",resource=\"deployments\"} 1",
            "etcd_request_duration_seconds_count{group=\"apps\",operation=\"list\",resource=\"deployments\"} 2",
            "apiserver_storage_events_received_total{group=\"\",resource=\"nodes\"} 1",
        ],
    );
    assert!(!lines(&metrics).iter().any(|line| line.contains("made-up")));
}

#[test]
fn caches_are_looked_at_and_forgotten() {
    let metrics = Metrics::new();
    let things = barque_api::kind::GroupResource::new("example.com", "things");
    let counts = Counts { objects: 3, bytes: 70, dispatched: 5, ..Counts::default() };
    metrics.caches.look([(things, counts)]);
    has(
        &metrics,
        &[
            "apiserver_storage_objects{resource=\"things.example.com\"} 3",
            "apiserver_resource_objects{group=\"example.com\",resource=\"things\"} 3",
            "apiserver_watch_cache_events_dispatched_total{group=\"example.com\",resource=\"things\"} 5",
        ],
    );
    metrics.caches.look([]);
    assert!(!lines(&metrics).iter().any(|line| line.contains("example.com")));
}

#[test]
fn series_of_schemas_that_are_gone_go() {
    let metrics = Metrics::new();
    metrics.flow.configured([("a", "x"), ("b", "x")], []);
    let of_a = metrics.flow.of("a").unwrap();
    of_a.began(2);
    metrics.flow.configured([("b", "y")], []);
    of_a.ended(2, std::time::Duration::ZERO);
    assert!(metrics.flow.of("a").is_none());
    let lines = lines(&metrics);
    assert!(!lines.iter().any(|line| line.contains("priority_level=\"x\"")), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("priority_level=\"y\"")));
}

#[test]
fn a_scrape_says_which_version_and_process_this_is() {
    let metrics = Metrics::new();
    metrics.identify(&json!({"major": "1", "minor": "37", "gitVersion": "v1.37.0"}));
    let taken = std::time::Duration::from_millis(3);
    metrics.access.authorized(&Decision::NoOpinion(String::new()), taken);
    for result in [Ok(Some("admin")), Ok(Some("eva@example.com")), Ok(Some("eva")), Ok(None), Err(())] {
        metrics.access.authenticated(&result, taken);
    }
    let lines = lines(&metrics);
    for start in [
        "kubernetes_build_info{",
        "process_resident_memory_bytes ",
        "apiserver_tls_handshake_errors_total 0",
        "apiserver_audit_event_total 0",
        "authorization_attempts_total{result=\"no-opinion\"} 1",
        "authentication_attempts{result=\"success\"} 3",
        "authentication_attempts{result=\"failure\"} 1",
        "authentication_attempts{result=\"error\"} 1",
        "authenticated_user_requests{username=\"admin\"} 1",
        "authenticated_user_requests{username=\"email_id\"} 1",
        "authenticated_user_requests{username=\"other\"} 1",
    ] {
        assert!(lines.iter().any(|line| line.starts_with(start)), "{start} is missing");
    }
}
