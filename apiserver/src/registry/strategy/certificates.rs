//! `CertificateSigningRequest`: who asks is entered, what is asked for stays, approval and issue change apart. Must never
//! approve or sign.

use barque_api::time::Time;
use serde_json::{Value, json};

use super::{keep as put_back, keep_metadata};
use crate::authorization::User;

/// Writes who asks into the request, whatever the request says.
pub(super) fn enter_user(user: &User, object: &mut Value) {
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return };
    for field in ["username", "uid", "groups", "extra"] {
        spec.remove(field);
    }
    for (field, text) in [("username", &user.name), ("uid", &user.uid)] {
        if !text.is_empty() {
            spec.insert(field.to_owned(), text.as_str().into());
        }
    }
    if !user.groups.is_empty() {
        spec.insert("groups".to_owned(), json!(user.groups));
    }
    if !user.extra.is_empty() {
        spec.insert("extra".to_owned(), json!(user.extra));
    }
}

/// Puts back what the subresource may not change: the request itself always, its decision but by `approval`, its
/// certificate but by `status`.
pub(super) fn keep(now: Time, subresource: &str, object: &mut Value, old: &Value) {
    put_back(object, old, &["spec"]);
    match subresource {
        "approval" => {
            let conditions = object.pointer("/status/conditions").cloned();
            put_back(object, old, &["status"]);
            if let (Some(conditions), Some(fields)) = (conditions, object.as_object_mut()) {
                let status = fields.entry("status").or_insert_with(|| json!({}));
                if let Some(status) = status.as_object_mut() {
                    status.insert("conditions".to_owned(), conditions);
                }
            }
            keep_metadata(object, old);
        }
        "status" => {
            keep_decision(object, old);
            keep_metadata(object, old);
        }
        _ => {
            put_back(object, old, &["status"]);
            return;
        }
    }
    stamp(now, object, old);
}

fn conditions_of(object: &Value) -> &[Value] {
    object.pointer("/status/conditions").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A status that forgets that the request was approved or denied does not take it back.
fn keep_decision(object: &mut Value, old: &Value) {
    let mut kept: Vec<Value> = Vec::new();
    for kind in ["Approved", "Denied"] {
        if !conditions_of(object).iter().any(|condition| condition["type"] == kind) {
            kept.extend(conditions_of(old).iter().filter(|condition| condition["type"] == kind).cloned());
        }
    }
    if kept.is_empty() {
        return;
    }
    let Some(fields) = object.as_object_mut() else { return };
    let status = fields.entry("status").or_insert_with(|| json!({}));
    let Some(status) = status.as_object_mut() else { return };
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    if conditions.is_null() {
        *conditions = json!([]);
    }
    if let Some(conditions) = conditions.as_array_mut() {
        conditions.extend(kept);
    }
}

/// Conditions without times get those of the same condition before, or of now.
fn stamp(now: Time, object: &mut Value, old: &Value) {
    let Some(conditions) = object.pointer_mut("/status/conditions").and_then(Value::as_array_mut) else {
        return;
    };
    for condition in conditions.iter_mut().filter(|condition| condition.is_object()) {
        if condition["lastUpdateTime"].is_null() {
            condition["lastUpdateTime"] = now.to_string().into();
        }
        if condition["lastTransitionTime"].is_null() {
            let same = conditions_of(old).iter().find(|before| {
                ["type", "status"].iter().all(|field| before.get(*field) == condition.get(*field))
                    && before.get("lastTransitionTime").is_some_and(|time| !time.is_null())
            });
            condition["lastTransitionTime"] = match same {
                Some(before) => before["lastTransitionTime"].clone(),
                None => now.to_string().into(),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{created, updated};
    use super::*;

    const GROUP: &str = "certificates.k8s.io";
    const KIND: &str = "CertificateSigningRequest";

    #[test]
    fn a_request_says_who_made_it() {
        let made = created(
            GROUP,
            KIND,
            json!({"spec": {"username": "x", "extra": {"a": ["b"]}, "request": "r"},
                                               "status": {"certificate": "c"}}),
        );
        assert_eq!(
            made,
            json!({
                "spec": {"request": "r", "username": "u", "uid": "1", "groups": ["g"]}, "status": {},
            })
        );
    }

    #[test]
    fn approval_and_issue_change_apart() {
        let old = json!({"metadata": {}, "spec": {"request": "r"}, "status": {}});
        let asked = json!({
            "metadata": {}, "spec": {"request": "s"},
            "status": {"certificate": "c", "conditions": [{"type": "Approved", "status": "True"}]},
        });
        assert_eq!(updated(GROUP, KIND, "", asked.clone(), &old), old);
        let approved = updated(GROUP, KIND, "approval", asked, &old);
        assert_eq!(approved["spec"]["request"], "r");
        assert_eq!(
            approved["status"],
            json!({"conditions": [{
                "type": "Approved", "status": "True",
                "lastUpdateTime": "1970-01-01T00:01:00Z", "lastTransitionTime": "1970-01-01T00:01:00Z",
            }]})
        );
        let issued = json!({"metadata": {}, "spec": {}, "status": {"certificate": "c"}});
        let issued = updated(GROUP, KIND, "status", issued, &approved);
        assert_eq!(issued["status"]["certificate"], "c");
        assert_eq!(issued["status"]["conditions"], approved["status"]["conditions"]);
    }
}
