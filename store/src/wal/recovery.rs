//! Opening the log: finds what is there, cuts what a crash tore, refuses what is damaged.
//!
//! # Torn or damaged
//!
//! Records are written in batches: one write, one sync, and no write before the sync of the one before
//! has succeeded. A crash therefore can only spoil the last batch of the last segment, and nothing in that
//! batch was acknowledged. But it can spoil it in any way: the disk writes sectors in any order, so a
//! valid record may stand behind an invalid one.
//!
//! So each record carries the offset up to which the segment was synced when it was written (where its batch
//! begins). When a record at offset X is not valid, the rest of the segment is searched for valid
//! records (they are recognised anywhere: each checksum covers a random number of the segment and the
//! record's own offset):
//!
//! - One says that the segment was synced beyond X. Then the record at X had been on disk before, and
//!   acknowledged perhaps: the log is **damaged**, and opening it fails.
//! - None does. Then what is at X was written by the last batch: it is **torn**. The rest is filled with zeros and synced
//!   before anything is written there, and the log ends at X.
//!
//! A segment that is not the last one must be valid up to the end that the header of the next one names, with
//! the checksum that it names, and its content must lead to the state that the header repeats.
//! Sequence numbers show a missing segment; and at the start of the log, entries that the first
//! header knows of and that no record purged.
//!
//! What cannot be told from a torn write is damage to the very last batch, as nothing later vouches for it.
//! A clean close therefore ends with a mark, which vouches for everything before it.
//!
//! What was read may not be durable yet (a killed process leaves it in the page cache), so the last segment
//! is synced before anybody acts on it. And a sync alone may do nothing: after one that failed, the page cache holds what
//! the disk has not, and takes it for written. So the last batch, the only one that can be such, is written again first.

use std::collections::VecDeque;
use std::sync::Arc;

use super::disk::{Disk, DiskFile};
use super::format::{
    FoundRecord, HeaderError, LogEntry, Record, RecordPlace, SEGMENT_HEADER_BYTES, SegmentHeader, Standing,
    decode_record,
};
use super::index::{LogIndex, Place};
use super::journal::{HeldSegment, JournalState};
use super::segment::{Housekeeper, Segment, activate, is_temporary, segment_name, sequence_of};
use super::{Identity, WalError};

const RECORD_ALIGNMENT: usize = 8;

pub(super) struct RecoveryConfig {
    pub(super) identity: Identity,
    pub(super) cache_bytes: u64,
}

pub(super) struct Recovery {
    pub(super) journal: JournalState,
    pub(super) index: LogIndex,
    /// Bytes behind the last valid record that were not zero.
    pub(super) torn_bytes: u64,
}

/// Reads the log. The housekeeper makes the first segment of a new one.
pub(super) fn recover(
    disk: &dyn Disk,
    config: &RecoveryConfig,
    housekeeper: &Housekeeper,
) -> Result<Recovery, WalError> {
    let mut sequences = Vec::new();
    for name in disk.list().map_err(WalError::io("list the log's directory"))? {
        if is_temporary(&name) {
            disk.remove(&name).map_err(WalError::io("delete an unfinished segment"))?;
        } else if let Some(sequence) = sequence_of(&name) {
            sequences.push(sequence);
        }
    }
    sequences.sort_unstable();
    if sequences.is_empty() {
        return create(disk, config, housekeeper);
    }
    if let Some(pair) = sequences.windows(2).find(|pair| pair[0] + 1 != pair[1]) {
        return Err(missing(disk, pair[0] + 1));
    }
    // A removal, or the name of the last segment, may not be durable yet.
    disk.sync_directory().map_err(WalError::io("sync the log's directory"))?;

    let mut segments = Vec::with_capacity(sequences.len());
    for sequence in sequences {
        segments.push(open_segment(disk, config, sequence)?);
    }
    let mut scan = Scan::new(disk, config, &segments[0]);
    for (at, opened) in segments.iter().enumerate() {
        scan.segment(opened, segments.get(at + 1))?;
    }
    let last = segments.last().expect("there is one");
    scan.nothing_is_absent(&segments[0])?;
    let torn_bytes = scan.cut_tail(last)?;

    let mut held = VecDeque::with_capacity(segments.len());
    for (opened, last_index) in segments.into_iter().zip(scan.last_indexes) {
        held.push_back(HeldSegment { segment: opened.segment, last_index, bytes: opened.bytes });
    }
    let journal =
        JournalState { segments: held, offset: scan.offset, crc: scan.crc, standing: scan.standing };
    Ok(Recovery { journal, index: scan.index, torn_bytes })
}

fn create(disk: &dyn Disk, config: &RecoveryConfig, housekeeper: &Housekeeper) -> Result<Recovery, WalError> {
    let header = SegmentHeader {
        cluster_id: config.identity.cluster_id.0,
        member_id: config.identity.member_id.0,
        sequence: 1,
        previous_end: 0,
        previous_crc: 0,
        nonce: rand::random(),
        standing: Standing::default(),
    };
    let created = housekeeper.take_segment().and_then(|file| {
        let bytes = file.length()?;
        activate(disk, file, &header).map(|(segment, crc)| (segment, crc, bytes))
    });
    let (segment, crc, bytes) = created.map_err(WalError::io("create the first segment of the log"))?;
    let held = HeldSegment { segment: Arc::new(segment), last_index: None, bytes };
    let journal = JournalState {
        segments: VecDeque::from([held]),
        offset: SEGMENT_HEADER_BYTES,
        crc,
        standing: header.standing,
    };
    Ok(Recovery { journal, index: LogIndex::default(), torn_bytes: 0 })
}

struct OpenedSegment {
    segment: Arc<Segment>,
    header: SegmentHeader,
    header_crc: u32,
    bytes: u64,
}

fn open_segment(disk: &dyn Disk, config: &RecoveryConfig, sequence: u32) -> Result<OpenedSegment, WalError> {
    let name = segment_name(sequence);
    let path = disk.path_of(&name);
    let io = |source| WalError::Io { action: format!("read {}", path.display()), source };
    let damaged = |detail: String| WalError::Damaged { path: path.clone(), offset: 0, detail };
    let file = disk.open(&name).map_err(io)?;
    let bytes = file.length().map_err(io)?;
    if bytes < u64::from(SEGMENT_HEADER_BYTES) {
        return Err(damaged(HeaderError::NotASegment.to_string()));
    }
    let start = read(&*file, 0, SEGMENT_HEADER_BYTES as usize).map_err(io)?;
    let (header, header_crc) = match SegmentHeader::decode(&start) {
        Ok(decoded) => decoded,
        Err(HeaderError::Version(found)) => return Err(WalError::Version { path, found }),
        Err(error) => return Err(damaged(error.to_string())),
    };
    let found = Identity::of(&header);
    if found != config.identity {
        return Err(WalError::Foreign { path, found, expected: config.identity });
    }
    if header.sequence != sequence {
        return Err(damaged(format!(
            "it is segment {} under the name of segment {sequence}",
            header.sequence
        )));
    }
    let segment = Arc::new(Segment { sequence, nonce: header.nonce, file });
    Ok(OpenedSegment { segment, header, header_crc, bytes })
}

fn read(file: &dyn DiskFile, offset: u64, bytes: usize) -> std::io::Result<Vec<u8>> {
    let mut buffer = vec![0; bytes];
    file.read_at(&mut buffer, offset)?;
    Ok(buffer)
}

fn missing(disk: &dyn Disk, sequence: u32) -> WalError {
    WalError::Damaged {
        path: disk.path_of(&segment_name(sequence)),
        offset: 0,
        detail: "this segment is missing, but entries in it are still needed".into(),
    }
}

struct Scan<'a> {
    disk: &'a dyn Disk,
    cache_bytes: u64,
    standing: Standing,
    index: LogIndex,
    /// Entries that were live when the first segment began: from, to (exclusive). They were in segments that
    /// are gone, and must turn out to be purged.
    absent: (u64, u64),
    last_indexes: Vec<Option<u64>>,
    offset: u32,
    crc: u32,
    /// Where the last batch of the last segment begins, and its valid records.
    last_batch_from: u32,
    last_batch: Vec<u8>,
    /// What follows the last valid record of the last segment.
    tail: Vec<u8>,
}

impl<'a> Scan<'a> {
    fn new(disk: &'a dyn Disk, config: &RecoveryConfig, first: &OpenedSegment) -> Self {
        let standing = first.header.standing;
        let absent = (standing.first_index, standing.next_index().unwrap_or(0));
        Self {
            disk,
            cache_bytes: config.cache_bytes,
            standing,
            index: LogIndex::default(),
            absent,
            last_indexes: Vec::new(),
            offset: SEGMENT_HEADER_BYTES,
            crc: 0,
            last_batch_from: SEGMENT_HEADER_BYTES,
            last_batch: Vec::new(),
            tail: Vec::new(),
        }
    }

    fn damaged(&self, opened: &OpenedSegment, offset: u32, detail: String) -> WalError {
        let path = self.disk.path_of(&segment_name(opened.header.sequence));
        WalError::Damaged { path, offset: offset.into(), detail }
    }

    /// Reads one segment; `next` is the one that follows, if there is one.
    fn segment(&mut self, opened: &OpenedSegment, next: Option<&OpenedSegment>) -> Result<(), WalError> {
        if opened.header.standing != self.standing {
            let detail = "its header does not continue the segment before".into();
            return Err(self.damaged(opened, 0, detail));
        }
        let path = self.disk.path_of(&segment_name(opened.header.sequence));
        let size = usize::try_from(opened.bytes).map_err(|_| {
            self.damaged(opened, 0, format!("it is {} bytes long, which no segment is", opened.bytes))
        })?;
        let content = read(&*opened.segment.file, 0, size)
            .map_err(|source| WalError::Io { action: format!("read {}", path.display()), source })?;
        self.last_indexes.push(None);
        self.offset = SEGMENT_HEADER_BYTES;
        self.last_batch_from = SEGMENT_HEADER_BYTES;
        self.crc = opened.header_crc;
        loop {
            if next.is_some_and(|next| next.header.previous_end == self.offset) {
                break;
            }
            let place = RecordPlace { nonce: opened.header.nonce, offset: self.offset };
            let rest = content.get(self.offset as usize..).unwrap_or_default();
            match decode_record(rest, place) {
                Some(found) if found.previous_crc == self.crc => self.record(opened, &found)?,
                _ if next.is_some() => {
                    let detail = "a record in the middle of the log is damaged".into();
                    return Err(self.damaged(opened, self.offset, detail));
                }
                _ => break,
            }
        }
        match next {
            Some(next) if next.header.previous_crc != self.crc => {
                let detail = "the segment after it was not written behind this content".into();
                Err(self.damaged(opened, self.offset, detail))
            }
            Some(_) => Ok(()),
            None => {
                let batch = self.last_batch_from as usize..self.offset as usize;
                self.last_batch = content.get(batch).unwrap_or_default().to_vec();
                self.tail = content.get(self.offset as usize..).unwrap_or_default().to_vec();
                self.tail_is_not_damaged(opened)
            }
        }
    }

    fn record(&mut self, opened: &OpenedSegment, found: &FoundRecord<'_>) -> Result<(), WalError> {
        match found.record {
            Record::Entry { position, kind, payload } => {
                if self.standing.next_index().is_some_and(|next| next != position.index) {
                    let detail = format!("entry {} does not follow the entry before it", position.index);
                    return Err(self.damaged(opened, self.offset, detail));
                }
                let place = Place::Stored { segment: opened.header.sequence, offset: self.offset };
                self.index.append(LogEntry::from_record(position, kind, payload), place);
                self.index.evict(self.cache_bytes);
                if let Some(last) = self.last_indexes.last_mut() {
                    *last = (*last).max(Some(position.index));
                }
            }
            Record::Truncate { last } => {
                self.index.truncate(last.map(|last| last.index));
                self.absent.1 = self.absent.1.min(last.map_or(0, |last| last.index + 1));
            }
            Record::Purged(position) => {
                self.index.purge(position.index);
                self.absent.0 = self.absent.0.max(position.index + 1);
            }
            Record::Vote(_) | Record::Committed(_) | Record::Mark => {}
        }
        self.standing.apply(&found.record);
        self.last_batch_from = found.synced_to;
        self.crc = found.crc;
        self.offset += u32::try_from(found.encoded_bytes)
            .map_err(|_| self.damaged(opened, self.offset, "a record is too long".into()))?;
        Ok(())
    }

    fn nothing_is_absent(&self, first: &OpenedSegment) -> Result<(), WalError> {
        if self.absent.0 < self.absent.1 {
            return Err(missing(self.disk, first.header.sequence.saturating_sub(1)));
        }
        Ok(())
    }

    /// See the module's documentation.
    fn tail_is_not_damaged(&self, opened: &OpenedSegment) -> Result<(), WalError> {
        for at in (0..self.tail.len()).step_by(RECORD_ALIGNMENT) {
            let Ok(step) = u32::try_from(at) else { break };
            let place = RecordPlace { nonce: opened.header.nonce, offset: self.offset + step };
            if let Some(later) = decode_record(&self.tail[at..], place)
                && later.synced_to > self.offset
            {
                let detail = format!(
                    "a record is damaged that was safely on disk before the one at offset {} was written",
                    place.offset
                );
                return Err(self.damaged(opened, self.offset, detail));
            }
        }
        Ok(())
    }

    /// Fills the tail with zeros when a crash left something in it, and makes what was read durable.
    fn cut_tail(&self, last: &OpenedSegment) -> Result<u64, WalError> {
        let path = self.disk.path_of(&segment_name(last.header.sequence));
        let torn = self.tail.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
        if torn > 0 {
            tracing::info!(
                path = %path.display(), offset = self.offset, bytes = torn,
                "cutting an unfinished write off the end of the log"
            );
        }
        let rewritten = [&*self.last_batch, &vec![0; torn]].concat();
        if !rewritten.is_empty() {
            last.segment.file.write_at(&rewritten, self.last_batch_from.into()).map_err(|source| {
                WalError::Io { action: format!("write the end of {} again", path.display()), source }
            })?;
        }
        last.segment
            .file
            .sync()
            .map_err(|source| WalError::Io { action: format!("sync {}", path.display()), source })?;
        Ok(torn as u64)
    }
}
