//! Annotations that say something about a pod, from the time before there were fields for it.

use barque_api::field::FieldPath;
use serde_json::{Map, Value};

use super::each_container;
use crate::validation::findings::Findings;
use crate::validation::part::Part;
use crate::validation::paths::check_descending;

/// Marks pods that a node started by itself.
pub(super) const MIRROR: &str = "kubernetes.io/config.mirror";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// The annotations of a pod or template; `path` is their place.
pub(super) fn check_pod_annotations(
    annotations: &Map<String, Value>,
    spec: &Part<'_>,
    path: &FieldPath,
    findings: &mut Findings,
) {
    let text = |key: &str| annotations.get(key).and_then(Value::as_str);
    if let Some(value) = text(MIRROR)
        && spec.text("nodeName").is_empty()
    {
        let detail = "must set spec.nodeName if mirror pod annotation is set";
        findings.invalid(&path.key(MIRROR), value, detail);
    }
    if let Some(cost) = text(DELETION_COST)
        && !is_cost(cost)
    {
        findings.invalid(&path.key(DELETION_COST), cost, "must be a 32bit integer");
    }
    for (key, value) in annotations {
        let profile = value.as_str().unwrap_or_default();
        if key == SECCOMP_POD || key.starts_with(SECCOMP_CONTAINER) {
            check_seccomp(profile, &path.child(key), findings);
        } else if let Some(name) = key.strip_prefix(APP_ARMOR) {
            if each_container(spec).all(|container| container.text("name") != name) {
                findings.invalid(&path.key(key), name, "container not found");
            }
            let right = ["", "runtime/default", "unconfined"].contains(&profile);
            if !right && !profile.starts_with("localhost/") {
                let detail = format!("invalid AppArmor profile name: {profile:?}");
                findings.invalid(&path.key(key), profile, detail);
            }
        }
    }
}

/// A whole number of 32 bits, without plus and zeros before it.
fn is_cost(text: &str) -> bool {
    let plain = text == "0" || text.starts_with(|first: char| first == '-' || ('1'..='9').contains(&first));
    plain && text.parse::<i32>().is_ok()
}

fn check_seccomp(profile: &str, path: &FieldPath, findings: &mut Findings) {
    if let Some(file) = profile.strip_prefix("localhost/") {
        check_descending(file, path, findings);
    } else if !["runtime/default", "docker/default", "unconfined"].contains(&profile) {
        findings.invalid(path, profile, "must be a valid seccomp profile");
    }
}

/// Annotations and fields that say something about the same may not differ.
pub(super) fn check_profiles_match(
    annotations: &Map<String, Value>,
    spec: &Part<'_>,
    findings: &mut Findings,
) {
    let text = |key: &str| annotations.get(key).and_then(Value::as_str);
    let pod = spec.child("securityContext");
    if let (Some(profile), Some(told)) = (pod.given("seccompProfile"), text(SECCOMP_POD)) {
        check_match(&profile, told, "seccomp", &profile.path, findings);
    }
    for container in each_container(spec) {
        let profile = container.child("securityContext").given("seccompProfile");
        let key = format!("{SECCOMP_CONTAINER}{}", container.text("name"));
        if let (Some(profile), Some(told)) = (profile, text(&key)) {
            check_match(&profile, told, "seccomp", &profile.path, findings);
        }
    }
    if spec.child("os").text("name") == "windows" {
        return;
    }
    for container in each_container(spec) {
        let context = container.child("securityContext");
        let profile = context.given("appArmorProfile").or_else(|| pod.given("appArmorProfile"));
        let key = format!("{APP_ARMOR}{}", container.text("name"));
        if let (Some(profile), Some(told)) = (profile, text(&key)) {
            check_match(&profile, told, "apparmor", &context.at("appArmorProfile"), findings);
        }
    }
}

fn check_match(profile: &Part<'_>, told: &str, what: &str, path: &FieldPath, findings: &mut Findings) {
    let same_kind = match profile.text("type") {
        "Unconfined" => told == "unconfined",
        "RuntimeDefault" => told == "runtime/default" || what == "seccomp" && told == "docker/default",
        "Localhost" => told.starts_with("localhost/"),
        _ => return,
    };
    if !same_kind {
        findings.forbidden(&path.child("type"), format!("{what} type in annotation and field must match"));
    } else if let Some(file) = told.strip_prefix("localhost/")
        && profile.text("localhostProfile") != file
    {
        let detail = format!("{what} profile in annotation and field must match");
        findings.forbidden(&path.child("localhostProfile"), detail);
    }
}

/// Annotations that may not come, go or change.
pub(super) fn check_annotation_update(
    new: &Map<String, Value>,
    old: &Map<String, Value>,
    path: &FieldPath,
    findings: &mut Findings,
) {
    let words = |key: &str| {
        if key.starts_with(APP_ARMOR) {
            Some("AppArmor annotations")
        } else {
            (key == MIRROR).then_some("mirror pod annotation")
        }
    };
    for (key, value) in old {
        if let Some(words) = words(key).filter(|_| new.get(key) != Some(value)) {
            findings.forbidden(&path.key(key), format!("may not remove or update {words}"));
        }
    }
    for key in new.keys().filter(|key| !old.contains_key(*key)) {
        if let Some(words) = words(key) {
            findings.forbidden(&path.key(key), format!("may not add {words}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::validation::tests::told;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn annotations_and_what_is_wrong_with_them() {
        let spec = json!({"containers": [{"name": "a"}]});
        let table: &[(Value, &[&str])] = &[
            (json!({DELETION_COST: "-3", SECCOMP_POD: "runtime/default", "other": "x"}), &[]),
            (
                json!({DELETION_COST: "+3"}),
                &[
                    "a[controller.kubernetes.io/pod-deletion-cost]: Invalid value: \"+3\": must be a 32bit integer",
                ],
            ),
            (
                json!({MIRROR: "x"}),
                &[
                    "a[kubernetes.io/config.mirror]: Invalid value: \"x\": must set spec.nodeName if mirror pod \
                   annotation is set",
                ],
            ),
            (
                json!({format!("{APP_ARMOR}b"): "y"}),
                &[
                    "a[container.apparmor.security.beta.kubernetes.io/b]: Invalid value: \"b\": container not found",
                    "a[container.apparmor.security.beta.kubernetes.io/b]: Invalid value: \"y\": invalid AppArmor \
                     profile name: \"y\"",
                ],
            ),
        ];
        for (annotations, expected) in table {
            let annotations = map(annotations.clone());
            let part = Part::new(&spec, FieldPath::of("spec"));
            let found =
                told(|findings| check_pod_annotations(&annotations, &part, &FieldPath::of("a"), findings));
            assert_eq!(found, *expected);
        }
    }

    #[test]
    fn annotations_and_fields_agree() {
        let spec = json!({"containers": [{"name": "a", "securityContext": {"seccompProfile": {"type": "Unconfined"}}}]});
        let annotations = map(json!({format!("{SECCOMP_CONTAINER}a"): "runtime/default"}));
        let part = Part::new(&spec, FieldPath::of("spec"));
        assert_eq!(
            told(|findings| check_profiles_match(&annotations, &part, findings)),
            [
                "spec.containers[0].securityContext.seccompProfile.type: Forbidden: seccomp type in annotation and field \
              must match"
            ]
        );
    }
}
