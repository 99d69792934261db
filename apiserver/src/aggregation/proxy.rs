//! How requests reach services that serve groups, and what of their answers clients get. Must never read a body whole, nor decide
//! where a request goes.

use std::io;

use http::header::{HOST, LOCATION};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tokio_util::sync::CancellationToken;

use super::dial::{Dialer, Verifier};
use super::endpoints::Address;
use crate::http::answer::{self, Body};
use crate::relay::{self, Relay, RequestBody, Unanswered};

/// Where a request goes.
pub struct Target {
    /// The address to connect to.
    pub address: Address,
    /// For whom its certificate must be.
    pub host: String,
    /// Who judges that.
    pub verifier: Verifier,
}

/// Sends requests.
pub struct Sender {
    /// Connects.
    pub dialer: Dialer,
    /// Owns connections.
    pub relay: Relay,
    /// Ends what would go on for ever; before the relay's connections end.
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
        *request.headers_mut() = headers;
        let peer = target.address.to_string();
        let host = HeaderValue::from_str(&peer).map_err(io::Error::other)?;
        request.headers_mut().insert(HOST, host);
        let stream = self.dialer.connect(&target.address, &target.host, &target.verifier).await?;
        self.relay.exchange(stream, peer, request).await
    }

    /// Passes an answer back that is no upgrade; one of an endless stream ends when the server drains.
    #[must_use]
    pub fn passed_back(&self, response: Response<Incoming>, endless: bool) -> Response<Body> {
        if response.status().is_redirection() && response.headers().contains_key(LOCATION) {
            // A service could send clients, with all that they know, to wherever it likes.
            let mut refused = Response::new(answer::whole(
                "the backend attempted to redirect this request, which is not permitted",
            ));
            *refused.status_mut() = StatusCode::BAD_GATEWAY;
            return refused;
        }
        relay::passed_back(response, if endless { &self.drain } else { self.relay.stop() })
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
        self.relay.coupled(client, backend, head.headers, &self.drain)
    }
}
