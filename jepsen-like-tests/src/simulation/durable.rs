//! What is certainly in the log on one machine's disk: read from the bytes that were synced, without asking the member.
//!
//! Follows the log as it grows; whatever happens to the disk otherwise (power, damage, another disk) makes it read all
//! again. Must never count what a member only said.

use std::collections::BTreeMap;

use barque_store::wal::Position;
use barque_store::wal::format::{
    Record, RecordPlace, SEGMENT_HEADER_BYTES, SegmentHeader, Standing, decode_record,
};

use super::disk::SimDisk;

/// Where reading goes on.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    sequence: u32,
    nonce: u64,
    offset: usize,
    crc: u32,
}

/// The log on one disk, as far as it is synced.
#[derive(Clone, Debug, Default)]
pub struct DurableLog {
    upheavals: Option<u64>,
    cursor: Option<Cursor>,
    standing: Standing,
    /// The term of each entry.
    terms: BTreeMap<u64, u64>,
}

impl DurableLog {
    /// Whether the entry is there, or in a snapshot that stands for it.
    #[must_use]
    pub fn holds(&self, entry: Position) -> bool {
        self.standing.purged.is_some_and(|purged| entry.index <= purged.index)
            || self.terms.get(&entry.index) == Some(&entry.term)
    }

    /// Reads what came since the last call.
    pub fn follow(&mut self, disk: &SimDisk) {
        if self.upheavals != Some(disk.upheavals()) {
            *self = Self::default();
        }
        self.upheavals = Some(disk.look_at_durable(|name, bytes| {
            if name.ends_with(".wal") {
                self.segment(bytes);
            }
        }));
    }

    fn segment(&mut self, bytes: &[u8]) {
        let begins = match self.cursor {
            // The header is the costly part.
            Some(cursor) if bytes.get(32..36).is_some_and(|at| at == cursor.sequence.to_le_bytes()) => None,
            _ => SegmentHeader::decode(bytes).ok(),
        };
        match (begins, self.cursor) {
            (Some((header, crc)), before) => {
                if before.is_some_and(|before| before.sequence >= header.sequence) {
                    return;
                }
                if before.is_none() {
                    self.standing = header.standing;
                }
                let offset = SEGMENT_HEADER_BYTES as usize;
                self.cursor = Some(Cursor { sequence: header.sequence, nonce: header.nonce, offset, crc });
            }
            (None, Some(_)) => {}
            (None, None) => return,
        }
        while let Some(cursor) = &mut self.cursor {
            let Ok(offset) = u32::try_from(cursor.offset) else { return };
            let place = RecordPlace { nonce: cursor.nonce, offset };
            let rest = bytes.get(cursor.offset..).unwrap_or_default();
            let Some(found) = decode_record(rest, place) else { return };
            if found.previous_crc != cursor.crc {
                return;
            }
            cursor.offset += found.encoded_bytes;
            cursor.crc = found.crc;
            self.apply(&found.record);
        }
    }

    fn apply(&mut self, record: &Record<'_>) {
        self.standing.apply(record);
        match record {
            Record::Entry { position, .. } => {
                self.terms.insert(position.index, position.term);
            }
            Record::Truncate { last } => {
                self.terms.split_off(&last.map_or(0, |last| last.index + 1));
            }
            Record::Purged(upto) => self.terms = self.terms.split_off(&(upto.index + 1)),
            Record::Vote(_) | Record::Committed(_) | Record::Mark => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use barque_store::ids::{ClusterId, MemberId};
    use barque_store::wal::{LogEntry, Payload, Segments, Wal, WalConfig};
    use bytes::Bytes;
    use tokio::task::JoinSet;

    use super::*;
    use crate::simulation::disk::Honesty;
    use crate::simulation::machine::WriterTask;

    fn position(term: u64, index: u64) -> Position {
        Position { term, index }
    }

    async fn append(wal: &Wal, term: u64, indexes: std::ops::Range<u64>) {
        let entry = |index| LogEntry {
            position: position(term, index),
            payload: Payload::Batch(Bytes::from(vec![7; 500])),
        };
        let (tell, told) = tokio::sync::oneshot::channel();
        let done = Box::new(move |result: std::io::Result<()>| tell.send(result.is_ok()).unwrap());
        wal.append(indexes.map(entry).collect(), done).await.unwrap();
        assert!(told.await.unwrap());
    }

    /// Over several segments, with a change of term, a truncation and a purge; and the same when all is read anew.
    #[tokio::test(start_paused = true)]
    async fn a_log_is_followed_as_it_grows_and_read_anew_after_an_upheaval() {
        let disk = SimDisk::new(1);
        let mut config = WalConfig::new("/simulated".into(), ClusterId(1), MemberId(1));
        config.segment_bytes = 16 << 10;
        let tasks = Arc::default();
        let host = WriterTask { disk: disk.clone(), tasks: Arc::clone(&tasks) };
        let (wal, _) = Wal::open_on(Arc::new(disk.clone()), &config, &host, Segments::InOrder).unwrap();
        let mut followed = DurableLog::default();
        for index in 1..=40 {
            append(&wal, 1, index..index + 1).await;
            followed.follow(&disk);
            assert!(followed.holds(position(1, index)) && !followed.holds(position(1, index + 1)), "{index}");
        }
        wal.truncate_after(Some(position(1, 30))).await.unwrap();
        append(&wal, 2, 31..33).await;
        wal.purge(position(1, 10)).await.unwrap();
        append(&wal, 2, 33..34).await;
        disk.set_honesty(Honesty::Late);
        append(&wal, 2, 34..35).await;
        let mut anew = DurableLog::default();
        for log in [&mut followed, &mut anew] {
            log.follow(&disk);
            for (term, index, holds) in
                [(1, 5, true), (1, 30, true), (1, 31, false), (2, 31, true), (2, 33, true), (2, 34, false)]
            {
                assert_eq!(log.holds(position(term, index)), holds, "{term}.{index}");
            }
        }
        disk.replace();
        followed.follow(&disk);
        assert!(!followed.holds(position(1, 5)));
        let mut tasks: JoinSet<()> = std::mem::take(&mut *tasks.lock().unwrap());
        tasks.shutdown().await;
    }
}
