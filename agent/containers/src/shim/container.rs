//! A container as its shim knows it: its state, which is written whenever it changes, its streams, its signals and its end.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::sync::watch;
use tokio::time::Instant;

use super::log_file::LogFile;
use super::now_ns;
use super::output::Client;
use super::reaper::Ended;
use super::serve::Shim;
use crate::handle::Handle;
use crate::last_word::last_word;
use crate::seccomp::Program;
use crate::spec::{ContainerState, Exit, Phase};
use crate::store::ContainerDirectory;
use crate::wire::Failure;

/// How long a process may take to end after it was killed: longer only if the kernel cannot end it.
const DYING: Duration = Duration::from_secs(30);

/// A container.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) directory: ContainerDirectory,
    /// Its control group below the root of each hierarchy.
    pub(super) group: PathBuf,
    pub(super) state: RefCell<ContainerState>,
    /// What filters it, and what is executed in it.
    pub(super) filter: Option<Rc<Program>>,
    /// Its terminal.
    pub(super) terminal: Option<Rc<Handle>>,
    /// Its input, until it is closed.
    pub(super) stdin: RefCell<Option<Rc<Handle>>>,
    pub(super) log: RefCell<LogFile>,
    pub(super) clients: RefCell<Vec<Client>>,
    pub(super) next_client: Cell<u64>,
    /// Whether its end has been told.
    pub(super) ended: watch::Sender<bool>,
}

impl Container {
    pub(super) fn phase(&self) -> Phase {
        self.state.borrow().phase.clone()
    }

    /// Its first process, while it has not been reaped: the number cannot mean anybody else.
    pub(super) fn pid(&self) -> Option<Pid> {
        self.state.borrow().pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?))
    }

    pub(super) fn drop_client(&self, number: u64) {
        self.clients.borrow_mut().retain(|client| client.number != number);
    }

    /// Changes the state and writes it.
    pub(super) fn change(&self, shim: &Shim, change: impl FnOnce(&mut ContainerState)) {
        let mut state = self.state.borrow_mut();
        change(&mut state);
        if let Err(error) = crate::store::write(&self.directory.state(), &*state) {
            // Standard error is a file beside the sandbox's record. Nobody can be told better, and those who ask next
            // are told by the next change.
            eprintln!("the state of {} cannot be written: {error}", state.spec.id);
        }
        shim.changed();
    }

    /// Sends a signal to the first process.
    pub(super) fn signal(&self, signal: i32) -> Result<(), Failure> {
        let refused = |story: String| Failure::Refused(story);
        let signal = crate::signals::to_send(signal)
            .ok_or_else(|| refused(format!("{signal} is no signal; there are 1 to 64")))?;
        let Some(pid) = self.pid() else {
            return Err(Failure::State("the container does not run".to_owned()));
        };
        match rustix::process::kill_process(pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(refused(format!("the signal cannot be sent: {error}"))),
        }
    }

    /// Ends all of its processes.
    pub(super) fn kill(&self, shim: &Shim) {
        if let Some(pid) = self.pid() {
            // It may have ended already.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        shim.hierarchies.signal(&self.group, Signal::KILL);
    }

    /// Asks it to stop, and ends it after a while. Returns when its end has been told.
    pub(super) async fn stop(&self, shim: &Shim, grace: Duration) -> Result<(), Failure> {
        let mut ended = self.ended.subscribe();
        let deadline = Instant::now() + grace;
        if self.phase() == Phase::Created {
            // It cannot hear yet.
            self.kill(shim);
        } else if !grace.is_zero() && self.pid().is_some() {
            let name = self.state.borrow().spec.stop_signal.clone();
            let signal = crate::signals::number(&name).unwrap_or(Signal::TERM.as_raw());
            self.signal(signal)?;
        }
        if tokio::time::timeout_at(deadline, ended.wait_for(|ended| *ended)).await.is_ok() {
            return Ok(());
        }
        self.kill(shim);
        match tokio::time::timeout(DYING, ended.wait_for(|ended| *ended)).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Failure::State("the container was killed and does not end".to_owned())),
        }
    }

    /// Its first process has ended, and nothing more will be said: the end is told.
    pub(super) fn conclude(&self, shim: &Shim, ended: Ended) {
        let oom_killed = shim.hierarchies.oom_kills(&self.group) > 0;
        let finished_ns = now_ns();
        let (message, started_ns) = {
            let state = self.state.borrow();
            let message =
                last_word(state.spec.termination_message.as_ref(), &state.spec.log_path, ended.code != 0);
            let started = match state.phase {
                Phase::Running { started_ns } => Some(started_ns),
                _ => None,
            };
            (message, started)
        };
        self.change(shim, |state| {
            state.pid = None;
            state.phase = Phase::Exited(Exit {
                code: ended.code,
                signal: ended.signal,
                oom_killed,
                started_ns,
                finished_ns,
                message,
            });
        });
        self.stdin.borrow_mut().take();
        // Those who are attached hear the end of the streams.
        self.clients.borrow_mut().clear();
        self.ended.send_replace(true);
    }
}
