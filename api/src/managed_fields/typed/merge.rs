//! An applied object merged into the one that is there: what both have is as applied, nothing goes. Items stand as they did, or
//! as they are applied where that says otherwise.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Map, Value};

use super::shape::{Form, Items, List, Shape};
use super::{list_of, map_of};
use crate::managed_fields::path::PathElement;

/// `applied` merged into `live`.
pub(crate) fn merge(shape: Shape<'_>, live: &Value, applied: &Value) -> Value {
    merge_values(shape, Some(live), Some(applied)).unwrap_or_default()
}

fn merge_values(shape: Shape<'_>, live: Option<&Value>, applied: Option<&Value>) -> Option<Value> {
    // Null applied goes for any kind of value, and takes nothing away from one that is merged.
    let form = shape.form(applied.or(live));
    let leaf = || applied.or(live).cloned();
    match form {
        Form::Scalar(_) => leaf(),
        Form::Map(fields) => {
            let (live, applied) = (map_of(live), map_of(applied));
            let empty = |fields: Option<&Map<_, _>>| fields.is_none_or(Map::is_empty);
            if fields.whole || (empty(live) && empty(applied)) {
                return leaf();
            }
            let mut merged = Map::new();
            let mut take = |name: &String, live, applied| {
                let shape = fields.field(name).unwrap_or(Shape::Deduced);
                if let Some(value) = merge_values(shape, live, applied) {
                    merged.insert(name.clone(), value);
                }
            };
            for (name, value) in live.into_iter().flatten() {
                take(name, Some(value), applied.and_then(|applied| applied.get(name)));
            }
            for (name, value) in applied.into_iter().flatten() {
                if !live.is_some_and(|live| live.contains_key(name)) {
                    take(name, None, Some(value));
                }
            }
            (!merged.is_empty()).then_some(Value::Object(merged))
        }
        Form::List(list) => {
            let (live, applied) = (list_of(live).unwrap_or(&[]), list_of(applied).unwrap_or(&[]));
            if matches!(list.items, Items::Whole) || (live.is_empty() && applied.is_empty()) {
                return leaf();
            }
            let merged = merge_items(list, live, applied);
            (!merged.is_empty()).then_some(Value::Array(merged))
        }
    }
}

/// Walks both lists at once. Items that only the live list has keep their place before the next item that both have; items
/// that both have come in the order of the applied list.
fn merge_items(list: List<'_>, live: &[Value], applied: &[Value]) -> Vec<Value> {
    let steps = |items: &[Value]| -> Vec<(PathElement, usize)> {
        let places = items.iter().enumerate();
        places.filter_map(|(place, item)| Some((list.step(item).ok()?, place))).collect()
    };
    let (live_steps, applied_steps) = (steps(live), steps(applied));
    // An item that is there several times is not merged with an applied one.
    let mut live_items: BTreeMap<&PathElement, Option<&Value>> = BTreeMap::new();
    for (step, place) in &live_steps {
        live_items.entry(step).and_modify(|item| *item = None).or_insert(Some(&live[*place]));
    }
    let applied_items: BTreeMap<&PathElement, &Value> =
        applied_steps.iter().map(|(step, place)| (step, &applied[*place])).collect();
    let both = |step: &PathElement| -> Option<Value> {
        let live = live_items.get(step).copied().map(|item| item.unwrap_or(&Value::Null));
        merge_values(list.item, live, applied_items.get(step).copied())
    };

    let mut shared: VecDeque<&PathElement> =
        applied_steps.iter().map(|(step, _)| step).filter(|step| live_items.contains_key(step)).collect();
    let mut next_shared = shared.pop_front();
    let mut done: BTreeSet<&PathElement> = BTreeSet::new();
    let mut merged = Vec::with_capacity(live.len().max(applied.len()));
    let (mut at_live, mut at_applied) = (0, 0);
    while at_live < live_steps.len() || at_applied < applied_steps.len() {
        if let (Some((step, _)), Some((other, _))) = (live_steps.get(at_live), applied_steps.get(at_applied))
        {
            if step == other {
                done.insert(step);
                merged.extend(both(step));
                at_live += 1;
                at_applied += 1;
                next_shared = shared.pop_front();
                continue;
            }
            if applied_items.contains_key(step) && next_shared.is_some_and(|next| next != step) {
                // Its turn in the applied list is another one.
                at_live += 1;
                continue;
            }
        }
        if let Some((step, place)) = live_steps.get(at_live) {
            if !applied_items.contains_key(step) {
                merged.extend(merge_values(list.item, Some(&live[*place]), None));
                at_live += 1;
                continue;
            }
            if done.contains(step) {
                at_live += 1;
            }
        }
        if let Some((step, _)) = applied_steps.get(at_applied) {
            done.insert(step);
            merged.extend(both(step));
            at_applied += 1;
            if next_shared == Some(step) {
                next_shared = shared.pop_front();
            }
        }
    }
    merged
}
