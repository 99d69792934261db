//! A log as a stream of bytes, to its end or for as long as its container runs. The kernel tells when there is more; must never
//! look by itself.

use std::io;
use std::path::{Path, PathBuf};

use barque_inotify::{Changes, WatchFlags};
use bytes::Bytes;
use futures::Stream;
use futures::future::BoxFuture;
use tokio::task::spawn_blocking;

use super::print::Printing;
use super::read::{LogReader, Step};

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
        (true, Some(directory)) => Some(watch(directory)?),
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
        watch: Changes,
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
                    changed = watch.next() => changed?,
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
fn watch(directory: &Path) -> io::Result<Changes> {
    let wanted = WatchFlags::MODIFY
        | WatchFlags::CREATE
        | WatchFlags::MOVED_TO
        | WatchFlags::MOVED_FROM
        | WatchFlags::DELETE_SELF;
    Changes::of(directory, wanted)
}
