//! The objects of a collection by key, and by one field that many ask for. A clone is a copy of two pointers and never
//! changes. Pure.

use std::ops::Bound;
use std::sync::Arc;

use barque_store::tree::{Iter, Keyed, Tree};

use super::object::{FieldIndex, Object};
use crate::storage::prefix_end;

#[derive(Clone)]
struct ByKey(Arc<Object>);

impl Keyed for ByKey {
    fn key(&self) -> &[u8] {
        self.0.key()
    }
}

/// The field's value, a zero byte, and the object's key.
#[derive(Clone)]
struct ByValue {
    place: Arc<[u8]>,
    object: Arc<Object>,
}

impl Keyed for ByValue {
    fn key(&self) -> &[u8] {
        &self.place
    }
}

fn place(value: &str, key: &[u8]) -> Vec<u8> {
    [value.as_bytes(), &[0], key].concat()
}

fn weight(object: &Arc<Object>) -> u64 {
    object.stored().len() as u64
}

/// See the module's description.
#[derive(Clone)]
pub struct Index {
    by_key: Tree<ByKey>,
    by_value: Option<(FieldIndex, Tree<ByValue>)>,
    bytes: u64,
}

impl Index {
    /// Empty; objects are also found by the value of `field`.
    #[must_use]
    pub fn new(field: Option<FieldIndex>) -> Self {
        Self { by_key: Tree::new(), by_value: field.map(|field| (field, Tree::new())), bytes: 0 }
    }

    /// Of objects in ascending order of their keys.
    #[must_use]
    pub fn from_sorted(objects: &[Arc<Object>], field: Option<FieldIndex>) -> Self {
        let by_key = Tree::from_sorted(objects.iter().cloned().map(ByKey).collect::<Vec<_>>());
        let by_value = field.map(|field| {
            let place = |object: &Arc<Object>| ByValue {
                place: place(object.field(field), object.key()).into(),
                object: Arc::clone(object),
            };
            let mut values: Vec<_> = objects.iter().map(place).collect();
            values.sort_unstable_by(|a, b| a.place.cmp(&b.place));
            (field, Tree::from_sorted(values))
        });
        let bytes = objects.iter().map(weight).sum();
        Self { by_key, by_value, bytes }
    }

    /// How many objects.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// The bytes of all objects, as they are stored.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// The object with this key.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&Arc<Object>> {
        self.by_key.get(key).map(|found| &found.0)
    }

    /// Makes this what stands at a key; gives back what stood there.
    pub fn set(&mut self, key: &[u8], object: Option<Arc<Object>>) -> Option<Arc<Object>> {
        let before = match object.clone() {
            Some(object) => self.by_key.insert(ByKey(object)),
            None => self.by_key.remove(key),
        };
        let before = before.map(|before| before.0);
        self.bytes -= before.as_ref().map_or(0, weight);
        self.bytes += object.as_ref().map_or(0, weight);
        if let Some((field, tree)) = &mut self.by_value {
            if let Some(before) = &before {
                tree.remove(&place(before.field(*field), key));
            }
            if let Some(object) = object {
                tree.insert(ByValue { place: place(object.field(*field), key).into(), object });
            }
        }
        before
    }

    /// The objects whose keys begin with `prefix`, from `start` on.
    pub fn scan<'a>(&'a self, prefix: &'a [u8], start: &'a [u8]) -> impl Iterator<Item = &'a Arc<Object>> {
        let from = start.max(prefix);
        let found: Iter<'a, ByKey> = self.by_key.iter_from(Bound::Included(from));
        found.map(|found| &found.0).take_while(move |object| object.key().starts_with(prefix))
    }

    /// Those of them whose indexed field has this value; `None` when no field is indexed.
    pub fn scan_value<'a>(
        &'a self,
        value: &str,
        prefix: &'a [u8],
        start: &'a [u8],
    ) -> Option<impl Iterator<Item = &'a Arc<Object>>> {
        let (_, tree) = self.by_value.as_ref()?;
        let from = place(value, start.max(prefix));
        let inside = place(value, prefix);
        let found = tree.iter_from(Bound::Included(&from));
        Some(found.take_while(move |found| found.place.starts_with(&inside)).map(|found| &found.object))
    }

    /// How many objects have keys that begin with `prefix`, from `start` on.
    #[must_use]
    pub fn count(&self, prefix: &[u8], start: &[u8]) -> usize {
        let end = prefix_end(prefix);
        let end = if end.is_empty() { self.by_key.len() } else { self.by_key.rank(&end) };
        end.saturating_sub(self.by_key.rank(start.max(prefix)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Entry, Revision};
    use crate::watch_cache::reader::ObjectReader;

    fn object(key: &'static str, value: &'static str) -> Arc<Object> {
        let entry = Entry { key: key.into(), value: value.into(), revision: Revision(1) };
        Arc::new(ObjectReader::new([]).read(entry))
    }

    #[test]
    fn bytes_are_those_of_the_objects_that_are_there() {
        let mut index = Index::from_sorted(&[object("a", "12"), object("b", "345")], None);
        assert_eq!(index.bytes(), 5);
        index.set(b"a", Some(object("a", "1")));
        index.set(b"c", Some(object("c", "6789")));
        assert_eq!(index.bytes(), 8);
        index.set(b"b", None);
        index.set(b"b", None);
        assert_eq!((index.bytes(), index.len()), (5, 2));
    }
}
