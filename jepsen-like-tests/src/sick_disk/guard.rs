//! Takes a mount away when whoever made it is gone, however that ended.
//!
//! A file system that is served by a process stays mounted, dead, when the process is killed. So another process waits for
//! the end of a pipe that only the first one holds open.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The process that waits. When this is dropped, it unmounts, and is waited for.
#[derive(Debug)]
pub(super) struct UnmountGuard {
    waiting: Child,
}

impl UnmountGuard {
    /// Watches over what is or will be mounted on an empty directory, which is removed too in the end.
    pub(super) fn over(mount_point: &Path) -> io::Result<Self> {
        let waiting = Command::new("sh")
            // Lazily, for the case that members still run; one that is not mounted is none to tell of.
            .args(["-c", r#"read -r _; umount -l "$1" 2> /dev/null; rmdir "$1""#, "unmount-guard"])
            .arg(mount_point)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // An interrupt from the terminal is not for it.
            .process_group(0)
            .spawn()?;
        Ok(Self { waiting })
    }
}

impl Drop for UnmountGuard {
    fn drop(&mut self) {
        // The end of the pipe.
        drop(self.waiting.stdin.take());
        if let Err(why) = self.waiting.wait() {
            eprintln!("a mount may be left behind: {why}");
        }
    }
}
