//! Somebody takes part in a container's streams: gets what it says from now on, and may be its input. What was said before
//! is in the log.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::termios::Winsize;
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::container::Container;
use super::output::{Client, feed};
use super::serve::Shim;
use crate::handle::handle;
use crate::spec::{ContainerState, Phase};
use crate::wire::{self, Failure, Reply, Request, Stream};

/// Which streams somebody wants.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
}

/// Attaches the other side of a connection until it leaves or the container ends.
pub(super) async fn attach(
    shim: &Rc<Shim>,
    container: &Rc<Container>,
    wanted: Wanted,
    connection: &UnixStream,
) -> std::io::Result<()> {
    if !matches!(container.phase(), Phase::Running { .. }) {
        let story = format!("the container {} does not run", container.state.borrow().spec.name);
        return wire::send(connection, &Reply::Failed(Failure::State(story)), &[]).await;
    }
    let mut ended = container.ended.subscribe();
    let number = container.next_client.get();
    container.next_client.set(number + 1);
    let mut client = Client { number, stdout: None, stderr: None };
    let mut streams: Vec<(Stream, OwnedFd)> = Vec::new();
    if wanted.stdin
        && let Some(to) = container.stdin.borrow().clone()
    {
        let (reader, writer) = std::io::pipe()?;
        streams.push((Stream::Stdin, writer.into()));
        let from = handle(reader.into(), Interest::READABLE)?;
        let (shim, container) = (Rc::clone(shim), Rc::clone(container));
        let tasks = shim.tasks.clone();
        tasks.spawn_local(async move {
            let mut over = container.ended.subscribe();
            tokio::select! {
                () = feed(from, to) => {}
                _ = over.wait_for(|ended| *ended) => {}
            }
            let spec_once = container.state.borrow().spec.stdin_once;
            // A terminal stays open: it is the output as well.
            if spec_once && container.terminal.is_none() {
                container.stdin.borrow_mut().take();
            }
        });
    }
    // A terminal has one output.
    let outputs =
        [(wanted.stdout, Stream::Stdout), (wanted.stderr && container.terminal.is_none(), Stream::Stderr)];
    for (wanted, stream) in outputs {
        if !wanted {
            continue;
        }
        let (reader, writer) = std::io::pipe()?;
        let to = Some(Rc::new(handle(writer.into(), Interest::WRITABLE)?));
        match stream {
            Stream::Stderr => client.stderr = to,
            _ => client.stdout = to,
        }
        streams.push((stream, reader.into()));
    }
    container.clients.borrow_mut().push(client);
    let result = serve(container, &mut ended, streams, connection).await;
    container.drop_client(number);
    result
}

async fn serve(
    container: &Rc<Container>,
    ended: &mut tokio::sync::watch::Receiver<bool>,
    streams: Vec<(Stream, OwnedFd)>,
    connection: &UnixStream,
) -> std::io::Result<()> {
    let kinds = streams.iter().map(|(kind, _)| *kind).collect();
    let descriptors: Vec<_> = streams.iter().map(|(_, descriptor)| descriptor.as_fd()).collect();
    wire::send(connection, &Reply::Streams(kinds), &descriptors).await?;
    drop(descriptors);
    drop(streams);
    let resizes = async {
        while let Ok(Some((request, _))) = wire::receive::<Request>(connection).await {
            if let Request::Resize { columns, rows } = request
                && let Some(terminal) = &container.terminal
            {
                let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
                // A terminal whose container has just ended has no size any more.
                let _ = rustix::termios::tcsetwinsize(terminal.get_ref(), size);
            }
        }
    };
    tokio::select! {
        () = resizes => Ok(()),
        _ = ended.wait_for(|ended| *ended) => {
            let code = match &*container.state.borrow() {
                ContainerState { phase: Phase::Exited(exit), .. } => exit.code,
                _ => 0,
            };
            wire::send(connection, &Reply::Exited { code, timed_out: false }, &[]).await
        }
    }
}
