//! Sentences and paths of values that are wrong, and updates that are excused.

use serde_json::json;

use super::*;
use crate::schema::{BuiltinSchemas, Definitions, Texts, read};

fn told(errors: &[FieldError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

fn schema(json: &Value) -> Schema {
    read(&FieldPath::root(), json, &mut Texts::default()).unwrap()
}

#[test]
fn sentences_are_those_of_kubernetes() {
    let definitions = Definitions::default();
    let table = [
        (json!({"type": "string"}), json!("x"), vec![]),
        (
            json!({"type": "string"}),
            json!(1),
            vec![r#"a: Invalid value: "integer": a in body must be of type string: "integer""#],
        ),
        (
            json!({"type": "integer"}),
            json!("1"),
            vec![r#"a: Invalid value: "string": a in body must be of type integer: "string""#],
        ),
        (json!({"type": "integer"}), json!(1.0), vec![]),
        (
            json!({"type": "integer"}),
            json!(1.5),
            vec![r#"a: Invalid value: "number": a in body must be of type integer: "number""#],
        ),
        (json!({"type": "number"}), json!(1), vec![]),
        (
            json!({"type": "object"}),
            Value::Null,
            vec![r#"a: Invalid value: "null": a in body must be of type object: "null""#],
        ),
        (json!({"type": "object", "nullable": true}), Value::Null, vec![]),
        (json!({"x-kubernetes-int-or-string": true}), json!("1"), vec![]),
        (
            json!({"x-kubernetes-int-or-string": true}),
            json!(true),
            vec![r#"a: Invalid value: "boolean": a in body must be of type integer,string: "boolean""#],
        ),
        (
            json!({"type": "integer", "minimum": 1}),
            json!(0),
            vec!["a: Invalid value: 0: a in body should be greater than or equal to 1"],
        ),
        (
            json!({"type": "integer", "maximum": 1, "exclusiveMaximum": true}),
            json!(1),
            vec!["a: Invalid value: 1: a in body should be less than 1"],
        ),
        (
            json!({"type": "integer", "multipleOf": 3}),
            json!(4),
            vec!["a: Invalid value: 4: a in body should be a multiple of 3"],
        ),
        (json!({"type": "number", "multipleOf": 0.1}), json!(0.3), vec![]),
        (
            json!({"type": "integer", "format": "int32"}),
            json!(3_000_000_000i64),
            vec![r#"<nil>: Invalid value: "": Checked value must be of type integer with format int32 in a"#],
        ),
        (
            json!({"type": "string", "pattern": "^a+$"}),
            json!("b"),
            vec![r#"a: Invalid value: "b": a in body should match '^a+$'"#],
        ),
        (
            json!({"type": "string", "minLength": 2}),
            json!("ä"),
            vec![r#"a: Invalid value: "ä": a in body should be at least 2 chars long"#],
        ),
        (
            json!({"type": "string", "maxLength": 1}),
            json!("bc"),
            vec!["a: Too long: may not be more than 1 bytes"],
        ),
        (
            json!({"type": "string", "enum": ["x", "y"]}),
            json!("z"),
            vec![r#"a: Unsupported value: "z": supported values: "x", "y""#],
        ),
        (
            json!({"type": "string", "format": "date-time"}),
            json!("now"),
            vec![r#"a: Invalid value: "now": a in body must be of type date-time: "now""#],
        ),
        (
            json!({"type": "array", "maxItems": 1, "items": {"type": "string"}}),
            json!(["x", 1]),
            vec![
                r#"a[1]: Invalid value: "integer": a[1] in body must be of type string: "integer""#,
                "a: Too many: 2: must have at most 1 item",
            ],
        ),
        (
            json!({"type": "array", "minItems": 1}),
            json!([]),
            vec!["a: Invalid value: 0: a in body should have at least 1 items"],
        ),
        (
            json!({"type": "object", "required": ["x"], "maxProperties": 1}),
            json!({"b": 1, "c": 2}),
            vec!["a: Too many: 2: must have at most 1 item", "a.x: Required value"],
        ),
        (
            json!({"anyOf": [{"required": ["x"]}, {"required": ["y"]}]}),
            json!({}),
            vec![
                r#"<nil>: Invalid value: "": "a" must validate at least one schema (anyOf)"#,
                "a.x: Required value",
            ],
        ),
        (
            json!({"oneOf": [{"required": ["x"]}, {"required": ["y"]}]}),
            json!({"x": 1, "y": 1}),
            vec![
                r#"<nil>: Invalid value: "": "a" must validate one and only one schema (oneOf). Found 2 valid alternatives"#,
            ],
        ),
        (
            json!({"allOf": [{"minLength": 2}, {"maxLength": 3}]}),
            json!("b"),
            vec![
                r#"a: Invalid value: "b": a in body should be at least 2 chars long"#,
                r#"<nil>: Invalid value: "": "a" must validate all the schemas (allOf)"#,
            ],
        ),
        (
            json!({"not": {"enum": ["b"]}}),
            json!("b"),
            vec![r#"<nil>: Invalid value: "": "a" must not validate the schema (not)"#],
        ),
    ];
    for (field, value, expected) in table {
        let root = schema(&json!({"properties": {"a": field}}));
        let value = json!({"a": value});
        let view = definitions.view_of(&root);
        let errors = validate(view, &value, &FieldPath::root(), Extent::Everything);
        let mut found = told(&errors);
        let mut expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{field}");
    }
}

#[test]
fn what_an_update_left_as_it_was_is_not_judged() {
    let root = schema(&json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "a": {"type": "string", "maxLength": 1},
        "m": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"maximum": 1}}}},
        "l": {"type": "array", "items": {"maximum": 1}},
    }}}}));
    let definitions = Definitions::default();
    let table = [
        (json!({"a": "bad"}), json!({"a": "bad", "l": []}), vec![]),
        (json!({"a": "bad"}), json!({"a": "worse"}), vec!["spec.a: Too long: may not be more than 1 bytes"]),
        (
            json!({"m": [{"k": "x", "v": 2}, {"k": "y"}]}),
            json!({"m": [{"k": "z", "v": 1}, {"k": "x", "v": 2}]}),
            vec![],
        ),
        (
            json!({"m": [{"k": "x", "v": 2}]}),
            json!({"m": [{"k": "y", "v": 2}]}),
            vec!["spec.m[0].v: Invalid value: 2: spec.m[0].v in body should be less than or equal to 1"],
        ),
        (json!({"l": [2]}), json!({"l": [2], "a": ""}), vec![]),
        (
            json!({"l": [2]}),
            json!({"l": [2, 1]}),
            vec!["spec.l[0]: Invalid value: 2: spec.l[0] in body should be less than or equal to 1"],
        ),
    ];
    for (old, new, expected) in table {
        let (old, new) = (json!({"spec": old}), json!({"spec": new}));
        let view = definitions.view_of(&root);
        assert_eq!(told(&validate_update(view, &new, &old, &FieldPath::root())), expected, "{new}");
        assert!(validate_update(view, &old, &old, &FieldPath::root()).is_empty());
    }
}

#[test]
fn built_in_kinds_are_held_to_their_types() {
    let pod = BuiltinSchemas::get().definitions().view("io.k8s.api.core.v1.Pod").unwrap();
    let value = json!({"metadata": {"creationTimestamp": null}, "spec": {"containers": [
        {"name": 1, "resources": {"limits": {"cpu": 0.5, "memory": "1Gi"}},
         "ports": [{"containerPort": "80"}],
         "livenessProbe": {"httpGet": {"port": "http"}, "periodSeconds": 1.5}},
    ]}});
    assert_eq!(
        told(&validate(pod, &value, &FieldPath::root(), Extent::Types)),
        [
            r#"spec.containers[0].livenessProbe.periodSeconds: Invalid value: "number": spec.containers[0].livenessProbe.periodSeconds in body must be of type integer: "number""#,
            r#"spec.containers[0].name: Invalid value: "integer": spec.containers[0].name in body must be of type string: "integer""#,
            r#"spec.containers[0].ports[0].containerPort: Invalid value: "string": spec.containers[0].ports[0].containerPort in body must be of type integer: "string""#,
        ]
    );
}
