//! How two objects differ, path by path. The order of items does not count where they can be told apart.

use std::collections::BTreeMap;

use serde_json::Value;

use super::shape::{Fields, Form, Items, List, Shape};
use super::{list_of, map_of};
use crate::managed_fields::path::{Path, PathElement, same};
use crate::managed_fields::set::FieldSet;

/// What changed; no path is in more than one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Comparison {
    pub(crate) added: FieldSet,
    pub(crate) modified: FieldSet,
    pub(crate) removed: FieldSet,
}

impl Comparison {
    /// Without these paths and all below them.
    pub(crate) fn without(self, paths: &FieldSet) -> Self {
        if paths.is_empty() {
            return self;
        }
        Self {
            added: self.added.recursive_difference(paths),
            modified: self.modified.recursive_difference(paths),
            removed: self.removed.recursive_difference(paths),
        }
    }
}

/// What is other in `new` than in `old`.
pub(crate) fn compare(shape: Shape<'_>, old: &Value, new: &Value) -> Comparison {
    let mut walk = Walk { path: Path::default(), found: Comparison::default() };
    walk.value(shape, Some(old), Some(new));
    walk.found
}

struct Walk {
    path: Path,
    found: Comparison,
}

impl Walk {
    fn added(&mut self) {
        self.found.added.insert(self.path.steps());
    }

    fn removed(&mut self) {
        self.found.removed.insert(self.path.steps());
    }

    fn modified(&mut self) {
        self.found.modified.insert(self.path.steps());
    }

    fn value(&mut self, shape: Shape<'_>, old: Option<&Value>, new: Option<&Value>) {
        let (old_form, new_form) = (shape.form(old), shape.form(new));
        match (old, new) {
            (None, None) => return,
            (_, None) => self.form(old_form, old, new),
            // A value of another kind goes whole, before the new one comes.
            (Some(_), Some(_)) if !old_form.is_same_kind(&new_form) => {
                self.form(old_form, old, new);
                self.form(new_form, old, new);
            }
            (_, Some(_)) => self.form(new_form, old, new),
        }
        match (old, new) {
            (None, _) => self.added(),
            (_, None) => self.removed(),
            _ => {}
        }
    }

    fn below(&mut self, step: PathElement, shape: Shape<'_>, old: Option<&Value>, new: Option<&Value>) {
        self.path.push(step);
        self.value(shape, old, new);
        self.path.pop();
    }

    fn form(&mut self, form: Form<'_>, old: Option<&Value>, new: Option<&Value>) {
        match form {
            Form::Scalar(_) => self.leaf(old, new),
            Form::List(list) => {
                let (old_items, new_items) = (list_of(old).unwrap_or(&[]), list_of(new).unwrap_or(&[]));
                if matches!(list.items, Items::Whole) || (old_items.is_empty() && new_items.is_empty()) {
                    self.leaf(old, new);
                } else {
                    self.items(list, old_items, new_items);
                }
            }
            Form::Map(fields) => {
                let (old_fields, new_fields) = (map_of(old), map_of(new));
                let empty =
                    |fields: Option<&serde_json::Map<_, _>>| fields.is_none_or(serde_json::Map::is_empty);
                if fields.whole || (empty(old_fields) && empty(new_fields)) {
                    self.leaf(old, new);
                } else {
                    self.fields(fields, old_fields, new_fields);
                }
            }
        }
    }

    /// What is owned as a whole. What was not there, or is no more, is told of every place alike.
    fn leaf(&mut self, old: Option<&Value>, new: Option<&Value>) {
        if let (Some(old), Some(new)) = (old, new)
            && !same(old, new)
        {
            self.modified();
        }
    }

    fn fields(
        &mut self,
        fields: Fields<'_>,
        old: Option<&serde_json::Map<String, Value>>,
        new: Option<&serde_json::Map<String, Value>>,
    ) {
        let shape = |name: &str| fields.field(name).unwrap_or(Shape::Deduced);
        for (name, value) in old.into_iter().flatten() {
            let new = new.and_then(|new| new.get(name));
            self.below(PathElement::field(name), shape(name), Some(value), new);
        }
        for (name, value) in new.into_iter().flatten() {
            if !old.is_some_and(|old| old.contains_key(name)) {
                self.below(PathElement::field(name), shape(name), None, Some(value));
            }
        }
    }

    /// Items that are there several times are compared as a whole.
    fn items(&mut self, list: List<'_>, old: &[Value], new: &[Value]) {
        let mut all: BTreeMap<PathElement, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
        for item in old {
            if let Ok(step) = list.step(item) {
                all.entry(step).or_default().0.push(item);
            }
        }
        for item in new {
            if let Ok(step) = list.step(item) {
                all.entry(step).or_default().1.push(item);
            }
        }
        for (step, (old, new)) in all {
            match (old.as_slice(), new.as_slice()) {
                ([] | [_], [] | [_]) => {
                    self.below(step, list.item, old.first().copied(), new.first().copied());
                }
                ([_, _, ..], [_, _, ..]) => {
                    let unchanged =
                        old.len() == new.len() && old.iter().zip(&new).all(|(old, new)| same(old, new));
                    if !unchanged {
                        self.path.push(step);
                        self.modified();
                        self.path.pop();
                    }
                }
                ([_, _, ..], _) => {
                    if let [only] = new.as_slice() {
                        self.below(step.clone(), list.item, None, Some(only));
                    }
                    self.path.push(step);
                    self.removed();
                    self.path.pop();
                }
                (_, [_, _, ..]) => {
                    if let [only] = old.as_slice() {
                        self.below(step.clone(), list.item, Some(only), None);
                    }
                    self.path.push(step);
                    self.added();
                    self.path.pop();
                }
            }
        }
    }
}
