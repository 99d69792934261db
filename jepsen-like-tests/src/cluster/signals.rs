//! What is done to members from outside: ended, asked to stop, paused, wiped.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;

use super::process::Process;
use super::{Cluster, ClusterError, io_error};
use crate::deadline::PATIENCE;

impl Cluster {
    fn process(&mut self, index: usize) -> &mut Process {
        let member = &mut self.members[index];
        member.process.as_mut().unwrap_or_else(|| panic!("{} was never started", member.name))
    }

    /// Sends member `index` any signal.
    pub fn signal(&mut self, index: usize, signal: Signal) -> Result<(), ClusterError> {
        self.process(index).signal(signal).map_err(io_error(format!("{signal:?}")))
    }

    /// Ends member `index` at once with SIGKILL.
    pub fn kill9(&mut self, index: usize) -> Result<(), ClusterError> {
        self.process(index).kill().map_err(io_error("kill -9"))
    }

    /// Asks member `index` to stop (SIGTERM) and waits for its end.
    pub async fn terminate(&mut self, index: usize) -> Result<ExitStatus, ClusterError> {
        self.signal(index, Signal::TERM)?;
        let name = self.members[index].name.clone();
        self.ended(index, PATIENCE).await?.ok_or_else(|| {
            io_error(format!("{name} after SIGTERM"))(io::Error::new(io::ErrorKind::TimedOut, "still runs"))
        })
    }

    /// Waits for the end of member `index`; `None` when it still runs after `patience`.
    pub async fn ended(
        &mut self,
        index: usize,
        patience: Duration,
    ) -> Result<Option<ExitStatus>, ClusterError> {
        self.process(index).ended(patience).await.map_err(io_error("the end of a member"))
    }

    /// Stops member `index` from running (SIGSTOP); its connections stay open. It does nothing any more when this returns.
    pub fn pause(&mut self, index: usize) -> Result<(), ClusterError> {
        self.process(index).pause().map_err(io_error("SIGSTOP"))
    }

    /// Lets a paused member run again.
    pub fn resume(&mut self, index: usize) -> Result<(), ClusterError> {
        self.signal(index, Signal::CONT)
    }

    /// Deletes the data of member `index`, which must not run.
    pub fn wipe(&mut self, index: usize) -> Result<(), ClusterError> {
        std::fs::remove_dir_all(&self.members[index].data_dir).map_err(io_error("wiping a data directory"))
    }
}
