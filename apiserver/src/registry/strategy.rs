//! What kinds do to their objects before they are stored: fields that a request cannot change are put back, generations are
//! counted. Pure.

use barque_api::metadata::{Metadata, MetadataMut};
use serde_json::Value;

use super::pipeline::Request;
use super::served::Served;

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
        "" | "scale" if request.served.has_status() => keep(object, "status"),
        "status" => keep(object, "spec"),
        _ => {}
    }
    if ["", "scale"].contains(&request.subresource)
        && counts_generations(request.served, object)
        && object.get("spec") != old.get("spec")
        && let Some(mut metadata) = MetadataMut::of(object)
    {
        metadata.set_generation(Metadata::of(old).generation() + 1);
    }
}

fn counts_generations(_served: &Served, object: &Value) -> bool {
    object.get("spec").is_some()
}

/// Whether a replacement of an object that is not there makes it.
#[must_use]
pub fn creates_on_update(_served: &Served) -> bool {
    false
}

/// Whether a replacement must say which version it replaces.
#[must_use]
pub fn needs_version(_served: &Served) -> bool {
    false
}
