//! Defaults in a schema: each must be what the schema there allows, without unknown fields. Must never complete one before
//! it is judged.

use serde_json::Value;

use super::super::embedded::validate_embedded;
use super::super::model::{Definitions, Schema, SchemaRef};
use super::super::prune::{Place, prune};
use super::super::validate::{Extent, validate};
use crate::field::{FieldError, FieldPath};

/// What is wrong with the defaults of a schema and of those below it.
pub(super) fn judge(schema: &Schema, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    walk(schema, at, false, &mut errors);
    errors
}

fn walk(schema: &Schema, at: &FieldPath, in_metadata: bool, errors: &mut Vec<FieldError>) {
    // An object that is embedded has metadata of its own.
    let in_metadata = in_metadata && !schema.embedded;
    if let Some(default) = &schema.default {
        one(schema, default, &at.child("default"), in_metadata, errors);
    }
    if let Some(SchemaRef::Inline(items)) = &schema.items {
        walk(items, &at.child("items"), in_metadata, errors);
    }
    for (name, field) in &schema.properties {
        let SchemaRef::Inline(field) = field else { continue };
        let meta = schema.embedded && matches!(&**name, "metadata" | "apiVersion" | "kind");
        walk(field, &at.child("properties").key(name), in_metadata || meta, errors);
    }
}

fn one(schema: &Schema, default: &Value, at: &FieldPath, in_metadata: bool, errors: &mut Vec<FieldError>) {
    let definitions = Definitions::default();
    let view = definitions.view_of(schema);
    let place = if schema.embedded { Place::Object } else { Place::Part };
    if !in_metadata && !prune(view, &mut default.clone(), place).is_empty() {
        errors.push(FieldError::invalid(at, default.clone(), "must not have unknown fields"));
    }
    let embedded = validate_embedded(view, default, at, place);
    if embedded.is_empty() {
        errors.extend(validate(view, default, at, Extent::Everything));
    } else {
        errors.extend(embedded);
    }
}
