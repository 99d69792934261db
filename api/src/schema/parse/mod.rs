//! Schemas of CustomResourceDefinitions: judged as Kubernetes judges them, then read into the model. Must never accept a
//! schema that does not tell of every value which fields it may have.

mod defaults;
mod json_path;
mod keywords;
mod props;
mod structural;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde_json::Value;

use super::model::Schema;
use super::read::{Texts, read};
use crate::field::{FieldError, FieldPath};
use props::{Props, is_set};

pub(crate) use json_path::field_at;

/// What may stand at the root of a schema when its status is a subresource, in the words of the message.
const AT_ROOT_WITH_STATUS: &[(&str, &str)] = &[
    ("Description", "description"),
    ("Type", "type"),
    ("Format", "format"),
    ("Title", "title"),
    ("Maximum", "maximum"),
    ("ExclusiveMaximum", "exclusiveMaximum"),
    ("Minimum", "minimum"),
    ("ExclusiveMinimum", "exclusiveMinimum"),
    ("MaxLength", "maxLength"),
    ("MinLength", "minLength"),
    ("Pattern", "pattern"),
    ("MaxItems", "maxItems"),
    ("MinItems", "minItems"),
    ("UniqueItems", "uniqueItems"),
    ("MultipleOf", "multipleOf"),
    ("Required", "required"),
    ("Items", "items"),
    ("Properties", "properties"),
    ("ExternalDocs", "externalDocs"),
    ("Example", "example"),
    ("XPreserveUnknownFields", "x-kubernetes-preserve-unknown-fields"),
    ("XValidations", "x-kubernetes-validations"),
];

/// Reads an `openAPIV3Schema`. `at` is where it stands, `spec.versions[0].schema.openAPIV3Schema`. Rules in CEL are
/// read, but not judged.
///
/// # Errors
/// All that is wrong with it.
pub fn parse(json: &Value, at: &FieldPath, status_subresource: bool) -> Result<Arc<Schema>, Vec<FieldError>> {
    let Some(props) = Props::of(json) else {
        return Err(vec![FieldError::type_invalid(at, json.clone(), "must be a schema")]);
    };
    let mut errors = root(&props, json, at, status_subresource);
    let structural = structural::judge(&props, at);
    let keywords = keywords::judge(&props, at);
    let schema = read(at, json, &mut Texts::default());
    if structural.is_empty() && keywords.is_empty() {
        match schema {
            Ok(schema) => {
                errors.extend(defaults::judge(&schema, at));
                if errors.is_empty() {
                    return Ok(Arc::new(schema));
                }
            }
            Err(error) => errors.push(error),
        }
    }
    errors.extend(structural);
    errors.extend(keywords);
    Err(errors)
}

fn root(props: &Props<'_>, json: &Value, at: &FieldPath, status_subresource: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if status_subresource {
        let allowed = |key: &str| AT_ROOT_WITH_STATUS.iter().any(|(_, json)| *json == key);
        if is_set(props.get("type")) && props.text("type") != "object" {
            let why = "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
            errors.push(FieldError::invalid(&at.child("type"), props.text("type"), why));
        } else if props.keys().any(|(key, value)| is_set(Some(value)) && !allowed(key)) {
            let names: Vec<&str> = AT_ROOT_WITH_STATUS.iter().map(|(name, _)| *name).collect();
            let why = format!(
                "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
                names.join(" ")
            );
            errors.push(FieldError::invalid(at, json.clone(), why));
        }
    }
    if props.flag("nullable") {
        errors.push(FieldError::forbidden(&at.child("nullable"), "nullable cannot be true at the root"));
    }
    errors
}
