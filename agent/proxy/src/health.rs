//! The health-check node ports of services: load balancers ask there whether this node has endpoints. Must never change
//! anything.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::services::Health;

/// Connections at once to one port.
const CONNECTIONS: usize = 64;
/// The head of a request must have come within this time.
const PATIENCE: Duration = Duration::from_secs(10);
/// After a failure that has nothing to do with one connection, such as no free file descriptor.
const PAUSE: Duration = Duration::from_millis(100);

/// Listens at the ports of all services that have one.
#[derive(Debug, Default)]
pub(crate) struct HealthPorts {
    ports: HashMap<u16, Port>,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Port {
    told: watch::Sender<Health>,
    stop: CancellationToken,
}

impl HealthPorts {
    /// Listens at these ports and no others from now on.
    pub(crate) async fn set<'a>(&mut self, wanted: impl Iterator<Item = &'a Health>) {
        let wanted: HashMap<u16, &Health> = wanted.map(|health| (health.port, health)).collect();
        self.ports.retain(|port, open| {
            let keep = wanted.contains_key(port);
            if !keep {
                open.stop.cancel();
            }
            keep
        });
        while self.tasks.try_join_next().is_some() {}
        for (port, health) in wanted {
            if let Some(open) = self.ports.get(&port) {
                open.told.send_if_modified(|told| {
                    let changed = told != health;
                    told.clone_from(health);
                    changed
                });
                continue;
            }
            match bind(port).await {
                Ok(listener) => {
                    let (told, seen) = watch::channel(health.clone());
                    let stop = CancellationToken::new();
                    self.tasks.spawn(serve(listener, seen, stop.clone()));
                    self.ports.insert(port, Port { told, stop });
                }
                // Tried again with the next change; load balancers take silence for no.
                Err(error) => {
                    tracing::warn!(port, service = &*health.service, %error, "a health-check node port cannot be opened");
                }
            }
        }
    }

    /// Ends all of them.
    pub(crate) async fn close(mut self) {
        for port in self.ports.values() {
            port.stop.cancel();
        }
        while self.tasks.join_next().await.is_some() {}
    }
}

/// At every address, also where there is no IPv6.
async fn bind(port: u16) -> std::io::Result<TcpListener> {
    match TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await,
    }
}

async fn serve(listener: TcpListener, seen: watch::Receiver<Health>, stop: CancellationToken) {
    let seats = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    let accepting = async {
        loop {
            let Ok(seat) = seats.clone().acquire_owned().await else { return };
            while connections.try_join_next().is_some() {}
            match listener.accept().await {
                Ok((stream, _)) => {
                    let seen = seen.clone();
                    let answers = service_fn(move |_: Request<Incoming>| {
                        let answer = answer(&seen.borrow());
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
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    };
    stop.run_until_cancelled(accepting).await;
    connections.shutdown().await;
}

fn answer(health: &Health) -> Response<Full<Bytes>> {
    let (namespace, name) = health.service.split_once('/').unwrap_or(("", &health.service));
    let body = serde_json::json!({
        "service": { "namespace": namespace, "name": name },
        "localEndpoints": health.local_endpoints,
        "serviceProxyHealthy": true,
    });
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    if health.local_endpoints == 0 {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    headers.insert("x-content-type-options", header::HeaderValue::from_static("nosniff"));
    headers.insert("x-load-balancing-endpoint-weight", header::HeaderValue::from(health.local_endpoints));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_endpoints_says_no() {
        let health = |local_endpoints| Health { service: "shop/web".into(), port: 30000, local_endpoints };
        assert_eq!(answer(&health(0)).status(), StatusCode::SERVICE_UNAVAILABLE);
        let answer = answer(&health(2));
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["x-load-balancing-endpoint-weight"], "2");
    }
}
