//! Paths, changes, merges and errors of small objects, one line each.

use serde_json::{Value, json};

use super::shape::Shape;
use super::validate::{Strictness, validate};
use super::{compare, field_set, merge, reconcile, with_named_fields, without};
use crate::managed_fields::fields_v1;
use crate::managed_fields::samples::{self, VERSION};
use crate::managed_fields::versions::{AlikeVersions, shape};
use crate::schema::Definitions;
use crate::test_schema;

fn with_item<T>(test: impl FnOnce(Shape<'_>) -> T) -> T {
    let versions = samples::versions("item");
    test(shape(&versions, VERSION))
}

#[track_caller]
fn check_set(object: Value, tree: Value) {
    let set = with_item(|item| field_set(item, &object));
    assert_eq!(fields_v1::encode(&set), tree, "{object}");
}

#[test]
fn paths_of_an_object() {
    check_set(json!({}), json!({}));
    check_set(json!({"name": "a", "value": null}), json!({"f:name": {}, "f:value": {}}));
    check_set(json!({"set": ["a", "b"]}), json!({"f:set": {"v:\"a\"": {}, "v:\"b\"": {}}}));
    check_set(json!({"set": [], "labels": {}}), json!({"f:labels": {}}));
    check_set(json!({"labels": {"a": "x"}}), json!({"f:labels": {"f:a": {}}}));
    check_set(
        json!({"wholeMap": {"a": "x"}, "wholeList": [{"name": "a"}]}),
        json!({"f:wholeMap": {}, "f:wholeList": {}}),
    );
    check_set(json!({"struct": {"value": 1}}), json!({"f:struct": {"f:value": {}}}));
    check_set(
        json!({"struct": {}, "wholeStruct": {"value": 1}}),
        json!({"f:struct": {}, "f:wholeStruct": {}}),
    );
    check_set(json!({"items": {"a": {"value": 1}}}), json!({"f:items": {"f:a": {".": {}, "f:value": {}}}}));
    check_set(
        json!({"byPort": [{"port": 1, "value": 2}, {"port": 1, "protocol": "UDP"}]}),
        json!({"f:byPort": {
            "k:{\"port\":1,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}, "f:value": {}},
            "k:{\"port\":1,\"protocol\":\"UDP\"}": {".": {}, "f:port": {}, "f:protocol": {}},
        }}),
    );
    check_set(
        json!({"any": {"a": {"b": [1, {"c": 2}]}, "d": null}}),
        json!({"f:any": {"f:a": {".": {}, "f:b": {}}, "f:d": {}}}),
    );
    // Of items that are there twice nothing is told but that they are there.
    check_set(
        json!({"byName": [{"name": "a", "value": 1}, {"name": "a"}, {"name": "b"}], "set": ["a", "a"]}),
        json!({
            "f:byName": {"k:{\"name\":\"a\"}": {}, "k:{\"name\":\"b\"}": {".": {}, "f:name": {}}},
            "f:set": {"v:\"a\"": {}},
        }),
    );
}

#[track_caller]
fn check_changes(old: Value, new: Value, added: Value, modified: Value, removed: Value) {
    let changes = with_item(|item| compare(item, &old, &new));
    let found = [changes.added, changes.modified, changes.removed].map(|set| fields_v1::encode(&set));
    assert_eq!(found, [added, modified, removed], "{old} {new}");
}

#[test]
fn what_changed_between_two_objects() {
    let none = || json!({});
    check_changes(json!({"value": 1}), json!({"value": 1.0}), none(), none(), none());
    check_changes(json!({"value": 1}), json!({"value": 2}), none(), json!({"f:value": {}}), none());
    check_changes(
        json!({"name": "a"}),
        json!({"flag": true}),
        json!({"f:flag": {}}),
        none(),
        json!({"f:name": {}}),
    );
    check_changes(
        json!({}),
        json!({"struct": {"value": 1}}),
        json!({"f:struct": {".": {}, "f:value": {}}}),
        none(),
        none(),
    );
    check_changes(json!({"set": ["a", "b"]}), json!({"set": ["b", "a"]}), none(), none(), none());
    check_changes(
        json!({"set": ["a", "b"]}),
        json!({"set": ["b", "c"]}),
        json!({"f:set": {"v:\"c\"": {}}}),
        none(),
        json!({"f:set": {"v:\"a\"": {}}}),
    );
    check_changes(
        json!({"wholeList": [{"name": "a"}], "wholeMap": {"a": "x"}}),
        json!({"wholeList": [{"name": "b"}], "wholeMap": {"b": "x"}}),
        none(),
        json!({"f:wholeList": {}, "f:wholeMap": {}}),
        none(),
    );
    check_changes(
        json!({"byPort": [{"port": 1, "value": 1}]}),
        json!({"byPort": [{"port": 2}, {"port": 1, "protocol": "TCP", "value": 2}]}),
        json!({"f:byPort": {
            "k:{\"port\":1,\"protocol\":\"TCP\"}": {"f:protocol": {}},
            "k:{\"port\":2,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}},
        }}),
        json!({"f:byPort": {"k:{\"port\":1,\"protocol\":\"TCP\"}": {"f:value": {}}}}),
        none(),
    );
    // Another kind of value.
    check_changes(
        json!({"any": {"a": 1}}),
        json!({"any": [1]}),
        none(),
        json!({"f:any": {}}),
        json!({"f:any": {"f:a": {}}}),
    );
}

#[test]
fn items_that_are_there_twice_change_as_one() {
    let none = || json!({});
    let a = |items: Value| json!({"byName": items});
    let mark = || json!({"f:byName": {"k:{\"name\":\"a\"}": {}}});
    let twice = json!([{"name": "a", "value": 1}, {"name": "a", "value": 2}]);
    check_changes(a(twice.clone()), a(twice.clone()), none(), none(), none());
    check_changes(
        a(twice.clone()),
        a(json!([{"name": "a", "value": 2}, {"name": "a", "value": 1}])),
        none(),
        mark(),
        none(),
    );
    let once = || json!({"f:byName": {"k:{\"name\":\"a\"}": {".": {}, "f:name": {}, "f:value": {}}}});
    let one = json!([{"name": "a", "value": 1}]);
    check_changes(a(twice.clone()), a(one.clone()), once(), none(), mark());
    check_changes(a(one), a(twice), mark(), none(), once());
}

#[track_caller]
fn check_merge(live: Value, applied: Value, merged: Value) {
    assert_eq!(with_item(|item| merge(item, &live, &applied)), merged, "{live} {applied}");
}

#[test]
fn what_is_applied_is_merged_into_what_is_there() {
    check_merge(json!({"name": "a", "value": 1}), json!({"value": 2}), json!({"name": "a", "value": 2}));
    check_merge(
        json!({"labels": {"a": "x"}}),
        json!({"labels": {"b": "y"}}),
        json!({"labels": {"a": "x", "b": "y"}}),
    );
    check_merge(
        json!({"wholeMap": {"a": "x"}}),
        json!({"wholeMap": {"b": "y"}}),
        json!({"wholeMap": {"b": "y"}}),
    );
    check_merge(json!({"wholeList": [{"value": 1}]}), json!({"wholeList": []}), json!({"wholeList": []}));
    check_merge(json!({"set": ["a"]}), json!({"set": []}), json!({"set": ["a"]}));
    check_merge(json!({}), json!({"set": [], "labels": {}}), json!({"set": [], "labels": {}}));
    check_merge(
        json!({"any": {"a": {"b": 1}}}),
        json!({"any": {"a": {"c": [1]}}}),
        json!({"any": {"a": {"b": 1, "c": [1]}}}),
    );
    check_merge(json!({"any": {"a": 1}}), json!({"any": 2}), json!({"any": 2}));
    check_merge(json!({"name": "a"}), json!({"name": null}), json!({"name": null}));
    check_merge(
        json!({"byPort": [{"port": 1, "value": 1, "flag": true}]}),
        json!({"byPort": [{"port": 1, "protocol": "TCP", "value": 2}]}),
        json!({"byPort": [{"port": 1, "protocol": "TCP", "value": 2, "flag": true}]}),
    );
}

#[test]
fn items_stand_where_they_did_or_as_they_are_applied() {
    let table = [
        (json!(["a", "b", "c"]), json!(["c", "a"]), json!(["b", "c", "a"])),
        (json!(["a", "b", "c"]), json!(["b", "d"]), json!(["a", "b", "c", "d"])),
        (
            json!(["a", "b", "c", "d", "e"]),
            json!(["2", "d", "1"]),
            json!(["a", "b", "c", "2", "d", "e", "1"]),
        ),
        (json!(["a", "b", "c"]), json!(["1", "2"]), json!(["a", "b", "c", "1", "2"])),
        (json!(["1", "2", "3"]), json!(["3", "2", "1"]), json!(["3", "2", "1"])),
        (json!(["a", "x", "b", "y", "c"]), json!(["b", "a", "c"]), json!(["x", "b", "y", "a", "c"])),
        (json!([]), json!(["b", "a"]), json!(["b", "a"])),
        // What is there twice stays so, unless it is applied.
        (json!(["a", "b", "a"]), json!(["c"]), json!(["a", "b", "a", "c"])),
        (json!(["a", "b", "a"]), json!(["a"]), json!(["a", "b"])),
    ];
    for (live, applied, merged) in table {
        check_merge(json!({"set": live}), json!({"set": applied}), json!({"set": merged}));
    }
}

#[track_caller]
fn check_validity(object: Value, told: Option<&str>) {
    let errors = with_item(|item| validate(item, &object, Strictness::Applied)).err();
    assert_eq!(errors.map(|errors| errors.to_string()).as_deref(), told, "{object}");
}

#[test]
fn what_cannot_be_owned_is_told_in_the_words_of_kubernetes() {
    check_validity(json!({"name": "a", "value": 1, "flag": null, "set": null, "struct": null}), None);
    check_validity(json!({"any": [{"a": [null]}], "items": {"x": {"any": "y"}}}), None);
    check_validity(json!({"nane": "a"}), Some(".nane: field not declared in schema"));
    check_validity(json!({"value": "a"}), Some(".value: expected numeric (int or float), got string"));
    check_validity(
        json!({"value": {}}),
        Some(".value: expected numeric (int or float), got map[string]interface {}"),
    );
    check_validity(json!({"name": 1}), Some(".name: expected string, got &value.valueUnstructured{Value:1}"));
    check_validity(json!({"flag": "x"}), Some(".flag: expected boolean, got &{x}"));
    check_validity(json!({"struct": [1]}), Some(".struct: expected map, got &{[1]}"));
    check_validity(json!({"set": "a"}), Some(".set: expected list, got &{a}"));
    check_validity(json!({"set": ["a", "a"]}), Some(".set: duplicate entries for key [=\"a\"]"));
    check_validity(
        json!({"set": [null]}),
        Some(".set: element 0: associative list without keys has an element that's an explicit null"),
    );
    check_validity(
        json!({"set": ["a", {}]}),
        Some(".set: element 1: associative list without keys has an element that's a map type"),
    );
    check_validity(
        json!({"byName": [{"value": 1}]}),
        Some(
            ".byName: element 0: associative list with keys has an element that omits all key fields [\"name\"] (and doesn't have default values for any key fields)",
        ),
    );
    check_validity(
        json!({"byPort": [{"port": 1}, {"port": 1, "protocol": "TCP"}]}),
        Some(".byPort: duplicate entries for key [port=1,protocol=\"TCP\"]"),
    );
    check_validity(
        json!({"byName": [{"name": "a", "byPort": [{"port": 1, "x": 1, "y": 1}]}]}),
        Some(
            "errors:\n  .byName[name=\"a\"].byPort[port=1,protocol=\"TCP\"].x: field not declared in schema\n  .byName[name=\"a\"].byPort[port=1,protocol=\"TCP\"].y: field not declared in schema",
        ),
    );
    check_validity(
        json!({"wholeList": [{"name": 1}]}),
        Some(".wholeList[0].name: expected string, got &value.valueUnstructured{Value:1}"),
    );
}

#[test]
fn what_is_stored_may_be_older_than_its_schema() {
    let object = json!({"unknown": {"a": [1]}, "set": ["a", "a"]});
    with_item(|item| {
        assert_eq!(validate(item, &object, Strictness::Stored), Ok(()));
        let tree = json!({"f:unknown": {".": {}, "f:a": {}}, "f:set": {"v:\"a\"": {}}});
        assert_eq!(fields_v1::encode(&field_set(item, &object)), tree);
    });
}

#[test]
fn an_object_without_some_paths() {
    let object = json!({
        "name": "a",
        "labels": {"a": "x", "b": "y"},
        "set": ["a", "b"],
        "byName": [{"name": "a", "value": 1}, {"name": "b"}],
        "wholeMap": {"a": "x"},
        "struct": {"value": 1},
    });
    let table = [
        (json!({}), object.clone()),
        (
            json!({"f:labels": {"f:a": {}}, "f:set": {"v:\"b\"": {}}, "f:byName": {"k:{\"name\":\"b\"}": {}}}),
            json!({
                "name": "a", "labels": {"b": "y"}, "set": ["a"], "byName": [{"name": "a", "value": 1}],
                "wholeMap": {"a": "x"}, "struct": {"value": 1},
            }),
        ),
        (
            json!({"f:byName": {"k:{\"name\":\"a\"}": {"f:value": {}}}, "f:struct": {"f:value": {}}, "f:wholeMap": {"f:a": {}}}),
            json!({
                "name": "a", "labels": {"a": "x", "b": "y"}, "set": ["a", "b"],
                "byName": [{"name": "a"}, {"name": "b"}],
            }),
        ),
        (
            json!({"f:name": {}, "f:labels": {}, "f:set": {}, "f:byName": {}, "f:wholeMap": {}, "f:struct": {}}),
            json!({}),
        ),
    ];
    for (gone, left) in table {
        let set = fields_v1::decode(&gone).unwrap();
        assert_eq!(with_item(|item| without(item, &object, &set)), left, "{gone}");
    }
}

#[test]
fn named_fields_come_with_what_lies_below() {
    let table = [
        (json!({"f:struct": {"f:value": {}}}), json!({"f:struct": {".": {}, "f:value": {}}})),
        (json!({"f:labels": {"f:a": {}}}), json!({"f:labels": {".": {}, "f:a": {}}})),
        (
            json!({"f:items": {"f:a": {"f:struct": {"f:value": {}}}}}),
            json!({"f:items": {".": {}, "f:a": {"f:struct": {".": {}, "f:value": {}}}}}),
        ),
        (
            json!({"f:byName": {"k:{\"name\":\"a\"}": {"f:struct": {"f:value": {}}}}}),
            json!({"f:byName": {".": {}, "k:{\"name\":\"a\"}": {"f:struct": {".": {}, "f:value": {}}}}}),
        ),
    ];
    for (set, named) in table {
        let set = fields_v1::decode(&set).unwrap();
        assert_eq!(with_item(|item| fields_v1::encode(&with_named_fields(&set, Some(item)))), named);
    }
}

#[test]
fn parts_of_what_is_owned_as_a_whole_now_are_the_whole() {
    let table = [
        (json!({"f:wholeMap": {"f:a": {}}}), json!({"f:wholeMap": {}})),
        (json!({"f:wholeMap": {".": {}, "f:a": {}}}), json!({"f:wholeMap": {}})),
        (json!({"f:wholeMap": {}}), json!({"f:wholeMap": {}})),
        (
            json!({"f:wholeList": {"k:{\"name\":\"a\"}": {".": {}, "f:value": {}}}}),
            json!({"f:wholeList": {}}),
        ),
        (
            json!({"f:wholeStruct": {"f:labels": {"f:a": {}}}, "f:name": {}}),
            json!({"f:wholeStruct": {}, "f:name": {}}),
        ),
        (
            json!({"f:byName": {"k:{\"name\":\"a\"}": {"f:wholeMap": {"f:a": {}}, "f:value": {}}}}),
            json!({"f:byName": {"k:{\"name\":\"a\"}": {"f:wholeMap": {}, "f:value": {}}}}),
        ),
        (
            json!({"f:labels": {}, "f:any": {"f:a": {"f:b": {}}}}),
            json!({"f:labels": {}, "f:any": {"f:a": {"f:b": {}}}}),
        ),
        (json!({"f:unknown": {"f:a": {}}}), json!({"f:unknown": {"f:a": {}}})),
    ];
    for (before, after) in table {
        let set = fields_v1::decode(&before).unwrap();
        assert_eq!(with_item(|item| fields_v1::encode(&reconcile(&set, item))), after, "{before}");
    }
}

/// What the schema of one field makes of a value of it.
#[track_caller]
fn check_field(schema: Value, value: Value, tree: Value) {
    let definitions: Definitions =
        test_schema::definitions(&json!({"object": {"type": "object", "properties": {"a": schema}}}));
    let versions = AlikeVersions::default().with(VERSION, definitions.view("object"));
    let item = shape(&versions, VERSION);
    let object = json!({"a": value});
    assert_eq!(validate(item, &object, Strictness::Applied), Ok(()), "{object}");
    assert_eq!(fields_v1::encode(&field_set(item, &object))["f:a"], tree, "{object}");
}

#[test]
fn schemas_tell_how_values_are_owned() {
    let whole = || json!({});
    // Lists that say nothing are owned as a whole, unless strategic merge patches merge them.
    check_field(json!({"type": "array", "items": {"type": "string"}}), json!(["x"]), whole());
    check_field(
        json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-patch-strategy": "merge"}),
        json!(["x"]),
        json!({"v:\"x\"": {}}),
    );
    check_field(
        json!({
            "type": "array", "items": {"type": "object", "properties": {"k": {"type": "string"}}},
            "x-kubernetes-patch-strategy": "merge", "x-kubernetes-patch-merge-key": "k",
        }),
        json!([{"k": "x"}]),
        json!({"k:{\"k\":\"x\"}": {".": {}, "f:k": {}}}),
    );
    // Objects of which no field is known are owned field by field, lists in them as a whole.
    check_field(json!({"type": "object"}), json!({"b": {"c": [1]}}), json!({"f:b": {".": {}, "f:c": {}}}));
    check_field(
        json!({
            "type": "object", "x-kubernetes-preserve-unknown-fields": true,
            "properties": {"b": {"type": "object", "properties": {"c": {"type": "string"}}}},
        }),
        json!({"b": {"c": "x", "d": 1}, "e": 2}),
        json!({"f:b": {"f:c": {}, "f:d": {}}, "f:e": {}}),
    );
    check_field(json!({"x-kubernetes-int-or-string": true}), json!("50%"), whole());
    check_field(json!({"x-kubernetes-int-or-string": true}), json!(50), whole());
    check_field(json!({"type": "string", "format": "date-time"}), json!("2026-01-01T00:00:00Z"), whole());
    check_field(
        json!({"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"spec": {"type": "object"}}}),
        json!({"apiVersion": "v1", "kind": "A", "metadata": {"name": "a"}, "spec": {"b": 1}}),
        json!({
            "f:apiVersion": {}, "f:kind": {}, "f:metadata": {".": {}, "f:name": {}}, "f:spec": {"f:b": {}},
        }),
    );
}
