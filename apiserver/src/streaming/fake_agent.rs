//! An agent for tests: TLS, logs, upgrades that echo, and everything else told back. Must never be part of a server.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use barque_store::config::TlsFiles;
use barque_store::tls::ServerTls;
use bytes::Bytes;
use http::header::{
    CONNECTION, LOCATION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_util::task::TaskTracker;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// What a test and its agent share.
pub(super) struct Agent {
    /// Where it listens.
    pub(super) address: SocketAddr,
    /// Whether it speaks WebSocket; else SPDY only, as agents before 1.36.
    pub(super) websockets: AtomicBool,
    /// What was asked, in order: method, address and headers.
    pub(super) asked: Mutex<Vec<String>>,
    /// The log; what is taken from here is written to the client at once.
    log: Mutex<Option<mpsc::Receiver<&'static str>>>,
    upgraded: mpsc::Sender<TokioIo<hyper::upgrade::Upgraded>>,
}

/// Certificate and key of a server on this machine, in files.
pub(super) fn certificate(directory: &std::path::Path) -> (PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let files = (directory.join("tls.crt"), directory.join("tls.key"));
    std::fs::write(&files.0, made.cert.pem()).unwrap();
    std::fs::write(&files.1, made.signing_key.serialize_pem()).unwrap();
    files
}

impl Agent {
    /// Starts one. Connections that left HTTP are handed out.
    pub(super) async fn start(
        (cert, key): (PathBuf, PathBuf),
        log: mpsc::Receiver<&'static str>,
        tasks: &TaskTracker,
    ) -> (Arc<Self>, mpsc::Receiver<TokioIo<hyper::upgrade::Upgraded>>) {
        let files = TlsFiles { cert_file: Some(cert), key_file: Some(key), ..TlsFiles::default() };
        let tls = ServerTls::load(&files).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (upgraded, taken) = mpsc::channel(4);
        let agent = Arc::new(Self {
            address: listener.local_addr().unwrap(),
            websockets: AtomicBool::new(true),
            asked: Mutex::default(),
            log: Mutex::new(Some(log)),
            upgraded,
        });
        let (served, owned) = (Arc::clone(&agent), tasks.clone());
        // The runtime of the test ends with the test, and this with it.
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = tokio_rustls::TlsAcceptor::from(tls.current());
                let (agent, tasks) = (Arc::clone(&served), owned.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request| {
                        let (agent, tasks) = (Arc::clone(&agent), tasks.clone());
                        async move { Ok::<_, Infallible>(agent.answer(request, &tasks).await) }
                    });
                    let server = hyper::server::conn::http1::Builder::new();
                    let _ = server.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
                });
            }
        });
        (agent, taken)
    }

    async fn answer(&self, mut request: Request<Incoming>, tasks: &TaskTracker) -> Answer {
        let told = format!("{} {} {:?}", request.method(), request.uri(), request.headers());
        self.asked.lock().push(told.clone());
        let path = request.uri().path().to_owned();
        if request.headers().contains_key(UPGRADE) {
            return self.upgrade(&mut request, tasks);
        }
        if path == "/containerLogs/default/two/bad" {
            return text(StatusCode::BAD_REQUEST, "container \"bad\" in pod \"two\" is waiting to start");
        }
        if path.starts_with("/containerLogs/") {
            let log = self.log.lock().take().expect("one log is read in a test");
            let lines = tokio_stream::StreamExt::map(ReceiverStream::new(log), |line| {
                Ok::<_, Infallible>(Frame::data(Bytes::from_static(line.as_bytes())))
            });
            return Response::new(StreamBody::new(lines).boxed_unsync());
        }
        if path == "/metrics/resource" {
            return text(StatusCode::OK, self.resource_metrics());
        }
        if path == "/moved" {
            let mut response = text(StatusCode::FOUND, "");
            response.headers_mut().insert(LOCATION, "/elsewhere".parse().unwrap());
            return response;
        }
        let body = request.into_body().collect().await.unwrap().to_bytes();
        text(StatusCode::OK, format!("{told} {}", String::from_utf8_lossy(&body)))
    }

    /// Each time it is asked a second has gone by: the node used two cores, the container `a` of the pod `two` half of one.
    fn resource_metrics(&self) -> String {
        let times = self.asked.lock().iter().filter(|told| told.contains("/metrics/resource")).count();
        let (node, container, at) = (times * 2, times as f64 / 2.0, times * 1000);
        let labels = "{container=\"a\",namespace=\"default\",pod=\"two\"}";
        format!(
            "node_cpu_usage_seconds_total {node} {at}\nnode_memory_working_set_bytes 1073741824 {at}\n\
             container_cpu_usage_seconds_total{labels} {container} {at}\n\
             container_memory_working_set_bytes{labels} 1500 {at}\n"
        )
    }

    fn upgrade(&self, request: &mut Request<Incoming>, tasks: &TaskTracker) -> Answer {
        let headers = request.headers().clone();
        let mut response = text(StatusCode::SWITCHING_PROTOCOLS, "");
        let answer = response.headers_mut();
        answer.insert(CONNECTION, "Upgrade".parse().unwrap());
        answer.insert(UPGRADE, headers[UPGRADE].clone());
        if headers[UPGRADE] == "websocket" {
            if !self.websockets.load(Ordering::Relaxed) {
                return text(StatusCode::FORBIDDEN, "");
            }
            let key = derive_accept_key(headers[SEC_WEBSOCKET_KEY].as_bytes());
            answer.insert(SEC_WEBSOCKET_ACCEPT, key.parse().unwrap());
            answer.insert(SEC_WEBSOCKET_PROTOCOL, headers[SEC_WEBSOCKET_PROTOCOL].clone());
        } else if let Some(version) = headers.get("x-stream-protocol-version") {
            answer.insert("x-stream-protocol-version", version.clone());
        }
        let (upgrade, upgraded) = (hyper::upgrade::on(request), self.upgraded.clone());
        tasks.spawn(async move {
            if let Ok(stream) = upgrade.await {
                let _ = upgraded.send(TokioIo::new(stream)).await;
            }
        });
        response
    }
}

fn text(code: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(text.into()).boxed_unsync());
    *response.status_mut() = code;
    response
}
