//! Something more runs in a container. Its streams go straight to who asked for it; the shim makes it and tells how it
//! ended.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::error::LibcontainerError;
use libcontainer::syscall::syscall::SyscallType;
use rustix::process::{Pid, Signal};
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use super::container::Container;
use super::executor::Run;
use super::reaper::Ended;
use super::serve::Shim;
use super::terminal::Console;
use crate::error;
use crate::oci::{self, Surroundings};
use crate::spec::{Phase, Process};
use crate::wire::{self, Failure, Reply, Stream};

/// Runs it and tells its end over the connection. Once it runs, it does not depend on who asked.
pub(super) async fn exec(
    shim: &Rc<Shim>,
    container: &Rc<Container>,
    process: &Process,
    stdin: bool,
    timeout: Option<Duration>,
    connection: &UnixStream,
) -> std::io::Result<()> {
    let begun = begin(shim, container, process, stdin);
    shim.restore_oom_score();
    let (pid, ended, streams) = match begun {
        Ok(begun) => begun,
        Err(failure) => {
            shim.reaper.reap();
            return wire::send(connection, &Reply::Failed(failure), &[]).await;
        }
    };
    let kinds = streams.iter().map(|(kind, _)| *kind).collect();
    let descriptors: Vec<_> = streams.iter().map(|(_, descriptor)| descriptor.as_fd()).collect();
    // Who is gone no longer wants to know; the end is waited for all the same, because of the time limit.
    let sent = wire::send(connection, &Reply::Streams(kinds), &descriptors).await;
    drop(descriptors);
    drop(streams);
    let mut ended = ended;
    let mut timed_out = false;
    let end = match timeout {
        Some(limit) => match tokio::time::timeout(limit, &mut ended).await {
            Ok(end) => end,
            Err(_) => {
                timed_out = true;
                if let Some(pid) = Pid::from_raw(pid) {
                    // It has not been reaped, or its end would be here.
                    let _ = rustix::process::kill_process(pid, Signal::KILL);
                }
                ended.await
            }
        },
        None => ended.await,
    };
    sent?;
    // The sender is dropped only with the shim.
    let Ok(Ended { code, .. }) = end else { return Ok(()) };
    wire::send(connection, &Reply::Exited { code, timed_out }, &[]).await
}

type Begun = (i32, oneshot::Receiver<Ended>, Vec<(Stream, OwnedFd)>);

/// Makes the process. The other ends of its streams are returned.
fn begin(
    shim: &Rc<Shim>,
    container: &Rc<Container>,
    process: &Process,
    stdin: bool,
) -> Result<Begun, Failure> {
    let (id, privileged) = {
        let state = container.state.borrow();
        if !matches!(state.phase, Phase::Running { .. }) {
            return Err(Failure::State(format!("the container {} does not run", state.spec.name)));
        }
        (state.spec.id.clone(), state.spec.privileged)
    };
    let refused =
        |what: &'static str| move |error: std::io::Error| Failure::Refused(format!("{what}: {error}"));
    let around = Surroundings {
        root: &container.directory.root(),
        joined: shim.joined(),
        shared_memory: None,
        cgroup: &container.group,
        cgroup_version: shim.hierarchies.version(),
        devices: &[],
        filtered: container.filter.is_some(),
        least_oom_score: shim.least_oom_score(),
    };
    let number = shim.next_number();
    let file = container.directory.0.join(format!("exec-{number}.json"));
    std::fs::write(&file, oci::process(process, privileged, &around).to_string())
        .map_err(refused("the document of the process cannot be written"))?;
    let run = Run { filter: container.filter.clone() };
    let mut builder = ContainerBuilder::new(id, SyscallType::default())
        .with_executor(run)
        .with_root_path(shim.directory.runtime())
        .map_err(|failure| Failure::Refused(error::chain(&failure)))?;
    let mut streams = Vec::new();
    let mut console = None;
    if process.terminal {
        let socket = Console::open(container.directory.0.join(format!("exec-{number}.sock")))
            .map_err(refused("no terminal"))?;
        builder = builder.with_console_socket(Some(socket.path()));
        console = Some(socket);
    } else {
        let pipe = || std::io::pipe().map_err(refused("no pipe"));
        let (out_reader, out_writer) = pipe()?;
        let (err_reader, err_writer) = pipe()?;
        let input: OwnedFd = if stdin {
            let (reader, writer) = pipe()?;
            streams.push((Stream::Stdin, writer.into()));
            reader.into()
        } else {
            nothing().map_err(refused("/dev/null cannot be opened"))?
        };
        streams.push((Stream::Stdout, out_reader.into()));
        streams.push((Stream::Stderr, err_reader.into()));
        builder = builder.with_stdin(input).with_stdout(out_writer).with_stderr(err_writer);
    }
    let built = builder.as_tenant().with_process(Some(&file)).with_detach(true).build();
    // Read by libcontainer, and of no use after that.
    let _ = std::fs::remove_file(&file);
    let pid = built.map_err(|failure| Failure::Refused(story(&failure)))?.as_raw();
    let ended = shim.reaper.expect(pid);
    if let Some(console) = console {
        streams.push((Stream::Terminal, console.take().map_err(refused("the terminal did not come"))?));
    }
    Ok((pid, ended, streams))
}

/// Nothing to read.
pub(super) fn nothing() -> std::io::Result<OwnedFd> {
    std::fs::File::open("/dev/null").map(Into::into)
}

/// What libcontainer's error says to a user: for a program that cannot be run the sentence of runc, without what is around
/// it.
pub(super) fn story(failure: &LibcontainerError) -> String {
    let text = error::chain(failure);
    match text.find("exec: ") {
        Some(at) => {
            let sentence = &text[at..];
            // An error text that repeats itself along the chain is told once.
            let end = sentence[6..].find("exec: ").map_or(sentence.len(), |next| next + 6);
            sentence[..end].trim_end_matches([':', ' ', '"']).to_owned()
        }
        None => text,
    }
}
