//! StorageObjectInUseProtection and PersistentVolumeClaimResize: volumes and claims do not go while they are used, and a claim
//! grows only where its class lets it. Must never judge a claim that gets smaller: validation does.

use barque_api::metadata::{Metadata, MetadataMut};
use barque_api::quantity::Quantity;
use barque_api::quota::class_of;
use barque_api::status::Status;
use serde_json::Value;

use super::pod::text;
use super::{Admission, Attributes, Operation};
use crate::storage::Storage;

/// Puts the finalizer into a new volume, claim or class of attributes that keeps it while it is used.
pub(super) fn protect(attributes: &Attributes<'_>, object: &mut Value) {
    let finalizer = match (&*attributes.resource.group, &*attributes.resource.resource) {
        ("", "persistentvolumeclaims") => "kubernetes.io/pvc-protection",
        ("", "persistentvolumes") => "kubernetes.io/pv-protection",
        ("storage.k8s.io", "volumeattributesclasses") => "kubernetes.io/vac-protection",
        _ => return,
    };
    if attributes.operation == Operation::Create
        && attributes.subresource.is_empty()
        && !Metadata::of(object).has_finalizer(finalizer)
        && let Some(mut metadata) = MetadataMut::of(object)
    {
        metadata.add_finalizer(finalizer);
    }
}

impl<S: Storage> Admission<S> {
    /// Whether a claim may grow.
    pub(super) async fn check_expansion(
        &self,
        attributes: &Attributes<'_>,
        object: &Value,
    ) -> Result<(), Status> {
        let (Operation::Update, Some(old)) = (attributes.operation, attributes.old) else { return Ok(()) };
        if !attributes.is_plainly("", "persistentvolumeclaims") || size(object) <= size(old) {
            return Ok(());
        }
        if text(old, "/status/phase") != "Bound" {
            return Err(attributes.forbidden("Only bound persistent volume claims can be expanded"));
        }
        let name = class_of(object);
        if !name.is_empty() && name == class_of(old) {
            let class = self.found("storage.k8s.io", "storageclasses", "", name).await?;
            let allowed = class.and_then(|class| class.get("allowVolumeExpansion")?.as_bool());
            if allowed == Some(true) {
                return Ok(());
            }
        }
        Err(attributes.forbidden(
            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support \
             resize",
        ))
    }
}

fn size(claim: &Value) -> Option<Quantity> {
    Quantity::of_value(claim.pointer("/spec/resources/requests/storage")?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::admission::test_cluster::{Asked, Cluster};

    #[test]
    fn what_is_used_is_protected() {
        let table = [
            ("", "persistentvolumeclaims", json!(["kubernetes.io/pvc-protection"])),
            ("", "persistentvolumes", json!(["kubernetes.io/pv-protection"])),
            ("storage.k8s.io", "volumeattributesclasses", json!(["kubernetes.io/vac-protection"])),
            ("", "configmaps", json!(null)),
        ];
        for (group, resource, expected) in table {
            let asked = Asked::create(group, resource, "X");
            let mut object = json!({"metadata": {"name": "x"}});
            for _ in 0..2 {
                protect(&asked.attributes(), &mut object);
            }
            assert_eq!(object["metadata"].get("finalizers").unwrap_or(&Value::Null), &expected);
        }
    }

    #[tokio::test]
    async fn claims_grow_where_their_class_lets_them() {
        let class = |name: &str, grows: bool| {
            json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name},
                "allowVolumeExpansion": grows})
        };
        let cluster = Cluster::with(&[class("grows", true), class("stays", false)]).await;
        let claim = |size: &str, class: &str, phase: &str| {
            json!({"spec": {"storageClassName": class, "resources": {"requests": {"storage": size}}},
                "status": {"phase": phase}})
        };
        let refused = "persistentvolumeclaims \"c\" is forbidden: only dynamically provisioned pvc can be resized and the \
                       storageclass that provisions the pvc must support resize";
        let pending =
            "persistentvolumeclaims \"c\" is forbidden: Only bound persistent volume claims can be expanded";
        let table = [
            (claim("1Gi", "grows", "Bound"), "2Gi", ""),
            (claim("1Gi", "stays", "Bound"), "2Gi", refused),
            (claim("1Gi", "", "Bound"), "2Gi", refused),
            (claim("1Gi", "gone", "Bound"), "2Gi", refused),
            (claim("1Gi", "grows", "Pending"), "2Gi", pending),
            (claim("1Gi", "stays", "Bound"), "1024Mi", ""),
        ];
        for (old, size, expected) in table {
            let mut new = old.clone();
            new["spec"]["resources"]["requests"]["storage"] = size.into();
            let asked =
                Asked::create("", "persistentvolumeclaims", "PersistentVolumeClaim").within("a").named("c");
            let asked = asked.over(old);
            let answer = cluster.admission.check_expansion(&asked.attributes(), &new).await;
            assert_eq!(answer.err().map(|status| status.message).unwrap_or_default(), expected);
        }
    }
}
