//! Whether values are equal, and which is less. Must never find values of unlike types equal, but numbers.

use std::cmp::Ordering;

use super::value::Val;
use crate::schema::ListType;

/// Whether two values are equal; those of unlike types are not.
pub(super) fn equal(left: &Val<'_>, right: &Val<'_>) -> bool {
    match (left, right) {
        (Val::Null, Val::Null) => true,
        (Val::Type(left), Val::Type(right)) | (Val::Format(left), Val::Format(right)) => left == right,
        (Val::Optional(left), Val::Optional(right)) => match (left, right) {
            (None, None) => true,
            (Some(left), Some(right)) => equal(left, right),
            _ => false,
        },
        (Val::Url(left), Val::Url(right)) => left == right,
        (Val::Ip(left), Val::Ip(right)) => left == right,
        (Val::Cidr(left, one), Val::Cidr(right, other)) => left == right && one == other,
        (Val::Quantity(left), Val::Quantity(right)) => left == right,
        (left, right) => match (left.list_len(), right.list_len(), left.map_len(), right.map_len()) {
            (Some(one), Some(other), ..) => one == other && equal_lists(left, right, one),
            (.., Some(one), Some(other)) => one == other && equal_maps(left, right),
            _ => order(left, right) == Some(Ordering::Equal),
        },
    }
}

fn equal_lists(left: &Val<'_>, right: &Val<'_>, length: usize) -> bool {
    let unordered = |list: &Val<'_>| match list {
        Val::JsonList(_, Some(view)) => !matches!(view.list_type(), ListType::Atomic),
        _ => false,
    };
    // The order of sets, and of maps by keys, means nothing.
    if unordered(left) || unordered(right) {
        let items: Vec<Val<'_>> = right.items().into_iter().flatten().collect();
        return left
            .items()
            .is_some_and(|mut left| left.all(|one| items.iter().any(|other| equal(&one, other))));
    }
    (0..length).all(|index| match (left.item(index), right.item(index)) {
        (Some(left), Some(right)) => equal(&left, &right),
        _ => false,
    })
}

fn equal_maps(left: &Val<'_>, right: &Val<'_>) -> bool {
    left.keys().is_some_and(|keys| {
        keys.iter().all(|key| match (left.entry(key), right.entry(key)) {
            (Some(left), Some(right)) => equal(&left, &right),
            _ => false,
        })
    })
}

/// Which of two values of one type is less; nothing where there is no order.
pub(super) fn order(left: &Val<'_>, right: &Val<'_>) -> Option<Ordering> {
    Some(match (left, right) {
        (Val::Bool(left), Val::Bool(right)) => left.cmp(right),
        (Val::Int(left), Val::Int(right)) => left.cmp(right),
        (Val::Uint(left), Val::Uint(right)) => left.cmp(right),
        (Val::Int(left), Val::Uint(right)) => i128::from(*left).cmp(&i128::from(*right)),
        (Val::Uint(left), Val::Int(right)) => i128::from(*left).cmp(&i128::from(*right)),
        (Val::Text(left), Val::Text(right)) => left.cmp(right),
        (Val::Bytes(left), Val::Bytes(right)) => left.cmp(right),
        (Val::Timestamp(left), Val::Timestamp(right)) => left.cmp(right),
        (Val::Duration(left), Val::Duration(right)) => left.cmp(right),
        (left, right) => return number(left)?.partial_cmp(&number(right)?),
    })
}

/// A number, roughly.
#[expect(clippy::cast_precision_loss, reason = "compared with a number that has a fraction")]
fn number(value: &Val<'_>) -> Option<f64> {
    match value {
        Val::Int(value) => Some(*value as f64),
        Val::Uint(value) => Some(*value as f64),
        Val::Double(value) => Some(*value),
        _ => None,
    }
}

/// How much there is to look at, in items and tens of bytes; never more than a little above `most`.
pub(super) fn extent(value: &Val<'_>, most: u64) -> u64 {
    let mut found = 1;
    match value {
        Val::Text(text) => found += text.len() as u64 / 10,
        Val::Bytes(bytes) => found += bytes.len() as u64 / 10,
        Val::Optional(Some(inner)) => found += extent(inner, most),
        Val::JsonList(list, _) => list.iter().for_each(|one| json_extent(one, most, &mut found)),
        Val::JsonMap(map, _) => map.values().for_each(|one| json_extent(one, most, &mut found)),
        Val::List(list) => {
            for one in list.iter() {
                if found > most {
                    break;
                }
                found += extent(one, most - found.min(most));
            }
        }
        Val::Map(map) => {
            for (_, one) in map.iter() {
                if found > most {
                    break;
                }
                found += 1 + extent(one, most - found.min(most));
            }
        }
        _ => {}
    }
    found
}

fn json_extent(value: &serde_json::Value, most: u64, found: &mut u64) {
    *found += 1;
    if *found > most {
        return;
    }
    match value {
        serde_json::Value::String(text) => *found += text.len() as u64 / 10,
        serde_json::Value::Array(list) => list.iter().for_each(|one| json_extent(one, most, found)),
        serde_json::Value::Object(map) => map.values().for_each(|one| json_extent(one, most, found)),
        _ => {}
    }
}
