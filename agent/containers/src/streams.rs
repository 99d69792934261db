//! Streams of something that runs in a container, at the agent's side. They are the pipes and terminals themselves, not
//! copies: who reads slowly slows what it reads from, and nobody else.

use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::termios::Winsize;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;

use crate::error::Error;
use crate::handle::{Handle, handle};
use crate::wire::{self, Reply, Request};

/// A pipe or a terminal.
#[derive(Debug)]
pub struct Stream(Handle);

impl Stream {
    pub(crate) fn new(descriptor: OwnedFd) -> std::io::Result<Self> {
        handle(descriptor, Interest::READABLE | Interest::WRITABLE).map(Self)
    }

    /// What is there to read now, up to so many bytes more in the buffer; the rest of it is left.
    pub(crate) fn drain(&self, into: &mut Vec<u8>, limit: usize) {
        let mut buffer = [0; 8192];
        while into.len() < limit {
            match rustix::io::read(self.0.get_ref(), &mut buffer[..]) {
                Ok(0) => return,
                Ok(length) => into.extend_from_slice(&buffer[..length.min(limit - into.len())]),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(context))?;
            let space = buffer.initialize_unfilled();
            match guard.try_io(|inner| Ok(rustix::io::read(inner.get_ref(), space)?)) {
                Ok(Ok(length)) => {
                    buffer.advance(length);
                    return Poll::Ready(Ok(()));
                }
                // A terminal that nobody has open any more has ended.
                Ok(Err(error)) if error.raw_os_error() == Some(libc::EIO) => return Poll::Ready(Ok(())),
                Ok(Err(error)) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(context))?;
            match guard.try_io(|inner| Ok(rustix::io::write(inner.get_ref(), data)?)) {
                Ok(Err(error)) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Ok(result) => return Poll::Ready(result),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// A pipe is closed by dropping it.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// All that belongs to something that runs. A stream that was not asked for, or that it does not have, is missing.
#[derive(Debug)]
pub struct Streams {
    /// Its input: dropping it ends a pipe, not a terminal.
    pub stdin: Option<Stream>,
    /// Its output; all of it for a terminal.
    pub stdout: Option<Stream>,
    /// Its errors.
    pub stderr: Option<Stream>,
    /// Gives its terminal another size.
    pub resizer: Resizer,
    /// How it ends. Dropping it leaves an attachment; something executed goes on.
    pub end: End,
}

/// Gives a terminal another size.
#[derive(Debug)]
pub struct Resizer(Kind);

#[derive(Debug)]
enum Kind {
    /// The terminal is here.
    Here(OwnedFd),
    /// The shim has it.
    There(Arc<UnixStream>),
}

impl Resizer {
    /// Sets the size in characters. Without a terminal, nothing happens.
    pub async fn resize(&mut self, columns: u16, rows: u16) -> Result<(), Error> {
        let io = |source| Error::Io { action: "resize the terminal".to_owned(), source };
        match &self.0 {
            Kind::Here(terminal) => {
                let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
                rustix::termios::tcsetwinsize(terminal, size).map_err(|error| io(error.into()))
            }
            Kind::There(connection) => {
                wire::send(connection, &Request::Resize { columns, rows }, &[]).await.map_err(io)
            }
        }
    }
}

/// How something ends.
#[derive(Debug)]
pub struct End {
    connection: Arc<UnixStream>,
    sandbox: String,
}

impl End {
    /// Waits for its exit code: 128 and the signal for one that a signal ended.
    pub async fn wait(self) -> Result<i32, Error> {
        match wire::receive::<Reply>(&self.connection).await {
            Ok(Some((Reply::Exited { timed_out: true, .. }, _))) => {
                Err(Error::State("it was ended when its time was over".to_owned()))
            }
            Ok(Some((Reply::Exited { code, .. }, _))) => Ok(code),
            _ => Err(Error::ShimGone(self.sandbox)),
        }
    }
}

impl Streams {
    /// From what the shim sent.
    pub(crate) fn received(
        connection: UnixStream,
        sandbox: &str,
        kinds: &[wire::Stream],
        descriptors: Vec<OwnedFd>,
    ) -> std::io::Result<Self> {
        let connection = Arc::new(connection);
        let mut streams = Self {
            stdin: None,
            stdout: None,
            stderr: None,
            resizer: Resizer(Kind::There(Arc::clone(&connection))),
            end: End { connection, sandbox: sandbox.to_owned() },
        };
        for (kind, descriptor) in kinds.iter().zip(descriptors) {
            match kind {
                wire::Stream::Stdin => streams.stdin = Some(Stream::new(descriptor)?),
                wire::Stream::Stdout => streams.stdout = Some(Stream::new(descriptor)?),
                wire::Stream::Stderr => streams.stderr = Some(Stream::new(descriptor)?),
                wire::Stream::Terminal => {
                    let copy = || descriptor.as_fd().try_clone_to_owned();
                    streams.stdin = Some(Stream::new(copy()?)?);
                    streams.stdout = Some(Stream::new(copy()?)?);
                    streams.resizer = Resizer(Kind::Here(descriptor));
                }
            }
        }
        Ok(streams)
    }
}
