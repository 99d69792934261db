//! The state at start: from the record store if it can be trusted and is the newest, else from the newest
//! snapshot; the log brings the rest.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::ids::{Revision, SubRevision};
use crate::mvcc::builder::KeyspaceBuilder;
use crate::mvcc::event::ColdHistory;
use crate::mvcc::keyspace::{Config as HistoryConfig, NEVER_COMPACTED};
use crate::record::Record;
use crate::records::{
    RecordBatch, RecordStore, RecordWriter, RecordsError, RecordsMetrics, SledOptions, SledRecords,
    WriterOptions,
};
use crate::snapshot::{self, SnapshotError, SnapshotFile, SnapshotReader};
use crate::state::State;
use crate::stored::{StateMeta, StoredVersion};

/// Records handed to the record store in one batch while it is filled from a snapshot.
const FILL_RECORDS: usize = 4096;

/// The state could not be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A snapshot is damaged.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The record store cannot even be made anew.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// Its thread cannot be started.
    #[error("the record store cannot work: {0}")]
    Writer(String),
}

/// A restored state.
pub struct Restored {
    /// The state.
    pub state: State,
    /// What came with it.
    pub meta: StateMeta,
    /// The newest snapshot, if there is one.
    pub snapshot: Option<SnapshotFile>,
    /// Where records go from now on.
    pub records: Arc<RecordWriter>,
}

/// A record store that was opened.
pub struct OpenRecords {
    /// The store.
    pub store: Box<dyn RecordStore>,
    /// All that it holds, in order.
    pub versions: Vec<StoredVersion>,
    /// How it was found, for the log.
    pub found: String,
}

/// Opens the record store in a directory, or makes it. Blocks.
///
/// # Errors
/// When not even an empty one can be made.
pub fn open_sled(dir: &Path) -> Result<OpenRecords, RecordsError> {
    let mut versions = Vec::new();
    let (store, opened) = SledRecords::open(dir, SledOptions::default(), &mut |v| versions.push(v))?;
    Ok(OpenRecords { store: Box::new(store), versions, found: format!("{opened:?}") })
}

/// Restores the state of a member, on a record store that `open_records` opens. Blocks. `metrics` hears of the records
/// from then on.
///
/// # Errors
/// When the log needs a snapshot that is damaged, or the disk fails.
pub fn restore(
    snapshots: &Path,
    open_records: impl FnOnce() -> Result<OpenRecords, RecordsError>,
    metrics: impl RecordsMetrics,
) -> Result<Restored, RestoreError> {
    let began = Instant::now();
    snapshot::directory::clean(snapshots)?;
    let newest = newest_snapshot(snapshots)?;
    let snapshot_index = newest.as_ref().map_or(0, |(file, _)| file.applied_index);
    let OpenRecords { store, versions, found: opened } = open_records()?;
    let meta = store.meta()?;
    let took_ms = began.elapsed().as_millis();
    tracing::info!(opened, versions = versions.len(), took_ms, "the records are read");
    let failed = |error: &RecordsError| {
        tracing::error!(%error, "records are not written any more; nothing is lost, but memory keeps all history");
    };
    let records = RecordWriter::start(store, WriterOptions::default(), metrics, failed);
    let records = Arc::new(records.map_err(RestoreError::Writer)?);
    if let Some(meta) = meta.filter(|meta| meta.applied_index >= snapshot_index) {
        let mut builder = builder(&meta, &records);
        versions.into_iter().for_each(|version| builder.push(version));
        let state = State::restore(builder.finish(), &meta);
        tracing::info!(took_ms = began.elapsed().as_millis(), "the keyspace is built");
        return Ok(Restored { state, meta, snapshot: newest.map(|(file, _)| file), records });
    }
    drop(versions);
    match newest {
        Some((file, mut reader)) => {
            tracing::info!(file = %file.path.display(), opened, "the state is restored from a snapshot");
            let meta = reader.manifest().state.clone();
            let state = from_snapshot(&mut reader, &records)?;
            Ok(Restored { state, meta, snapshot: Some(file), records })
        }
        None => {
            records.clear();
            let meta = StateMeta {
                revision: Revision::EMPTY,
                compact_revision: NEVER_COMPACTED,
                ..Default::default()
            };
            let state = State::restore(builder(&meta, &records).finish(), &meta);
            Ok(Restored { state, meta, snapshot: None, records })
        }
    }
}

fn builder(meta: &StateMeta, records: &Arc<RecordWriter>) -> KeyspaceBuilder {
    let cold: Arc<dyn ColdHistory> = Arc::new(Cold(Arc::clone(records)));
    KeyspaceBuilder::new(meta.revision, meta.compact_revision, HistoryConfig::default(), Some(cold))
}

/// The newest snapshot whose head can be read; its content is verified as it is read.
fn newest_snapshot(dir: &Path) -> Result<Option<(SnapshotFile, SnapshotReader)>, SnapshotError> {
    let Some(path) = snapshot::directory::list(dir)?.into_iter().next() else { return Ok(None) };
    let reader = SnapshotReader::open(&path)?.whole()?;
    Ok(Some((reader.described(), reader)))
}

/// Reads a whole snapshot, and fills the record store with it. Blocks.
///
/// # Errors
/// When the snapshot is damaged. The record store then holds a part without a state, which the next
/// start throws away.
pub fn from_snapshot(
    reader: &mut SnapshotReader,
    records: &Arc<RecordWriter>,
) -> Result<State, RestoreError> {
    let meta = reader.manifest().state.clone();
    records.clear();
    let mut builder = builder(&meta, records);
    let mut put = Vec::with_capacity(FILL_RECORDS);
    for version in reader {
        let version = version?;
        put.push(version.clone());
        builder.push(version);
        if put.len() == FILL_RECORDS {
            let put = std::mem::replace(&mut put, Vec::with_capacity(FILL_RECORDS));
            records.hand_over(RecordBatch { put, ..RecordBatch::default() });
        }
    }
    records.hand_over(RecordBatch { put, remove: Vec::new(), meta: Some(meta.clone()) });
    Ok(State::restore(builder.finish(), &meta))
}

/// History that memory gave up.
struct Cold(Arc<RecordWriter>);

impl ColdHistory for Cold {
    fn scan(&self, from: SubRevision, limit: usize) -> Result<Vec<StoredVersion>, String> {
        self.0.scan(from, limit)
    }

    fn get(&self, at: SubRevision) -> Result<Option<Record>, String> {
        self.0.get(at)
    }
}
