//! A connection whose client may say a URL as `:authority`: see [`Authorities`], through which the start of what
//! it sends goes. All else passes at the cost of one check. Never changes what is sent to the client.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::authority::Authorities;

/// Read at once while the bytes are looked at. Preface, settings, and first request are some hundred bytes.
const CHUNK_BYTES: usize = 4 << 10;

/// A connection, from the server's side.
#[derive(Debug)]
pub(super) struct Lenient<T> {
    io: T,
    /// `None` once everything passes.
    start: Option<Box<Start>>,
}

#[derive(Debug)]
struct Start {
    authorities: Authorities,
    /// Ready to be read, from `taken` on. At most a chunk and what was held back before it.
    ready: Vec<u8>,
    taken: usize,
}

impl<T> Lenient<T> {
    /// `io` is at its start.
    pub(super) fn new(io: T) -> Self {
        let start = Start { authorities: Authorities::new(), ready: Vec::new(), taken: 0 };
        Self { io, start: Some(Box::new(start)) }
    }
}

impl Start {
    fn poll_read<T>(
        &mut self,
        mut io: Pin<&mut T>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>>
    where
        T: AsyncRead,
    {
        while self.ready.is_empty() {
            let mut chunk = [0; CHUNK_BYTES];
            let mut chunk = ReadBuf::new(&mut chunk);
            ready!(io.as_mut().poll_read(cx, &mut chunk))?;
            if chunk.filled().is_empty() {
                self.authorities.end(&mut self.ready);
                break;
            }
            self.authorities.pass(chunk.filled(), &mut self.ready);
        }
        let rest = &self.ready[self.taken..];
        let count = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..count]);
        self.taken += count;
        if self.taken == self.ready.len() {
            self.ready.clear();
            self.taken = 0;
        }
        Poll::Ready(Ok(()))
    }

    fn is_over(&self) -> bool {
        self.ready.is_empty() && self.authorities.is_done()
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Lenient<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Some(start) = &mut this.start else { return Pin::new(&mut this.io).poll_read(cx, buf) };
        let read = start.poll_read(Pin::new(&mut this.io), cx, buf);
        if start.is_over() {
            this.start = None;
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Lenient<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
