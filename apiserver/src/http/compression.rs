//! Answers that are worth it are compressed for clients that can read it. Must never hold more of an answer than a piece.

use std::convert::Infallible;
use std::io::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, HeaderValue, VARY};
use http::{HeaderMap, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Frame, SizeHint};

use super::answer::Body;

/// Smaller answers are sent as they are, as kube-apiserver does.
const LEAST_BYTES: u64 = 128 << 10;
/// The fastest: the network between a server and its clients is fast too.
const LEVEL: u32 = 1;

/// Whether a client reads gzip.
#[must_use]
pub fn accepts(headers: &HeaderMap) -> bool {
    let header = headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    header.split(',').any(|one| {
        let mut parts = one.split(';').map(str::trim);
        parts.next() == Some("gzip") && !parts.any(|part| part == "q=0")
    })
}

/// The answer, compressed if it is large.
#[must_use]
pub fn compress(response: Response<Body>) -> Response<Body> {
    let known = response.body().size_hint().exact();
    if known.is_some_and(|bytes| bytes < LEAST_BYTES) || response.headers().contains_key(CONTENT_ENCODING) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    head.headers.remove(CONTENT_LENGTH);
    head.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    head.headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    let encoder = Some(GzEncoder::new(Vec::new(), Compression::new(LEVEL)));
    Response::from_parts(head, Gzip { body, encoder }.boxed_unsync())
}

struct Gzip {
    body: Body,
    /// Nothing once the end was written.
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl hyper::body::Body for Gzip {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            if self.encoder.is_none() {
                return Poll::Ready(None);
            }
            let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
            let Some(encoder) = self.encoder.as_mut() else { return Poll::Ready(None) };
            // Writing to memory does not fail.
            let piece = match frame {
                Some(Ok(frame)) => {
                    let data = frame.into_data().unwrap_or_default();
                    if encoder.write_all(&data).is_err() {
                        return Poll::Ready(None);
                    }
                    std::mem::take(encoder.get_mut())
                }
                Some(Err(never)) => match never {},
                None => self.encoder.take().and_then(|encoder| encoder.finish().ok()).unwrap_or_default(),
            };
            if !piece.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(piece.into()))));
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;
    use http::StatusCode;

    use super::super::answer::{text, whole, with};
    use super::*;

    #[test]
    fn clients_say_what_they_read() {
        let accepts_text = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, text.parse().unwrap());
            accepts(&headers)
        };
        assert!(accepts_text("gzip") && accepts_text("deflate, gzip;q=0.5"));
        assert!(!accepts_text("br") && !accepts_text("gzip;q=0") && !accepts(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn large_answers_are_smaller_on_the_wire_and_the_same_when_read() {
        let small = compress(text(StatusCode::OK, "x".repeat(1000)));
        assert!(small.headers().get(CONTENT_ENCODING).is_none());
        let large = "0123456789".repeat(100_000);
        let response = compress(with(StatusCode::OK, "text/plain", whole(large.clone())));
        assert_eq!(response.headers()[CONTENT_ENCODING], "gzip");
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        assert!(bytes.len() < large.len() / 10);
        let mut read = String::new();
        GzDecoder::new(&bytes[..]).read_to_string(&mut read).unwrap();
        assert_eq!(read, large);
    }
}
