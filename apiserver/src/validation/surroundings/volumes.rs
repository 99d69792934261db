//! `PersistentVolume`: what it is made of and how it may change. Must never look at the storage.

use barque_api::field::FieldPath;
use serde_json::{Map, Value};

use super::amounts::check_positive;
use super::node_affinity::check_node_selector;
use super::storage::check_driver_name;
use super::{Change, Findings, Part};
use crate::validation::findings::IMMUTABLE;
use crate::validation::same::{difference, same};

/// How volumes may be mounted.
pub(super) const ACCESS_MODES: [&str; 4] =
    ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
/// What a volume looks like to its users.
pub(super) const VOLUME_MODES: [&str; 2] = ["Block", "Filesystem"];

/// Where the data lies, and which texts or lists must then be given.
const SOURCES: [(&str, &[&str]); 22] = [
    ("hostPath", &["path"]),
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("glusterfs", &["endpoints", "path"]),
    ("flocker", &[]),
    ("nfs", &["server", "path"]),
    ("rbd", &["monitors", "image"]),
    ("quobyte", &["registry", "volume"]),
    ("cephfs", &["monitors"]),
    ("iscsi", &["targetPortal", "iqn"]),
    ("cinder", &["volumeID"]),
    ("fc", &[]),
    ("flexVolume", &["driver"]),
    ("azureFile", &["secretName", "shareName"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("local", &["path"]),
    ("storageos", &["volumeName"]),
    ("csi", &["volumeHandle"]),
];
const HOST_PATH_TYPES: [&str; 8] =
    ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

/// What is wrong with a `PersistentVolume`.
pub(super) fn check_volume(change: &Change<'_>, findings: &mut Findings) {
    if !change.subresource.is_empty() {
        return;
    }
    let spec = change.new.child("spec");
    check_spec(&spec, findings);
    if let Some(old) = &change.old {
        check_changed(&spec, &old.child("spec"), findings);
    }
}

/// How a volume or a claim may be mounted.
pub(super) fn check_access_modes(spec: &Part<'_>, findings: &mut Findings) {
    let at = spec.at("accessModes");
    for mode in spec.texts("accessModes").filter(|mode| !ACCESS_MODES.contains(mode)) {
        findings.not_supported(&at, mode, &ACCESS_MODES);
    }
    let known = || spec.texts("accessModes").filter(|mode| ACCESS_MODES.contains(mode));
    if known().any(|mode| mode == "ReadWriteOncePod") && known().any(|mode| mode != "ReadWriteOncePod") {
        findings.forbidden(&at, "may not use ReadWriteOncePod with other access modes");
    }
}

fn check_spec(spec: &Part<'_>, findings: &mut Findings) {
    if spec.list("accessModes").is_empty() {
        findings.required(&spec.at("accessModes"), "");
    }
    check_access_modes(spec, findings);
    let capacity = spec.map("capacity").cloned().unwrap_or_default();
    if capacity.is_empty() {
        findings.required(&spec.at("capacity"), "");
    }
    if !capacity.contains_key("storage") || capacity.len() > 1 {
        findings.not_supported(&spec.at("capacity"), spec.get("capacity").clone(), &["storage"]);
    }
    for (name, value) in &capacity {
        check_positive(value, &spec.at("capacity").key(name), findings);
    }
    if !spec.text("persistentVolumeReclaimPolicy").is_empty() {
        let known = ["Delete", "Recycle", "Retain"];
        findings.word_if_given(spec, "persistentVolumeReclaimPolicy", &known);
    }
    if let Some(affinity) = spec.given("nodeAffinity") {
        match affinity.given("required") {
            Some(selector) => check_node_selector(&selector, findings),
            None => findings.required(&affinity.at("required"), "must specify required node constraints"),
        }
    }
    check_source(spec, findings);
    let is_root =
        |path: &str| path.starts_with('/') && path.split('/').all(|part| part.is_empty() || part == ".");
    if is_root(spec.child("hostPath").text("path")) && spec.text("persistentVolumeReclaimPolicy") == "Recycle"
    {
        let detail = "may not be 'recycle' for a hostPath mount of '/'";
        findings.forbidden(&spec.at("persistentVolumeReclaimPolicy"), detail);
    }
    if !spec.text("storageClassName").is_empty() {
        findings.dns_subdomain(&spec.at("storageClassName"), spec.text("storageClassName"));
    }
    findings.word_if_given(spec, "volumeMode", &VOLUME_MODES);
    if spec.has("volumeAttributesClassName") {
        let (class, at) = (spec.text("volumeAttributesClassName"), spec.at("volumeAttributesClassName"));
        if class.is_empty() {
            findings.required(&at, "an empty string is disallowed");
        } else {
            findings.dns_subdomain(&at, class);
        }
        if !spec.has("csi") {
            let detail = "has to be specified when using volumeAttributesClassName";
            findings.required(&spec.at("csi"), detail);
        }
    }
}

fn check_source(spec: &Part<'_>, findings: &mut Findings) {
    let mut given = SOURCES.iter().filter_map(|(field, needed)| Some((*field, *needed, spec.given(field)?)));
    let Some((field, needed, source)) = given.next() else {
        findings.required(&spec.path, "must specify a volume type");
        return;
    };
    for (other, ..) in given {
        findings.forbidden(&spec.at(other), "may not specify more than 1 volume type");
    }
    if field == "csi" {
        check_driver_name(source.text("driver"), &source.at("driver"), findings);
    }
    for field in needed {
        if source.text(field).is_empty() && source.list(field).is_empty() {
            findings.required(&source.at(field), "");
        }
    }
    let path = source.text("path");
    match field {
        "hostPath" | "local" => {
            if path.split('/').any(|part| part == "..") {
                findings.invalid(&source.at("path"), path, "must not contain '..'");
            }
            if field == "hostPath" {
                findings.word_if_given(&source, "type", &HOST_PATH_TYPES);
            } else if spec.child("nodeAffinity").child("required").value.is_null() {
                findings.required(&spec.at("nodeAffinity"), "Local volume requires node affinity");
            }
        }
        "nfs" if !path.is_empty() && !path.starts_with('/') => {
            findings.invalid(&source.at("path"), path, "must be an absolute path");
        }
        "csi" => {
            for secret in [
                "controllerPublishSecretRef",
                "nodePublishSecretRef",
                "nodeStageSecretRef",
                "controllerExpandSecretRef",
                "nodeExpandSecretRef",
            ] {
                if let Some(secret) = source.given(secret) {
                    findings.needs(&secret, "name");
                    findings.needs(&secret, "namespace");
                }
            }
        }
        _ => {}
    }
}

fn source_of(spec: &Part<'_>) -> Value {
    let given = SOURCES.iter().filter(|(field, _)| spec.has(field));
    Value::Object(
        given.map(|(field, _)| ((*field).to_owned(), spec.get(field).clone())).collect::<Map<_, _>>(),
    )
}

fn check_changed(spec: &Part<'_>, old: &Part<'_>, findings: &mut Findings) {
    let (before, mut after) = (source_of(old), source_of(spec));
    if before.get("csi").is_some_and(|csi| csi.get("controllerExpandSecretRef").is_none())
        && let Some(csi) = after.get_mut("csi").and_then(Value::as_object_mut)
    {
        csi.remove("controllerExpandSecretRef");
    }
    if !same(&before, &after) {
        let changes = difference(&before, &after, &FieldPath::of("spec"));
        let detail = format!("spec.persistentvolumesource is immutable after creation\n{changes}");
        findings.forbidden(&FieldPath::of("spec.persistentvolumesource"), detail);
    }
    for field in ["volumeMode", "nodeAffinity"] {
        let may_be_set = field == "nodeAffinity" && !old.has(field);
        if !may_be_set && !same(spec.get(field), old.get(field)) {
            findings.invalid(&FieldPath::of(field), spec.get(field).clone(), IMMUTABLE);
        }
    }
    if old.has("volumeAttributesClassName") && !spec.has("volumeAttributesClassName") {
        let at = spec.at("volumeAttributesClassName");
        findings.forbidden(&at, "update from non-nil value to nil is forbidden");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::told;
    use super::*;

    fn volume(changes: Value) -> Value {
        let mut spec = json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}});
        spec.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        json!({"spec": spec})
    }

    #[test]
    fn volumes_and_what_is_wrong_with_them() {
        let nfs = json!({"server": "s", "path": "/p"});
        let table = [
            (json!({"nfs": nfs}), None),
            (json!({}), Some("spec: Required value: must specify a volume type")),
            (
                json!({"nfs": nfs, "hostPath": {"path": "/a"}}),
                Some("spec.nfs: Forbidden: may not specify more than 1 volume type"),
            ),
            (
                json!({"hostPath": {"path": "/a/../b"}}),
                Some("spec.hostPath.path: Invalid value: \"/a/../b\": must not contain '..'"),
            ),
            (
                json!({"local": {"path": "/a"}}),
                Some("spec.nodeAffinity: Required value: Local volume requires node affinity"),
            ),
            (
                json!({"nfs": nfs, "capacity": {"storage": "0"}}),
                Some("spec.capacity[storage]: Invalid value: \"0\": must be greater than zero"),
            ),
            (
                json!({"nfs": nfs, "accessModes": ["ReadWriteOncePod", "ReadWriteOnce"]}),
                Some("spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes"),
            ),
            (json!({"csi": {"driver": "a.io"}}), Some("spec.csi.volumeHandle: Required value")),
        ];
        for (changes, expected) in table {
            let expected: Vec<&str> = expected.into_iter().collect();
            assert_eq!(told("", "PersistentVolume", &volume(changes.clone()), None), expected, "{changes}");
        }
    }

    #[test]
    fn where_the_data_lies_stays() {
        let of = |path: &str| volume(json!({"nfs": {"server": "s", "path": path}}));
        assert!(told("", "PersistentVolume", &of("/a"), Some(&of("/a"))).is_empty());
        assert_eq!(
            told("", "PersistentVolume", &of("/b"), Some(&of("/a"))),
            [
                "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation\n- \
             spec.nfs.path: \"/a\"\n+ spec.nfs.path: \"/b\"\n"
            ]
        );
    }
}
