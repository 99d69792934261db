//! One HTTP question to a member: its metrics, and by the way the certificate that it shows.

use std::time::Duration;

use http::header::HOST;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;

use super::connector::causes;
use super::{Endpoint, Settings, certificate, connector};
use crate::error::Failure;

/// No page of a member is larger.
const MAX_BODY_BYTES: usize = 16 << 20;

/// What came back.
#[derive(Debug)]
pub(crate) struct HttpAnswer {
    pub(crate) status: u16,
    pub(crate) body: String,
    /// When the member's certificate ends, in seconds since 1970; `None` without TLS.
    pub(crate) certificate_ends_s: Option<i64>,
}

/// `GET path` on the client port of `endpoint`.
///
/// # Errors
/// If there is no connection or no answer in time.
pub(crate) async fn http_get(
    settings: &Settings,
    endpoint: &Endpoint,
    path: &str,
) -> Result<HttpAnswer, Failure> {
    let within = settings.short();
    match tokio::time::timeout(within, ask(settings, endpoint, path)).await {
        Ok(answer) => answer,
        Err(_) => Err(late(endpoint, within)),
    }
}

fn late(endpoint: &Endpoint, within: Duration) -> Failure {
    Failure::Late { endpoint: endpoint.to_string(), within }
}

async fn ask(settings: &Settings, endpoint: &Endpoint, path: &str) -> Result<HttpAnswer, Failure> {
    let connector = connector(settings, endpoint, b"http/1.1")?;
    let open = connector.open().await.map_err(|why| Failure::Connection(why.to_string()))?;
    let certificate_ends_s = open.chain.first().and_then(|certificate| certificate::ends_s(certificate));
    let broken = |why: &(dyn std::error::Error + 'static)| {
        Failure::Connection(format!("{endpoint}{path}: {}", causes(why)))
    };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(open.io)).await.map_err(|why| broken(&why))?;
    let request = Request::get(path).header(HOST, endpoint.authority()).body(Empty::<Bytes>::new());
    let request = request.map_err(|why| broken(&why))?;
    let answering = async {
        let answer = sender.send_request(request).await.map_err(|why| broken(&why))?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), MAX_BODY_BYTES).collect().await;
        let body = body.map_err(|why| Failure::Connection(format!("{endpoint}{path}: {why}")))?;
        Ok::<_, Failure>((status, body.to_bytes()))
    };
    // The connection's end is the answer's end; its own errors come out of the answer.
    let mut answering = std::pin::pin!(answering);
    let (status, body) = tokio::select! {
        answer = &mut answering => answer?,
        _ = connection => answering.await?,
    };
    Ok(HttpAnswer { status, body: String::from_utf8_lossy(&body).into_owned(), certificate_ends_s })
}
