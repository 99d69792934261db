//! How far a migration is: a key in the destination, written with the data that it is about.

use std::fmt;

use barque_proto::etcdserverpb as pb;
use barque_proto::etcdserverpb::request_op::Request;
use serde::{Deserialize, Serialize};

use crate::connection::Connection;
use crate::error::Failure;

/// Positions lie below this; no migration copies these keys.
pub(super) const PREFIX: &str = "kvctl/migrate/";

/// The two parts of a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Phase {
    /// The keys of one revision are copied in order.
    Copy,
    /// Later events are applied.
    Follow,
}

/// The state of a migration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    #[serde(skip)]
    source_id: u64,
    pub(super) phase: Phase,
    /// While copying: the revision that is copied; 0 before it is chosen. While following: everything up to it is
    /// in the destination.
    pub(super) revision: i64,
    /// While copying: the next key.
    pub(super) next_key: Vec<u8>,
    /// Keys copied and events applied.
    pub(super) keys: u64,
    pub(super) events: u64,
}

impl Position {
    pub(super) fn new(source_id: u64) -> Self {
        Self { source_id, phase: Phase::Copy, revision: 0, next_key: Vec::new(), keys: 0, events: 0 }
    }

    /// Copies from the first key on, at a new revision.
    pub(super) fn begin_again(&mut self) {
        *self = Self { events: self.events, ..Self::new(self.source_id) };
    }

    fn key(source_id: u64) -> Vec<u8> {
        format!("{PREFIX}{source_id:016x}").into_bytes()
    }

    /// What an earlier run has left.
    pub(super) async fn read(destination: &Connection, source_id: u64) -> Result<Option<Self>, Failure> {
        let key = Self::key(source_id);
        let answer = destination.range(pb::RangeRequest { key: key.into(), ..Default::default() }).await?;
        let Some(kv) = answer.kvs.first() else { return Ok(None) };
        let position: Self = serde_json::from_slice(&kv.value).map_err(|why| {
            Failure::Input(format!("the key {PREFIX}{source_id:016x} of the destination is no position of a migration ({why}): delete it to begin again"))
        })?;
        Ok(Some(Self { source_id, ..position }))
    }

    /// The operation that writes it, for the transaction that gets there.
    pub(super) fn operation(&self) -> Result<pb::RequestOp, Failure> {
        let value = serde_json::to_vec(self).map_err(|why| Failure::Verdict(why.to_string()))?;
        let put = pb::PutRequest {
            key: Self::key(self.source_id).into(),
            value: value.into(),
            ..Default::default()
        };
        Ok(pb::RequestOp { request: Some(Request::RequestPut(put)) })
    }

    /// The migration is over.
    pub(super) async fn delete(&self, destination: &Connection) -> Result<(), Failure> {
        let request = pb::DeleteRangeRequest { key: Self::key(self.source_id).into(), ..Default::default() };
        destination.delete_range(request).await.map(drop)
    }
}

/// The last words of a run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    phase: Phase,
    source_revision: i64,
    keys: u64,
    events: u64,
    finished: bool,
}

impl Report {
    pub(super) fn of(position: &Position, finished: bool) -> Self {
        let Position { phase, revision, keys, events, .. } = *position;
        Self { phase, source_revision: revision, keys, events, finished }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { phase, source_revision, keys, events, finished } = self;
        let done = format!("{keys} keys copied, {events} events followed");
        match (finished, phase) {
            (true, _) => {
                writeln!(f, "finished: {done}; the destination is the source at revision {source_revision}")
            }
            (false, Phase::Follow) => writeln!(
                f,
                "{done}; the destination is the source at revision {source_revision}: run again to follow, or with --finish"
            ),
            (false, Phase::Copy) => writeln!(f, "{done}; copying is not complete: run again to go on"),
        }
    }
}
