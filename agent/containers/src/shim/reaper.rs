//! The shim is the parent of all processes of its containers, in the end: each child that ends is reaped, and who waits for
//! one is told.

use std::cell::RefCell;
use std::collections::BTreeMap;

use rustix::process::{WaitOptions, WaitStatus};
use tokio::sync::oneshot;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended {
    /// 128 and the signal for those that a signal ended.
    pub(super) code: i32,
    pub(super) signal: Option<i32>,
}

impl Ended {
    fn of(status: WaitStatus) -> Option<Self> {
        if let Some(code) = status.exit_status() {
            return Some(Self { code, signal: None });
        }
        let signal = status.terminating_signal()?;
        Some(Self { code: 128 + signal, signal: Some(signal) })
    }
}

/// Who waits for whom.
#[derive(Debug, Default)]
pub(super) struct Reaper(RefCell<BTreeMap<i32, oneshot::Sender<Ended>>>);

impl Reaper {
    /// The end of a child that has just been made: `reap` must not have run since.
    pub(super) fn expect(&self, pid: i32) -> oneshot::Receiver<Ended> {
        let (sender, receiver) = oneshot::channel();
        self.0.borrow_mut().insert(pid, sender);
        receiver
    }

    /// Reaps everybody who has ended.
    pub(super) fn reap(&self) {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    let Some(ended) = Ended::of(status) else { continue };
                    if let Some(sender) = self.0.borrow_mut().remove(&pid.as_raw_nonzero().get()) {
                        // Who no longer waits does not want to know.
                        let _ = sender.send(ended);
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                // Everybody else runs, or there is nobody.
                Ok(None) | Err(_) => return,
            }
        }
    }
}
