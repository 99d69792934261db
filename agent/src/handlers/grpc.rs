//! How a service is, by the protocol `grpc.health.v1`: one call over a connection of its own. Its two messages have one field
//! each, so they are written by hand. Must never keep a connection.

use core::net::IpAddr;
use std::time::Duration;

use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::timeout;

use super::{authority, beside, tcp};

/// No answer is longer.
const LONGEST_ANSWER: usize = 1024;
/// `Check`, as paths name it.
const METHOD: &str = "/grpc.health.v1.Health/Check";
const STATES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];

/// Asks how a service is; the empty name is the server as a whole.
///
/// # Errors
/// What it is instead of serving.
pub(super) async fn check(
    address: IpAddr,
    port: u16,
    service: &str,
    patience: Duration,
) -> Result<(), String> {
    let authority = authority(&address.to_string(), port);
    let late =
        || format!("timeout: health rpc did not complete within {}s: {authority:?}", patience.as_secs());
    timeout(patience, call(address, port, &authority, service)).await.unwrap_or_else(|_| Err(late()))
}

async fn call(address: IpAddr, port: u16, authority: &str, service: &str) -> Result<(), String> {
    let unreachable =
        |error: &dyn std::fmt::Display| format!("failed to connect service {authority:?}: {error}");
    let stream = tcp::dial(&address.to_string(), port, Duration::MAX).await.map_err(|e| unreachable(&e))?;
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| unreachable(&error))?;
    let uri = Uri::builder().scheme("http").authority(authority).path_and_query(METHOD).build();
    let request = Request::post(uri.map_err(|error| unreachable(&error))?)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.37")
        .body(Full::new(Bytes::from(question(service))))
        .map_err(|error| unreachable(&error))?;
    let asked = async {
        let answer = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, LONGEST_ANSWER).collect().await;
        let body = body.map_err(|error| unreachable(&error))?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        verdict(head.status, &head.headers, &trailers, &body.to_bytes())
    };
    beside(asked, connection).await
}

/// `HealthCheckRequest { service = 1 }`, in a frame.
fn question(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend(message);
    frame
}

/// What an answer means. `HealthCheckResponse { status = 1 }`.
fn verdict(status: StatusCode, head: &HeaderMap, trailers: &HeaderMap, body: &[u8]) -> Result<(), String> {
    let said = |name: &str| {
        let value = trailers.get(name).or_else(|| head.get(name))?;
        value.to_str().ok().map(str::to_owned)
    };
    if status != StatusCode::OK {
        return Err(format!("error: health rpc failed: unexpected HTTP status code {}", status.as_u16()));
    }
    match said("grpc-status").as_deref() {
        Some("0") => {}
        Some("12") => {
            return Err("error: this server does not implement the grpc health protocol \
                                  (grpc.health.v1.Health): unimplemented"
                .to_owned());
        }
        Some(code) => {
            let text = said("grpc-message").unwrap_or_default();
            return Err(format!("error: health rpc failed: rpc error: code = {code} desc = {text}"));
        }
        None => return Err("error: health rpc failed: the answer has no status".to_owned()),
    }
    // A state of nought is not written.
    let state = match body.get(5..) {
        Some([]) => 0,
        Some([0x08, state]) => usize::from(*state),
        _ => return Err("error: health rpc failed: the answer cannot be read".to_owned()),
    };
    match STATES.get(state) {
        Some(&"SERVING") => Ok(()),
        Some(state) => Err(format!("service unhealthy (responded with {state:?})")),
        None => Err(format!("service unhealthy (responded with \"{state}\")")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trailers(status: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(
            http::HeaderName::from_static("grpc-status"),
            http::HeaderValue::from_static(status),
        )])
    }

    #[test]
    fn a_question_is_a_frame_with_a_name() {
        assert_eq!(question(""), [0, 0, 0, 0, 0]);
        assert_eq!(question("ab"), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = question(&"x".repeat(300));
        assert_eq!(long[..8], [0, 0, 0, 1, 0x2f, 0x0a, 0xac, 0x02]);
    }

    #[test]
    fn only_who_serves_is_well() {
        let none = HeaderMap::new();
        let of = |status, body: &[u8]| verdict(StatusCode::OK, &none, &trailers(status), body);
        assert_eq!(of("0", &[0, 0, 0, 0, 2, 8, 1]), Ok(()));
        assert_eq!(
            of("0", &[0, 0, 0, 0, 2, 8, 2]).unwrap_err(),
            "service unhealthy (responded with \"NOT_SERVING\")"
        );
        assert_eq!(of("0", &[0, 0, 0, 0, 0]).unwrap_err(), "service unhealthy (responded with \"UNKNOWN\")");
        assert!(of("12", &[]).unwrap_err().ends_with("unimplemented"));
        assert!(of("5", &[]).unwrap_err().contains("code = 5"));
        assert!(of("0", &[1]).is_err() && verdict(StatusCode::NOT_FOUND, &none, &none, &[]).is_err());
    }

    #[tokio::test]
    async fn who_is_not_there_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let told = check(IpAddr::from([127, 0, 0, 1]), port, "", Duration::from_secs(30)).await.unwrap_err();
        assert!(told.starts_with(&format!("failed to connect service \"127.0.0.1:{port}\"")), "{told}");
    }
}
