//! A record store without a disk, for tests and simulations of what is above it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use parking_lot::Mutex;

use super::{RecordBatch, RecordStore, RecordsError, Shrink};
use crate::ids::SubRevision;
use crate::stored::{StateMeta, StoredVersion};

/// Keeps everything in one map. Lost when dropped.
#[derive(Debug, Default)]
pub struct MemoryRecords(Mutex<Content>);

#[derive(Debug, Default)]
struct Content {
    records: BTreeMap<SubRevision, StoredVersion>,
    meta: Option<StateMeta>,
    closed: bool,
}

impl MemoryRecords {
    fn content(&self) -> Result<parking_lot::MutexGuard<'_, Content>, RecordsError> {
        let content = self.0.lock();
        if content.closed { Err(RecordsError::Closed) } else { Ok(content) }
    }
}

impl RecordStore for MemoryRecords {
    fn apply(&self, mut batch: RecordBatch) -> Result<(), RecordsError> {
        batch.cancel_out();
        let mut content = self.content()?;
        content.records.extend(batch.put.into_iter().map(|v| (v.at, v)));
        for at in &batch.remove {
            content.records.remove(at);
        }
        content.meta = batch.meta;
        Ok(())
    }

    fn flush(&self) -> Result<(), RecordsError> {
        self.content().map(|_| ())
    }

    fn load(&self, visit: &mut dyn FnMut(StoredVersion)) -> Result<(), RecordsError> {
        self.content()?.records.values().cloned().for_each(visit);
        Ok(())
    }

    fn scan(
        &self,
        from: SubRevision,
        visit: &mut dyn FnMut(StoredVersion) -> ControlFlow<()>,
    ) -> Result<(), RecordsError> {
        let _ = self.content()?.records.range(from..).map(|(_, v)| v.clone()).try_for_each(visit);
        Ok(())
    }

    fn get(&self, at: SubRevision) -> Result<Option<StoredVersion>, RecordsError> {
        Ok(self.content()?.records.get(&at).cloned())
    }

    fn meta(&self) -> Result<Option<StateMeta>, RecordsError> {
        Ok(self.content()?.meta.clone())
    }

    fn clear(&self) -> Result<(), RecordsError> {
        *self.content()? = Content::default();
        Ok(())
    }

    fn shrink(&self) -> Result<Shrink, RecordsError> {
        self.content().map(|_| Shrink::Idle)
    }

    fn size_on_disk(&self) -> Result<u64, RecordsError> {
        self.content().map(|_| 0)
    }

    fn close(&self) -> Result<(), RecordsError> {
        self.content()?.closed = true;
        Ok(())
    }
}
