//! DefaultStorageClass and DefaultIngressClass: claims and ingresses that name no class get the one that says it is for them.
//! Must never change a class that was named, not even the empty one.

use barque_api::kind::GroupResource;
use barque_api::metadata::Metadata;
use barque_api::quota::OLD_STORAGE_CLASS;
use barque_api::status::Status;
use serde_json::Value;

use super::pod::given;
use super::{Admission, Attributes, Operation};
use crate::storage::Storage;

/// Annotations that make a storage class the default.
const STORAGE: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
/// The annotation that makes an ingress class the default.
const INGRESS: [&str; 1] = ["ingressclass.kubernetes.io/is-default-class"];
/// Where ingresses named their class once.
const OLD_INGRESS_CLASS: &str = "kubernetes.io/ingress.class";

impl<S: Storage> Admission<S> {
    /// Names the class of a new claim.
    pub(super) async fn default_storage_class(
        &self,
        attributes: &Attributes<'_>,
        object: &mut Value,
    ) -> Result<(), Status> {
        if attributes.operation != Operation::Create
            || !attributes.is_plainly("", "persistentvolumeclaims")
            || names_class(object, OLD_STORAGE_CLASS, "/spec/storageClassName")
        {
            return Ok(());
        }
        let classes = GroupResource::new("storage.k8s.io", "storageclasses");
        let all = self.collections.objects(&classes, "").await?;
        name(object, "storageClassName", newest_default(&all, &STORAGE));
        Ok(())
    }

    /// Names the class of a new ingress.
    pub(super) async fn default_ingress_class(
        &self,
        attributes: &Attributes<'_>,
        object: &mut Value,
    ) -> Result<(), Status> {
        if attributes.operation != Operation::Create
            || !attributes.is_plainly("networking.k8s.io", "ingresses")
            || names_class(object, OLD_INGRESS_CLASS, "/spec/ingressClassName")
        {
            return Ok(());
        }
        let classes = GroupResource::new("networking.k8s.io", "ingressclasses");
        let all = self.collections.objects(&classes, "").await?;
        name(object, "ingressClassName", newest_default(&all, &INGRESS));
        Ok(())
    }
}

fn names_class(object: &Value, annotation: &str, pointer: &str) -> bool {
    Metadata::of(object).annotation(annotation).is_some() || given(object, pointer).is_some()
}

/// The default, and of several the newest; of those made at once the first by name.
fn newest_default<'a>(classes: &'a [Value], annotations: &[&str]) -> Option<&'a str> {
    let is_default = |class: &Metadata<'_>| {
        annotations.iter().any(|annotation| class.annotation(annotation) == Some("true"))
    };
    let defaults = classes.iter().map(Metadata::of).filter(is_default);
    let order = |class: &Metadata<'a>| {
        (std::cmp::Reverse(class.creation_time().map(barque_api::time::Time::unix)), class.name())
    };
    defaults.min_by_key(order).map(Metadata::name)
}

fn name(object: &mut Value, field: &str, class: Option<&str>) {
    if let (Some(class), Some(spec)) = (class, object.get_mut("spec").and_then(Value::as_object_mut)) {
        spec.insert(field.to_owned(), class.into());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::admission::test_cluster::{Asked, Cluster};

    fn class(kind: &str, name: &str, created: &str, annotation: &str) -> Value {
        let group = if kind == "StorageClass" { "storage.k8s.io" } else { "networking.k8s.io" };
        json!({"apiVersion": format!("{group}/v1"), "kind": kind, "metadata": {"name": name,
            "creationTimestamp": created, "annotations": {annotation: "true"}}})
    }

    #[tokio::test]
    async fn claims_get_the_newest_default_class() {
        let cluster = Cluster::with(&[
            class("StorageClass", "a-old", "2026-01-01T00:00:00Z", STORAGE[0]),
            class("StorageClass", "c-new", "2026-01-02T00:00:00Z", STORAGE[1]),
            class("StorageClass", "b-new", "2026-01-02T00:00:00Z", STORAGE[0]),
            class("StorageClass", "plain", "2026-01-03T00:00:00Z", "x"),
        ])
        .await;
        let asked =
            Asked::create("", "persistentvolumeclaims", "PersistentVolumeClaim").within("a").named("c");
        let named = async |mut claim: Value| {
            cluster.admission.default_storage_class(&asked.attributes(), &mut claim).await.unwrap();
            claim["spec"]["storageClassName"].clone()
        };
        assert_eq!(named(json!({"spec": {}})).await, "b-new");
        assert_eq!(named(json!({"spec": {"storageClassName": ""}})).await, "");
        assert_eq!(named(json!({"spec": {"storageClassName": "own"}})).await, "own");
        let old = json!({"metadata": {"annotations": {OLD_STORAGE_CLASS: "own"}}, "spec": {}});
        assert_eq!(named(old).await, Value::Null);
    }

    #[tokio::test]
    async fn ingresses_get_the_default_class() {
        let cluster = Cluster::with(&[class("IngressClass", "i", "2026-01-01T00:00:00Z", INGRESS[0])]).await;
        let asked = Asked::create("networking.k8s.io", "ingresses", "Ingress").within("a").named("c");
        let mut ingress = json!({"spec": {}});
        cluster.admission.default_ingress_class(&asked.attributes(), &mut ingress).await.unwrap();
        assert_eq!(ingress["spec"]["ingressClassName"], "i");
        let mut old = json!({"metadata": {"annotations": {OLD_INGRESS_CLASS: "n"}}, "spec": {}});
        cluster.admission.default_ingress_class(&asked.attributes(), &mut old).await.unwrap();
        assert_eq!(old["spec"], json!({}));
    }
}
