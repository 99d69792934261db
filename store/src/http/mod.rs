//! The HTTP endpoints beside gRPC: `/health`, `/livez`, `/readyz`, `/version`, `/metrics`, as etcd answers them.
//!
//! Only tells; never changes anything, and never holds a request longer than its deadline.

mod checks;
mod health;
mod query;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;

pub use self::health::HealthSource;
use self::query::Query;
use crate::metrics::Metrics;

/// What `/version` tells, all three in full: `3.6.5`, `3.6.0`, `3.6.0`.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Versions {
    /// This member's.
    #[serde(rename = "etcdserver")]
    pub server: &'static str,
    /// The cluster's.
    #[serde(rename = "etcdcluster")]
    pub cluster: &'static str,
    /// The storage's.
    pub storage: &'static str,
}

/// All endpoints. Cheap to clone.
#[derive(Debug)]
pub struct Endpoints<H>(Arc<Shared<H>>);

impl<H> Clone for Endpoints<H> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
struct Shared<H> {
    source: H,
    metrics: Arc<Metrics>,
    versions: Versions,
    request_timeout: Duration,
}

impl<H: HealthSource> Endpoints<H> {
    /// `request_timeout` bounds each read that a check makes.
    #[must_use]
    pub fn new(source: H, metrics: Arc<Metrics>, versions: Versions, request_timeout: Duration) -> Self {
        Self(Arc::new(Shared { source, metrics, versions, request_timeout }))
    }

    /// Answers one request; its body does not matter.
    pub async fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let query = Query::parse(request.uri().query().unwrap_or_default());
        self.answer_to(request.method(), request.uri().path(), &query).await
    }

    async fn answer_to(&self, method: &Method, path: &str, query: &Query) -> Response<Full<Bytes>> {
        let shared = &*self.0;
        let checks = checks::find(path);
        match path {
            "/metrics" => return with_type(shared.metrics.text(), Metrics::CONTENT_TYPE),
            "/health" | "/version" => {}
            _ if checks.is_some() => {}
            _ => return refusal(StatusCode::NOT_FOUND, "404 page not found"),
        }
        if method != Method::GET {
            let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
            return response;
        }
        if let Some(checks) = checks {
            return checks::answer(shared, &checks, query).await;
        }
        if path == "/health" {
            return health::answer(shared, query).await;
        }
        with_type(json(&shared.versions), "application/json")
    }
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("strings can be written as JSON")
}

const PLAIN: &str = "text/plain; charset=utf-8";

fn with_type(body: impl Into<Bytes>, content_type: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// As Go's `http.Error` words it: the text and an end of line.
fn refusal(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = with_type(format!("{text}\n"), PLAIN);
    *response.status_mut() = status;
    not_sniffed(&mut response);
    response
}

fn not_sniffed(response: &mut Response<Full<Bytes>>) {
    let name = HeaderName::from_static("x-content-type-options");
    response.headers_mut().insert(name, HeaderValue::from_static("nosniff"));
}

#[cfg(test)]
mod tests;
