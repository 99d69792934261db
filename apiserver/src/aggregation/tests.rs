//! Groups of another server through a whole server: a client on one side, the other server on the other.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use barque_store::config::TlsFiles;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::dial::Dialer;
use super::endpoints::Address;
use super::fake_extension::{Extension, ROOT, certificate};
use super::proxy::{Sender, Target};
use crate::relay::Relay;
use crate::server::{self, Running};
use crate::storage::memory::Memory;
use crate::storage::{Action, Expected, Storage as _, Write, Written};
use crate::streaming::dial::AgentFlags;
use crate::test_parts::{self, ADMIN};

const NAME: &str = "v1alpha1.wardle.example.com";
const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const ALL: (HeaderName, &str) =
    (ACCEPT, "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
const PATIENCE: Duration = Duration::from_secs(60);

/// A server that shows a certificate to others, and what a test has of it.
struct Cluster {
    server: Running,
    storage: Memory,
    client: Sender,
    files: tempfile::TempDir,
}

impl Cluster {
    async fn start() -> Self {
        let files = tempfile::tempdir().unwrap();
        let tls = certificate(files.path(), "server", "127.0.0.1");
        let storage = Memory::new();
        let mut settings = test_parts::server(tls, AgentFlags::default());
        settings.proxy_client = certificate(files.path(), "proxy", "front-proxy");
        let server = server::start(&settings, test_parts::in_memory(storage.clone())).await.unwrap();
        let client = Sender {
            dialer: Dialer::new(&TlsFiles::default()).unwrap(),
            relay: Relay::new(TaskTracker::new(), CancellationToken::new()),
            drain: CancellationToken::new(),
        };
        let cluster = Self { server, storage, client, files };
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}});
        let (code, answer) = cluster.ask(Method::POST, "/api/v1/namespaces", &[], &namespace).await;
        assert!([201, 409].contains(&code), "{answer}");
        cluster
    }

    /// A server of another group that has a certificate for this name, and its certificate as an `APIService` tells it.
    async fn extension(
        &self,
        name: &str,
    ) -> (Arc<Extension>, tokio::sync::mpsc::Sender<&'static str>, String) {
        let mut tls = certificate(self.files.path(), "extension", name);
        tls.trusted_ca_file = Some(self.files.path().join("proxy.crt"));
        let (extension, events) = Extension::start(&tls).await;
        let bundle = STANDARD.encode(std::fs::read(tls.cert_file.unwrap()).unwrap());
        (extension, events, bundle)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, &str)],
        body: &Value,
    ) -> Response<Incoming> {
        let address = self.server.address;
        let target = Target {
            address: Address { host: address.ip().to_string(), port: address.port() },
            host: "127.0.0.1".to_owned(),
            verifier: self.client.dialer.anybody(),
        };
        let mut sent = HeaderMap::new();
        sent.insert(AUTHORIZATION, format!("Bearer {ADMIN}").parse().unwrap());
        sent.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in headers {
            sent.insert(name.clone(), value.parse().unwrap());
        }
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let body = Full::new(body).map_err(|never| match never {}).boxed_unsync();
        self.client.send(&target, method, path, sent, body).await.unwrap()
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, &str)],
        body: &Value,
    ) -> (u16, String) {
        let response = self.send(method, path, headers, body).await;
        let code = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (code, String::from_utf8_lossy(&body).into_owned())
    }

    async fn get(&self, path: &str) -> (u16, String) {
        self.ask(Method::GET, path, &[], &Value::Null).await
    }

    async fn create(&self, path: &str, object: Value) {
        let (code, answer) = self.ask(Method::POST, path, &[], &object).await;
        assert_eq!(code, 201, "{answer}");
    }

    /// Asks until the answer is as wanted: what one part of the server has seen, another may see a moment later.
    async fn until(
        &self,
        path: &str,
        headers: &[(HeaderName, &str)],
        wanted: impl Fn(u16, &str) -> bool,
    ) -> String {
        let asking = async {
            loop {
                let (code, answer) = self.ask(Method::GET, path, headers, &Value::Null).await;
                if wanted(code, &answer) {
                    return answer;
                }
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.expect("the answer is never as wanted")
    }

    /// Watches an object until an event is as wanted.
    async fn watch(&self, collection: &str, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let path = format!("{collection}?watch=1&resourceVersion=0&fieldSelector=metadata.name={name}");
        let mut body = self.send(Method::GET, &path, &[], &Value::Null).await.into_body();
        let mut seen = String::new();
        let watching = async {
            loop {
                let frame = body.frame().await.expect("the watch ended").unwrap();
                seen.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
                while let Some((line, rest)) = seen.split_once('\n') {
                    let event: Value = serde_json::from_str(line).unwrap();
                    seen = rest.to_owned();
                    if wanted(&event) {
                        return event;
                    }
                }
            }
        };
        tokio::time::timeout(PATIENCE, watching).await.expect("no event is as wanted")
    }

    /// Waits for a condition, and returns its message.
    async fn condition(&self, name: &str, status: &str, reason: &str) -> String {
        let of = |event: &Value| event["object"]["status"]["conditions"][0].clone();
        let event = self
            .watch(SERVICES, name, |event| of(event)["status"] == status && of(event)["reason"] == reason)
            .await;
        of(&event)["message"].as_str().unwrap().to_owned()
    }

    async fn create_service(&self) {
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "wardle"},
            "spec": {"ports": [{"name": "https", "port": 443, "targetPort": 8443}]},
        });
        self.create("/api/v1/namespaces/default/services", service).await;
    }

    /// Written into the store, as nobody may tell the API of addresses of the machine itself.
    async fn create_slice(&self, port: u16) {
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": "wardle-1", "namespace": "default", "uid": "1",
                "labels": {"kubernetes.io/service-name": "wardle"},
            },
            "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": true}}],
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        });
        let key = "/registry/endpointslices/default/wardle-1".into();
        let action = Action::Put { value: slice.to_string().into(), lease: None };
        let written = self.storage.write(&Write { key, expected: Expected::Absent, action }).await.unwrap();
        assert!(matches!(written, Written::Done(_)));
    }

    async fn register(&self, trust: Value) {
        let mut service = json!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": NAME},
            "spec": {
                "group": "wardle.example.com", "version": "v1alpha1", "groupPriorityMinimum": 1000,
                "versionPriority": 15, "service": {"namespace": "default", "name": "wardle"},
            },
        });
        for (field, value) in trust.as_object().unwrap() {
            service["spec"][field] = value.clone();
        }
        self.create(SERVICES, service).await;
    }
}

fn flunders(rest: &str) -> String {
    format!("{ROOT}/namespaces/default/flunders{rest}")
}

/// The group as aggregated discovery tells it.
fn group(document: &str) -> Option<Value> {
    let document: Value = serde_json::from_str(document).ok()?;
    let mut groups = document["items"].as_array()?.iter();
    groups.find(|group| group["metadata"]["name"] == "wardle.example.com").cloned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_another_server_is_served_as_if_it_were_here() {
    let cluster = Cluster::start().await;
    let (extension, events, bundle) = cluster.extension("wardle.default.svc").await;
    cluster.create_service().await;
    cluster.create_slice(extension.port).await;
    cluster.register(json!({"caBundle": bundle})).await;
    assert_eq!(cluster.condition(NAME, "True", "Passed").await, "all checks passed");

    let current = |_: u16, answer: &str| {
        group(answer).is_some_and(|group| group["versions"][0]["freshness"] == "Current")
    };
    let told = group(&cluster.until("/apis", &[ALL], current).await).unwrap();
    assert_eq!(told["versions"][0]["resources"][0]["responseKind"]["kind"], "Flunder");
    let (_, groups) = cluster.get("/apis").await;
    assert!(groups.contains("\"groupVersion\":\"wardle.example.com/v1alpha1\""), "{groups}");
    let (_, one) = cluster.get("/apis/wardle.example.com").await;
    assert!(one.contains("\"kind\":\"APIGroup\""), "{one}");
    let (_, resources) = cluster.get(ROOT).await;
    assert!(resources.contains("\"name\":\"flunders\""), "{resources}");
    let (_, index) = cluster.get("/openapi/v3").await;
    assert!(index.contains("/openapi/v3/apis/wardle.example.com/v1alpha1?hash=ABC"), "{index}");
    assert_eq!(cluster.get(&format!("/openapi/v3{ROOT}?hash=ABC")).await.1, "{\"openapi\":\"3.0.0\"}");

    extension.asked.lock().clear();
    let claims = [
        (HeaderName::from_static("x-remote-user"), "root"),
        (HeaderName::from_static("x-remote-extra-evil"), "yes"),
    ];
    let (code, list) = cluster.ask(Method::GET, &flunders("?limit=500"), &claims, &Value::Null).await;
    assert!(code == 200 && list.contains("FlunderList"), "{list}");
    let asked = extension.asked.lock().pop().unwrap();
    assert!(asked.starts_with(&format!("GET {} ", flunders("?limit=500"))), "{asked}");
    for wanted in ["\"x-remote-user\": \"admin\"", "\"x-remote-uid\": \"1\"", "\"system:masters\""] {
        assert!(asked.contains(wanted), "{wanted}: {asked}");
    }
    for secret in [ADMIN, "root", "evil"] {
        assert!(!asked.contains(secret), "{secret}: {asked}");
    }
    assert!(cluster.get(&flunders("/one")).await.1.contains("flunders/one"));
    let flunder = json!({"kind": "Flunder", "metadata": {"name": "one"}});
    let created = cluster.ask(Method::POST, &flunders(""), &[], &flunder).await;
    assert_eq!(created, (201, flunder.to_string()));
    let refused = "the backend attempted to redirect this request, which is not permitted";
    assert_eq!(cluster.get(&flunders("/moved")).await, (502, refused.to_owned()));

    let mut watch = cluster.send(Method::GET, &flunders("?watch=true"), &[], &Value::Null).await.into_body();
    for event in ["{\"type\":\"ADDED\"}\n", "{\"type\":\"DELETED\"}\n"] {
        events.send(event).await.unwrap();
        assert_eq!(watch.frame().await.unwrap().unwrap().into_data().unwrap(), event);
    }
    // A watch that nobody ends does not hold up a server that stops.
    cluster.server.stop().await;
    assert!(watch.frame().await.is_none_or(|frame| frame.is_err()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_knows_plain_discovery_only_is_told_in_both_forms() {
    let cluster = Cluster::start().await;
    let (extension, _events, bundle) = cluster.extension("wardle.default.svc").await;
    extension.aggregates.store(false, Ordering::Relaxed);
    cluster.create_service().await;
    cluster.create_slice(extension.port).await;
    cluster.register(json!({"caBundle": bundle})).await;
    let whole = |_: u16, answer: &str| {
        group(answer).is_some_and(|group| group["versions"][0]["resources"][0]["resource"] == "flunders")
    };
    let told = group(&cluster.until("/apis", &[ALL], whole).await).unwrap();
    assert_eq!(
        told["versions"][0]["resources"],
        json!([{
            "resource": "flunders", "scope": "Namespaced", "singularResource": "flunder", "verbs": ["get", "list"],
            "responseKind": {"group": "wardle.example.com", "version": "v1alpha1", "kind": "Flunder"},
        }])
    );
    cluster.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_certificate_is_not_believed() {
    let cluster = Cluster::start().await;
    let (extension, _events, _) = cluster.extension("wardle.default.svc").await;
    let other = certificate(cluster.files.path(), "other", "wardle.default.svc");
    let bundle = STANDARD.encode(std::fs::read(other.cert_file.unwrap()).unwrap());
    cluster.create_service().await;
    cluster.create_slice(extension.port).await;
    cluster.register(json!({"caBundle": bundle})).await;
    // As in Kubernetes, whether something answers is looked at without looking at its certificate.
    cluster.condition(NAME, "True", "Passed").await;
    let told = cluster.until(&flunders(""), &[], |code, text| code == 503 && text.contains("reach")).await;
    assert_eq!(
        told,
        "error trying to reach service: tls: failed to verify certificate: x509: certificate signed by unknown \
         authority\n"
    );
    let (_, all) = cluster.ask(Method::GET, "/apis", &[ALL], &Value::Null).await;
    assert_eq!(
        group(&all).unwrap()["versions"],
        json!([{"version": "v1alpha1", "freshness": "Stale", "resources": []}])
    );
    assert!(!extension.asked.lock().iter().any(|asked| asked.contains("flunders")));
    cluster.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_of_a_service_is_told_one_after_the_other() {
    let cluster = Cluster::start().await;
    cluster.register(json!({"insecureSkipTLSVerify": true})).await;
    assert_eq!(
        cluster.condition(NAME, "False", "ServiceNotFound").await,
        "service/wardle in \"default\" is not present"
    );
    let unavailable = cluster.until(&flunders(""), &[], |code, _| code != 404).await;
    assert_eq!(unavailable, "service unavailable\n");
    cluster.create_service().await;
    assert_eq!(
        cluster.condition(NAME, "False", "EndpointsNotFound").await,
        "cannot find endpointslices for service/wardle in \"default\""
    );
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    cluster.create_slice(closed).await;
    let url = format!("https://127.0.0.1:{closed}{ROOT}");
    assert_eq!(
        cluster.condition(NAME, "False", "FailedDiscoveryCheck").await,
        format!(
            "failing or missing response from {url}: Get \"{url}\": dial tcp 127.0.0.1:{closed}: connect: connection \
             refused"
        )
    );
    let (code, _) = cluster.ask(Method::DELETE, &format!("{SERVICES}/{NAME}"), &[], &Value::Null).await;
    assert_eq!(code, 200);
    cluster.until(&flunders(""), &[], |code, _| code == 404).await;
    cluster.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_leaves_http_is_passed_through() {
    let cluster = Cluster::start().await;
    let (extension, _events, _) = cluster.extension("nobody").await;
    cluster.create_service().await;
    cluster.create_slice(extension.port).await;
    cluster.register(json!({"insecureSkipTLSVerify": true})).await;
    cluster.until(&flunders(""), &[], |code, _| code == 200).await;
    let headers = [(CONNECTION, "Upgrade"), (UPGRADE, "SPDY/3.1")];
    let response = cluster.send(Method::GET, &flunders("/one/exec"), &headers, &Value::Null).await;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    stream.write_all(b"ping").await.unwrap();
    stream.flush().await.unwrap();
    let mut four = [0; 4];
    stream.read_exact(&mut four).await.unwrap();
    assert_eq!(&four, b"ping");
    let asked = extension.asked.lock().pop().unwrap();
    assert!(asked.contains("\"x-remote-user\": \"admin\"") && !asked.contains(ADMIN), "{asked}");
    cluster.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_served_here_is_available_and_comes_and_goes_with_definitions() {
    let cluster = Cluster::start().await;
    let local = "Local APIServices are always available";
    assert_eq!(cluster.condition("v1.apps", "True", "Local").await, local);
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true,
            }}}],
        },
    });
    cluster.create(definitions, definition).await;
    assert_eq!(cluster.condition("v1.example.com", "True", "Local").await, local);
    let (_, made) = cluster.get(&format!("{SERVICES}/v1.example.com")).await;
    let made: Value = serde_json::from_str(&made).unwrap();
    assert_eq!(made["metadata"]["labels"], json!({"kube-aggregator.kubernetes.io/automanaged": "true"}));
    let path = format!("{definitions}/widgets.example.com");
    let (code, answer) = cluster.ask(Method::DELETE, &path, &[], &Value::Null).await;
    assert_eq!(code, 200, "{answer}");
    cluster.until(&format!("{SERVICES}/v1.example.com"), &[], |code, _| code == 404).await;
    cluster.server.stop().await;
}
