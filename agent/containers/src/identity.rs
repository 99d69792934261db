//! Which process a number means: ids are used again, so that a process is known by its id together with when it began.

use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

/// A process that cannot be mistaken for another one on this machine, as long as it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its id.
    pub pid: i32,
    /// When it began, in the kernel's ticks since it did itself.
    started: u64,
}

impl Identity {
    /// Of a process that runs.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(Self { pid, started: started(&stat)? })
    }

    /// Its id, if it is still the same process.
    #[must_use]
    pub fn alive(self) -> Option<Pid> {
        if Self::of(self.pid) == Some(self) { Pid::from_raw(self.pid) } else { None }
    }

    /// Ends it and waits until it has ended, for some seconds; true if it no longer runs.
    #[must_use]
    pub fn kill(self) -> bool {
        self.end(Signal::KILL, std::time::Duration::from_secs(5))
    }

    /// Sends it a signal that ends it, and waits until it has ended, no longer than told; true if it no longer runs.
    #[must_use]
    pub fn end(self, signal: Signal, longest: std::time::Duration) -> bool {
        let Some(handle) = self.handle() else { return self.alive().is_none() };
        // It may have ended meanwhile, which is what the wait finds out.
        let _ = rustix::process::pidfd_send_signal(&handle, signal);
        wait(&handle, longest)
    }

    /// Sends it a signal; true if it was there to get it.
    #[must_use]
    pub fn signal(self, signal: Signal) -> bool {
        self.handle().is_some_and(|handle| rustix::process::pidfd_send_signal(&handle, signal).is_ok())
    }

    /// Means one process for ever: if it is the right one when it is open, nobody else gets a signal by it.
    fn handle(self) -> Option<rustix::fd::OwnedFd> {
        let handle = rustix::process::pidfd_open(self.alive()?, rustix::process::PidfdFlags::empty()).ok()?;
        self.alive().map(|_| handle)
    }
}

/// Waits for a process to end, no longer than told; true if it did.
pub(crate) fn wait(handle: &rustix::fd::OwnedFd, longest: std::time::Duration) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let limit = Timespec { tv_sec: i64::try_from(longest.as_secs()).unwrap_or(i64::MAX), tv_nsec: 0 };
    loop {
        match poll(&mut [PollFd::new(handle, PollFlags::IN)], Some(&limit)) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(ready) => return ready > 0,
            Err(_) => return false,
        }
    }
}

/// The 22nd field of `/proc/PID/stat`; the second is a name in parentheses that can hold anything. Nothing for one that
/// has ended and waits for its parent.
fn started(stat: &str) -> Option<u64> {
    let (_, after) = stat.rsplit_once(") ")?;
    let mut fields = after.split(' ');
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_confuse() {
        let fields = "S 1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 1";
        assert_eq!(started(&format!("7 (a) (b) {fields}")), Some(4711));
        assert_eq!(started("7 (a) Z 1 1"), None);
    }

    #[test]
    fn another_process_with_the_same_number_is_not_meant() {
        let me = Identity::of(std::process::id() as i32).unwrap();
        assert!(me.alive().is_some());
        assert!(Identity { started: me.started + 1, ..me }.alive().is_none());
    }
}
