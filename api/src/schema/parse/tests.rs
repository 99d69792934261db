//! Sentences and paths of schemas that are refused.

use serde_json::json;

use super::*;

/// The errors of a schema, without the path that leads to it.
fn told(json: &Value, status: bool) -> Vec<String> {
    let errors = parse(json, &FieldPath::of("s"), status).err().unwrap_or_default();
    errors.iter().map(|error| error.to_string().replacen("s.", "", 1)).collect()
}

/// The errors of the schema of a field.
fn told_of_field(json: &Value) -> Vec<String> {
    let root = json!({"type": "object", "properties": {"f": json}});
    told(&root, false).iter().map(|text| text.replacen("properties[f].", "", 1)).collect()
}

#[test]
fn good_schemas_are_read() {
    for json in [
        json!({"type": "object"}),
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
        json!({"type": "object", "properties": {
            "apiVersion": {"type": "string"}, "kind": {"type": "string"},
            "metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 63}}},
            "spec": {"type": "object", "required": ["a"], "properties": {
                "a": {"type": "string", "default": "x", "enum": ["x", "y"]},
                "b": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
                "c": {"x-kubernetes-int-or-string": true,
                      "allOf": [{"anyOf": [{"type": "integer"}, {"type": "string"}]}, {"pattern": "^a"}]},
                "d": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                      "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}}}},
                "e": {"type": "object", "x-kubernetes-embedded-resource": true,
                      "x-kubernetes-preserve-unknown-fields": true},
                "f": {"type": "object", "additionalProperties": {"type": "integer", "nullable": true}},
                "g": {"type": "object", "default": {"h": [1]}, "properties":
                      {"h": {"type": "array", "items": {"type": "integer"}}},
                      "oneOf": [{"required": ["h"]}, {"properties": {"h": {"minItems": 3}}}]},
            }},
            "status": {"type": "object"},
        }}),
    ] {
        parse(&json, &FieldPath::root(), true).unwrap_or_else(|errors| panic!("{json}: {errors:?}"));
    }
}

#[test]
fn what_is_not_structural_is_told() {
    let table = [
        (json!({}), vec!["type: Required value: must not be empty for specified object fields"]),
        (json!({"type": "array"}), vec!["items: Required value: must be specified"]),
        (
            json!({"type": "array", "items": {}}),
            vec!["items.type: Required value: must not be empty for specified array items"],
        ),
        (
            json!({"type": "object", "anyOf": [{"type": "object", "properties": {"x": {"description": "d"}}}]}),
            vec![
                "anyOf[0].properties[x].description: Forbidden: must be empty to be structural",
                "anyOf[0].type: Forbidden: must be empty to be structural",
            ],
        ),
        (
            json!({"type": "object", "not": {"additionalProperties": {"minimum": 1}, "default": {}}}),
            vec![
                "not.additionalProperties: Forbidden: must be undefined to be structural",
                "not.default: Forbidden: must be undefined to be structural",
            ],
        ),
        (
            json!({"type": "string", "x-kubernetes-int-or-string": true, "x-kubernetes-preserve-unknown-fields": true}),
            vec![
                "x-kubernetes-preserve-unknown-fields: Invalid value: true: must be false if x-kubernetes-int-or-string is true",
            ],
        ),
        (
            json!({"type": "string", "x-kubernetes-embedded-resource": true}),
            vec![
                "properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
                r#"type: Invalid value: "string": must be object if x-kubernetes-embedded-resource is true"#,
            ],
        ),
        (
            json!({"type": "string", "pattern": "("}),
            vec![
                r#"pattern: Invalid value: "(": must be a valid regular expression, but isn't: error parsing regexp: unclosed group"#,
            ],
        ),
    ];
    for (json, expected) in table {
        assert_eq!(told_of_field(&json), expected, "{json}");
    }
    let table = [
        (
            json!({"type": "object", "anyOf": [{"properties": {"x": {"minimum": 1}}}]}),
            vec!["properties[x]: Required value: because it is defined in s.anyOf[0].properties[x]"],
        ),
        (json!({"type": "string"}), vec![r#"type: Invalid value: "string": must be object at the root"#]),
        (
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            vec!["additionalProperties: Forbidden: must not be used at the root"],
        ),
        (
            json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}),
            vec![
                "properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified",
            ],
        ),
        (
            json!({"type": "object", "nullable": true, "properties": {"kind": {"type": "integer"}}}),
            vec![
                "nullable: Forbidden: nullable cannot be true at the root",
                r#"properties[kind].type: Invalid value: "integer": must be string"#,
            ],
        ),
    ];
    for (json, expected) in table {
        assert_eq!(told(&json, false), expected, "{json}");
    }
}

#[test]
fn keywords_that_do_not_go_together_are_told() {
    let table = [
        (
            json!({"type": "text"}),
            vec![
                r#"type: Unsupported value: "text": supported values: "array", "boolean", "integer", "number", "object", "string""#,
            ],
        ),
        (json!({"type": "object", "$ref": "#/x"}), vec!["$ref: Forbidden: $ref is not supported"]),
        (
            json!({"type": "array", "uniqueItems": true, "items": {"type": "string"}}),
            vec![
                "uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
            ],
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "string"}}),
            vec!["additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive"],
        ),
        (
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": false}),
            vec!["x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or undefined"],
        ),
        (
            json!({"type": "array", "x-kubernetes-list-type": "map", "items": {"type": "string"}}),
            vec![
                "x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map",
                r#"items.type: Invalid value: "string": must be object if parent array's x-kubernetes-list-type is map"#,
            ],
        ),
        (
            json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k", "k", "l"],
                "items": {"type": "object", "nullable": true, "properties": {"k": {"type": "string", "nullable": true}}}}),
            vec![
                r#"x-kubernetes-list-map-keys: Invalid value: ["k","k","l"]: must not contain duplicate entries"#,
                r#"x-kubernetes-list-map-keys: Invalid value: ["k","k","l"]: entries must all be names of item properties"#,
                "items.nullable: Forbidden: cannot be nullable when x-kubernetes-list-type is map",
                "items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
                "items.properties[k].nullable: Forbidden: this property is in x-kubernetes-list-map-keys, so it cannot be nullable",
                "items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
                "items.properties[k].nullable: Forbidden: this property is in x-kubernetes-list-map-keys, so it cannot be nullable",
            ],
        ),
        (
            json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "object"}}),
            vec![
                "items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with x-kubernetes-list-type=set",
            ],
        ),
        (
            json!({"type": "string", "x-kubernetes-map-type": "round"}),
            vec![
                r#"type: Invalid value: "string": must be object if x-kubernetes-map-type is specified"#,
                r#"x-kubernetes-map-type: Unsupported value: "round": supported values: "atomic", "granular""#,
            ],
        ),
        (
            json!({"type": "object", "x-kubernetes-validations": [
                {"rule": " "}, {"rule": "a\nb"}, {"rule": "a", "message": "a\nb"},
                {"rule": "a", "reason": "Bad", "fieldPath": ".x"}]}),
            vec![
                "x-kubernetes-validations[0].rule: Required value: rule is not specified",
                "x-kubernetes-validations[1].message: Required value: message must be specified if rule contains line breaks",
                r#"x-kubernetes-validations[2].message: Invalid value: "a\nb": must not contain line breaks"#,
                r#"x-kubernetes-validations[3].reason: Unsupported value: "Bad": supported values: "FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired""#,
                r#"x-kubernetes-validations[3].fieldPath: Invalid value: ".x": must be a valid path"#,
            ],
        ),
    ];
    for (json, expected) in table {
        assert_eq!(told_of_field(&json), expected, "{json}");
    }
}

#[test]
fn defaults_are_judged_by_their_schema() {
    let table = [
        (
            json!({"type": "integer", "default": "x"}),
            vec![r#"default: Invalid value: "string":  in body must be of type integer: "string""#],
        ),
        (
            json!({"type": "object", "default": {"b": 1}, "properties": {"a": {"type": "string"}}}),
            vec![r#"default: Invalid value: {"b":1}: must not have unknown fields"#],
        ),
        (
            json!({"type": "object", "default": {"a": 1}, "properties": {"a": {"type": "string"}}}),
            vec![r#"default.a: Invalid value: "integer": a in body must be of type string: "integer""#],
        ),
        (
            json!({"type": "object", "x-kubernetes-embedded-resource": true, "default": {"kind": "K"},
                "x-kubernetes-preserve-unknown-fields": true}),
            vec!["default.apiVersion: Required value"],
        ),
    ];
    for (json, expected) in table {
        assert_eq!(told_of_field(&json), expected, "{json}");
    }
    let json = json!({"type": "object", "properties": {"kind": {"type": "string", "default": "K"}}});
    assert_eq!(
        told(&json, false),
        ["properties[kind].default: Forbidden: must not be set in top-level kind"]
    );
}

#[test]
fn a_status_of_its_own_leaves_little_at_the_root() {
    let json = json!({"type": "object", "oneOf": [{"required": ["a"]}]});
    let errors = told(&json, true);
    assert!(errors[0].contains("only [Description Type Format Title "), "{errors:?}");
    assert!(told(&json, false).is_empty());
}
