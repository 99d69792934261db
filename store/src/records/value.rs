//! How records lie in the engine: keys, values, checksums and the running totals. Pure.
//!
//! ```text
//! key of a record    8  main revision, big-endian     value   1  flags: 1 = tombstone
//!                    4  sub-revision, big-endian              4  CRC-32C of key, flags, record (LE)
//!                                                             R  the record: an encoded mvccpb.KeyValue
//! key of the meta    1  0                              value   4  CRC-32C of what follows (LE)
//!                                                              .  `Meta` in bincode 2, standard configuration,
//!                                                             then the sections of its state, if any
//! ```
//!
//! Main revisions are not negative, so keys sort as sub-revisions do, and the meta key before them all.

use serde::{Deserialize, Serialize};

use crate::ids::{Revision, SubRevision};
use crate::record::Record;
use crate::stored::{StateMeta, StoredVersion};

/// The key of [`Meta`].
pub const META_KEY: [u8; 1] = [0];
/// Bytes of a record's key.
pub const KEY_LEN: usize = 12;

const TOMBSTONE: u8 = 1;
const VALUE_HEAD_LEN: usize = 5;

/// What is stored beside the records, always in the same atomic batch with them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Which records there are.
    pub totals: Totals,
    /// See [`super::RecordBatch::meta`].
    pub state: Option<StateMeta>,
}

/// Which records there are, in a few bytes: adding and removing keep it up to date without reading. With the
/// checksum in each record it finds every missing, foreign or changed record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// How many.
    pub count: u64,
    /// The sum of a hash of each key.
    pub key_sum: u64,
    /// The highest key that ever was added.
    pub high: SubRevision,
}

impl Totals {
    /// A record that was not there came.
    pub fn add(&mut self, at: SubRevision) {
        self.count = self.count.wrapping_add(1);
        self.key_sum = self.key_sum.wrapping_add(key_hash(at));
        self.high = self.high.max(at);
    }

    /// A record that was there went.
    pub fn remove(&mut self, at: SubRevision) {
        self.count = self.count.wrapping_sub(1);
        self.key_sum = self.key_sum.wrapping_sub(key_hash(at));
    }

    /// The records of another part of the same store came.
    pub fn add_all(&mut self, part: &Self) {
        self.count = self.count.wrapping_add(part.count);
        self.key_sum = self.key_sum.wrapping_add(part.key_sum);
        self.high = self.high.max(part.high);
    }

    /// Whether both describe the same records.
    #[must_use]
    pub fn same_records(&self, other: &Self) -> bool {
        (self.count, self.key_sum) == (other.count, other.key_sum)
    }
}

/// The mixing function of splitmix64, over both parts.
fn key_hash(at: SubRevision) -> u64 {
    let mut x = (at.main.0 as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (u64::from(at.sub) << 17);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The key of a record.
#[must_use]
pub fn encode_key(at: SubRevision) -> [u8; KEY_LEN] {
    let mut key = [0; KEY_LEN];
    key[..8].copy_from_slice(&at.main.0.to_be_bytes());
    key[8..].copy_from_slice(&at.sub.to_be_bytes());
    key
}

/// The value of a record, into a buffer that is used again.
pub fn encode_value(key: &[u8; KEY_LEN], version: &StoredVersion, out: &mut Vec<u8>) {
    let record = version.record.encoded();
    let flags = if version.tombstone { TOMBSTONE } else { 0 };
    out.clear();
    out.push(flags);
    out.extend_from_slice(&crc(key, flags, record).to_le_bytes());
    out.extend_from_slice(record);
}

/// Bytes of the key and the value of a record.
#[must_use]
pub fn stored_bytes(version: &StoredVersion) -> u64 {
    (KEY_LEN + VALUE_HEAD_LEN + version.record.encoded().len()) as u64
}

/// A record from its key and value.
///
/// # Errors
/// When they are not what [`encode_key`] and [`encode_value`] made.
pub fn decode(key: &[u8], value: &[u8]) -> Result<StoredVersion, &'static str> {
    let key: &[u8; KEY_LEN] = key.try_into().map_err(|_| "a key has a wrong length")?;
    if value.len() < VALUE_HEAD_LEN {
        return Err("a value is too short");
    }
    let (head, record) = value.split_at(VALUE_HEAD_LEN);
    let flags = head[0];
    if crc(key, flags, record).to_le_bytes() != head[1..] {
        return Err("the checksum of a record is wrong");
    }
    let record = Record::decode(record).map_err(|_| "a value holds no record")?;
    Ok(StoredVersion { at: decode_key(key), record, tombstone: flags & TOMBSTONE != 0 })
}

fn decode_key(key: &[u8; KEY_LEN]) -> SubRevision {
    let (main, sub) = key.split_at(8);
    SubRevision {
        main: Revision(i64::from_be_bytes(main.try_into().expect("eight bytes"))),
        sub: u32::from_be_bytes(sub.try_into().expect("four bytes")),
    }
}

fn crc(key: &[u8; KEY_LEN], flags: u8, record: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(key), &[flags]), record)
}

/// The value of the meta key.
///
/// # Errors
/// When the state has no encoding.
pub fn encode_meta(meta: &Meta) -> Result<Vec<u8>, String> {
    let mut out = vec![0; 4];
    bincode::serde::encode_into_std_write(meta, &mut out, bincode::config::standard())
        .map_err(|e| e.to_string())?;
    out.extend(meta.state.as_ref().map(StateMeta::sections).unwrap_or_default());
    let crc = crc32c::crc32c(&out[4..]);
    out[..4].copy_from_slice(&crc.to_le_bytes());
    Ok(out)
}

/// Reads the value of the meta key.
///
/// # Errors
/// When it is not what [`encode_meta`] made.
pub fn decode_meta(value: &[u8]) -> Result<Meta, String> {
    let (crc, encoded) = value.split_at_checked(4).ok_or("the meta record is too short")?;
    if crc32c::crc32c(encoded).to_le_bytes() != crc {
        return Err("the checksum of the meta record is wrong".to_owned());
    }
    let (mut meta, used): (Meta, usize) =
        bincode::serde::decode_from_slice(encoded, bincode::config::standard())
            .map_err(|e| format!("the meta record cannot be decoded: {e}"))?;
    match (&mut meta.state, &encoded[used..]) {
        (_, []) => {}
        (Some(state), sections) => state.set_sections(sections)?,
        (None, _) => return Err("bytes are left over in the meta record".to_owned()),
    }
    Ok(meta)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::snapshot::testing::{state, version};

    proptest! {
        #[test]
        fn records_come_back_and_damage_is_found(
            main in 0i64.., sub: u32, value: Vec<u8>, at: prop::sample::Index, change in 1u8..,
        ) {
            let version = version(main, sub, &value);
            let mut key = encode_key(version.at);
            let mut encoded = vec![];
            encode_value(&key, &version, &mut encoded);
            prop_assert_eq!(stored_bytes(&version), (KEY_LEN + encoded.len()) as u64);
            prop_assert_eq!(decode(&key, &encoded), Ok(version));
            let at = at.index(KEY_LEN + encoded.len());
            if at < KEY_LEN { key[at] ^= change } else { encoded[at - KEY_LEN] ^= change }
            prop_assert!(decode(&key, &encoded).is_err());
        }

        #[test]
        fn keys_sort_as_revisions_do(a in (0i64.., any::<u32>()), b in (0i64.., any::<u32>())) {
            let at = |(main, sub)| SubRevision { main: Revision(main), sub };
            prop_assert_eq!(at(a).cmp(&at(b)), encode_key(at(a)).cmp(&encode_key(at(b))));
            prop_assert!(META_KEY.as_slice() < encode_key(at(a)).as_slice());
        }
    }

    #[test]
    fn meta_comes_back_and_damage_is_found() {
        let mut totals = Totals::default();
        totals.add(SubRevision { main: Revision(5), sub: 1 });
        let meta = Meta { totals, state: Some(state(4)) };
        let encoded = encode_meta(&meta).unwrap();
        assert_eq!(decode_meta(&encoded), Ok(meta));
        for at in 0..encoded.len() {
            let mut damaged = encoded.clone();
            damaged[at] ^= 0x40;
            assert!(decode_meta(&damaged).is_err(), "byte {at}");
            assert!(decode_meta(&encoded[..at]).is_err());
        }
    }

    #[test]
    fn totals_tell_sets_of_records_apart() {
        let at = |main, sub| SubRevision { main: Revision(main), sub };
        let mut a = Totals::default();
        let mut b = Totals::default();
        for n in 0..100 {
            a.add(at(n, 0));
            b.add(at(99 - n, 0));
        }
        assert!(a.same_records(&b));
        a.remove(at(7, 0));
        assert!(!a.same_records(&b));
        a.add(at(7, 1));
        assert!(!a.same_records(&b));
        a.remove(at(7, 1));
        a.add(at(7, 0));
        assert!(a.same_records(&b));
    }
}
