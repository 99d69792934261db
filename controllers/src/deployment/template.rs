//! Templates of pods: whether two are the same, and the hash that tells them apart. A decision.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

use crate::hash::{fnv_1a, safe_text};
use crate::kind::Object as _;

/// The label by which pods of one template are told from those of another.
pub(crate) const HASH_LABEL: &str = "pod-template-hash";
/// The longest name of a ReplicaSet.
const NAME_MAX: usize = 253;

/// Whether two templates make the same pods, whatever their hash says.
pub(super) fn is_same(one: &PodTemplateSpec, other: &PodTemplateSpec) -> bool {
    canonical(one) == canonical(other)
}

/// Without the hash, and without lists and maps that are empty: that is the same as not there.
fn canonical(template: &PodTemplateSpec) -> Value {
    let mut template = template.clone();
    if let Some(labels) = template.metadata.as_mut().and_then(|meta| meta.labels.as_mut()) {
        labels.remove(HASH_LABEL);
    }
    pruned(serde_json::to_value(template).unwrap_or_default()).unwrap_or_default()
}

fn pruned(value: Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Array(items) if items.is_empty() => None,
        Value::Array(items) => {
            Some(items.into_iter().map(|item| pruned(item).unwrap_or(Value::Null)).collect())
        }
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(name, value)| !is_empty_map(name, value));
            Some(Value::Object(kept.filter_map(|(name, value)| Some((name, pruned(value)?))).collect()))
        }
        other => Some(other),
    }
}

/// Whether this is a map of names to values without any. Other empty objects are choices, as `emptyDir` is.
fn is_empty_map(name: &str, value: &Value) -> bool {
    const MAPS: [&str; 8] = [
        "annotations",
        "labels",
        "limits",
        "matchLabels",
        "metadata",
        "nodeSelector",
        "requests",
        "resources",
    ];
    MAPS.contains(&name) && value.as_object().is_some_and(serde_json::Map::is_empty)
}

/// The hash of a Deployment's template, in letters and digits that make no words. A new one for each collision.
pub(super) fn hash(deployment: &Deployment) -> String {
    let mut bytes = canonical(&deployment.spec.template).to_string().into_bytes();
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
    if let Some(count) = collisions {
        bytes.extend(count.to_le_bytes());
    }
    safe_text(fnv_1a(&bytes))
}

/// The name of the ReplicaSet for a Deployment's template.
pub(super) fn replica_set_name(deployment: &Deployment) -> String {
    let (name, hash) = (deployment.key().name, hash(deployment));
    let kept = name.floor_char_boundary(NAME_MAX - hash.len() - 1);
    format!("{}-{hash}", &name[..kept])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template(value: Value) -> PodTemplateSpec {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_hash_label_and_empty_fields_make_no_difference() {
        let plain = template(json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}}));
        let labelled = template(json!({
            "metadata": {"labels": {"a": "b", HASH_LABEL: "x"}, "creationTimestamp": null},
            "spec": {"containers": [], "nodeSelector": {}},
        }));
        assert!(is_same(&plain, &labelled));
        let other = template(json!({"metadata": {"labels": {"a": "c"}}, "spec": {"containers": []}}));
        assert!(!is_same(&plain, &other));
        // Written as an empty object, this is a choice.
        let volume = |volume: Value| template(json!({"spec": {"containers": [], "volumes": [volume]}}));
        assert!(!is_same(&volume(json!({"name": "v", "emptyDir": {}})), &volume(json!({"name": "v"}))));
    }

    #[test]
    fn a_collision_gives_another_name() {
        let mut deployment = Deployment::default();
        deployment.metadata.name = Some("d".into());
        let first = replica_set_name(&deployment);
        deployment.status.get_or_insert_default().collision_count = Some(1);
        let second = replica_set_name(&deployment);
        assert!(first.starts_with("d-") && second.starts_with("d-") && first != second);
    }
}
