//! Connections that leave HTTP: SPDY, and WebSockets where the agent takes them. Must never know what runs.

use std::future::pending;
use std::path::PathBuf;

use barque_streams::spdy::headers::value;
use barque_streams::spdy::session::{Role, Session};
use futures::{SinkExt as _, StreamExt as _};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use hyper::body::{Bytes, Incoming};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role as End};

use super::ports;
use super::process::{self, Sink, Source, Streams};
use super::{Answer, Query, text};

const QUEUE: usize = 16;
const BUFFER: usize = 32 << 10;

type Connection = TokioIo<Upgraded>;

/// Which streams a client wants.
#[derive(Clone, Copy)]
struct Wanted {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

/// Runs a command for a client that upgrades.
pub(super) fn process(
    mut request: Request<Incoming>,
    websockets: bool,
    command: Command,
    query: &Query,
) -> Answer {
    let tty = query.has("tty");
    let wanted = Wanted {
        stdin: query.has("input"),
        stdout: query.has("output"),
        stderr: query.has("error") && !tty,
        tty,
    };
    let is_websocket = request.headers().get(UPGRADE).is_some_and(|value| value == "websocket");
    let upgrade = hyper::upgrade::on(&mut request);
    let answer = accepted(request.headers(), websockets, "v5.channel.k8s.io");
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        tokio::spawn(async move {
            let Ok(connection) = upgrade.await.map(TokioIo::new) else { return };
            if is_websocket {
                over_websocket(connection, command, wanted).await;
            } else {
                over_spdy(connection, command, wanted).await;
            }
        });
    }
    answer
}

/// Forwards ports of a pod for a client that upgrades.
pub(super) fn ports(
    mut request: Request<Incoming>,
    websockets: bool,
    directory: PathBuf,
    pod: String,
) -> Answer {
    let is_websocket = request.headers().get(UPGRADE).is_some_and(|value| value == "websocket");
    let upgrade = hyper::upgrade::on(&mut request);
    let answer = accepted(request.headers(), websockets, "SPDY/3.1+portforward.k8s.io");
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        tokio::spawn(async move {
            let Ok(connection) = upgrade.await.map(TokioIo::new) else { return };
            if is_websocket {
                tunnel(connection, directory, pod).await;
            } else {
                ports::forward(connection, directory, pod).await;
            }
        });
    }
    answer
}

/// The answer to who wants to leave HTTP; of a WebSocket's protocols only this one is known.
fn accepted(headers: &HeaderMap, websockets: bool, protocol: &'static str) -> Answer {
    let mut answer = text(StatusCode::SWITCHING_PROTOCOLS, "");
    let told = answer.headers_mut();
    let Some(upgrade) = headers.get(UPGRADE) else {
        return text(StatusCode::BAD_REQUEST, "Upgrade request required");
    };
    told.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    told.insert(UPGRADE, upgrade.clone());
    if upgrade == "websocket" {
        let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
        let is_known = offered.flat_map(|value| value.split(',')).any(|one| one.trim() == protocol);
        if !websockets || !is_known {
            return text(StatusCode::FORBIDDEN, "");
        }
        let key = derive_accept_key(headers[SEC_WEBSOCKET_KEY].as_bytes());
        told.insert(SEC_WEBSOCKET_ACCEPT, key.parse().unwrap());
        told.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    } else if let Some(version) = headers.get("x-stream-protocol-version") {
        told.insert("x-stream-protocol-version", version.clone());
    }
    answer
}

async fn over_spdy(connection: Connection, command: Command, wanted: Wanted) {
    let (session, mut accepted, driving) = Session::start(connection, Role::Server);
    let acting = async {
        let (mut stdin, mut stdout, mut stderr, mut error) = (None, None, None, None);
        let count = [true, wanted.stdin, wanted.stdout, wanted.stderr, wanted.tty];
        let mut sizes = None;
        for _ in count.into_iter().filter(|one| *one) {
            let Some(stream) = accepted.recv().await else { return };
            match value(&stream.headers, "streamtype") {
                Some("error") => error = Some(Sink::Spdy(stream.writer)),
                Some("stdin") => stdin = Some(Source::Spdy(stream.reader)),
                Some("stdout") => stdout = Some(Sink::Spdy(stream.writer)),
                Some("stderr") => stderr = Some(Sink::Spdy(stream.writer)),
                Some("resize") => sizes = Some(stream.reader),
                other => panic!("{other:?} is no stream"),
            }
        }
        let Some(error) = error else { return };
        process::run(command, Streams { stdin, stdout, stderr, error }).await;
        drop(sizes);
        // The client leaves when it has read all of it.
        pending::<()>().await;
    };
    tokio::select! {
        () = acting => {}
        _ = driving => {}
    }
    drop(session);
}

async fn over_websocket(connection: Connection, command: Command, wanted: Wanted) {
    let socket = WebSocketStream::from_raw_socket(connection, End::Server, None).await;
    let (mut to_client, mut from_client) = socket.split();
    let (messages, mut outgoing) = mpsc::channel(QUEUE);
    let (typed, input) = mpsc::channel(QUEUE);
    let sink = |wanted: bool, channel: u8| wanted.then(|| Sink::Socket(channel, messages.clone()));
    let streams = Streams {
        stdin: wanted.stdin.then_some(Source::Socket(input)),
        stdout: sink(wanted.stdout, 1),
        stderr: sink(wanted.stderr, 2),
        error: Sink::Socket(3, messages.clone()),
    };
    drop(messages);
    let writing = async {
        while let Some(message) = outgoing.recv().await {
            if to_client.send(message).await.is_err() {
                return;
            }
        }
        // Go's clients want the code that says so. Whoever is gone needs no goodbye.
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        let _ = to_client.send(Message::Close(Some(frame))).await;
    };
    let reading = async {
        let mut typed = Some(typed);
        while let Some(Ok(message)) = from_client.next().await {
            let Message::Binary(mut bytes) = message else { continue };
            match bytes.split_to(1)[0] {
                0 => {
                    if let Some(typed) = &typed {
                        // The process may read less than it is given.
                        let _ = typed.send(bytes).await;
                    }
                }
                255 if *bytes == [0] => typed = None,
                _ => {}
            }
        }
    };
    let acting = async {
        tokio::join!(process::run(command, streams), writing);
        pending::<()>().await;
    };
    tokio::select! {
        () = acting => {}
        () = reading => {}
    }
}

/// SPDY within the messages of a WebSocket.
async fn tunnel(connection: Connection, directory: PathBuf, pod: String) {
    let socket = WebSocketStream::from_raw_socket(connection, End::Server, None).await;
    let (mut to_client, mut from_client) = socket.split();
    let (inside, outside) = tokio::io::duplex(BUFFER);
    let (mut reader, mut writer) = tokio::io::split(outside);
    let inward = async {
        while let Some(Ok(message)) = from_client.next().await {
            if let Message::Binary(bytes) = message
                && writer.write_all(&bytes).await.is_err()
            {
                return;
            }
        }
    };
    let outward = async {
        let mut buffer = vec![0; BUFFER];
        while let Ok(read @ 1..) = reader.read(&mut buffer).await {
            let message = Message::Binary(Bytes::copy_from_slice(&buffer[..read]));
            if to_client.send(message).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = inward => {}
        () = outward => {}
        () = ports::forward(inside, directory, pod) => {}
    }
}
