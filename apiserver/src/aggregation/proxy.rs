//! Passes requests on and their answers back, as streams; after an upgrade, bytes both ways. Must never read a body whole, nor
//! decide where a request goes.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::{HOST, LOCATION};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;

use super::dial::{Dialer, Verifier};
use super::endpoints::Address;
use crate::http::answer::{self, Body};
use crate::streaming::headers::strip_hop_by_hop;

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

/// Where a request goes.
pub struct Target {
    /// The address to connect to.
    pub address: Address,
    /// For whom its certificate must be.
    pub host: String,
    /// Who judges that.
    pub verifier: Verifier,
}

/// Sends requests; the tasks of their connections are owned.
pub struct Sender {
    /// Connects.
    pub dialer: Dialer,
    /// Owns connections.
    pub tasks: TaskTracker,
    /// Ends them.
    pub stop: CancellationToken,
    /// Ends what would go on for ever; before `stop`.
    pub drain: CancellationToken,
}

impl Sender {
    /// Sends a request over a connection of its own. `path` is the path with its query.
    ///
    /// # Errors
    /// When there is no connection, or no answer on it.
    pub async fn send(
        &self,
        target: &Target,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: RequestBody,
    ) -> Result<Response<Incoming>, Unanswered> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(io::Error::other)?;
        *request.version_mut() = Version::HTTP_11;
        *request.headers_mut() = headers;
        let host = HeaderValue::from_str(&target.address.to_string()).map_err(io::Error::other)?;
        request.headers_mut().insert(HOST, host);
        let stream = self.dialer.connect(&target.address, &target.host, &target.verifier).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = connection.with_upgrades();
        let address = target.address.clone();
        self.own(
            self.stop.clone(),
            Box::pin(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%address, "the connection ended: {error}");
                }
            }),
        );
        Ok(sender.send_request(request).await?)
    }

    /// Passes an answer back that is no upgrade; one of an endless stream ends when the server drains.
    #[must_use]
    pub fn passed_back(&self, response: Response<Incoming>, endless: bool) -> Response<Body> {
        let (mut head, body) = response.into_parts();
        if head.status.is_redirection() && head.headers.contains_key(LOCATION) {
            // A service could send clients, with all that they know, to wherever it likes.
            let mut refused = Response::new(answer::whole(
                "the backend attempted to redirect this request, which is not permitted",
            ));
            *refused.status_mut() = StatusCode::BAD_GATEWAY;
            return refused;
        }
        strip_hop_by_hop(&mut head.headers);
        head.version = Version::HTTP_11;
        head.extensions = http::Extensions::new();
        let ends_at = if endless { &self.drain } else { &self.stop };
        let stopped = Box::pin(ends_at.clone().cancelled_owned());
        Response::from_parts(head, Body::new(Relayed { body, stopped }))
    }

    /// Couples the client's connection with that of the answer, if it is an upgrade; else passes it back.
    #[must_use]
    pub fn coupled(&self, response: Response<Incoming>, client: OnUpgrade) -> Response<Body> {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return self.passed_back(response, false);
        }
        let (mut head, _) = response.into_parts();
        let Some(backend) = head.extensions.remove::<OnUpgrade>() else {
            return answer::text(StatusCode::BAD_GATEWAY, "the backend's connection cannot be taken over\n");
        };
        self.own(
            self.drain.clone(),
            Box::pin(async move {
                match tokio::try_join!(client, backend) {
                    Ok((client, backend)) => {
                        let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
                        let copied = tokio::io::copy_bidirectional(&mut client, &mut backend).await;
                        if let Err(error) = copied {
                            tracing::debug!("a stream broke off: {error}");
                        }
                    }
                    Err(error) => tracing::debug!("an upgrade broke off: {error}"),
                }
            }),
        );
        let mut response = Response::new(answer::whole(Bytes::new()));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *response.headers_mut() = head.headers;
        response
    }

    /// Runs something until it ends or is to end.
    fn own(&self, ends_at: CancellationToken, task: BoxFuture<'static, ()>) {
        self.tasks.spawn(async move {
            ends_at.run_until_cancelled(task).await;
        });
    }
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
