//! What each directive does, in which order items come to stand, and the sentence for everything that can be wrong.

use std::sync::LazyLock;

use serde_json::json;

use super::*;
use crate::schema::Definitions;
use crate::test_schema;

/// An item with every way to merge.
static ITEM: LazyLock<Definitions> = LazyLock::new(|| {
    let integers = json!({"type": "array", "items": {"type": "integer"}});
    let items = json!({"type": "array", "items": {"$ref": "item"}});
    let with = |list: &Value, strategy: Value| {
        let mut list = list.clone();
        list.as_object_mut().unwrap().extend(strategy.as_object().unwrap().clone());
        list
    };
    let by_name = |strategy: &str| {
        with(&items, json!({"x-kubernetes-patch-strategy": strategy, "x-kubernetes-patch-merge-key": "name"}))
    };
    test_schema::definitions(&json!({"item": {"type": "object", "properties": {
        "name": {"type": "string"},
        "value": {"type": "string"},
        "other": {"type": "string"},
        "mergingList": by_name("merge"),
        "nonMergingList": items,
        "mergingIntList": with(&integers, json!({"x-kubernetes-patch-strategy": "merge"})),
        "nonMergingIntList": integers,
        "mergeItemPtr": by_name("merge"),
        "mergingWithoutKey": with(&items, json!({"x-kubernetes-patch-strategy": "merge"})),
        "simpleMap": {"type": "object", "additionalProperties": {"type": "string"}},
        "replacingItem": {"type": "object", "x-kubernetes-patch-strategy": "replace"},
        "retainKeysMap": {"$ref": "item", "x-kubernetes-patch-strategy": "retainKeys"},
        "retainKeysMergingList": by_name("merge,retainKeys"),
    }}}))
});

fn patched(object: Value, patch: Value) -> Result<Value, StrategicPatchError> {
    apply(object, patch, ITEM.view("item"))
}

#[track_caller]
fn gives(object: Value, patch: Value, result: Value) {
    let told = format!("{object} + {patch}");
    assert_eq!(patched(object, patch), Ok(result), "{told}");
}

#[track_caller]
fn fails(object: Value, patch: Value, code: u16, sentence: &str) {
    let error = patched(object, patch).unwrap_err();
    assert_eq!((error.status().reason.code(), error.to_string().as_str()), (code, sentence));
}

#[test]
fn fields_merge_and_nulls_remove() {
    gives(json!({"name": "a"}), json!({"value": "b"}), json!({"name": "a", "value": "b"}));
    gives(json!({"name": "a", "value": "b"}), json!({"value": null, "other": null}), json!({"name": "a"}));
    gives(
        json!({"name": "a"}),
        json!({"simpleMap": {"k": "v", "l": null}}),
        json!({"name": "a", "simpleMap": {"k": "v"}}),
    );
    gives(
        json!({"simpleMap": {"k": "v", "l": "w"}}),
        json!({"simpleMap": {"k": null}}),
        json!({"simpleMap": {"l": "w"}}),
    );
    gives(json!({"simpleMap": "odd"}), json!({"simpleMap": {"k": "v"}}), json!({"simpleMap": {"k": "v"}}));
    gives(
        json!({"replacingItem": {"a": 1, "b": 2}}),
        json!({"replacingItem": {"c": 3}}),
        json!({"replacingItem": {"c": 3}}),
    );
}

#[test]
fn lists_replace_or_merge_as_the_schema_says() {
    gives(
        json!({"nonMergingIntList": [1, 2]}),
        json!({"nonMergingIntList": [2, 3]}),
        json!({"nonMergingIntList": [2, 3]}),
    );
    gives(
        json!({"mergingIntList": [1, 2]}),
        json!({"mergingIntList": [2, 3]}),
        json!({"mergingIntList": [1, 2, 3]}),
    );
    gives(json!({"mergingIntList": []}), json!({"mergingIntList": []}), json!({"mergingIntList": []}));
    gives(
        json!({"nonMergingList": [{"name": "1", "value": "a"}]}),
        json!({"nonMergingList": [{"name": "1", "other": "b"}]}),
        json!({"nonMergingList": [{"name": "1", "other": "b"}]}),
    );
    gives(
        json!({"mergingList": [{"name": "1", "value": "a"}, {"name": "2"}]}),
        json!({"mergingList": [{"name": "2", "other": "b"}, {"name": "3", "value": null}]}),
        json!({"mergingList": [{"name": "1", "value": "a"}, {"name": "2", "other": "b"}, {"name": "3"}]}),
    );
    gives(
        json!({"mergingList": [{"name": "1", "mergingList": [{"name": "x", "value": "a"}]}]}),
        json!({"mergingList": [{"name": "1", "mergingList": [{"name": "x", "value": "b"}, {"name": "y"}]}]}),
        json!({"mergingList": [{"name": "1", "mergingList": [{"name": "x", "value": "b"}, {"name": "y"}]}]}),
    );
}

#[test]
fn directives_in_objects() {
    gives(
        json!({"name": "a", "value": "b"}),
        json!({"$patch": "replace", "other": "c"}),
        json!({"other": "c"}),
    );
    gives(json!({"name": "a", "value": "b"}), json!({"$patch": "delete", "other": "c"}), json!({}));
    gives(
        json!({"name": "a", "simpleMap": {"k": "v"}}),
        json!({"simpleMap": {"$patch": "delete"}}),
        json!({"name": "a", "simpleMap": {}}),
    );
    gives(json!({"name": "a"}), json!({"simpleMap": {"$patch": "delete"}}), json!({"name": "a"}));
    gives(
        json!({"name": "a"}),
        json!({"retainKeysMap": {"$retainKeys": ["name"], "name": "b"}}),
        json!({"name": "a", "retainKeysMap": {"name": "b"}}),
    );
    fails(json!({}), json!({"$patch": "merge"}), 400, "unknown patch type: merge in map: map[$patch:merge]");
    fails(
        json!({}),
        json!({"$patch": 7, "name": "a"}),
        400,
        "unknown patch type: %!s(int64=7) in map: map[$patch:7 name:a]",
    );
}

#[test]
fn directives_in_items() {
    gives(
        json!({"mergingList": [{"name": "1"}, {"name": "1"}, {"name": "2"}, {"name": "3"}]}),
        json!({"mergingList": [{"name": "1", "$patch": "delete"}, {"name": "3", "$patch": "delete"}, {"name": "4"}]}),
        json!({"mergingList": [{"name": "4"}, {"name": "2"}]}),
    );
    gives(
        json!({"mergingList": [{"name": "1"}, {"name": "2"}]}),
        json!({"mergingList": [{"name": "5"}, {"$patch": "replace"}]}),
        json!({"mergingList": [{"name": "5"}]}),
    );
    gives(
        json!({"mergingList": [{"name": "1", "value": "a"}, {"name": "2"}]}),
        json!({"mergingList": [{"$patch": "replace"}]}),
        json!({"mergingList": []}),
    );
    gives(
        json!({}),
        json!({"mergingList": [{"name": "1"}, {"name": "2", "$patch": "delete"}]}),
        json!({"mergingList": [{"name": "1"}]}),
    );
    let one = json!({"mergingList": [{"name": "1"}]});
    fails(
        one.clone(),
        json!({"mergingList": [{"$patch": "delete"}]}),
        400,
        "map: map[$patch:delete] does not contain declared merge key: name",
    );
    fails(
        one.clone(),
        json!({"mergingList": [{"$patch": "merge", "name": "1"}]}),
        400,
        "merging lists cannot yet be specified in the patch",
    );
    fails(
        one,
        json!({"mergingList": [{"$patch": "drop", "name": "1"}]}),
        400,
        "unknown patch type: drop in map: map[$patch:drop name:1]",
    );
}

#[test]
fn retained_keys_clear_the_rest() {
    let before = json!({"retainKeysMap": {"name": "foo", "value": "a", "mergingIntList": [1]}});
    gives(
        before.clone(),
        json!({"retainKeysMap": {"$retainKeys": ["name", "other"], "other": "b"}}),
        json!({"retainKeysMap": {"name": "foo", "other": "b"}}),
    );
    gives(
        before.clone(),
        json!({"retainKeysMap": {
            "$retainKeys": ["mergingIntList"],
            "$setElementOrder/mergingIntList": [2, 1],
            "mergingIntList": [2],
            "value": null,
        }}),
        json!({"retainKeysMap": {"mergingIntList": [2, 1]}}),
    );
    gives(
        json!({"retainKeysMergingList": [{"name": "bar", "value": "a", "other": "x"}, {"name": "foo"}]}),
        json!({"retainKeysMergingList": [{"name": "bar", "$retainKeys": ["name", "value"], "value": "b"}]}),
        json!({"retainKeysMergingList": [{"name": "bar", "value": "b"}, {"name": "foo"}]}),
    );
    for wrong in [json!({"$retainKeys": ["name"], "other": "b"}), json!({"$retainKeys": "name"})] {
        fails(before.clone(), json!({"retainKeysMap": wrong}), 400, "invalid patch format of retainKeys");
    }
}

#[test]
fn scalars_are_taken_out_of_lists() {
    for list in ["mergingIntList", "nonMergingIntList"] {
        let gone = format!("$deleteFromPrimitiveList/{list}");
        gives(json!({list: [1, 2, 3, 2]}), json!({gone.clone(): [2, 9]}), json!({list: [1, 3]}));
        gives(json!({list: []}), json!({gone.clone(): [2]}), json!({list: []}));
        gives(json!({"name": "a"}), json!({gone: [2]}), json!({"name": "a"}));
    }
    gives(
        json!({"mergingIntList": [1, 2, 3]}),
        json!({"$deleteFromPrimitiveList/mergingIntList": [1], "mergingIntList": [4]}),
        json!({"mergingIntList": [4, 2, 3]}),
    );
    fails(json!({}), json!({"$deleteFromPrimitiveList": [1]}), 400, "invalid patch format of primitive list");
}

#[test]
fn order_is_that_of_the_directive_then_the_patch_then_the_server() {
    gives(
        json!({"mergingIntList": [1, 2, 3]}),
        json!({"mergingIntList": [3, 1]}),
        json!({"mergingIntList": [2, 3, 1]}),
    );
    gives(
        json!({"mergingIntList": [1, 2, 3, 4]}),
        json!({"$setElementOrder/mergingIntList": [3, 1, 5], "mergingIntList": [5]}),
        json!({"mergingIntList": [2, 3, 1, 5, 4]}),
    );
    gives(
        json!({"mergingList": [{"name": "1"}, {"name": "2", "value": "b"}, {"name": "3"}]}),
        json!({"mergingList": [{"name": "3", "value": "c"}, {"name": "1", "value": "a"}]}),
        json!({"mergingList": [{"name": "2", "value": "b"}, {"name": "3", "value": "c"}, {"name": "1", "value": "a"}]}),
    );
    gives(
        json!({"mergingList": [{"name": "1"}, {"name": "3"}, {"name": "4"}]}),
        json!({
            "$setElementOrder/mergingList": [{"name": "3"}, {"name": "2"}, {"name": "1"}],
            "mergingList": [{"name": "2", "value": "new"}, {"name": "4", "$patch": "delete"}],
        }),
        json!({"mergingList": [{"name": "3"}, {"name": "2", "value": "new"}, {"name": "1"}]}),
    );
    gives(
        json!({"name": "a"}),
        json!({"$setElementOrder/mergingList": [{"name": "2"}, {"name": "1"}], "mergingList": [{"name": "2"}, {"name": "1"}]}),
        json!({"name": "a", "mergingList": [{"name": "2"}, {"name": "1"}]}),
    );
    gives(
        json!({"name": "a"}),
        json!({"$setElementOrder/mergingList": [{"name": "2"}]}),
        json!({"name": "a"}),
    );
    gives(
        json!({"mergingIntList": []}),
        json!({"$setElementOrder/mergingIntList": [1]}),
        json!({"mergingIntList": []}),
    );
    // A new item counts as standing where one went.
    gives(
        json!({"mergingList": [{"name": "1"}, {"name": "2"}, {"name": "4"}]}),
        json!({
            "$setElementOrder/mergingList": [{"name": "2"}, {"name": "3"}],
            "mergingList": [{"name": "3"}, {"name": "1", "$patch": "delete"}],
        }),
        json!({"mergingList": [{"name": "2"}, {"name": "4"}, {"name": "3"}]}),
    );
}

#[test]
fn orders_that_contradict_the_list() {
    fails(
        json!({"mergingIntList": [1, 3, 2]}),
        json!({"$setElementOrder/mergingIntList": [1, 2, 3], "mergingIntList": [3, 1]}),
        400,
        "The order in patch list:\n[3 1]\n doesn't match $setElementOrder list:\n[1 2 3]\n",
    );
    fails(
        json!({"mergingList": [{"name": "1"}]}),
        json!({"$setElementOrder/mergingList": [{"name": "1"}], "mergingList": [{"name": "2"}]}),
        400,
        "The order in patch list:\n[map[name:2]]\n doesn't match $setElementOrder list:\n[map[name:1]]\n",
    );
    fails(json!({}), json!({"$setElementOrder": [1]}), 400, "invalid patch format of setElementOrder list");
    fails(
        json!({}),
        json!({"$setElementOrder/mergingIntList": {"a": 1}}),
        400,
        "expected a []interface {}, but received a map[string]interface {}",
    );
    fails(
        json!({"mergingIntList": "odd"}),
        json!({"$setElementOrder/mergingIntList": [1]}),
        400,
        "expected a []interface {}, but received a string",
    );
}

#[test]
fn lists_that_cannot_be_merged() {
    fails(
        json!({"mergingList": [{"name": "1", "value": "a"}]}),
        json!({"mergingList": [{"value": "b"}]}),
        400,
        "map: map[value:b] does not contain declared merge key: name",
    );
    fails(
        json!({"mergingIntList": [1]}),
        json!({"mergingIntList": ["a"]}),
        400,
        "list element types are not identical: [[1] [a]]",
    );
    fails(
        json!({"mergingIntList": [1]}),
        json!({"mergingIntList": [null]}),
        400,
        "list element types are not identical: [[1] [<nil>]]",
    );
    fails(
        json!({"mergingIntList": [[1]]}),
        json!({"mergingIntList": [[2]]}),
        422,
        "lists of lists are not supported",
    );
    fails(
        json!({"mergingWithoutKey": [{"name": "1"}]}),
        json!({"mergingWithoutKey": [{"name": "2"}]}),
        400,
        "cannot merge lists without merge key for struct",
    );
    fails(json!({}), json!([]), 400, "invalid JSON document");
}

#[test]
fn what_the_schema_does_not_know_merges_as_json() {
    let before = json!({"unknown": {"a": {"b": 1, "c": [1, 2]}}});
    let patch = json!({"unknown": {"a": {"c": [3], "b": null, "d": 4}}});
    gives(before.clone(), patch.clone(), json!({"unknown": {"a": {"c": [3], "d": 4}}}));
    assert_eq!(apply(before, patch, None), Ok(json!({"unknown": {"a": {"c": [3], "d": 4}}})));
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    /// Items as the schema has them, with lists that hold a name or a number once.
    fn any_item() -> impl Strategy<Value = Value> {
        let numbers = || {
            prop::collection::btree_set(0..6_i64, 0..4)
                .prop_map(|set| set.into_iter().collect::<Vec<_>>())
                .prop_shuffle()
        };
        let text = "[a-c]{0,1}";
        let plain = (text, numbers(), numbers(), prop::collection::btree_map("[k-m]", text, 0..3));
        let item = plain.prop_map(|(value, merging, replaced, map)| {
            json!({"value": value, "mergingIntList": merging, "nonMergingIntList": replaced, "simpleMap": map})
        });
        item.prop_recursive(3, 20, 3, move |inner| {
            let list = || {
                prop::collection::btree_map("[a-d]", inner.clone(), 0..4)
                    .prop_map(|items| {
                        items
                            .into_iter()
                            .map(|(name, mut item)| {
                                item["name"] = name.into();
                                item
                            })
                            .collect::<Vec<_>>()
                    })
                    .prop_shuffle()
            };
            (inner.clone(), list(), list(), list()).prop_map(|(mut item, merging, retained, replaced)| {
                item["mergingList"] = merging.into();
                item["retainKeysMergingList"] = retained.into();
                item["nonMergingList"] = replaced.into();
                item
            })
        })
    }

    /// The patch that a client sends to make one of the other: the client's half of the protocol.
    fn difference(from: &Value, to: &Value) -> Value {
        let (from, to) = (from.as_object().unwrap(), to.as_object().unwrap());
        let mut patch = Fields::new();
        for (name, value) in to {
            match (name.as_str(), from.get(name)) {
                (_, Some(before)) if before == value => {}
                ("mergingList" | "retainKeysMergingList", Some(before)) if before != &json!([]) => {
                    let (before, after) = (before.as_array().unwrap(), value.as_array().unwrap());
                    let named = |item: &Value| json!({"name": item["name"]});
                    let mut changes = Vec::new();
                    for item in after {
                        match before.iter().find(|other| other["name"] == item["name"]) {
                            Some(other) if other == item => {}
                            Some(other) => {
                                let mut change = difference(other, item);
                                change["name"] = item["name"].clone();
                                changes.push(change);
                            }
                            None => changes.push(item.clone()),
                        }
                    }
                    for item in before {
                        if !after.iter().any(|other| other["name"] == item["name"]) {
                            let mut gone = named(item);
                            gone["$patch"] = "delete".into();
                            changes.push(gone);
                        }
                    }
                    patch.insert(format!("$setElementOrder/{name}"), after.iter().map(named).collect());
                    patch.insert(name.clone(), changes.into());
                }
                ("mergingIntList", Some(before)) if before != &json!([]) => {
                    let (before, after) = (before.as_array().unwrap(), value.as_array().unwrap());
                    let gone: Vec<_> = before.iter().filter(|one| !after.contains(one)).cloned().collect();
                    let new: Vec<_> = after.iter().filter(|one| !before.contains(one)).cloned().collect();
                    patch.insert(format!("$deleteFromPrimitiveList/{name}"), gone.into());
                    patch.insert(format!("$setElementOrder/{name}"), value.clone());
                    if !new.is_empty() {
                        patch.insert(name.clone(), new.into());
                    }
                }
                ("simpleMap", Some(before)) => {
                    patch.insert(name.clone(), difference(before, value));
                }
                _ => {
                    patch.insert(name.clone(), value.clone());
                }
            }
        }
        for name in from.keys().filter(|name| !to.contains_key(*name)) {
            patch.insert(name.clone(), Value::Null);
        }
        Value::Object(patch)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_patch_of_a_difference_gives_the_target(from in any_item(), to in any_item()) {
            let patch = difference(&from, &to);
            prop_assert_eq!(patched(from, patch), Ok(to));
        }

        #[test]
        fn a_patch_twice_is_a_patch_once(from in any_item(), to in any_item()) {
            let patch = difference(&from, &to);
            let once = patched(from, patch.clone()).unwrap();
            prop_assert_eq!(patched(once.clone(), patch), Ok(once));
        }

        #[test]
        fn an_empty_patch_changes_nothing(from in any_item()) {
            prop_assert_eq!(patched(from.clone(), json!({})), Ok(from));
        }
    }
}
