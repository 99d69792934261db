//! Passes requests on over a connection that somebody opened, and answers back, as streams; after an upgrade, bytes both ways. Must
//! never read a body whole, nor decide where a request goes.

pub mod copy;
pub mod headers;

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;

use self::headers::strip_hop_by_hop;
use crate::http::answer::{self, Body};

/// After so much silence an upgraded connection is closed, as agents do.
pub const SILENCE: Duration = Duration::from_secs(4 * 3600);

/// The body of a request that is passed on.
pub type RequestBody = UnsyncBoxBody<Bytes, hyper::Error>;

/// No body.
#[must_use]
pub fn nothing() -> RequestBody {
    Empty::new().map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// No connection.
    #[error("{0}")]
    Dial(#[from] io::Error),
    /// What came back is no HTTP, or nothing came.
    #[error("{0}")]
    Http(#[from] hyper::Error),
}

/// Owns the connections over which requests are passed on.
#[derive(Clone, Debug)]
pub struct Relay {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Relay {
    /// `tasks` waits for connections, `stop` ends them.
    #[must_use]
    pub fn new(tasks: TaskTracker, stop: CancellationToken) -> Self {
        Self { tasks, stop }
    }

    /// When connections end.
    #[must_use]
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Sends a request over a connection that is used for nothing else. `peer` is told in logs.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn exchange<S>(
        &self,
        stream: S,
        peer: String,
        mut request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, Unanswered>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        *request.version_mut() = Version::HTTP_11;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = connection.with_upgrades();
        self.own(
            &self.stop,
            Box::pin(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%peer, "the connection ended: {error}");
                }
            }),
        );
        Ok(sender.send_request(request).await?)
    }

    /// Couples the client's connection with the backend's until one of them ends or `until` is cancelled. Answers what the
    /// client is told.
    #[must_use]
    pub fn coupled(
        &self,
        client: OnUpgrade,
        backend: OnUpgrade,
        headers: HeaderMap,
        until: &CancellationToken,
    ) -> Response<Body> {
        self.own(
            until,
            Box::pin(async move {
                match tokio::try_join!(client, backend) {
                    Ok((client, backend)) => {
                        copy::both_ways(TokioIo::new(client), TokioIo::new(backend), SILENCE).await;
                    }
                    Err(error) => tracing::debug!("an upgrade broke off: {error}"),
                }
            }),
        );
        let mut response = Response::new(answer::whole(Bytes::new()));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *response.headers_mut() = headers;
        response
    }

    /// Runs something until it ends or `until` is cancelled.
    pub fn own(&self, until: &CancellationToken, task: BoxFuture<'static, ()>) {
        let until = until.clone();
        self.tasks.spawn(async move {
            until.run_until_cancelled(task).await;
        });
    }
}

/// An answer that is no upgrade, as it is passed back; it ends at the latest when `until` is cancelled.
#[must_use]
pub fn passed_back(response: Response<Incoming>, until: &CancellationToken) -> Response<Body> {
    let (mut head, incoming) = response.into_parts();
    strip_hop_by_hop(&mut head.headers);
    head.version = Version::HTTP_11;
    head.extensions = http::Extensions::new();
    Response::from_parts(head, body(incoming, until))
}

/// A body that ends when its source breaks off, or when `until` is cancelled.
#[must_use]
pub fn body(body: Incoming, until: &CancellationToken) -> Body {
    Body::new(Relayed { body, stopped: Box::pin(until.clone().cancelled_owned()) })
}

struct Relayed {
    body: Incoming,
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl hyper::body::Body for Relayed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.stopped.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(frame))),
            Poll::Ready(Some(Err(error))) => {
                tracing::debug!("an answer broke off: {error}");
                Poll::Ready(None)
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
