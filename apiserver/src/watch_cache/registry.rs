//! Who watches what: finds the watchers that an event may concern without asking the others, and hands it to those that
//! want it. Must never wait for a watcher: one whose queue is full is let go, and catches up by itself.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::event::{Event, Kind, Pair, What, transition};
use super::object::{FieldIndex, Object};
use crate::storage::Revision;

/// Whether a watcher or list wants an object; told of attributes, never to change them.
pub type Filter = Arc<dyn Fn(&Object) -> bool + Send + Sync>;

/// Which objects are wanted.
#[derive(Clone, Default)]
pub struct Selection {
    /// What keys begin with: those of the collection, of a namespace, or one object's whole key. Empty for all.
    pub prefix: Bytes,
    /// The prefix is a whole key.
    pub single: bool,
    /// The value of the indexed field that all of them have.
    pub value: Option<String>,
    /// Selectors; `None` for everything.
    pub filter: Option<Filter>,
}

impl Selection {
    /// Whether an object is wanted. One that cannot be read may be any.
    #[must_use]
    pub fn wants(&self, object: &Object, field: Option<FieldIndex>) -> bool {
        let here =
            if self.single { *object.key() == self.prefix } else { object.key().starts_with(&self.prefix) };
        if !here || object.unreadable().is_some() {
            return here;
        }
        let value = match (&self.value, field) {
            (Some(value), Some(field)) => object.field(field) == value,
            (Some(_), None) => false,
            (None, _) => true,
        };
        value && self.filter.as_ref().is_none_or(|filter| filter(object))
    }

    /// Whether it may leave objects out that are in the prefix.
    #[must_use]
    pub fn is_selective(&self) -> bool {
        self.value.is_some() || self.filter.is_some()
    }
}

/// An event on its way to a watcher, and what it means to it.
#[derive(Clone, Debug)]
pub(super) struct Queued {
    pub(super) event: Arc<Event>,
    pub(super) kind: Kind,
}

/// Names a watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct WatcherId(u64);

/// Watchers that are looked at together.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Group {
    Prefix(Bytes),
    Key(Bytes),
    Value(String),
}

fn group_of(selection: &Selection) -> Group {
    match &selection.value {
        _ if selection.single => Group::Key(selection.prefix.clone()),
        Some(value) => Group::Value(value.clone()),
        None => Group::Prefix(selection.prefix.clone()),
    }
}

struct Slot {
    id: WatcherId,
    selection: Selection,
    queue: mpsc::Sender<Queued>,
    /// Earlier events were found in the ring.
    from: u64,
    /// Events up to this revision are not wanted.
    after: Revision,
}

/// See the module's description.
pub(super) struct Registry {
    groups: HashMap<Group, Vec<Slot>>,
    /// What the keys of all objects begin with.
    prefix: Bytes,
    field: Option<FieldIndex>,
    next: u64,
    /// Everything up to here was handed out.
    pub(super) dispatched: Revision,
}

/// A new watcher.
pub(super) struct Registration {
    pub(super) selection: Selection,
    pub(super) capacity: usize,
    /// The first event that it has not seen.
    pub(super) from: u64,
    pub(super) after: Revision,
}

impl Registry {
    pub(super) fn new(prefix: Bytes, field: Option<FieldIndex>) -> Self {
        Self { groups: HashMap::new(), prefix, field, next: 0, dispatched: Revision(0) }
    }

    pub(super) fn add(&mut self, new: Registration) -> (WatcherId, mpsc::Receiver<Queued>) {
        let (queue, events) = mpsc::channel(new.capacity);
        let id = WatcherId(self.next);
        self.next += 1;
        let group = group_of(&new.selection);
        let slot = Slot { id, selection: new.selection, queue, from: new.from, after: new.after };
        self.groups.entry(group).or_default().push(slot);
        (id, events)
    }

    pub(super) fn remove(&mut self, id: WatcherId, selection: &Selection) {
        let group = group_of(selection);
        let Some(slots) = self.groups.get_mut(&group) else { return };
        slots.retain(|slot| slot.id != id);
        if slots.is_empty() {
            self.groups.remove(&group);
        }
    }

    /// How many watchers wait for events.
    pub(super) fn len(&self) -> usize {
        self.groups.values().map(Vec::len).sum()
    }

    /// Hands an event to all who want it; how many were let go.
    pub(super) fn dispatch(&mut self, event: &Arc<Event>) -> usize {
        match &event.what {
            What::Change(pair) => {
                let groups = self.groups_of(pair);
                groups.into_iter().map(|group| self.dispatch_to(&group, event, pair)).sum()
            }
            // Those whom it concerns find the gap in the ring, and end there; the others need not know.
            What::Gap { changed, .. } => {
                let field = self.field;
                self.retain(|slot| !concerns(changed, &slot.selection, field))
            }
        }
    }

    /// The groups in which somebody may want this change.
    fn groups_of(&self, pair: &Pair) -> Vec<Group> {
        let Some(object) = pair.1.as_ref().or(pair.0.as_ref()) else { return Vec::new() };
        let key = object.key();
        let parent = key.iter().rposition(|byte| *byte == b'/').map_or(key.slice(..0), |at| key.slice(..=at));
        let mut groups = vec![Group::Key(key.clone()), Group::Prefix(self.prefix.clone())];
        if parent != self.prefix {
            groups.push(Group::Prefix(parent));
        }
        if let Some(field) = self.field {
            let mut values: Vec<_> =
                [&pair.0, &pair.1].into_iter().flatten().map(|object| object.field(field)).collect();
            values.dedup();
            groups.extend(values.into_iter().map(|value| Group::Value(value.to_owned())));
        }
        groups
    }

    fn dispatch_to(&mut self, group: &Group, event: &Arc<Event>, pair: &Pair) -> usize {
        let field = self.field;
        let Some(slots) = self.groups.get_mut(group) else { return 0 };
        let before = slots.len();
        slots.retain(|slot| {
            if event.sequence < slot.from || event.revision <= slot.after {
                return true;
            }
            let Some(kind) = transition(pair, |object| slot.selection.wants(object, field)) else {
                return true;
            };
            match slot.queue.try_send(Queued { event: Arc::clone(event), kind }) {
                Ok(()) => true,
                Err(TrySendError::Full(_) | TrySendError::Closed(_)) => false,
            }
        });
        let let_go = before - slots.len();
        if slots.is_empty() {
            self.groups.remove(group);
        }
        let_go
    }

    fn retain(&mut self, keep: impl Fn(&Slot) -> bool) -> usize {
        let before = self.len();
        self.groups.retain(|_, slots| {
            slots.retain(&keep);
            !slots.is_empty()
        });
        before - self.len()
    }
}

/// Whether somebody who wants these objects lost changes.
pub(super) fn concerns(changed: &[Pair], selection: &Selection, field: Option<FieldIndex>) -> bool {
    changed.iter().any(|pair| transition(pair, |object| selection.wants(object, field)).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Entry;
    use crate::watch_cache::reader::ObjectReader;

    const PREFIX: &str = "/r/pods/";

    struct Fixture {
        registry: Registry,
        reader: ObjectReader,
        sequence: u64,
    }

    impl Fixture {
        fn new() -> Self {
            let reader = ObjectReader::new([("spec.nodeName", "")]);
            let registry =
                Registry::new(Bytes::from_static(PREFIX.as_bytes()), reader.field("spec.nodeName"));
            Self { registry, reader, sequence: 0 }
        }

        fn object(&self, key: &str, node: &str) -> Option<Arc<Object>> {
            let value = format!(r#"{{"metadata":{{"name":"x"}},"spec":{{"nodeName":"{node}"}}}}"#);
            let key = format!("{PREFIX}{key}");
            let entry = Entry { key: key.into(), value: value.into(), revision: Revision(1) };
            Some(Arc::new(self.reader.read(entry)))
        }

        fn watch(&mut self, prefix: &str, single: bool, value: Option<&str>) -> mpsc::Receiver<Queued> {
            let selection = Selection {
                prefix: format!("{PREFIX}{prefix}").into(),
                single,
                value: value.map(str::to_owned),
                filter: None,
            };
            let new = Registration { selection, capacity: 2, from: self.sequence, after: Revision(0) };
            self.registry.add(new).1
        }

        fn happen(&mut self, before: Option<Arc<Object>>, after: Option<Arc<Object>>) -> usize {
            self.sequence += 1;
            let what = What::Change((before, after));
            let event = Arc::new(Event::new(what, Revision(self.sequence + 10), self.sequence));
            self.registry.dispatch(&event)
        }
    }

    fn told(queue: &mut mpsc::Receiver<Queued>) -> Vec<Kind> {
        std::iter::from_fn(|| queue.try_recv().ok()).map(|queued| queued.kind).collect()
    }

    #[test]
    fn an_event_reaches_those_who_want_it_and_nobody_else() {
        let mut all = Fixture::new();
        let mut everything = all.watch("", false, None);
        let mut namespace = all.watch("a/", false, None);
        let mut other_namespace = all.watch("b/", false, None);
        let mut single = all.watch("a/x", true, None);
        let mut node_1 = all.watch("", false, Some("1"));
        let mut node_2 = all.watch("", false, Some("2"));
        let mut node_1_in_b = all.watch("b/", false, Some("1"));

        let (first, second) = (all.object("a/x", "1"), all.object("a/x", "2"));
        all.happen(None, first.clone());
        all.happen(first, second.clone());
        for queue in [&mut everything, &mut namespace, &mut single] {
            assert_eq!(told(queue), [Kind::Added, Kind::Modified]);
        }
        assert_eq!(told(&mut node_1), [Kind::Added, Kind::Deleted]);
        assert_eq!(told(&mut node_2), [Kind::Added]);
        all.happen(second, None);
        assert_eq!((told(&mut node_2), told(&mut node_1)), (vec![Kind::Deleted], vec![]));
        let neighbour = all.object("a/x2", "3");
        all.happen(None, neighbour);
        assert_eq!(told(&mut single), [Kind::Deleted], "a name that begins with its name is another object");
        assert_eq!((told(&mut other_namespace), told(&mut node_1_in_b)), (vec![], vec![]));
    }

    #[test]
    fn who_does_not_keep_up_is_let_go_with_what_it_has() {
        let mut all = Fixture::new();
        let (mut slow, mut fast) = (all.watch("", false, None), all.watch("", false, None));
        let object = all.object("a/x", "1");
        assert_eq!(all.happen(None, object.clone()), 0);
        assert_eq!(all.happen(object.clone(), object.clone()), 0);
        assert_eq!(told(&mut fast).len(), 2);
        assert_eq!(all.happen(object, None), 1);
        assert_eq!(told(&mut fast), [Kind::Deleted]);
        assert_eq!(told(&mut slow), [Kind::Added, Kind::Modified]);
        assert!(slow.is_closed() && !fast.is_closed());
        drop(fast);
        let object = all.object("a/y", "1");
        assert_eq!((all.happen(None, object), all.registry.len()), (1, 0));
    }

    #[test]
    fn a_gap_lets_go_whom_it_concerns() {
        let mut all = Fixture::new();
        let (concerned, other) = (all.watch("a/", false, None), all.watch("b/", false, None));
        let changed = vec![(None, all.object("a/x", "1"))];
        let gap = What::Gap { from: Revision(10), changed };
        let let_go = all.registry.dispatch(&Arc::new(Event::new(gap, Revision(20), 9)));
        assert_eq!((let_go, concerned.is_closed(), other.is_closed()), (1, true, false));
    }
}
