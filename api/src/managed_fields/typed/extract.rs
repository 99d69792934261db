//! Which paths an object holds: those of its scalars, of what is owned as a whole, of items, and of fields that the schema does
//! not name.

use std::collections::BTreeSet;

use serde_json::Value;

use super::shape::{Fields, Form, Items, List, Shape};
use crate::managed_fields::path::{Path, PathElement};
use crate::managed_fields::set::FieldSet;

/// The paths of a value.
pub(crate) fn field_set(shape: Shape<'_>, value: &Value) -> FieldSet {
    let mut walk = Walk { path: Path::default(), set: FieldSet::default() };
    walk.value(shape, value);
    walk.set
}

struct Walk {
    path: Path,
    set: FieldSet,
}

impl Walk {
    fn here(&mut self) {
        self.set.insert(self.path.steps());
    }

    fn value(&mut self, shape: Shape<'_>, value: &Value) {
        match (shape.form(Some(value)), value) {
            (Form::Scalar(_), _)
            | (Form::List(List { items: Items::Whole, .. }) | Form::Map(Fields { whole: true, .. }), _) => {
                self.here();
            }
            (Form::List(list), Value::Array(items)) => self.items(list, items),
            (Form::Map(fields), Value::Object(values)) => {
                for (name, value) in values {
                    self.path.push(PathElement::field(name));
                    self.value(fields.field(name).unwrap_or(Shape::Deduced), value);
                    let empty = match value {
                        Value::Null => true,
                        Value::Object(fields) => fields.is_empty(),
                        _ => false,
                    };
                    if empty || !fields.declares(name) {
                        self.here();
                    }
                    self.path.pop();
                }
            }
            (Form::List(_) | Form::Map(_), _) => {}
        }
    }

    /// Of an item that is there several times only its own path counts.
    fn items(&mut self, list: List<'_>, items: &[Value]) {
        let steps: Vec<_> = items.iter().map(|item| list.step(item).ok()).collect();
        let (mut seen, mut repeated) = (BTreeSet::new(), BTreeSet::new());
        for step in steps.iter().flatten() {
            if !seen.insert(step) {
                repeated.insert(step);
            }
        }
        for (step, item) in steps.iter().zip(items) {
            let Some(step) = step else { continue };
            self.path.push(step.clone());
            if !repeated.contains(step) {
                self.value(list.item, item);
            }
            self.here();
            self.path.pop();
        }
    }
}

/// The set with the paths of named fields above others of it: `a.b` brings `a` if the schema names it.
pub(crate) fn with_named_fields(set: &FieldSet, shape: Option<Shape<'_>>) -> FieldSet {
    let fields = shape.and_then(Shape::fields);
    let list = shape.and_then(Shape::list);
    let mut members = set.members().clone();
    let children = set.children().iter().map(|(step, child)| {
        let below = match (step, fields, list) {
            (PathElement::Field(name), Some(fields), _) => {
                if fields.declares(name) {
                    members.insert(step.clone());
                }
                fields.field(name)
            }
            (PathElement::Key(_), _, Some(list)) => Some(list.item),
            _ => None,
        };
        (step.clone(), with_named_fields(child, below))
    });
    let children = children.collect();
    FieldSet::from_parts(members, children)
}
