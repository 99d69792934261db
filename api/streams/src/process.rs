//! The server's end of exec and attach: the streams of a process that a client wants, gathered from SPDY or from a WebSocket,
//! until what serves them has ended. Must never run anything, nor outlive the connection.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::SplitStream;
use futures::{SinkExt as _, StreamExt as _};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;

use crate::activity::Activity;
use crate::outcome::Outcome;
use crate::spdy::headers::value;
use crate::spdy::session::{Accepted, Role, Session};
use crate::stream::{Input, Output};
use crate::upgrade::Version;
use crate::websocket::{self, Channel, Protocol, goodbye};

/// All streams of a process must have begun within this time.
const PATIENCE: Duration = Duration::from_secs(30);
/// A client that was told the end closes the connection within this time, or it is closed for it.
const GOODBYE: Duration = Duration::from_secs(10);
/// Messages that wait for a client, and pieces that wait for a process.
const QUEUE: usize = 16;

/// Which streams a client wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The process reads what the client sends.
    pub stdin: bool,
    /// The client reads what the process writes.
    pub stdout: bool,
    /// The same for its errors; never with a terminal, which has one output only.
    pub stderr: bool,
    /// The process has a terminal, which has a size.
    pub tty: bool,
}

/// The size of a terminal, as clients send it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// The streams of a process towards a client.
#[derive(Debug)]
pub struct Streams {
    /// What the process reads.
    pub stdin: Option<Input>,
    /// What it writes.
    pub stdout: Option<Output>,
    /// Its errors.
    pub stderr: Option<Output>,
    /// How large its terminal is.
    pub sizes: Option<Sizes>,
    /// How it ended.
    pub end: End,
}

/// The sizes of a terminal, one after the other.
#[derive(Debug)]
pub struct Sizes {
    input: Input,
    begun: Vec<u8>,
}

impl Sizes {
    /// The most bytes of one.
    const MOST_BYTES: usize = 1 << 10;

    /// The next size; nothing when no more come, or what comes is none.
    pub async fn next(&mut self) -> Option<TerminalSize> {
        loop {
            let mut values = serde_json::Deserializer::from_slice(&self.begun).into_iter();
            match values.next() {
                Some(Ok(size)) => {
                    let read = values.byte_offset();
                    self.begun.drain(..read);
                    return Some(size);
                }
                Some(Err(error)) if !error.is_eof() => return None,
                _ if self.begun.len() > Self::MOST_BYTES => return None,
                _ => {}
            }
            self.begun.extend_from_slice(&self.input.read().await?);
        }
    }
}

/// Tells a client how a process ended.
#[derive(Debug)]
pub struct End {
    output: Output,
    version: Version,
}

impl End {
    /// Tells it. A client that is gone is told nothing.
    pub async fn tell(self, outcome: &Outcome) {
        let told = outcome.told(self.version);
        if !told.is_empty() {
            let _ = self.output.write(told.into()).await;
        }
        self.output.finish().await;
    }
}

/// Why nothing was served.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ProcessError {
    /// The client went away, or was silent for too long.
    #[error("the client is gone, or has been silent for too long")]
    Gone,
    /// The client did not open what it wanted in time.
    #[error("not all streams were opened within {} s", PATIENCE.as_secs())]
    Slow,
    /// The client opened a stream that it did not want, or one twice.
    #[error("a stream of type {0:?} is not wanted, or was opened before")]
    Unwanted(String),
}

/// Serves a client that speaks SPDY: gathers its streams and gives them to `serve`. Ends when that has ended and the client
/// knows, when the client is gone, or when nothing has moved for `silence`.
///
/// # Errors
/// When `serve` did not come to its end.
pub async fn spdy<IO, F>(
    connection: IO,
    version: Version,
    wanted: Wanted,
    silence: Duration,
    serve: impl FnOnce(Streams) -> F,
) -> Result<(), ProcessError>
where
    IO: AsyncRead + AsyncWrite,
    F: Future<Output = ()>,
{
    let activity = Activity::now();
    let (session, mut accepted, driving) = Session::start(connection, Role::Server);
    let mut driving = std::pin::pin!(driving);
    let serving = async {
        let gathering = gather(&mut accepted, version, wanted, &activity);
        let streams = tokio::time::timeout(PATIENCE, gathering).await.map_err(|_| ProcessError::Slow)??;
        serve(streams).await;
        Ok(())
    };
    let served = tokio::select! {
        served = serving => served,
        _ = &mut driving => return Err(ProcessError::Gone),
        () = activity.silent_for(silence) => return Err(ProcessError::Gone),
    };
    served?;
    // What was said last is on its way; the client closes when it has all.
    let _ = tokio::time::timeout(GOODBYE, driving).await;
    drop(session);
    Ok(())
}

async fn gather(
    accepted: &mut mpsc::Receiver<Accepted>,
    version: Version,
    wanted: Wanted,
    activity: &Activity,
) -> Result<Streams, ProcessError> {
    let (mut stdin, mut stdout, mut stderr, mut resize, mut error) = (None, None, None, None, None);
    let resizes = wanted.tty && version >= Version::V3;
    let outputs = [wanted.stdin, wanted.stdout, wanted.stderr, resizes, true];
    for _ in outputs.into_iter().filter(|one| *one) {
        let Accepted { headers, reader, writer } = accepted.recv().await.ok_or(ProcessError::Gone)?;
        let kind = value(&headers, "streamtype").unwrap_or_default();
        let input = |reader| Some(Input::spdy(reader, activity));
        let output = |writer| Some(Output::spdy(writer, activity));
        match kind {
            "stdin" if wanted.stdin && stdin.is_none() => stdin = input(reader),
            "stdout" if wanted.stdout && stdout.is_none() => stdout = output(writer),
            "stderr" if wanted.stderr && stderr.is_none() => stderr = output(writer),
            "resize" if resizes && resize.is_none() => resize = input(reader),
            "error" if error.is_none() => error = output(writer),
            other => return Err(ProcessError::Unwanted(other.to_owned())),
        }
    }
    let output = error.ok_or(ProcessError::Gone)?;
    let sizes = resize.map(|input| Sizes { input, begun: Vec::new() });
    Ok(Streams { stdin, stdout, stderr, sizes, end: End { output, version } })
}

/// Serves a client that speaks channels over a WebSocket, as [`spdy`] does.
///
/// # Errors
/// When `serve` did not come to its end.
pub async fn channels<IO, F>(
    client: WebSocketStream<IO>,
    protocol: Protocol,
    wanted: Wanted,
    silence: Duration,
    serve: impl FnOnce(Streams) -> F,
) -> Result<(), ProcessError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = ()>,
{
    let activity = Activity::now();
    let (mut to_client, mut from_client) = client.split();
    let (messages, mut queue) = mpsc::channel(QUEUE);
    let (stdin, of_stdin) = mpsc::channel(QUEUE);
    let (resize, of_resize) = mpsc::channel(QUEUE);
    let output = |channel: Channel| Output::channel(protocol, channel.number(), messages.clone(), &activity);
    let sizes = Sizes { input: Input::channel(of_resize, &activity), begun: Vec::new() };
    let streams = Streams {
        stdin: wanted.stdin.then(|| Input::channel(of_stdin, &activity)),
        stdout: wanted.stdout.then(|| output(Channel::Stdout)),
        stderr: wanted.stderr.then(|| output(Channel::Stderr)),
        sizes: wanted.tty.then_some(sizes),
        end: End { output: output(Channel::Error), version: Version::V4 },
    };
    // An empty message on the lowest channel tells the client that everything is connected.
    let first = match (wanted.stdout, wanted.stderr) {
        (true, _) => Channel::Stdout,
        (false, true) => Channel::Stderr,
        (false, false) => Channel::Error,
    };
    let _ = messages.send(websocket::message(protocol, first, b"")).await;
    // From here on only what serves the streams sends, and its end is the end of the queue.
    drop(messages);
    let sending = async {
        while let Some(message) = queue.recv().await {
            if to_client.send(message).await.is_err() {
                return Err(ProcessError::Gone);
            }
        }
        Ok(())
    };
    let served = {
        let receiving = receive(protocol, &mut from_client, stdin, resize);
        // Once it has ended, what waits for the client is sent.
        let all = async { tokio::join!(serve(streams), sending).1 };
        tokio::select! {
            served = all => served,
            () = receiving => Err(ProcessError::Gone),
            () = activity.silent_for(silence) => Err(ProcessError::Gone),
        }
    };
    goodbye(to_client, from_client).await;
    served
}

/// Takes what the client says to where it belongs, until it is gone.
async fn receive<IO: AsyncRead + AsyncWrite + Unpin>(
    protocol: Protocol,
    client: &mut SplitStream<WebSocketStream<IO>>,
    stdin: mpsc::Sender<Bytes>,
    resize: mpsc::Sender<Bytes>,
) {
    let mut stdin = Some(stdin);
    while let Some(Ok(message)) = client.next().await {
        if message.is_close() {
            return;
        }
        match websocket::read(protocol, message) {
            Some((Channel::Stdin, bytes)) => {
                if let Some(stdin) = &stdin {
                    // A process may read less than it is given, or nothing.
                    let _ = stdin.send(bytes).await;
                }
            }
            Some((Channel::Resize, bytes)) => {
                let _ = resize.send(bytes).await;
            }
            Some((Channel::Close, bytes)) if protocol == Protocol::V5 && *bytes == [0] => stdin = None,
            _ => {}
        }
    }
}
