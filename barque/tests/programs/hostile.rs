//! Requests and clients that mean no good: each gets a Status, and nobody else notices.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::Cluster;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// An answer must have come within this time; it says nothing of how fast it should be.
const PATIENCE: Duration = Duration::from_secs(60);

fn tls(cluster: &Cluster, client: Option<(&Path, &Path)>, protocol: &[u8]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&cluster.certificates.ca).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match client {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let chain = vec![CertificateDer::from_pem_file(cert).unwrap()];
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap()).unwrap()
        }
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    TlsConnector::from(Arc::new(config))
}

async fn dial(cluster: &Cluster, connector: &TlsConnector) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(cluster.servers[0]).await.unwrap();
    connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap()
}

type Sender = http2::SendRequest<Full<Bytes>>;

async fn connect(cluster: &Cluster, client: Option<(&Path, &Path)>) -> Sender {
    let stream = dial(cluster, &tls(cluster, client, b"h2")).await;
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// Sends a request; the answer's code, and its body as a value.
async fn ask(
    sender: &Sender,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> (u16, Value) {
    let mut request = Request::builder().method(method).uri(format!("https://localhost{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(body))).unwrap();
    let response =
        tokio::time::timeout(PATIENCE, sender.clone().send_request(request)).await.unwrap().unwrap();
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap_or_default())
}

fn admin(cluster: &Cluster) -> Option<(&Path, &Path)> {
    Some((&cluster.certificates.admin.0, &cluster.certificates.admin.1))
}

async fn ready(cluster: &Cluster) -> Sender {
    let sender = connect(cluster, admin(cluster)).await;
    let deadline = std::time::Instant::now() + PATIENCE;
    while ask(&sender, Method::GET, "/readyz", &[], Vec::new()).await.0 != 200 {
        assert!(std::time::Instant::now() < deadline, "the server is not ready");
    }
    sender
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_makes_no_sense_is_answered_with_a_status() {
    let cluster = Cluster::start(1);
    let sender = ready(&cluster).await;
    let deep = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000)).into_bytes();
    let wide = format!("{{\"data\":{{\"a\":\"{}\"}}}}", "x".repeat(4 << 20)).into_bytes();
    let many = format!("{{\"data\":{{\"a\":\"{}\"}},\"metadata\":{{\"name\":\"a\"}}}}", "x".repeat(2 << 20))
        .into_bytes();
    let text = |text: &str| text.as_bytes().to_vec();
    let object = text(r#"{"metadata":{"name":"hostile"},"data":{"a":"b"}}"#);
    let long = format!("{MAPS}?labelSelector={}", "a%2C".repeat(2000));
    let hostile = format!("{MAPS}?labelSelector=%28%28%28&limit=-1");
    let patch = |kind: &'static str| ("content-type", kind);
    type Header = (&'static str, &'static str);
    let table: Vec<(Method, &str, Header, Vec<u8>, u16)> = vec![
        (Method::POST, MAPS, JSON, text("{"), 400),
        (Method::POST, MAPS, JSON, text(""), 400),
        (Method::POST, MAPS, JSON, text("[]"), 400),
        (Method::POST, MAPS, JSON, text("null"), 400),
        (Method::POST, MAPS, JSON, vec![0xff, 0xfe, 0], 400),
        (Method::POST, MAPS, JSON, deep.clone(), 400),
        (Method::POST, MAPS, JSON, wide, 413),
        (Method::POST, MAPS, JSON, many, 422),
        (Method::POST, MAPS, ("content-type", "application/yaml"), text("a: [b"), 400),
        (
            Method::POST,
            MAPS,
            ("content-type", "application/vnd.kubernetes.protobuf"),
            text("k8s\0\u{1}garbage"),
            400,
        ),
        (Method::POST, MAPS, ("content-type", "text/html"), object.clone(), 415),
        (Method::POST, MAPS, JSON, text(r#"{"metadata":{"name":"A B"}}"#), 422),
        (Method::POST, MAPS, JSON, text(r#"{"metadata":{"name":7}}"#), 400),
        (Method::POST, MAPS, JSON, text(r#"{"metadata":[]}"#), 400),
        (Method::POST, MAPS, JSON, text(r#"{"kind":"Pod","metadata":{"name":"a"}}"#), 400),
        (Method::POST, "/api/v1/namespaces/other/configmaps", JSON, object.clone(), 404),
        (Method::POST, MAPS, JSON, object, 201),
        (
            Method::PATCH,
            "/api/v1/namespaces/default/configmaps/hostile",
            patch("application/json-patch+json"),
            text(r#"[{"op":"move","from":"/data","path":"/data/a"}]"#),
            422,
        ),
        (
            Method::PATCH,
            "/api/v1/namespaces/default/configmaps/hostile",
            patch("application/json-patch+json"),
            text("{}"),
            400,
        ),
        (
            Method::PATCH,
            "/api/v1/namespaces/default/configmaps/hostile",
            patch("application/merge-patch+json"),
            text("7"),
            400,
        ),
        (
            Method::PATCH,
            "/api/v1/namespaces/default/configmaps/hostile",
            patch("application/merge-patch+json"),
            deep.clone(),
            400,
        ),
        (
            Method::PATCH,
            "/api/v1/namespaces/default/configmaps/hostile",
            patch("application/apply-patch+yaml"),
            text("data: {a: b}"),
            422,
        ),
        (
            Method::PATCH,
            "/api/v1/namespaces/default/configmaps/hostile",
            patch("application/x-patch"),
            text("{}"),
            415,
        ),
        (Method::GET, &hostile, JSON, Vec::new(), 400),
        (Method::GET, &long, JSON, Vec::new(), 400),
        (Method::GET, "/api/v1/configmaps?fieldSelector=%3D%3D%3D", JSON, Vec::new(), 400),
        (Method::GET, "/api/v1/configmaps?continue=AAAA", JSON, Vec::new(), 400),
        (Method::GET, "/api/v1/configmaps?resourceVersion=99999999999999999999", JSON, Vec::new(), 400),
        (Method::GET, "/api/v1/configmaps?limit=many", JSON, Vec::new(), 400),
        (Method::GET, "/api/v1/namespaces/%2e%2e/configmaps/x", JSON, Vec::new(), 404),
        (Method::GET, "/api/v1/nothings", JSON, Vec::new(), 404),
        (Method::GET, "/apis/none.example.com/v1", JSON, Vec::new(), 404),
        (Method::TRACE, MAPS, JSON, Vec::new(), 404),
        (Method::POST, "/api/v1/configmaps", JSON, Vec::new(), 405),
        (
            Method::DELETE,
            "/api/v1/namespaces/default/configmaps/hostile",
            JSON,
            text("{\"propagationPolicy\":\"Never\"}"),
            422,
        ),
        (Method::DELETE, "/api/v1/namespaces/kube-system", JSON, Vec::new(), 403),
    ];
    let mut wrong = Vec::new();
    for (method, path, header, body, expected) in table {
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let (code, answer) = ask(&sender, method.clone(), path, &[header], body).await;
        let is_status = expected < 300 || path.contains("%2e") || answer["kind"] == "Status" || code == 404;
        if code != expected || !is_status {
            wrong.push(format!(
                "{method} {path:.90} {shown}: {code} instead of {expected}: {}",
                answer["message"]
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(ask(&sender, Method::GET, "/livez", &[], Vec::new()).await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_told_that_they_are_strangers() {
    let cluster = Cluster::start(1);
    ready(&cluster).await;
    let other = tempfile::tempdir().unwrap();
    let others = crate::certificates::Certificates::write(other.path());
    let stranger = connect(&cluster, Some((&others.admin.0, &others.admin.1))).await;
    assert_eq!(ask(&stranger, Method::GET, MAPS, &[], Vec::new()).await.0, 401);
    let nobody = connect(&cluster, None).await;
    assert_eq!(ask(&nobody, Method::GET, MAPS, &[], Vec::new()).await.0, 401);
    assert_eq!(ask(&nobody, Method::GET, "/metrics", &[], Vec::new()).await.0, 401);
    for path in ["/livez", "/readyz", "/healthz", "/version"] {
        assert_eq!(ask(&nobody, Method::GET, path, &[], Vec::new()).await.0, 200, "{path}");
    }
    let long = format!("Bearer {}", "x".repeat(40_000));
    for token in
        ["Bearer x", "Bearer a.b.c", "Bearer eyJhbGciOiJub25lIn0.e30.", "Basic eDp5", "Bearer", long.as_str()]
    {
        let headers = [("authorization", token)];
        let (code, _) = ask(&nobody, Method::GET, MAPS, &headers, Vec::new()).await;
        assert!([401, 431].contains(&code), "{token:.40}: {code}");
    }
    // A certificate that is good, of somebody who may nothing.
    let (cert, key) = cluster.certificates.client("eva", &["devs"]);
    let eva = connect(&cluster, Some((&cert, &key))).await;
    let (code, answer) = ask(&eva, Method::GET, MAPS, &[], Vec::new()).await;
    assert_eq!((code, answer["reason"].as_str()), (403, Some("Forbidden")));
    let masters = [("impersonate-user", "admin"), ("impersonate-group", "system:masters")];
    assert_eq!(ask(&eva, Method::GET, MAPS, &masters, Vec::new()).await.0, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_say_half_and_ten_thousand_that_wait_disturb_nobody() {
    const HALVES: usize = 200;
    const CONNECTIONS: usize = 10;
    const WATCHES: usize = 1000;
    let cluster = Cluster::start(1);
    let sender = ready(&cluster).await;
    let mut halves = Vec::new();
    let connector = tls(&cluster, None, b"http/1.1");
    for number in 0..HALVES {
        let mut stream = TcpStream::connect(cluster.servers[0]).await.unwrap();
        match number % 3 {
            // Not even a handshake, half a handshake, half a request.
            0 => {}
            1 => stream.write_all(&[0x16, 3, 1]).await.unwrap(),
            _ => {
                let mut stream = dial(&cluster, &connector).await;
                stream.write_all(b"GET /api/v1/pods HTTP/1.1\r\nhost: x\r\nx-half").await.unwrap();
                stream.flush().await.unwrap();
                halves.push((None, Some(stream)));
                continue;
            }
        }
        halves.push((Some(stream), None));
    }
    let (code, list) = ask(&sender, Method::GET, MAPS, &[], Vec::new()).await;
    assert_eq!(code, 200, "{list}");

    let version = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let mut watches: Vec<Incoming> = Vec::new();
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let client = connect(&cluster, admin(&cluster)).await;
        for _ in 0..WATCHES {
            let path =
                format!("https://localhost{MAPS}?watch=true&resourceVersion={version}&timeoutSeconds=600");
            let request = Request::get(path).body(Full::new(Bytes::new())).unwrap();
            let response = tokio::time::timeout(PATIENCE, client.clone().send_request(request)).await;
            let response = response.unwrap().unwrap();
            assert_eq!(response.status(), 200);
            watches.push(response.into_body());
        }
        connections.push(client);
    }
    let made = br#"{"metadata":{"name":"seen"}}"#.to_vec();
    assert_eq!(ask(&sender, Method::POST, MAPS, &[JSON], made).await.0, 201);
    for watch in &mut watches {
        let frame = tokio::time::timeout(PATIENCE, watch.frame()).await.unwrap().unwrap().unwrap();
        let event: Value = serde_json::from_slice(frame.data_ref().unwrap()).unwrap();
        assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&"ADDED".into(), &"seen".into()));
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", cluster.pid(0))).unwrap();
    let resident: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok())
        .unwrap();
    assert!(resident < 1 << 20, "ten thousand idle watches take {resident} KiB");
    assert_eq!(ask(&sender, Method::GET, "/livez", &[], Vec::new()).await.0, 200);
    drop(halves);
}
