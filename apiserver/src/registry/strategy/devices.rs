//! When devices got their taints: since when a claim has to tolerate them. Must never judge a taint.
//!
//! Source: `pkg/apis/resource/v1/defaults.go` and `pkg/registry/resource/devicetaintrule/strategy.go` of Kubernetes.

use barque_api::time::Time;
use serde_json::Value;

/// Taints that do not say since when there are begin now.
pub(super) fn stamp_taints(now: Time, kind: &str, object: &mut Value) {
    match kind {
        "DeviceTaintRule" => stamp(now, object.pointer_mut("/spec/taint")),
        "ResourceSlice" => {
            let devices = object.pointer_mut("/spec/devices").and_then(Value::as_array_mut);
            let taints =
                devices.into_iter().flatten().filter_map(|device| device.get_mut("taints")?.as_array_mut());
            for taint in taints.flatten() {
                stamp(now, Some(taint));
            }
        }
        _ => {}
    }
}

/// A rule's taint with another effect is another taint, unless the request says since when.
pub(super) fn stamp_new_effect(now: Time, object: &mut Value, old: &Value) {
    let part =
        |of: &Value, field: &str| of.pointer("/spec/taint").and_then(|taint| taint.get(field)).cloned();
    if part(object, "effect") != part(old, "effect")
        && part(object, "timeAdded") == part(old, "timeAdded")
        && let Some(taint) = object.pointer_mut("/spec/taint").and_then(Value::as_object_mut)
    {
        taint.insert("timeAdded".to_owned(), now.to_string().into());
    }
}

fn stamp(now: Time, taint: Option<&mut Value>) {
    if let Some(taint) = taint.and_then(Value::as_object_mut)
        && taint.get("timeAdded").is_none_or(Value::is_null)
    {
        taint.insert("timeAdded".to_owned(), now.to_string().into());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_taint_begins_when_it_comes_and_again_with_another_effect() {
        let (first, later) = (Time::of_unix(1_000), Time::of_unix(2_000));
        let mut rule = json!({"spec": {"taint": {"key": "k", "effect": "NoSchedule"}}});
        stamp_taints(first, "DeviceTaintRule", &mut rule);
        assert_eq!(rule["spec"]["taint"]["timeAdded"], first.to_string());
        let old = rule.clone();
        stamp_new_effect(later, &mut rule, &old);
        assert_eq!(rule, old);
        rule["spec"]["taint"]["effect"] = "NoExecute".into();
        stamp_new_effect(later, &mut rule, &old);
        assert_eq!(rule["spec"]["taint"]["timeAdded"], later.to_string());
        let mut said = old.clone();
        said["spec"]["taint"] = json!({"key": "k", "effect": "None", "timeAdded": "1970-01-01T01:00:00Z"});
        stamp_new_effect(later, &mut said, &old);
        assert_eq!(said["spec"]["taint"]["timeAdded"], "1970-01-01T01:00:00Z");
    }

    #[test]
    fn taints_of_slices_keep_the_time_that_they_have() {
        let mut slice = json!({"spec": {"devices": [
            {"name": "a", "taints": [{"key": "k"}, {"key": "l", "timeAdded": "1970-01-01T00:00:05Z"}]}, {"name": "b"}]}});
        stamp_taints(Time::of_unix(7), "ResourceSlice", &mut slice);
        let taints = &slice["spec"]["devices"][0]["taints"];
        assert_eq!(
            (&taints[0]["timeAdded"], &taints[1]["timeAdded"]),
            (&json!("1970-01-01T00:00:07Z"), &json!("1970-01-01T00:00:05Z"))
        );
    }
}
