//! Streams through a whole server: raw clients on one side, an agent on the other.

use std::sync::Arc;

use barque_store::config::TlsFiles;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::dial::{AgentFlags, Dialer, Stream};
use super::fake_agent::{self, Agent};
use super::plan::{Target, Trust};
use crate::server::{self, Running, ServerSettings};
use crate::storage::memory::Memory;
use crate::storage::{Action, Expected, Storage as _, Write};
use crate::test_parts::{self, ADMIN};
use futures::StreamExt as _;

pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";

pub(super) type Upgraded = hyper_util::rt::TokioIo<hyper::upgrade::Upgraded>;

/// A server, the agent of its node `n`, and what a test holds of both.
pub(crate) struct Cluster {
    pub(crate) server: Running,
    pub(super) agent: Arc<Agent>,
    pub(super) taken: mpsc::Receiver<Upgraded>,
    log: mpsc::Sender<&'static str>,
    client: Dialer,
    storage: Memory,
    _files: tempfile::TempDir,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::with(|_| AgentFlags::default()).await
    }

    async fn with(flags: impl FnOnce(&std::path::Path) -> AgentFlags) -> Self {
        Self::configured(flags, &[], |_, _| {}).await
    }

    /// With objects that are there from the start, and other settings; these are told where files may lie.
    pub(crate) async fn configured(
        flags: impl FnOnce(&std::path::Path) -> AgentFlags,
        objects: &[(&str, Value)],
        change: impl FnOnce(&mut ServerSettings, &std::path::Path),
    ) -> Self {
        let files = tempfile::tempdir().unwrap();
        let (cert, key) = fake_agent::certificate(files.path());
        let (log, lines) = mpsc::channel(1);
        let (agent, taken) = Agent::start((cert.clone(), key.clone()), lines, &TaskTracker::new()).await;
        let tls = TlsFiles { cert_file: Some(cert), key_file: Some(key), ..TlsFiles::default() };
        let mut settings = test_parts::server(tls, flags(files.path()));
        change(&mut settings, files.path());
        let storage = Memory::new();
        for (key, object) in objects {
            keep(&storage, key, object).await;
        }
        let kept = test_parts::in_memory(storage.clone());
        let server = server::start(&settings, kept).await.unwrap();
        let client = Dialer::new(&AgentFlags::default()).unwrap();
        let cluster = Self { server, agent, taken, log, client, storage, _files: files };
        cluster.fill().await;
        cluster
    }

    async fn fill(&self) {
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"},
            "status": {
                "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": self.agent.address.port()}},
            },
        });
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}});
        let pod = |name: &str, containers: &[&str], node: &str| {
            let containers: Vec<Value> =
                containers.iter().map(|name| json!({"name": name, "image": "i"})).collect();
            let mut pod = json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
                "spec": {"containers": containers},
            });
            if !node.is_empty() {
                pod["spec"]["nodeName"] = node.into();
            }
            pod
        };
        self.create("/api/v1/namespaces", &namespace).await;
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
        self.create("/api/v1/namespaces/default/serviceaccounts", &account).await;
        self.create("/api/v1/nodes", &node).await;
        let headers = "content-type: application/merge-patch+json\r\n";
        let status = json!({"status": node["status"]}).to_string();
        let (code, answer) = self.ask("PATCH", "/api/v1/nodes/n/status", headers, &status).await;
        assert_eq!(code, 200, "{answer}");
        self.create(PODS, &pod("p", &["c"], "n")).await;
        self.create(PODS, &pod("two", &["a", "bad"], "n")).await;
        self.create(PODS, &pod("waits", &["c"], "")).await;
        self.create(PODS, &pod("lost", &["c"], "gone")).await;
    }

    pub(crate) async fn create(&self, path: &str, object: &Value) {
        let (code, answer) = self.ask("POST", path, "", &object.to_string()).await;
        assert!([201, 409].contains(&code), "{path}: {code} {answer}");
    }

    /// Puts an object where it is kept, past everything.
    async fn keep(&self, key: &str, object: &Value) {
        keep(&self.storage, key, object).await;
    }

    async fn connect(&self) -> Box<dyn Stream> {
        let address = self.server.address;
        let target = Target {
            tls: true,
            host: address.ip().to_string(),
            port: address.port(),
            path: String::new(),
            query: String::new(),
            trust: Trust::Anybody,
        };
        self.client.connect(&target).await.unwrap()
    }

    /// Sends a request whose further headers are `headers`; the answer's head is read, nothing more.
    async fn begin(&self, method: &str, path: &str, headers: &str, body: &str) -> (Box<dyn Stream>, String) {
        let mut stream = self.connect().await;
        let length =
            if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
        let kind = if headers.contains("content-type") { "" } else { "content-type: application/json\r\n" };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: api.example\r\nauthorization: Bearer {ADMIN}\r\n{kind}{length}{headers}\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let head = read_head(&mut stream).await;
        (stream, head)
    }

    /// Asks and reads the answer to its end.
    pub(crate) async fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        let headers = format!("connection: close\r\n{headers}");
        let (mut stream, head) = self.begin(method, path, &headers, body).await;
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        (code(&head), format!("{head}{rest}"))
    }

    pub(crate) async fn upgrade(&self, method: &str, path: &str, headers: &str) -> (Box<dyn Stream>, String) {
        self.begin(method, path, &format!("connection: Upgrade\r\n{headers}"), "").await
    }

    pub(crate) fn asked(&self) -> String {
        self.agent.asked.lock().last().cloned().unwrap_or_default()
    }

    pub(crate) fn times_asked(&self, path: &str) -> usize {
        self.agent.asked.lock().iter().filter(|told| told.contains(path)).count()
    }
}

async fn keep(storage: &Memory, key: &str, object: &Value) {
    let action = Action::Put { value: object.to_string().into(), lease: None };
    let write = Write { key: key.to_owned().into(), expected: Expected::Absent, action };
    storage.write(&write).await.unwrap();
}

async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(error) => panic!("{error} after {}", String::from_utf8_lossy(&head)),
        }
    }
    String::from_utf8(head).unwrap()
}

pub(super) fn code(head: &str) -> u16 {
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

pub(super) async fn read_until(stream: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end.as_bytes()) {
        bytes.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn a_log_is_followed_line_by_line() {
    let cluster = Cluster::start().await;
    cluster.log.send("one\n").await.unwrap();
    let path = format!("{PODS}/p/log?follow=true&tailLines=5");
    let (mut stream, head) = cluster.begin("GET", &path, "", "").await;
    assert_eq!(code(&head), 200);
    assert!(head.contains("content-type: text/plain\r\n"), "{head}");
    read_until(&mut stream, "one\n").await;
    cluster.log.send("two\n").await.unwrap();
    read_until(&mut stream, "two\n").await;
    let asked = cluster.asked();
    assert!(asked.starts_with("GET /containerLogs/default/p/c?follow=true&tailLines=5 "), "{asked}");
    assert!(!asked.contains(ADMIN), "{asked}");
    // A log that is followed does not hold up a server that stops.
    cluster.server.stop().await;
}

#[tokio::test]
async fn logs_that_cannot_be_had_are_told_in_kubernetes_words() {
    let cluster = Cluster::start().await;
    let table = [
        ("none/log", 404, "pods \\\"none\\\" not found"),
        ("two/log", 400, "a container name must be specified for pod two, choose one of: [a bad]"),
        ("p/log?container=x", 400, "container x is not valid for pod p"),
        ("p/log?tailLines=-1", 422, "PodLogOptions \\\"p\\\" is invalid: tailLines: Invalid value: -1"),
        ("lost/log", 404, "nodes \\\"gone\\\" not found"),
        ("waits/log", 204, ""),
        ("two/log?container=bad", 400, "container \\\"bad\\\" in pod \\\"two\\\" is waiting to start"),
    ];
    for (path, wanted, told) in table {
        let (code, answer) = cluster.ask("GET", &format!("{PODS}/{path}"), "", "").await;
        assert_eq!(code, wanted, "{path}: {answer}");
        assert!(answer.contains(told), "{path}: {answer}");
    }
    cluster.server.stop().await;
}

#[tokio::test]
async fn spdy_goes_through_byte_by_byte() {
    let mut cluster = Cluster::start().await;
    let headers = "upgrade: SPDY/3.1\r\nx-stream-protocol-version: v4.channel.k8s.io\r\n";
    for (path, target) in [
        (
            "p/exec?command=sh&command=-c&stdin=true&stdout=true",
            "/exec/default/p/c?command=sh&command=-c&input=1&output=1",
        ),
        ("p/attach?container=c&stdout=true", "/attach/default/p/c?output=1"),
        ("p/portforward?ports=80", "/portForward/default/p?port=80"),
    ] {
        let (mut client, head) = cluster.upgrade("POST", &format!("{PODS}/{path}"), headers).await;
        assert_eq!(code(&head), 101, "{head}");
        assert!(head.to_ascii_lowercase().contains("upgrade: spdy/3.1\r\n"), "{head}");
        assert!(head.contains("x-stream-protocol-version: v4.channel.k8s.io\r\n"), "{head}");
        let asked = cluster.asked();
        assert!(asked.starts_with(&format!("POST {target} ")), "{asked}");
        assert!(!asked.contains(ADMIN) && asked.contains("\"x-forwarded-for\": \"127.0.0.1\""), "{asked}");

        let mut agent = cluster.taken.recv().await.unwrap();
        client.write_all(b"from the client").await.unwrap();
        client.flush().await.unwrap();
        assert_eq!(read_until(&mut agent, "client").await, "from the client");
        agent.write_all(b"from the agent").await.unwrap();
        agent.shutdown().await.unwrap();
        assert_eq!(read_until(&mut client, "agent").await, "from the agent");
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    }
    cluster.server.stop().await;
}

#[tokio::test]
async fn a_websocket_goes_through_to_an_agent_that_speaks_it() {
    let mut cluster = Cluster::start().await;
    let headers = "upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   sec-websocket-protocol: v5.channel.k8s.io\r\n";
    let (mut client, head) =
        cluster.upgrade("GET", &format!("{PODS}/p/exec?command=ls&stdout=true"), headers).await;
    assert_eq!(code(&head), 101, "{head}");
    assert!(head.contains("sec-websocket-protocol: v5.channel.k8s.io\r\n"), "{head}");
    assert!(head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
    assert!(cluster.asked().starts_with("GET /exec/default/p/c?command=ls&output=1 "));
    let mut agent = cluster.taken.recv().await.unwrap();
    client.write_all(b"\x82\x80").await.unwrap();
    client.flush().await.unwrap();
    assert_eq!(agent.read_u16().await.unwrap(), 0x8280);
    drop(client);
    assert_eq!(agent.read(&mut [0]).await.unwrap(), 0);
    cluster.server.stop().await;
}

#[tokio::test]
async fn what_cannot_run_is_told_before_anything_is_upgraded() {
    let cluster = Cluster::start().await;
    let table = [
        ("POST", "p/exec?command=ls", 400, "Upgrade request required"),
        ("POST", "waits/exec?command=ls", 400, "pod waits does not have a host assigned"),
        ("GET", "two/attach", 400, "choose one of: [a bad]"),
        ("POST", "p/portforward?ports=x", 400, "invalid syntax"),
        ("DELETE", "p/exec", 405, "delete is not supported on resources of kind \\\"pods/exec\\\""),
        ("POST", "p/log", 405, "create is not supported on resources of kind \\\"pods/log\\\""),
    ];
    for (method, path, wanted, told) in table {
        let (code, answer) = cluster.ask(method, &format!("{PODS}/{path}"), "", "").await;
        assert_eq!(code, wanted, "{path}: {answer}");
        assert!(answer.contains(told), "{path}: {answer}");
    }
    cluster.server.stop().await;
}

#[tokio::test]
async fn a_proxy_passes_on_method_path_and_body() {
    let cluster = Cluster::start().await;
    let node = "/api/v1/nodes/n/proxy";
    let (code, answer) =
        cluster.ask("PUT", &format!("{node}/a/../b%20c/?x=1&y=2"), "accept: text/x\r\n", "body").await;
    assert_eq!(code, 200, "{answer}");
    assert!(answer.contains("PUT /b%20c/?x=1&y=2 "), "{answer}");
    assert!(answer.contains("\"accept\": \"text/x\"") && answer.contains("} body"), "{answer}");
    assert!(
        answer.contains("\"x-forwarded-host\": \"api.example\"") && !answer.contains("secret"),
        "{answer}"
    );

    let (code, answer) = cluster.ask("GET", &format!("{node}?a=b"), "", "").await;
    assert_eq!(code, 301);
    assert!(answer.contains("location: /api/v1/nodes/n/proxy/?a=b\r\n"), "{answer}");
    let (code, answer) = cluster.ask("GET", &format!("{node}/moved"), "", "").await;
    assert_eq!(code, 302);
    assert!(answer.contains("location: /api/v1/nodes/n/proxy/elsewhere\r\n"), "{answer}");

    let table = [
        ("/api/v1/nodes/n:1/proxy/", 400, "address not allowed"),
        ("/api/v1/nodes/a:b:c/proxy/", 400, "invalid node request \\\"a:b:c\\\""),
        ("/api/v1/namespaces/default/pods/p/proxy/", 400, "address not allowed"),
        ("/api/v1/namespaces/default/services/s/proxy/", 404, "services \\\"s\\\" not found"),
    ];
    for (path, wanted, told) in table {
        let (code, answer) = cluster.ask("GET", path, "", "").await;
        assert_eq!(code, wanted, "{path}: {answer}");
        assert!(answer.contains(told), "{path}: {answer}");
    }
    cluster.server.stop().await;
}

#[tokio::test]
async fn a_service_is_reached_at_the_address_of_its_pod_and_nowhere_else() {
    let cluster = Cluster::start().await;
    let namespace = "/api/v1/namespaces/default";
    let port = cluster.agent.address.port();
    // Clients may not write addresses of the loopback, and tests listen nowhere else: it is put where it is kept.
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": "s", "namespace": "default", "uid": "e"},
        "subsets": [{
            "addresses": [{"ip": "127.0.0.1", "targetRef": {"kind": "Pod", "namespace": "default", "name": "p"}}],
            "ports": [{"name": "web", "port": port}],
        }],
    });
    cluster.keep("/registry/services/endpoints/default/s", &endpoints).await;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
        "spec": {"clusterIP": "None", "ports": [{"name": "web", "port": 443}]},
    });
    cluster.create(&format!("{namespace}/services"), &service).await;
    let path = format!("{namespace}/services/https:s:443/proxy/a?b=c");
    // No pod has this address yet.
    let (code, answer) = cluster.ask("GET", &path, "", "").await;
    assert_eq!(code, 503, "{answer}");
    assert!(answer.contains("no endpoints available for service \\\"https:s:443\\\""), "{answer}");
    let headers = "content-type: application/merge-patch+json\r\n";
    let status = json!({"status": {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}}).to_string();
    let (code, answer) = cluster.ask("PATCH", &format!("{PODS}/p/status"), headers, &status).await;
    assert_eq!(code, 200, "{answer}");
    let (code, answer) = cluster.ask("GET", &path, "", "").await;
    assert_eq!(code, 200, "{answer}");
    assert!(answer.contains("GET /a?b=c "), "{answer}");
    let (code, answer) = cluster.ask("GET", &format!("{namespace}/services/s:80/proxy/"), "", "").await;
    assert_eq!(code, 503, "{answer}");
    assert!(answer.contains("no service port 80 found for service \\\"s\\\""), "{answer}");
    cluster.server.stop().await;
}

#[tokio::test]
async fn a_watch_is_followed_over_a_websocket() {
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::protocol::Role;

    let cluster = Cluster::start().await;
    let headers = "upgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let path = "/api/v1/namespaces/default/pods?watch=true&fieldSelector=metadata.name%3Dp";
    let (stream, head) = cluster.upgrade("GET", path, headers).await;
    assert_eq!(code(&head), 101, "{head}");
    assert!(head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
    let event = socket.next().await.unwrap().unwrap().into_text().unwrap();
    let event: Value = serde_json::from_str(&event).unwrap();
    assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&json!("ADDED"), &json!("p")));
    let (code, answer) = cluster.ask("DELETE", &format!("{PODS}/p?gracePeriodSeconds=0"), "", "").await;
    assert_eq!(code, 200, "{answer}");
    let event = socket.next().await.unwrap().unwrap().into_text().unwrap();
    assert_eq!(serde_json::from_str::<Value>(&event).unwrap()["type"], "DELETED");
    // The server stops without waiting for whoever watches.
    cluster.server.stop().await;
}

#[tokio::test]
async fn an_agent_must_have_a_certificate_of_the_authority_that_is_named() {
    // Another one that signs itself.
    let cluster = Cluster::with(|directory| {
        let other = directory.join("other");
        std::fs::create_dir(&other).unwrap();
        AgentFlags { certificate_authority: Some(fake_agent::certificate(&other).0), ..AgentFlags::default() }
    })
    .await;
    let (code, answer) = cluster.ask("GET", &format!("{PODS}/p/log"), "", "").await;
    assert_eq!(code, 500, "{answer}");
    let told = "tls: failed to verify certificate: x509: certificate signed by unknown authority";
    assert!(answer.contains(told), "{answer}");
    cluster.log.send("one\n").await.unwrap();
    let path = format!("{PODS}/p/log?insecureSkipTLSVerifyBackend=true");
    let (mut stream, head) = cluster.begin("GET", &path, "", "").await;
    assert_eq!(head.split(" ").nth(1), Some("200"), "{head}");
    read_until(&mut stream, "one\n").await;
    cluster.server.stop().await;
}
