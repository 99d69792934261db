//! What was encoded reads back; what was changed does not.

use proptest::prelude::*;

use super::*;

fn position() -> impl Strategy<Value = Position> {
    (any::<u64>(), any::<u64>()).prop_map(|(term, index)| Position { term, index })
}

#[derive(Clone, Debug)]
enum Owned {
    Entry(LogEntry),
    Vote(SavedVote),
    Truncate(Option<Position>),
    Committed(Position),
    Purged(Position),
    Mark,
}

impl Owned {
    fn record(&self) -> Record<'_> {
        match self {
            Self::Entry(entry) => entry.record(),
            Self::Vote(vote) => Record::Vote(*vote),
            Self::Truncate(last) => Record::Truncate { last: *last },
            Self::Committed(position) => Record::Committed(*position),
            Self::Purged(position) => Record::Purged(*position),
            Self::Mark => Record::Mark,
        }
    }
}

fn vote() -> impl Strategy<Value = SavedVote> {
    (any::<u64>(), any::<u64>(), any::<bool>()).prop_map(|(term, voted_for, committed)| SavedVote {
        term,
        voted_for,
        committed,
    })
}

fn record() -> impl Strategy<Value = Owned> {
    let payload = prop_oneof![
        Just(Payload::Blank),
        proptest::collection::vec(any::<u8>(), 0..200).prop_map(|b| Payload::Batch(b.into())),
        proptest::collection::vec(any::<u8>(), 0..200).prop_map(|b| Payload::Membership(b.into())),
    ];
    prop_oneof![
        (position(), payload).prop_map(|(position, payload)| Owned::Entry(LogEntry { position, payload })),
        vote().prop_map(Owned::Vote),
        proptest::option::of(position()).prop_map(Owned::Truncate),
        position().prop_map(Owned::Committed),
        position().prop_map(Owned::Purged),
        Just(Owned::Mark),
    ]
}

proptest! {
    #[test]
    fn a_record_reads_back(record in record(), nonce: u64, offset in 0_u32..1 << 30, previous: u32) {
        let place = RecordPlace { nonce, offset };
        let mut bytes = Vec::new();
        let crc = record.record().encode(place, previous, offset, &mut bytes);
        prop_assert_eq!(bytes.len(), record.record().encoded_bytes());
        let found = decode_record(&bytes, place).expect("valid");
        prop_assert_eq!(found.record, record.record());
        prop_assert_eq!((found.crc, found.previous_crc, found.synced_to), (crc, previous, offset));
        prop_assert_eq!(found.encoded_bytes, bytes.len());
    }

    #[test]
    fn a_flipped_bit_or_a_cut_is_seen(record in record(), nonce: u64, at: prop::sample::Index) {
        let place = RecordPlace { nonce, offset: 4096 };
        let mut bytes = Vec::new();
        record.record().encode(place, 7, 4096, &mut bytes);
        prop_assert!(decode_record(&bytes[..at.index(bytes.len())], place).is_none());
        let bit = at.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(decode_record(&bytes, place).is_none());
    }

    #[test]
    fn a_record_is_valid_at_its_place_only(record in record(), nonce: u64) {
        let place = RecordPlace { nonce, offset: 4096 };
        let mut bytes = Vec::new();
        record.record().encode(place, 7, 0, &mut bytes);
        let elsewhere = RecordPlace { nonce, offset: 4104 };
        prop_assert!(decode_record(&bytes, elsewhere).is_none());
        let other = RecordPlace { nonce: nonce.wrapping_add(1), offset: 4096 };
        prop_assert!(decode_record(&bytes, other).is_none());
    }

    #[test]
    fn a_header_reads_back_and_damage_is_seen(
        ids: (u64, u64), sequence: u32, previous: (u32, u32), nonce: u64, first_index: u64,
        last in proptest::option::of(position()), purged in proptest::option::of(position()),
        committed in proptest::option::of(position()), vote in proptest::option::of(vote()),
        bit in 0_usize..4096 * 8,
    ) {
        let header = SegmentHeader {
            cluster_id: ids.0, member_id: ids.1, sequence, nonce,
            previous_end: previous.0, previous_crc: previous.1,
            standing: Standing { vote, purged, committed, first_index, last },
        };
        let (mut bytes, crc) = header.encode();
        prop_assert_eq!(bytes.len(), SEGMENT_HEADER_BYTES as usize);
        prop_assert_eq!(SegmentHeader::decode(&bytes), Ok((header, crc)));
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(SegmentHeader::decode(&bytes).is_err());
    }
}
