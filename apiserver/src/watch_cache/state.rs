//! Everything that the cache knows: the objects as they are, the recent past, and up to where. Pure: changes go in, events
//! come out; time is handed in.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::event::{Event, Pair, What};
use super::index::Index;
use super::object::{FieldIndex, Object};
use super::ring::{Ring, RingLimits, TooOld};
use crate::storage::Revision;

/// A change whose object was read.
pub struct ReadChange {
    /// The key.
    pub key: Bytes,
    /// When.
    pub revision: Revision,
    /// What stands there now.
    pub object: Option<Arc<Object>>,
}

/// See the module's description.
pub struct State {
    /// The objects at `revision`.
    pub index: Index,
    /// What happened before.
    pub ring: Ring,
    /// All changes up to here are in it.
    pub revision: Revision,
    field: Option<FieldIndex>,
}

impl State {
    /// The state of a collection that was listed at this revision; objects in ascending order of their keys.
    #[must_use]
    pub fn new(
        objects: &[Arc<Object>],
        revision: Revision,
        field: Option<FieldIndex>,
        limits: RingLimits,
    ) -> Self {
        let index = Index::from_sorted(objects, field);
        Self { index, ring: Ring::new(limits, revision), revision, field }
    }

    /// Takes changes in, whole revisions in their order; what is known already is passed over.
    pub fn apply(&mut self, changes: Vec<ReadChange>, now: Duration) -> Vec<Arc<Event>> {
        let known = self.revision;
        let mut events = Vec::with_capacity(changes.len());
        for change in changes.into_iter().filter(|change| change.revision > known) {
            self.revision = self.revision.max(change.revision);
            let before = self.index.set(&change.key, change.object.clone());
            // Nobody ever saw it.
            if before.is_none() && change.object.is_none() {
                continue;
            }
            events.push(self.ring.push(What::Change((before, change.object)), change.revision, now));
        }
        self.ring.trim(now);
        events
    }

    /// Nothing else happened up to here.
    pub fn progress(&mut self, revision: Revision) {
        self.revision = self.revision.max(revision);
    }

    /// Takes a new list in, because changes were lost; what differs is an event. `None` when the list is not newer.
    pub fn replace(
        &mut self,
        objects: &[Arc<Object>],
        revision: Revision,
        now: Duration,
    ) -> Option<Arc<Event>> {
        if revision <= self.revision {
            return None;
        }
        let next = Index::from_sorted(objects, self.field);
        let changed = difference(&self.index, &next);
        let gap = What::Gap { from: self.revision, changed };
        self.index = next;
        self.revision = revision;
        let event = self.ring.push(gap, revision, now);
        self.ring.trim(now);
        Some(event)
    }

    /// The objects as they were at an earlier revision: the newest state with everything behind it undone.
    ///
    /// # Errors
    /// When that is too long ago, or was never seen.
    pub fn at(&self, revision: Revision) -> Result<Index, TooOld> {
        let mut index = self.index.clone();
        for event in self.ring.back_to(revision)? {
            let pairs = match &event.what {
                What::Change(pair) => std::slice::from_ref(pair),
                What::Gap { changed, .. } => changed.as_slice(),
            };
            for (before, after) in pairs {
                if let Some(object) = after.as_ref().or(before.as_ref()) {
                    index.set(object.key(), before.clone());
                }
            }
        }
        Ok(index)
    }
}

/// What is new, gone or of another version.
fn difference(before: &Index, after: &Index) -> Vec<Pair> {
    let (mut old, mut new) = (before.scan(b"", b"").peekable(), after.scan(b"", b"").peekable());
    let mut changed = Vec::new();
    loop {
        let pair = match (old.peek(), new.peek()) {
            (None, None) => return changed,
            (Some(a), Some(b)) if a.key() == b.key() => (old.next(), new.next()),
            (Some(a), Some(b)) if a.key() < b.key() => (old.next(), None),
            (Some(_), None) => (old.next(), None),
            (_, Some(_)) => (None, new.next()),
        };
        let same = matches!(pair, (Some(a), Some(b)) if a.revision() == b.revision());
        if !same {
            changed.push((pair.0.cloned(), pair.1.cloned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::storage::Entry;
    use crate::watch_cache::reader::ObjectReader;

    const NODE: FieldIndex = FieldIndex(2);

    fn reader() -> ObjectReader {
        ObjectReader::new([("spec.nodeName", "")])
    }

    fn object(key: u8, node: u8, revision: u64) -> Arc<Object> {
        let value = format!(r#"{{"metadata":{{"name":"{key}"}},"spec":{{"nodeName":"{node}"}}}}"#);
        let key = format!("/r/pods/{}/{key}", key % 2);
        Arc::new(reader().read(Entry { key: key.into(), value: value.into(), revision: Revision(revision) }))
    }

    fn change(key: u8, node: Option<u8>, revision: u64) -> ReadChange {
        let present = object(key, node.unwrap_or(0), revision);
        let key = present.key().clone();
        ReadChange { key, revision: Revision(revision), object: node.map(|_| present) }
    }

    type Model = BTreeMap<Bytes, Arc<Object>>;

    fn check(index: &Index, model: &Model) {
        let shown = |objects: &mut dyn Iterator<Item = &Arc<Object>>| -> Vec<String> {
            objects.map(|object| format!("{object:?}")).collect()
        };
        assert_eq!(shown(&mut index.scan(b"", b"")), shown(&mut model.values()));
        assert_eq!(index.len(), model.len());
        for prefix in ["/r/pods/0/", "/r/pods/1/", "/r/pods/"] {
            let start = "/r/pods/1/4";
            let inside = |object: &&Arc<Object>| {
                object.key().starts_with(prefix.as_bytes()) && object.key().as_ref() >= start.as_bytes()
            };
            let expected = shown(&mut model.values().filter(inside));
            assert_eq!(shown(&mut index.scan(prefix.as_bytes(), start.as_bytes())), expected);
            assert_eq!(index.count(prefix.as_bytes(), start.as_bytes()), expected.len());
            for node in ["0", "1", "2"] {
                let on_node = |object: &&Arc<Object>| inside(object) && object.field(NODE) == node;
                let mut found = index.scan_value(node, prefix.as_bytes(), start.as_bytes()).unwrap();
                assert_eq!(shown(&mut found), shown(&mut model.values().filter(on_node)));
            }
        }
    }

    /// Key, node or nothing, whether it begins a new revision; or a gap.
    fn steps() -> impl Strategy<Value = Vec<(u8, Option<u8>, bool, bool)>> {
        let step = (0..8_u8, proptest::option::of(0..3_u8), any::<bool>(), proptest::bool::weighted(0.1));
        proptest::collection::vec(step, 0..60)
    }

    proptest! {
        #[test]
        fn every_state_that_is_covered_can_be_had_again(steps in steps(), max_events in 3..40_usize) {
            let limits = RingLimits { max_events, ..RingLimits::default() };
            let mut state = State::new(&[], Revision(10), Some(NODE), limits);
            let mut model = Model::new();
            let mut past = BTreeMap::from([(10, Some(Model::new()))]);
            let mut revision = 10;
            for (key, node, new, gap) in steps {
                if gap {
                    // Two changes are lost.
                    past.insert(revision + 1, None);
                    revision += 2;
                    for key in [key, key.wrapping_add(1) % 8] {
                        let lost = object(key, node.unwrap_or(1), revision);
                        model.insert(lost.key().clone(), lost);
                    }
                    let objects: Vec<_> = model.values().cloned().collect();
                    state.replace(&objects, Revision(revision), Duration::ZERO);
                } else {
                    revision += 1 + u64::from(new);
                    let change = change(key, node, revision);
                    match &change.object {
                        Some(object) => model.insert(change.key.clone(), object.clone()),
                        None => model.remove(&change.key),
                    };
                    state.apply(vec![change], Duration::ZERO);
                }
                past.insert(revision, Some(model.clone()));
            }
            check(&state.index, &model);
            for (revision, model) in past {
                match (state.at(Revision(revision)), model) {
                    (Ok(index), Some(model)) => check(&index, &model),
                    (Ok(_), None) => prop_assert!(false, "{revision} was never seen"),
                    (Err(too_old), _) => prop_assert!(too_old.oldest > Revision(revision)),
                }
            }
            prop_assert!(state.at(state.revision).is_ok());
        }
    }

    #[test]
    fn what_is_known_or_was_never_there_is_no_event() {
        let mut state = State::new(&[object(1, 0, 5)], Revision(10), Some(NODE), RingLimits::default());
        assert!(state.apply(vec![change(1, Some(1), 9)], Duration::ZERO).is_empty());
        assert!(state.apply(vec![change(2, None, 11)], Duration::ZERO).is_empty());
        assert_eq!(state.revision, Revision(11));
        // Two keys of one revision.
        let events = state.apply(vec![change(1, Some(1), 12), change(2, Some(0), 12)], Duration::ZERO);
        assert_eq!(events.len(), 2);
        state.progress(Revision(20));
        state.progress(Revision(15));
        assert_eq!(state.revision, Revision(20));
        assert!(state.replace(&[], Revision(20), Duration::ZERO).is_none());
        assert_eq!(state.index.len(), 2);
    }
}
