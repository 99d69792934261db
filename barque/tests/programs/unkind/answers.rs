//! Answers that no API server gave.

use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use serde_json::{Value, json};

use super::proxy::Body;

/// A failure as an API server tells it.
pub(crate) fn status(
    code: StatusCode,
    reason: &str,
    message: &str,
    retry_after_s: Option<u32>,
) -> Response<Body> {
    let mut status = object(code, reason, message);
    if let Some(seconds) = retry_after_s {
        status["details"] = json!({"retryAfterSeconds": seconds});
    }
    let body = Full::new(Bytes::from(status.to_string())).map_err(|never| match never {}).boxed();
    let mut response = Response::builder().status(code).header("content-type", "application/json");
    if let Some(seconds) = retry_after_s {
        response = response.header("retry-after", seconds);
    }
    response.body(body).unwrap()
}

fn object(code: StatusCode, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code.as_u16(),
    })
}

/// The last event of a watch whose version is too old.
pub(crate) fn too_old() -> Bytes {
    let status = object(StatusCode::GONE, "Expired", "too old resource version: 1 (2)");
    Bytes::from(format!("{}\n", json!({"type": "ERROR", "object": status})))
}
