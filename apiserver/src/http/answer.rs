//! Answers: bodies, their headers, and a Status for every failure. Must never decide what is answered.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use barque_api::protobuf;
use barque_api::status::Status;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, RETRY_AFTER, WARNING};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, SizeHint};
use serde_json::Value;

use super::negotiation::{Encoding, Form};

/// The body of an answer. What breaks in the middle ends it.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A body in one piece.
#[must_use]
pub fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed_unsync()
}

/// A body whose pieces are made when they are sent.
pub struct Pieces<I>(pub I);

impl<I: Iterator<Item = Bytes> + Unpin> hyper::body::Body for Pieces<I> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.next().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// An answer with this content type.
#[must_use]
pub fn with(code: StatusCode, content_type: &str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(content_type) {
        headers.insert(CONTENT_TYPE, value);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// Plain text.
#[must_use]
pub fn text(code: StatusCode, text: impl Into<String>) -> Response<Body> {
    let mut response = with(code, "text/plain; charset=utf-8", whole(text.into()));
    let nosniff = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(HeaderName::from_static("x-content-type-options"), nosniff);
    response
}

/// A document that is no object.
#[must_use]
pub fn json(document: &Value) -> Response<Body> {
    with(StatusCode::OK, Encoding::Json.media_type(), whole(document.to_string()))
}

/// An object in one of the encodings.
///
/// # Errors
/// 500 for one that cannot be encoded so.
pub fn encoded(object: &Value, encoding: Encoding) -> Result<Bytes, Status> {
    match encoding {
        Encoding::Json => serde_json::to_vec(object).map(Bytes::from).map_err(Status::internal),
        Encoding::Yaml => serde_saphyr::to_string(object).map(Bytes::from).map_err(Status::internal),
        Encoding::Protobuf => protobuf::encode_object(object).map(Bytes::from).map_err(Status::internal),
    }
}

/// An object.
///
/// # Errors
/// As [`encoded`].
pub fn object(code: StatusCode, object: &Value, encoding: Encoding) -> Result<Response<Body>, Status> {
    let bytes = encoded(object, encoding)?;
    Ok(with(code, encoding.media_type(), whole(bytes)))
}

/// The answer to a request that failed, in the form that the client reads.
#[must_use]
pub fn failure(status: &Status, form: Option<Form>) -> Response<Body> {
    let encoding = form.map_or(Encoding::Json, |form| form.encoding);
    let value = status.to_value();
    let (bytes, encoding) = match encoded(&value, encoding) {
        Ok(bytes) => (bytes, encoding),
        Err(_) => (Bytes::from(value.to_string()), Encoding::Json),
    };
    let code = StatusCode::from_u16(status.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = with(code, encoding.media_type(), whole(bytes));
    if status.details.retry_after_seconds > 0 {
        let seconds = HeaderValue::from(status.details.retry_after_seconds);
        response.headers_mut().insert(RETRY_AFTER, seconds);
    }
    response
}

/// Texts for whoever reads the answer, each once (RFC 7234, code 299).
pub fn warn(response: &mut Response<Body>, warnings: &[String]) {
    /// All texts together have at most so many bytes; clients cut headers.
    const MOST_BYTES: usize = 4 << 10;
    let mut left = MOST_BYTES;
    let mut seen: Vec<&String> = Vec::new();
    for warning in warnings {
        if seen.contains(&warning) {
            continue;
        }
        seen.push(warning);
        let clean: String =
            warning.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
        let quoted = clean.replace('\\', "\\\\").replace('"', "\\\"");
        let header = format!("299 - \"{quoted}\"");
        if header.len() > left {
            return;
        }
        left -= header.len();
        if let Ok(value) = HeaderValue::from_bytes(header.as_bytes()) {
            response.headers_mut().append(WARNING, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_a_status_in_any_encoding() {
        let status = Status::too_many_requests("busy", 3);
        let response = failure(&status, None);
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[RETRY_AFTER], "3");
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
    }

    #[test]
    fn warnings_are_told_once_and_quoted() {
        let mut response = text(StatusCode::OK, "");
        warn(&mut response, &["a \"b\"\n".into(), "a \"b\"\n".into(), "c".into()]);
        let told: Vec<_> = response.headers().get_all(WARNING).iter().collect();
        assert_eq!(told, ["299 - \"a \\\"b\\\" \"", "299 - \"c\""]);
        let mut response = text(StatusCode::OK, "");
        warn(&mut response, &["x".repeat(5000)]);
        assert!(response.headers().get(WARNING).is_none());
    }
}
