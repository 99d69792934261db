//! What rules ask of objects of every kind. Vocabulary.

use barque_api::labels::Selector;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use kube::Resource;
use kube::core::ObjectMeta;

/// Its namespace, empty for kinds that have none, and its name.
pub(crate) fn place<K: Resource>(object: &K) -> (&str, &str) {
    let meta = object.meta();
    (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

/// `namespace/name`, or the name alone.
pub(crate) fn shown((namespace, name): (&str, &str)) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}

/// Its uid.
pub(crate) fn uid<K: Resource>(object: &K) -> &str {
    object.meta().uid.as_deref().unwrap_or_default()
}

/// Whether somebody has deleted it, and it is still there.
pub(crate) fn is_deleting<K: Resource>(object: &K) -> bool {
    object.meta().deletion_timestamp.is_some()
}

/// Its controller.
pub(crate) fn controller(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// A selector of an object; nothing when it is not valid.
pub(crate) fn selector(selector: &LabelSelector) -> Option<Selector> {
    let value = serde_json::to_value(selector).ok()?;
    Selector::of_object(Some(&value)).ok()
}

/// Whether the labels of an object match.
pub(crate) fn matches<K: Resource>(selector: &Selector, object: &K) -> bool {
    selector.matches(&object.meta().labels.as_ref())
}
