//! How the deletion of a definition begins: it is held until its objects are gone. Pure. Must never hold one that goes already.

use barque_api::metadata::{Metadata, MetadataMut};
use barque_api::time::Time;
use serde_json::Value;

use super::CLEANUP;
use super::conditions::{self, Condition};

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
    use serde_json::json;

    use super::*;

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
