//! One store process: started with given arguments, signalled, waited for, and never left behind.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process, pidfd_open, waitid};
use tokio::task::spawn_blocking;

use crate::spawn::command;

/// A process whose output goes to a file.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    exit: Option<ExitStatus>,
}

impl Process {
    /// Starts `program`; what it prints is appended to `log`.
    pub(crate) fn start(program: &Path, arguments: &[OsString], log: &Path) -> io::Result<Self> {
        let out: File = OpenOptions::new().create(true).append(true).open(log)?;
        let child = command(program)?
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            // A member must not find settings in the environment of whoever runs the tests.
            .env_remove("ETCDCTL_API")
            .spawn()?;
        Ok(Self { child, exit: None })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status, if it has ended.
    pub(crate) fn exit_status(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.exit.is_none() {
            self.exit = self.child.try_wait()?;
        }
        Ok(self.exit)
    }

    /// Sends `signal`, unless the process has already been waited for (its id may then be another's).
    pub(crate) fn signal(&mut self, signal: Signal) -> io::Result<()> {
        if self.exit_status()?.is_none() {
            kill_process(Pid::from_child(&self.child), signal)?;
        }
        Ok(())
    }

    /// Stops it from running, and waits until no thread of it runs any more: on a busy machine, those that the signal was not
    /// given to go on for a while.
    pub(crate) fn pause(&mut self) -> io::Result<()> {
        if self.exit_status()?.is_some() {
            return Ok(());
        }
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::STOP)?;
        // It may be looked at again: pausing it twice must not wait for a second stop.
        match waitid(WaitId::Pid(pid), WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT) {
            // It has ended meanwhile.
            Ok(_) | Err(Errno::CHILD) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends it at once, as a power cut of the process would, and waits until it is gone.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        if self.exit_status()?.is_none() {
            self.child.kill()?;
            self.exit = Some(self.child.wait()?);
        }
        Ok(())
    }

    /// Waits for its end, at most `patience`; `None` when it still runs then.
    pub(crate) async fn ended(&mut self, patience: Duration) -> io::Result<Option<ExitStatus>> {
        if let Some(status) = self.exit_status()? {
            return Ok(Some(status));
        }
        // Readable when the process has ended.
        let process = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty())?;
        let patience = Timespec::try_from(patience).map_err(io::Error::other)?;
        let waiting =
            spawn_blocking(move || poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&patience)));
        waiting.await??;
        self.exit_status()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(why) = self.kill() {
            eprintln!("process {} could not be ended: {why}", self.id());
        }
    }
}

/// The last `lines` lines of the file at `path`.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
