//! WebSockets of clients towards agents that speak SPDY only: a tunnel gives its bytes away, channels become streams. Must
//! never know how the agent was found, nor keep more than a few messages.

use barque_streams::activity::Activity;
use barque_streams::spdy::session::{Reader, Role, Session, SessionError, Writer};
use barque_streams::upgrade::protocols;
use barque_streams::websocket::{self, Channel, Protocol, Socket};
use futures::stream::SplitStream;
use futures::{SinkExt as _, StreamExt as _};
use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{HeaderMap, Response, StatusCode};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use super::options::Streams;
use crate::relay::SILENCE;

/// Messages that wait for the client.
const QUEUE: usize = 16;
/// The most bytes of how a process ended.
const MOST_ERROR_BYTES: usize = 64 << 10;

/// The protocol inside of SPDY for what runs in containers.
pub const PROCESS_PROTOCOL: &str = "v4.channel.k8s.io";
/// The one for forwarded ports.
pub const PORTS_PROTOCOL: &str = "portforward.k8s.io";

/// Whether an agent has taken a WebSocket with a protocol that the client knows. Some take it with none, and speak another.
#[must_use]
pub fn goes_through<B>(request: &HeaderMap, response: &Response<B>) -> bool {
    let chosen = response.headers().get(SEC_WEBSOCKET_PROTOCOL).and_then(|value| value.to_str().ok());
    let offered = protocols(request);
    response.status() == StatusCode::SWITCHING_PROTOCOLS
        && chosen.map_or(offered.is_empty(), |chosen| offered.contains(&chosen))
}

/// Turns the channels of a WebSocket into streams of an agent, until the process has ended, a side is gone, or silent for too
/// long.
pub async fn process<A: AsyncRead + AsyncWrite + Send>(
    client: Socket,
    protocol: Protocol,
    agent: A,
    wanted: Streams,
) {
    let activity = Activity::now();
    let (session, _none, driving) = Session::start(agent, Role::Client);
    let (mut to_client, mut from_client) = client.split();
    let (messages, mut queue) = mpsc::channel(QUEUE);
    let working = async {
        match open(&session, wanted).await {
            Ok(process) => {
                let Process { stdin, resize, stdout, stderr, error } = process;
                let outputs = outputs(protocol, (stdout, stderr, error), messages, &activity);
                let inputs = inputs(protocol, &mut from_client, stdin, resize, &activity);
                tokio::select! {
                    () = outputs => {}
                    () = inputs => {}
                }
            }
            Err(error) => {
                let status = json!({
                    "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
                    "message": format!("Internal error occurred: {error}"),
                });
                let message = websocket::message(protocol, Channel::Error, status.to_string().as_bytes());
                let _ = messages.send(message).await;
                drop(messages);
            }
        }
    };
    let sending = async {
        while let Some(message) = queue.recv().await {
            activity.moves();
            if to_client.send(message).await.is_err() {
                return;
            }
        }
    };
    // Once the work is done, what waits for the client is sent; without the client there is no work.
    let all = async {
        let (mut working, mut sending) = (std::pin::pin!(working), std::pin::pin!(sending));
        tokio::select! {
            () = &mut working => sending.await,
            () = &mut sending => {}
        }
    };
    // The end of the connection ends its streams, and so the work.
    let driven = async {
        if let Err(error) = driving.await {
            tracing::debug!("the agent's connection broke off: {error}");
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = all => {}
        () = driven => {}
        () = activity.silent_for(SILENCE) => {}
    }
    websocket::goodbye(to_client, from_client).await;
}

/// The streams of a process, as far as they are wanted.
struct Process {
    stdin: Option<Writer>,
    resize: Option<Writer>,
    stdout: Option<Reader>,
    stderr: Option<Reader>,
    error: Reader,
}

async fn open(session: &Session, wanted: Streams) -> Result<Process, SessionError> {
    let one = async |kind: &str, wanted: bool| -> Result<Option<(Reader, Writer)>, SessionError> {
        if !wanted {
            return Ok(None);
        }
        session.open(vec![("streamtype".to_owned(), kind.to_owned())]).await.map(Some)
    };
    // In the order of Go's clients.
    let (error, _) = session.open(vec![("streamtype".to_owned(), "error".to_owned())]).await?;
    let stdin = one("stdin", wanted.stdin).await?.map(|(_, writer)| writer);
    let stdout = one("stdout", wanted.stdout).await?;
    let stderr = one("stderr", wanted.stderr).await?;
    let resize = one("resize", wanted.tty).await?.map(|(_, writer)| writer);
    let reader = |pair: Option<(Reader, Writer)>| pair.map(|(reader, _)| reader);
    Ok(Process { stdin, resize, stdout: reader(stdout), stderr: reader(stderr), error })
}

/// Everything that the process says, and at last how it ended.
async fn outputs(
    protocol: Protocol,
    (stdout, stderr, mut error): (Option<Reader>, Option<Reader>, Reader),
    messages: mpsc::Sender<Message>,
    activity: &Activity,
) {
    // Tells the client that everything is connected.
    let first = match (&stdout, &stderr) {
        (Some(_), _) => Channel::Stdout,
        (None, Some(_)) => Channel::Stderr,
        (None, None) => Channel::Error,
    };
    let _ = messages.send(websocket::message(protocol, first, b"")).await;
    let relay = async |reader: Option<Reader>, channel: Channel| {
        let Some(mut reader) = reader else { return };
        while let Some(bytes) = reader.read().await {
            activity.moves();
            if messages.send(websocket::message(protocol, channel, &bytes)).await.is_err() {
                return;
            }
        }
    };
    let ended = async {
        let mut status = Vec::new();
        while let Some(bytes) = error.read().await {
            let room = MOST_ERROR_BYTES - status.len();
            status.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        status
    };
    let ((), (), status) =
        tokio::join!(relay(stdout, Channel::Stdout), relay(stderr, Channel::Stderr), ended);
    if !status.is_empty() {
        let _ = messages.send(websocket::message(protocol, Channel::Error, &status)).await;
    }
}

/// Everything that the client says, until it is gone.
async fn inputs(
    protocol: Protocol,
    client: &mut SplitStream<Socket>,
    mut stdin: Option<Writer>,
    resize: Option<Writer>,
    activity: &Activity,
) {
    while let Some(Ok(message)) = client.next().await {
        activity.moves();
        if message.is_close() {
            return;
        }
        let written = match websocket::read(protocol, message) {
            Some((Channel::Stdin, bytes)) => match &stdin {
                Some(writer) => writer.write(bytes).await,
                None => Ok(()),
            },
            Some((Channel::Resize, bytes)) => match &resize {
                Some(writer) => writer.write(bytes).await,
                None => Ok(()),
            },
            Some((Channel::Close, bytes)) if protocol == Protocol::V5 && *bytes == [0] => {
                match stdin.take() {
                    Some(writer) => writer.finish().await,
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        };
        if written.is_err() {
            // The agent is gone; what it has said before is still on its way to the client.
            std::future::pending::<()>().await;
        }
    }
}
