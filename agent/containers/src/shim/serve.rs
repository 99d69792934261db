//! The shim's life: it gets ready, takes requests from its socket, reaps, and ends when it is told to.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::rc::Rc;

use rustix::process::{Pid, Signal};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::task::LocalSet;
use tokio_util::task::TaskTracker;

use super::container::Container;
use super::output::Scratch;
use super::reaper::Reaper;
use super::{ShimError, connection, io, pause};
use crate::cgroup::Hierarchies;
use crate::identity::Identity;
use crate::spec::PidShare;
use crate::store::{SandboxDirectory, SandboxRecord, Store};
use crate::wire::Failure;

/// The word that says so.
pub(crate) const WORD: &str = "serve";

/// How soon the kernel ends a shim when memory is short: hardly ever, since it would be the end of a whole sandbox.
const OOM_SCORE: &str = "-998";

/// All that a shim knows.
#[derive(Debug)]
pub(super) struct Shim {
    pub(super) store: Store,
    pub(super) directory: SandboxDirectory,
    pub(super) record: SandboxRecord,
    pub(super) hierarchies: Hierarchies,
    /// The first process of the containers' namespace of process ids, if they share one.
    pub(super) pause: Option<i32>,
    pub(super) containers: RefCell<BTreeMap<String, Rc<Container>>>,
    pub(super) reaper: Reaper,
    pub(super) scratch: Rc<Scratch>,
    pub(super) changes: watch::Sender<u64>,
    pub(super) quit: Notify,
    pub(super) tasks: TaskTracker,
    number: Cell<u64>,
    /// How soon the kernel ends it when memory is short.
    oom_score: String,
}

impl Shim {
    /// A container, by its id.
    pub(super) fn container(&self, id: &str) -> Result<Rc<Container>, Failure> {
        self.containers.borrow().get(id).cloned().ok_or(Failure::NotFound)
    }

    /// Whoever listens is told that something has changed.
    pub(super) fn changed(&self) {
        self.changes.send_modify(|number| *number += 1);
    }

    /// A number that was not given before.
    pub(super) fn next_number(&self) -> u64 {
        self.number.set(self.number.get() + 1);
        self.number.get()
    }

    /// The lowest score that this process may give to others. Who may not protect itself may not protect them either (Linux:
    /// `CAP_SYS_RESOURCE`); the container then runs less protected than it should be, rather than not at all.
    pub(super) fn least_oom_score(&self) -> Option<i32> {
        (self.oom_score != OOM_SCORE).then(|| self.oom_score.parse().unwrap_or(0))
    }

    /// libcontainer writes a container's into the process that calls it; this one gets its own back.
    pub(super) fn restore_oom_score(&self) {
        if let Err(error) = std::fs::write(OOM_SCORE_FILE, &self.oom_score) {
            eprintln!("the shim is more likely to be ended when memory is short: {error}");
        }
    }

    /// Ends the first process of a shared namespace, and with it all others.
    pub(super) fn end_pause(&self) {
        if let Some(pid) = self.pause.and_then(Pid::from_raw) {
            // It has ended before, or it ends now.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

const OOM_SCORE_FILE: &str = "/proc/self/oom_score_adj";

/// Protects the shim as far as it may: not every root may. Returns what it has from then on.
fn protect() -> String {
    // Refused, it has that of the agent.
    let _ = std::fs::write(OOM_SCORE_FILE, OOM_SCORE);
    std::fs::read_to_string(OOM_SCORE_FILE)
        .map_or_else(|_| OOM_SCORE.to_owned(), |score| score.trim().to_owned())
}

/// Serves one sandbox. The listening socket is the standard input.
pub(super) fn run(store: Store, id: &str) -> Result<(), ShimError> {
    let directory = store.sandbox(id);
    let stdin = std::io::stdin();
    let listener = UnixListener::from(stdin.as_fd().try_clone_to_owned().map_err(io("keep the socket"))?);
    listener.set_nonblocking(true).map_err(io("keep the socket"))?;
    let nothing = super::exec::nothing().map_err(io("open /dev/null"))?;
    rustix::stdio::dup2_stdin(&nothing).map_err(io("leave the socket"))?;
    // A session of its own: what ends the agent's does not end it. It fails for one that has it already.
    let _ = rustix::process::setsid();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    std::env::set_current_dir("/").map_err(io("leave the directory"))?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(io("become a subreaper"))?;
    let oom_score = protect();
    let own = Identity::of(i32::try_from(std::process::id()).unwrap_or(0));
    crate::store::write(&directory.shim(), &own).map_err(io("write who the shim is"))?;
    let record: SandboxRecord = crate::store::read(&directory.record())
        .map_err(io("read the sandbox's record"))?
        .ok_or(ShimError::NoRecord)?;
    let hierarchies = Hierarchies::find().map_err(ShimError::Cgroups)?;
    std::fs::create_dir_all(directory.runtime()).map_err(io("make the directory of the runtime"))?;
    let pause = match record.state.spec.pid {
        PidShare::Pod => {
            let program = std::env::current_exe().map_err(io("find the program"))?;
            let mut words: Vec<_> = std::env::args_os().skip(1).collect();
            // What follows are the words of `serve`: its own, two directories and the id.
            words.truncate(words.len().saturating_sub(4));
            words.push(pause::WORD.into());
            let pid = pause::start(&program, &words, &directory.0.join("empty"))?;
            crate::store::write(&directory.pause(), &Identity::of(pid))
                .map_err(io("write who the first process is"))?;
            Some(pid)
        }
        PidShare::Container | PidShare::Host => None,
    };
    let shim = Rc::new(Shim {
        store,
        directory,
        record,
        hierarchies,
        pause,
        containers: RefCell::default(),
        reaper: Reaper::default(),
        scratch: Rc::default(),
        changes: watch::Sender::new(0),
        quit: Notify::new(),
        tasks: TaskTracker::new(),
        number: Cell::new(0),
        oom_score,
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(io("start the runtime"))?;
    LocalSet::new().block_on(&runtime, serve(shim, listener))
}

async fn serve(shim: Rc<Shim>, listener: UnixListener) -> Result<(), ShimError> {
    let listener = tokio::net::UnixListener::from_std(listener).map_err(io("listen"))?;
    let mut children = signal(SignalKind::child()).map_err(io("hear of children"))?;
    // Whoever stops a service sends these to all its processes: containers go on.
    let mut ignored = Vec::new();
    for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()] {
        ignored.push(signal(kind).map_err(io("ignore signals"))?);
    }
    if let Some(pid) = shim.pause {
        let ended = shim.reaper.expect(pid);
        let watched = Rc::clone(&shim);
        shim.tasks.spawn_local(async move {
            // The containers end with it, and the agent sees that no other can be made.
            if ended.await.is_ok() {
                let mut record = watched.record.clone();
                record.state.ready = false;
                if let Err(error) = crate::store::write(&watched.directory.record(), &record) {
                    eprintln!("the sandbox's record cannot be written: {error}");
                }
                watched.changed();
            }
        });
    }
    shim.reaper.reap();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    shim.tasks.spawn_local(connection::serve(Rc::clone(&shim), stream));
                }
                // No descriptor is free, and nothing tells when one will be.
                Err(error) => {
                    eprintln!("a connection was lost: {error}");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            },
            _ = children.recv() => shim.reaper.reap(),
            () = shim.quit.notified() => return Ok(()),
        }
    }
}
