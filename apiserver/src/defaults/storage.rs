//! Volumes, claims, classes and drivers.

use serde_json::{Value, json};

use super::fill::{inside, made, put};

pub(super) fn fill_kind(group: &str, kind: &str, object: &mut Value) -> bool {
    match (group, kind) {
        ("", "PersistentVolume") => {
            if let Some(spec) = inside(object, "spec") {
                put(spec, "persistentVolumeReclaimPolicy", "Retain");
                put(spec, "volumeMode", "Filesystem");
                fill_source(spec);
            }
            if let Some(status) = made(object, "status") {
                put(status, "phase", "Pending");
            }
        }
        ("", "PersistentVolumeClaim") => {
            if let Some(spec) = inside(object, "spec") {
                put(spec, "volumeMode", "Filesystem");
            }
            if let Some(status) = made(object, "status") {
                put(status, "phase", "Pending");
            }
        }
        ("storage.k8s.io", "StorageClass") => {
            put(object, "reclaimPolicy", "Delete");
            put(object, "volumeBindingMode", "Immediate");
        }
        ("storage.k8s.io", "CSIDriver") => {
            if let Some(spec) = made(object, "spec") {
                put(spec, "attachRequired", true);
                for field in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
                    put(spec, field, false);
                }
                put(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
                put(spec, "volumeLifecycleModes", json!(["Persistent"]));
            }
        }
        _ => return false,
    }
    true
}

/// Where a volume comes from, of a pod or a persistent one.
pub(super) fn fill_source(volume: &mut Value) {
    let table: [(&str, &[(&str, Value)]); 5] = [
        ("hostPath", &[("type", json!(""))]),
        ("iscsi", &[("iscsiInterface", json!("default"))]),
        ("rbd", &[("pool", json!("rbd")), ("user", json!("admin")), ("keyring", json!("/etc/ceph/keyring"))]),
        ("scaleIO", &[("storageMode", json!("ThinProvisioned")), ("fsType", json!("xfs"))]),
        (
            "azureDisk",
            &[
                ("cachingMode", json!("ReadWrite")),
                ("fsType", json!("ext4")),
                ("kind", json!("Shared")),
                ("readOnly", json!(false)),
            ],
        ),
    ];
    for (kind, fields) in table {
        if let Some(source) = inside(volume, kind) {
            for (field, value) in fields {
                put(source, field, value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::defaults::tests::filled;

    #[test]
    fn volumes_outlive_their_claims_unless_they_say_so() {
        let volume = filled("", "PersistentVolume", json!({"spec": {"hostPath": {"path": "/a"}}}));
        let expected = json!({
            "hostPath": {"path": "/a", "type": ""},
            "persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem",
        });
        assert_eq!((&volume["spec"], &volume["status"]["phase"]), (&expected, &json!("Pending")));
    }

    #[test]
    fn classes_delete_and_bind_at_once() {
        let class = filled("storage.k8s.io", "StorageClass", json!({"provisioner": "p"}));
        assert_eq!(
            (&class["reclaimPolicy"], &class["volumeBindingMode"]),
            (&json!("Delete"), &json!("Immediate"))
        );
        let driver = filled("storage.k8s.io", "CSIDriver", json!({}));
        assert_eq!(driver["spec"]["volumeLifecycleModes"], json!(["Persistent"]));
    }
}
