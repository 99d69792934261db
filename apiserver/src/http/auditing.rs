//! What the audit log is told of a request on its way: when it came, when its answer began and when it was over. Must never
//! change the answer.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use barque_api::status::Status;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Frame, SizeHint};
use serde_json::Value;
use tokio_util::task::TaskTracker;

use super::answer::{Body, whole};
use super::negotiation::Encoding;
use super::request_info::RequestInfo;
use crate::admission::Told;
use crate::audit::{Log, Policy, Received, Record, Stage};
use crate::authorization::User;
use crate::clock::now_micros;
use crate::metrics::Metrics;

/// Answers of more bytes are told without their object.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// What is told, and where. Cloning copies pointers.
#[derive(Clone)]
pub struct Auditor {
    policy: Arc<Policy>,
    log: Log,
    tasks: TaskTracker,
    metrics: Arc<Metrics>,
}

/// What is known of a request before anything was done.
#[derive(Clone, Copy)]
pub struct Arrived<'a> {
    /// Names the request.
    pub id: &'a str,
    /// Path and query.
    pub uri: &'a str,
    /// What it is about.
    pub info: &'a RequestInfo,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Where it comes from.
    pub address: &'a str,
}

/// What is told of one request; nothing where it is not told.
#[derive(Default)]
pub struct Trail(Option<Record>);

impl Auditor {
    /// Tells what the policy wants told. Lines about ends of watches are written by `tasks`.
    #[must_use]
    pub fn new(policy: Policy, log: Log, tasks: TaskTracker, metrics: Arc<Metrics>) -> Self {
        Self { policy: Arc::new(policy), log, tasks, metrics }
    }

    async fn tell(&self, record: &Record, stage: Stage) {
        let Some(line) = record.line(stage, now_micros()) else { return };
        self.metrics.access.audit_event();
        if self.log.write(line).await.is_err() {
            self.metrics.access.audit_failed("log");
            tracing::error!("a request is not in the audit log: it is closed");
        }
    }

    /// A request came, from this user.
    pub async fn arrived(&self, request: &Arrived<'_>, user: &User) -> Trail {
        let agent = request.headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let received = Received {
            audit_id: request.id,
            uri: request.uri,
            info: request.info,
            user,
            source_ips: &[request.address.to_owned()],
            user_agent: agent,
            at: now_micros(),
        };
        let audited = self.policy.audited(user, request.info);
        self.metrics.access.audited(audited.level.name());
        let Some(record) = Record::begin(audited, &received) else {
            return Trail(None);
        };
        self.tell(&record, Stage::RequestReceived).await;
        Trail(Some(record))
    }

    /// The answer is there. That of a request that follows something is over when its last byte was sent.
    pub async fn answered(&self, trail: Trail, response: Response<Body>, follows: bool) -> Response<Body> {
        let Trail(Some(mut record)) = trail else { return response };
        record.response_code(response.status().as_u16());
        if follows {
            self.tell(&record, Stage::ResponseStarted).await;
            let auditor = self.clone();
            return response.map(|body| Followed { body, end: Some((auditor, record)) }.boxed_unsync());
        }
        let response =
            if record.wants_responses() { with_object(response, &mut record).await } else { response };
        self.tell(&record, Stage::ResponseComplete).await;
        response
    }
}

impl Trail {
    /// The request goes on in the name of somebody else.
    pub fn impersonated(&mut self, user: &User) {
        if let Some(record) = &mut self.0 {
            record.impersonated(user);
        }
    }

    /// What was sent.
    pub fn sent(&mut self, headers: &HeaderMap, body: &Bytes) {
        let Some(record) = self.0.as_mut().filter(|record| record.wants_requests()) else { return };
        let content_type =
            headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let Ok(value) = serde_json::from_slice::<Value>(body) else { return };
        if content_type.contains("patch") {
            record.request_patch(&value);
        } else {
            record.request_object(&value);
        }
    }

    /// Something that authorization has to say.
    pub fn annotate(&mut self, key: &str, value: &str) {
        if let Some(record) = &mut self.0 {
            record.annotate(key, value);
        }
    }

    /// What admission has to say.
    pub fn admitted(&mut self, told: &Told) {
        let Some(record) = &mut self.0 else { return };
        let details = if record.wants_requests() { told.details.as_slice() } else { &[] };
        for (key, value) in told.annotations.iter().chain(details) {
            record.annotate(key, value);
        }
    }

    /// It failed.
    pub fn failed(&mut self, status: &Status) {
        if let Some(record) = &mut self.0 {
            record.response_status(&status.to_value());
        }
    }
}

/// The same answer; its object was told, if it is one of reasonable size.
async fn with_object(response: Response<Body>, record: &mut Record) -> Response<Body> {
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let small = response.body().size_hint().exact().is_some_and(|bytes| bytes <= ANSWER_BYTES_MAX);
    if content_type != Some(Encoding::Json.media_type()) || !small {
        return response;
    }
    let (head, body) = response.into_parts();
    let bytes = match body.collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(never) => match never {},
    };
    if let Ok(value) = serde_json::from_slice(&bytes) {
        record.response_object(&value);
    }
    Response::from_parts(head, whole(bytes))
}

/// An answer whose end is told, whoever ends it.
struct Followed {
    body: Body,
    end: Option<(Auditor, Record)>,
}

impl hyper::body::Body for Followed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        if let Some((auditor, record)) = self.end.take() {
            let tasks = auditor.tasks.clone();
            // Nobody waits here; the tasks' owner does.
            tasks.spawn(async move { auditor.tell(&record, Stage::ResponseComplete).await });
        }
    }
}
