//! Whether two values say the same to Kubernetes, and where they differ: quantities by their amount, what is empty as what
//! is missing. Must never know a kind.

use std::fmt::Write as _;

use barque_api::field::FieldPath;
use barque_api::quantity::Quantity;
use serde_json::Value;

/// Maps from names of resources to quantities.
const AMOUNTS: [&str; 3] = ["requests", "limits", "overhead"];
/// Maps whose keys and values are users' own: an entry says something whatever it is.
const OWN: [&str; 6] = ["annotations", "data", "labels", "matchLabels", "nodeSelector", "options"];
/// Fields that are one quantity.
const AMOUNT: [&str; 2] = ["sizeLimit", "divisor"];
/// Fields in which `false`, 0 or an empty text says something else than nothing.
const TOLD: [&str; 37] = [
    "activeDeadlineSeconds",
    "allowPrivilegeEscalation",
    "automountServiceAccountToken",
    "backoffLimit",
    "backoffLimitPerIndex",
    "completions",
    "controller",
    "defaultMode",
    "enableServiceLinks",
    "fsGroup",
    "hostProcess",
    "hostUsers",
    "localhostProfile",
    "lun",
    "manualSelector",
    "maxFailedIndexes",
    "minAvailable",
    "minDomains",
    "mode",
    "optional",
    "parallelism",
    "partition",
    "priority",
    "privileged",
    "readOnlyRootFilesystem",
    "runAsGroup",
    "runAsNonRoot",
    "runAsUser",
    "setHostnameAsFQDN",
    "shareProcessNamespace",
    "storageClassName",
    "succeededCount",
    "succeededIndexes",
    "terminationGracePeriodSeconds",
    "tolerationSeconds",
    "ttlSecondsAfterFinished",
    "hostnameOverride",
];

/// Whether they say the same.
pub(super) fn same(left: &Value, right: &Value) -> bool {
    same_in("", left, right)
}

fn same_in(field: &str, left: &Value, right: &Value) -> bool {
    if AMOUNT.contains(&field) {
        return same_amount(left, right);
    }
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            let (amounts, own) = (AMOUNTS.contains(&field), OWN.contains(&field));
            let mut keys = left.keys().chain(right.keys().filter(|key| !left.contains_key(*key)));
            keys.all(|key| match (left.get(key), right.get(key)) {
                (Some(left), Some(right)) if amounts => same_amount(left, right),
                (Some(left), Some(right)) => same_in(key, left, right),
                (Some(only), None) | (None, Some(only)) => !amounts && !own && says_nothing(key, only),
                (None, None) => true,
            })
        }
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same_in("", left, right))
        }
        (only, Value::Null) | (Value::Null, only) => says_nothing(field, only),
        _ => left == right,
    }
}

fn same_amount(left: &Value, right: &Value) -> bool {
    match (Quantity::of_value(left), Quantity::of_value(right)) {
        (Ok(left), Ok(right)) => left == right,
        _ => left == right,
    }
}

/// Whether a field with this value says the same as no field.
fn says_nothing(field: &str, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) if AMOUNTS.contains(&field) || OWN.contains(&field) => fields.is_empty(),
        Value::Object(fields) => fields.iter().all(|(field, value)| says_nothing(field, value)),
        _ if TOLD.contains(&field) => false,
        Value::Bool(yes) => !yes,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
    }
}

/// Where they differ, for people: a line with `-` for what was, one with `+` for what is, for each place.
pub(super) fn difference(old: &Value, new: &Value, path: &FieldPath) -> String {
    let mut lines = String::new();
    tell("", Some(old), Some(new), path, &mut lines);
    lines
}

fn tell(field: &str, old: Option<&Value>, new: Option<&Value>, path: &FieldPath, lines: &mut String) {
    let (before, after) = (old.unwrap_or(&Value::Null), new.unwrap_or(&Value::Null));
    if same_in(field, before, after) {
        return;
    }
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (key, value) in before {
                tell(key, Some(value), after.get(key), &path.child(key), lines);
            }
            for (key, value) in after.iter().filter(|(key, _)| !before.contains_key(*key)) {
                tell(key, None, Some(value), &path.child(key), lines);
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            for index in 0..before.len().max(after.len()) {
                tell("", before.get(index), after.get(index), &path.index(index), lines);
            }
        }
        _ => {
            for (sign, value) in [('-', old), ('+', new)] {
                if let Some(value) = value {
                    // Writing into a text does not fail.
                    let _ = writeln!(lines, "{sign} {path}: {value}");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_that_say_the_same() {
        let table = [
            (json!({"a": false, "b": "", "c": 0, "d": [], "e": {}, "f": null}), json!({}), true),
            (json!({"hostNetwork": false}), json!({"hostNetwork": true}), false),
            (json!({"runAsUser": 0}), json!({}), false),
            (json!({"privileged": false}), json!({}), false),
            (json!({"requests": {"cpu": "1"}}), json!({"requests": {"cpu": "1000m"}}), true),
            (json!({"requests": {"cpu": "0"}}), json!({"requests": {}}), false),
            (json!({"nodeSelector": {"gpu": ""}}), json!({"nodeSelector": {}}), false),
            (json!({"nodeSelector": {"gpu": ""}}), json!({}), false),
            (json!({"nodeSelector": {}}), json!({}), true),
            (json!({"cpu": "1"}), json!({"cpu": "1000m"}), false),
            (json!({"emptyDir": {"sizeLimit": "1Gi"}}), json!({"emptyDir": {"sizeLimit": "1024Mi"}}), true),
            (json!([1, 2]), json!([2, 1]), false),
            (json!({"a": {"b": [{"c": 1}]}}), json!({"a": {"b": [{"c": 2}]}}), false),
            (json!(null), json!({"a": {"b": false}}), true),
            (json!("x"), json!({"x": 1}), false),
        ];
        for (left, right, expected) in table {
            assert_eq!(same(&left, &right), expected, "{left} {right}");
            assert_eq!(same(&right, &left), expected, "{right} {left}");
        }
    }

    #[test]
    fn differences_are_told_where_they_are() {
        let old = json!({"containers": [{"name": "a", "image": "x"}], "nodeName": "n", "hostIPC": false});
        let new = json!({"containers": [{"name": "a", "image": "y"}], "priority": 3});
        assert_eq!(
            difference(&old, &new, &FieldPath::of("spec")),
            "- spec.containers[0].image: \"x\"\n+ spec.containers[0].image: \"y\"\n- spec.nodeName: \"n\"\n\
             + spec.priority: 3\n"
        );
        assert_eq!(difference(&old, &old, &FieldPath::root()), "");
    }
}
