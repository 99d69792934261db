//! A log as a stream of bytes, to its end or for as long as its container runs. The kernel tells when there is more; must never
//! look by itself.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::Stream;
use futures::future::BoxFuture;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;
use tokio::task::spawn_blocking;

use super::print::Printing;
use super::read::{LogReader, Step};
use crate::descriptor::registered;

/// What of a log is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Only the last lines.
    pub(crate) tail: Option<u64>,
    pub(crate) printing: Printing,
    /// Also what is still to come.
    pub(crate) follow: bool,
}

/// Opens the log at `path`. `ended` resolves when nothing more will come.
///
/// # Errors
/// When it cannot be read, or not be watched.
pub(crate) async fn open(
    path: PathBuf,
    reading: Reading,
    ended: BoxFuture<'static, ()>,
) -> io::Result<impl Stream<Item = io::Result<Bytes>> + Send + 'static> {
    // The watch comes first, so that nothing slips in between.
    let watch = match (reading.follow, path.parent()) {
        (true, Some(directory)) => Some(Watch::new(directory)?),
        _ => None,
    };
    let reader = blocking(move || LogReader::open(path, reading.tail, reading.printing)).await?;
    let state = watch.map_or(State::Rest, |watch| State::Following { watch, ended });
    Ok(futures::stream::try_unfold((reader, state), |(reader, state)| next(reader, state)))
}

enum State {
    /// What comes from now on is not wanted, or does not come.
    Rest,
    Following {
        watch: Watch,
        ended: BoxFuture<'static, ()>,
    },
}

type Next = Option<(Bytes, (LogReader, State))>;

async fn next(mut reader: LogReader, mut state: State) -> io::Result<Next> {
    loop {
        let (back, step) = blocking(move || {
            let step = reader.step()?;
            Ok((reader, step))
        })
        .await?;
        reader = back;
        match (step, &mut state) {
            (Step::Some(shown), _) => return Ok(Some((shown.into(), (reader, state)))),
            (Step::Done, _) | (Step::End, State::Rest) => return Ok(None),
            (Step::End, State::Following { watch, ended }) => {
                tokio::select! {
                    changed = watch.changed() => changed?,
                    // What was written last is read before the end.
                    () = ended => state = State::Rest,
                }
            }
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Tells when something happens to the files of a directory.
struct Watch(AsyncFd<OwnedFd>);

impl Watch {
    fn new(directory: &Path) -> io::Result<Self> {
        let events = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let wanted = WatchFlags::MODIFY
            | WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE_SELF
            | WatchFlags::ONLYDIR;
        inotify::add_watch(&events, directory, wanted)?;
        Ok(Self(registered(events)?))
    }

    /// Waits until something has happened since the last call. What it was, the files tell.
    async fn changed(&self) -> io::Result<()> {
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
