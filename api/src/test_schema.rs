//! Schemas for tests, written as OpenAPI writes them.

use std::sync::Arc;

use serde_json::Value;

use crate::schema::{Definitions, ListType, MapType, Schema, SchemaRef, Type};

/// The schemas of an object of them by name; `$ref` is such a name.
pub(crate) fn definitions(schemas: &Value) -> Definitions {
    let mut definitions = Definitions::default();
    for (name, schema) in schemas.as_object().unwrap() {
        definitions.insert(name.as_str().into(), Arc::new(parse(schema)));
    }
    definitions
}

fn reference(value: &Value) -> SchemaRef {
    match value["$ref"].as_str() {
        Some(name) => SchemaRef::Named(name.into(), Arc::new(parse(value))),
        None => SchemaRef::Inline(Arc::new(parse(value))),
    }
}

fn parse(value: &Value) -> Schema {
    let text = |name: &str| value[format!("x-kubernetes-{name}")].as_str();
    let kind = value["type"].as_str().map(|kind| match kind {
        "object" => Type::Object,
        "array" => Type::Array,
        "string" => Type::String,
        "integer" => Type::Integer,
        "number" => Type::Number,
        "boolean" => Type::Boolean,
        other => panic!("{other}"),
    });
    let mut schema = Schema {
        kind,
        format: value["format"].as_str().map(Into::into),
        default: value.get("default").cloned(),
        items: value.get("items").map(reference),
        additional: value.get("additionalProperties").map(reference),
        preserve_unknown: value["x-kubernetes-preserve-unknown-fields"] == true,
        embedded: value["x-kubernetes-embedded-resource"] == true,
        int_or_string: value["x-kubernetes-int-or-string"] == true,
        ..Schema::default()
    };
    for (name, property) in value["properties"].as_object().into_iter().flatten() {
        schema.properties.insert(name.as_str().into(), reference(property));
    }
    schema.list_type = text("list-type").map(|list| match list {
        "atomic" => ListType::Atomic,
        "set" => ListType::Set,
        "map" => {
            let keys = value["x-kubernetes-list-map-keys"].as_array().unwrap();
            ListType::Map(keys.iter().map(|key| key.as_str().unwrap().into()).collect())
        }
        other => panic!("{other}"),
    });
    if text("map-type") == Some("atomic") {
        schema.map_type = MapType::Atomic;
    }
    for strategy in text("patch-strategy").into_iter().flat_map(|strategies| strategies.split(',')) {
        match strategy {
            "merge" => {
                schema.patch.merge_key = Some(text("patch-merge-key").unwrap_or_default().into());
            }
            "retainKeys" => schema.patch.retain_keys = true,
            "replace" => schema.patch.replace = true,
            other => panic!("{other}"),
        }
    }
    schema
}
