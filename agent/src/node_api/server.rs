//! Takes connections and ends them: so many at once, TLS first, with bounds on time. Owns every task that serves a client. Must
//! never look into a request.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::authentication::{Authentication, of_certificate};
use super::authorization::Authorization;
use super::certificate::OwnCertificate;
use super::config::ValidNodeApi;
use super::containers::{KnownPods, PodStreams};
use super::handler::Handler;
use super::reviews::{Reviews, User};
use super::tls::{Tls, TlsError, TlsFiles};
use super::volumes::RememberedVolumes;
use crate::metrics::Metrics;

/// Connections at once.
const CONNECTIONS: usize = 1000;
/// TLS, and the head of each request, must have come within this time.
const PATIENCE: Duration = Duration::from_secs(10);
/// Who does not answer for so long is gone.
const ALIVE: Duration = Duration::from_secs(30);
/// Requests have this time to end once the server stops.
const DRAIN: Duration = Duration::from_secs(5);
/// After a failure that has nothing to do with one connection, such as no free file descriptor.
const PAUSE: Duration = Duration::from_millis(100);
/// The most bytes of the head of a request.
const MOST_HEAD: u32 = 64 << 10;
/// Requests at once on one connection.
const REQUESTS: u32 = 100;

/// What the node API is made of.
pub struct Parts<P> {
    /// The node's name.
    pub node: String,
    /// The addresses by which it is reached.
    pub addresses: Vec<IpAddr>,
    /// The agent's directory: a certificate is kept below it, and its file system is the node's.
    pub root: PathBuf,
    /// Who knows the pods.
    pub pods: Arc<dyn KnownPods>,
    /// Who runs them.
    pub streams: Arc<P>,
    /// Who knows users and rights.
    pub reviews: Arc<dyn Reviews>,
    /// What the agent counts.
    pub metrics: Metrics,
}

/// Why the node API does not begin.
#[derive(Debug, thiserror::Error)]
pub enum NodeApiError {
    /// Its port.
    #[error("{0} cannot be listened on; --address and --port say where")]
    Listen(SocketAddr, #[source] io::Error),
    /// A certificate of its own cannot be made.
    #[error("no certificate can be made in {}; --tls-cert-file and --tls-private-key-file name one that is there", .0.display())]
    Certificate(PathBuf, #[source] io::Error),
    /// Its certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The port of a node API, taken before there is anything to serve: whoever connects waits.
pub struct NodeApiListener {
    listener: TcpListener,
    address: SocketAddr,
}

impl NodeApiListener {
    /// Takes it.
    ///
    /// # Errors
    /// When it cannot be taken.
    pub async fn bind(config: &ValidNodeApi) -> Result<Self, NodeApiError> {
        let listen = async {
            let listener = TcpListener::bind(config.address).await?;
            let address = listener.local_addr()?;
            Ok(Self { listener, address })
        };
        listen.await.map_err(|error| NodeApiError::Listen(config.address, error))
    }
}

/// A node API that listens.
pub struct NodeApi<P> {
    listener: TcpListener,
    address: SocketAddr,
    tls: Tls,
    handler: Arc<Handler<P>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl<P: PodStreams> NodeApi<P> {
    /// Reads or makes the certificate, for a port that is taken.
    ///
    /// # Errors
    /// When it cannot begin.
    pub fn on(
        listener: NodeApiListener,
        config: ValidNodeApi,
        parts: Parts<P>,
    ) -> Result<Self, NodeApiError> {
        let NodeApiListener { listener, address } = listener;
        let now = SystemTime::now();
        let ((certificate, key), own) = match config.certificate {
            Some(files) => (files, None),
            None => {
                let directory = parts.root.join("pki");
                let (node, addresses) = (parts.node.clone(), parts.addresses);
                let own = OwnCertificate { directory, node, addresses };
                own.renew(now).map_err(|error| NodeApiError::Certificate(own.directory.clone(), error))?;
                (own.files(), Some(own))
            }
        };
        let tls = Tls::load(TlsFiles { certificate, key, client_ca: config.client_ca }, own, now)?;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let tokens = config.tokens.then(|| parts.reviews.clone());
        let rights = (!config.allow_all).then(|| parts.reviews.clone());
        let handler = Arc::new(Handler {
            authentication: Authentication::new(tokens, config.anonymous),
            authorization: Authorization::new(parts.node.clone(), rights),
            node: parts.node,
            root: parts.root,
            pods: parts.pods,
            streams: parts.streams,
            metrics: parts.metrics,
            rates: Arc::default(),
            volumes: RememberedVolumes::default(),
            seats: Arc::new(Semaphore::new(CONNECTIONS)),
            tasks: tasks.clone(),
            stop: stop.clone(),
        });
        Ok(Self { listener, address, tls, handler, tasks, stop })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the token is cancelled. Requests then have a moment to end; streams are cut.
    pub async fn run(self, stop: CancellationToken) {
        let seats = Arc::new(Semaphore::new(CONNECTIONS));
        let accepting = async {
            loop {
                let Ok(seat) = seats.clone().acquire_owned().await else { return };
                match self.listener.accept().await {
                    Ok((stream, _)) => {
                        let acceptor = TlsAcceptor::from(self.tls.current(SystemTime::now()));
                        let connection = Connection {
                            handler: self.handler.clone(),
                            tasks: self.tasks.clone(),
                            stop: self.stop.clone(),
                        };
                        self.tasks.spawn(connection.run(acceptor, stream, seat));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the node API can accept no connection");
                        sleep(PAUSE).await;
                    }
                }
            }
        };
        stop.run_until_cancelled(accepting).await;
        drop(self.listener);
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// What one connection needs.
struct Connection<P> {
    handler: Arc<Handler<P>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl<P: PodStreams> Connection<P> {
    async fn run(self, acceptor: TlsAcceptor, stream: TcpStream, _seat: OwnedSemaphorePermit) {
        // Small messages of terminals are not held back.
        let _ = stream.set_nodelay(true);
        let shaking = self.stop.run_until_cancelled(timeout(PATIENCE, acceptor.accept(stream)));
        match shaking.await {
            Some(Ok(Ok(stream))) => Box::pin(self.serve(stream)).await,
            Some(Ok(Err(error))) => tracing::debug!(%error, "a client speaks no TLS that is known here"),
            Some(Err(_)) | None => {}
        }
    }

    async fn serve(self, stream: TlsStream<TcpStream>) {
        let (_, tls) = stream.get_ref();
        let certified =
            tls.peer_certificates().and_then(|chain| of_certificate(chain.first()?)).map(Arc::new);
        let two = tls.alpn_protocol() == Some(b"h2");
        let handler = self.handler.clone();
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let (handler, certified): (_, Option<Arc<User>>) = (handler.clone(), certified.clone());
            async move { Ok::<_, Infallible>(handler.answer(certified.as_deref(), request).await) }
        });
        let stream = TokioIo::new(stream);
        let ended = if two {
            let connection = http2::Builder::new(Tasks(self.tasks.clone()))
                .timer(TokioTimer::new())
                .keep_alive_interval(ALIVE)
                .keep_alive_timeout(PATIENCE)
                .max_concurrent_streams(REQUESTS)
                .max_header_list_size(MOST_HEAD)
                .serve_connection(stream, service);
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                ended = &mut connection => ended,
                () = self.stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    timeout(DRAIN, connection).await.unwrap_or(Ok(()))
                }
            }
        } else {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .max_buf_size(MOST_HEAD as usize)
                .serve_connection(stream, service)
                .with_upgrades();
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                ended = &mut connection => ended,
                () = self.stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    timeout(DRAIN, connection).await.unwrap_or(Ok(()))
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection broke off");
        }
    }
}

/// Requests of one connection, as tasks that the server waits for.
#[derive(Clone)]
struct Tasks(TaskTracker);

impl<F> Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}
