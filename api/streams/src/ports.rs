//! The server's end of port-forward: each connection of a client is a pair of streams, one for data and one for errors. Must
//! never connect to anything, nor let one pair end another.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_util::sync::CancellationToken;

use crate::activity::Activity;
use crate::spdy::headers::{Headers, value};
use crate::spdy::session::{Accepted, Role, Session};
use crate::stream::{Input, Output};
use crate::websocket::{Protocol, goodbye, numbered, read_numbered};

/// Both streams of a pair must have begun within this time.
const PATIENCE: Duration = Duration::from_secs(30);
/// Messages that wait for a client, and pieces that wait for a connection.
const QUEUE: usize = 16;
/// Ports that one WebSocket can name; their channels are numbered with a byte.
pub const MOST_PORTS: usize = 127;

/// A connection that a client wants to a port.
#[derive(Debug)]
pub struct Forward {
    /// The port, which is not 0.
    pub port: u16,
    /// What the client sends.
    pub input: Input,
    /// What the client gets.
    pub output: Output,
    /// Where a sentence says why it did not work.
    pub error: Output,
    /// Cancelled when the client wants neither any more.
    pub reset: CancellationToken,
}

/// Serves a client that speaks SPDY. Each pair is given to `serve`; all end with the connection, or when nothing has moved
/// on any for `silence`.
pub async fn spdy<IO, F>(connection: IO, silence: Duration, serve: impl Fn(Forward) -> F)
where
    IO: AsyncRead + AsyncWrite,
    F: Future<Output = ()>,
{
    let activity = Activity::now();
    let (_session, mut accepted, driving) = Session::start(connection, Role::Server);
    let pairing = async {
        let (mut halves, mut serving) = (Halves::default(), FuturesUnordered::new());
        loop {
            let late = halves.next_late();
            tokio::select! {
                stream = accepted.recv() => {
                    let Some(stream) = stream else { return };
                    if let Some(forward) = halves.take(stream, &activity).await {
                        serving.push(serve(forward));
                    }
                }
                Some(()) = serving.next() => {}
                () = tokio::time::sleep_until(late.unwrap_or_else(Instant::now)), if late.is_some() => {
                    halves.drop_late().await;
                }
            }
        }
    };
    tokio::select! {
        () = pairing => {}
        ended = driving => {
            if let Err(error) = ended {
                tracing::debug!("a connection of forwarded ports broke off: {error}");
            }
        }
        () = activity.silent_for(silence) => tracing::debug!("forwarded ports were silent for too long"),
    }
}

/// What a stream of forwarded ports is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Data,
    Error,
}

/// Reads what a stream is for: its kind, its port, and the number of its pair.
fn purpose(headers: &Headers) -> Option<(Kind, u16, &str)> {
    let kind = match value(headers, "streamtype")? {
        "data" => Kind::Data,
        "error" => Kind::Error,
        _ => return None,
    };
    let port = value(headers, "port")?.parse().ok().filter(|port| *port != 0)?;
    Some((kind, port, value(headers, "requestid")?))
}

/// Streams that wait for the other one of their pair, the oldest first.
#[derive(Default)]
struct Halves(VecDeque<Half>);

struct Half {
    kind: Kind,
    port: u16,
    id: String,
    until: Instant,
    stream: Accepted,
}

impl Halves {
    /// Takes a stream; gives the pair that it completes. What is no half of anything is refused.
    async fn take(&mut self, stream: Accepted, activity: &Activity) -> Option<Forward> {
        let Some((kind, port, id)) = purpose(&stream.headers) else {
            // A client that is gone needs no refusal.
            let _ = stream.writer.cancel().await;
            return None;
        };
        let other = self.0.iter().position(|half| half.id == id && half.port == port && half.kind != kind);
        let Some(other) = other.and_then(|at| self.0.remove(at)) else {
            let (id, until) = (id.to_owned(), Instant::now() + PATIENCE);
            self.0.push_back(Half { kind, port, id, until, stream });
            return None;
        };
        let (data, error) = if kind == Kind::Data { (stream, other.stream) } else { (other.stream, stream) };
        Some(Forward {
            port,
            reset: data.reader.reset(),
            input: Input::spdy(data.reader, activity),
            output: Output::spdy(data.writer, activity),
            error: Output::spdy(error.writer, activity),
        })
    }

    fn next_late(&self) -> Option<Instant> {
        self.0.front().map(|half| half.until)
    }

    async fn drop_late(&mut self) {
        let now = Instant::now();
        while self.0.front().is_some_and(|half| half.until <= now) {
            if let Some(half) = self.0.pop_front() {
                let _ = half.stream.writer.cancel().await;
            }
        }
    }
}

/// Serves a client that names its ports in the request and has two channels of a WebSocket for each: data, then errors. There
/// is one connection to each port. Ends when all have, when the client is gone, or when nothing has moved for `silence`.
pub async fn channels<IO, F>(
    client: WebSocketStream<IO>,
    protocol: Protocol,
    ports: &[u16],
    silence: Duration,
    serve: impl Fn(Forward) -> F,
) where
    IO: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = ()>,
{
    let activity = Activity::now();
    let (mut to_client, mut from_client) = client.split();
    let (messages, mut queue) = mpsc::channel(QUEUE);
    let serving = FuturesUnordered::new();
    let mut inputs = Vec::new();
    let mut firsts = Vec::new();
    for (port, number) in ports.iter().zip((0..=u8::MAX).step_by(2)) {
        let (input, of_client) = mpsc::channel::<Bytes>(QUEUE);
        inputs.push(input);
        let output = |number| Output::channel(protocol, number, messages.clone(), &activity);
        for number in [number, number + 1] {
            firsts.push(numbered(protocol, number, &port.to_le_bytes()));
        }
        serving.push(serve(Forward {
            port: *port,
            input: Input::channel(of_client, &activity),
            output: output(number),
            error: output(number + 1),
            reset: CancellationToken::new(),
        }));
    }
    drop(messages);
    let sending = async {
        for message in firsts {
            if to_client.send(message).await.is_err() {
                return;
            }
        }
        while let Some(message) = queue.recv().await {
            if to_client.send(message).await.is_err() {
                return;
            }
        }
    };
    let receiving = async {
        while let Some(Ok(message)) = from_client.next().await {
            if message.is_close() {
                return;
            }
            if let Some((number, bytes)) = read_numbered(protocol, message)
                && number % 2 == 0
                && let Some(input) = inputs.get(usize::from(number / 2))
            {
                // A connection that has ended misses nothing.
                let _ = input.send(bytes).await;
            }
        }
    };
    // Once all connections have ended, what waits for the client is sent.
    let all = async { tokio::join!(serving.collect::<Vec<()>>(), sending) };
    tokio::select! {
        _ = all => {}
        () = receiving => {}
        () = activity.silent_for(silence) => tracing::debug!("forwarded ports were silent for too long"),
    }
    goodbye(to_client, from_client).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_says_what_it_is_for() {
        let read = |pairs: &[(&str, &str)]| {
            let headers =
                pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            purpose(&headers).map(|(kind, port, id)| (kind, port, id.to_owned()))
        };
        let good = [("streamtype", "data"), ("port", "80"), ("requestid", "7")];
        assert_eq!(read(&good), Some((Kind::Data, 80, "7".to_owned())));
        for (at, bad) in [(0, "stdin"), (1, "0"), (1, "65536"), (1, "x")] {
            let mut pairs = good;
            pairs[at].1 = bad;
            assert_eq!(read(&pairs), None, "{bad}");
        }
        assert_eq!(read(&good[..2]), None);
    }
}
