//! The streams of exec, attach and port-forward for those who speak CRI: a port on loopback, where each URL is good for one client
//! and a short while. Must never run what was not asked for over the socket.

use core::net::{Ipv4Addr, SocketAddr};
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use barque_containers::ExecSpec;
use barque_streams::process::Wanted;
use barque_streams::upgrade::{Purpose, negotiate};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use rand::Rng as _;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;

use super::super::EmbeddedRuntime;
use super::super::streams::process;
use crate::node_api::handler::{of_ports, of_process};
use crate::node_api::run::{self, Ends};

/// URLs that nobody has come for, at most.
const WISHES: usize = 1000;
/// How long a client may take to come.
const PATIENCE: Duration = Duration::from_secs(60);
/// After a failure that has nothing to do with one connection, such as no free file descriptor.
const PAUSE: Duration = Duration::from_millis(100);

/// What a client comes for.
#[derive(Debug, Clone)]
pub(super) enum Wish {
    /// A command.
    Exec { container: String, command: Vec<String>, wanted: Wanted },
    /// What a container runs.
    Attach { container: String, wanted: Wanted },
    /// Ports of a sandbox.
    Ports { sandbox: String, ports: Vec<u16> },
}

/// Serves streams. Clones are the same.
#[derive(Clone)]
pub(super) struct StreamServer {
    listener: Arc<TcpListener>,
    address: SocketAddr,
    wishes: Arc<Mutex<HashMap<String, (Wish, Instant)>>>,
}

impl StreamServer {
    /// Listens on a port of loopback.
    pub(super) async fn bind() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener: Arc::new(listener), address, wishes: Arc::default() })
    }

    /// The URL for something that was asked for.
    pub(super) fn expect(&self, wish: Wish) -> Result<String, Status> {
        let token: String =
            rand::rng().random::<[u8; 16]>().iter().map(|byte| format!("{byte:02x}")).collect();
        let now = Instant::now();
        let mut wishes = self.wishes.lock();
        wishes.retain(|_, (_, since)| now.duration_since(*since) < PATIENCE);
        if wishes.len() >= WISHES {
            return Err(Status::resource_exhausted("too many streams were asked for that nobody came for"));
        }
        wishes.insert(token.clone(), (wish, now));
        Ok(format!("http://{}/stream/{token}", self.address))
    }

    /// What somebody came for, once.
    fn take(&self, path: &str) -> Option<Wish> {
        let (wish, since) = self.wishes.lock().remove(path.strip_prefix("/stream/")?)?;
        (since.elapsed() < PATIENCE).then_some(wish)
    }

    /// Serves until the token is cancelled.
    pub(super) async fn run(self, runtime: Arc<EmbeddedRuntime>, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        let accepting = async {
            loop {
                match self.listener.accept().await {
                    Ok((stream, _)) => {
                        let (server, runtime, streams) = (self.clone(), runtime.clone(), tasks.clone());
                        let ends = stop.clone();
                        let answers = service_fn(move |request: Request<Incoming>| {
                            let answer = server.answer(request, &runtime, &streams, &ends);
                            async move { Ok::<_, Infallible>(answer) }
                        });
                        let served = http1::Builder::new()
                            .timer(TokioTimer::new())
                            .header_read_timeout(PATIENCE)
                            .serve_connection(TokioIo::new(stream), answers)
                            .with_upgrades();
                        let stop = stop.clone();
                        tasks.spawn(async move {
                            if let Some(Err(error)) = stop.run_until_cancelled(served).await {
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
        tasks.close();
        tasks.wait().await;
    }

    fn answer(
        &self,
        mut request: Request<Incoming>,
        runtime: &Arc<EmbeddedRuntime>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Response<Full<Bytes>> {
        let Some(wish) = self.take(request.uri().path()) else {
            let mut answer =
                Response::new(Full::from("nothing was asked for at this place, or it was too long ago\n"));
            *answer.status_mut() = StatusCode::NOT_FOUND;
            return answer;
        };
        let purpose = match wish {
            Wish::Ports { .. } => Purpose::Ports,
            Wish::Exec { .. } | Wish::Attach { .. } => Purpose::Process,
        };
        let (spoken, answer) = match negotiate(request.headers(), purpose) {
            Ok(negotiated) => negotiated,
            Err(refusal) => return refusal.answer().map(Full::from),
        };
        let upgrade = hyper::upgrade::on(&mut request);
        let (runtime, stop) = (runtime.clone(), stop.clone());
        tasks.spawn(Box::pin(stop.run_until_cancelled_owned(async move {
            let upgraded = match upgrade.await {
                Ok(upgraded) => upgraded,
                Err(error) => return tracing::debug!(%error, "an upgrade broke off"),
            };
            let served = match wish {
                Wish::Exec { container, command, wanted } => {
                    let spec = ExecSpec { args: command, terminal: wanted.tty, stdin: wanted.stdin };
                    let started = async {
                        runtime
                            .containers
                            .exec(&container, spec)
                            .await
                            .map(process)
                            .map_err(|error| super::super::streams::failed(&error))
                    };
                    let serve = |streams| {
                        run::join(streams, started, Ends::WithCode, "executing command in container")
                    };
                    of_process(upgraded, spoken, wanted, serve).await
                }
                Wish::Attach { container, wanted } => {
                    let started = async {
                        let joined = runtime
                            .containers
                            .attach(&container, wanted.stdin, wanted.stdout, wanted.stderr)
                            .await;
                        joined.map(process).map_err(|error| super::super::streams::failed(&error))
                    };
                    let serve =
                        |streams| run::join(streams, started, Ends::WithStreams, "attaching to container");
                    of_process(upgraded, spoken, wanted, serve).await
                }
                Wish::Ports { sandbox, ports } => {
                    let serve = |forward: barque_streams::ports::Forward| {
                        let connected = runtime.connect_in(&sandbox, forward.port);
                        run::forward(forward, connected, &sandbox)
                    };
                    of_ports(upgraded, spoken, &ports, serve).await;
                    return;
                }
            };
            if let Err(error) = served {
                tracing::debug!(%error, "a stream was not served to its end");
            }
        })));
        answer.map(|()| Full::default())
    }
}
