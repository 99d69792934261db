//! A kind of object for tests that has every way to be owned, and objects of it.

use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::subsequence;
use serde_json::{Map, Value, json};

use super::versions::AlikeVersions;
use crate::schema::Definitions;
use crate::test_schema;

pub(super) const VERSION: &str = "example.com/v1";

static DEFINITIONS: LazyLock<Definitions> = LazyLock::new(|| {
    let item = json!({"$ref": "item"});
    let by = |keys: &[&str]| {
        json!({
            "type": "array", "items": {"$ref": "item"},
            "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys,
        })
    };
    let texts = json!({"type": "string"});
    let fields = json!({
        "name": {"type": "string"},
        "value": {"type": "integer"},
        "port": {"type": "integer"},
        "protocol": {"type": "string", "default": "TCP"},
        "flag": {"type": "boolean"},
        "set": {"type": "array", "items": texts, "x-kubernetes-list-type": "set"},
        "byName": by(&["name"]),
        "byPort": by(&["port", "protocol"]),
        "wholeList": {"type": "array", "items": item, "x-kubernetes-list-type": "atomic"},
        "labels": {"type": "object", "additionalProperties": texts},
        "wholeMap": {"type": "object", "additionalProperties": texts, "x-kubernetes-map-type": "atomic"},
        "struct": item,
        "wholeStruct": {"$ref": "item", "x-kubernetes-map-type": "atomic"},
        "items": {"type": "object", "additionalProperties": item},
        "any": {"x-kubernetes-preserve-unknown-fields": true},
    });
    let object = json!({"type": "object", "properties": {
        "apiVersion": texts,
        "kind": texts,
        "metadata": {"type": "object", "properties": {
            "name": texts, "namespace": texts, "uid": texts, "resourceVersion": texts,
            "generation": {"type": "integer"},
            "labels": {"type": "object", "additionalProperties": texts},
            "annotations": {"type": "object", "additionalProperties": texts},
            "finalizers": {"type": "array", "items": texts, "x-kubernetes-list-type": "set"},
            "managedFields": {"type": "array", "items": {"type": "object"}},
        }},
        "spec": {"$ref": "item"},
        "status": {"$ref": "item"},
    }});
    test_schema::definitions(&json!({"item": {"type": "object", "properties": fields}, "object": object}))
});

/// Objects of one version, whose schema is that of a definition: `object`, or `item` alone.
pub(super) fn versions(definition: &str) -> AlikeVersions<'static> {
    AlikeVersions::default().with(VERSION, DEFINITIONS.view(definition))
}

/// Any item; of those told apart by their key none is there twice.
pub(super) fn any_item() -> BoxedStrategy<Value> {
    let mut item = some_of(scalars());
    for _ in 0..2 {
        item = some_of([scalars(), below(&item)].concat());
    }
    item
}

type Field = (&'static str, BoxedStrategy<Value>);

fn scalars() -> Vec<Field> {
    let text = || "[a-c]".prop_map(Value::from).boxed();
    let texts = || prop::collection::btree_map("[a-c]", "[x-z]", 0..3).prop_map(|map| json!(map)).boxed();
    let set = subsequence(vec!["a", "b", "c", "d"], 0..=4).prop_shuffle();
    let free = prop_oneof![
        (0..2_i64).prop_map(Value::from),
        prop::collection::vec(0..3_i64, 0..3).prop_map(|list| json!(list)),
        prop::collection::btree_map("[a-c]", 0..3_i64, 0..3).prop_map(|map| json!(map)),
        prop::collection::btree_map("[a-b]", prop::collection::btree_map("[a-b]", 0..2_i64, 0..2), 0..2)
            .prop_map(|map| json!(map)),
    ];
    vec![
        ("name", text()),
        ("value", (0..3_i64).prop_map(Value::from).boxed()),
        ("flag", any::<bool>().prop_map(Value::from).boxed()),
        ("set", set.prop_map(|set| json!(set)).boxed()),
        ("labels", texts()),
        ("wholeMap", texts()),
        ("any", free.boxed()),
    ]
}

fn below(item: &BoxedStrategy<Value>) -> Vec<Field> {
    let with = |fields: Value| {
        item.clone().prop_map(move |mut item| {
            item.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            item
        })
    };
    let list = |keys: Vec<Value>| {
        let keyed: Vec<_> = keys.into_iter().map(|key| prop::option::of(with(key)).boxed()).collect();
        keyed
            .prop_map(|items| items.into_iter().flatten().collect::<Vec<_>>())
            .prop_shuffle()
            .prop_map(Value::Array)
            .boxed()
    };
    let by_name = ["a", "b", "c", "d"].iter().map(|name| json!({"name": name})).collect();
    let by_port = vec![
        json!({"port": 1}),
        json!({"port": 1, "protocol": "UDP"}),
        json!({"port": 2, "protocol": "TCP"}),
        json!({"protocol": "UDP"}),
    ];
    let items = prop::collection::btree_map("[a-c]", item.clone(), 0..3).prop_map(|items| json!(items));
    vec![
        ("byName", list(by_name)),
        ("byPort", list(by_port)),
        ("wholeList", prop::collection::vec(item.clone(), 0..2).prop_map(Value::Array).boxed()),
        ("struct", item.clone()),
        ("wholeStruct", item.clone()),
        ("items", items.boxed()),
    ]
}

fn some_of(fields: Vec<Field>) -> BoxedStrategy<Value> {
    let fields: Vec<_> = fields
        .into_iter()
        .map(|(name, value)| {
            prop::option::weighted(0.3, value.prop_map(move |value| (name.to_owned(), value)))
        })
        .collect();
    fields.prop_map(|fields| Value::Object(fields.into_iter().flatten().collect::<Map<_, _>>())).boxed()
}
