//! Stories of requests that change one object.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::samples::{self, VERSION};
use super::{AlikeVersions, FieldManager, FieldSet, LAST_APPLIED, keep_times_of_unchanged};
use crate::kind::GroupVersionKind;
use crate::status::Status;
use crate::time::Time;

/// An object and how it is written to; each request comes a minute after the one before.
struct Story {
    object: Value,
    minute: i64,
    versions: AlikeVersions<'static>,
    kind: GroupVersionKind,
    subresource: &'static str,
    reset: BTreeMap<String, FieldSet>,
}

impl Story {
    fn new() -> Self {
        Self {
            object: Value::Null,
            minute: 0,
            versions: samples::versions("object"),
            kind: GroupVersionKind::new("example.com", "v1", "Sample"),
            subresource: "",
            reset: BTreeMap::new(),
        }
    }

    fn manager(&self) -> FieldManager<'_> {
        FieldManager {
            kind: &self.kind,
            subresource: self.subresource,
            versions: &self.versions,
            reset: &self.reset,
            now: Time::of_unix(60 * self.minute),
        }
    }

    fn stored(&mut self, mut object: Value) {
        object["metadata"]["uid"] = "1".into();
        self.object = object;
    }

    /// Writes with these changes, a merge patch.
    fn update(&mut self, manager: &str, changes: Value) -> &mut Self {
        self.minute += 1;
        let mut new = if self.object.is_null() { self.applied(json!({})) } else { self.object.clone() };
        crate::patch::merge::merge(&mut new, changes);
        let new = self.manager().update(&self.object, new, manager);
        self.stored(new);
        self
    }

    fn applied(&self, config: Value) -> Value {
        let version = self.kind.group_version().to_string();
        let mut applied = json!({"apiVersion": version, "kind": "Sample", "metadata": {"name": "a"}});
        crate::patch::merge::merge(&mut applied, config);
        applied
    }

    fn try_apply(&mut self, manager: &str, config: Value, force: bool) -> Result<(), Status> {
        self.minute += 1;
        let new = self.manager().apply(&self.object, &self.applied(config), manager, force)?;
        self.stored(new);
        Ok(())
    }

    #[track_caller]
    fn apply(&mut self, manager: &str, config: Value) -> &mut Self {
        self.try_apply(manager, config, false).unwrap();
        self
    }

    #[track_caller]
    fn force(&mut self, manager: &str, config: Value) -> &mut Self {
        self.try_apply(manager, config, true).unwrap();
        self
    }

    #[track_caller]
    fn conflict(&mut self, manager: &str, config: Value, message: &str) -> &mut Self {
        let before = self.object.clone();
        let status = self.try_apply(manager, config, false).unwrap_err();
        assert_eq!((status.reason.code(), status.message.as_str()), (409, message));
        assert_eq!(self.object, before);
        self
    }

    /// The owners in their order, as `manager operation minute [version] [/subresource]` with their fields.
    #[track_caller]
    fn owners(&mut self, expected: Value) -> &mut Self {
        let entries = self.object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        let told: Vec<Value> = entries
            .iter()
            .map(|entry| {
                let text = |field: &str| entry[field].as_str().unwrap_or_default();
                let mut who = format!("{} {} {}", text("manager"), text("operation"), text("time"));
                who = who.replace("1970-01-01T00:", "").replace(":00Z", "");
                if text("apiVersion") != VERSION {
                    who = format!("{who} {}", text("apiVersion"));
                }
                if !text("subresource").is_empty() {
                    who = format!("{who} /{}", text("subresource"));
                }
                json!([who.trim(), entry["fieldsV1"]])
            })
            .collect();
        assert_eq!(Value::Array(told), expected);
        self
    }

    #[track_caller]
    fn spec(&mut self, spec: Value) -> &mut Self {
        assert_eq!(self.object.get("spec").cloned().unwrap_or_default(), spec);
        self
    }
}

#[test]
fn who_creates_owns_what_is_there() {
    let mut story = Story::new();
    story.update(
        "kubectl-create",
        json!({
            "metadata": {"name": "a", "namespace": "b", "generation": 1, "resourceVersion": "7", "labels": {"l": "m"}},
            "spec": {"value": 1, "set": ["x"]},
        }),
    );
    assert_eq!(
        story.object["metadata"]["managedFields"],
        json!([{
            "manager": "kubectl-create",
            "operation": "Update",
            "apiVersion": "example.com/v1",
            "time": "1970-01-01T00:01:00Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:metadata": {"f:labels": {".": {}, "f:l": {}}},
                "f:spec": {".": {}, "f:value": {}, "f:set": {".": {}, "v:\"x\"": {}}},
            },
        }])
    );
}

#[test]
fn who_writes_takes_what_changes() {
    let mut story = Story::new();
    story
        .update("a", json!({"spec": {"value": 1, "name": "x", "labels": {"l": "m"}}}))
        .update("b", json!({"spec": {"value": 2}}))
        .owners(json!([
            ["a Update 01", {"f:spec": {".": {}, "f:labels": {".": {}, "f:l": {}}, "f:name": {}}}],
            ["b Update 02", {"f:spec": {"f:value": {}}}],
        ]))
        // A write that changes nothing is nobody's.
        .update("c", json!({"spec": {"value": 2}}))
        .update("b", json!({"spec": {"value": 2}}))
        .owners(json!([
            ["a Update 01", {"f:spec": {".": {}, "f:labels": {".": {}, "f:l": {}}, "f:name": {}}}],
            ["b Update 02", {"f:spec": {"f:value": {}}}],
        ]))
        // What goes is nobody's any more.
        .update("b", json!({"spec": {"labels": null, "flag": true}}))
        .owners(json!([
            ["a Update 01", {"f:spec": {".": {}, "f:name": {}}}],
            ["b Update 05", {"f:spec": {"f:value": {}, "f:flag": {}}}],
        ]))
        .update("c", json!({"spec": {"name": "y", "value": null}}))
        .owners(json!([
            ["a Update 01", {"f:spec": {}}],
            ["b Update 05", {"f:spec": {"f:flag": {}}}],
            ["c Update 06", {"f:spec": {"f:name": {}}}],
        ]));
}

#[test]
fn subresources_and_versions_are_owners_of_their_own() {
    let mut story = Story::new();
    story.versions = samples::versions("object").with("example.com/v2", None);
    story.reset.insert(VERSION.to_owned(), FieldSet::of(&["status"]));
    story.update("a", json!({"spec": {"value": 1}, "status": {"value": 1}})).owners(json!([
        ["a Update 01", {"f:spec": {".": {}, "f:value": {}}}],
    ]));
    story.reset.insert(VERSION.to_owned(), FieldSet::of(&["spec", "metadata.labels"]));
    story.subresource = "status";
    story.update(
        "a",
        json!({"spec": {"value": 2}, "status": {"value": 2}, "metadata": {"labels": {"l": "m"}}}),
    );
    story.owners(json!([
        ["a Update 01", {"f:spec": {".": {}, "f:value": {}}}],
        ["a Update 02 /status", {"f:status": {"f:value": {}}}],
    ]));
    story.reset.clear();
    story.subresource = "";
    story.kind = GroupVersionKind::new("example.com", "v2", "Sample");
    story.object["apiVersion"] = "example.com/v2".into();
    story.update("a", json!({"spec": {"flag": true}})).owners(json!([
        ["a Update 01", {"f:spec": {".": {}, "f:value": {}}}],
        ["a Update 02 /status", {"f:status": {"f:value": {}}}],
        ["a Update 03 example.com/v2", {"f:spec": {"f:flag": {}}}],
    ]));
    // Owners of a version that is not served any more are forgotten.
    story.versions = AlikeVersions::default().with("example.com/v2", None);
    story.update("b", json!({"spec": {"name": "x"}})).owners(json!([
        ["a Update 03 example.com/v2", {"f:spec": {"f:flag": {}}}],
        ["b Update 04 example.com/v2", {"f:spec": {"f:name": {}}}],
    ]));
}

#[test]
fn who_applies_owns_what_it_names_and_takes_it_away_again() {
    let mut story = Story::new();
    story
        .apply("a", json!({"spec": {"value": 1, "labels": {"l": "m", "n": "o"}, "set": ["x", "y"]}}))
        .owners(json!([[
            "a Apply 01",
            {"f:spec": {"f:value": {}, "f:labels": {"f:l": {}, "f:n": {}}, "f:set": {"v:\"x\"": {}, "v:\"y\"": {}}}},
        ]]))
        .update("b", json!({"spec": {"flag": true, "labels": {"p": "q"}}}))
        .apply("a", json!({"spec": {"labels": {"n": "o"}, "set": ["y", "z"]}}))
        .spec(json!({"flag": true, "labels": {"n": "o", "p": "q"}, "set": ["y", "z"]}))
        .owners(json!([
            ["a Apply 03", {"f:spec": {"f:labels": {"f:n": {}}, "f:set": {"v:\"y\"": {}, "v:\"z\"": {}}}}],
            ["b Update 02", {"f:spec": {"f:flag": {}, "f:labels": {"f:p": {}}}}],
        ]))
        // The same again is nothing.
        .apply("a", json!({"spec": {"labels": {"n": "o"}, "set": ["y", "z"]}}))
        .owners(json!([
            ["a Apply 03", {"f:spec": {"f:labels": {"f:n": {}}, "f:set": {"v:\"y\"": {}, "v:\"z\"": {}}}}],
            ["b Update 02", {"f:spec": {"f:flag": {}, "f:labels": {"f:p": {}}}}],
        ]))
        .apply("a", json!({}))
        .spec(json!({"flag": true, "labels": {"p": "q"}}))
        .owners(json!([["b Update 02", {"f:spec": {"f:flag": {}, "f:labels": {"f:p": {}}}}]]));
}

#[test]
fn items_go_with_their_last_owner() {
    let item = |name: &str, value: i64| json!({"name": name, "value": value});
    let mut story = Story::new();
    story
        .apply("a", json!({"spec": {"byName": [item("x", 1), item("y", 2)]}}))
        .apply("b", json!({"spec": {"byName": [{"name": "y", "flag": true}, item("z", 3)]}}))
        .spec(json!({"byName": [item("x", 1), {"name": "y", "value": 2, "flag": true}, item("z", 3)]}))
        // What others own below an item does not keep it, only who owns the item itself.
        .update("c", json!({"spec": {"byName": [
            {"name": "x", "value": 1, "labels": {"l": "m"}}, {"name": "y", "value": 2, "flag": true}, item("z", 3),
        ]}}))
        .apply("a", json!({}))
        .spec(json!({"byName": [{"name": "y", "flag": true}, item("z", 3)]}))
        .apply("b", json!({"spec": {"byName": [item("z", 3)]}}))
        .spec(json!({"byName": [item("z", 3)]}));
}

#[test]
fn who_applies_asks_before_it_takes() {
    let mut story = Story::new();
    story
        .update("hpa", json!({"spec": {"value": 3, "name": "x"}}))
        .conflict(
            "a",
            json!({"spec": {"value": 1}}),
            "Apply failed with 1 conflict: conflict with \"hpa\" using example.com/v1: .spec.value",
        )
        .conflict(
            "a",
            json!({"spec": {"value": 1, "name": "y"}}),
            "Apply failed with 2 conflicts: conflicts with \"hpa\" using example.com/v1:\n- .spec.name\n- .spec.value",
        )
        // The same value is owned by both.
        .apply("a", json!({"spec": {"value": 3}}))
        .owners(json!([
            ["a Apply", {"f:spec": {"f:value": {}}}],
            ["hpa Update 01", {"f:spec": {".": {}, "f:name": {}, "f:value": {}}}],
        ]))
        .force("a", json!({"spec": {"value": 1}}))
        .owners(json!([
            ["a Apply 05", {"f:spec": {"f:value": {}}}],
            ["hpa Update 01", {"f:spec": {".": {}, "f:name": {}}}],
        ]))
        .conflict(
            "b",
            json!({"spec": {"value": 2}}),
            "Apply failed with 1 conflict: conflict with \"a\": .spec.value",
        )
        // What two applied stays when one of them lets go.
        .apply("b", json!({"spec": {"value": 1}}))
        .apply("a", json!({}))
        .spec(json!({"name": "x", "value": 1}))
        .apply("b", json!({}))
        .spec(json!({"name": "x"}));
    let status = story.try_apply("a", json!({"spec": {"name": "z"}}), false).unwrap_err();
    let cause = &status.details.causes[0];
    assert_eq!(
        (cause.reason.as_str(), cause.message.as_str(), cause.field.as_str()),
        ("FieldManagerConflict", "conflict with \"hpa\" using example.com/v1", ".spec.name")
    );
}

#[test]
fn what_is_applied_as_empty_is_there() {
    let mut story = Story::new();
    story
        .apply("a", json!({"spec": {"struct": {"value": 1}, "labels": {"l": "m"}}}))
        .apply("a", json!({"spec": {"struct": {}, "labels": {}}}))
        .spec(json!({"struct": {}, "labels": {}}))
        .apply("a", json!({"spec": {"struct": {}, "labels": {}}}))
        .owners(json!([["a Apply 02", {"f:spec": {"f:struct": {}, "f:labels": {}}}]]));
    // Also where somebody else takes away what was in it.
    let mut story = Story::new();
    story
        .apply("a", json!({"spec": {"struct": {"struct": {"value": 1}}}}))
        .apply("b", json!({"spec": {"struct": {"struct": {}}}}))
        .apply("a", json!({}))
        .spec(json!({"struct": {"struct": {}}}));
}

#[test]
fn what_was_there_before_owners_were_kept_has_an_owner() {
    let mut story = Story::new();
    story.update("a", json!({"spec": {"value": 1, "name": "x"}}));
    story.object["metadata"].as_object_mut().unwrap().remove("managedFields");
    story
        .update("b", json!({"spec": {"value": 2}}))
        .owners(json!([]))
        .conflict(
            "a",
            json!({"spec": {"value": 1}}),
            "Apply failed with 1 conflict: conflict with \"before-first-apply\" using example.com/v1: .spec.value",
        )
        .apply("a", json!({"spec": {"flag": true}}))
        .owners(json!([
            ["a Apply 04", {"f:spec": {"f:flag": {}}}],
            ["before-first-apply Update 04", {"f:spec": {".": {}, "f:value": {}, "f:name": {}}}],
        ]));
}

#[test]
fn kubectl_takes_over_what_it_applied_as_a_client() {
    let last = json!({"apiVersion": VERSION, "kind": "Sample", "metadata": {"name": "a"}, "spec": {"value": 1, "name": "x"}});
    let start = || {
        let mut story = Story::new();
        story.update(
            "kubectl-client-side-apply",
            json!({"spec": {"value": 1, "name": "x"}, "metadata": {"annotations": {LAST_APPLIED: last.to_string()}}}),
        );
        story
    };
    let mut story = start();
    story.apply("kubectl", json!({"spec": {"value": 2, "name": "x"}})).spec(json!({"value": 2, "name": "x"}));
    assert_eq!(
        story.object["metadata"]["annotations"][LAST_APPLIED],
        "{\"apiVersion\":\"example.com/v1\",\"kind\":\"Sample\",\"metadata\":{\"name\":\"a\"},\"spec\":{\"name\":\"x\",\"value\":2}}\n"
    );
    // Others may not.
    start().conflict(
        "flux",
        json!({"spec": {"value": 2}}),
        "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using example.com/v1: .spec.value",
    );
    // Nor may it take what changed since; the rest it may.
    start().update("hpa", json!({"spec": {"value": 5}})).conflict(
        "kubectl",
        json!({"spec": {"value": 2, "name": "y"}}),
        "Apply failed with 1 conflict: conflict with \"hpa\" using example.com/v1: .spec.value",
    );
}

#[test]
fn owners_can_be_forgotten_or_written_by_hand() {
    for reset in [json!([]), json!([{}])] {
        let mut story = Story::new();
        story
            .update("a", json!({"spec": {"value": 1}}))
            .update("b", json!({"metadata": {"managedFields": reset}}))
            .owners(json!([]));
    }
    let entry = |fields: Value| {
        json!({
            "manager": "x", "operation": "Update", "apiVersion": VERSION, "time": "1970-01-01T00:09:00Z",
            "fieldsType": "FieldsV1", "fieldsV1": fields,
        })
    };
    let mut story = Story::new();
    story
        .update("a", json!({"spec": {"value": 1}}))
        .update("b", json!({"spec": {"flag": true}, "metadata": {"managedFields": [entry(json!({"f:spec": {"f:value": {}}}))]}}))
        .owners(json!([
            ["b Update 02", {"f:spec": {"f:flag": {}}}],
            ["x Update 09", {"f:spec": {"f:value": {}}}],
        ]));
    // What cannot be read, or comes by a subresource, does not count.
    let kept = json!([["a Update 01", {"f:spec": {".": {}, "f:value": {}}}]]);
    for (subresource, entries) in
        [("", json!([entry(json!({"spec": {}}))])), ("status", json!([entry(json!({}))]))]
    {
        let mut story = Story::new();
        story.update("a", json!({"spec": {"value": 1}}));
        story.subresource = subresource;
        story.update("b", json!({"metadata": {"managedFields": entries}})).owners(kept.clone());
    }
    // Nor does a write whose fields cannot be told apart.
    let mut story = Story::new();
    story
        .update("a", json!({"spec": {"value": 1}}))
        .update("b", json!({"spec": {"byName": [{"flag": true}]}}))
        .owners(kept);
}

#[test]
fn the_oldest_of_too_many_writers_become_one() {
    let mut story = Story::new();
    for writer in 0..10 {
        story.update(&format!("w{writer}"), json!({"spec": {"labels": {format!("l{writer}"): "m"}}}));
    }
    let writers = |story: &Story| -> Vec<String> {
        let entries = story.object["metadata"]["managedFields"].as_array().unwrap();
        entries.iter().map(|entry| entry["manager"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(writers(&story), ["w0", "w1", "w2", "w3", "w4", "w5", "w6", "w7", "w8", "w9"]);
    story.update("w10", json!({"spec": {"labels": {"l10": "m"}}}));
    assert_eq!(writers(&story), ["ancient-changes", "w2", "w3", "w4", "w5", "w6", "w7", "w8", "w9", "w10"]);
    let ancient = &story.object["metadata"]["managedFields"][0];
    assert_eq!(ancient["time"], "1970-01-01T00:02:00Z");
    assert_eq!(
        ancient["fieldsV1"],
        json!({"f:spec": {".": {}, "f:labels": {".": {}, "f:l0": {}, "f:l1": {}}}})
    );
    // Those who apply do not count.
    story
        .apply("a", json!({"spec": {"flag": true}}))
        .update("w11", json!({"spec": {"labels": {"l11": "m"}}}));
    assert_eq!(writers(&story)[..3], ["a", "ancient-changes", "w3"]);
    assert_eq!(writers(&story).len(), 11);
}

#[test]
fn what_is_no_such_object_is_not_applied() {
    let told = |applied: Value| {
        let status = Story::new().manager().apply(&Value::Null, &applied, "a", false).unwrap_err();
        (status.reason.code(), status.message)
    };
    let bad = |message: &str| (400, message.to_owned());
    assert_eq!(
        told(json!({"apiVersion": "example.com/v2", "kind": "Sample"})),
        bad("invalid object type: example.com/v2, Kind=Sample")
    );
    let named = json!({"name": "a", "namespace": "b"});
    assert_eq!(
        told(json!({"apiVersion": VERSION, "kind": "Sample", "metadata": {"managedFields": []}})),
        bad("metadata.managedFields must be nil")
    );
    assert_eq!(
        told(json!({"apiVersion": VERSION, "kind": "Sample", "metadata": named, "spec": {"valu": 1}})),
        bad(
            "failed to create typed patch object (b/a; example.com/v1, Kind=Sample): .spec.valu: field not declared in schema"
        )
    );
    assert_eq!(
        told(
            json!({"apiVersion": VERSION, "kind": "Sample", "metadata": named, "spec": {"set": ["x", "x"]}})
        ),
        bad(
            "failed to create typed patch object (b/a; example.com/v1, Kind=Sample): .spec.set: duplicate entries for key [=\"x\"]"
        )
    );
    let mut story = Story::new();
    story.update("a", json!({"spec": {"value": 1}}));
    story.object["metadata"]["managedFields"][0]["fieldsType"] = "".into();
    let status = story.try_apply("a", json!({}), false).unwrap_err();
    assert_eq!(
        status.message,
        "Internal error occurred: failed to decode managed fields: missing fieldsType in managed fields entry 0"
    );
}

#[test]
fn a_write_that_changes_times_alone_is_none() {
    let object = |value: i64, time: &str| {
        json!({
            "spec": {"value": value},
            "metadata": {"managedFields": [{"manager": "a", "time": time}]},
        })
    };
    let mut new = object(1, "later");
    keep_times_of_unchanged(&object(1, "before"), &mut new);
    assert_eq!(new, object(1, "before"));
    let mut new = object(2, "later");
    keep_times_of_unchanged(&object(1, "before"), &mut new);
    assert_eq!(new, object(2, "later"));
}
