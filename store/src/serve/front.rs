//! What answers on a client port: gRPC calls go to the services, everything else to the HTTP endpoints.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, Response, Version};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use pin_project_lite::pin_project;
use tonic::transport::server::TcpConnectInfo;

use crate::activity::Activity;
use crate::http::{Endpoints, HealthSource};
use crate::metrics::{Call, Code, GrpcMetrics, MethodMetrics};

/// Whether a request is a gRPC call.
#[must_use]
pub fn is_grpc<B>(request: &Request<B>) -> bool {
    request.version() == Version::HTTP_2
        && request
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// What answers the requests of one connection after the other, and knows whose connection it is.
pub trait PerConnection {
    /// The service for a connection from `peer`.
    #[must_use]
    fn of(&self, peer: SocketAddr) -> Self;
}

/// gRPC services (`G`) and HTTP endpoints on one port, with each call counted. Cheap to clone if `G` is.
pub struct Front<G, H> {
    grpc: G,
    http: Endpoints<H>,
    metrics: GrpcMetrics,
    activity: Arc<Activity>,
    /// Whose connection this is the front of.
    peer: Option<SocketAddr>,
}

impl<G: Clone, H> Clone for Front<G, H> {
    fn clone(&self) -> Self {
        Self {
            grpc: self.grpc.clone(),
            http: self.http.clone(),
            metrics: self.metrics.clone(),
            activity: Arc::clone(&self.activity),
            peer: self.peer,
        }
    }
}

impl<G: Clone, H> PerConnection for Front<G, H> {
    fn of(&self, peer: SocketAddr) -> Self {
        Self { peer: Some(peer), ..self.clone() }
    }
}

impl<G, H> Front<G, H> {
    /// `grpc` is `tonic::service::Routes`, or any service that takes calls the same way.
    /// Services learn their callers' addresses while somebody looks at `activity`.
    pub fn new(grpc: G, http: Endpoints<H>, metrics: GrpcMetrics, activity: Arc<Activity>) -> Self {
        Self { grpc, http, metrics, activity, peer: None }
    }
}

impl<G, H> hyper::service::Service<Request<Incoming>> for Front<G, H>
where
    G: tower::Service<Request<CountedBody>, Response = Response<tonic::body::Body>, Error = Infallible>
        + Clone,
    H: HealthSource,
{
    type Response = Response<FrontBody>;
    type Error = Infallible;
    type Future = FrontFuture<G::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        if !is_grpc(&request) {
            let http = self.http.clone();
            let future = Box::pin(async move { http.answer(&request).await });
            return FrontFuture { answer: ToCome::Http { future } };
        }
        let call = self.metrics.start(request.uri().path());
        let method = call.as_ref().map(|call| Arc::clone(call.method()));
        let is_stream = method.as_ref().is_some_and(|method| method.is_stream());
        let mut request = request.map(|inner| CountedBody { inner, method });
        // Costs memory for each request, so it is told only where it is used; streams outlive the moment.
        if let Some(peer) = self.peer.filter(|_| is_stream || self.activity.is_looked_at()) {
            request.extensions_mut().insert(TcpConnectInfo { local_addr: None, remote_addr: Some(peer) });
        }
        // The services of tonic are always ready, which is why no `poll_ready` is awaited here.
        let future = self.grpc.clone().call(request);
        FrontFuture { answer: ToCome::Grpc { future, call } }
    }
}

/// HTTP endpoints alone, for `--listen-metrics-urls`. Cheap to clone.
#[derive(Debug)]
pub struct HttpOnly<H>(pub Endpoints<H>);

impl<H> Clone for HttpOnly<H> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<H> PerConnection for HttpOnly<H> {
    fn of(&self, _: SocketAddr) -> Self {
        self.clone()
    }
}

impl<H: HealthSource> hyper::service::Service<Request<Incoming>> for HttpOnly<H> {
    type Response = Response<http_body_util::Full<Bytes>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let http = self.0.clone();
        Box::pin(async move { Ok(http.answer(&request).await) })
    }
}

pin_project! {
    /// An answer to come.
    pub struct FrontFuture<F> {
        #[pin]
        answer: ToCome<F>,
    }
}

pin_project! {
    #[project = ToComeProjected]
    enum ToCome<F> {
        Grpc { #[pin] future: F, call: Option<Call> },
        // Boxed: pages are rare.
        Http { future: BoxFuture<'static, Response<http_body_util::Full<Bytes>>> },
    }
}

impl<F> Future for FrontFuture<F>
where
    F: Future<Output = Result<Response<tonic::body::Body>, Infallible>>,
{
    type Output = Result<Response<FrontBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().answer.project() {
            ToComeProjected::Grpc { future, call } => {
                let response = match ready!(future.poll(cx)) {
                    Ok(response) => response,
                    Err(never) => match never {},
                };
                let mut call = call.take();
                // An error before any message has its status in the head, and no body that would be polled.
                if let (Some(call), Some(code)) = (&mut call, code(response.headers())) {
                    call.end(code);
                }
                Poll::Ready(Ok(response.map(|inner| FrontBody { inner: Answer::Grpc(inner), call })))
            }
            ToComeProjected::Http { future } => {
                let response = ready!(future.as_mut().poll(cx));
                Poll::Ready(Ok(response.map(|inner| FrontBody { inner: Answer::Http(inner), call: None })))
            }
        }
    }
}

fn code(headers: &HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|value| Code::from_header(value.as_bytes()))
}

enum Answer {
    Grpc(tonic::body::Body),
    Http(http_body_util::Full<Bytes>),
}

/// The body of an answer, which sees the call's end.
pub struct FrontBody {
    inner: Answer,
    call: Option<Call>,
}

impl Body for FrontBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let this = self.get_mut();
        let frame = match &mut this.inner {
            Answer::Grpc(body) => ready!(Pin::new(body).poll_frame(cx)),
            Answer::Http(body) => {
                return Pin::new(body)
                    .poll_frame(cx)
                    .map(|frame| frame.map(|f| f.map_err(|never| match never {})));
            }
        };
        if let Some(call) = &mut this.call {
            match &frame {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        call.sent(data.len());
                    } else if let Some(code) = frame.trailers_ref().and_then(code) {
                        call.end(code);
                    }
                }
                Some(Err(status)) => call.end(Code::from(status.code())),
                None => call.end(Code::UNKNOWN),
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Answer::Grpc(body) => body.is_end_stream(),
            Answer::Http(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Answer::Grpc(body) => body.size_hint(),
            Answer::Http(body) => body.size_hint(),
        }
    }
}

/// The body of a call, whose bytes are counted.
pub struct CountedBody {
    inner: Incoming,
    method: Option<Arc<MethodMetrics>>,
}

impl Body for CountedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.inner).poll_frame(cx));
        if let (Some(method), Some(Ok(frame))) = (&this.method, &frame)
            && let Some(data) = frame.data_ref()
        {
            method.received(data.len());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
