//! For tests: a webhook over real TLS that remembers what it was asked.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What a path answers to the request of a review: the `response` without its uid, or nothing for no answer at all.
pub(crate) type Respond = fn(&str, &Value) -> Option<Value>;

/// A server with webhooks at many paths.
pub(crate) struct Server {
    address: SocketAddr,
    bundle: String,
    /// Paths and requests, in their order.
    pub(crate) asked: Arc<Mutex<Vec<(String, Value)>>>,
    /// How many connections came, and how many of them are open.
    connections: watch::Sender<(usize, usize)>,
    /// Ends those that are open.
    cut: Arc<Notify>,
}

impl Server {
    pub(crate) async fn start(respond: Respond, tasks: &TaskTracker, stop: &CancellationToken) -> Self {
        let made =
            rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "hook.a.svc".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let (remembered, more, stop) = (Arc::clone(&asked), tasks.clone(), stop.clone());
        let (connections, cut) = (watch::Sender::new((0, 0)), Arc::new(Notify::new()));
        let (counted, cutting) = (connections.clone(), Arc::clone(&cut));
        tasks.spawn(async move {
            while let Some(Ok((stream, _))) = stop.run_until_cancelled(listener.accept()).await {
                let (acceptor, stop, asked) = (acceptor.clone(), stop.clone(), Arc::clone(&remembered));
                let (counted, cutting) = (counted.clone(), Arc::clone(&cutting));
                counted.send_modify(|(all, open)| (*all, *open) = (*all + 1, *open + 1));
                more.spawn(async move {
                    let answer = |request| answer(request, respond, Arc::clone(&asked));
                    let served = async {
                        let Ok(stream) = acceptor.accept(stream).await else { return };
                        let http = hyper::server::conn::http1::Builder::new();
                        let _ = http.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
                    };
                    tokio::select! {
                        _ = stop.run_until_cancelled(served) => {}
                        () = cutting.notified() => {}
                    }
                    counted.send_modify(|(_, open)| *open -= 1);
                });
            }
        });
        Self { address, bundle: STANDARD.encode(made.cert.pem()), asked, connections, cut }
    }

    /// The `clientConfig` of the webhook at a path.
    pub(crate) fn client(&self, path: &str) -> Value {
        json!({"url": format!("https://{}/{path}", self.address), "caBundle": self.bundle})
    }

    /// How many connections came so far.
    pub(crate) fn accepted(&self) -> usize {
        self.connections.borrow().0
    }

    /// Closes all connections, and waits until they are.
    pub(crate) async fn cut(&self) {
        self.cut.notify_waiters();
        self.connections.subscribe().wait_for(|(_, open)| *open == 0).await.unwrap();
    }

    /// The paths that were asked so far, which are forgotten.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.asked.lock().drain(..).map(|(path, _)| path).collect()
    }
}

async fn answer(
    request: Request<Incoming>,
    respond: Respond,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    assert!(request.uri().query().is_some_and(|query| query.starts_with("timeout=")), "{}", request.uri());
    let path = request.uri().path().trim_start_matches('/').to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let mut review: Value = serde_json::from_slice(&body).unwrap();
    let question = review["request"].take();
    let Some(mut response) = respond(&path, &question) else { return std::future::pending().await };
    response["uid"] = question["uid"].clone();
    asked.lock().push((path, question));
    review["response"] = response;
    Ok(Response::new(Full::new(review.to_string().into())))
}

/// A response that allows a request and patches its object.
pub(crate) fn patch(operations: &Value) -> Option<Value> {
    let patch = STANDARD.encode(operations.to_string());
    Some(json!({"allowed": true, "patchType": "JSONPatch", "patch": patch}))
}
