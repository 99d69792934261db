//! The buckets `key` and `meta`: which versions of keys there are, and which of them etcd has compacted. Pure.
//!
//! ```text
//! key    8  revision, big-endian
//!        1  _
//!        8  place inside the revision, big-endian
//!        1  t, only for a deletion
//! value     mvccpb.KeyValue; of a deletion only with the key
//! ```
//!
//! etcd moves its compact revision first and sweeps later, also across restarts. What is left of the sweeping can
//! still be in a snapshot; here it is passed over, so that only the compact revision decides what can be seen.

use std::collections::HashMap;

use barque_proto::mvccpb::KeyValue;
use prost::Message as _;

use super::error::Stop;
use crate::ids::{LeaseId, Revision, SubRevision};
use crate::record::{Fields, Record};
use crate::stored::StoredVersion;

const PLACE_LEN: usize = 17;
const TOMBSTONE: u8 = b't';
/// A store that was never compacted.
const NEVER: Revision = Revision(-1);

/// What `meta` says of compaction.
#[derive(Debug, Default)]
pub(super) struct Meta {
    scheduled: Option<Revision>,
    finished: Option<Revision>,
}

impl Meta {
    /// Takes an entry of the bucket.
    pub(super) fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), Stop> {
        let revision =
            || place(value).map(|(at, _)| at.main).ok_or_else(|| unknown("compact revision", value));
        match key {
            b"scheduledCompactRev" => self.scheduled = Some(revision()?),
            b"finishedCompactRev" => self.finished = Some(revision()?),
            // Where etcd's log stood, its membership and its format: not of the data.
            _ => {}
        }
        Ok(())
    }

    /// The oldest revision that can be read.
    pub(super) fn compact_revision(&self) -> Revision {
        self.scheduled.max(self.finished).unwrap_or(NEVER)
    }
}

/// What is known of a key.
#[derive(Clone, Copy, Debug, Default)]
struct Past {
    /// The newest version that is not after the compact revision.
    at_compact: SubRevision,
    lives: bool,
}

/// All keys, counted once before any is written.
#[derive(Debug)]
pub(super) struct Census {
    compact: Revision,
    newest: Revision,
    keys: HashMap<Vec<u8>, Past>,
}

impl Census {
    pub(super) fn new(compact: Revision) -> Self {
        Self { compact, newest: Revision::EMPTY, keys: HashMap::new() }
    }

    /// Counts an entry of the bucket; they come in order.
    pub(super) fn count(&mut self, key: &[u8], value: &[u8]) -> Result<(), Stop> {
        let version = version(key, value)?;
        let past = match self.keys.get_mut(version.record.key()) {
            Some(past) => past,
            None => self.keys.entry(version.record.key().to_vec()).or_default(),
        };
        past.lives = !version.tombstone;
        if version.at.main <= self.compact {
            past.at_compact = version.at;
        }
        self.newest = self.newest.max(version.at.main);
        Ok(())
    }

    /// The current revision. Everything up to the compact revision may be swept away, so it is at least that.
    pub(super) fn revision(&self) -> Revision {
        self.newest.max(self.compact)
    }

    pub(super) fn live_keys(&self) -> u64 {
        self.keys.values().filter(|past| past.lives).count() as u64
    }

    /// The version that an entry of the bucket is, unless it is compacted.
    pub(super) fn kept(&self, key: &[u8], value: &[u8]) -> Result<Option<StoredVersion>, Stop> {
        let version = version(key, value)?;
        let visible = || {
            let past = self.keys.get(version.record.key());
            past.is_some_and(|past| past.at_compact == version.at)
        };
        let kept = if version.at.main > self.compact {
            true
        } else if version.tombstone {
            // A watch may begin at the compact revision itself and see what was deleted then.
            version.at.main == self.compact
        } else {
            visible()
        };
        Ok(kept.then_some(version))
    }
}

fn unknown(what: &str, bytes: &[u8]) -> Stop {
    format!("{what} {bytes:02x?} is none of etcd's").into()
}

/// A place in history, and what follows it.
fn place(key: &[u8]) -> Option<(SubRevision, &[u8])> {
    let (place, rest) = key.split_first_chunk::<PLACE_LEN>()?;
    let (main, rest_of_place) = place.split_first_chunk()?;
    let (mark, sub) = rest_of_place.split_first()?;
    let main = i64::from_be_bytes(*main);
    let sub = u32::try_from(u64::from_be_bytes(*sub.first_chunk()?)).ok()?;
    (*mark == b'_' && main >= 0).then_some((SubRevision { main: Revision(main), sub }, rest))
}

fn version(key: &[u8], value: &[u8]) -> Result<StoredVersion, Stop> {
    let (at, mark) =
        place(key).filter(|(at, _)| at.main > Revision(0)).ok_or_else(|| unknown("revision", key))?;
    let contradicts = || Stop::from(format!("the version at {}/{} contradicts itself", at.main, at.sub));
    let kv = KeyValue::decode(value)
        .map_err(|error| format!("the version at {}/{} is none: {error}", at.main, at.sub))?;
    if kv.key.is_empty() {
        return Err(contradicts());
    }
    match mark {
        [TOMBSTONE] => {
            let record = Record::tombstone(&kv.key, at.main);
            Ok(StoredVersion { at, record, tombstone: true })
        }
        [] if kv.mod_revision == at.main.0
            && kv.version > 0
            && (1..=kv.mod_revision).contains(&kv.create_revision) =>
        {
            let record = Record::new(&Fields {
                key: &kv.key,
                create_revision: Revision(kv.create_revision),
                mod_revision: at.main,
                version: kv.version,
                value: &kv.value,
                lease: (kv.lease != 0).then_some(LeaseId(kv.lease)),
            });
            Ok(StoredVersion { at, record, tombstone: false })
        }
        [] => Err(contradicts()),
        _ => Err(unknown("revision", key)),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An entry of `key` as etcd writes it.
    pub(in super::super) fn entry(
        main: i64,
        sub: u64,
        key: &str,
        create: i64,
        version: i64,
    ) -> (Vec<u8>, Vec<u8>) {
        let mut place = main.to_be_bytes().to_vec();
        place.push(b'_');
        place.extend(sub.to_be_bytes());
        let mut kv = KeyValue { key: key.to_owned().into(), ..Default::default() };
        if version == 0 {
            place.push(TOMBSTONE);
        } else {
            kv.value = format!("{main}/{sub}").into();
            (kv.create_revision, kv.mod_revision, kv.version) = (create, main, version);
        }
        (place, kv.encode_to_vec())
    }

    /// `a` is put at 2, 3 and 6; `b` put at 2, deleted at 4; `c` put at 4, deleted at 5, put at 7.
    fn history() -> Vec<(Vec<u8>, Vec<u8>)> {
        vec![
            entry(2, 0, "a", 2, 1),
            entry(2, 1, "b", 2, 1),
            entry(3, 0, "a", 2, 2),
            entry(4, 0, "b", 0, 0),
            entry(4, 1, "c", 4, 1),
            entry(5, 0, "c", 0, 0),
            entry(6, 0, "a", 2, 3),
            entry(7, 0, "c", 7, 1),
        ]
    }

    #[test]
    fn what_is_compacted_is_passed_over() {
        let history = history();
        for (compact, kept) in [
            (-1, "2/0 2/1 3/0 4/0 4/1 5/0 6/0 7/0"),
            (0, "2/0 2/1 3/0 4/0 4/1 5/0 6/0 7/0"),
            (2, "2/0 2/1 3/0 4/0 4/1 5/0 6/0 7/0"),
            (3, "2/1 3/0 4/0 4/1 5/0 6/0 7/0"),
            (4, "3/0 4/0 4/1 5/0 6/0 7/0"),
            (5, "3/0 5/0 6/0 7/0"),
            (6, "6/0 7/0"),
            (7, "6/0 7/0"),
        ] {
            let mut census = Census::new(Revision(compact));
            history.iter().for_each(|(key, value)| census.count(key, value).unwrap());
            let versions = history.iter().filter_map(|(key, value)| census.kept(key, value).unwrap());
            let places: Vec<_> = versions.map(|v| format!("{}/{}", v.at.main, v.at.sub)).collect();
            assert_eq!(places.join(" "), kept, "compacted to {compact}");
            assert_eq!((census.revision(), census.live_keys()), (Revision(7), 2));
        }
    }

    #[test]
    fn the_revision_is_not_before_the_compact_revision() {
        assert_eq!(Census::new(NEVER).revision(), Revision::EMPTY);
        // The last change was a deletion, and it is swept away already.
        let mut census = Census::new(Revision(9));
        let (key, value) = entry(4, 0, "a", 4, 1);
        census.count(&key, &value).unwrap();
        assert_eq!(census.revision(), Revision(9));
    }

    #[test]
    fn compaction_counts_from_when_it_was_asked_for() {
        let place = |main: i64| entry(main, 0, "x", 1, 1).0;
        let of = |entries: &[(&[u8], i64)]| {
            let mut meta = Meta::default();
            entries.iter().for_each(|(key, main)| meta.take(key, &place(*main)).unwrap());
            meta.compact_revision()
        };
        assert_eq!(of(&[]), NEVER);
        assert_eq!(of(&[(b"consistent_index", 5)]), NEVER);
        assert_eq!(of(&[(b"finishedCompactRev", 5), (b"scheduledCompactRev", 8)]), Revision(8));
        assert_eq!(of(&[(b"finishedCompactRev", 5), (b"scheduledCompactRev", 5)]), Revision(5));
        assert!(Meta::default().take(b"finishedCompactRev", b"12345678").is_err());
    }

    #[test]
    fn entries_that_etcd_does_not_write_are_refused() {
        let (place, value) = entry(3, 0, "a", 2, 2);
        assert!(version(&place, &value).is_ok());
        for (key, value) in [
            (place[..16].to_vec(), value.clone()),
            ([&place[..], b"x"].concat(), value.clone()),
            ([&place[..], b"tt"].concat(), value.clone()),
            (entry(4, 0, "a", 2, 2).0, value.clone()),
            (entry(0, 0, "a", 2, 2).0, value.clone()),
            (entry(3, u64::MAX, "a", 2, 2).0, value.clone()),
            (place.clone(), value[..value.len() - 1].to_vec()),
            (place.clone(), vec![]),
            (place.clone(), entry(3, 0, "a", 4, 2).1),
        ] {
            assert!(version(&key, &value).is_err(), "{key:?} {value:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_understood(key: Vec<u8>, value: Vec<u8>) {
            let _ = version(&key, &value);
            let _ = version(&entry(3, 0, "a", 2, 2).0, &value);
        }
    }
}
