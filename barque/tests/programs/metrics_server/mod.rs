//! A server of `metrics.k8s.io`, as the aggregator finds it: over TLS, with discovery, and with what the test says that pods use.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// Names of pods of whatever namespace is asked for, and what each uses of CPU.
pub(crate) type Usage = Arc<Mutex<Vec<(String, String)>>>;

/// Listens on a port of its own; it serves as long as the future is polled.
pub(crate) async fn listen(usage: Usage) -> (u16, impl Future<Output = ()>) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key.into())
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, usage) = (acceptor.clone(), usage.clone());
            connections.spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let answers = service_fn(move |request: Request<Incoming>| {
                    let answer = answer(request.uri().path(), &usage);
                    async move { Ok::<_, Infallible>(answer) }
                });
                // It ends when the other side does.
                let _ = auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), answers)
                    .await;
            });
        }
    };
    (port, serve)
}

fn answer(path: &str, usage: &Usage) -> Response<Full<Bytes>> {
    let body = match path {
        "/apis/metrics.k8s.io/v1beta1" => json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "metrics.k8s.io/v1beta1",
            "resources": [{"name": "pods", "singularName": "", "namespaced": true, "kind": "PodMetrics", "verbs": ["get", "list"]}],
        }),
        _ => match path
            .strip_prefix("/apis/metrics.k8s.io/v1beta1/namespaces/")
            .and_then(|of| of.strip_suffix("/pods"))
        {
            Some(namespace) => pods(namespace, usage),
            None => Value::Null,
        },
    };
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    if body.is_null() {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    response.headers_mut().insert("content-type", "application/json".parse().unwrap());
    response
}

fn pods(namespace: &str, usage: &Usage) -> Value {
    // What was measured before a pod was ready does not count.
    let now = k8s_openapi::jiff::Timestamp::now().to_string();
    let pod = |(name, cpu): &(String, String)| {
        json!({
            "metadata": {"name": name, "namespace": namespace}, "timestamp": now,
            "window": "1s", "containers": [{"name": "c", "usage": {"cpu": cpu}}],
        })
    };
    let items: Vec<Value> = usage.lock().unwrap().iter().map(pod).collect();
    json!({"kind": "PodMetricsList", "apiVersion": "metrics.k8s.io/v1beta1", "metadata": {}, "items": items})
}
