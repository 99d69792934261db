//! `apiserver_request_*`: every request from its beginning to the end of its answer's body. Must never change an answer.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt as _;
use hyper::body::{Frame, SizeHint};
use prometheus::{HistogramVec, IntCounterVec, IntGaugeVec};
use tokio::time::Instant;

use super::Metrics;
use super::labels::{Subject, Told};
use super::register::{LATENCIES, Register, growing};
use crate::http::answer::Body;

const COMPONENT: &str = "apiserver";

/// See the module's description.
#[derive(Debug)]
pub struct RequestMetrics {
    total: IntCounterVec,
    seconds: HistogramVec,
    sli_seconds: HistogramVec,
    sizes: HistogramVec,
    in_flight: IntGaugeVec,
    long_running: IntGaugeVec,
    terminations: IntCounterVec,
    aborts: IntCounterVec,
    told: Told,
}

impl RequestMetrics {
    pub(super) fn new(r: &Register<'_>) -> Self {
        let about = ["verb", "group", "version", "resource", "subresource", "scope", "component"];
        let with = |more: &[&'static str]| [&about[..], more].concat();
        Self {
            total: r.counters(
                "apiserver_request_total",
                "Requests by verb, dry run, resource, scope, component and HTTP code.",
                &with(&["dry_run", "code"]),
            ),
            seconds: r.histograms(
                "apiserver_request_duration_seconds",
                "How long requests took, in seconds.",
                &with(&["dry_run"]),
                &LATENCIES,
            ),
            sli_seconds: r.histograms(
                "apiserver_request_sli_duration_seconds",
                "How long requests took, in seconds, without what they waited for seats and webhooks.",
                &about,
                &LATENCIES,
            ),
            sizes: r.histograms(
                "apiserver_response_sizes",
                "Bytes of answers to GET and LIST.",
                &about,
                &growing(1000.0, 10.0, 7),
            ),
            in_flight: r.gauges(
                "apiserver_current_inflight_requests",
                "Requests that are worked on, by kind.",
                &["request_kind"],
            ),
            long_running: r.gauges(
                "apiserver_longrunning_requests",
                "Requests that follow something.",
                &about,
            ),
            terminations: r.counters(
                "apiserver_request_terminations_total",
                "Requests that the server ended in self-defence.",
                &with(&["code"]),
            ),
            aborts: r.counters(
                "apiserver_request_aborts_total",
                "Requests whose clients went away before there was an answer.",
                &about[..6],
            ),
            told: Told::default(),
        }
    }
}

/// A request goes on for as long as this lives.
#[derive(Debug)]
pub struct Ongoing {
    metrics: Arc<Metrics>,
    subject: Subject,
    is_long_running: bool,
    began: Instant,
    waited: Duration,
    is_over: bool,
}

impl Metrics {
    /// A request began.
    #[must_use]
    pub fn request_began(self: &Arc<Self>, subject: Subject, is_long_running: bool) -> Ongoing {
        let subject = self.requests.told.bound(subject);
        let ongoing = Ongoing {
            metrics: Arc::clone(self),
            subject,
            is_long_running,
            began: Instant::now(),
            waited: Duration::ZERO,
            is_over: false,
        };
        ongoing.count_now(1);
        ongoing
    }
}

impl Ongoing {
    /// It waited for so long for seats or webhooks.
    pub fn waited(&mut self, waited: Duration) {
        self.waited += waited;
    }

    /// The server ended it to save itself: there was no room, or no time.
    pub fn terminated(&self, code: u16) {
        let code = code_text(code);
        let [verb, group, version, resource, subresource, scope, component] = self.about();
        let labels = [verb, group, version, resource, subresource, scope, component, &code];
        self.metrics.requests.terminations.with_label_values(&labels).inc();
    }

    /// It is over.
    pub fn ended(mut self, code: u16, bytes: u64) {
        self.count_end(code, bytes);
    }

    /// It is answered; it is over when the answer's body is.
    #[must_use]
    pub fn answered(self, response: Response<Body>) -> Response<Body> {
        let code = response.status().as_u16();
        response.map(|body| Counted { body, ongoing: self, code, bytes: 0 }.boxed_unsync())
    }

    fn about(&self) -> [&str; 7] {
        let Subject { verb, subresource, scope, .. } = &self.subject;
        let [group, version, resource] = self.subject.resource();
        [verb, group, version, resource, subresource, scope, COMPONENT]
    }

    fn count_now(&self, change: i64) {
        let requests = &self.metrics.requests;
        if self.is_long_running {
            requests.long_running.with_label_values(&self.about()).add(change);
        } else {
            let kind = if self.subject.is_mutating { "mutating" } else { "readOnly" };
            requests.in_flight.with_label_values(&[kind]).add(change);
        }
    }

    fn count_end(&mut self, code: u16, bytes: u64) {
        self.is_over = true;
        let (requests, code, dry_run) = (&self.metrics.requests, code_text(code), self.subject.dry_run);
        let about = self.about();
        let [verb, group, version, resource, subresource, scope, component] = about;
        let labels = [verb, group, version, resource, subresource, scope, component, dry_run, &code];
        requests.total.with_label_values(&labels).inc();
        let taken = self.began.elapsed();
        requests.seconds.with_label_values(&labels[..8]).observe(taken.as_secs_f64());
        let own = taken.saturating_sub(self.waited);
        requests.sli_seconds.with_label_values(&about).observe(own.as_secs_f64());
        if ["GET", "LIST"].contains(&verb) {
            #[expect(clippy::cast_precision_loss, reason = "metrics are floats")]
            requests.sizes.with_label_values(&about).observe(bytes as f64);
        }
    }
}

impl Drop for Ongoing {
    fn drop(&mut self) {
        self.count_now(-1);
        if !self.is_over {
            self.metrics.requests.aborts.with_label_values(&self.about()[..6]).inc();
        }
    }
}

/// The codes that HTTP has; others are told as their class' first.
fn code_text(code: u16) -> String {
    match code {
        100..=511 => code.to_string(),
        _ => "500".to_owned(),
    }
}

/// The body of an answer, whose end is the request's.
struct Counted {
    body: Body,
    ongoing: Ongoing,
    code: u16,
    bytes: u64,
}

impl hyper::body::Body for Counted {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let (code, bytes) = (self.code, self.bytes);
        self.ongoing.count_end(code, bytes);
    }
}
