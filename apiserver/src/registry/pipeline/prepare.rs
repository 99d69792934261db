//! The kind's own part in a write: what its strategy does to an object, and what is wrong with it. Pure.

use barque_api::field::{FieldError, FieldPath};
use barque_api::metadata::{self, Metadata};
use serde_json::Value;

use super::{Request, scale};
use crate::custom_resources;
use crate::registry::served::Shape;
use crate::registry::strategy::{self, Asking};
use crate::validation::{self, Subject};

const fn asking<'a>(request: &Request<'a>) -> Asking<'a> {
    Asking { user: request.user, now: request.now }
}

/// A scale is a way to change the object itself.
fn part<'a>(request: &Request<'a>) -> &'a str {
    if request.subresource == "scale" { "" } else { request.subresource }
}

/// Labels, annotations and the like of which there are none are not written down: an object with `annotations: {}` is the
/// same as one without, and clients that compare them find no difference.
fn drop_empty_metadata(object: &mut Value) {
    let Some(fields) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    for name in ["labels", "annotations", "finalizers", "ownerReferences"] {
        let is_empty = match fields.get(name) {
            Some(Value::Object(map)) => map.is_empty(),
            Some(Value::Array(list)) => list.is_empty(),
            _ => false,
        };
        if is_empty {
            fields.remove(name);
        }
    }
}

/// Before a new object is stored.
pub(super) fn for_create(request: &Request<'_>, object: &mut Value) {
    drop_empty_metadata(object);
    let kind = &request.served.kind;
    match &request.served.shape {
        Shape::Custom(shape) => strategy::prepare_custom_for_create(shape.status, object),
        Shape::Builtin(_) => strategy::prepare_for_create(asking(request), &kind.group, &kind.kind, object),
    }
}

/// Before a changed object is stored.
pub(super) fn for_update(request: &Request<'_>, object: &mut Value, old: &Value) {
    drop_empty_metadata(object);
    let kind = &request.served.kind;
    match &request.served.shape {
        Shape::Custom(shape) => {
            strategy::prepare_custom_for_update(shape.status, part(request), object, old);
        }
        Shape::Builtin(_) => {
            strategy::prepare_for_update(
                asking(request),
                &kind.group,
                &kind.kind,
                part(request),
                object,
                old,
            );
        }
    }
}

/// Whether a replacement of an object that is not there makes it.
pub(super) fn creates_on_update(request: &Request<'_>) -> bool {
    let kind = &request.served.kind;
    !request.served.is_custom() && strategy::may_create_on_update(&kind.group, &kind.kind)
}

/// Whether a replacement must say which version it replaces.
pub(super) fn needs_version(request: &Request<'_>) -> bool {
    let kind = &request.served.kind;
    request.served.is_custom() || !strategy::may_update_without_version(&kind.group, &kind.kind)
}

/// What the client should know about an object that is fine.
pub(super) fn warnings(request: &Request<'_>, object: &Value, old: Option<&Value>) -> Vec<String> {
    let kind = &request.served.kind;
    match &request.served.shape {
        Shape::Builtin(_) => strategy::warnings(&kind.group, &kind.kind, object, old),
        Shape::Custom(_) => Vec::new(),
    }
}

/// Everything that is wrong with an object that is about to be stored: `old` is what it replaces. Built-in kinds are judged in
/// their stored version, custom ones in that of the request.
pub(super) fn validate(request: &Request<'_>, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let (served, at) = (request.served, FieldPath::of("metadata"));
    let metadata = Metadata::of(object);
    let mut errors = match old {
        None => metadata::validate_create(metadata, served.resource.namespaced, served.names, &at),
        Some(old) => metadata::validate_update(metadata, Metadata::of(old), &at),
    };
    match &served.shape {
        Shape::Custom(shape) => {
            if let Some(schema) = &shape.schema {
                errors.extend(match old {
                    None => schema.validate(object),
                    Some(old) => schema.validate_update(object, old),
                });
            }
            if let Some(scale) = &served.scale {
                scale::judge_numbers(scale, object, &mut errors);
            }
        }
        // That a pod gets its node is what a binding is for, and nothing else may change it.
        Shape::Builtin(_) if request.subresource == "binding" => {}
        Shape::Builtin(_) => {
            let kind = &served.stored_kind;
            let subject = Subject {
                group: &kind.group,
                kind: &kind.kind,
                subresource: part(request),
                new: object,
                old,
            };
            errors.extend(validation::validate(&subject));
            if custom_resources::are_definitions(&served.group_resource()) {
                errors.extend(custom_resources::validation::validate(object, old, part(request)));
            }
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn metadata_that_holds_nothing_is_not_written_down() {
        let mut object = json!({
            "metadata": {
                "name": "a", "labels": {}, "annotations": {"b": ""}, "finalizers": [],
                "ownerReferences": [{"name": "o"}], "managedFields": [],
            },
            "data": {},
        });
        drop_empty_metadata(&mut object);
        let left = json!({
            "name": "a", "annotations": {"b": ""}, "ownerReferences": [{"name": "o"}], "managedFields": [],
        });
        assert_eq!(object, json!({"metadata": left, "data": {}}));
        let mut none = json!({"metadata": null});
        drop_empty_metadata(&mut none);
        assert_eq!(none, json!({"metadata": null}));
    }
}
