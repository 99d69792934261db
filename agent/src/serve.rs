//! `/healthz` and `/metrics`, without TLS, for the machine itself. Must never change anything.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// Connections at once.
const CONNECTIONS: usize = 64;
/// The head of a request must have come within this time.
const PATIENCE: Duration = Duration::from_secs(10);
/// After a failure that has nothing to do with one connection, such as no free file descriptor.
const PAUSE: Duration = Duration::from_millis(100);

/// Listens.
pub(crate) async fn bind(address: SocketAddr) -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Serves until the token is cancelled.
pub(crate) async fn run(listener: TcpListener, metrics: Metrics, stop: CancellationToken) {
    let seats = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    let accepting = async {
        loop {
            let Ok(seat) = seats.clone().acquire_owned().await else { return };
            while connections.try_join_next().is_some() {}
            match listener.accept().await {
                Ok((stream, _)) => {
                    let metrics = metrics.clone();
                    let answers = service_fn(move |request: Request<Incoming>| {
                        let answer = answer(request.method(), request.uri().path(), &metrics);
                        async move { Ok::<_, Infallible>(answer) }
                    });
                    connections.spawn(async move {
                        let _seat = seat;
                        let served = http1::Builder::new()
                            .timer(TokioTimer::new())
                            .header_read_timeout(PATIENCE)
                            .serve_connection(TokioIo::new(stream), answers)
                            .await;
                        if let Err(error) = served {
                            tracing::debug!(%error, "a connection broke off");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "no connection can be accepted");
                    sleep(PAUSE).await;
                }
            }
        }
    };
    stop.run_until_cancelled(accepting).await;
    connections.shutdown().await;
}

fn answer(method: &Method, path: &str, metrics: &Metrics) -> Response<Full<Bytes>> {
    let (status, kind, text) = match path {
        _ if method != Method::GET && method != Method::HEAD => {
            (StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET\n".into())
        }
        "/healthz" => (StatusCode::OK, "text/plain; charset=utf-8", "ok".into()),
        "/metrics" => (StatusCode::OK, Metrics::CONTENT_TYPE, metrics.text()),
        _ => (StatusCode::NOT_FOUND, "text/plain", "404 page not found\n".into()),
    };
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_and_metrics_are_answered_and_nothing_else() {
        let metrics = Metrics::new();
        metrics.node("n1");
        metrics.pod_runs(true);
        let status = |method: &Method, path: &str| answer(method, path, &metrics).status().as_u16();
        for path in ["/healthz", "/metrics"] {
            assert_eq!(status(&Method::GET, path), 200);
            assert_eq!(status(&Method::POST, path), 405);
        }
        assert_eq!(status(&Method::GET, "/pods"), 404);
        let text = String::from_utf8(metrics.text()).unwrap();
        assert!(
            text.contains("kubelet_node_name{node=\"n1\"} 1\n") && text.contains("kubelet_running_pods 1\n"),
            "{text}"
        );
    }
}
