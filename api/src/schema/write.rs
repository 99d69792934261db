//! The model as JSON schemas: as OpenAPI v3 and v2 publish them. Must never say more than the version can carry.

use serde_json::{Map, Value, json};

use super::model::{ListType, MapType, Rule, Schema, SchemaRef, Type};

/// The version of OpenAPI that a schema is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// 2.0: no alternatives, no null, no defaults; what kubectl of old understands.
    V2,
    /// 3.0
    V3,
}

impl Dialect {
    /// What names of schemas are referred to with.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::V2 => "#/definitions/",
            Self::V3 => "#/components/schemas/",
        }
    }
}

/// Writes one schema.
#[must_use]
pub fn write(schema: &Schema, dialect: Dialect) -> Value {
    let mut json = Map::new();
    texts(schema, &mut json);
    match dialect {
        Dialect::V3 => {
            structure(schema, dialect, &mut json);
            only_v3(schema, &mut json);
        }
        Dialect::V2 => v2_structure(schema, &mut json),
    }
    bounds(schema, &mut json);
    extensions(schema, &mut json);
    Value::Object(json)
}

/// Writes a schema or a reference to one.
#[must_use]
pub fn write_ref(schema: &SchemaRef, dialect: Dialect) -> Value {
    let (name, field) = match schema {
        SchemaRef::Inline(schema) => return write(schema, dialect),
        SchemaRef::Named(name, field) => (name, field),
    };
    let target = Value::String(format!("{}{name}", dialect.prefix()));
    let mut json = write(field, dialect);
    let Some(fields) = json.as_object_mut() else { return json };
    if fields.is_empty() || dialect == Dialect::V2 {
        fields.insert("$ref".to_owned(), target);
    } else {
        fields.insert("allOf".to_owned(), json!([{ "$ref": target }]));
    }
    json
}

fn set(json: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    json.insert(key.to_owned(), value.into());
}

fn set_some<V: Into<Value>>(json: &mut Map<String, Value>, key: &str, value: Option<V>) {
    if let Some(value) = value {
        set(json, key, value);
    }
}

fn set_flag(json: &mut Map<String, Value>, key: &str, flag: bool) {
    if flag {
        set(json, key, true);
    }
}

fn set_list<V: Into<Value>>(json: &mut Map<String, Value>, key: &str, list: impl IntoIterator<Item = V>) {
    let list: Vec<Value> = list.into_iter().map(Into::into).collect();
    if !list.is_empty() {
        set(json, key, list);
    }
}

fn texts(schema: &Schema, json: &mut Map<String, Value>) {
    set_some(json, "description", schema.description.as_deref());
    set_some(json, "title", schema.title.as_deref());
    set_some(json, "format", schema.format.as_deref());
}

fn structure(schema: &Schema, dialect: Dialect, json: &mut Map<String, Value>) {
    set_some(json, "type", schema.kind.map(Type::name));
    if !schema.properties.is_empty() {
        let properties: Map<String, Value> =
            schema.properties.iter().map(|(name, one)| (name.to_string(), write_ref(one, dialect))).collect();
        set(json, "properties", properties);
    }
    set_some(json, "additionalProperties", schema.additional.as_ref().map(|one| additional(one, dialect)));
    set_some(json, "items", schema.items.as_ref().map(|one| write_ref(one, dialect)));
    set_list(json, "required", schema.required.iter().map(|name| &**name));
}

fn additional(schema: &SchemaRef, dialect: Dialect) -> Value {
    match schema {
        SchemaRef::Inline(schema) if **schema == Schema::default() => Value::Bool(true),
        schema => write_ref(schema, dialect),
    }
}

fn only_v3(schema: &Schema, json: &mut Map<String, Value>) {
    let all = |schemas: &[Schema]| schemas.iter().map(|one| write(one, Dialect::V3)).collect::<Vec<_>>();
    set_some(json, "default", schema.default.clone());
    set_flag(json, "nullable", schema.nullable);
    set_list(json, "allOf", all(&schema.all_of));
    set_list(json, "anyOf", all(&schema.any_of));
    set_list(json, "oneOf", all(&schema.one_of));
    set_some(json, "not", schema.not.as_ref().map(|one| write(one, Dialect::V3)));
}

/// Version 2 has no type for several types, and its readers take fields that they know for all there are.
fn v2_structure(schema: &Schema, json: &mut Map<String, Value>) {
    let any_fields = schema.preserve_unknown || schema.nullable;
    let mut plain = Schema {
        kind: schema.kind.or_else(|| scalar_of(&schema.one_of)),
        additional: schema.additional.clone(),
        required: schema.required.clone(),
        ..Schema::default()
    };
    if any_fields {
        plain.kind = plain
            .kind
            .filter(|_| !schema.nullable && !matches!(schema.kind, Some(Type::Object | Type::Array)));
    } else if plain.kind.is_some() {
        plain.properties.clone_from(&schema.properties);
        plain.items.clone_from(&schema.items);
    }
    if plain.items.is_none() {
        plain.kind = plain.kind.filter(|kind| *kind != Type::Array);
    }
    // What may be null may be missing for readers who know no null.
    let nullable = |one: &SchemaRef| match one {
        SchemaRef::Inline(schema) => schema.nullable,
        SchemaRef::Named(_, field) => field.nullable,
    };
    plain.required.retain(|name| !schema.properties.get(name).is_some_and(nullable));
    if schema.additional.as_ref().is_some_and(nullable) {
        plain.required.clear();
    }
    structure(&plain, Dialect::V2, json);
}

/// What is one of several scalars is written as text.
fn scalar_of(one_of: &[Schema]) -> Option<Type> {
    let text = Type::String;
    one_of.iter().any(|one| one.kind == Some(text)).then_some(text)
}

fn bounds(schema: &Schema, json: &mut Map<String, Value>) {
    set_list(json, "enum", schema.enumeration.iter().cloned());
    set_some(json, "pattern", schema.pattern.as_deref());
    for (key, count) in [
        ("minLength", schema.min_length),
        ("maxLength", schema.max_length),
        ("minItems", schema.min_items),
        ("maxItems", schema.max_items),
        ("minProperties", schema.min_properties),
        ("maxProperties", schema.max_properties),
    ] {
        set_some(json, key, count);
    }
    for (key, number) in
        [("minimum", &schema.minimum), ("maximum", &schema.maximum), ("multipleOf", &schema.multiple_of)]
    {
        set_some(json, key, number.clone().map(Value::Number));
    }
    set_flag(json, "exclusiveMinimum", schema.exclusive_minimum);
    set_flag(json, "exclusiveMaximum", schema.exclusive_maximum);
    set_flag(json, "uniqueItems", schema.unique_items);
}

fn extensions(schema: &Schema, json: &mut Map<String, Value>) {
    set_flag(json, "x-kubernetes-preserve-unknown-fields", schema.preserve_unknown);
    set_flag(json, "x-kubernetes-embedded-resource", schema.embedded);
    set_flag(json, "x-kubernetes-int-or-string", schema.int_or_string);
    match &schema.list_type {
        None => {}
        Some(ListType::Atomic) => set(json, "x-kubernetes-list-type", "atomic"),
        Some(ListType::Set) => set(json, "x-kubernetes-list-type", "set"),
        Some(ListType::Map(keys)) => {
            set(json, "x-kubernetes-list-type", "map");
            set_list(json, "x-kubernetes-list-map-keys", keys.iter().map(|key| &**key));
        }
    }
    if schema.map_type == MapType::Atomic {
        set(json, "x-kubernetes-map-type", "atomic");
    }
    let mut strategies = Vec::new();
    if let Some(key) = &schema.patch.merge_key {
        strategies.push("merge");
        if !key.is_empty() {
            set(json, "x-kubernetes-patch-merge-key", &**key);
        }
    }
    strategies.extend(schema.patch.retain_keys.then_some("retainKeys"));
    strategies.extend(schema.patch.replace.then_some("replace"));
    if !strategies.is_empty() {
        set(json, "x-kubernetes-patch-strategy", strategies.join(","));
    }
    set_list(json, "x-kubernetes-validations", schema.rules.iter().map(rule));
}

fn rule(rule: &Rule) -> Value {
    let mut json = Map::new();
    set(&mut json, "rule", rule.rule.as_str());
    set_some(&mut json, "message", rule.message.as_deref());
    set_some(&mut json, "messageExpression", rule.message_expression.as_deref());
    set_some(&mut json, "reason", rule.reason.as_deref());
    set_some(&mut json, "fieldPath", rule.field_path.as_deref());
    set_some(&mut json, "optionalOldSelf", rule.optional_old_self);
    Value::Object(json)
}
