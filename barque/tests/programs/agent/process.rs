//! Processes and the streams of whoever runs them. Must never outlive the client: what is dropped is killed.

use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use barque_streams::spdy::session::{Reader, Writer};
use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

const BUFFER: usize = 32 << 10;

/// What comes from a client.
pub(super) enum Source {
    /// A stream of SPDY.
    Spdy(Reader),
    /// What was read from a WebSocket.
    Socket(mpsc::Receiver<Bytes>),
}

impl Source {
    async fn read(&mut self) -> Option<Bytes> {
        match self {
            Self::Spdy(reader) => reader.read().await,
            Self::Socket(messages) => messages.recv().await,
        }
    }
}

/// What goes to a client.
pub(super) enum Sink {
    /// A stream of SPDY.
    Spdy(Writer),
    /// A channel of a WebSocket.
    Socket(u8, mpsc::Sender<Message>),
}

impl Sink {
    /// Whether the client is still there.
    async fn write(&self, bytes: Bytes) -> bool {
        match self {
            Self::Spdy(writer) => writer.write(bytes).await.is_ok(),
            Self::Socket(channel, messages) => {
                let message = [&[*channel], &bytes[..]].concat();
                messages.send(Message::binary(message)).await.is_ok()
            }
        }
    }

    async fn finish(&self) {
        if let Self::Spdy(writer) = self {
            // A client that is gone knows.
            let _ = writer.finish().await;
        }
    }
}

/// The streams that a client wants.
pub(super) struct Streams {
    pub(super) stdin: Option<Source>,
    pub(super) stdout: Option<Sink>,
    pub(super) stderr: Option<Sink>,
    /// How it ended.
    pub(super) error: Sink,
}

/// A command in a container.
pub(super) fn exec(directory: &Path, words: Vec<String>) -> Command {
    let (program, rest) = words.split_first().expect("API servers pass a command on");
    let mut command = Command::new(program);
    command.args(rest).current_dir(directory);
    command
}

/// What a container runs, for those who attach.
pub(super) fn main(directory: &Path) -> Command {
    let mut command = Command::new("sh");
    command.arg("main").current_dir(directory);
    command
}

/// Runs a command and tells how it ended. What is dropped before is killed.
pub(super) async fn run(mut command: Command, streams: Streams) {
    let Streams { stdin, stdout, stderr, error } = streams;
    let piped = |wanted: bool| if wanted { Stdio::piped() } else { Stdio::null() };
    command
        .stdin(piped(stdin.is_some()))
        .stdout(piped(stdout.is_some()))
        .stderr(piped(stderr.is_some()))
        .kill_on_drop(true);
    let ended = match command.spawn() {
        Ok(mut child) => {
            let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
            let fed = feed(stdin, input);
            let said = async {
                tokio::join!(relay(output, stdout), relay(errors, stderr));
                child.wait().await
            };
            let (mut fed, mut said) = (std::pin::pin!(fed), std::pin::pin!(said));
            tokio::select! {
                ended = &mut said => ended,
                () = &mut fed => said.await,
            }
        }
        Err(error) => {
            for sink in [stdout, stderr].into_iter().flatten() {
                sink.finish().await;
            }
            Err(error)
        }
    };
    error.write(status(ended).to_string().into()).await;
    error.finish().await;
}

/// As kubelet tells it.
fn status(ended: io::Result<ExitStatus>) -> Value {
    match ended {
        Ok(status) if status.success() => json!({"metadata": {}, "status": "Success"}),
        Ok(status) => {
            let code = status.code().map_or_else(|| "137".to_owned(), |code| code.to_string());
            json!({
                "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
                "message": format!("command terminated with non-zero exit code: exit status {code}"),
                "details": {"causes": [{"reason": "ExitCode", "message": code}]},
            })
        }
        Err(error) => json!({
            "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
            "message": format!("Internal error occurred: error executing command in container: {error}"),
        }),
    }
}

/// Gives a process what a client sends, then an end.
pub(super) async fn feed(from: Option<Source>, to: Option<impl AsyncWrite + Unpin>) {
    let (Some(mut from), Some(mut to)) = (from, to) else { return };
    while let Some(bytes) = from.read().await {
        // A process may read less than it is given.
        if to.write_all(&bytes).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
}

/// Gives a client what a process says, then an end.
pub(super) async fn relay(from: Option<impl AsyncRead + Unpin>, to: Option<Sink>) {
    let (Some(mut from), Some(to)) = (from, to) else { return };
    let mut buffer = vec![0; BUFFER];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if !to.write(Bytes::copy_from_slice(&buffer[..read])).await {
            return;
        }
    }
    to.finish().await;
}
