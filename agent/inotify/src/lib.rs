//! Waits until something happens to a directory, by inotify(7). Must never say what it was: that is looked up, so that nothing is
//! missed when events are lost.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

pub use rustix::fs::inotify::WatchFlags;

/// A directory that is watched.
#[derive(Debug)]
pub struct Changes(AsyncFd<OwnedFd>);

impl Changes {
    /// Watches a directory for these events, within a runtime.
    ///
    /// # Errors
    /// When it is no directory, or the kernel watches no more.
    pub fn of(directory: &Path, wanted: WatchFlags) -> io::Result<Self> {
        let events = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        inotify::add_watch(&events, directory, wanted | WatchFlags::ONLYDIR)?;
        Ok(Self(registered(events)?))
    }

    /// Watches those of several directories that are there.
    ///
    /// # Errors
    /// When the kernel watches no more.
    pub fn of_any<'a>(directories: impl Iterator<Item = &'a Path>, wanted: WatchFlags) -> io::Result<Self> {
        let events = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        for directory in directories {
            match inotify::add_watch(&events, directory, wanted | WatchFlags::ONLYDIR) {
                Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Self(registered(events)?))
    }

    /// Waits until something has happened since the last call.
    ///
    /// # Errors
    /// When the kernel does not tell any more.
    pub async fn next(&self) -> io::Result<()> {
        let mut events = [0; 4 << 10];
        let mut any = false;
        loop {
            let mut ready = self.0.readable().await?;
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

#[allow(unsafe_code, reason = "there is no safe way to wait for a descriptor of one's own")]
fn registered(events: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: The descriptor is open, as it is owned, and it is given away with its owner: nobody here takes it out again,
    // closes or replaces it while it is registered.
    Ok(unsafe { AsyncFd::register(events) }?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[tokio::test]
    async fn what_happens_is_told_once() {
        let directory = tempfile::tempdir().unwrap();
        let changes = Changes::of(directory.path(), WatchFlags::CREATE).unwrap();
        std::fs::write(directory.path().join("a"), "").unwrap();
        std::fs::write(directory.path().join("b"), "").unwrap();
        changes.next().await.unwrap();
        let mut next = std::pin::pin!(changes.next());
        assert!(waits_on(&mut next).await, "both were told");
        std::fs::write(directory.path().join("c"), "").unwrap();
        next.await.unwrap();
        let file = directory.path().join("a");
        let nowhere = Changes::of(&file, WatchFlags::CREATE).unwrap_err();
        assert_eq!(nowhere.kind(), io::ErrorKind::NotADirectory);
        let several = [directory.path(), &file, &file.join("none")];
        let changes = Changes::of_any(several.into_iter(), WatchFlags::DELETE).unwrap();
        std::fs::remove_file(&file).unwrap();
        changes.next().await.unwrap();
    }

    /// Whether a future is not ready yet.
    async fn waits_on<T>(future: &mut (impl Future<Output = T> + Unpin)) -> bool {
        let mut future = std::pin::Pin::new(future);
        std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context).is_pending()))
            .await
    }
}
