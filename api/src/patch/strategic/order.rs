//! In which order the items of a merged list stand: those of the patch as the patch has them, those of the server as the
//! server had them, the two interleaved by where they stood on the server. Must never add or lose an item.

use serde_json::{Map, Value};

use super::error::StrategicPatchError;

/// What tells items of a list apart.
#[derive(Clone, Copy, Debug)]
pub(super) enum Identity<'a> {
    /// They are scalars.
    Scalar,
    /// They are objects with this field.
    Key(&'a str),
}

impl Identity<'_> {
    /// What stands for the item among others.
    fn of(self, item: &Value) -> Option<&Value> {
        match self {
            Self::Scalar => Some(item),
            Self::Key(key) => item.as_object()?.get(key),
        }
    }

    fn place(self, list: &[Value], item: &Value) -> Option<usize> {
        let wanted = self.of(item);
        list.iter().position(|other| self.of(other) == wanted)
    }
}

/// The key of an item that must have one.
pub(super) fn key_of<'a>(item: &'a Value, key: &str) -> Result<&'a Value, StrategicPatchError> {
    let fields = object(item)?;
    fields.get(key).ok_or_else(|| StrategicPatchError::no_merge_key(fields, key))
}

pub(super) fn object(item: &Value) -> Result<&Map<String, Value>, StrategicPatchError> {
    item.as_object().ok_or_else(|| StrategicPatchError::not_an_object(item))
}

/// Orders `merged`: items that `wanted` names as it names them, the others as `server` had them.
pub(super) fn ordered(
    merged: Vec<Value>,
    wanted: &[Value],
    server: &[Value],
    identity: Identity<'_>,
) -> Result<Vec<Value>, StrategicPatchError> {
    if let Identity::Key(key) = identity {
        for item in merged.iter().chain(wanted) {
            key_of(item, key)?;
        }
    }
    let (mut ours, mut others): (Vec<_>, Vec<_>) =
        merged.into_iter().partition(|item| identity.place(wanted, item).is_some());
    ours.sort_by_key(|item| identity.place(wanted, item));
    others.sort_by_key(|item| identity.place(server, item));
    Ok(interleaved(others, ours, server, identity))
}

/// Puts an item of `others` before the next of `ours` only where it stood before it on the server.
fn interleaved(others: Vec<Value>, ours: Vec<Value>, server: &[Value], identity: Identity<'_>) -> Vec<Value> {
    let mut all = Vec::with_capacity(others.len() + ours.len());
    let (mut others, mut ours) = (others.into_iter().peekable(), ours.into_iter().peekable());
    while let (Some(other), Some(our)) = (others.peek(), ours.peek()) {
        let before = match (identity.place(server, other), identity.place(server, our)) {
            (Some(other), Some(our)) => other < our,
            _ => false,
        };
        all.extend(if before { others.next() } else { ours.next() });
    }
    all.extend(ours);
    all.extend(others);
    all
}

/// Whether the items of a patch stand in the order that the patch asks for, and all of them in it. Items that go, or that
/// carry another directive, do not count.
pub(super) fn check(
    patch: &[Value],
    order: &[Value],
    identity: Identity<'_>,
) -> Result<(), StrategicPatchError> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut left = order.iter();
    for item in patch {
        if let Identity::Key(key) = identity {
            if object(item)?.contains_key(super::DIRECTIVE) {
                continue;
            }
            key_of(item, key)?;
        }
        let mut found = false;
        for other in left.by_ref() {
            if let Identity::Key(key) = identity {
                key_of(other, key)?;
            }
            if identity.of(item) == identity.of(other) {
                found = true;
                break;
            }
        }
        if !found {
            return Err(StrategicPatchError::OrderMismatch {
                patch: crate::go_text::printed_items(patch),
                order: crate::go_text::printed_items(order),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn list(value: Value) -> Vec<Value> {
        value.as_array().unwrap().clone()
    }

    #[test]
    fn what_the_patch_names_keeps_its_order_and_the_rest_its_place() {
        // merged, wanted, server, result
        let table = [
            (json!([1, 2, 3]), json!([3, 1]), json!([1, 2, 3]), json!([2, 3, 1])),
            (json!([1, 2, 3, 4]), json!([4, 1]), json!([1, 2, 3]), json!([4, 1, 2, 3])),
            (json!([1, 2, 3]), json!([]), json!([3, 2, 1]), json!([3, 2, 1])),
            (json!([5, 6]), json!([6, 5]), json!([]), json!([6, 5])),
            (
                json!(["a", "b", "c", "d"]),
                json!(["b", "d"]),
                json!(["a", "b", "c"]),
                json!(["a", "b", "d", "c"]),
            ),
        ];
        for (merged, wanted, server, result) in table {
            let told = format!("{merged} {wanted} {server}");
            let all = ordered(list(merged), &list(wanted), &list(server), Identity::Scalar).unwrap();
            assert_eq!(Value::Array(all), result, "{told}");
        }
    }
}
