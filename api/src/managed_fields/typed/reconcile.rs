//! Owned paths after the schema has changed: what was owned field by field or item by item, and is now owned as a whole, is
//! owned by whoever owned a part of it.

use super::shape::{Form, Items, Shape};
use crate::managed_fields::path::{Path, PathElement};
use crate::managed_fields::set::FieldSet;

/// The set as it reads by today's schema.
pub(crate) fn reconcile(set: &FieldSet, shape: Shape<'_>) -> FieldSet {
    let mut walk = Walk { path: Path::default(), whole: FieldSet::default() };
    walk.below(shape, Some(set));
    if walk.whole.is_empty() {
        return set.clone();
    }
    set.recursive_difference(&walk.whole).union(&walk.whole)
}

struct Walk {
    path: Path,
    /// What is owned as a whole now.
    whole: FieldSet,
}

impl Walk {
    /// At a place of which the set holds `below`; nothing where it holds the place itself alone.
    fn below(&mut self, shape: Shape<'_>, below: Option<&FieldSet>) {
        let Some(set) = below else { return };
        let step_shape = match shape.form(None) {
            Form::Map(_) if shape.is_free_form() => return,
            Form::Map(fields) if !fields.whole => {
                for (step, child) in set.children() {
                    let PathElement::Field(name) = step else { continue };
                    if let Some(field) = fields.field(name) {
                        self.step(step, field, child);
                    }
                }
                return;
            }
            Form::List(list) if !matches!(list.items, Items::Whole) => list.item,
            Form::Map(_) | Form::List(_) => {
                self.whole.insert(self.path.steps());
                return;
            }
            Form::Scalar(_) => return,
        };
        for (step, child) in set.children() {
            self.step(step, step_shape, child);
        }
    }

    fn step(&mut self, step: &PathElement, shape: Shape<'_>, child: &FieldSet) {
        self.path.push(step.clone());
        self.below(shape, Some(child));
        self.path.pop();
    }
}
