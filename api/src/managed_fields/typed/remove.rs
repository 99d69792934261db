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

/// Puts maps back as empty ones that went with what was in them, where `owned` has them themselves.
pub(crate) fn with_emptied_maps(shape: Shape<'_>, before: &Value, left: &mut Value, owned: &FieldSet) {
    match (shape.form(Some(before)), before, left) {
        (Form::Map(fields), Value::Object(before), Value::Object(left)) => {
            let steps = owned.members().iter().chain(owned.children().keys());
            for (step, name) in steps.filter_map(|step| match step {
                PathElement::Field(name) => Some((step, name)),
                _ => None,
            }) {
                let Some(value) = before.get(&**name).filter(|value| value.is_object()) else { continue };
                let stayed = left.contains_key(&**name);
                let mut kept = left.remove(&**name).unwrap_or_else(|| Value::Object(Map::new()));
                if let Some(below) = owned.below(step) {
                    with_emptied_maps(fields.field(name).unwrap_or(Shape::Deduced), value, &mut kept, below);
                }
                let holds_something = kept.as_object().is_some_and(|kept| !kept.is_empty());
                if stayed || holds_something || owned.members().contains(step) {
                    left.insert(name.to_string(), kept);
                }
            }
        }
        (Form::List(list), Value::Array(before), Value::Array(left)) => {
            let find = |step: &PathElement| before.iter().find(|item| list.step(item).as_ref() == Ok(step));
            for item in left {
                let Ok(step) = list.step(item) else { continue };
                if let (Some(before), Some(below)) = (find(&step), owned.below(&step)) {
                    with_emptied_maps(list.item, before, item, below);
                }
            }
        }
        _ => {}
    }
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
