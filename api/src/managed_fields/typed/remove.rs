//! An object without some of its paths.

use serde_json::{Map, Value};

use super::shape::{Form, Items, Shape};
use crate::managed_fields::path::PathElement;
use crate::managed_fields::set::FieldSet;

/// The object without these paths. What is empty after that goes as well, but for the object itself; what is owned as a whole
/// goes when anything below it does.
pub(crate) fn without(shape: Shape<'_>, object: &Value, gone: &FieldSet) -> Value {
    value_without(shape, object, gone).unwrap_or_else(|| Value::Object(Map::new()))
}

fn value_without(shape: Shape<'_>, value: &Value, gone: &FieldSet) -> Option<Value> {
    match (shape.form(Some(value)), value) {
        (Form::Scalar(_), value) => Some(value.clone()),
        (Form::Map(fields), Value::Object(values)) if !fields.whole => {
            let mut left = Map::new();
            for (name, value) in values {
                let step = PathElement::field(name);
                if gone.members().contains(&step) {
                    continue;
                }
                let kept = match gone.below(&step) {
                    Some(gone) => value_without(fields.field(name).unwrap_or(Shape::Deduced), value, gone),
                    None => Some(value.clone()),
                };
                if let Some(kept) = kept {
                    left.insert(name.clone(), kept);
                }
            }
            (!left.is_empty()).then_some(Value::Object(left))
        }
        (Form::List(list), Value::Array(items)) if !matches!(list.items, Items::Whole) => {
            let kept = items.iter().filter_map(|item| {
                let Ok(step) = list.step(item) else { return Some(item.clone()) };
                if gone.members().contains(&step) {
                    return None;
                }
                match gone.below(&step) {
                    Some(gone) => value_without(list.item, item, gone),
                    None => Some(item.clone()),
                }
            });
            let left: Vec<_> = kept.collect();
            (!left.is_empty()).then_some(Value::Array(left))
        }
        (Form::Map(_) | Form::List(_), _) => None,
    }
}
