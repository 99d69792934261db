//! What built-in kinds do to their objects before they are stored: what a request cannot change is put back, and what only
//! the server says is said. Pure: who asks and the time are handed in. Must never judge whether an object is right.
//!
//! Source: `pkg/registry/*/*/strategy.go` of Kubernetes. All functions may be called again on their own results, as
//! happens around admission.

mod certificates;
mod claims;
mod custom;
mod devices;
mod generation;
mod jobs;
mod pods;
mod status;
mod verbs;
mod volumes;
mod warnings;

pub use custom::{prepare_custom_for_create, prepare_custom_for_update};
pub use generation::counts_generations;
pub use pods::quality_of_service;
pub use verbs::{may_create_on_update, may_update_without_version};
pub use warnings::warnings;

use barque_api::metadata::MetadataMut;
use barque_api::time::Time;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::authorization::User;

/// Who asks, and when.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// Whose request it is.
    pub user: &'a User,
    /// The time of the request.
    pub now: Time,
}

/// Before a new object is stored. Its name and uid are already there: jobs make labels of them.
pub fn prepare_for_create(asking: Asking<'_>, group: &str, kind: &str, object: &mut Value) {
    match (group, kind) {
        ("", "Namespace") => add_finalizer(object),
        ("", "Pod") => pods::write_out_label_keys(object),
        ("", "Secret") => take_texts(object),
        ("batch", "Job") => jobs::generate_selector(object),
        ("certificates.k8s.io", "CertificateSigningRequest") => certificates::enter_user(asking.user, object),
        ("discovery.k8s.io", "EndpointSlice") => drop_topology(object),
        ("resource.k8s.io", "DeviceTaintRule" | "ResourceSlice") => {
            devices::stamp_taints(asking.now, kind, object);
        }
        _ => {}
    }
    status::begin(asking.now, group, kind, object);
    generation::begin(group, kind, object);
}

/// Before a changed object is stored: of what stands in `object`, only what the subresource is for may differ from `old`.
pub fn prepare_for_update(
    asking: Asking<'_>,
    group: &str,
    kind: &str,
    subresource: &str,
    object: &mut Value,
    old: &Value,
) {
    match (group, kind, subresource) {
        ("", "Pod", "ephemeralcontainers") => pods::keep_all_but_ephemeral(object, old),
        ("", "Pod", "resize") => pods::keep_all_but_resources(object, old),
        ("", "Pod", "status") => pods::keep_all_but_status(object, old),
        ("", "Namespace", "finalize") => keep(object, old, &["status"]),
        ("", "PersistentVolume", "status") => {
            keep(object, old, &["spec"]);
            volumes::stamp_phase(asking.now, object, old);
        }
        ("resource.k8s.io", "ResourceClaim", "status") => {
            status::keep_all_but(group, kind, object, old);
            claims::drop_deallocated(object, old);
        }
        ("certificates.k8s.io", "CertificateSigningRequest", _) => {
            certificates::keep(asking.now, subresource, object, old);
        }
        (_, _, "") => {
            match (group, kind) {
                ("", "Namespace") => keep_inside(object, old, "spec", &["finalizers"]),
                ("", "Secret") => take_texts(object),
                ("discovery.k8s.io", "EndpointSlice") if object.get("endpoints") != old.get("endpoints") => {
                    drop_topology(object);
                }
                ("resource.k8s.io", "DeviceTaintRule" | "ResourceSlice") => {
                    if kind == "DeviceTaintRule" {
                        devices::stamp_new_effect(asking.now, object, old);
                    }
                    devices::stamp_taints(asking.now, kind, object);
                }
                _ => {}
            }
            status::keep(group, kind, object, old);
        }
        (_, _, "status") => status::keep_all_but(group, kind, object, old),
        _ => {}
    }
    generation::count(group, kind, object, old);
}

/// Puts fields back to what they were.
fn keep(object: &mut Value, old: &Value, fields: &[&str]) {
    let Some(new) = object.as_object_mut() else { return };
    for field in fields {
        match old.get(field) {
            Some(value) => {
                new.insert((*field).to_owned(), value.clone());
            }
            None => {
                new.remove(*field);
            }
        }
    }
}

/// Puts fields of the object in a field back to what they were.
fn keep_inside(object: &mut Value, old: &Value, outer: &str, fields: &[&str]) {
    let old = old.get(outer).unwrap_or(&Value::Null);
    match object.get_mut(outer) {
        Some(inner) if inner.is_object() => keep(inner, old, fields),
        _ => {
            let mut inner = json!({});
            keep(&mut inner, old, fields);
            if inner != json!({})
                && let Some(new) = object.as_object_mut()
            {
                new.insert(outer.to_owned(), inner);
            }
        }
    }
}

/// Puts back what of the metadata a change of the status does not change (`metav1.ResetObjectMetaForStatus`).
fn keep_metadata(object: &mut Value, old: &Value) {
    const FIELDS: [&str; 7] = [
        "deletionTimestamp",
        "generation",
        "selfLink",
        "labels",
        "annotations",
        "finalizers",
        "ownerReferences",
    ];
    keep_inside(object, old, "metadata", &FIELDS);
}

/// The finalizer that holds every namespace until it is empty.
fn add_finalizer(object: &mut Value) {
    const NAME: &str = "kubernetes";
    let Some(fields) = object.as_object_mut() else { return };
    let spec = fields.entry("spec").or_insert_with(|| json!({}));
    let Some(spec) = spec.as_object_mut() else { return };
    match spec.get_mut("finalizers").and_then(Value::as_array_mut) {
        Some(names) if names.iter().any(|name| name == NAME) => {}
        Some(names) => names.push(NAME.into()),
        None => {
            spec.insert("finalizers".to_owned(), json!([NAME]));
        }
    }
}

/// `stringData` is only written: it becomes `data`.
fn take_texts(object: &mut Value) {
    let Some(fields) = object.as_object_mut() else { return };
    let Some(Value::Object(texts)) = fields.remove("stringData") else { return };
    if texts.is_empty() {
        return;
    }
    let data = fields.entry("data").or_insert_with(|| json!({}));
    if data.is_null() {
        *data = json!({});
    }
    let Some(data) = data.as_object_mut() else { return };
    for (key, text) in texts {
        data.insert(key, STANDARD.encode(text.as_str().unwrap_or_default()).into());
    }
}

/// What endpoints said of their places in versions before the first is not stored any more.
fn drop_topology(object: &mut Value) {
    let endpoints = object.get_mut("endpoints").and_then(Value::as_array_mut).into_iter().flatten();
    for endpoint in endpoints.filter_map(Value::as_object_mut) {
        endpoint.remove("deprecatedTopology");
    }
}

/// Sets the generation, where there is metadata.
fn set_generation(object: &mut Value, generation: i64) {
    if let Some(mut metadata) = MetadataMut::of(object) {
        metadata.set_generation(generation);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> User {
        User { name: "u".to_owned(), uid: "1".to_owned(), groups: vec!["g".to_owned()], ..User::default() }
    }

    pub(super) fn created(group: &str, kind: &str, mut object: Value) -> Value {
        let user = user();
        let asking = Asking { user: &user, now: Time::of_unix(0) };
        prepare_for_create(asking, group, kind, &mut object);
        let once = object.clone();
        prepare_for_create(asking, group, kind, &mut object);
        assert_eq!(object, once, "preparing again changes nothing");
        object
    }

    pub(super) fn updated(group: &str, kind: &str, below: &str, mut object: Value, old: &Value) -> Value {
        let user = user();
        let asking = Asking { user: &user, now: Time::of_unix(60) };
        prepare_for_update(asking, group, kind, below, &mut object, old);
        let once = object.clone();
        prepare_for_update(asking, group, kind, below, &mut object, old);
        assert_eq!(object, once, "preparing again changes nothing");
        object
    }

    #[test]
    fn a_namespace_is_active_and_held() {
        let made = created("", "Namespace", json!({"metadata": {}, "status": {"phase": "Terminating"}}));
        assert_eq!(made["status"], json!({"phase": "Active"}));
        assert_eq!(made["spec"], json!({"finalizers": ["kubernetes"]}));
        let held = updated("", "Namespace", "", json!({"spec": {"finalizers": []}}), &made);
        assert_eq!(held["spec"]["finalizers"], json!(["kubernetes"]));
        let freed =
            updated("", "Namespace", "finalize", json!({"spec": {"finalizers": []}, "status": {}}), &made);
        assert_eq!(freed["spec"]["finalizers"], json!([]));
        assert_eq!(freed["status"], json!({"phase": "Active"}));
    }

    #[test]
    fn texts_of_a_secret_become_data() {
        let made = created("", "Secret", json!({"data": {"a": "eA=="}, "stringData": {"b": "y", "a": "z"}}));
        assert_eq!(made, json!({"data": {"a": "eg==", "b": "eQ=="}}));
    }

    #[test]
    fn wrong_shapes_do_no_harm() {
        let shapes = [
            json!(null),
            json!([]),
            json!({}),
            json!({"spec": 1, "status": [], "metadata": 3}),
            json!({"spec": {"template": 1, "selector": [], "ports": 1, "containers": 2, "clusterIPs": 1, "versions": 3}}),
            json!({"status": {"conditions": 1}, "stringData": 1}),
        ];
        let kinds = [
            ("", "Pod"),
            ("", "Namespace"),
            ("", "Secret"),
            ("", "Service"),
            ("", "PersistentVolume"),
            ("batch", "Job"),
            ("certificates.k8s.io", "CertificateSigningRequest"),
            ("apiregistration.k8s.io", "APIService"),
            ("apiextensions.k8s.io", "CustomResourceDefinition"),
            ("apps", "Deployment"),
            ("discovery.k8s.io", "EndpointSlice"),
            ("resource.k8s.io", "ResourceClaim"),
        ];
        for (group, kind) in kinds {
            for shape in &shapes {
                let _ = created(group, kind, shape.clone());
                let _ = warnings(group, kind, shape, None);
                for old in &shapes {
                    for below in ["", "status", "approval", "finalize", "resize", "ephemeralcontainers"] {
                        let _ = updated(group, kind, below, shape.clone(), old);
                    }
                }
            }
        }
    }
}
