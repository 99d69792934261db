//! Connections of clients: TLS only, HTTP/1.1 and HTTP/2, each served by one task, and drained. A client may show a
//! certificate; whose it is, authentication judges. Must never know what is served.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use prometheus::IntCounter;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answer::Body;

/// A connection must have shaken hands within this time.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// The head of an HTTP/1 request must have come within this time.
const HEAD_DEADLINE: Duration = Duration::from_secs(32);
/// A ping after this silence finds clients that are gone.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// How long such a client may take to answer.
const PING_TIMEOUT: Duration = Duration::from_secs(15);
/// Requests at once on one HTTP/2 connection; Kubernetes has 100 for strangers, watches of one client need more.
const STREAMS_MAX: u32 = 1000;
/// After a failure that has nothing to do with one connection, such as no free file descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// The same as text, without the port.
    pub ip: Arc<str>,
    /// The certificates it showed, its own first; it has their key. Who signed them is not judged.
    pub certificates: Arc<[CertificateDer<'static>]>,
}

/// What answers requests.
pub trait Handler: Clone + Send + Sync + 'static {
    /// Answers one.
    fn handle(&self, request: Request<Incoming>, peer: Peer) -> impl Future<Output = Response<Body>> + Send;
}

/// Takes any certificate whose key the client has. Which authority counts depends on what the certificate is for, and a
/// client with a wrong one gets an answer that says so.
#[derive(Debug)]
pub struct AnyCertificate {
    algorithms: WebPkiSupportedAlgorithms,
    hints: Vec<DistinguishedName>,
}

impl AnyCertificate {
    /// `hints` are the names of the authorities whose certificates are good for something.
    #[must_use]
    pub fn new(provider: &CryptoProvider, hints: Vec<DistinguishedName>) -> Self {
        Self { algorithms: provider.signature_verification_algorithms, hints }
    }
}

impl ClientCertVerifier for AnyCertificate {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Where TLS gets its configuration for the next connection, so that certificates can be replaced.
pub type TlsSource = Arc<dyn Fn() -> Arc<ServerConfig> + Send + Sync>;

/// Owns the tasks of all connections. Cloning copies pointers.
#[derive(Clone, Debug)]
pub struct Connections {
    failed: IntCounter,
    tasks: TaskTracker,
    drain: CancellationToken,
    cut: CancellationToken,
}

impl Connections {
    /// None yet; those that end before their handshake does are counted.
    #[must_use]
    pub fn counting(failed: IntCounter) -> Self {
        Self {
            failed,
            tasks: TaskTracker::new(),
            drain: CancellationToken::new(),
            cut: CancellationToken::new(),
        }
    }

    /// Serves a port until shutdown. At most `limit` connections are open at once; more wait in the kernel's queue.
    pub fn serve<H: Handler>(&self, listener: TcpListener, tls: TlsSource, handler: H, limit: usize) {
        let this = self.clone();
        self.tasks.spawn(async move {
            let drain = this.drain.clone();
            drain.run_until_cancelled(this.accept(listener, tls, handler, limit)).await;
        });
    }

    async fn accept<H: Handler>(&self, listener: TcpListener, tls: TlsSource, handler: H, limit: usize) {
        let permits = Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS)));
        let settings = Arc::new(settings(Tracked(self.tasks.clone())));
        loop {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
            let (stream, address) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) if of_one_connection(&error) => continue,
                Err(error) => {
                    tracing::error!("connections cannot be accepted: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (this, tls, handler) = (self.clone(), tls(), handler.clone());
            let settings = Arc::clone(&settings);
            self.tasks.spawn(async move {
                this.connection(stream, address, tls, handler, &settings).await;
                drop(permit);
            });
        }
    }

    async fn connection<H: Handler>(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        tls: Arc<ServerConfig>,
        handler: H,
        settings: &auto::Builder<Tracked>,
    ) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!("small packets may wait: {error}");
        }
        let handshake = tokio_rustls::TlsAcceptor::from(tls).accept(stream);
        let handshake = tokio::time::timeout(HANDSHAKE_DEADLINE, handshake);
        let shaken = self.drain.run_until_cancelled(handshake).await;
        if matches!(shaken, Some(Err(_) | Ok(Err(_)))) {
            self.failed.inc();
        }
        let stream = match shaken {
            Some(Ok(Ok(stream))) => stream,
            // A probe that only connects is no news.
            Some(Ok(Err(error))) if error.kind() == io::ErrorKind::UnexpectedEof => return,
            Some(Ok(Err(error))) => {
                tracing::info!(%address, "TLS handshake error: {error}");
                return;
            }
            Some(Err(_)) => {
                tracing::debug!(%address, "TLS handshake took too long");
                return;
            }
            None => return,
        };
        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let certificates = certificates.iter().map(|one| one.clone().into_owned()).collect();
        let peer = Peer { address, ip: address.ip().to_string().into(), certificates };
        let service = service_fn(move |request| {
            let (handler, peer) = (handler.clone(), peer.clone());
            async move { Ok::<_, Infallible>(handler.handle(request, peer).await) }
        });
        let mut connection = pin!(settings.serve_connection_with_upgrades(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.drain.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection => ended,
                    () = self.cut.cancelled() => Ok(()),
                }
            }
        };
        if let Err(error) = ended {
            // Clients that go away in the middle, and bytes that are no HTTP.
            tracing::debug!(%address, "connection ended: {error}");
        }
    }

    /// Canceled when [`Connections::shutdown`] begins.
    #[must_use]
    pub fn draining(&self) -> CancellationToken {
        self.drain.clone()
    }

    /// Accepts nothing more, lets requests that run finish, and cuts what is left after `deadline`. Returns whether everything
    /// finished.
    pub async fn shutdown(&self, deadline: Duration) -> bool {
        self.drain.cancel();
        self.tasks.close();
        let in_time = tokio::time::timeout(deadline, self.tasks.wait()).await.is_ok();
        self.cut.cancel();
        in_time
    }
}

/// hyper's tasks, owned.
#[derive(Clone, Debug)]
struct Tracked(TaskTracker);

impl<F> Executor<F> for Tracked
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}

fn settings(executor: Tracked) -> auto::Builder<Tracked> {
    let mut builder = auto::Builder::new(executor);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_DEADLINE);
    builder
}

fn of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
