//! Sets of paths as trees, and their algebra. A path is in a set only if it was put there: neither its parents nor what lies
//! below it are. Must never look at an object or a schema.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::path::{Path, PathElement};

/// A set of paths of fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// Steps after which a path of the set ends.
    members: BTreeSet<PathElement>,
    /// What lies below a step; never empty.
    children: BTreeMap<PathElement, FieldSet>,
}

impl FieldSet {
    /// Of paths through named fields: `FieldSet::of(&["status", "metadata.name"])`.
    #[must_use]
    pub fn of(dotted: &[&str]) -> Self {
        dotted.iter().map(|path| Path::of(path)).collect()
    }

    /// Puts a path into the set. Nothing happens for the path of the object itself, which nobody owns.
    pub fn insert(&mut self, path: &[PathElement]) {
        match path {
            [] => {}
            [last] => {
                self.members.insert(last.clone());
            }
            [first, rest @ ..] => self.children.entry(first.clone()).or_default().insert(rest),
        }
    }

    /// Whether the path is in the set.
    #[must_use]
    pub fn contains(&self, path: &[PathElement]) -> bool {
        match path {
            [] => false,
            [last] => self.members.contains(last),
            [first, rest @ ..] => self.children.get(first).is_some_and(|child| child.contains(rest)),
        }
    }

    /// Whether there is no path in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.is_empty()
    }

    /// How many paths there are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len() + self.children.values().map(Self::len).sum::<usize>()
    }

    /// What lies below a step.
    #[must_use]
    pub fn below(&self, step: &PathElement) -> Option<&Self> {
        self.children.get(step)
    }

    /// The steps after which a path ends.
    pub(super) const fn members(&self) -> &BTreeSet<PathElement> {
        &self.members
    }

    /// The steps below which there is more.
    pub(super) const fn children(&self) -> &BTreeMap<PathElement, Self> {
        &self.children
    }

    pub(super) fn from_parts(
        members: BTreeSet<PathElement>,
        mut children: BTreeMap<PathElement, Self>,
    ) -> Self {
        children.retain(|_, child| !child.is_empty());
        Self { members, children }
    }

    /// Paths in one or the other.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        all.add(other);
        all
    }

    /// Puts all paths of the other into this one.
    pub fn add(&mut self, other: &Self) {
        self.members.extend(other.members.iter().cloned());
        for (step, child) in &other.children {
            self.children.entry(step.clone()).or_default().add(child);
        }
    }

    /// Paths in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let members = self.members.intersection(&other.members).cloned().collect();
        let both = self
            .children
            .iter()
            .filter_map(|(step, child)| Some((step.clone(), child.intersection(other.children.get(step)?))));
        Self::from_parts(members, both.collect())
    }

    /// Paths in this one and not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let members = self.members.difference(&other.members).cloned().collect();
        let left = self.children.iter().map(|(step, child)| {
            let left = match other.children.get(step) {
                Some(gone) => child.difference(gone),
                None => child.clone(),
            };
            (step.clone(), left)
        });
        Self::from_parts(members, left.collect())
    }

    /// Paths in this one that are neither in the other nor below one of it.
    #[must_use]
    pub fn recursive_difference(&self, other: &Self) -> Self {
        let members = self.members.difference(&other.members).cloned().collect();
        let stay = self.children.iter().filter(|(step, _)| !other.members.contains(*step));
        let left = stay.map(|(step, child)| {
            let left = match other.children.get(step) {
                Some(gone) => child.recursive_difference(gone),
                None => child.clone(),
            };
            (step.clone(), left)
        });
        Self::from_parts(members, left.collect())
    }

    /// Paths below which there is no other of the set.
    #[must_use]
    pub fn leaves(&self) -> Self {
        let members =
            self.members.iter().filter(|step| !self.children.contains_key(*step)).cloned().collect();
        let children = self.children.iter().map(|(step, child)| (step.clone(), child.leaves())).collect();
        Self::from_parts(members, children)
    }

    /// All paths: those that end here before those that go on.
    #[must_use]
    pub fn paths(&self) -> Vec<Path> {
        let mut all = Vec::with_capacity(self.len());
        self.walk(&mut Path::default(), &mut all);
        all
    }

    fn walk(&self, path: &mut Path, all: &mut Vec<Path>) {
        for step in &self.members {
            path.push(step.clone());
            all.push(path.clone());
            path.pop();
        }
        for (step, child) in &self.children {
            path.push(step.clone());
            child.walk(path, all);
            path.pop();
        }
    }
}

impl FromIterator<Path> for FieldSet {
    fn from_iter<I: IntoIterator<Item = Path>>(paths: I) -> Self {
        let mut set = Self::default();
        for path in paths {
            set.insert(path.steps());
        }
        set
    }
}

/// One path a line.
impl fmt::Display for FieldSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths: Vec<_> = self.paths().iter().map(ToString::to_string).collect();
        f.write_str(&paths.join("\n"))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn any_step() -> impl Strategy<Value = PathElement> {
        prop_oneof![
            "[a-c]".prop_map(|name| PathElement::field(&name)),
            (0..3_i64).prop_map(|number| PathElement::key(vec![("k".into(), number.into())])),
            "[a-b<]".prop_map(|text| {
                PathElement::key(vec![("k".into(), json!(text)), ("l".into(), json!(true))])
            }),
            prop_oneof![Just(json!(1)), Just(json!("1")), Just(json!(true)), Just(json!(0.5))]
                .prop_map(PathElement::Value),
            (0..3_i64).prop_map(PathElement::Index),
        ]
    }

    pub(in crate::managed_fields) fn any_set() -> impl Strategy<Value = FieldSet> {
        let path = prop::collection::vec(any_step(), 1..4).prop_map(Path::new);
        prop::collection::vec(path, 0..8).prop_map(|paths| paths.into_iter().collect())
    }

    #[test]
    fn a_set_holds_what_was_put_there_alone() {
        let set = FieldSet::of(&["a.b.c", "a.b", "d"]);
        assert!(set.contains(Path::of("a.b").steps()) && set.contains(Path::of("a.b.c").steps()));
        assert!(!set.contains(Path::of("a").steps()) && !set.contains(Path::of("d.e").steps()));
        assert!(!set.contains(&[]));
        assert_eq!(set.len(), 3);
        assert_eq!(set.to_string(), ".d\n.a.b\n.a.b.c");
    }

    #[test]
    fn differences_of_parents_and_children() {
        // from, what goes, difference, recursive difference
        let table = [
            ("a.b.c", "a.b", "a.b.c", ""),
            ("a.b", "a.b.c", "a.b", "a.b"),
            ("a a.b a.b.c", "a.b", "a a.b.c", "a"),
            ("a.b.c a.x", "a.b.c", "a.x", "a.x"),
            ("a.b.c x", "a", "a.b.c x", "x"),
        ];
        let set_of = |paths: &str| paths.split_whitespace().map(Path::of).collect::<FieldSet>();
        for (from, gone, difference, recursive) in table {
            let (set, gone) = (set_of(from), set_of(gone));
            assert_eq!(set.difference(&gone), set_of(difference), "{set} - {gone}");
            assert_eq!(set.recursive_difference(&gone), set_of(recursive), "{set} - {gone}");
        }
        assert_eq!(FieldSet::of(&["a", "a.b", "a.b.c", "d"]).leaves(), FieldSet::of(&["a.b.c", "d"]));
    }

    proptest! {
        #[test]
        fn the_algebra_is_that_of_sets(one in any_set(), other in any_set()) {
            let paths = |set: &FieldSet| set.paths().into_iter().collect::<BTreeSet<_>>();
            let (a, b) = (paths(&one), paths(&other));
            prop_assert_eq!(paths(&one.union(&other)), a.union(&b).cloned().collect());
            prop_assert_eq!(paths(&one.intersection(&other)), a.intersection(&b).cloned().collect());
            prop_assert_eq!(paths(&one.difference(&other)), a.difference(&b).cloned().collect());
            let below = |path: &Path| (1..=path.steps().len()).any(|end| other.contains(&path.steps()[..end]));
            prop_assert_eq!(
                paths(&one.recursive_difference(&other)),
                a.iter().filter(|path| !below(path)).cloned().collect()
            );
            let above = |path: &Path| a.iter().any(|longer| {
                longer.steps().len() > path.steps().len() && longer.steps().starts_with(path.steps())
            });
            prop_assert_eq!(paths(&one.leaves()), a.iter().filter(|path| !above(path)).cloned().collect());
            prop_assert_eq!(one.paths().len(), one.len());
            prop_assert_eq!(one.paths().into_iter().collect::<FieldSet>(), one);
        }
    }
}
