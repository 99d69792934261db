//! Namespaces, and what holds them when they go. Must never empty one.

use barque_api::field::FieldPath;
use barque_api::metadata::Metadata;
use barque_api::names;

use super::{Change, Findings};

/// What is wrong with a Namespace.
pub(super) fn check_namespace(change: &Change<'_>, findings: &mut Findings) {
    let spec = change.new.child("spec");
    let at = spec.at("finalizers");
    match (change.subresource, &change.old) {
        ("", None) => {
            for name in spec.texts("finalizers") {
                check_finalizer(name, &at, findings);
            }
        }
        ("finalize", _) => {
            for (index, name) in spec.texts("finalizers").enumerate() {
                check_finalizer(name, &at.index(index), findings);
            }
        }
        ("status", _) => {
            let phase = change.new.child("status").text("phase");
            let deleting = Metadata::of(change.new.value).is_deleting();
            let (needed, state) = if deleting { ("Terminating", "not empty") } else { ("Active", "empty") };
            if phase != needed {
                let detail = format!("may only be '{needed}' if `deletionTimestamp` is {state}");
                findings.invalid(&FieldPath::of("status.Phase"), phase, detail);
            }
        }
        _ => {}
    }
}

fn check_finalizer(name: &str, at: &FieldPath, findings: &mut Findings) {
    findings.each(at, name, names::label_key(name));
    if !name.contains('/') && !["kubernetes", "foregroundDeletion", "orphan"].contains(&name) {
        findings.invalid(at, name, "name is neither a standard finalizer name nor is it fully qualified");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{told, told_below};

    #[test]
    fn finalizers_of_namespaces_are_qualified() {
        let namespace = |name: &str| json!({"spec": {"finalizers": [name]}});
        assert!(told("", "Namespace", &namespace("kubernetes"), None).is_empty());
        assert!(told("", "Namespace", &namespace("a.io/b"), None).is_empty());
        let wrong = namespace("other");
        let old = namespace("kubernetes");
        let words =
            "Invalid value: \"other\": name is neither a standard finalizer name nor is it fully qualified";
        assert_eq!(told("", "Namespace", &wrong, None), [format!("spec.finalizers: {words}")]);
        assert_eq!(
            told_below("", "Namespace", "finalize", &wrong, Some(&old)),
            [format!("spec.finalizers[0]: {words}")]
        );
    }

    #[test]
    fn the_phase_follows_the_deletion() {
        let mut object = json!({"metadata": {}, "status": {"phase": "Terminating"}});
        assert_eq!(
            told_below("", "Namespace", "status", &object, Some(&json!({}))),
            [
                "status.Phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty"
            ]
        );
        object["metadata"]["deletionTimestamp"] = json!("2024-01-01T00:00:00Z");
        assert!(told_below("", "Namespace", "status", &object, Some(&json!({}))).is_empty());
    }
}
