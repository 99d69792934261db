//! The streams that a runtime serves at the URLs that it answers exec, attach and port-forward with: SPDY, as the kubelet speaks it
//! to them. Must never know what is run, nor outlive whoever asked.

use barque_streams::spdy::session::{Reader, Role, Session, Writer};
use barque_streams::upgrade::{PORTS, Version};
use bytes::Bytes;
use http::header::{CONNECTION, HOST, UPGRADE};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Bytes that wait on each stream.
pub(super) const BUFFER_BYTES: usize = 32 << 10;
/// So much of a refusal is told.
const REFUSAL_BYTES: usize = 4 << 10;
/// So much of how something ended is read.
const STATUS_BYTES: usize = 64 << 10;

/// What is spoken within SPDY.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inner {
    /// Something runs in a container.
    Process,
    /// Ports are forwarded.
    Ports,
}

/// Where a runtime streams: `http://127.0.0.1:34567/exec/TOKEN`. Those that are not plain HTTP are no runtime of this machine.
fn place(url: &str) -> Result<(String, Uri), String> {
    let uri: Uri = url.parse().map_err(|error| format!("the runtime streams at {url:?}: {error}"))?;
    let authority = uri.authority().filter(|_| uri.scheme_str() == Some("http"));
    let Some(authority) = authority else {
        return Err(format!("the runtime streams at {url:?}, which is not plain HTTP"));
    };
    let host = authority.host();
    Ok((format!("{host}:{}", authority.port_u16().unwrap_or(80)), uri))
}

/// Leaves HTTP towards a runtime.
pub(super) async fn connect(url: &str, inner: Inner) -> Result<TokioIo<Upgraded>, String> {
    let (address, uri) = place(url)?;
    let told = |error: &dyn std::fmt::Display| format!("the runtime's stream at {address}: {error}");
    let stream = TcpStream::connect(&address).await.map_err(|error| told(&error))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| told(&error))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let protocol = match inner {
        Inner::Process => Version::V4.name(),
        Inner::Ports => PORTS,
    };
    let request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(HOST, &address)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "SPDY/3.1")
        .header("x-stream-protocol-version", protocol)
        .body(Empty::<Bytes>::new())
        .map_err(|error| told(&error))?;
    let asking = async {
        let response = sender.send_request(request).await.map_err(|error| told(&error))?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return hyper::upgrade::on(response).await.map(TokioIo::new).map_err(|error| told(&error));
        }
        let status = response.status();
        let said = Limited::new(response.into_body(), REFUSAL_BYTES).collect().await;
        let said = said.map(|said| said.to_bytes()).unwrap_or_default();
        Err(told(&format!("{status}: {}", String::from_utf8_lossy(&said).trim())))
    };
    // The connection is driven until it is handed over.
    let driven = async {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a stream of the runtime broke off");
        }
        std::future::pending().await
    };
    tokio::select! {
        asked = asking => asked,
        never = driven => never,
    }
}

/// Which streams a process is given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Given {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) resize: bool,
}

/// The streams of a process, as far as it is given them.
pub(super) struct Opened {
    pub(super) stdin: Option<Writer>,
    pub(super) stdout: Option<Reader>,
    pub(super) stderr: Option<Reader>,
    pub(super) resize: Option<Writer>,
    pub(super) error: Reader,
}

async fn one(session: &Session, kind: &str) -> Result<(Reader, Writer), String> {
    let headers = vec![("streamtype".to_owned(), kind.to_owned())];
    session.open(headers).await.map_err(|error| format!("the runtime's stream {kind}: {error}"))
}

/// Opens the streams of a process, in the order of Go's clients.
pub(super) async fn open(session: &Session, given: Given) -> Result<Opened, String> {
    let (error, _) = one(session, "error").await?;
    let mut opened = Opened { stdin: None, stdout: None, stderr: None, resize: None, error };
    if given.stdin {
        opened.stdin = Some(one(session, "stdin").await?.1);
    }
    if given.stdout {
        opened.stdout = Some(one(session, "stdout").await?.0);
    }
    if given.stderr {
        opened.stderr = Some(one(session, "stderr").await?.0);
    }
    if given.resize {
        opened.resize = Some(one(session, "resize").await?.1);
    }
    Ok(opened)
}

/// Begins to speak on a connection; what is returned last has to be driven.
pub(super) fn begin(connection: TokioIo<Upgraded>) -> (Session, impl Future<Output = ()> + Send) {
    let (session, accepted, driving) = Session::start(connection, Role::Client);
    let driven = async move {
        // A runtime opens none; were they dropped here, it could not be told so.
        let _accepted = accepted;
        if let Err(error) = driving.await {
            tracing::debug!(%error, "a stream of the runtime broke off");
        }
    };
    (session, driven)
}

/// Everything that comes, to whoever reads it; once nobody does, it is thrown away, so that the rest goes on.
pub(super) async fn pour_out(mut from: Reader, mut to: impl AsyncWrite + Unpin) {
    let mut is_read = true;
    while let Some(bytes) = from.read().await {
        is_read = is_read && to.write_all(&bytes).await.is_ok();
    }
    // Who is gone hears no end.
    let _ = to.shutdown().await;
}

/// Everything that is written, and then the end.
pub(super) async fn pour_in(mut from: impl AsyncRead + Unpin, to: Writer) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if to.write(Bytes::copy_from_slice(&buffer[..read])).await.is_err() {
            return;
        }
    }
    // A runtime that is gone is told nothing.
    let _ = to.finish().await;
}

/// How a process ended: a `Status`, which says the exit code.
pub(super) async fn ended(mut from: Reader) -> Result<i32, String> {
    let mut text = Vec::new();
    while let Some(bytes) = from.read().await {
        let room = STATUS_BYTES.saturating_sub(text.len()).min(bytes.len());
        text.extend_from_slice(&bytes[..room]);
    }
    exit_code(&text)
}

fn exit_code(text: &[u8]) -> Result<i32, String> {
    if text.is_empty() {
        return Err("the runtime hung up before it said how that ended".to_owned());
    }
    let said = || String::from_utf8_lossy(text).into_owned();
    let status: Value = serde_json::from_slice(text).map_err(|_| said())?;
    if status["status"] == "Success" {
        return Ok(0);
    }
    let causes = status["details"]["causes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let code = causes.iter().find(|cause| cause["reason"] == "ExitCode");
    let code = code.and_then(|cause| cause["message"].as_str()?.parse().ok());
    code.ok_or_else(|| status["message"].as_str().map_or_else(said, str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_streams_over_plain_http() {
        assert_eq!(place("http://127.0.0.1:4567/exec/x?a=b").unwrap().0, "127.0.0.1:4567");
        assert_eq!(place("http://[::1]:4567/exec/x").unwrap().0, "[::1]:4567");
        for url in ["https://127.0.0.1:4567/exec/x", "/exec/x"] {
            assert!(place(url).unwrap_err().contains("not plain HTTP"), "{url}");
        }
    }

    #[test]
    fn how_it_ended_stands_in_a_status() {
        let table = [
            ("", Err("the runtime hung up before it said how that ended".to_owned())),
            (r#"{"status":"Success"}"#, Ok(0)),
            (
                r#"{"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"42"}]}}"#,
                Ok(42),
            ),
            (r#"{"status":"Failure","message":"no such container"}"#, Err("no such container".to_owned())),
            ("odd", Err("odd".to_owned())),
        ];
        for (text, expected) in table {
            assert_eq!(exit_code(text.as_bytes()), expected, "{text}");
        }
    }
}
