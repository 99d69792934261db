//! Writes records to the active segment: the synchronous core of the log, without threads or channels.
//!
//! Records are collected in memory and go out in one write and one sync. Nothing is written before
//! what was written earlier is synced, so only the last batch of the last segment can be torn by a crash, and
//! a segment is complete before the next one begins. After an error nothing is written any more: what
//! the failed sync lost is unknown, and a second sync may report success for it.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::disk::Disk;
use super::format::{
    LogEntry, MAX_RECORD_BYTES, Record, RecordPlace, SEGMENT_HEADER_BYTES, SegmentHeader, Standing,
};
use super::segment::{Housekeeper, Obsolete, Segment, activate};
use super::{Identity, WalMetrics};

/// A segment that exists, and the last entry index ever written into it.
#[derive(Clone)]
pub(super) struct HeldSegment {
    pub(super) segment: Arc<Segment>,
    pub(super) last_index: Option<u64>,
    pub(super) bytes: u64,
}

/// An entry that is now on disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoredAt {
    pub(super) index: u64,
    pub(super) ordinal: u32,
    pub(super) segment: u32,
    pub(super) offset: u32,
}

pub(super) struct JournalConfig {
    pub(super) identity: Identity,
    pub(super) segment_bytes: u32,
    pub(super) batch_bytes: u32,
}

/// Where to go on writing: what recovery found.
pub(super) struct JournalState {
    /// Oldest first; the last one is written to.
    pub(super) segments: VecDeque<HeldSegment>,
    /// End of the last record.
    pub(super) offset: u32,
    /// Checksum of the last record.
    pub(super) crc: u32,
    pub(super) standing: Standing,
}

pub(super) struct Journal {
    disk: Arc<dyn Disk>,
    config: JournalConfig,
    housekeeper: Housekeeper,
    metrics: Arc<dyn WalMetrics>,
    size_on_disk: Arc<AtomicU64>,
    segments: VecDeque<HeldSegment>,
    /// End of what is synced in the active segment.
    offset: u32,
    /// Records that are not written yet; they belong at `offset`.
    buffer: Vec<u8>,
    /// Checksum of the last record, written or not.
    crc: u32,
    /// With the records in `buffer`.
    standing: Standing,
    stored: Vec<StoredAt>,
    opened: Vec<Arc<Segment>>,
    failed: bool,
}

impl Journal {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        config: JournalConfig,
        state: JournalState,
        housekeeper: Housekeeper,
        metrics: Arc<dyn WalMetrics>,
        size_on_disk: Arc<AtomicU64>,
    ) -> Self {
        housekeeper.want_segment();
        Self {
            disk,
            config,
            housekeeper,
            metrics,
            size_on_disk,
            segments: state.segments,
            offset: state.offset,
            buffer: Vec::new(),
            crc: state.crc,
            standing: state.standing,
            stored: Vec::new(),
            opened: Vec::new(),
            failed: false,
        }
    }

    fn active(&self) -> &HeldSegment {
        self.segments.back().expect("there always is an active segment")
    }

    pub(super) fn segments(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.segments.iter().map(|held| &held.segment)
    }

    /// What the log will hold when everything pushed so far is written.
    pub(super) fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Whether something is waiting for [`Self::commit`].
    pub(super) fn is_dirty(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Adds an entry; see [`Self::push`].
    pub(super) fn push_entry(&mut self, entry: &LogEntry, ordinal: u32) -> io::Result<()> {
        self.push(&entry.record())?;
        let index = entry.position.index;
        let offset = self.end() - u32::try_from(entry.encoded_bytes()).expect("it was just encoded");
        let active = self.segments.back_mut().expect("there always is an active segment");
        active.last_index = active.last_index.max(Some(index));
        self.stored.push(StoredAt { index, ordinal, segment: active.segment.sequence, offset });
        Ok(())
    }

    fn end(&self) -> u32 {
        self.offset + u32::try_from(self.buffer.len()).expect("batches are limited")
    }

    /// Adds a record to the batch. Writes and syncs what came before, when the batch or the segment is full.
    pub(super) fn push(&mut self, record: &Record<'_>) -> io::Result<()> {
        self.refuse_after_failure()?;
        let size = record.encoded_bytes();
        if size > MAX_RECORD_BYTES {
            let reason = format!("a log entry of {size} bytes is over the limit of {MAX_RECORD_BYTES}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        let size = u32::try_from(size).expect("MAX_RECORD_BYTES fits");
        let batch = u32::try_from(self.buffer.len()).expect("batches are limited");
        if batch > 0
            && (batch + size > self.config.batch_bytes || self.end() + size > self.config.segment_bytes)
        {
            self.commit()?;
        }
        // A record that fits in no segment gets one that grows.
        if self.buffer.is_empty()
            && self.offset > SEGMENT_HEADER_BYTES
            && self.offset + size > self.config.segment_bytes
        {
            let rolled = self.roll();
            self.note(rolled)?;
        }
        let place = RecordPlace { nonce: self.active().segment.nonce, offset: self.end() };
        self.crc = record.encode(place, self.crc, self.offset, &mut self.buffer);
        self.standing.apply(record);
        Ok(())
    }

    /// Writes and syncs the batch. Everything pushed is durable when this returns without an error.
    pub(super) fn commit(&mut self) -> io::Result<()> {
        self.refuse_after_failure()?;
        if self.buffer.is_empty() {
            return Ok(());
        }
        let written = self.write();
        self.note(written)
    }

    fn write(&mut self) -> io::Result<()> {
        let file = &self.active().segment.file;
        let start = Instant::now();
        file.write_at(&self.buffer, u64::from(self.offset))?;
        let written = Instant::now();
        self.metrics.written(self.buffer.len() as u64, written - start);
        file.sync()?;
        self.metrics.synced(written.elapsed());
        self.offset = self.end();
        self.buffer.clear();
        // One huge batch must not hold its memory for ever.
        self.buffer.shrink_to(self.config.batch_bytes as usize);
        let end = u64::from(self.offset);
        let active = self.segments.back_mut().expect("there always is an active segment");
        if end > active.bytes {
            self.size_on_disk.fetch_add(end - active.bytes, Ordering::Relaxed);
            active.bytes = end;
        }
        Ok(())
    }

    fn roll(&mut self) -> io::Result<()> {
        let file = self.housekeeper.take_segment()?;
        let header = SegmentHeader {
            cluster_id: self.config.identity.cluster_id.0,
            member_id: self.config.identity.member_id.0,
            sequence: self.active().segment.sequence + 1,
            previous_end: self.offset,
            previous_crc: self.crc,
            nonce: rand::random(),
            standing: self.standing,
        };
        let (segment, crc) = activate(&*self.disk, file, &header)?;
        let segment = Arc::new(segment);
        let bytes = u64::from(self.config.segment_bytes);
        self.segments.push_back(HeldSegment { segment: segment.clone(), last_index: None, bytes });
        self.opened.push(segment);
        self.offset = SEGMENT_HEADER_BYTES;
        self.crc = crc;
        self.housekeeper.want_segment();
        Ok(())
    }

    fn refuse_after_failure(&self) -> io::Result<()> {
        if self.failed {
            return Err(io::Error::other("the log stopped after an earlier failure"));
        }
        Ok(())
    }

    fn note(&mut self, result: io::Result<()>) -> io::Result<()> {
        self.failed |= result.is_err();
        result
    }

    /// The entries and the segments that came into being since the last call. Right after a commit.
    pub(super) fn take_stored(&mut self) -> (Vec<StoredAt>, Vec<Arc<Segment>>) {
        debug_assert!(!self.is_dirty(), "only what is synced is stored");
        (std::mem::take(&mut self.stored), std::mem::take(&mut self.opened))
    }

    /// Has the segments deleted in which nothing is left that is not purged, and returns the first sequence
    /// that stays. Right after a commit: the purge must be durable before files go.
    pub(super) fn release_purged(&mut self) -> u32 {
        debug_assert!(!self.is_dirty(), "the purge is durable");
        let purged = self.standing.purged.map(|purged| purged.index);
        let mut obsolete = Vec::new();
        while self.segments.len() > 1 && self.segments[0].last_index <= purged {
            if let Some(held) = self.segments.pop_front() {
                obsolete.push(Obsolete { sequence: held.segment.sequence, bytes: held.bytes });
            }
        }
        if !obsolete.is_empty() {
            self.housekeeper.remove(obsolete);
        }
        self.segments[0].segment.sequence
    }
}
