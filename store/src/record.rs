//! One version of a key, as the bytes in which clients will see it.
//!
//! A record is an encoded `mvccpb.KeyValue` in one shared allocation. It is encoded once, when it is
//! written, and never changed: lists, watches, snapshots and disk all use the same bytes.

use std::fmt;

use barque_proto::served::Encoded;
use triomphe::ThinArc;

use crate::ids::{LeaseId, Revision};
use crate::varint::{put_varint, varint};

/// An immutable version of a key. Cloning copies a pointer.
///
/// The length stands with the bytes: tree and history hold millions of records, and pay one word for each.
#[derive(Clone, PartialEq, Eq)]
pub struct Record(ThinArc<(), u8>);

/// What a record holds, borrowed from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The revision that created the key; 0 in a tombstone.
    pub create_revision: Revision,
    /// The revision of this version.
    pub mod_revision: Revision,
    /// How often the key was written since it was created; 0 in a tombstone.
    pub version: i64,
    /// The value.
    pub value: &'a [u8],
    /// The lease the key is attached to.
    pub lease: Option<LeaseId>,
}

/// What a version is among those of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The current one.
    Live,
    /// One that was superseded or deleted.
    Old,
    /// A deletion.
    Tombstone,
}

/// A version of a key that is kept, as what takes space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptVersion<'a> {
    /// The key.
    pub key: &'a [u8],
    /// How large its value is.
    pub value_bytes: usize,
    /// What it is.
    pub standing: Standing,
}

/// The bytes are not an encoded record.
#[derive(Debug, thiserror::Error)]
#[error("not an encoded key/value record: {0}")]
pub struct RecordError(&'static str);

// Tags of mvccpb.KeyValue: field number and wire type.
const KEY: u8 = 0x0a;
const CREATE: u8 = 0x10;
const MOD: u8 = 0x18;
const VERSION: u8 = 0x20;
const VALUE: u8 = 0x2a;
const LEASE: u8 = 0x30;

impl Record {
    /// Encodes a version of a key. Fields are written in the order of their numbers and left out when
    /// they are zero, as every protobuf encoder does.
    #[must_use]
    pub fn new(fields: &Fields<'_>) -> Self {
        let mut out = Vec::with_capacity(fields.key.len() + fields.value.len() + 48);
        put_bytes(&mut out, KEY, fields.key);
        put_number(&mut out, CREATE, fields.create_revision.0);
        put_number(&mut out, MOD, fields.mod_revision.0);
        put_number(&mut out, VERSION, fields.version);
        put_bytes(&mut out, VALUE, fields.value);
        put_number(&mut out, LEASE, fields.lease.map_or(0, |l| l.0));
        Self::of(&out)
    }

    /// The record of a deletion: the key and the revision that deleted it.
    #[must_use]
    pub fn tombstone(key: &[u8], mod_revision: Revision) -> Self {
        Self::new(&Fields {
            key,
            create_revision: Revision(0),
            mod_revision,
            version: 0,
            value: &[],
            lease: None,
        })
    }

    /// Takes bytes that were encoded by [`Record::new`], for example from disk.
    ///
    /// # Errors
    /// When the bytes are not such a record.
    pub fn decode(encoded: &[u8]) -> Result<Self, RecordError> {
        parse(encoded)?;
        Ok(Self::of(encoded))
    }

    fn of(encoded: &[u8]) -> Self {
        Self(ThinArc::from_header_and_slice((), encoded))
    }

    /// All fields.
    #[must_use]
    pub fn fields(&self) -> Fields<'_> {
        parse(self.encoded()).expect("a record holds only bytes that were encoded or checked at its making")
    }

    /// The key; cheaper than [`Record::fields`].
    #[must_use]
    #[inline]
    pub fn key(&self) -> &[u8] {
        let encoded = self.encoded();
        if encoded.first() != Some(&KEY) {
            return &[];
        }
        let (len, at) = varint(encoded, 1).expect("checked at its making");
        &encoded[at..at + len as usize]
    }

    /// The revision of this version.
    #[must_use]
    pub fn mod_revision(&self) -> Revision {
        self.fields().mod_revision
    }

    /// The encoded `mvccpb.KeyValue`.
    #[must_use]
    #[inline]
    pub fn encoded(&self) -> &[u8] {
        &self.0.slice
    }

    /// The encoded `mvccpb.KeyValue` for an answer, sharing this record's memory.
    #[must_use]
    #[inline]
    pub fn into_encoded(self) -> Encoded {
        Encoded(self.0)
    }

    /// The same version without its value: what a `keys_only` range answers.
    #[must_use]
    pub fn without_value(&self) -> Self {
        Self::new(&Fields { value: &[], ..self.fields() })
    }
}

impl AsRef<[u8]> for Record {
    fn as_ref(&self) -> &[u8] {
        self.encoded()
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fields().fmt(f)
    }
}

fn put_number(out: &mut Vec<u8>, tag: u8, value: i64) {
    if value != 0 {
        out.push(tag);
        put_varint(out, value as u64);
    }
}

fn put_bytes(out: &mut Vec<u8>, tag: u8, value: &[u8]) {
    if !value.is_empty() {
        out.push(tag);
        put_varint(out, value.len() as u64);
        out.extend_from_slice(value);
    }
}

fn parse(from: &[u8]) -> Result<Fields<'_>, RecordError> {
    let mut fields = Fields {
        key: &[],
        create_revision: Revision(0),
        mod_revision: Revision(0),
        version: 0,
        value: &[],
        lease: None,
    };
    let mut at = 0;
    let mut last = 0;
    while let Some(&tag) = from.get(at) {
        if tag <= last {
            return Err(RecordError("fields out of order"));
        }
        last = tag;
        let (number, next) = varint(from, at + 1).ok_or(RecordError("a number is cut off"))?;
        at = next;
        let signed = number as i64;
        match tag {
            CREATE => fields.create_revision = Revision(signed),
            MOD => fields.mod_revision = Revision(signed),
            VERSION => fields.version = signed,
            LEASE => fields.lease = Some(LeaseId(signed)),
            KEY | VALUE => {
                let end = usize::try_from(number).ok().and_then(|len| at.checked_add(len));
                let bytes = end.and_then(|end| from.get(at..end)).ok_or(RecordError("bytes are cut off"))?;
                at += bytes.len();
                if tag == KEY {
                    fields.key = bytes;
                } else {
                    fields.value = bytes;
                }
            }
            _ => return Err(RecordError("an unknown field")),
        }
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use barque_proto::mvccpb::KeyValue;
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    #[test]
    fn a_record_is_one_word_wherever_it_is_held() {
        assert_eq!(size_of::<Option<Record>>(), size_of::<usize>());
    }

    proptest! {
        #[test]
        fn is_what_a_protobuf_encoder_writes(
            key: Vec<u8>, value: Vec<u8>, create: i64, modified: i64, version: i64, lease: i64,
        ) {
            let record = Record::new(&Fields {
                key: &key,
                create_revision: Revision(create),
                mod_revision: Revision(modified),
                version,
                value: &value,
                lease: (lease != 0).then_some(LeaseId(lease)),
            });
            let wire = KeyValue {
                key: key.clone().into(), create_revision: create, mod_revision: modified, version,
                value: value.clone().into(), lease,
            };
            prop_assert_eq!(record.encoded(), wire.encode_to_vec());
            prop_assert_eq!(record.key(), &key);
            prop_assert_eq!(record.fields().value, &value);
            prop_assert_eq!(Record::decode(record.encoded()).unwrap(), record);
        }

        #[test]
        fn foreign_bytes_are_refused_or_understood(bytes: Vec<u8>) {
            if let Ok(record) = Record::decode(&bytes) {
                let _ = record.fields();
            }
        }
    }
}
