//! What kinds do to their objects before they are stored: fields that a request cannot change are put back, generations are
//! counted. Pure.

use barque_api::metadata::{Metadata, MetadataMut};
use serde_json::Value;

use super::pipeline::Request;
use super::served::Served;
use crate::custom_resources;

/// Before a new object is stored.
pub fn prepare_for_create(request: &Request<'_>, object: &mut Value) {
    if request.served.has_status()
        && let Some(fields) = object.as_object_mut()
    {
        fields.remove("status");
    }
    if counts_generations(request.served, object)
        && let Some(mut metadata) = MetadataMut::of(object)
    {
        metadata.set_generation(1);
    }
    if custom_resources::are_definitions(&request.served.group_resource()) {
        custom_resources::preparation::on_create(object);
    }
}

/// Before a changed object is stored.
pub fn prepare_for_update(request: &Request<'_>, object: &mut Value, old: &Value) {
    let keep = |object: &mut Value, field: &str| {
        let Some(fields) = object.as_object_mut() else { return };
        match old.get(field) {
            Some(value) => fields.insert(field.to_owned(), value.clone()),
            None => fields.remove(field),
        };
    };
    match request.subresource {
        "" if request.served.has_status() => keep(object, "status"),
        "status" if request.served.is_custom() => keep_all_but_status(object, old),
        "status" => keep(object, "spec"),
        _ => {}
    }
    if request.subresource.is_empty() && custom_resources::are_definitions(&request.served.group_resource()) {
        custom_resources::preparation::on_update(object);
    }
    let differs = if request.served.is_custom() {
        differs_outside_of_metadata(object, old)
    } else {
        request.subresource.is_empty() && object.get("spec") != old.get("spec")
    };
    if differs
        && request.subresource != "status"
        && counts_generations(request.served, object)
        && let Some(mut metadata) = MetadataMut::of(object)
    {
        metadata.set_generation(Metadata::of(old).generation() + 1);
    }
}

fn counts_generations(served: &Served, object: &Value) -> bool {
    served.is_custom() || object.get("spec").is_some()
}

/// A write of a custom object's status changes nothing else but who owns its fields.
fn keep_all_but_status(object: &mut Value, old: &Value) {
    let (Some(fields), Some(before)) = (object.as_object_mut(), old.as_object()) else { return };
    let mut kept = before.clone();
    match fields.remove("status") {
        Some(status) => kept.insert("status".to_owned(), status),
        None => kept.remove("status"),
    };
    if let (Some(Value::Object(metadata)), Some(Value::Object(own))) =
        (kept.get_mut("metadata"), fields.get_mut("metadata"))
    {
        for field in ["managedFields", "resourceVersion"] {
            match own.remove(field) {
                Some(value) => metadata.insert(field.to_owned(), value),
                None => metadata.remove(field),
            };
        }
    }
    *fields = kept;
}

/// Whether any field but the metadata differs.
fn differs_outside_of_metadata(object: &Value, old: &Value) -> bool {
    let (Some(new), Some(old)) = (object.as_object(), old.as_object()) else { return object != old };
    let part = |name: &String| name != "metadata";
    new.iter().filter(|(name, _)| part(name)).any(|(name, value)| old.get(name) != Some(value))
        || old.keys().filter(|name| part(name)).any(|name| !new.contains_key(name))
}

/// Whether a replacement of an object that is not there makes it.
#[must_use]
pub fn creates_on_update(_served: &Served) -> bool {
    false
}

/// Whether a replacement must say which version it replaces.
#[must_use]
pub fn needs_version(served: &Served) -> bool {
    served.is_custom() || custom_resources::are_definitions(&served.group_resource())
}
