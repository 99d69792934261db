//! What the server says of definitions before they are stored: a status of its own, versions that were ever stored, and how
//! their deletion begins. Pure. Must never take back what the status already tells.

use barque_api::metadata::{Metadata, MetadataMut};
use barque_api::time::Time;
use serde_json::{Value, json};

use super::CLEANUP;
use super::conditions::{self, Condition};
use super::definition::storage_version;

/// A new definition has no status but the version in which its objects will be stored.
pub fn on_create(definition: &mut Value) {
    let Some(fields) = definition.as_object_mut() else { return };
    let status = json!({"acceptedNames": {"kind": "", "plural": ""}, "conditions": [], "storedVersions": []});
    fields.insert("status".to_owned(), status);
    remember_storage_version(definition);
}

/// A changed definition may store its objects in another version from now on.
pub fn on_update(definition: &mut Value) {
    remember_storage_version(definition);
}

fn remember_storage_version(definition: &mut Value) {
    let Some(version) = storage_version(definition).map(str::to_owned) else { return };
    if !definition.get("status").is_some_and(Value::is_object) {
        definition["status"] = json!({});
    }
    let stored = &mut definition["status"]["storedVersions"];
    match stored {
        Value::Array(versions) if versions.iter().any(|one| *one == *version) => {}
        Value::Array(versions) => versions.push(version.into()),
        other => *other = json!([version]),
    }
}

/// A definition that somebody deletes is held until its objects are gone.
#[must_use]
pub fn on_delete(definition: &Value, now: Time) -> Value {
    let mut held = definition.clone();
    if Metadata::of(definition).is_deleting() {
        return held;
    }
    if let Some(mut metadata) = MetadataMut::of(&mut held) {
        metadata.add_finalizer(CLEANUP);
    }
    let pending = Condition {
        kind: "Terminating",
        status: "True",
        reason: "InstanceDeletionPending",
        message: "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"
            .to_owned(),
    };
    conditions::set(&mut held, &pending, now);
    held
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_were_ever_stored_are_remembered() {
        let mut one =
            json!({"spec": {"versions": [{"name": "v1", "storage": true}]}, "status": {"conditions": [1]}});
        on_create(&mut one);
        assert_eq!(one["status"]["storedVersions"], json!(["v1"]));
        assert_eq!(one["status"]["conditions"], json!([]));
        one["spec"]["versions"] = json!([{"name": "v1", "storage": false}, {"name": "v2", "storage": true}]);
        on_update(&mut one);
        on_update(&mut one);
        assert_eq!(one["status"]["storedVersions"], json!(["v1", "v2"]));
    }

    #[test]
    fn a_deleted_definition_is_held_until_its_objects_are_gone() {
        let now = Time::parse("2026-01-02T12:00:00Z").unwrap();
        let held = on_delete(&json!({"metadata": {"name": "a"}, "status": {}}), now);
        assert_eq!(held["metadata"]["finalizers"], json!([CLEANUP]));
        assert_eq!(held["status"]["conditions"][0]["reason"], "InstanceDeletionPending");
        let going = json!({"metadata": {"name": "a", "deletionTimestamp": "2026-01-02T11:00:00Z"}});
        assert_eq!(on_delete(&going, now), going);
    }
}
