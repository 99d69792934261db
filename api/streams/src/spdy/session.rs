//! Streams over one connection: opened, accepted, read and written, until the connection ends. Must never know what goes
//! through them, nor keep more of it than a few frames for each.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::frame::{CANCEL, Decoder, Encoder, Frame, REFUSED};
use super::headers::Headers;

/// Frames that wait for a stream's reader, and for the connection.
const QUEUE: usize = 16;
/// The most bytes of one data frame that is written.
const PIECE: usize = 32 << 10;
const BUFFER: usize = 32 << 10;
/// Streams at once; a client that opens more is refused.
const STREAMS: usize = 1000;

/// Which end of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Its streams have odd numbers.
    Client,
    /// Its streams have even numbers.
    Server,
}

/// The connection is gone, or the other side took no stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// It ended.
    #[error("the connection is closed")]
    Closed,
    /// With this code.
    #[error("the stream was refused with code {0}")]
    Refused(u32),
}

/// One that the other side opened.
#[derive(Debug)]
pub struct Accepted {
    /// What it is.
    pub headers: Headers,
    /// What comes.
    pub reader: Reader,
    /// What goes.
    pub writer: Writer,
}

/// What comes on a stream.
#[derive(Debug)]
pub struct Reader {
    data: mpsc::Receiver<Bytes>,
    reset: CancellationToken,
}

impl Reader {
    /// The next bytes; nothing when the other side sends no more, or is gone.
    pub async fn read(&mut self) -> Option<Bytes> {
        self.data.recv().await
    }

    /// Cancelled when the other side ends the stream both ways at once.
    #[must_use]
    pub fn reset(&self) -> CancellationToken {
        self.reset.clone()
    }
}

/// What goes on a stream.
#[derive(Clone, Debug)]
pub struct Writer {
    stream: u32,
    frames: mpsc::Sender<Frame>,
}

impl Writer {
    /// Sends bytes; waits while the connection is full.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn write(&self, mut bytes: Bytes) -> Result<(), SessionError> {
        while !bytes.is_empty() {
            let data = bytes.split_to(bytes.len().min(PIECE));
            self.send(Frame::Data { stream: self.stream, fin: false, data }).await?;
        }
        Ok(())
    }

    /// Says that no more comes.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn finish(&self) -> Result<(), SessionError> {
        self.send(Frame::Data { stream: self.stream, fin: true, data: Bytes::new() }).await
    }

    /// Ends the stream both ways at once.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn cancel(&self) -> Result<(), SessionError> {
        self.send(Frame::Reset { stream: self.stream, status: CANCEL }).await
    }

    async fn send(&self, frame: Frame) -> Result<(), SessionError> {
        self.frames.send(frame).await.map_err(|_| SessionError::Closed)
    }
}

struct Entry {
    data: Option<mpsc::Sender<Bytes>>,
    reply: Option<oneshot::Sender<Result<(), SessionError>>>,
    /// This side sends no more.
    finished: bool,
    reset: CancellationToken,
}

type Entries = Arc<Mutex<HashMap<u32, Entry>>>;

/// Opens streams. Cloning copies pointers.
#[derive(Clone)]
pub struct Session {
    entries: Entries,
    frames: mpsc::Sender<Frame>,
    next: Arc<tokio::sync::Mutex<u32>>,
}

impl Session {
    /// Begins on a connection that speaks SPDY from now on. Whoever calls runs the future that is returned, which ends with
    /// the connection; streams of the other side come from the receiver.
    pub fn start<IO>(
        connection: IO,
        role: Role,
    ) -> (Self, mpsc::Receiver<Accepted>, impl Future<Output = io::Result<()>>)
    where
        IO: AsyncRead + AsyncWrite,
    {
        let (frames, outgoing) = mpsc::channel(QUEUE);
        let (accepted, streams) = mpsc::channel(QUEUE);
        let entries = Entries::default();
        let first = if role == Role::Client { 1 } else { 2 };
        let next = Arc::new(tokio::sync::Mutex::new(first));
        let incoming =
            Incoming { entries: Arc::clone(&entries), frames: frames.clone(), accepted, role, last: 0 };
        let session = Self { entries: Arc::clone(&entries), frames, next };
        let driver = async move {
            let (from, to) = tokio::io::split(connection);
            let ended = tokio::select! {
                ended = incoming.run(from) => ended,
                ended = write_all(to, outgoing, &entries) => ended,
            };
            // Readers and whoever waits for a reply see the end.
            entries.lock().clear();
            ended
        };
        (session, streams, driver)
    }

    /// Opens a stream and waits until the other side has accepted it.
    ///
    /// # Errors
    /// When it does not, or the connection is gone.
    pub async fn open(&self, headers: Headers) -> Result<(Reader, Writer), SessionError> {
        let (data, reader) = mpsc::channel(QUEUE);
        let (reply, replied) = oneshot::channel();
        let reset = CancellationToken::new();
        let stream = {
            // Numbers must go out in their order.
            let mut next = self.next.lock().await;
            let stream = *next;
            *next += 2;
            let reset = reset.clone();
            let entry = Entry { data: Some(data), reply: Some(reply), finished: false, reset };
            self.entries.lock().insert(stream, entry);
            let frame = Frame::SynStream { stream, fin: false, unidirectional: false, headers };
            self.frames.send(frame).await.map_err(|_| SessionError::Closed)?;
            stream
        };
        replied.await.map_err(|_| SessionError::Closed)??;
        Ok((Reader { data: reader, reset }, Writer { stream, frames: self.frames.clone() }))
    }

    /// Tells the other side that no more streams come.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn go_away(&self) -> Result<(), SessionError> {
        self.frames.send(Frame::GoAway { last: 0, status: 0 }).await.map_err(|_| SessionError::Closed)
    }
}

/// Writes frames as they come.
async fn write_all(
    mut to: impl AsyncWrite + Unpin,
    mut frames: mpsc::Receiver<Frame>,
    entries: &Entries,
) -> io::Result<()> {
    let (mut encoder, mut bytes) = (Encoder::default(), BytesMut::new());
    while let Some(frame) = frames.recv().await {
        encoder.encode(&frame, &mut bytes);
        to.write_all(&bytes).await?;
        bytes.clear();
        if frames.is_empty() {
            to.flush().await?;
        }
        match frame {
            Frame::Data { stream, fin: true, .. } => finished(entries, stream),
            Frame::Reset { stream, .. } => {
                entries.lock().remove(&stream);
            }
            _ => {}
        }
    }
    to.shutdown().await
}

/// This side sends no more on a stream; forgets it if the other side does not either.
fn finished(entries: &Entries, stream: u32) {
    let mut entries = entries.lock();
    if let Some(entry) = entries.get_mut(&stream) {
        entry.finished = true;
        if entry.data.is_none() {
            entries.remove(&stream);
        }
    }
}

/// What comes from the other side.
struct Incoming {
    entries: Entries,
    frames: mpsc::Sender<Frame>,
    accepted: mpsc::Sender<Accepted>,
    role: Role,
    last: u32,
}

impl Incoming {
    async fn run(mut self, mut from: impl AsyncRead + Unpin) -> io::Result<()> {
        let (mut decoder, mut buffer) = (Decoder::default(), vec![0; BUFFER]);
        loop {
            let read = from.read(&mut buffer).await?;
            if read == 0 {
                return Ok(());
            }
            decoder.feed(&buffer[..read]);
            while let Some(frame) = decoder.next_frame().map_err(io::Error::other)? {
                self.take(frame).await;
            }
        }
    }

    async fn take(&mut self, frame: Frame) {
        match frame {
            Frame::SynStream { stream, fin, unidirectional, headers } => {
                self.begin(stream, fin, unidirectional, headers).await;
            }
            Frame::SynReply { stream, fin, .. } => {
                let reply = self.entries.lock().get_mut(&stream).and_then(|entry| entry.reply.take());
                if let Some(reply) = reply {
                    // Whoever opened it may have lost interest.
                    let _ = reply.send(Ok(()));
                }
                if fin {
                    self.no_more(stream);
                }
            }
            Frame::Reset { stream, status } => {
                let gone = self.entries.lock().remove(&stream);
                if let Some(entry) = gone {
                    entry.reset.cancel();
                    if let Some(reply) = entry.reply {
                        let _ = reply.send(Err(SessionError::Refused(status)));
                    }
                }
            }
            Frame::Ping(id) => {
                let is_own = (id % 2 == 1) == (self.role == Role::Client);
                if !is_own {
                    self.answer(Frame::Ping(id)).await;
                }
            }
            Frame::Headers { stream, fin, .. } => {
                if fin {
                    self.no_more(stream);
                }
            }
            Frame::Data { stream, fin, data } => {
                let to = self.entries.lock().get(&stream).and_then(|entry| entry.data.clone());
                if let Some(to) = to
                    && !data.is_empty()
                {
                    // Whoever reads no more misses nothing.
                    let _ = to.send(data).await;
                }
                if fin {
                    self.no_more(stream);
                }
            }
            Frame::GoAway { .. } | Frame::WindowUpdate { .. } | Frame::Settings(_) => {}
        }
    }

    async fn begin(&mut self, stream: u32, fin: bool, unidirectional: bool, headers: Headers) {
        let is_theirs = (stream % 2 == 1) == (self.role == Role::Server);
        if !is_theirs || stream <= self.last || self.entries.lock().len() >= STREAMS {
            self.answer(Frame::Reset { stream, status: REFUSED }).await;
            return;
        }
        self.last = stream;
        let (data, reader) = mpsc::channel(QUEUE);
        let reset = CancellationToken::new();
        let entry = Entry { data: Some(data), reply: None, finished: unidirectional, reset: reset.clone() };
        self.entries.lock().insert(stream, entry);
        let writer = Writer { stream, frames: self.frames.clone() };
        self.answer(Frame::SynReply { stream, fin: false, headers: Headers::new() }).await;
        if fin {
            self.no_more(stream);
        }
        let reader = Reader { data: reader, reset };
        if self.accepted.send(Accepted { headers, reader, writer }).await.is_err() {
            self.answer(Frame::Reset { stream, status: REFUSED }).await;
        }
    }

    /// The other side sends no more on a stream; forgets it if this side does not either.
    fn no_more(&self, stream: u32) {
        let mut entries = self.entries.lock();
        if let Some(entry) = entries.get_mut(&stream) {
            entry.data = None;
            if entry.finished {
                entries.remove(&stream);
            }
        }
    }

    async fn answer(&self, frame: Frame) {
        // Fails only when the connection ends, which the reader sees too.
        let _ = self.frames.send(frame).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Headers {
        vec![("streamtype".to_owned(), name.to_owned())]
    }

    #[tokio::test]
    async fn streams_go_both_ways_until_each_side_has_finished() {
        let (a, b) = tokio::io::duplex(1 << 10);
        let (client, _none, driving) = Session::start(a, Role::Client);
        let (server, mut accepted, serving) = Session::start(b, Role::Server);
        let test = async {
            let opened = tokio::join!(client.open(named("one")), client.open(named("two")));
            let (mut one, two) = (opened.0.unwrap(), opened.1.unwrap());
            let mut first = accepted.recv().await.unwrap();
            let second = accepted.recv().await.unwrap();
            assert_eq!((first.headers, second.headers), (named("one"), named("two")));
            // More than what any queue takes, so that it must move.
            let sent = Bytes::from(vec![7; 1 << 20]);
            let writing = async {
                one.1.write(sent.clone()).await.unwrap();
                one.1.finish().await.unwrap();
            };
            let reading = async {
                let mut all = Vec::new();
                while let Some(bytes) = first.reader.read().await {
                    all.extend_from_slice(&bytes);
                }
                all
            };
            let ((), all) = tokio::join!(writing, reading);
            assert_eq!(all, sent);
            first.writer.write(Bytes::from_static(b"back")).await.unwrap();
            first.writer.finish().await.unwrap();
            assert_eq!(one.0.read().await.as_deref(), Some(b"back".as_slice()));
            assert_eq!(one.0.read().await, None);
            assert!(!client.entries.lock().contains_key(&1));
            second.writer.cancel().await.unwrap();
            let (mut reader, _writer) = two;
            reader.reset().cancelled().await;
            assert_eq!(reader.read().await, None);
            assert!(!one.0.reset().is_cancelled());
            server.go_away().await.unwrap();
        };
        tokio::select! {
            () = test => {}
            ended = driving => panic!("{ended:?}"),
            ended = serving => panic!("{ended:?}"),
        }
    }

    #[tokio::test]
    async fn the_end_of_a_connection_is_the_end_of_its_streams() {
        let (a, b) = tokio::io::duplex(1 << 10);
        let (client, _none, driving) = Session::start(a, Role::Client);
        let opening = async {
            let (opened, ()) = tokio::join!(client.open(named("one")), async { drop(b) });
            opened.err()
        };
        let (opened, _) = tokio::join!(opening, driving);
        assert_eq!(opened, Some(SessionError::Closed));
    }

    #[tokio::test]
    async fn a_stream_that_nobody_accepts_is_refused() {
        let (a, b) = tokio::io::duplex(1 << 10);
        let (client, _none, driving) = Session::start(a, Role::Client);
        let (_server, accepted, serving) = Session::start(b, Role::Server);
        drop(accepted);
        let test = async {
            // Taken first, as the reply goes out first; then the refusal ends it.
            if let Ok((mut reader, _writer)) = client.open(named("one")).await {
                assert_eq!(reader.read().await, None);
            }
        };
        tokio::select! {
            () = test => {}
            ended = driving => panic!("{ended:?}"),
            ended = serving => panic!("{ended:?}"),
        }
    }
}
