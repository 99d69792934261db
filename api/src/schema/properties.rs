//! What holds for any schema and any value: tests with drawn ones. Must never be compiled into the product.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::field::FieldPath;

/// Any value, small.
fn value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-3i64..3).prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::String),
    ];
    scalar.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map("[a-d]|apiVersion|kind|metadata", inner, 0..4).prop_map(
                |map: BTreeMap<String, Value>| Value::Object(map.into_iter().collect::<Map<_, _>>())
            ),
        ]
    })
}

/// Any structural schema, small, with defaults that fit.
fn schema() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(json!({"type": "string"})),
        Just(json!({"type": "string", "default": "x", "maxLength": 9, "description": "text"})),
        Just(json!({"type": "integer", "nullable": true, "minimum": -5, "exclusiveMinimum": true})),
        Just(json!({"type": "boolean", "default": false})),
        Just(json!({"type": "number", "enum": [1, 2.5]})),
        Just(json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]})),
        Just(json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})),
        Just(json!({"type": "object", "default": {"a": {}}, "properties": {"a": {"type": "object",
            "properties": {"b": {"type": "string", "default": "y"}}}}})),
    ];
    let node = scalar.prop_recursive(3, 16, 3, |inner| {
        prop_oneof![
            prop::collection::btree_map("[a-d]", inner.clone(), 0..4).prop_map(|properties| {
                json!({"type": "object", "properties": properties, "required": ["a"], "x-kubernetes-map-type": "atomic",
                    "x-kubernetes-validations": [{"rule": "true", "message": "m", "reason": "FieldValueInvalid"}]})
            }),
            inner.clone().prop_map(|below| json!({"type": "object", "additionalProperties": below, "maxProperties": 9})),
            inner.clone().prop_map(|below| json!({"type": "array", "items": below, "x-kubernetes-list-type": "atomic"})),
            inner.prop_map(|below| json!({"type": "object", "x-kubernetes-embedded-resource": true,
                "properties": {"spec": below}, "not": {"required": ["a"]}})),
        ]
    });
    prop::collection::btree_map("[a-d]", node, 0..4)
        .prop_map(|properties| json!({"type": "object", "properties": properties}))
}

fn read_schema(json: &Value) -> Schema {
    read(&FieldPath::root(), json, &mut Texts::default()).unwrap()
}

proptest! {
    #[test]
    fn pruned_values_have_nothing_to_prune(json in schema(), mut value in value()) {
        let (schema, definitions) = (read_schema(&json), Definitions::default());
        let view = definitions.view_of(&schema);
        prune(view, &mut value, Place::Object);
        let once = value.clone();
        prop_assert!(prune(view, &mut value, Place::Object).is_empty());
        prop_assert_eq!(value, once);
    }

    #[test]
    fn defaulted_values_lack_no_default(json in schema(), mut value in value()) {
        let (schema, definitions) = (read_schema(&json), Definitions::default());
        let view = definitions.view_of(&schema);
        default(view, &mut value);
        let once = value.clone();
        default(view, &mut value);
        prop_assert_eq!(&value, &once);
        // What is entered is known.
        prune(view, &mut value, Place::Object);
        let pruned = value.clone();
        default(view, &mut value);
        prop_assert_eq!(value, pruned);
    }

    #[test]
    fn what_is_as_it_was_is_never_wrong(json in schema(), value in value()) {
        let (schema, definitions) = (read_schema(&json), Definitions::default());
        let view = definitions.view_of(&schema);
        prop_assert!(validate_update(view, &value, &value, &FieldPath::root()).is_empty());
    }

    #[test]
    fn a_schema_survives_its_way_through_openapi(json in schema()) {
        let schema = read_schema(&json);
        let written = write(&schema, Dialect::V3);
        prop_assert_eq!(&read_schema(&written), &schema);
        prop_assert_eq!(write(&read_schema(&written), Dialect::V3), written);
    }

    #[test]
    fn structural_schemas_are_accepted(json in schema()) {
        prop_assert!(parse(&json, &FieldPath::root(), false).is_ok(), "{:?}", parse(&json, &FieldPath::root(), false));
    }

    #[test]
    fn any_value_is_a_schema_or_is_refused(json in value()) {
        let _ = parse(&json, &FieldPath::root(), true);
    }
}

#[test]
fn built_in_schemas_survive_their_way_through_openapi() {
    let mut texts = Texts::default();
    for (name, schema) in BuiltinSchemas::get().definitions().iter() {
        let written = write(schema, Dialect::V3);
        let read = read(&FieldPath::root(), &written, &mut texts).unwrap();
        assert_eq!(&read, &**schema, "{name}");
    }
}
