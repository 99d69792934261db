//! Bodies of requests: read whole, up to a limit, and unpacked. Must never keep more than the limit.

use barque_api::status::{Reason, Status};
use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;

use super::negotiation::{Encoding, encoding_of_body};

/// The most bytes of a body.
pub const MOST_BYTES: usize = 3 << 20;

/// Reads a body.
///
/// # Errors
/// 413 for one that is too large, 400 for one that broke off.
pub async fn read(body: Incoming) -> Result<Bytes, Status> {
    match Limited::new(body, MOST_BYTES).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(Status::new(
            Reason::RequestEntityTooLarge,
            format!("Request entity too large: limit is {MOST_BYTES}"),
        )),
        Err(error) => Err(Status::bad_request(format!("the body broke off: {error}"))),
    }
}

/// How a body is encoded.
///
/// # Errors
/// 415 for a form that is not known.
pub fn encoding(headers: &HeaderMap) -> Result<Encoding, Status> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    encoding_of_body(content_type).ok_or_else(|| {
        let known = [Encoding::Json, Encoding::Yaml, Encoding::Protobuf].map(Encoding::media_type).join(", ");
        Status::new(
            Reason::UnsupportedMediaType,
            format!(
                "the body of the request was in an unknown format - accepted media types include: {known}"
            ),
        )
    })
}
