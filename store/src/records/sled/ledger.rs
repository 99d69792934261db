//! What is known of one engine's content without reading it: which records, their bytes, and what of them the engine
//! keeps in memory. Right only if every change goes through it.

use super::super::engine::{Db, LEAF_FANOUT};
use super::super::value::{KEY_LEN, Totals, encode_key, encode_value, stored_bytes};
use super::{Fault, io_fault};
use crate::ids::SubRevision;
use crate::stored::StoredVersion;

/// The books of one engine.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) totals: Totals,
    /// Bytes of the records, before they are packed.
    live_bytes: u64,
    /// The most that there were in the engine's files, as far as is known.
    peak_bytes: u64,
    /// About what the engine keeps in memory of what was written since it was opened.
    kept_bytes: u64,
    /// Removals since the last flush, and the bytes they removed.
    removed: (u64, u64),
}

impl Ledger {
    /// Of an engine that was just opened.
    pub(super) fn new(totals: Totals, live_bytes: u64) -> Self {
        Self { totals, live_bytes, peak_bytes: live_bytes, ..Self::default() }
    }

    pub(super) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    pub(super) fn peak_bytes(&self) -> u64 {
        self.peak_bytes
    }

    /// Removes records, one by one, since a batch leaves emptied leaves behind for ever.
    pub(super) fn remove(&mut self, db: &Db, places: impl Iterator<Item = SubRevision>) -> Result<(), Fault> {
        for at in places {
            if let Some(value) = db.remove(encode_key(at)).map_err(io_fault)? {
                let bytes = (KEY_LEN + value.len()) as u64;
                self.totals.remove(at);
                self.live_bytes = self.live_bytes.saturating_sub(bytes);
                self.removed = (self.removed.0 + 1, self.removed.1 + bytes);
            }
        }
        Ok(())
    }

    /// A batch that puts records; the caller applies it.
    pub(super) fn put<'a>(
        &mut self,
        db: &Db,
        versions: impl Iterator<Item = &'a StoredVersion>,
    ) -> Result<::sled::Batch, Fault> {
        let mut batch = ::sled::Batch::default();
        let mut value = vec![];
        for version in versions {
            let key = encode_key(version.at);
            let bytes = stored_bytes(version);
            if version.at > self.totals.high || !db.contains_key(key).map_err(io_fault)? {
                self.totals.add(version.at);
                self.live_bytes += bytes;
            }
            encode_value(&key, version, &mut value);
            self.kept_bytes += bytes;
            batch.insert(&key[..], &value[..]);
        }
        self.peak_bytes = self.peak_bytes.max(self.live_bytes);
        Ok(batch)
    }

    /// A flush wrote so many leaves; about the bytes that the engine keeps then. A removal keeps its whole leaf in
    /// memory: at most one for each removal, and for each leaf flushed.
    pub(super) fn flushed(&mut self, leaves: u64) -> u64 {
        let (records, bytes) = std::mem::take(&mut self.removed);
        let leaf_bytes = bytes / records.max(1) * LEAF_FANOUT as u64;
        self.kept_bytes += records.min(leaves) * leaf_bytes;
        self.kept_bytes
    }

    /// The engine was opened anew.
    pub(super) fn nothing_is_kept(&mut self) {
        self.kept_bytes = 0;
    }
}
