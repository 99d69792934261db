//! The snapshot file, byte by byte. Pure: bytes in, bytes out; no file is touched here.
//!
//! All fixed numbers are little-endian. A varint is LEB128, at most ten bytes.
//!
//! ```text
//! header    8  magic "BRQSNAP\0"
//!           4  format version, 1 to 3
//!           4  length M of the manifest
//!           M  manifest: `Manifest` in bincode 2, standard configuration; in version 3 followed by the
//!              revision of which the file is an increment (8); in versions 2 and 3 followed by the sections
//!              of its state (`StateMeta::sections`), of which version 3 may have none
//!           4  CRC-32C of everything before
//! block     4  length P of the payload, never 0
//!           4  number of items in it, never 0
//!           4  CRC-32C of: block number (u64, from 0), length, number of items, payload
//!           P  payload: items
//!   item       varint  zigzag of (main revision - that of the item before in this block, or 0)
//!              varint  sub-revision * 2 + (1 for a tombstone)
//!              varint  length R of the record
//!              R       the record: an encoded mvccpb.KeyValue
//! ...       further blocks; none in a snapshot of an empty keyspace
//! footer    4  0, where a block would have its length
//!           8  magic "BRQSEND\0"
//!           8  number of items in all blocks
//!           8  number of blocks
//!          32  SHA-256 of everything before
//! ```
//!
//! A block is closed when its payload reaches [`BLOCK_BYTES`], so only one large record makes a much larger
//! one. The block number inside the checksum catches blocks that changed places. Items may come in any
//! order. Version 1 is never changed; what needs another shape gets another version. A state without
//! sections is written as version 1, which every version of this program reads. An increment holds the whole
//! state, but of the keyspace only what came after a revision; it is version 3, so that no program takes it
//! for a whole one.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::ids::{ClusterId, MemberId, Revision, SubRevision};
use crate::record::Record;
use crate::stored::{StateMeta, StoredVersion};
use crate::varint::{put_varint, varint};

/// Without sections behind the manifest.
pub const VERSION: u32 = 1;
/// With them.
pub const VERSION_WITH_SECTIONS: u32 = 2;
/// An increment.
pub const VERSION_INCREMENT: u32 = 3;
/// Payload at which a block is closed.
pub const BLOCK_BYTES: usize = 256 * 1024;
/// Bytes before the manifest.
pub const HEADER_LEN: usize = 16;
/// Bytes before a block's payload.
pub const BLOCK_HEADER_LEN: usize = 12;
/// Bytes of the footer.
pub const FOOTER_LEN: usize = 60;
/// Bytes of the digest at the footer's end.
pub const DIGEST_LEN: usize = 32;

const MAGIC: &[u8; 8] = b"BRQSNAP\0";
const END_MAGIC: &[u8; 8] = b"BRQSEND\0";

/// What a snapshot says about itself before its first item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// The member that wrote it.
    pub member: MemberId,
    /// When, in milliseconds since 1970, by the writer's clock. For people; nothing is decided by it.
    pub written_at_ms: u64,
    /// Everything beside the keyspace.
    pub state: StateMeta,
    /// For an increment: it holds only versions of keys that came after this revision. Not part of the encoding
    /// of this struct, so that what was written before there were any can still be read.
    #[serde(skip)]
    pub since: Option<Revision>,
}

/// The last bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    /// Items in all blocks.
    pub versions: u64,
    /// Blocks.
    pub blocks: u64,
    /// SHA-256 of everything before it.
    pub sha256: [u8; DIGEST_LEN],
}

/// The head of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    /// Bytes of payload.
    pub len: u32,
    /// Items.
    pub items: u32,
    /// Checksum as written.
    pub crc: u32,
}

/// Why bytes are not (part of) a snapshot.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say it")]
pub enum FormatError {
    #[error("format version {0} is unknown")]
    Version(u32),
    #[error("this is no snapshot file")]
    Magic,
    #[error("the manifest's checksum is wrong")]
    ManifestChecksum,
    #[error("the manifest cannot be decoded: {0}")]
    Manifest(String),
    #[error("the checksum of block {0} is wrong")]
    BlockChecksum(u64),
    #[error("an item of a block with a right checksum cannot be decoded: {0}")]
    Item(&'static str),
    #[error("the file does not end with a footer: it was cut off, or something was appended")]
    Footer,
}

/// Header, manifest and their checksum.
///
/// # Errors
/// When the manifest has no encoding or 4 GiB or more of it.
pub fn encode_header(manifest: &Manifest) -> Result<Vec<u8>, FormatError> {
    let mut encoded = bincode::serde::encode_to_vec(manifest, bincode::config::standard())
        .map_err(|e| FormatError::Manifest(e.to_string()))?;
    let sections = manifest.state.sections();
    let version = match manifest.since {
        Some(since) => {
            encoded.extend_from_slice(&since.0.to_le_bytes());
            VERSION_INCREMENT
        }
        None if sections.is_empty() => VERSION,
        None => VERSION_WITH_SECTIONS,
    };
    encoded.extend_from_slice(&sections);
    let len =
        u32::try_from(encoded.len()).map_err(|_| FormatError::Manifest("it is too large".to_owned()))?;
    let mut out = Vec::with_capacity(HEADER_LEN + encoded.len() + 4);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&version.to_le_bytes());
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&encoded);
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    Ok(out)
}

/// The manifest's length, from the file's first bytes.
///
/// # Errors
/// When they do not begin a snapshot this program can read.
pub fn decode_header(header: &[u8; HEADER_LEN]) -> Result<u32, FormatError> {
    if &header[..8] != MAGIC {
        return Err(FormatError::Magic);
    }
    match number_u32(&header[8..]) {
        VERSION | VERSION_WITH_SECTIONS | VERSION_INCREMENT => Ok(number_u32(&header[12..])),
        other => Err(FormatError::Version(other)),
    }
}

/// The manifest, from header, manifest and checksum together.
///
/// # Errors
/// When the checksum is wrong, or what it covers is no manifest.
pub fn decode_manifest(with_header_and_crc: &[u8]) -> Result<Manifest, FormatError> {
    let split = with_header_and_crc.len().checked_sub(4).ok_or(FormatError::ManifestChecksum)?;
    let (covered, crc) = with_header_and_crc.split_at(split);
    if covered.len() < HEADER_LEN || crc32c::crc32c(covered) != number_u32(crc) {
        return Err(FormatError::ManifestChecksum);
    }
    let encoded = &covered[HEADER_LEN..];
    let (mut manifest, used): (Manifest, usize) =
        bincode::serde::decode_from_slice(encoded, bincode::config::standard())
            .map_err(|e| FormatError::Manifest(e.to_string()))?;
    let mut sections = &encoded[used..];
    let unfit = || FormatError::Manifest("what follows it does not fit the format version".to_owned());
    match number_u32(&covered[8..]) {
        VERSION_INCREMENT => {
            let (since, rest) = sections.split_first_chunk().ok_or_else(unfit)?;
            manifest.since = Some(Revision(i64::from_le_bytes(*since)));
            sections = rest;
        }
        version if sections.is_empty() != (version == VERSION) => return Err(unfit()),
        _ => {}
    }
    manifest.state.set_sections(sections).map_err(FormatError::Manifest)?;
    Ok(manifest)
}

impl Footer {
    /// The footer without the digest, which covers these bytes too.
    #[must_use]
    pub fn encode_counts(versions: u64, blocks: u64) -> [u8; FOOTER_LEN - DIGEST_LEN] {
        let mut out = [0; FOOTER_LEN - DIGEST_LEN];
        out[4..12].copy_from_slice(END_MAGIC);
        out[12..20].copy_from_slice(&versions.to_le_bytes());
        out[20..28].copy_from_slice(&blocks.to_le_bytes());
        out
    }

    /// Reads a footer.
    ///
    /// # Errors
    /// When the bytes are none.
    pub fn decode(from: &[u8; FOOTER_LEN]) -> Result<Self, FormatError> {
        if from[..4] != [0; 4] || &from[4..12] != END_MAGIC {
            return Err(FormatError::Footer);
        }
        let mut sha256 = [0; DIGEST_LEN];
        sha256.copy_from_slice(&from[FOOTER_LEN - DIGEST_LEN..]);
        Ok(Self { versions: number_u64(&from[12..]), blocks: number_u64(&from[20..]), sha256 })
    }
}

impl BlockHeader {
    /// Reads the head of a block. A length of 0 is where the footer begins.
    #[must_use]
    pub fn decode(from: &[u8; BLOCK_HEADER_LEN]) -> Self {
        Self { len: number_u32(from), items: number_u32(&from[4..]), crc: number_u32(&from[8..]) }
    }

    /// Compares the checksum.
    ///
    /// # Errors
    /// When it is wrong, or the block is empty.
    pub fn check(&self, number: u64, payload: &[u8]) -> Result<(), FormatError> {
        if self.items == 0 || self.crc != block_crc(number, self.len, self.items, payload) {
            return Err(FormatError::BlockChecksum(number));
        }
        Ok(())
    }
}

fn block_crc(number: u64, len: u32, items: u32, payload: &[u8]) -> u32 {
    let mut head = [0; 16];
    head[..8].copy_from_slice(&number.to_le_bytes());
    head[8..12].copy_from_slice(&len.to_le_bytes());
    head[12..].copy_from_slice(&items.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&head), payload)
}

/// Collects items into blocks.
#[derive(Debug)]
pub struct BlockBuilder {
    // The block's head has its place at the front, so that head and payload are one write.
    out: Vec<u8>,
    items: u32,
    last_main: i64,
    number: u64,
}

impl BlockBuilder {
    /// For the first block.
    #[must_use]
    pub fn new() -> Self {
        let mut out = Vec::with_capacity(BLOCK_BYTES + BLOCK_BYTES / 8);
        out.resize(BLOCK_HEADER_LEN, 0);
        Self { out, items: 0, last_main: 0, number: 0 }
    }

    /// Appends an item; true when the block should be closed.
    pub fn push(&mut self, version: &StoredVersion) -> bool {
        let main = version.at.main.0;
        let record = version.record.encoded();
        put_varint(&mut self.out, zigzag(main.wrapping_sub(self.last_main)));
        put_varint(&mut self.out, u64::from(version.at.sub) << 1 | u64::from(version.tombstone));
        put_varint(&mut self.out, record.len() as u64);
        self.out.extend_from_slice(record);
        self.last_main = main;
        self.items += 1;
        self.out.len() - BLOCK_HEADER_LEN >= BLOCK_BYTES
    }

    /// The finished block with its head, or nothing when no item was pushed. [`BlockBuilder::clear`] after it.
    ///
    /// # Errors
    /// When one record made the block 4 GiB or larger.
    pub fn finish(&mut self) -> Result<Option<&[u8]>, FormatError> {
        if self.items == 0 {
            return Ok(None);
        }
        let len = u32::try_from(self.out.len() - BLOCK_HEADER_LEN)
            .map_err(|_| FormatError::Item("a record is too large"))?;
        let crc = block_crc(self.number, len, self.items, &self.out[BLOCK_HEADER_LEN..]);
        self.out[..4].copy_from_slice(&len.to_le_bytes());
        self.out[4..8].copy_from_slice(&self.items.to_le_bytes());
        self.out[8..12].copy_from_slice(&crc.to_le_bytes());
        Ok(Some(&self.out))
    }

    /// Begins the next block.
    pub fn clear(&mut self) {
        self.out.truncate(BLOCK_HEADER_LEN);
        self.items = 0;
        self.last_main = 0;
        self.number += 1;
    }
}

impl Default for BlockBuilder {
    fn default() -> Self {
        Self::new()
    }
}

/// Where in a verified payload the next item begins.
#[derive(Clone, Copy, Debug, Default)]
pub struct ItemCursor {
    /// Bytes used.
    pub at: usize,
    last_main: i64,
}

impl ItemCursor {
    /// The next item of `payload`. The caller counts.
    ///
    /// # Errors
    /// When there is none.
    pub fn next(&mut self, payload: &[u8]) -> Result<StoredVersion, FormatError> {
        let cut = FormatError::Item("it is cut off");
        let Some((delta, at)) = varint(payload, self.at) else { return Err(cut) };
        let Some((sub, at)) = varint(payload, at) else { return Err(cut) };
        let Some((len, at)) = varint(payload, at) else { return Err(cut) };
        let end = usize::try_from(len).ok().and_then(|len| at.checked_add(len));
        let Some((end, record)) = end.and_then(|end| Some((end, payload.get(at..end)?))) else {
            return Err(cut);
        };
        let record = Record::decode(record).map_err(|_| FormatError::Item("it holds no record"))?;
        let main = self.last_main.wrapping_add(unzigzag(delta));
        let number =
            u32::try_from(sub >> 1).map_err(|_| FormatError::Item("its sub-revision is too large"))?;
        self.at = end;
        self.last_main = main;
        let at = SubRevision { main: Revision(main), sub: number };
        Ok(StoredVersion { at, record, tombstone: sub & 1 == 1 })
    }
}

/// A new digest over a file's bytes.
#[must_use]
pub(super) fn digest() -> Sha256 {
    Sha256::new()
}

fn number_u32(from: &[u8]) -> u32 {
    u32::from_le_bytes(from[..4].try_into().expect("four bytes were cut out"))
}

fn number_u64(from: &[u8]) -> u64 {
    u64::from_le_bytes(from[..8].try_into().expect("eight bytes were cut out"))
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::ids::AuthRevision;
    use crate::stored::StoredAuth;
    use crate::timeline::{Mark, Timeline};

    proptest! {
        #[test]
        fn numbers_come_back(value: i64) {
            prop_assert_eq!(unzigzag(zigzag(value)), value);
        }

        #[test]
        fn foreign_bytes_are_no_items(bytes: Vec<u8>) {
            let mut cursor = ItemCursor::default();
            while cursor.next(&bytes).is_ok() {}
            prop_assert!(cursor.at <= bytes.len());
        }
    }

    #[test]
    fn version_1_is_never_changed() {
        let manifest = Manifest {
            cluster: ClusterId(1),
            member: MemberId(2),
            written_at_ms: 3,
            state: StateMeta { applied_index: 4, revision: Revision(5), ..StateMeta::default() },
            since: None,
        };
        let mut file = encode_header(&manifest).unwrap();
        let mut block = BlockBuilder::new();
        let record = Record::tombstone(b"k", Revision(5));
        let at = SubRevision { main: Revision(5), sub: 1 };
        block.push(&StoredVersion { at, record, tombstone: true });
        file.extend_from_slice(block.finish().unwrap().unwrap());
        file.extend_from_slice(&Footer::encode_counts(1, 1));
        let hex: String = file.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, GOLDEN);
    }

    #[test]
    fn users_and_marks_of_time_make_version_2() {
        let with = |revision, time_ms| {
            let auth = StoredAuth { revision: AuthRevision(revision), ..StoredAuth::default() };
            let mut timeline = Timeline::default();
            // A mark at 0 is none.
            timeline.mark(Mark { revision: Revision(5), time_ms });
            let state =
                StateMeta { auth: Arc::new(auth), timeline: Arc::new(timeline), ..StateMeta::default() };
            Manifest { cluster: ClusterId(1), member: MemberId(2), written_at_ms: 3, state, since: None }
        };
        let sections = VERSION_WITH_SECTIONS;
        for (revision, time_ms, version) in
            [(1, 0, VERSION), (9, 0, sections), (1, 9, sections), (9, 9, sections)]
        {
            let manifest = with(revision, time_ms);
            let mut file = encode_header(&manifest).unwrap();
            assert_eq!(number_u32(&file[8..]), version);
            assert_eq!(decode_manifest(&file).as_ref(), Ok(&manifest));
            let increment = Manifest { since: Some(Revision(-4)), ..manifest.clone() };
            let encoded = encode_header(&increment).unwrap();
            assert_eq!(number_u32(&encoded[8..]), VERSION_INCREMENT);
            assert_eq!(decode_manifest(&encoded), Ok(increment));
            // The version and what follows the manifest must fit.
            file[8] = 3 - file[8];
            let end = file.len() - 4;
            let crc = crc32c::crc32c(&file[..end]);
            file[end..].copy_from_slice(&crc.to_le_bytes());
            assert!(matches!(decode_manifest(&file), Err(FormatError::Manifest(_))));
        }
    }

    const GOLDEN: &str = "425251534e415000010000000c0000000102030004000a0000000000240418b9080000000100000074\
        1d92020a03050a016b18050000000042525153454e440001000000000000000100000000000000";
}
