//! What an API server would have entered into a pod before its node saw it, as far as a node reads it: policies of pulling and
//! restarting, and requests that follow from limits. Pure; must never change what the file says.

use k8s_openapi::api::core::v1::{Container, PodSpec};

/// Enters what the file leaves out.
pub(super) fn enter(spec: &mut PodSpec) {
    spec.restart_policy.get_or_insert_with(|| "Always".to_owned());
    spec.dns_policy.get_or_insert_with(|| "ClusterFirst".to_owned());
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        enter_container(container);
    }
}

fn enter_container(container: &mut Container) {
    let image = container.image.as_deref().unwrap_or_default();
    let policy = if is_latest(image) { "Always" } else { "IfNotPresent" };
    container.image_pull_policy.get_or_insert_with(|| policy.to_owned());
    let Some(resources) = &mut container.resources else { return };
    for (name, limit) in resources.limits.iter().flatten() {
        let requests = resources.requests.get_or_insert_default();
        requests.entry(name.clone()).or_insert_with(|| limit.clone());
    }
}

/// Whether an image is whatever is the newest: it has the tag `latest`, or neither a tag nor a digest.
fn is_latest(image: &str) -> bool {
    let name = image.rsplit('/').next().unwrap_or_default();
    !image.contains('@') && name.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn entered(container: Value) -> Value {
        let mut spec: PodSpec = serde_json::from_value(json!({"containers": [container]})).unwrap();
        enter(&mut spec);
        json!(spec)
    }

    #[test]
    fn what_is_newest_is_always_pulled() {
        for (image, policy) in [
            ("busybox", "Always"),
            ("busybox:latest", "Always"),
            ("localhost:5000/busybox", "Always"),
            ("busybox:1.36", "IfNotPresent"),
            ("localhost:5000/busybox:1.36", "IfNotPresent"),
            ("busybox@sha256:0", "IfNotPresent"),
            ("busybox:latest@sha256:0", "IfNotPresent"),
        ] {
            let spec = entered(json!({"name": "c", "image": image}));
            assert_eq!(spec["containers"][0]["imagePullPolicy"], policy, "{image}");
        }
        let spec = entered(json!({"name": "c", "image": "busybox", "imagePullPolicy": "Never"}));
        assert_eq!(spec["containers"][0]["imagePullPolicy"], "Never", "the file says it");
        assert_eq!((&spec["restartPolicy"], &spec["dnsPolicy"]), (&json!("Always"), &json!("ClusterFirst")));
    }

    #[test]
    fn who_is_limited_asks_for_as_much() {
        let resources = json!({"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "1"}});
        let spec = entered(json!({"name": "c", "image": "i:1", "resources": resources}));
        let expected = json!({"cpu": "1", "memory": "1Gi"});
        assert_eq!(spec["containers"][0]["resources"]["requests"], expected);
        let spec = entered(json!({"name": "c", "image": "i:1"}));
        assert_eq!(spec["containers"][0].get("resources"), None);
    }
}
