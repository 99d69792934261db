//! A snapshot for a client: a picture of the whole state, or what of it came after a revision, written to a file that
//! only this stream knows.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt as _};
use prometheus::Histogram;

use crate::command::CommandError;
use crate::error::StoreError;
use crate::ids::Revision;
use crate::raft::snapshots::Snapshots;
use crate::rpc::backend::Snapshot;
use crate::snapshot::SnapshotWriter;
use crate::state::newest_picture::{Watched, from_newest_picture};
use crate::state::published::{Picture, Published};

const CHUNK_BYTES: u64 = 256 * 1024;
/// A compaction that takes away history that is being read from disk makes one start over with the newest picture.
pub(super) const ATTEMPTS: usize = 3;

/// A snapshot cannot be written for a client.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    /// What was asked for is not there.
    #[error(transparent)]
    Refused(#[from] CommandError),
    /// The disk, or history on it.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Writes the snapshot, then streams it. The file has no name, so a stream that breaks leaves nothing.
/// `sent_seconds` hears how long it took, once all of it was taken.
///
/// # Errors
/// `Compacted` and `FutureRevision` when there is no such increment; when the disk fails.
pub async fn snapshot(
    snapshots: &Arc<Snapshots>,
    published: &Arc<Published>,
    since: Option<Revision>,
    sent_seconds: &Histogram,
) -> Result<Snapshot<BoxStream<'static, Result<Bytes, StoreError>>>, StoreError> {
    let began = Instant::now();
    let sent_seconds = sent_seconds.clone();
    let (snapshots, published) = (Arc::clone(snapshots), Arc::clone(published));
    let written = tokio::task::spawn_blocking(move || {
        from_newest_picture(&published, ATTEMPTS, |picture, watched| {
            write(&snapshots, picture, since, watched)
        })
    });
    let written = written.await.map_err(|_| StoreError::Stopped)?;
    let Written { file, size_bytes, revision } = written.map_err(|error| match error {
        WriteError::Refused(error) => StoreError::Command(error),
        WriteError::Io(error) => {
            tracing::error!(%error, "a snapshot for a client could not be written");
            StoreError::Internal(format!("a snapshot could not be written: {error}"))
        }
    })?;
    let file = Arc::new(file);
    let chunks =
        futures::stream::try_unfold((file, 0u64, sent_seconds), move |(file, at, sent_seconds)| async move {
            let len = (size_bytes - at).min(CHUNK_BYTES);
            if len == 0 {
                sent_seconds.observe(began.elapsed().as_secs_f64());
                return Ok(None);
            }
            let read = Arc::clone(&file);
            let chunk = tokio::task::spawn_blocking(move || {
                let mut chunk = vec![0; len as usize];
                read.read_exact_at(&mut chunk, at).map(|()| chunk)
            });
            let chunk = chunk.await.map_err(|_| StoreError::Stopped)?;
            let chunk =
                chunk.map_err(|e| StoreError::Internal(format!("a snapshot could not be read: {e}")))?;
            Ok(Some((Bytes::from(chunk), (file, at + len, sent_seconds))))
        });
    Ok(Snapshot { size_bytes, revision, chunks: chunks.boxed() })
}

struct Written {
    file: File,
    size_bytes: u64,
    /// The last one in it.
    revision: Revision,
}

fn write(
    snapshots: &Snapshots,
    picture: &Picture,
    since: Option<Revision>,
    watched: &Watched,
) -> Result<Written, WriteError> {
    let items = match since {
        None => picture.view.items(),
        Some(since) => picture.view.items_since(since)?,
    };
    let path = snapshots.dir.join(format!("client-{:016x}.writing", rand::random::<u64>()));
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    let mut writer = SnapshotWriter::new(file.try_clone()?, &snapshots.manifest(picture, since))?;
    for item in watched.watch(items) {
        writer.push(&item.map_err(io::Error::other)?)?;
    }
    let (_, written) = writer.finish()?;
    Ok(Written { file, size_bytes: written.size_bytes, revision: picture.view.revision() })
}
