//! What custom kinds do to their objects before they are stored (`apiextensions-apiserver`, `customresource/strategy.go`).

use barque_api::metadata::{Metadata, MetadataMut};
use serde_json::{Map, Value};

use super::{keep, keep_metadata};

/// Before a new object is stored. `has_status`: the status is written by its own path.
pub fn prepare_custom_for_create(has_status: bool, object: &mut Value) {
    if has_status && let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(mut metadata) = MetadataMut::of(object) {
        metadata.set_generation(1);
    }
}

/// Before a changed object is stored.
pub fn prepare_custom_for_update(has_status: bool, subresource: &str, object: &mut Value, old: &Value) {
    if subresource == "status" {
        let status = object.get("status").cloned();
        keep_metadata(object, old);
        let metadata = object.get("metadata").cloned();
        *object = old.clone();
        let Some(fields) = object.as_object_mut() else { return };
        for (name, value) in [("status", status), ("metadata", metadata)] {
            match value {
                Some(value) => fields.insert(name.to_owned(), value),
                None => fields.remove(name),
            };
        }
        return;
    }
    if has_status {
        keep(object, old, &["status"]);
    }
    let generation = Metadata::of(old).generation();
    let changed = content(object, has_status) != content(old, has_status);
    if let Some(mut metadata) = MetadataMut::of(object) {
        metadata.set_generation(generation + i64::from(changed));
    }
}

/// What counts as a change: everything but the metadata, and the status where it has a path of its own.
fn content(object: &Value, has_status: bool) -> Map<String, Value> {
    let mut fields = object.as_object().cloned().unwrap_or_default();
    fields.remove("metadata");
    if has_status {
        fields.remove("status");
    }
    fields
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn generations_count_changes_of_what_is_wanted() {
        let mut object = json!({"metadata": {}, "spec": {"a": 1}, "status": {"b": 2}});
        prepare_custom_for_create(true, &mut object);
        assert_eq!(object, json!({"metadata": {"generation": 1}, "spec": {"a": 1}}));
        let old = json!({"metadata": {"generation": 3}, "spec": {"a": 1}, "status": {"b": 2}});
        let changed = |has_status: bool, subresource: &str, new: Value| {
            let mut new = new;
            prepare_custom_for_update(has_status, subresource, &mut new, &old);
            (new["metadata"]["generation"].as_i64(), new["spec"]["a"].as_i64(), new["status"]["b"].as_i64())
        };
        let new = json!({"metadata": {"generation": 3}, "spec": {"a": 1}, "status": {"b": 5}});
        assert_eq!(changed(true, "", new.clone()), (Some(3), Some(1), Some(2)));
        assert_eq!(changed(false, "", new), (Some(4), Some(1), Some(5)));
        let new = json!({"metadata": {"generation": 3}, "spec": {"a": 9}, "status": {"b": 5}});
        assert_eq!(changed(true, "", new.clone()), (Some(4), Some(9), Some(2)));
        assert_eq!(changed(true, "status", new), (Some(3), Some(1), Some(5)));
    }
}
