//! Passes requests on and their answers back, as streams; after an upgrade, bytes both ways. Must never read a body whole, nor
//! decide where a request goes.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use barque_api::status::{Reason, Status};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::{CONNECTION, HeaderName, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;

use super::copy;
use super::dial::Dialer;
use super::headers::strip_hop_by_hop;
use super::plan::Target;
use crate::http::answer::{self, Body};

/// After so much silence an upgraded connection is closed, as agents do.
pub(super) const SILENCE: Duration = Duration::from_secs(4 * 3600);
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");

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

impl Unanswered {
    /// As it is told for logs and for what runs in containers.
    #[must_use]
    pub fn of_agent(&self) -> Status {
        let message = match self {
            Self::Dial(error) => format!("error dialing backend: {error}"),
            Self::Http(error) => format!("error sending request to backend: {error}"),
        };
        Status::new(Reason::InternalError, message)
    }

    /// As it is told for proxies.
    #[must_use]
    pub fn of_proxy(&self) -> Status {
        Status::new(Reason::ServiceUnavailable, format!("error trying to reach service: {self}"))
    }
}

/// Sends requests; the tasks of their connections are owned by `tasks` and end with `stop`.
pub struct Sender {
    /// Connects.
    pub dialer: Dialer,
    /// Owns connections.
    pub tasks: TaskTracker,
    /// Ends them.
    pub stop: CancellationToken,
}

impl Sender {
    /// Sends a request over a connection of its own. The address in it is replaced with the target's.
    ///
    /// # Errors
    /// When there is no connection, or no answer on it.
    pub async fn send(
        &self,
        target: &Target,
        method: Method,
        headers: HeaderMap,
        body: RequestBody,
    ) -> Result<Response<Incoming>, Unanswered> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = target.path_and_query().parse().map_err(io::Error::other)?;
        *request.version_mut() = Version::HTTP_11;
        *request.headers_mut() = headers;
        if !request.headers().contains_key(http::header::HOST)
            && let Ok(host) = HeaderValue::from_str(&target.authority())
        {
            request.headers_mut().insert(http::header::HOST, host);
        }
        let stream = TokioIo::new(self.dialer.connect(target).await?);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
        let connection = connection.with_upgrades();
        let host = target.authority();
        self.own(Box::pin(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%host, "the connection ended: {error}");
            }
        }));
        Ok(sender.send_request(request).await?)
    }

    /// Asks for SPDY with one of `protocols` inside.
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub async fn ask_spdy(
        &self,
        target: &Target,
        protocol: &'static str,
    ) -> Result<Response<Incoming>, Unanswered> {
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
        headers.insert(STREAM_PROTOCOL, HeaderValue::from_static(protocol));
        self.send(target, Method::POST, headers, nothing()).await
    }

    /// Passes an answer back that is no upgrade.
    #[must_use]
    pub fn passed_back(&self, response: Response<Incoming>) -> Response<Body> {
        let (mut head, body) = response.into_parts();
        strip_hop_by_hop(&mut head.headers);
        head.version = Version::HTTP_11;
        head.extensions = http::Extensions::new();
        Response::from_parts(head, self.body(body))
    }

    /// A body that ends when its source breaks off, or with the server.
    #[must_use]
    pub fn body(&self, body: Incoming) -> Body {
        let stopped = Box::pin(self.stop.clone().cancelled_owned());
        Body::new(Relayed { body, stopped })
    }

    /// Couples the client's connection with that of the answer, if it is an upgrade; else passes it back.
    ///
    /// # Errors
    /// 500 for an answer that is neither an upgrade nor an error.
    pub fn coupled(&self, response: Response<Incoming>, client: OnUpgrade) -> Result<Response<Body>, Status> {
        let code = response.status();
        if code != StatusCode::SWITCHING_PROTOCOLS {
            if code.is_client_error() || code.is_server_error() {
                return Ok(self.passed_back(response));
            }
            let message = format!("invalid upgrade response: status code {}", code.as_u16());
            return Err(Status::new(Reason::InternalError, message));
        }
        let (head, _) = response.into_parts();
        let Some(backend) = head.extensions.get::<OnUpgrade>().cloned() else {
            return Err(Status::internal("the backend's connection cannot be taken over"));
        };
        self.own(Box::pin(async move {
            match tokio::try_join!(client, backend) {
                Ok((client, backend)) => {
                    copy::both_ways(TokioIo::new(client), TokioIo::new(backend), SILENCE).await;
                }
                Err(error) => tracing::debug!("an upgrade broke off: {error}"),
            }
        }));
        let mut response = Response::new(answer::whole(Bytes::new()));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *response.headers_mut() = head.headers;
        Ok(response)
    }

    /// Runs something until it ends or the server stops.
    pub fn own(&self, task: BoxFuture<'static, ()>) {
        let stopped = self.stop.clone().cancelled_owned();
        self.tasks.spawn(async move {
            tokio::select! {
                () = task => {}
                () = stopped => {}
            }
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
