//! Counts what goes between this member and another: bytes and connections. Never changes any of it.
//!
//! Bytes are counted on the sockets that this member opened, and in the bodies of calls that the other
//! member makes, since only those say who is calling.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf as _, Bytes};
use hyper::body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use prometheus::{Histogram, IntCounter};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::identity::identity_in;
use super::peers::Peers;
use crate::metrics::{InProgress, PeerMetrics};

/// What is counted for one other member.
#[derive(Debug)]
pub struct PeerCounts {
    /// The handles.
    pub metrics: PeerMetrics,
    /// Connections to it that are open.
    connections: AtomicUsize,
}

impl PeerCounts {
    /// No connection yet.
    #[must_use]
    pub fn new(metrics: PeerMetrics) -> Self {
        Self { metrics, connections: AtomicUsize::new(0) }
    }
}

/// A connection to another member. Each read and write of the socket is counted.
pub(super) struct CountedStream<S> {
    inner: S,
    counts: Option<Arc<PeerCounts>>,
}

impl<S> CountedStream<S> {
    /// A connection that was just made; `None` to a member that is not known yet.
    pub(super) fn new(inner: S, counts: Option<Arc<PeerCounts>>) -> Self {
        if let Some(counts) = &counts
            && counts.connections.fetch_add(1, Ordering::Relaxed) == 0
        {
            counts.metrics.active.set(1);
        }
        Self { inner, counts }
    }

    fn wrote(&self, bytes: usize) {
        if let Some(counts) = &self.counts {
            counts.metrics.sent_bytes.inc_by(bytes as u64);
        }
    }
}

impl<S> Drop for CountedStream<S> {
    fn drop(&mut self) {
        if let Some(counts) = &self.counts
            && counts.connections.fetch_sub(1, Ordering::Relaxed) == 1
        {
            counts.metrics.active.set(0);
            counts.metrics.disconnected.inc();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for CountedStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let result = ready!(Pin::new(&mut this.inner).poll_read(cx, buf));
        if let Some(counts) = &this.counts {
            counts.metrics.received_bytes.inc_by((buf.filled().len() - before) as u64);
        }
        Poll::Ready(result)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for CountedStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.inner).poll_write(cx, buf))?;
        this.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.inner).poll_write_vectored(cx, bufs))?;
        this.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

/// The service for other members, with the bytes of each caller's calls counted. Callers that would not be
/// admitted are not counted, so that strangers add no series.
#[derive(Clone)]
pub struct CountedService<S> {
    inner: S,
    peers: Arc<Peers>,
}

impl<S> CountedService<S> {
    /// Counts what goes through `inner`.
    pub fn new(inner: S, peers: Arc<Peers>) -> Self {
        Self { inner, peers }
    }
}

impl<S: tonic::server::NamedService> tonic::server::NamedService for CountedService<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> tower::Service<http::Request<B>> for CountedService<S>
where
    S: tower::Service<
            http::Request<CountedBody<B>>,
            Response = http::Response<tonic::body::Body>,
            Error = Infallible,
        >,
{
    type Response = http::Response<CountedBody<tonic::body::Body>>;
    type Error = Infallible;
    type Future = CountedFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let caller = identity_in(request.headers()).ok();
        let counts = caller.and_then(|caller| self.peers.counts_of_caller(&caller));
        let received = counts.as_ref().map(|counts| counts.metrics.received_bytes.clone());
        let sent = counts.map(|counts| counts.metrics.sent_bytes.clone());
        let request = request.map(|inner| CountedBody { inner, counter: received });
        CountedFuture { inner: self.inner.call(request), sent }
    }
}

pin_project! {
    /// An answer to another member, to come.
    pub struct CountedFuture<F> {
        #[pin]
        inner: F,
        sent: Option<IntCounter>,
    }
}

impl<F> Future for CountedFuture<F>
where
    F: Future<Output = Result<http::Response<tonic::body::Body>, Infallible>>,
{
    type Output = Result<http::Response<CountedBody<tonic::body::Body>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(cx))?;
        let counter = this.sent.take();
        Poll::Ready(Ok(response.map(|inner| CountedBody { inner, counter })))
    }
}

pin_project! {
    /// A body whose bytes are counted.
    pub struct CountedBody<B> {
        #[pin]
        inner: B,
        counter: Option<IntCounter>,
    }
}

impl<B: Body<Data = Bytes>> Body for CountedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let frame = ready!(this.inner.poll_frame(cx));
        if let (Some(counter), Some(Ok(frame))) = (this.counter, &frame)
            && let Some(data) = frame.data_ref()
        {
            counter.inc_by(data.remaining() as u64);
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

/// A heartbeat on its way. Dropped without an answer, it counts as failed.
pub(super) struct Heartbeat {
    began: Instant,
    counts: Arc<PeerCounts>,
    failures: IntCounter,
    answered: bool,
}

impl Heartbeat {
    /// It goes out now.
    pub(super) fn new(counts: Arc<PeerCounts>, failures: IntCounter) -> Self {
        Self { began: Instant::now(), counts, failures, answered: false }
    }

    /// Its answer is here.
    pub(super) fn answered(mut self) {
        self.answered = true;
        self.counts.metrics.round_trip_time_seconds.observe(self.began.elapsed().as_secs_f64());
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        if !self.answered {
            self.failures.inc();
        }
    }
}

/// A snapshot on its way to or from another member. Dropped before it succeeded, it counts as failed.
pub(super) struct Transfer {
    began: Instant,
    seconds: Histogram,
    success: IntCounter,
    failures: IntCounter,
    succeeded: bool,
    _in_flight: InProgress,
}

impl Transfer {
    /// It goes out.
    pub(super) fn send(metrics: &PeerMetrics) -> Self {
        Self {
            began: Instant::now(),
            seconds: metrics.snapshot_send_seconds.clone(),
            success: metrics.snapshot_send_success.clone(),
            failures: metrics.snapshot_send_failures.clone(),
            succeeded: false,
            _in_flight: InProgress::new(&metrics.snapshot_send_inflights),
        }
    }

    /// It comes in.
    pub(super) fn receive(metrics: &PeerMetrics) -> Self {
        Self {
            began: Instant::now(),
            seconds: metrics.snapshot_receive_seconds.clone(),
            success: metrics.snapshot_receive_success.clone(),
            failures: metrics.snapshot_receive_failures.clone(),
            succeeded: false,
            _in_flight: InProgress::new(&metrics.snapshot_receive_inflights),
        }
    }

    /// It was installed.
    pub(super) fn succeeded(mut self) {
        self.succeeded = true;
        self.seconds.observe(self.began.elapsed().as_secs_f64());
        self.success.inc();
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        if !self.succeeded {
            self.failures.inc();
        }
    }
}
