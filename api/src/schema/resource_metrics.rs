//! The schemas of `metrics.k8s.io`, which `k8s-openapi` has no types for. Must never say what is measured.

use serde_json::{Value, json};

use crate::kind::GroupVersionKind;

const PREFIX: &str = "io.k8s.metrics.pkg.apis.metrics.v1beta1";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";

/// The kinds with the names of their schemas.
pub(super) fn kinds() -> Vec<(GroupVersionKind, String)> {
    let kind = |kind| (GroupVersionKind::new("metrics.k8s.io", "v1beta1", kind), format!("{PREFIX}.{kind}"));
    vec![kind("NodeMetrics"), kind("PodMetrics")]
}

/// The schemas by name, in JSON Schema.
pub(super) fn definitions() -> Vec<(String, Value)> {
    let measured = |description: &str, field: &str, what: Value| {
        json!({
            "type": "object",
            "description": description,
            "required": ["timestamp", "window", field],
            "properties": {
                "apiVersion": {"type": "string", "description": "APIVersion defines the version of this object."},
                "kind": {"type": "string", "description": "Kind names the type of this object."},
                "metadata": reference(&format!("{META}.ObjectMeta"), "Name, namespace and labels of what was measured."),
                "timestamp": reference(&format!("{META}.Time"), "The end of the time over which was measured."),
                "window": {"type": "string", "description": "How long that time was, as Go writes durations."},
                (field): what,
            },
        })
    };
    let containers = json!({
        "type": "array",
        "description": "What each container used.",
        "items": {"$ref": format!("#/$defs/{PREFIX}.ContainerMetrics")},
    });
    vec![
        (format!("{PREFIX}.NodeMetrics"), measured("What a node uses.", "usage", usage())),
        (format!("{PREFIX}.PodMetrics"), measured("What a pod uses.", "containers", containers)),
        (
            format!("{PREFIX}.ContainerMetrics"),
            json!({
                "type": "object",
                "description": "What a container uses.",
                "required": ["name", "usage"],
                "properties": {
                    "name": {"type": "string", "description": "The name of the container in its pod."},
                    "usage": usage(),
                },
            }),
        ),
    ]
}

fn reference(name: &str, description: &str) -> Value {
    json!({"$ref": format!("#/$defs/{name}"), "description": description})
}

fn usage() -> Value {
    json!({
        "type": "object",
        "description": "CPU in cores over the window, memory in bytes at its end.",
        "additionalProperties": {"$ref": format!("#/$defs/{QUANTITY}")},
    })
}
