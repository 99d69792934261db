//! Connections: accepted, bounded, served by one task each, and drained.
//!
//! Tasks: one for each listener, one for each connection, and one that hyper asks for at each HTTP/2 request.
//! All belong to a [`Server`] and end with it. Never knows what is served.

mod authority;
mod cork;
mod front;
mod gather;
#[cfg(test)]
mod hpack_encoder;
mod lenient;
mod named;

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::cork::{Sending, cork};
use self::gather::Gather;

pub use self::front::{CountedBody, Front, FrontBody, FrontFuture, HttpOnly, PerConnection, is_grpc};
use self::lenient::Lenient;
use self::named::Named;
use crate::listen::Listener;
use crate::tls::ClientName;

/// A connection must have shaken hands, or in the clear have said a first byte, within this time.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// The head of an HTTP/1 request must have come within this time.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// What a client may send on one stream before it hears that it was read: more than any request.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// The same for a whole connection, on which thousands of requests go.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Answers that are not sent yet, for one stream.
const SEND_BUFFER_BYTES: usize = 1 << 20;
/// Large enough for a request in one piece, small enough that others get between.
const FRAME_BYTES: u32 = 64 << 10;
/// Requests that a client took back before they were read. Many at once are normal: a list of watches that ends.
const PENDING_RESETS: usize = 1024;
/// A ping after this silence finds clients that are gone; etcd's default is two hours.
const PING_INTERVAL: Duration = Duration::from_secs(2 * 60 * 60);
/// How long such a client may take to answer.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// After a failure that has nothing to do with one connection, such as no free file descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many connections may be open at once. The next ones wait in the kernel's queue until one closes.
#[derive(Clone, Debug)]
pub struct ConnectionLimit(Arc<Semaphore>);

impl ConnectionLimit {
    /// At least 1.
    #[must_use]
    pub fn new(connections: usize) -> Self {
        Self(Arc::new(Semaphore::new(connections.clamp(1, Semaphore::MAX_PERMITS))))
    }
}

/// Open files that are not connections: the log, the records, the members' connections.
const RESERVED_FILES: u64 = 1024;

impl ConnectionLimit {
    /// As many as the process may open files, less some for everything else; at least half of them.
    #[must_use]
    pub fn of_open_files() -> Self {
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
        let connections = files.saturating_sub(RESERVED_FILES).max(files / 2);
        Self::new(usize::try_from(connections).unwrap_or(usize::MAX))
    }
}

/// Owns the tasks of all connections. Clones own the same.
#[derive(Clone, Debug)]
pub struct Server {
    tasks: TaskTracker,
    drain: CancellationToken,
    cut: CancellationToken,
    handshake_deadline: Duration,
}

impl Server {
    /// Without any connection. `handshake_deadline` is [`HANDSHAKE_DEADLINE`] but for tests.
    #[must_use]
    pub fn new(handshake_deadline: Duration) -> Self {
        Self {
            tasks: TaskTracker::new(),
            drain: CancellationToken::new(),
            cut: CancellationToken::new(),
            handshake_deadline,
        }
    }

    /// Canceled when [`Server::shutdown`] begins: streams that would never end by themselves, such as watches,
    /// end at this.
    #[must_use]
    pub fn draining(&self) -> CancellationToken {
        self.drain.clone()
    }

    /// Serves a listener until shutdown.
    pub fn serve<S, B>(&self, listener: Listener, service: S, limit: ConnectionLimit)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
            + PerConnection
            + Send
            + 'static,
        S::Future: Send + 'static,
        B: hyper::body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let server = self.clone();
        self.tasks.spawn(async move {
            let drain = server.drain.clone();
            drain.run_until_cancelled(server.accept(listener, service, limit)).await;
        });
    }

    async fn accept<S, B>(&self, listener: Listener, service: S, limit: ConnectionLimit)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
            + PerConnection
            + Send
            + 'static,
        S::Future: Send + 'static,
        B: hyper::body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let builder = Arc::new(http_settings(Tracked(self.tasks.clone())));
        loop {
            let Ok(permit) = Arc::clone(&limit.0).acquire_owned().await else { return };
            let (stream, peer) = match listener.socket.accept().await {
                Ok(accepted) => accepted,
                Err(error) if of_one_connection(&error) => continue,
                Err(error) => {
                    tracing::error!(url = %listener.url, "connections cannot be accepted: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let connection = Connection {
                server: self.clone(),
                builder: Arc::clone(&builder),
                service: service.of(peer),
                _permit: permit,
            };
            let tls = listener.tls.clone();
            self.tasks.spawn(async move {
                match tls {
                    None => connection.plain(stream).await,
                    Some(tls) => connection.tls(stream, &tls).await,
                }
            });
        }
    }

    /// Accepts nothing more, lets requests that run finish, and cuts what is left after `deadline`. Returns
    /// whether everything finished.
    pub async fn shutdown(&self, deadline: Duration) -> bool {
        self.drain.cancel();
        self.tasks.close();
        let in_time = tokio::time::timeout(deadline, self.tasks.wait()).await.is_ok();
        self.cut.cancel();
        // Cut connections end at once; a request's task may still run when what it does cannot be stopped
        // halfway, and ends by itself.
        in_time
    }
}

/// One accepted connection; the permit is given back when it ends.
struct Connection<S> {
    server: Server,
    builder: Arc<auto::Builder<Tracked>>,
    service: S,
    _permit: OwnedSemaphorePermit,
}

impl<S, B> Connection<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
    B: hyper::body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    async fn plain(self, stream: TcpStream) {
        // A connection that says nothing, as port scans and idle pools leave behind, is closed.
        let mut byte = [0; 1];
        let first_byte = tokio::time::timeout(self.server.handshake_deadline, stream.peek(&mut byte));
        match self.server.drain.run_until_cancelled(first_byte).await {
            Some(Ok(Ok(1))) => self.http(stream, None).await,
            _ => tracing::debug!("a connection said nothing"),
        }
    }

    async fn tls(self, stream: TcpStream, tls: &crate::tls::ServerTls) {
        let peer = stream.peer_addr();
        let acceptor = tokio_rustls::TlsAcceptor::from(tls.current());
        let handshake = tokio::time::timeout(self.server.handshake_deadline, acceptor.accept(stream));
        match self.server.drain.run_until_cancelled(handshake).await {
            Some(Ok(Ok(stream))) => {
                // Only what was verified gets here.
                let certificates = stream.get_ref().1.peer_certificates();
                let name = certificates.and_then(|chain| ClientName::of(chain.first()?));
                self.http(stream, name).await;
            }
            // A probe that only connects is no news.
            Some(Ok(Err(error))) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Some(Ok(Err(error))) => tracing::warn!(?peer, "TLS handshake refused: {error}"),
            Some(Err(_)) => tracing::debug!(?peer, "TLS handshake took too long"),
            None => {}
        }
    }

    async fn http(self, io: impl AsyncRead + AsyncWrite + Unpin + 'static, name: Option<ClientName>) {
        let service = Named::new(self.service, name);
        let (corked, cork) = cork(Lenient::new(io));
        let connection = pin!(self.builder.serve_connection(TokioIo::new(corked), service));
        let mut connection = Gather::new(Sending { connection, cork });
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = self.server.drain.cancelled() => {
                connection.inner().connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = &mut connection => ended,
                    () = self.server.cut.cancelled() => Ok(()),
                }
            }
        };
        if let Err(error) = ended {
            // Clients that go away in the middle, and bytes that are no HTTP.
            tracing::debug!("connection ended: {error}");
        }
    }
}

/// hyper's tasks, owned.
#[derive(Clone, Debug)]
struct Tracked(TaskTracker);

impl<F> Executor<F> for Tracked
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}

fn http_settings(executor: Tracked) -> auto::Builder<Tracked> {
    let mut builder = auto::Builder::new(executor);
    builder
        .http2()
        .timer(TokioTimer::new())
        // As etcd: the number of watches on one connection has no bound but memory.
        .max_concurrent_streams(u32::MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        // gRPC has no use for it, and it costs a header in every answer.
        .auto_date_header(false);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_DEADLINE);
    builder
}

fn of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests;
