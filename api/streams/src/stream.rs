//! One direction of one stream, whatever carries it. Must never keep more than a few pieces of what goes through.

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use crate::activity::Activity;
use crate::spdy::session::{Reader, Writer};
use crate::websocket::{Protocol, numbered};

/// The most bytes that are sent at once.
const PIECE: usize = 32 << 10;

/// The client is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client is gone")]
pub struct Gone;

/// What comes from a client.
#[derive(Debug)]
pub struct Input {
    source: Source,
    activity: Activity,
}

#[derive(Debug)]
enum Source {
    Spdy(Reader),
    Channel(mpsc::Receiver<Bytes>),
}

impl Input {
    pub(crate) fn spdy(reader: Reader, activity: &Activity) -> Self {
        Self { source: Source::Spdy(reader), activity: activity.clone() }
    }

    pub(crate) fn channel(bytes: mpsc::Receiver<Bytes>, activity: &Activity) -> Self {
        Self { source: Source::Channel(bytes), activity: activity.clone() }
    }

    /// The next bytes; nothing when the client sends no more.
    pub async fn read(&mut self) -> Option<Bytes> {
        let bytes = match &mut self.source {
            Source::Spdy(reader) => reader.read().await,
            Source::Channel(bytes) => bytes.recv().await,
        };
        self.activity.moves();
        bytes
    }

    /// Gives everything to a writer, which then is shut down. Ends early when the writer takes no more: a process may read
    /// less than it is given.
    pub async fn pour_into(mut self, mut to: impl AsyncWrite + Unpin) {
        while let Some(bytes) = self.read().await {
            if to.write_all(&bytes).await.is_err() || to.flush().await.is_err() {
                return;
            }
        }
        // Whoever is gone needs no end.
        let _ = to.shutdown().await;
    }
}

/// What goes to a client.
#[derive(Debug)]
pub struct Output {
    sink: Sink,
    activity: Activity,
}

#[derive(Debug)]
enum Sink {
    Spdy(Writer),
    Channel { protocol: Protocol, number: u8, messages: mpsc::Sender<Message> },
}

impl Output {
    pub(crate) fn spdy(writer: Writer, activity: &Activity) -> Self {
        Self { sink: Sink::Spdy(writer), activity: activity.clone() }
    }

    pub(crate) fn channel(
        protocol: Protocol,
        number: u8,
        messages: mpsc::Sender<Message>,
        activity: &Activity,
    ) -> Self {
        Self { sink: Sink::Channel { protocol, number, messages }, activity: activity.clone() }
    }

    /// Sends bytes; waits while the connection is full.
    ///
    /// # Errors
    /// When the client is gone.
    pub async fn write(&self, bytes: Bytes) -> Result<(), Gone> {
        self.activity.moves();
        match &self.sink {
            Sink::Spdy(writer) => writer.write(bytes).await.map_err(|_| Gone),
            Sink::Channel { protocol, number, messages } => {
                for piece in bytes.chunks(PIECE) {
                    messages.send(numbered(*protocol, *number, piece)).await.map_err(|_| Gone)?;
                }
                Ok(())
            }
        }
    }

    /// Says that no more comes, where the protocol can.
    pub async fn finish(self) {
        if let Sink::Spdy(writer) = self.sink {
            // A client that is gone knows.
            let _ = writer.finish().await;
        }
    }

    /// Sends everything that a reader gives, then the end.
    pub async fn fill_from(self, mut from: impl AsyncRead + Unpin) {
        let mut buffer = vec![0; PIECE];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            if self.write(Bytes::copy_from_slice(&buffer[..read])).await.is_err() {
                return;
            }
        }
        self.finish().await;
    }
}
