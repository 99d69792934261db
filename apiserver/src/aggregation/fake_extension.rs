//! A server of another group for tests: TLS for those who show the right certificate, discovery in both forms, objects, a
//! watch, upgrades that echo. Must never be part of a server.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use barque_store::config::TlsFiles;
use barque_store::tls::ServerTls;
use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, CONTENT_TYPE, LOCATION, UPGRADE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Where the group is.
pub(super) const ROOT: &str = "/apis/wardle.example.com/v1alpha1";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// What a test and the server share.
pub(super) struct Extension {
    /// Where it listens.
    pub(super) port: u16,
    /// What was asked, in order: method, address and headers.
    pub(super) asked: Mutex<Vec<String>>,
    /// Whether it knows aggregated discovery.
    pub(super) aggregates: AtomicBool,
    /// What is sent here comes out of the watch.
    events: Mutex<Option<mpsc::Receiver<&'static str>>>,
}

/// Certificate and key for a name, in files of a directory.
pub(super) fn certificate(directory: &Path, file: &str, name: &str) -> TlsFiles {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let files = [directory.join(format!("{file}.crt")), directory.join(format!("{file}.key"))];
    std::fs::write(&files[0], made.cert.pem()).unwrap();
    std::fs::write(&files[1], made.signing_key.serialize_pem()).unwrap();
    let [cert, key] = files;
    TlsFiles { cert_file: Some(cert), key_file: Some(key), ..TlsFiles::default() }
}

impl Extension {
    /// Starts one that wants to see a certificate that the authority in `files` has signed.
    pub(super) async fn start(files: &TlsFiles) -> (Arc<Self>, mpsc::Sender<&'static str>) {
        let tls = ServerTls::load(files).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (sender, events) = mpsc::channel(4);
        let extension = Arc::new(Self {
            port: listener.local_addr().unwrap().port(),
            asked: Mutex::default(),
            aggregates: AtomicBool::new(true),
            events: Mutex::new(Some(events)),
        });
        let served = Arc::clone(&extension);
        // The runtime of the test ends with the test, and this with it.
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = tokio_rustls::TlsAcceptor::from(tls.current());
                let extension = Arc::clone(&served);
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request| {
                        let extension = Arc::clone(&extension);
                        async move { Ok::<_, Infallible>(extension.answer(request).await) }
                    });
                    let server = hyper::server::conn::http1::Builder::new();
                    let _ = server.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
                });
            }
        });
        (extension, sender)
    }

    async fn answer(&self, mut request: Request<Incoming>) -> Answer {
        let told = format!("{} {} {:?}", request.method(), request.uri(), request.headers());
        self.asked.lock().push(told);
        if request.headers().contains_key(UPGRADE) {
            return upgrade(&mut request);
        }
        let path = request.uri().path().to_owned();
        let query = request.uri().query().unwrap_or_default().to_owned();
        let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let wants_all =
            accept.contains("as=APIGroupDiscoveryList") && self.aggregates.load(Ordering::Relaxed);
        let flunders = format!("{ROOT}/namespaces/default/flunders");
        match path.as_str() {
            "/apis" if wants_all => json_of(&aggregated(), AGGREGATED),
            "/apis" => json_of(&json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []}), JSON),
            "/openapi/v3" => json_of(
                &json!({"paths": {"apis/wardle.example.com/v1alpha1": {
                    "serverRelativeURL": format!("/openapi/v3{ROOT}?hash=ABC"),
                }}}),
                JSON,
            ),
            path if path == format!("/openapi/v3{ROOT}") => json_of(&json!({"openapi": "3.0.0"}), JSON),
            ROOT => json_of(&plain(), JSON),
            path if path == format!("{flunders}/moved") => {
                let mut response = text(StatusCode::FOUND, "");
                response.headers_mut().insert(LOCATION, "https://elsewhere/".parse().unwrap());
                response
            }
            path if path == flunders && query.contains("watch") => {
                let events = self.events.lock().take().expect("one watch is opened in a test");
                let lines = tokio_stream::StreamExt::map(ReceiverStream::new(events), |line| {
                    Ok::<_, Infallible>(Frame::data(Bytes::from_static(line.as_bytes())))
                });
                Response::new(StreamBody::new(lines).boxed_unsync())
            }
            path if path == flunders && request.method() == Method::POST => {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let mut response = text(StatusCode::CREATED, body);
                response.headers_mut().insert(CONTENT_TYPE, JSON.parse().unwrap());
                response
            }
            path if path.starts_with(&flunders) => {
                json_of(&json!({"kind": "FlunderList", "asked": path, "items": []}), JSON)
            }
            _ => text(StatusCode::NOT_FOUND, "404 page not found"),
        }
    }
}

const JSON: &str = "application/json";

fn aggregated() -> Value {
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "items": [{
        "metadata": {"name": "wardle.example.com"},
        "versions": [{"version": "v1alpha1", "freshness": "Current", "resources": [{
            "resource": "flunders", "scope": "Namespaced", "singularResource": "flunder", "verbs": ["get", "list"],
            "responseKind": {"group": "wardle.example.com", "version": "v1alpha1", "kind": "Flunder"},
        }]}],
    }]})
}

fn plain() -> Value {
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "wardle.example.com/v1alpha1", "resources": [
        {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": ["get", "list"]},
    ]})
}

fn upgrade(request: &mut Request<Incoming>) -> Answer {
    let mut response = text(StatusCode::SWITCHING_PROTOCOLS, "");
    response.headers_mut().insert(CONNECTION, "Upgrade".parse().unwrap());
    response.headers_mut().insert(UPGRADE, request.headers()[UPGRADE].clone());
    let upgrade = hyper::upgrade::on(request);
    tokio::spawn(async move {
        let (mut from, mut to) = tokio::io::split(TokioIo::new(upgrade.await.unwrap()));
        tokio::io::copy(&mut from, &mut to).await
    });
    response
}

fn json_of(value: &Value, content_type: &str) -> Answer {
    let mut response = text(StatusCode::OK, value.to_string());
    response.headers_mut().insert(CONTENT_TYPE, content_type.parse().unwrap());
    response
}

fn text(code: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(text.into()).boxed_unsync());
    *response.status_mut() = code;
    response
}
