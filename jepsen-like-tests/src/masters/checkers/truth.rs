//! The history of objects, as all informers together tell it, the one who follows the store among them: each `resourceVersion` with
//! the one change that it is. Must never prefer one of them: where two tell different things, something is wrong.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Place;

use crate::checkers::Violation;
use crate::masters::entry::{Object, Told};
use crate::masters::history::{History, Step};

/// A change of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The object after it; of a deletion, as it was, with the version of the deletion.
    pub object: Object,
    /// Whether it went.
    pub deleted: bool,
    /// When the first informer was told.
    pub told_ns: u64,
}

/// All changes.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    changes: BTreeMap<i64, Change>,
    of: BTreeMap<String, Vec<i64>>,
}

impl Truth {
    /// What informers were told.
    ///
    /// # Errors
    /// When they contradict each other, or what they tell cannot be.
    pub fn of(history: &History) -> Result<Self, Violation> {
        let mut truth = Self::default();
        for (informer, steps) in &history.informers {
            for (time_ns, member, step) in steps {
                let (object, deleted) = match step {
                    Step::Told(Told::Added { object } | Told::Modified { object }) => (object, false),
                    Step::Told(Told::Deleted { object }) => (object, true),
                    _ => continue,
                };
                match truth.changes.entry(object.version) {
                    Place::Vacant(place) => {
                        place.insert(Change { object: object.clone(), deleted, told_ns: *time_ns });
                    }
                    Place::Occupied(mut known) => {
                        let known = known.get_mut();
                        if known.object != *object || known.deleted != deleted {
                            return Err(Violation::new(format!(
                                "informer {} is told by {member} that version {} is {object:?} (deleted: {deleted}), and another \
                                 one that it is {:?} (deleted: {})",
                                informer.0, object.version, known.object, known.deleted
                            ))
                            .at(object.version));
                        }
                        known.told_ns = known.told_ns.min(*time_ns);
                    }
                }
            }
        }
        for (version, change) in &truth.changes {
            truth.of.entry(change.object.name.clone()).or_default().push(*version);
        }
        truth.check_lives()?;
        Ok(truth)
    }

    /// An object that comes gets another uid than all before it; one that changes or goes keeps its own.
    fn check_lives(&self) -> Result<(), Violation> {
        let mut uids = BTreeMap::new();
        for (name, versions) in &self.of {
            let mut alive: Option<&Object> = None;
            for version in versions {
                let change = &self.changes[version];
                let wrong = |what: &str| {
                    Err(Violation::new(format!("{name} at version {version}: {what}")).at(*version))
                };
                match alive {
                    None if change.deleted => return wrong("is deleted, and was not there"),
                    None => {
                        if uids.insert(change.object.uid.clone(), name).is_some() {
                            return wrong("is new, and has the uid of another object");
                        }
                    }
                    Some(object) if object.uid != change.object.uid => {
                        return wrong("has another uid, and was not deleted before");
                    }
                    Some(object) if change.deleted && object.value != change.object.value => {
                        return wrong("is deleted with a value that it did not have");
                    }
                    Some(_) => {}
                }
                alive = (!change.deleted).then_some(&change.object);
            }
        }
        Ok(())
    }

    /// How many changes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// All changes in their order.
    pub fn changes(&self) -> impl DoubleEndedIterator<Item = &Change> {
        self.changes.values()
    }

    /// The change that is this version.
    #[must_use]
    pub fn at(&self, version: i64) -> Option<&Change> {
        self.changes.get(&version)
    }

    /// The first change behind a version.
    #[must_use]
    pub fn after(&self, version: i64) -> Option<&Change> {
        self.changes.range(version + 1..).next().map(|(_, change)| change)
    }

    /// The object of a name as it was at a version, if it was there.
    #[must_use]
    pub fn state(&self, name: &str, version: i64) -> Option<&Object> {
        let versions = self.of.get(name)?;
        let known = versions.partition_point(|known| *known <= version);
        let change = &self.changes[&versions[known.checked_sub(1)?]];
        (!change.deleted).then_some(&change.object)
    }

    /// What the object of a name was at one time or another from one version to another one, both included.
    pub fn states(&self, name: &str, from: i64, to: i64) -> impl Iterator<Item = Option<&Object>> {
        let versions = self.of.get(name).map_or(&[][..], Vec::as_slice);
        let first = versions.partition_point(|known| *known <= from);
        let last = versions.partition_point(|known| *known <= to).max(first);
        let later = versions[first..last].iter().map(|version| &self.changes[version]);
        std::iter::once(self.state(name, from))
            .chain(later.map(|change| (!change.deleted).then_some(&change.object)))
    }

    /// Everything that was there at a version, by name.
    #[must_use]
    pub fn all_at(&self, version: i64) -> BTreeMap<&str, &Object> {
        let names = self.of.keys().map(String::as_str);
        names.filter_map(|name| Some((name, self.state(name, version)?))).collect()
    }
}
