//! Snapshots as they arrive: etcd's own call, and Barque's for increments, as the same pieces.

use barque_proto::admin;
use barque_proto::admin::admin_client::AdminClient;
use barque_proto::etcdserverpb as pb;
use barque_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use bytes::Bytes;
use tonic::{Status, Streaming};

use super::{Connection, Repeat};
use crate::error::Failure;

/// A part of the file.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) blob: Bytes,
    /// What the server says is still to come.
    pub(crate) remaining_bytes: u64,
    /// The last revision in the file, if the server tells it.
    pub(crate) revision: Option<i64>,
    /// The server's version, if it tells it.
    pub(crate) version: Option<String>,
}

/// The pieces of one snapshot, in order.
pub(crate) enum Pieces {
    Whole(Streaming<pb::SnapshotResponse>),
    Increment(Streaming<admin::SnapshotResponse>),
}

impl Connection {
    /// A whole snapshot, as every etcd has it.
    pub(crate) async fn snapshot(&self) -> Result<Pieces, Failure> {
        let call =
            |service| async move { MaintenanceClient::new(service).snapshot(pb::SnapshotRequest {}).await };
        Ok(Pieces::Whole(Box::pin(self.call(Repeat::Yes, call)).await?))
    }

    /// What came after a revision; Barque only.
    pub(crate) async fn snapshot_since(&self, since: i64) -> Result<Pieces, Failure> {
        let call = |service| async move {
            AdminClient::new(service).snapshot(admin::SnapshotRequest { since }).await
        };
        Ok(Pieces::Increment(Box::pin(self.call(Repeat::Yes, call)).await?))
    }
}

impl Pieces {
    /// The next piece; `None` after the last one.
    ///
    /// # Errors
    /// When the stream breaks.
    pub(crate) async fn next(&mut self) -> Result<Option<Piece>, Failure> {
        let broken = |status: Status| {
            Failure::Interrupted(format!("the snapshot broke off on its way: {}", status.message()))
        };
        let told = |header: Option<pb::ResponseHeader>| header.map(|header| header.revision);
        Ok(match self {
            Self::Whole(pieces) => pieces.message().await.map_err(broken)?.map(|piece| Piece {
                blob: piece.blob,
                remaining_bytes: piece.remaining_bytes,
                revision: told(piece.header).filter(|revision| *revision > 0),
                version: Some(piece.version).filter(|version| !version.is_empty()),
            }),
            Self::Increment(pieces) => pieces.message().await.map_err(broken)?.map(|piece| Piece {
                blob: piece.blob,
                remaining_bytes: piece.remaining_bytes,
                revision: told(piece.header),
                version: None,
            }),
        })
    }
}
