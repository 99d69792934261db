//! What a container says: read as it comes, written to the log, and passed to those who are attached. The container waits
//! for a client for some seconds at most, then the client is dropped; it never waits for the log.

use std::cell::RefCell;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::Interest;

use super::container::Container;
use super::cri_log::{Lines, Source};
use super::now_ns;
use crate::handle::Handle;

/// How long a container waits for a client that does not read.
const PATIENCE: Duration = Duration::from_secs(10);

/// One buffer serves all streams: it is used between two points of waiting.
const BUFFER: usize = 32 * 1024;

/// Where all streams read into.
#[derive(Debug)]
pub(super) struct Scratch(RefCell<Box<[u8]>>);

impl Default for Scratch {
    fn default() -> Self {
        Self(RefCell::new(vec![0; BUFFER].into_boxed_slice()))
    }
}

impl Scratch {
    /// Waits for something to read; 0 at the end, and a terminal that nobody has open any more has ended.
    async fn fill(&self, from: &Handle) -> usize {
        let read = from
            .async_io(Interest::READABLE, |descriptor| {
                Ok(rustix::io::read(descriptor.as_fd(), &mut self.0.borrow_mut()[..])?)
            })
            .await;
        // A terminal gives EIO; whatever else goes wrong, nothing more can be read.
        read.unwrap_or(0)
    }
}

/// Somebody who is attached.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) number: u64,
    pub(super) stdout: Option<Rc<Handle>>,
    pub(super) stderr: Option<Rc<Handle>>,
}

impl Client {
    fn of(&self, source: Source) -> Option<Rc<Handle>> {
        match source {
            Source::Stdout => self.stdout.clone(),
            Source::Stderr => self.stderr.clone(),
        }
    }
}

/// Passes one stream on until it ends.
pub(super) async fn pump(container: Rc<Container>, scratch: Rc<Scratch>, from: Rc<Handle>, source: Source) {
    let mut lines = Lines::new(source);
    let mut entries = Vec::new();
    loop {
        let length = scratch.fill(&from).await;
        if length == 0 {
            break;
        }
        let slow = {
            let buffer = scratch.0.borrow();
            let data = &buffer[..length];
            let now = now_ns();
            lines.push(now, data, &mut entries);
            container.log.borrow_mut().write(&entries, now);
            entries.clear();
            entries.shrink_to(BUFFER);
            offer(&container, source, data)
        };
        for (client, handle, rest) in slow {
            if !matches!(tokio::time::timeout(PATIENCE, write_all(&handle, &rest)).await, Ok(Ok(()))) {
                container.drop_client(client);
            }
        }
    }
    let now = now_ns();
    lines.finish(now, &mut entries);
    container.log.borrow_mut().write(&entries, now);
}

/// Gives every client what fits at once; returns what is left for whom. Clients that are gone are dropped.
fn offer(container: &Container, source: Source, data: &[u8]) -> Vec<(u64, Rc<Handle>, Vec<u8>)> {
    let mut slow = Vec::new();
    container.clients.borrow_mut().retain(|client| {
        let Some(handle) = client.of(source) else { return true };
        let mut written = 0;
        while written < data.len() {
            match rustix::io::write(handle.get_ref(), &data[written..]) {
                Ok(length) => written += length,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    slow.push((client.number, handle, data[written..].to_vec()));
                    return true;
                }
                Err(_) => return false,
            }
        }
        true
    });
    slow
}

/// Writes all, waiting as long as it takes.
async fn write_all(to: &Handle, mut data: &[u8]) -> std::io::Result<()> {
    while !data.is_empty() {
        let written = to
            .async_io(Interest::WRITABLE, |descriptor| Ok(rustix::io::write(descriptor.as_fd(), data)?))
            .await?;
        data = &data[written..];
    }
    Ok(())
}

/// Passes a client's input to the container until the client ends it, or the container no longer takes any.
pub(super) async fn feed(from: Handle, to: Rc<Handle>) {
    // A person types; a buffer of its own, because it is kept while the container does not read.
    let mut buffer = vec![0; 4096];
    loop {
        let read = from
            .async_io(Interest::READABLE, |descriptor| {
                Ok(rustix::io::read(descriptor.as_fd(), &mut buffer[..])?)
            })
            .await;
        match read {
            Ok(0) | Err(_) => return,
            Ok(length) => {
                if write_all(&to, &buffer[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}
