//! Tells that something in some directories has changed. Must never miss what changes after it was opened, nor say what.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

use crate::descriptor::registered;

/// The directories that are followed; those that are not there are not.
pub(super) struct Changes(AsyncFd<OwnedFd>);

impl Changes {
    /// From now on. Needs a runtime.
    pub(super) fn of<'a>(directories: impl Iterator<Item = &'a Path>) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let told = WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF;
        for directory in directories {
            match inotify::add_watch(&inotify, directory, told) {
                Ok(_) | Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Self(registered(inotify)?))
    }

    /// Waits for the next change, and takes all that have come by then.
    pub(super) async fn next(&self) -> io::Result<()> {
        let mut events = [0; 4 << 10];
        loop {
            let mut ready = self.0.readable().await?;
            let mut any = false;
            // Until the kernel says that no event is left.
            while let Ok(read) = ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut events[..])?)) {
                read?;
                any = true;
            }
            if any {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_appears_changes_and_goes_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let absent = directory.path().join("absent");
        let changes = Changes::of([directory.path(), &absent].into_iter()).unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "a").unwrap();
        changes.next().await.unwrap();
        std::fs::rename(&file, directory.path().join("other")).unwrap();
        changes.next().await.unwrap();
        std::fs::remove_file(directory.path().join("other")).unwrap();
        changes.next().await.unwrap();
        assert!(futures::FutureExt::now_or_never(changes.next()).is_none(), "all was told");
    }
}
