//! Every state the store was ever in, from the revisions that it tells, by which answers are judged.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::history::{Event, KeyValue, RevisionEvents, Span};

/// A key at some revision: what it was, or that it was not there.
type Version = (i64, Option<KeyValue>);

/// All states up to the newest revision.
#[derive(Clone, Debug, Default)]
pub struct Past {
    keys: BTreeMap<String, Vec<Version>>,
    /// Events of revision 2 and up, without the keys before them.
    revisions: Vec<Vec<Event>>,
}

/// The revision of an empty store.
pub const FIRST_REVISION: i64 = 1;

/// The revisions do not make a history.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Inconsistent {
    /// A revision is missing, comes twice or goes back.
    #[error("revision {found} follows revision {last}: one is missing, told twice, or out of order")]
    Gap {
        /// The revision before.
        last: i64,
        /// The one that was told next.
        found: i64,
    },
    /// An event contradicts the revisions before it.
    #[error("at revision {revision} the key `{key}` should be {expected}, but the store tells {found}")]
    Event {
        /// The revision.
        revision: i64,
        /// The key.
        key: String,
        /// What follows from the revisions before.
        expected: String,
        /// What was told.
        found: String,
    },
}

/// The event as it would be without the key before it.
fn bare(event: &Event) -> Event {
    let kv = if event.deleted {
        let (key, mod_revision) = (event.kv.key.clone(), event.kv.mod_revision);
        KeyValue { key, mod_revision, ..KeyValue::default() }
    } else {
        event.kv.clone()
    };
    Event { kv, deleted: event.deleted, prev: None }
}

impl Past {
    /// The past that these revisions tell.
    ///
    /// # Errors
    /// When they contradict themselves.
    pub fn of(revisions: &[RevisionEvents]) -> Result<Self, Inconsistent> {
        let mut past = Self::default();
        for RevisionEvents { revision, events } in revisions {
            if *revision != past.newest() + 1 || events.is_empty() {
                return Err(Inconsistent::Gap { last: past.newest(), found: *revision });
            }
            past.check(*revision, events)?;
            past.push(events.iter().map(bare).collect());
        }
        Ok(past)
    }

    fn check(&self, revision: i64, events: &[Event]) -> Result<(), Inconsistent> {
        for (number, event) in events.iter().enumerate() {
            let key = &event.kv.key;
            let wrong = |expected: String| Inconsistent::Event {
                revision,
                key: key.clone(),
                expected,
                found: format!("{event:?}"),
            };
            let earlier = events[..number].iter().rev().find(|earlier| earlier.kv.key == *key);
            let before = match earlier {
                Some(earlier) => (!earlier.deleted).then_some(&earlier.kv),
                None => self.get(key, self.newest()),
            };
            let (create_revision, version) =
                before.map_or((revision, 1), |kv| (kv.create_revision, kv.version + 1));
            if event.kv.mod_revision != revision {
                return Err(wrong(format!("changed at revision {revision}")));
            }
            if event.deleted && before.is_none() {
                return Err(wrong("absent, and nothing to delete".to_owned()));
            }
            if !event.deleted && (event.kv.create_revision, event.kv.version) != (create_revision, version) {
                return Err(wrong(format!("version {version} of what revision {create_revision} created")));
            }
        }
        Ok(())
    }

    /// Appends one revision.
    pub fn push(&mut self, events: Vec<Event>) {
        let revision = self.newest() + 1;
        for event in &events {
            let kv = (!event.deleted).then(|| event.kv.clone());
            let versions = self.keys.entry(event.kv.key.clone()).or_default();
            // A key that one revision changes twice is what the last change made it.
            versions.retain(|(at, _)| *at != revision);
            versions.push((revision, kv));
        }
        self.revisions.push(events);
    }

    /// The newest revision.
    #[must_use]
    pub fn newest(&self) -> i64 {
        FIRST_REVISION + self.revisions.len() as i64
    }

    /// The key at a revision.
    #[must_use]
    pub fn get(&self, key: &str, at: i64) -> Option<&KeyValue> {
        Self::version(self.keys.get(key)?, at)
    }

    fn version(versions: &[Version], at: i64) -> Option<&KeyValue> {
        let newer = versions.partition_point(|(revision, _)| *revision <= at);
        versions.get(newer.checked_sub(1)?)?.1.as_ref()
    }

    /// The keys of a span at a revision, in their order.
    pub fn range<'a>(&'a self, span: &'a Span, at: i64) -> impl Iterator<Item = &'a KeyValue> {
        let end = match span.end.as_str() {
            "" => Bound::Included(span.key.as_str()),
            "\0" => Bound::Unbounded,
            // An end before the beginning is an empty span, which the map would refuse.
            end => Bound::Excluded(end.max(span.key.as_str())),
        };
        let start = match end {
            Bound::Excluded(end) if end == span.key => Bound::Excluded(span.key.as_str()),
            _ => Bound::Included(span.key.as_str()),
        };
        let keys = match (start, end) {
            (Bound::Excluded(_), Bound::Excluded(_)) => None,
            bounds => Some(self.keys.range::<str, _>(bounds)),
        };
        keys.into_iter().flatten().filter_map(move |(_, versions)| Self::version(versions, at))
    }

    /// The changes of a revision; none of one that is not there.
    #[must_use]
    pub fn events(&self, revision: i64) -> &[Event] {
        let index = usize::try_from(revision - FIRST_REVISION - 1).ok();
        index.and_then(|index| self.revisions.get(index)).map_or(&[], Vec::as_slice)
    }

    /// All revisions that changed something.
    pub fn revisions(&self) -> impl Iterator<Item = i64> + use<> {
        FIRST_REVISION + 1..=self.newest()
    }

    /// The lease whose end explains a revision: it deletes exactly the keys that hung on the lease.
    #[must_use]
    pub fn ended_lease(&self, revision: i64) -> Option<i64> {
        let events = self.events(revision);
        let before = revision - 1;
        let lease = self.get(&events.first()?.kv.key, before)?.lease;
        if lease == 0 || !events.iter().all(|event| event.deleted) {
            return None;
        }
        let deleted = events.iter().map(|event| event.kv.key.as_str());
        self.keys_of_lease(lease, before).eq(deleted).then_some(lease)
    }

    /// The keys that hang on a lease at a revision, in their order.
    pub fn keys_of_lease(&self, lease: i64, at: i64) -> impl Iterator<Item = &str> {
        self.keys.iter().filter_map(move |(key, versions)| {
            Self::version(versions, at).filter(|kv| kv.lease == lease).map(|_| key.as_str())
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "in a test a failure is the message")]

    use super::*;

    fn put(key: &str, create_revision: i64, mod_revision: i64, version: i64, lease: i64) -> Event {
        let (key, value) = (key.to_owned(), mod_revision.to_string());
        let kv = KeyValue { key, value, create_revision, mod_revision, version, lease };
        Event { kv, deleted: false, prev: None }
    }

    fn delete(key: &str, mod_revision: i64) -> Event {
        let kv = KeyValue { key: key.to_owned(), mod_revision, ..KeyValue::default() };
        Event { kv, deleted: true, prev: None }
    }

    fn told(revisions: Vec<(i64, Vec<Event>)>) -> Vec<RevisionEvents> {
        revisions.into_iter().map(|(revision, events)| RevisionEvents { revision, events }).collect()
    }

    #[test]
    fn states_of_the_past_are_there() {
        let revisions = vec![
            (2, vec![put("a", 2, 2, 1, 7), put("b", 2, 2, 1, 7)]),
            (3, vec![put("c", 3, 3, 1, 0)]),
            (4, vec![delete("a", 4), delete("b", 4)]),
            (5, vec![put("a", 5, 5, 1, 0)]),
            (6, vec![put("a", 5, 6, 2, 0)]),
        ];
        let past = Past::of(&told(revisions)).unwrap();
        let everything = Span::everything();
        let keys = |at| past.range(&everything, at).map(|kv| kv.key.as_str()).collect::<Vec<_>>();
        assert_eq!(keys(1), [""; 0]);
        assert_eq!(keys(3), ["a", "b", "c"]);
        assert_eq!(keys(4), ["c"]);
        assert_eq!(past.get("a", 6).unwrap().version, 2);
        assert_eq!(past.ended_lease(4), Some(7));
        assert_eq!(past.ended_lease(3), None);
        let backwards = Span { key: "b".to_owned(), end: "a".to_owned() };
        assert_eq!(past.range(&backwards, 6).count(), 0);
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let a = || (2, vec![put("a", 2, 2, 1, 0)]);
        for (wrong, why) in [
            (vec![a(), (4, vec![put("a", 2, 4, 2, 0)])], "a gap"),
            (vec![a(), (2, vec![put("a", 2, 2, 1, 0)])], "a revision that is told twice"),
            (vec![a(), (3, vec![put("a", 2, 3, 3, 0)])], "a version too many"),
            (vec![a(), (3, vec![put("a", 3, 3, 1, 0)])], "created again"),
            (vec![a(), (3, vec![delete("b", 3)])], "a deletion of nothing"),
            (vec![a(), (3, vec![put("b", 2, 2, 1, 0)])], "an event of another revision"),
            (vec![a(), (3, vec![])], "a revision that changes nothing"),
        ] {
            assert!(Past::of(&told(wrong)).is_err(), "{why}");
        }
    }
}
