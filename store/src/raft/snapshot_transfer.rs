//! Snapshots between members: sent in chunks, resumed where a broken transfer stopped, verified before
//! they count. The file and its checks belong to `snapshot`; here is only the way over the wire.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt as _;
use openraft::storage::{Snapshot as RaftSnapshot, SnapshotMeta};
use tokio::sync::{Mutex, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use barque_proto::peer as wire;

use super::codec;
use super::peers::{Peer, PeerError, Peers};
use super::snapshots::{DescribeError, OpenSnapshot, Snapshot};
use super::types::Vote;
use crate::blocking::Blocking;
use crate::metrics::DiskMetrics;
use crate::snapshot::{Identity, Receiving, SnapshotError};

/// Small enough to leave room for other messages, large enough to cost little.
const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks read ahead of the connection.
const CHUNKS_AHEAD: usize = 4;
/// Installing a large snapshot takes the follower a while after the last byte; a follower that does not
/// even take a chunk for so long is given up.
const STALL: Duration = Duration::from_secs(30);

/// Sends a snapshot and waits until it is installed; answers the follower's vote.
///
/// # Errors
/// When the follower is gone, refuses, or stalls. What arrived is kept there.
pub async fn send(
    peers: &Peers,
    peer: &Peer,
    blocking: &Blocking,
    vote: &Vote,
    snapshot: Snapshot,
) -> Result<Vote, PeerError> {
    let OpenSnapshot { file, open } = snapshot.snapshot;
    let identity = wire::SnapshotIdentity {
        last_log_id: snapshot.meta.last_log_id.as_ref().map(codec::log_id_to_wire),
        size_bytes: file.size_bytes,
        sha256: Bytes::copy_from_slice(&file.sha256),
    };
    let membership = codec::encode_stored_membership(&snapshot.meta.last_membership).into();
    let progress = peer.data().snapshot_progress(peers.request(identity.clone())).await?;
    let offset = peers.accept(peer.id, progress)?.received_bytes;
    tracing::info!(member = %peer.id, bytes = file.size_bytes, offset, "sending a snapshot");

    let (chunks, queue) = mpsc::channel(CHUNKS_AHEAD);
    let first = wire::SnapshotChunk {
        vote: Some(codec::vote_to_wire(vote)),
        identity: Some(identity),
        membership,
        offset,
        data: Bytes::new(),
    };
    let read = read_chunks(blocking, open, file.size_bytes, first, offset, chunks);
    let mut client = peer.data();
    let install = client.install_snapshot(peers.request(ReceiverStream::new(queue)));
    let (read, installed) = tokio::join!(read, install);
    let reply = peers.accept(peer.id, installed?)?;
    read?;
    Ok(codec::vote_from_wire(reply.vote.as_ref())?)
}

async fn read_chunks(
    blocking: &Blocking,
    open: Arc<File>,
    size_bytes: u64,
    first: wire::SnapshotChunk,
    mut offset: u64,
    chunks: mpsc::Sender<wire::SnapshotChunk>,
) -> Result<(), Status> {
    let failed = |error: std::io::Error| Status::data_loss(format!("a snapshot cannot be read: {error}"));
    let mut next = Some(first);
    loop {
        let chunk = match next.take() {
            Some(first) => first,
            None if offset >= size_bytes => return Ok(()),
            None => {
                let len = usize::try_from(size_bytes - offset).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
                let open = Arc::clone(&open);
                let data = blocking.run(move || {
                    let mut data = vec![0; len];
                    open.read_exact_at(&mut data, offset).map(|()| data)
                });
                let data = data.await.map_err(|e| Status::internal(e.to_string()))?.map_err(failed)?;
                let chunk = wire::SnapshotChunk { offset, data: data.into(), ..Default::default() };
                offset += chunk.data.len() as u64;
                chunk
            }
        };
        match tokio::time::timeout(STALL, chunks.send(chunk)).await {
            Ok(Ok(())) => {}
            // The call ended; its own answer says why.
            Ok(Err(_)) => return Ok(()),
            Err(_) => return Err(Status::deadline_exceeded("the member takes no more of the snapshot")),
        }
    }
}

/// Receives the snapshots that leaders send, one at a time.
#[derive(Debug)]
pub struct SnapshotReceiver {
    dir: PathBuf,
    busy: Arc<Mutex<()>>,
    blocking: Blocking,
    disk: DiskMetrics,
}

impl SnapshotReceiver {
    /// Into a directory that exists; `disk` counts how long it takes.
    #[must_use]
    pub fn new(dir: PathBuf, blocking: Blocking, disk: DiskMetrics) -> Self {
        Self { dir, busy: Arc::default(), blocking, disk }
    }

    /// Where the sender should go on.
    ///
    /// # Errors
    /// When the disk fails or another transfer runs.
    pub fn received_bytes(&self, identity: &wire::SnapshotIdentity) -> Result<u64, Status> {
        let _turn = self.busy.try_lock().map_err(|_| busy())?;
        Ok(self.begin(identity)?.received_bytes())
    }

    fn begin(&self, identity: &wire::SnapshotIdentity) -> Result<Receiving, Status> {
        let last = identity.last_log_id.unwrap_or_default();
        let sha256 = <[u8; 32]>::try_from(&*identity.sha256)
            .map_err(|_| Status::invalid_argument("a snapshot's digest has 32 bytes"))?;
        let identity = Identity {
            applied_term: last.term,
            applied_index: last.index,
            size_bytes: identity.size_bytes,
            sha256,
        };
        Receiving::begin(&self.dir, identity).map_err(status)
    }

    /// Takes a whole snapshot and verifies it.
    ///
    /// # Errors
    /// When the transfer breaks (what arrived is kept), the bytes are wrong, or the disk fails.
    pub async fn receive(
        &self,
        mut chunks: Streaming<wire::SnapshotChunk>,
    ) -> Result<(Vote, Snapshot), Status> {
        let turn = Arc::clone(&self.busy).try_lock_owned().map_err(|_| busy())?;
        let began = Instant::now();
        let first = chunks.next().await.ok_or_else(|| Status::cancelled("no chunk came"))??;
        let vote = codec::vote_from_wire(first.vote.as_ref())?;
        let last_membership = codec::decode_stored_membership(&first.membership)?;
        let identity =
            first.identity.ok_or_else(|| Status::invalid_argument("the first chunk names no snapshot"))?;
        let mut receiving = self.begin(&identity)?;
        loop {
            let chunk = tokio::time::timeout(STALL, chunks.next()).await;
            let Some(chunk) = chunk.map_err(|_| Status::deadline_exceeded("the sender stalls"))? else {
                break;
            };
            let chunk = chunk?;
            receiving = self
                .blocking
                .run(move || receiving.append(chunk.offset, &chunk.data).map(|()| receiving))
                .await
                .map_err(|e| Status::internal(e.to_string()))?
                .map_err(status)?;
        }
        let sync_seconds = self.disk.snap_db_fsync_duration_seconds.clone();
        let summary = self.blocking.run(move || {
            let began = Instant::now();
            receiving.sync()?;
            sync_seconds.observe(began.elapsed().as_secs_f64());
            receiving.finish()
        });
        let summary = summary.await.map_err(|e| Status::internal(e.to_string()))?.map_err(status)?;
        self.disk.snap_db_save_total_duration_seconds.observe(began.elapsed().as_secs_f64());
        drop(turn);
        let meta = SnapshotMeta {
            last_log_id: identity.last_log_id.as_ref().map(codec::log_id_from_wire),
            last_membership,
        };
        Ok((vote, RaftSnapshot { meta, snapshot: OpenSnapshot::open(summary.file).map_err(unusable)? }))
    }
}

fn unusable(error: DescribeError) -> Status {
    Status::data_loss(error.to_string())
}

fn busy() -> Status {
    Status::unavailable("another snapshot is being received")
}

fn status(error: SnapshotError) -> Status {
    Status::data_loss(error.to_string())
}
