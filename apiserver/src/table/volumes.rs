//! Cells of storage: volumes, claims, classes, drivers, devices.

use serde_json::Value;

use super::text::{Now, at, is_true, items, joined, number_or_text, text, text_or, words};

pub(super) fn cells(group: &str, kind: &str, object: &Value, now: Now) -> Option<Vec<Value>> {
    let name = || text(object, "/metadata/name");
    let age = || now.since(object, "/metadata/creationTimestamp");
    let flag = |pointer: &str| is_true(object, pointer).into();
    Some(match (group, kind) {
        ("", "PersistentVolume") => {
            let claim = match at(object, "/spec/claimRef") {
                Value::Null => String::new(),
                found => format!("{}/{}", words(found, "/namespace"), words(found, "/name")),
            };
            vec![
                name(),
                number_or_text(at(object, "/spec/capacity/storage")).into(),
                access_modes(object, "/spec/accessModes").into(),
                text(object, "/spec/persistentVolumeReclaimPolicy"),
                phase(object),
                claim.into(),
                class(object),
                text_or(object, "/spec/volumeAttributesClassName", "<unset>"),
                text(object, "/status/reason"),
                age(),
                text_or(object, "/spec/volumeMode", "<unset>"),
            ]
        }
        ("", "PersistentVolumeClaim") => {
            let bound = !words(object, "/spec/volumeName").is_empty();
            let (capacity, modes) = if bound {
                let capacity = number_or_text(at(object, "/status/capacity/storage"));
                (capacity, access_modes(object, "/status/accessModes"))
            } else {
                (String::new(), String::new())
            };
            vec![
                name(),
                phase(object),
                text(object, "/spec/volumeName"),
                capacity.into(),
                modes.into(),
                class(object),
                text_or(object, "/spec/volumeAttributesClassName", "<unset>"),
                age(),
                text_or(object, "/spec/volumeMode", "<unset>"),
            ]
        }
        ("storage.k8s.io", "StorageClass") => {
            let default =
                at(object, "/metadata/annotations/storageclass.kubernetes.io~1is-default-class") == "true";
            let name = if default {
                format!("{} (default)", words(object, "/metadata/name")).into()
            } else {
                name()
            };
            vec![
                name,
                text(object, "/provisioner"),
                text_or(object, "/reclaimPolicy", "Delete"),
                text_or(object, "/volumeBindingMode", "Immediate"),
                is_true(object, "/allowVolumeExpansion").to_string().into(),
                age(),
            ]
        }
        ("storage.k8s.io", "VolumeAttachment") => vec![
            name(),
            text(object, "/spec/attacher"),
            text(object, "/spec/source/persistentVolumeName"),
            text(object, "/spec/nodeName"),
            flag("/status/attached"),
            age(),
        ],
        ("storage.k8s.io", "VolumeAttributesClass") => vec![name(), text(object, "/driverName"), age()],
        ("storage.k8s.io", "CSINode") => vec![name(), items(object, "/spec/drivers").len().into(), age()],
        ("storage.k8s.io", "CSIDriver") => {
            let audiences = items(object, "/spec/tokenRequests").iter().map(|one| words(one, "/audience"));
            let modes = items(object, "/spec/volumeLifecycleModes").iter().filter_map(Value::as_str);
            // Attaching is what drivers do unless they say otherwise.
            let attaches = at(object, "/spec/attachRequired").as_bool().unwrap_or(true);
            vec![
                name(),
                attaches.into(),
                flag("/spec/podInfoOnMount"),
                flag("/spec/storageCapacity"),
                joined(audiences).unwrap_or_else(|| "<unset>".into()).into(),
                flag("/spec/requiresRepublish"),
                joined(modes).unwrap_or_else(|| "<unset>".into()).into(),
                age(),
            ]
        }
        ("storage.k8s.io", "CSIStorageCapacity") => {
            vec![name(), text(object, "/storageClassName"), number_or_text(at(object, "/capacity")).into()]
        }
        ("resource.k8s.io", "DeviceTaintRule") => vec![
            name(),
            text(object, "/spec/taint/key"),
            text(object, "/spec/taint/value"),
            text(object, "/spec/taint/effect"),
            now.since(object, "/spec/taint/timeAdded"),
            age(),
        ],
        ("resource.k8s.io", "ResourceClaim") => vec![name(), claim_state(object).into(), age()],
        ("resource.k8s.io", "ResourceSlice") => vec![
            name(),
            text(object, "/spec/nodeName"),
            text(object, "/spec/driver"),
            text(object, "/spec/pool/name"),
            age(),
        ],
        _ => return None,
    })
}

fn phase(object: &Value) -> Value {
    if at(object, "/metadata/deletionTimestamp").is_null() {
        text(object, "/status/phase")
    } else {
        "Terminating".into()
    }
}

/// The class; an annotation may still name it.
fn class(object: &Value) -> Value {
    match words(object, "/metadata/annotations/volume.beta.kubernetes.io~1storage-class") {
        "" => text(object, "/spec/storageClassName"),
        class => class.into(),
    }
}

fn access_modes(object: &Value, pointer: &str) -> String {
    let modes = items(object, pointer);
    let short = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let given = short.iter().filter(|(mode, _)| modes.iter().any(|one| one == mode)).map(|(_, short)| *short);
    joined(given).unwrap_or_default()
}

fn claim_state(claim: &Value) -> String {
    let deleted = !at(claim, "/metadata/deletionTimestamp").is_null();
    let mut states = Vec::new();
    if deleted {
        states.push("deleted");
    }
    if !at(claim, "/status/allocation").is_null() {
        states.push("allocated");
        if count_of_users(claim) > 0 {
            states.push("reserved");
        }
    } else if !deleted {
        states.push("pending");
    }
    states.join(",")
}

fn count_of_users(claim: &Value) -> usize {
    items(claim, "/status/reservedFor").len()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::table::tests::noon;

    #[test]
    fn a_claim_tells_its_volume_once_it_is_bound() {
        let claim = |volume: &str| {
            let object = json!({
                "metadata": {"name": "a"},
                "spec": {"volumeName": volume, "storageClassName": "fast", "volumeMode": "Filesystem"},
                "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce"]},
            });
            cells("", "PersistentVolumeClaim", &object, noon()).unwrap()
        };
        assert_eq!(claim("pv")[1..6], ["Bound", "pv", "1Gi", "RWO,RWX", "fast"].map(Value::from));
        assert_eq!(claim("")[3..5], ["", ""].map(Value::from));
    }

    #[test]
    fn the_default_class_says_so() {
        let annotations = json!({"storageclass.kubernetes.io/is-default-class": "true"});
        let object = json!({"metadata": {"name": "a", "annotations": annotations}, "provisioner": "p"});
        let cells = cells("storage.k8s.io", "StorageClass", &object, noon()).unwrap();
        assert_eq!(cells[..5], ["a (default)", "p", "Delete", "Immediate", "false"].map(Value::from));
    }

    #[test]
    fn claims_of_devices_tell_their_state() {
        assert_eq!(claim_state(&json!({})), "pending");
        assert_eq!(
            claim_state(&json!({"status": {"allocation": {}, "reservedFor": [{}]}})),
            "allocated,reserved"
        );
        assert_eq!(
            claim_state(&json!({"metadata": {"deletionTimestamp": "2026-01-02T11:00:00Z"}})),
            "deleted"
        );
    }
}
