//! The bytes of the write-ahead log: how a segment and its records look. Pure: no file, no clock.
//!
//! The format is the store's own and versioned, so that neither an upgrade of the consensus library nor of
//! a serializer ever touches what is on disk. All numbers are little-endian.
//!
//! # Segment
//!
//! A segment file starts with a header of [`SEGMENT_HEADER_BYTES`] (a whole page, so that writing records
//! never rewrites it):
//!
//! | offset | size | what |
//! |---|---|---|
//! | 0 | 8 | `BARQUEWL` |
//! | 8 | 4 | format version, 1 |
//! | 12 | 4 | zero |
//! | 16 | 8 | cluster id |
//! | 24 | 8 | member id |
//! | 32 | 4 | sequence of the segment, from 1 |
//! | 36 | 4 | where the records of the segment before end |
//! | 40 | 4 | checksum of the last record of the segment before (of its header, if it holds none) |
//! | 44 | 4 | zero |
//! | 48 | 8 | a random number; every checksum in the segment is seeded with it |
//! | 56 | 8 | index of the first live entry when the segment began |
//! | 64 | 24 | last log position then: 1 or 0 for none, term, index |
//! | 88 | 24 | purged position then |
//! | 112 | 24 | committed position then |
//! | 136 | 32 | vote then: 1 or 0 for none, term, member voted for, 1 when committed |
//! | 4092 | 4 | CRC-32C of the bytes before |
//!
//! Because a header repeats vote, purged and committed, older segments can be deleted.
//!
//! # Record
//!
//! Records follow each other at offsets divisible by 8, padded with zeros.
//!
//! | offset | size | what |
//! |---|---|---|
//! | 0 | 4 | CRC-32C over (random number of the segment, offset in it, bytes 4 to the end of the padding) |
//! | 4 | 4 | length of the body, without padding |
//! | 8 | 4 | checksum of the record before (of the segment's header for the first one) |
//! | 12 | 4 | offset up to which the segment was known to be synced when the record was written |
//! | 16 | 1 | kind: 1 entry, 2 vote, 3 truncate, 4 committed, 5 purged, 6 mark |
//! | 17 | 1 | for an entry, its payload: 0 blank, 1 batch, 2 membership |
//! | 18 | 2 | zero |
//! | 20 | 4 | `RCRD` |
//! | 24 | | body |
//!
//! Bodies: entry = term, index, payload; vote = term, member voted for, 1 when committed; truncate = 1 or 0
//! for none, term and index of the last entry that stays; committed and purged = term, index; mark = nothing.
//!
//! The seed makes a record valid only at its place in its segment. The checksum of the record before chains
//! them, so what is left of an earlier write behind a new record is never taken for its successor.

use bytes::Bytes;

/// Version of what this module writes.
pub const FORMAT_VERSION: u32 = 1;
/// Size of a segment's header; records start behind it.
pub const SEGMENT_HEADER_BYTES: u32 = 4096;
/// Size of a record's header.
pub const RECORD_HEADER_BYTES: usize = 24;
/// The largest record that is accepted.
pub const MAX_RECORD_BYTES: usize = 512 << 20;

const SEGMENT_MAGIC: [u8; 8] = *b"BARQUEWL";
const RECORD_MAGIC: [u8; 4] = *b"RCRD";
const POSITION_BYTES: usize = 16;
const HEADER_CHECKSUM_AT: usize = SEGMENT_HEADER_BYTES as usize - 4;

/// A place in Raft's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Term of the leader that proposed the entry.
    pub term: u64,
    /// Index of the entry.
    pub index: u64,
}

/// Raft's vote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SavedVote {
    /// The term voted in.
    pub term: u64,
    /// The member voted for.
    pub voted_for: u64,
    /// Whether that member is known to have won.
    pub committed: bool,
}

/// What an entry carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Nothing: the first entry of a leader.
    Blank,
    /// An encoded batch of commands.
    Batch(Bytes),
    /// An encoded membership.
    Membership(Bytes),
}

/// One entry of Raft's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Where.
    pub position: Position,
    /// What.
    pub payload: Payload,
}

/// The kinds of [`Payload`], as they are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadKind {
    /// See [`Payload::Blank`].
    Blank = 0,
    /// See [`Payload::Batch`].
    Batch = 1,
    /// See [`Payload::Membership`].
    Membership = 2,
}

/// One record of the write-ahead log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// An entry was appended.
    Entry {
        /// Where.
        position: Position,
        /// What the payload is.
        kind: PayloadKind,
        /// The payload.
        payload: &'a [u8],
    },
    /// A vote was saved.
    Vote(SavedVote),
    /// All entries behind `last` were removed.
    Truncate {
        /// The last entry that stays, or the purged position; `None` when nothing does.
        last: Option<Position>,
    },
    /// Entries up to here are known to be committed.
    Committed(Position),
    /// Entries up to here are no longer needed.
    Purged(Position),
    /// Says only that everything before it is synced.
    Mark,
}

impl LogEntry {
    /// The record that stores the entry.
    #[must_use]
    pub fn record(&self) -> Record<'_> {
        let (kind, payload): (_, &[u8]) = match &self.payload {
            Payload::Blank => (PayloadKind::Blank, &[]),
            Payload::Batch(bytes) => (PayloadKind::Batch, bytes),
            Payload::Membership(bytes) => (PayloadKind::Membership, bytes),
        };
        Record::Entry { position: self.position, kind, payload }
    }

    /// The entry that a record stores. The payload is copied, so that it does not keep what it was read
    /// from in memory.
    #[must_use]
    pub fn from_record(position: Position, kind: PayloadKind, payload: &[u8]) -> Self {
        let payload = match kind {
            PayloadKind::Blank => Payload::Blank,
            PayloadKind::Batch => Payload::Batch(Bytes::copy_from_slice(payload)),
            PayloadKind::Membership => Payload::Membership(Bytes::copy_from_slice(payload)),
        };
        Self { position, payload }
    }

    /// Size of the payload.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        match &self.payload {
            Payload::Blank => 0,
            Payload::Batch(bytes) | Payload::Membership(bytes) => bytes.len(),
        }
    }

    /// Size of the entry's record.
    #[must_use]
    pub fn encoded_bytes(&self) -> usize {
        padded(RECORD_HEADER_BYTES + POSITION_BYTES + self.payload_bytes())
    }
}

/// What a record's checksum depends on besides its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordPlace {
    /// The random number of the segment.
    pub nonce: u64,
    /// Offset of the record in the segment.
    pub offset: u32,
}

/// A record that was found on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundRecord<'a> {
    /// What it says.
    pub record: Record<'a>,
    /// Its checksum, which the next record repeats.
    pub crc: u32,
    /// Checksum of the record before.
    pub previous_crc: u32,
    /// Offset up to which the segment was known to be synced when the record was written.
    pub synced_to: u32,
    /// Bytes to the next record.
    pub encoded_bytes: usize,
}

impl Record<'_> {
    fn body_bytes(&self) -> usize {
        match self {
            Record::Entry { payload, .. } => POSITION_BYTES + payload.len(),
            Record::Vote(_) | Record::Truncate { .. } => 24,
            Record::Committed(_) | Record::Purged(_) => POSITION_BYTES,
            Record::Mark => 0,
        }
    }

    /// Bytes that the record takes, with header and padding.
    #[must_use]
    pub fn encoded_bytes(&self) -> usize {
        padded(RECORD_HEADER_BYTES + self.body_bytes())
    }

    /// Appends the record to `out` and returns its checksum.
    pub fn encode(&self, place: RecordPlace, previous_crc: u32, synced_to: u32, out: &mut Vec<u8>) -> u32 {
        let start = out.len();
        let body_bytes = u32::try_from(self.body_bytes()).expect("records over MAX_RECORD_BYTES are refused");
        let (kind, payload_kind) = match self {
            Record::Entry { kind, .. } => (1, *kind as u8),
            Record::Vote(_) => (2, 0),
            Record::Truncate { .. } => (3, 0),
            Record::Committed(_) => (4, 0),
            Record::Purged(_) => (5, 0),
            Record::Mark => (6, 0),
        };
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&body_bytes.to_le_bytes());
        out.extend_from_slice(&previous_crc.to_le_bytes());
        out.extend_from_slice(&synced_to.to_le_bytes());
        out.extend_from_slice(&[kind, payload_kind, 0, 0]);
        out.extend_from_slice(&RECORD_MAGIC);
        match self {
            Record::Entry { position, payload, .. } => {
                put_position(out, *position);
                out.extend_from_slice(payload);
            }
            Record::Vote(vote) => put_vote(out, *vote),
            Record::Truncate { last } => put_optional_position(out, *last),
            Record::Committed(position) | Record::Purged(position) => put_position(out, *position),
            Record::Mark => {}
        }
        out.resize(start + self.encoded_bytes(), 0);
        let crc = checksum(place, &out[start + 4..]);
        out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
        crc
    }
}

/// The record at the start of `bytes`, if there is a valid one that was written for this very place.
///
/// Whether it follows the record before it is for the caller to check (`previous_crc`).
#[must_use]
pub fn decode_record(bytes: &[u8], place: RecordPlace) -> Option<FoundRecord<'_>> {
    let header = bytes.get(..RECORD_HEADER_BYTES)?;
    if header[20..24] != RECORD_MAGIC {
        return None;
    }
    let body_bytes = u32_at(header, 4) as usize;
    if body_bytes > MAX_RECORD_BYTES {
        return None;
    }
    let encoded_bytes = padded(RECORD_HEADER_BYTES + body_bytes);
    let whole = bytes.get(..encoded_bytes)?;
    let crc = u32_at(header, 0);
    if checksum(place, &whole[4..]) != crc {
        return None;
    }
    let body = &whole[RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + body_bytes];
    let exactly = |size: usize| (body.len() == size).then_some(());
    let record = match header[16] {
        1 => {
            let kind = match header[17] {
                0 => PayloadKind::Blank,
                1 => PayloadKind::Batch,
                2 => PayloadKind::Membership,
                _ => return None,
            };
            let payload = body.get(POSITION_BYTES..)?;
            Record::Entry { position: position_at(body, 0), kind, payload }
        }
        2 => {
            exactly(24)?;
            Record::Vote(vote_at(body, 0))
        }
        3 => {
            exactly(24)?;
            Record::Truncate { last: optional_position_at(body, 0) }
        }
        4 => {
            exactly(POSITION_BYTES)?;
            Record::Committed(position_at(body, 0))
        }
        5 => {
            exactly(POSITION_BYTES)?;
            Record::Purged(position_at(body, 0))
        }
        6 => {
            exactly(0)?;
            Record::Mark
        }
        _ => return None,
    };
    let (previous_crc, synced_to) = (u32_at(header, 8), u32_at(header, 12));
    // Nothing is synced before it is written.
    (synced_to <= place.offset).then_some(FoundRecord { record, crc, previous_crc, synced_to, encoded_bytes })
}

/// What the log holds, apart from the entries themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The last saved vote.
    pub vote: Option<SavedVote>,
    /// Entries up to here were purged.
    pub purged: Option<Position>,
    /// Entries up to here are known to be committed.
    pub committed: Option<Position>,
    /// Index of the first entry that is there; one more than `last` when none is (0 when there never was one).
    pub first_index: u64,
    /// The last entry, or the purged position when there is none.
    pub last: Option<Position>,
}

impl Standing {
    /// Whether the log holds no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.last.is_none_or(|last| last.index < self.first_index)
    }

    /// The index that the next entry must have; any when the log never held one.
    #[must_use]
    pub fn next_index(&self) -> Option<u64> {
        self.last.map(|last| last.index + 1)
    }

    /// The standing after a record. An entry must have the index that is next.
    pub fn apply(&mut self, record: &Record<'_>) {
        match record {
            Record::Entry { position, .. } => {
                if self.is_empty() {
                    self.first_index = position.index;
                }
                self.last = Some(*position);
            }
            Record::Vote(vote) => self.vote = Some(*vote),
            Record::Truncate { last } => {
                self.last = *last;
                if self.is_empty() {
                    self.first_index = last.map_or(0, |last| last.index + 1);
                }
            }
            Record::Committed(position) => self.committed = Some(*position),
            Record::Purged(position) => {
                self.purged = Some(*position);
                self.first_index = self.first_index.max(position.index + 1);
                if self.last.is_none_or(|last| last.index <= position.index) {
                    self.last = Some(*position);
                }
            }
            Record::Mark => {}
        }
    }
}

/// The header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Cluster that the log belongs to.
    pub cluster_id: u64,
    /// Member that the log belongs to.
    pub member_id: u64,
    /// Place of the segment among the segments, from 1.
    pub sequence: u32,
    /// Where the records of the segment before end; 0 for the first segment.
    pub previous_end: u32,
    /// Checksum of the last record of the segment before; 0 for the first segment.
    pub previous_crc: u32,
    /// Random number that seeds the checksums.
    pub nonce: u64,
    /// The log when the segment began.
    pub standing: Standing,
}

/// Why bytes are not a segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Too short, or it does not start as a segment does.
    #[error("it does not start with the header of a log segment")]
    NotASegment,
    /// Written by another version.
    #[error("its format version is {0}, this program reads version {FORMAT_VERSION}")]
    Version(u32),
    /// The checksum does not match.
    #[error("the checksum of its header does not match")]
    Checksum,
}

impl SegmentHeader {
    /// The header's bytes and their checksum, with which the chain of the records starts.
    #[must_use]
    pub fn encode(&self) -> (Vec<u8>, u32) {
        let mut out = Vec::with_capacity(SEGMENT_HEADER_BYTES as usize);
        out.extend_from_slice(&SEGMENT_MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.cluster_id.to_le_bytes());
        out.extend_from_slice(&self.member_id.to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.previous_end.to_le_bytes());
        out.extend_from_slice(&self.previous_crc.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.nonce.to_le_bytes());
        out.extend_from_slice(&self.standing.first_index.to_le_bytes());
        put_optional_position(&mut out, self.standing.last);
        put_optional_position(&mut out, self.standing.purged);
        put_optional_position(&mut out, self.standing.committed);
        out.extend_from_slice(&u64::from(self.standing.vote.is_some()).to_le_bytes());
        put_vote(&mut out, self.standing.vote.unwrap_or_default());
        out.resize(HEADER_CHECKSUM_AT, 0);
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        (out, crc)
    }

    /// The header at the start of `bytes`, and its checksum.
    ///
    /// # Errors
    ///
    /// When there is none, or one that this program cannot read.
    pub fn decode(bytes: &[u8]) -> Result<(Self, u32), HeaderError> {
        let bytes = bytes.get(..SEGMENT_HEADER_BYTES as usize).ok_or(HeaderError::NotASegment)?;
        if bytes[..8] != SEGMENT_MAGIC {
            return Err(HeaderError::NotASegment);
        }
        let version = u32_at(bytes, 8);
        if version != FORMAT_VERSION {
            return Err(HeaderError::Version(version));
        }
        let crc = u32_at(bytes, HEADER_CHECKSUM_AT);
        if crc32c::crc32c(&bytes[..HEADER_CHECKSUM_AT]) != crc {
            return Err(HeaderError::Checksum);
        }
        let standing = Standing {
            first_index: u64_at(bytes, 56),
            last: optional_position_at(bytes, 64),
            purged: optional_position_at(bytes, 88),
            committed: optional_position_at(bytes, 112),
            vote: (u64_at(bytes, 136) != 0).then(|| vote_at(bytes, 144)),
        };
        let header = Self {
            cluster_id: u64_at(bytes, 16),
            member_id: u64_at(bytes, 24),
            sequence: u32_at(bytes, 32),
            previous_end: u32_at(bytes, 36),
            previous_crc: u32_at(bytes, 40),
            nonce: u64_at(bytes, 48),
            standing,
        };
        Ok((header, crc))
    }
}

fn checksum(place: RecordPlace, bytes: &[u8]) -> u32 {
    let mut seed = [0; 12];
    seed[..8].copy_from_slice(&place.nonce.to_le_bytes());
    seed[8..].copy_from_slice(&place.offset.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&seed), bytes)
}

const fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(8)
}

fn put_position(out: &mut Vec<u8>, position: Position) {
    out.extend_from_slice(&position.term.to_le_bytes());
    out.extend_from_slice(&position.index.to_le_bytes());
}

fn put_optional_position(out: &mut Vec<u8>, position: Option<Position>) {
    out.extend_from_slice(&u64::from(position.is_some()).to_le_bytes());
    put_position(out, position.unwrap_or_default());
}

fn put_vote(out: &mut Vec<u8>, vote: SavedVote) {
    out.extend_from_slice(&vote.term.to_le_bytes());
    out.extend_from_slice(&vote.voted_for.to_le_bytes());
    out.extend_from_slice(&u64::from(vote.committed).to_le_bytes());
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn position_at(bytes: &[u8], at: usize) -> Position {
    Position { term: u64_at(bytes, at), index: u64_at(bytes, at + 8) }
}

fn optional_position_at(bytes: &[u8], at: usize) -> Option<Position> {
    (u64_at(bytes, at) != 0).then(|| position_at(bytes, at + 8))
}

fn vote_at(bytes: &[u8], at: usize) -> SavedVote {
    SavedVote {
        term: u64_at(bytes, at),
        voted_for: u64_at(bytes, at + 8),
        committed: u64_at(bytes, at + 16) != 0,
    }
}

#[cfg(test)]
mod tests;
