//! How requests reach agents, pods and services, and what of their answers clients get. Must never read a body whole, nor decide
//! where a request goes.

use std::io;

use barque_api::status::{Reason, Status};
use http::header::{CONNECTION, HOST, HeaderName, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::dial::Dialer;
use super::plan::Target;
use crate::http::answer::Body;
use crate::relay::{self, Relay, RequestBody, Unanswered, nothing};

const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");

/// A failure as it is told for logs and for what runs in containers.
#[must_use]
pub fn of_agent(failure: &Unanswered) -> Status {
    let message = match failure {
        Unanswered::Dial(error) => format!("error dialing backend: {error}"),
        Unanswered::Http(error) => format!("error sending request to backend: {error}"),
    };
    Status::new(Reason::InternalError, message)
}

/// A failure as it is told for proxies.
#[must_use]
pub fn of_proxy(failure: &Unanswered) -> Status {
    Status::new(Reason::ServiceUnavailable, format!("error trying to reach service: {failure}"))
}

/// Sends requests.
pub struct Sender {
    /// Connects.
    pub dialer: Dialer,
    /// Owns connections.
    pub relay: Relay,
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
        *request.headers_mut() = headers;
        let peer = target.authority();
        if !request.headers().contains_key(HOST)
            && let Ok(host) = HeaderValue::from_str(&peer)
        {
            request.headers_mut().insert(HOST, host);
        }
        let stream = self.dialer.connect(target).await?;
        self.relay.exchange(stream, peer, request).await
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
        relay::passed_back(response, self.relay.stop())
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
        let (mut head, _) = response.into_parts();
        let Some(backend) = head.extensions.remove::<OnUpgrade>() else {
            return Err(Status::internal("the backend's connection cannot be taken over"));
        };
        Ok(self.relay.coupled(client, backend, head.headers, self.relay.stop()))
    }
}
