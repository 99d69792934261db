//! Events as bytes on the wire, made at most once however many watchers want them.
//!
//! The bytes are an encoded `mvccpb.Event` (1 type, 2 kv, 3 prev_kv). Encoding happens at the first
//! watcher's wish and so in a stream's task, never in the applier's.

use std::sync::OnceLock;

use bytes::Bytes;

use crate::event::{Event, EventKind};
use crate::ids::Revision;
use crate::record::Record;

const TYPE: u8 = 1 << 3;
const KV: u8 = 2 << 3 | 2;
const PREV_KV: u8 = 3 << 3 | 2;

/// An event with its encoded forms.
#[derive(Debug)]
pub struct SharedEvent {
    event: Event,
    plain: OnceLock<Bytes>,
    with_previous: OnceLock<Bytes>,
}

impl SharedEvent {
    /// Nothing is encoded yet.
    #[must_use]
    pub fn new(event: Event) -> Self {
        Self { event, plain: OnceLock::new(), with_previous: OnceLock::new() }
    }

    /// The event itself.
    #[must_use]
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// The event's main revision.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.event.at.main
    }

    /// The encoded `mvccpb.Event`; `prev_kv` adds the version before, if there was one.
    #[must_use]
    pub fn encoded(&self, prev_kv: bool) -> Bytes {
        match &self.event.previous {
            Some(previous) if prev_kv => {
                self.with_previous.get_or_init(|| encode(&self.event, Some(previous))).clone()
            }
            _ => self.plain.get_or_init(|| encode(&self.event, None)).clone(),
        }
    }

    /// Upper estimate of the memory that this event holds once it is encoded, in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        let previous = self.event.previous.as_ref().map_or(0, |p| p.encoded().len());
        160 + 3 * self.event.record.encoded().len() + 2 * previous
    }
}

fn encode(event: &Event, previous: Option<&Record>) -> Bytes {
    let kv = event.record.encoded();
    let prev = previous.map_or(&[][..], Record::encoded);
    let mut out = Vec::with_capacity(kv.len() + prev.len() + 16);
    if event.kind == EventKind::Delete {
        out.extend([TYPE, 1]);
    }
    put_message(&mut out, KV, kv);
    if previous.is_some() {
        put_message(&mut out, PREV_KV, prev);
    }
    out.into()
}

fn put_message(out: &mut Vec<u8>, tag: u8, encoded: &[u8]) {
    out.push(tag);
    prost::encoding::encode_varint(encoded.len() as u64, out);
    out.extend_from_slice(encoded);
}

#[cfg(test)]
mod tests {
    use barque_proto::mvccpb;
    use prost::Message as _;

    use super::*;
    use crate::ids::SubRevision;
    use crate::record::Fields;

    fn record(value: &[u8], at: i64, version: i64) -> Record {
        Record::new(&Fields {
            key: b"k",
            create_revision: Revision(2),
            mod_revision: Revision(at),
            version,
            value,
            lease: None,
        })
    }

    fn event(kind: EventKind, record: Record, previous: Option<Record>) -> SharedEvent {
        let main = record.mod_revision();
        SharedEvent::new(Event { at: SubRevision { main, sub: 0 }, kind, record, previous })
    }

    #[test]
    fn is_what_a_protobuf_encoder_writes() {
        let old = record(&[7; 300], 4, 1);
        let kv = |r: &Record| mvccpb::KeyValue::decode(r.encoded()).unwrap();
        for (kind, new) in
            [(EventKind::Put, record(b"v", 5, 2)), (EventKind::Delete, Record::tombstone(b"k", Revision(5)))]
        {
            let wire_kind = match kind {
                EventKind::Put => mvccpb::event::EventType::Put,
                EventKind::Delete => mvccpb::event::EventType::Delete,
            };
            for previous in [None, Some(old.clone())] {
                let shared = event(kind, new.clone(), previous.clone());
                for prev_kv in [false, true] {
                    let wire = mvccpb::Event {
                        r#type: wire_kind.into(),
                        kv: Some(kv(&new)),
                        prev_kv: previous.as_ref().filter(|_| prev_kv).map(kv),
                    };
                    assert_eq!(shared.encoded(prev_kv), wire.encode_to_vec());
                }
            }
        }
    }

    #[test]
    fn is_encoded_once_for_all() {
        let shared = event(EventKind::Put, record(b"v", 5, 2), Some(record(b"u", 4, 1)));
        for prev_kv in [false, true] {
            assert_eq!(shared.encoded(prev_kv).as_ptr(), shared.encoded(prev_kv).as_ptr());
        }
        assert_ne!(shared.encoded(false), shared.encoded(true));
        let first = event(EventKind::Put, record(b"v", 5, 2), None);
        assert_eq!(first.encoded(false).as_ptr(), first.encoded(true).as_ptr());
    }
}
