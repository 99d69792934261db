//! A snapshot for a client: a picture of the whole state, written to a file that only this stream knows.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt as _};
use prometheus::Histogram;

use crate::error::StoreError;
use crate::raft::snapshots::Snapshots;
use crate::rpc::backend::Snapshot;
use crate::snapshot::SnapshotWriter;
use crate::snapshot::saved::ALIGNMENT_BYTES;
use crate::state::published::Picture;

const CHUNK_BYTES: u64 = 256 * 1024;

/// Writes the snapshot, then streams it. The file has no name, so a stream that breaks leaves nothing.
/// `sent_seconds` hears how long it took, once all of it was taken.
///
/// # Errors
/// When the disk fails.
pub async fn snapshot(
    snapshots: &Arc<Snapshots>,
    picture: &Arc<Picture>,
    sent_seconds: &Histogram,
) -> Result<Snapshot<BoxStream<'static, Result<Bytes, StoreError>>>, StoreError> {
    let began = Instant::now();
    let sent_seconds = sent_seconds.clone();
    let (snapshots, picture) = (Arc::clone(snapshots), Arc::clone(picture));
    let written = tokio::task::spawn_blocking(move || write(&snapshots, &picture));
    let (file, size_bytes) = written.await.map_err(|_| StoreError::Stopped)?.map_err(|error| {
        tracing::error!(%error, "a snapshot for a client could not be written");
        StoreError::Internal(format!("a snapshot could not be written: {error}"))
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
    Ok(Snapshot { size_bytes, chunks: chunks.boxed() })
}

fn write(snapshots: &Snapshots, picture: &Picture) -> std::io::Result<(File, u64)> {
    let path = snapshots.dir.join(format!("client-{:016x}.writing", rand::random::<u64>()));
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    let manifest = snapshots.manifest(picture);
    let mut writer = SnapshotWriter::new(file.try_clone()?, &manifest)?;
    for item in picture.view.items() {
        writer.push(&item.map_err(std::io::Error::other)?)?;
    }
    let (_, written) = writer.finish()?;
    let size_bytes = written.size_bytes.next_multiple_of(ALIGNMENT_BYTES);
    file.set_len(size_bytes)?;
    Ok((file, size_bytes))
}
