//! The answer to a message over the receive limit, in the words of etcd's gRPC library: tonic refuses such
//! messages before a service sees them, with another code and text.

use std::convert::Infallible;
use std::task::{Context, Poll};

use futures::future::{FutureExt, Map};
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;
use tonic::{Code, Status};

/// A service whose refusals of oversized messages are translated.
#[derive(Clone, Debug)]
pub(super) struct Oversize<S>(pub(super) S);

type Answer = Result<http::Response<Body>, Infallible>;

impl<S> Service<http::Request<Body>> for Oversize<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Map<S::Future, fn(Answer) -> Answer>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.0.call(request).map(translate)
    }
}

impl<S: NamedService> NamedService for Oversize<S> {
    const NAME: &'static str = S::NAME;
}

fn translate(answer: Answer) -> Answer {
    // Only refusals have their status in the head of the answer.
    let Some(message) = answer
        .as_ref()
        .ok()
        .filter(|answer| answer.headers().contains_key(Status::GRPC_STATUS))
        .and_then(|answer| Status::from_header_map(answer.headers()))
        .filter(|status| status.code() == Code::OutOfRange)
        .and_then(|status| message(status.message()))
    else {
        return answer;
    };
    Ok(Status::resource_exhausted(message).into_http())
}

/// The text for tonic's "decoded message length too large: found A bytes, the limit is: B bytes".
fn message(of_tonic: &str) -> Option<String> {
    let (_, sizes) = of_tonic.split_once("decoded message length too large: found ")?;
    let (found, rest) = sizes.split_once(" bytes, the limit is: ")?;
    let (limit, _) = rest.split_once(" bytes")?;
    Some(format!("grpc: received message larger than max ({found} vs. {limit})"))
}
