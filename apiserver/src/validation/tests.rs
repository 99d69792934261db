use barque_api::resources::Builtin;
use serde_json::json;

use super::*;
use crate::defaults::fill;

/// The errors that a check finds, as text.
pub(super) fn told(check: impl FnOnce(&mut Findings)) -> Vec<String> {
    let mut findings = Findings::default();
    check(&mut findings);
    texts(findings.into_errors())
}

/// The errors of an object with its defaults, as text; of an update when there is an older one.
pub(super) fn judged(
    group: &str,
    kind: &str,
    subresource: &str,
    new: &Value,
    old: Option<&Value>,
) -> Vec<String> {
    let filled = |object: &Value| {
        let mut object = object.clone();
        fill(group, kind, &mut object);
        object
    };
    let (new, old) = (filled(new), old.map(filled));
    let subject = Subject { group, kind, subresource, new: &new, old: old.as_ref() };
    texts(validate_workloads(&subject).unwrap())
}

fn texts(errors: Vec<FieldError>) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

/// `base` with `patch` merged into it; null removes.
pub(super) fn patched(base: &Value, patch: &Value) -> Value {
    let mut object = base.clone();
    merge(&mut object, patch);
    object
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let fields = target.as_object_mut().unwrap();
    for (key, value) in patch {
        if value.is_null() {
            fields.remove(key);
        } else {
            merge(fields.entry(key).or_insert(Value::Null), value);
        }
    }
}

#[test]
fn no_kind_minds_an_object_of_the_wrong_shape() {
    let shapes = [
        json!(null),
        json!({}),
        json!({"spec": 1, "status": "x", "metadata": []}),
        json!({"spec": {"template": [], "containers": {}, "volumes": [1, null, "x", {"secret": 3}]}}),
        json!({"spec": {"containers": [null, 1, {"ports": [[]], "env": [{}], "resources": {"limits": {"cpu": []}}}]}}),
        json!({"spec": {"selector": 1, "jobTemplate": {"spec": 2}, "metrics": [3], "completions": "x"}}),
    ];
    let subresources = ["", "status", "scale", "resize", "ephemeralcontainers", "binding"];
    for resource in Builtin::table().all() {
        for new in &shapes {
            for old in shapes.iter().map(Some).chain([None]) {
                for subresource in subresources {
                    let (group, kind) = (&*resource.name.group, &*resource.kind);
                    let _ = validate(&Subject { group, kind, subresource, new, old });
                }
            }
        }
    }
}

#[test]
fn kinds_of_others_have_no_rules_here() {
    let object = json!({});
    let of = |kind| Subject { group: "", kind, subresource: "", new: &object, old: None };
    assert_eq!(validate_workloads(&of("Service")), None);
    assert_ne!(validate(&of("Service")), []);
    assert_eq!(validate(&of("Nothing")), []);
}

#[test]
fn a_template_is_judged_where_it_stands() {
    let mut pod =
        json!({"template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a"}]}}});
    fill("", "PodTemplate", &mut pod);
    let errors = validate_pod_template(&pod["template"], &FieldPath::of("spec.pods"));
    assert_eq!(texts(errors), ["spec.pods.spec.containers[0].image: Required value"]);
}

/// An object of each kind with most of what can stand in it.
fn full() -> Vec<Value> {
    serde_json::from_str(include_str!("samples.json")).unwrap()
}

/// The places of an object.
fn places(value: &Value, place: &str, found: &mut Vec<String>) {
    found.push(place.to_owned());
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let key = key.replace('~', "~0").replace('/', "~1");
                places(value, &format!("{place}/{key}"), found);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                places(value, &format!("{place}/{index}"), found);
            }
        }
        _ => {}
    }
}

#[test]
fn whatever_stands_at_any_place_is_judged() {
    let odd = [
        json!(i64::MIN),
        json!("é/../-%:\\'['"),
        json!("99999999999999999999%"),
        json!([]),
        json!({}),
        json!([{"name": "a"}, {"name": "a"}, null]),
    ];
    for sample in full() {
        let (group, kind) = (sample["group"].as_str().unwrap(), sample["kind"].as_str().unwrap());
        let object = &sample["object"];
        let mut found = Vec::new();
        places(object, "", &mut found);
        assert!(found.len() > 5, "{kind}");
        for place in found {
            for value in &odd {
                let mut changed = object.clone();
                *changed.pointer_mut(&place).unwrap() = value.clone();
                let judge = |subresource, new, old| {
                    let _ = validate(&Subject { group, kind, subresource, new, old });
                };
                judge("", &changed, None);
                let others: &[&str] = if kind == "Pod" { &["resize", "ephemeralcontainers"] } else { &[] };
                for subresource in ["", "status"].iter().chain(others) {
                    judge(subresource, &changed, Some(object));
                    judge(subresource, object, Some(&changed));
                }
            }
        }
    }
}
