//! The annotation in which kubectl keeps what it applied last, as far as servers heed it: kubectl may take over what it applied
//! as a client, and finds the annotation up to date when it applies as a client again.

use serde_json::{Map, Value};

use super::set::FieldSet;
use super::typed::{Strictness, compare, field_set, validate};
use super::versions::{Versions, shape};

/// The annotation.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The one manager for whom the annotation is heeded.
pub(super) const KUBECTL: &str = "kubectl";

/// How many bytes the annotations of an object may have, names and values.
const ANNOTATIONS_BYTES_MAX: usize = 256 << 10;

/// What the annotation tells of the object, where there is one that says anything.
fn of(object: &Value) -> Option<&str> {
    let annotations = object.get("metadata")?.get("annotations")?;
    annotations.get(LAST_APPLIED)?.as_str().filter(|text| !text.is_empty())
}

/// The fields that kubectl applied as a client and nobody changed since. Nothing when that cannot be told.
pub(super) fn unchanged_fields(live: &Value, versions: &dyn Versions, api_version: &str) -> Option<FieldSet> {
    let last: Value = serde_json::from_str(of(live)?).ok()?;
    if last.get("apiVersion").and_then(Value::as_str) != Some(api_version) {
        return None;
    }
    let shape = shape(versions, api_version);
    validate(shape, live, Strictness::Applied).ok()?;
    validate(shape, &last, Strictness::Applied).ok()?;
    let changes = compare(shape, &last, live);
    let applied = field_set(shape, &last);
    Some(applied.difference(&changes.modified).difference(&changes.added).difference(&changes.removed))
}

/// Brings the annotation, where there is one, up to date with what is applied now. It goes when it would be too large.
pub(super) fn renew(object: &mut Value, applied: &Value) {
    if of(object).is_none() {
        return;
    }
    let mut applied = applied.clone();
    if let Some(annotations) = annotations_of(&mut applied) {
        annotations.remove(LAST_APPLIED);
    }
    // The line's end is a part of it.
    let text = crate::go_text::json(&applied) + "\n";
    let Some(annotations) = annotations_of(object) else { return };
    annotations.insert(LAST_APPLIED.to_owned(), text.into());
    let size: usize =
        annotations.iter().map(|(name, value)| name.len() + value.as_str().map_or(0, str::len)).sum();
    if size > ANNOTATIONS_BYTES_MAX {
        annotations.remove(LAST_APPLIED);
    }
}

fn annotations_of(object: &mut Value) -> Option<&mut Map<String, Value>> {
    object.get_mut("metadata")?.get_mut("annotations")?.as_object_mut()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_annotation_is_renewed_where_there_is_one() {
        let applied = json!({"kind": "A", "metadata": {"annotations": {LAST_APPLIED: "old", "a": "<b>"}}});
        let mut without = json!({"metadata": {"annotations": {"a": "b"}}});
        renew(&mut without, &applied);
        assert_eq!(without, json!({"metadata": {"annotations": {"a": "b"}}}));

        let mut object = json!({"metadata": {"annotations": {LAST_APPLIED: "old"}}});
        renew(&mut object, &applied);
        assert_eq!(
            object["metadata"]["annotations"][LAST_APPLIED],
            "{\"kind\":\"A\",\"metadata\":{\"annotations\":{\"a\":\"\\u003cb\\u003e\"}}}\n"
        );

        let mut large =
            json!({"metadata": {"annotations": {LAST_APPLIED: "old", "a": "x".repeat(256 << 10)}}});
        renew(&mut large, &applied);
        assert!(large["metadata"]["annotations"].get(LAST_APPLIED).is_none());
    }
}
