//! Holds what a connection writes until its task has written all it has, so that it goes out with few system calls.
//!
//! h2 writes and flushes each DATA frame of more than some hundred bytes by itself, so that each answer would be a
//! system call, which costs more than making it. What is held is bounded, and sent before the task waits.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// When so much is held it is sent before more is taken.
const MOST_HELD_BYTES: usize = 256 << 10;
/// Writes of this size are not copied but sent at once, with what is held before them.
const PASSED_BYTES: usize = 8 << 10;
/// Pieces of one system call; h2 writes two.
const MOST_PARTS: usize = 8;
/// A buffer that grew beyond this is given back when it is empty: most connections are idle.
const MOST_KEPT_BYTES: usize = 16 << 10;

/// The connection as its protocol sees it: writes are held, flushing does nothing.
#[derive(Debug)]
pub(super) struct Corked<T>(Arc<Mutex<Line<T>>>);

/// The connection as its task sees it.
#[derive(Debug)]
pub(super) struct Cork<T>(Arc<Mutex<Line<T>>>);

#[derive(Debug)]
struct Line<T> {
    io: T,
    held: Vec<u8>,
}

/// Both ends of `io`. They belong to one task, so the lock between them is never waited for.
pub(super) fn cork<T>(io: T) -> (Corked<T>, Cork<T>) {
    let line = Arc::new(Mutex::new(Line { io, held: Vec::new() }));
    (Corked(Arc::clone(&line)), Cork(line))
}

fn lock<T>(line: &Mutex<Line<T>>) -> MutexGuard<'_, Line<T>> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: AsyncWrite + Unpin> Line<T> {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, &self.held))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.took(sent),
            }
        }
        // TLS may still hold some of what it took.
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Sends what is held and then `bufs`, which are not copied.
    fn poll_pass(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            let mut parts = [IoSlice::new(&[]); MOST_PARTS];
            let held = usize::from(!self.held.is_empty());
            parts[0] = IoSlice::new(&self.held);
            let count = bufs.len().min(MOST_PARTS - 1);
            parts[1..=count].copy_from_slice(&bufs[..count]);
            let sent = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, &parts[1 - held..=count]))?;
            let of_held = sent.min(self.held.len());
            self.took(of_held);
            if sent > of_held || of_held == 0 {
                return Poll::Ready(Ok(sent - of_held));
            }
        }
    }

    fn took(&mut self, bytes: usize) {
        self.held.drain(..bytes);
        if self.held.is_empty() && self.held.capacity() > MOST_KEPT_BYTES {
            self.held = Vec::new();
        }
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.held.len() < MOST_HELD_BYTES { Poll::Ready(Ok(())) } else { self.poll_send(cx) }
    }
}

impl<T: AsyncWrite + Unpin> Cork<T> {
    /// Sends what is held. When pending, the task is woken to call again.
    fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.0).poll_send(cx)
    }
}

/// A protocol that writes to a [`Corked`]; what it wrote is sent each time it has nothing more to do.
pub(super) struct Sending<C, T> {
    pub(super) connection: C,
    pub(super) cork: Cork<T>,
}

impl<C, T, E> Future for Sending<C, T>
where
    C: Future<Output = Result<(), E>> + Unpin,
    T: AsyncWrite + Unpin,
    E: From<io::Error>,
{
    type Output = Result<(), E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let ended = Pin::new(&mut self.connection).poll(cx);
        if ended.is_pending()
            && let Poll::Ready(Err(error)) = self.cork.poll_send(cx)
        {
            return Poll::Ready(Err(error.into()));
        }
        ended
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Corked<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut lock(&self.0).io).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Corked<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut line = lock(&self.0);
        let bytes: usize = bufs.iter().map(|buf| buf.len()).sum();
        if bytes >= PASSED_BYTES {
            return line.poll_pass(cx, bufs);
        }
        ready!(line.poll_room(cx))?;
        for buf in bufs {
            line.held.extend_from_slice(buf);
        }
        Poll::Ready(Ok(bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut line = lock(&self.0);
        ready!(line.poll_send(cx))?;
        Pin::new(&mut line.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn what_is_written_waits_until_it_is_sent() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let (mut corked, cork) = cork(near);
        corked.write_all(b"one ").await.unwrap();
        corked.flush().await.unwrap();
        let parts = [IoSlice::new(b"two "), IoSlice::new(b"three")];
        assert_eq!(corked.write_vectored(&parts).await.unwrap(), 9);
        assert!(futures::FutureExt::now_or_never(far.read_u8()).is_none());
        poll_fn(|cx| cork.poll_send(cx)).await.unwrap();
        let mut got = [0; 13];
        far.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"one two three");
        assert!(lock(&cork.0).held.is_empty());
        far.write_all(b"back").await.unwrap();
        corked.read_exact(&mut got[..4]).await.unwrap();
        assert_eq!(&got[..4], b"back");
    }

    #[tokio::test]
    async fn a_reader_that_is_slow_bounds_what_is_held_and_loses_nothing() {
        let (near, mut far) = tokio::io::duplex(1000);
        let (mut corked, cork) = cork(near);
        let all: Vec<u8> = (0..2 * MOST_HELD_BYTES).map(|n| (n % 251) as u8).collect();
        let writer = async {
            for part in all.chunks(777) {
                corked.write_all(part).await.unwrap();
                assert!(lock(&cork.0).held.len() < MOST_HELD_BYTES + 777);
            }
            corked.shutdown().await.unwrap();
        };
        let mut got = Vec::new();
        let (_, read) = tokio::join!(writer, far.read_to_end(&mut got));
        assert_eq!(read.unwrap(), all.len());
        assert!(got == all);
        assert_eq!(lock(&cork.0).held.capacity(), 0);
    }
}
