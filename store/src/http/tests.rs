use std::time::Duration;

use http_body_util::BodyExt;

use super::*;
use crate::command::AlarmKind;

#[derive(Clone, Default)]
struct Source {
    serializable: Option<&'static str>,
    linearizable: Option<&'static str>,
    stuck: bool,
    alarms: Vec<AlarmKind>,
    no_leader: bool,
    learner: bool,
}

impl HealthSource for Source {
    async fn serializable_read(&self) -> Result<(), String> {
        self.serializable.map_or(Ok(()), |error| Err(error.into()))
    }
    async fn linearizable_read(&self) -> Result<(), String> {
        if self.stuck {
            std::future::pending::<()>().await;
        }
        self.linearizable.map_or(Ok(()), |error| Err(error.into()))
    }
    fn alarms(&self) -> Vec<AlarmKind> {
        self.alarms.clone()
    }
    fn has_leader(&self) -> bool {
        !self.no_leader
    }
    fn is_learner(&self) -> bool {
        self.learner
    }
}

const VERSIONS: Versions = Versions { server: "3.6.5", cluster: "3.6.0", storage: "3.6.0" };

fn endpoints(source: Source) -> Endpoints<Source> {
    Endpoints::new(source, Arc::new(Metrics::new()), VERSIONS, Duration::from_millis(20))
}

async fn get(endpoints: &Endpoints<Source>, method: Method, uri: &str) -> (u16, String, HeaderMap) {
    let request = Request::builder().method(method).uri(uri).body(()).unwrap();
    let response = endpoints.answer(&request).await;
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status.as_u16(), String::from_utf8(body.to_vec()).unwrap(), head.headers)
}

use http::HeaderMap;

async fn check(source: &Source, uri: &str, status: u16, body: &str) {
    let got = get(&endpoints(source.clone()), Method::GET, uri).await;
    assert_eq!((got.0, got.1.as_str()), (status, body), "{uri}");
}

#[tokio::test]
async fn a_healthy_member() {
    let good = Source::default();
    check(&good, "/health", 200, r#"{"health":"true","reason":""}"#).await;
    check(&good, "/livez", 200, "ok\n").await;
    check(&good, "/livez?verbose", 200, "[+]serializable_read ok\nok\n").await;
    check(&good, "/readyz", 200, "ok\n").await;
    let all =
        "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n";
    check(&good, "/readyz?verbose", 200, all).await;
    check(&good, "/readyz/non_learner?verbose=1", 200, "[+]non_learner ok\nok\n").await;
    check(&good, "/version", 200, r#"{"etcdserver":"3.6.5","etcdcluster":"3.6.0","storage":"3.6.0"}"#).await;
}

#[tokio::test]
async fn health_names_the_first_reason() {
    let bad = |reason: &str| format!("{{\"health\":\"false\",\"reason\":\"{reason}\"}}\n");
    let full = Source { alarms: vec![AlarmKind::NoSpace], ..Source::default() };
    check(&full, "/health", 503, &bad("ALARM NOSPACE")).await;
    check(&full, "/health?exclude=CORRUPT", 503, &bad("ALARM NOSPACE")).await;
    check(&full, "/health?exclude=NOSPACE", 200, r#"{"health":"true","reason":""}"#).await;
    let corrupt = Source { alarms: vec![AlarmKind::Corrupt], ..Source::default() };
    check(&corrupt, "/health", 503, &bad("ALARM CORRUPT")).await;
    let alone = Source { no_leader: true, linearizable: Some("x"), ..Source::default() };
    check(&alone, "/health", 503, &bad("RAFT NO LEADER")).await;
    check(&alone, "/health?serializable=true", 200, r#"{"health":"true","reason":""}"#).await;
    let failing = Source { linearizable: Some("etcdserver: request timed out"), ..Source::default() };
    check(&failing, "/health", 503, &bad("RANGE ERROR:etcdserver: request timed out")).await;
    let stuck = Source { stuck: true, ..Source::default() };
    check(&stuck, "/health", 503, &bad("RANGE ERROR:context deadline exceeded")).await;
}

#[tokio::test]
async fn checks_fail_by_name_and_can_be_excluded() {
    let source = Source { linearizable: Some("no leader"), learner: true, ..Source::default() };
    check(
        &source,
        "/readyz",
        503,
        "[+]data_corruption ok\n[+]serializable_read ok\n[-]linearizable_read failed: no leader\n\
         [-]non_learner failed: not supported for learner\n\n",
    )
    .await;
    check(&source, "/readyz?exclude=linearizable_read&exclude=non_learner", 200, "ok\n").await;
    check(
        &source,
        "/readyz/linearizable_read?exclude=linearizable_read",
        503,
        "[-]linearizable_read failed: no leader\n\n",
    )
    .await;
    check(&source, "/livez", 200, "ok\n").await;
    check(&source, "/livez/non_learner", 404, "404 page not found\n").await;
    let corrupt = Source { alarms: vec![AlarmKind::Corrupt], ..Source::default() };
    check(
        &corrupt,
        "/readyz/data_corruption",
        503,
        "[-]data_corruption failed: alarm activated: CORRUPT\n\n",
    )
    .await;
    check(&corrupt, "/livez", 200, "ok\n").await;
    let broken = Source { serializable: Some("closed"), ..Source::default() };
    check(&broken, "/livez", 503, "[-]serializable_read failed: closed\n\n").await;
}

#[tokio::test]
async fn other_methods_and_paths_are_refused() {
    let endpoints = endpoints(Source::default());
    for path in ["/health", "/livez", "/readyz/non_learner", "/version"] {
        let (status, body, headers) = get(&endpoints, Method::POST, path).await;
        assert_eq!(
            (status, body.as_str(), &headers["allow"]),
            (405, "Method Not Allowed\n", &HeaderValue::from_static("GET"))
        );
    }
    for path in ["/", "/healthz", "/livezz", "/readyz/", "/livez/serializable_read/x", "/v3/kv/put"] {
        assert_eq!(get(&endpoints, Method::GET, path).await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn metrics_tell_of_the_checks() {
    let endpoints = endpoints(Source { learner: true, ..Source::default() });
    get(&endpoints, Method::GET, "/health").await;
    get(&endpoints, Method::GET, "/readyz").await;
    let (status, text, headers) = get(&endpoints, Method::GET, "/metrics").await;
    assert_eq!((status, &headers["content-type"]), (200, &HeaderValue::from_static(Metrics::CONTENT_TYPE)));
    for line in [
        "etcd_server_health_success 1",
        "etcd_server_healthcheck{name=\"non_learner\",type=\"readyz\"} 0",
        "etcd_server_healthchecks_total{name=\"linearizable_read\",status=\"success\",type=\"readyz\"} 1",
    ] {
        assert!(text.lines().any(|got| got == line), "{line} is missing");
    }
}
