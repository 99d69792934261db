//! Schemas of custom kinds as they are published: with apiVersion, kind and metadata, which every object has and their
//! definitions leave out. Must never change what is validated.

use std::sync::Arc;

use super::source::META;
use crate::kind::GroupVersionKind;
use crate::resources::Resource;
use crate::schema::{BuiltinSchemas, Schema, SchemaRef, Type};

const CONVENTIONS: &str =
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md";

/// The name of a custom kind's schema: the group backwards, then version and kind.
pub(super) fn model_name(kind: &GroupVersionKind) -> String {
    let mut parts: Vec<&str> = kind.group.split('.').rev().collect();
    parts.extend([&*kind.version, &*kind.kind]);
    parts.join(".")
}

/// What objects of the kind look like.
pub(super) fn object_schema(schema: &Schema) -> Schema {
    let mut schema = with_embedded(schema);
    add_object_fields(&mut schema);
    schema
}

/// What lists of the kind look like.
pub(super) fn list_schema(resource: &Resource, item: &Arc<str>) -> Schema {
    let description = format!("List of {}. More info: {CONVENTIONS}", resource.name.resource);
    let items = Schema {
        kind: Some(Type::Array),
        description: Some(description.into()),
        items: Some(SchemaRef::Named(item.clone(), Arc::default())),
        ..Schema::default()
    };
    let mut properties = BuiltinSchemas::get().type_fields();
    properties.insert("items".into(), SchemaRef::Inline(Arc::new(items)));
    properties.insert("metadata".into(), metadata("ListMeta", "Standard list metadata."));
    Schema {
        kind: Some(Type::Object),
        description: Some(format!("{} is a list of {}", resource.list_kind(), resource.kind).into()),
        properties,
        required: vec!["items".into()],
        ..Schema::default()
    }
}

fn metadata(kind: &str, description: &str) -> SchemaRef {
    let description = format!("{description} More info: {CONVENTIONS}#metadata");
    let field = Schema { description: Some(description.into()), ..Schema::default() };
    SchemaRef::Named(format!("{META}.{kind}").into(), Arc::new(field))
}

fn add_object_fields(schema: &mut Schema) {
    schema.properties.extend(BuiltinSchemas::get().type_fields());
    schema.properties.insert("metadata".into(), metadata("ObjectMeta", "Standard object's metadata."));
}

/// The same schema, with the fields that objects inside it have.
fn with_embedded(schema: &Schema) -> Schema {
    let below = |one: &SchemaRef| match one {
        SchemaRef::Inline(schema) => SchemaRef::Inline(Arc::new(with_embedded(schema))),
        named @ SchemaRef::Named(..) => named.clone(),
    };
    let mut schema = Schema {
        properties: schema.properties.iter().map(|(name, one)| (name.clone(), below(one))).collect(),
        items: schema.items.as_ref().map(below),
        additional: schema.additional.as_ref().map(below),
        ..schema.clone()
    };
    if schema.embedded {
        add_object_fields(&mut schema);
        for name in ["kind", "apiVersion"] {
            if !schema.required.iter().any(|one| &**one == name) {
                schema.required.push(name.into());
            }
        }
    }
    schema
}
