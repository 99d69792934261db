//! The volumes of a pod, and the kinds that most pods use.

use std::collections::BTreeSet;

use barque_api::field::FieldPath;

use super::claim::check_claim_template;
use super::disks::check_disk;
use super::env::{FILE_FIELDS, check_field_ref, check_resource_ref};
use super::mounts::{VolumeUse, Volumes};
use super::projected::check_projected;
use crate::validation::findings::Findings;
use crate::validation::part::Part;
use crate::validation::paths::{check_descending, check_no_backsteps, check_not_reserved};

/// Kinds of volumes in the order in which Kubernetes looks at them: the field, the place of errors in it where that has
/// another name, and that of a second kind.
const KINDS: [(&str, &str, &str); 30] = [
    ("emptyDir", "emptyDir", "emptyDir"),
    ("hostPath", "hostPath", "hostPath"),
    ("gitRepo", "gitRepo", "gitRepo"),
    ("gcePersistentDisk", "persistentDisk", "gcePersistentDisk"),
    ("awsElasticBlockStore", "awsElasticBlockStore", "awsElasticBlockStore"),
    ("secret", "secret", "secret"),
    ("nfs", "nfs", "nfs"),
    ("iscsi", "iscsi", "iscsi"),
    ("glusterfs", "glusterfs", "glusterfs"),
    ("flocker", "flocker", "flocker"),
    ("persistentVolumeClaim", "persistentVolumeClaim", "persistentVolumeClaim"),
    ("rbd", "rbd", "rbd"),
    ("cinder", "cinder", "cinder"),
    ("cephfs", "cephfs", "cephFS"),
    ("quobyte", "quobyte", "quobyte"),
    ("downwardAPI", "downwardAPI", "downwarAPI"),
    ("fc", "fc", "fc"),
    ("flexVolume", "flexVolume", "flexVolume"),
    ("configMap", "configMap", "configMap"),
    ("azureFile", "azureFile", "azureFile"),
    ("vsphereVolume", "vsphereVolume", "vsphereVolume"),
    ("photonPersistentDisk", "photonPersistentDisk", "photonPersistentDisk"),
    ("portworxVolume", "portworxVolume", "portworxVolume"),
    ("azureDisk", "azureDisk", "azureDisk"),
    ("storageos", "storageos", "storageos"),
    ("projected", "projected", "projected"),
    ("scaleIO", "scaleIO", "scaleIO"),
    ("csi", "csi", "csi"),
    ("ephemeral", "ephemeral", "ephemeral"),
    ("image", "image", "image"),
];
const HOST_PATHS: [&str; 8] =
    ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

/// All volumes; those that are right are handed back. `pod` is the name of the pod, empty in templates.
pub(super) fn check_volumes<'a>(spec: &Part<'a>, pod: &str, findings: &mut Findings) -> Volumes<'a> {
    let mut made = BTreeSet::new();
    if !pod.is_empty() {
        let ephemeral = spec.items("volumes").filter(|volume| volume.has("ephemeral"));
        made.extend(ephemeral.map(|volume| format!("{pod}-{}", volume.text("name"))));
    }
    let mut volumes = Volumes::new();
    for volume in spec.items("volumes") {
        let name = volume.text("name");
        let before = findings.len();
        check_source(&volume, pod, findings);
        if name.is_empty() {
            findings.required(&volume.at("name"), "");
        } else {
            findings.dns_label(&volume.at("name"), name);
        }
        if volumes.contains_key(name) {
            findings.duplicate(&volume.at("name"), name);
        }
        if findings.len() == before {
            volumes.insert(name, use_of(&volume));
        }
        let claim = volume.child("persistentVolumeClaim");
        if made.contains(claim.text("claimName")) {
            let detail = "must not reference a PVC that gets created for an ephemeral volume";
            findings.invalid(&claim.at("claimName"), claim.text("claimName"), detail);
        }
    }
    volumes
}

fn use_of(volume: &Part<'_>) -> VolumeUse {
    if volume.has("persistentVolumeClaim") || volume.has("ephemeral") {
        VolumeUse::Claim
    } else if volume.has("image") {
        VolumeUse::Image
    } else {
        VolumeUse::Other
    }
}

fn check_source(volume: &Part<'_>, pod: &str, findings: &mut Findings) {
    let mut found = false;
    for (field, place, second_place) in KINDS {
        if !volume.has(field) {
            continue;
        }
        if found {
            findings.forbidden(&volume.at(second_place), "may not specify more than 1 volume type");
        } else {
            found = true;
            let source = Part::new(volume.get(field), volume.at(place));
            check_kind(field, &source, findings);
            let name = volume.text("name");
            if field == "ephemeral" && !pod.is_empty() && !name.is_empty() {
                let claim = format!("{pod}-{name}");
                for wrong in barque_api::names::dns_subdomain(&claim) {
                    let detail = format!("PVC name {claim:?}: {wrong}");
                    findings.invalid(&volume.at("name"), name, detail);
                }
            }
        }
        if field == "iscsi" {
            check_iscsi_names(volume, findings);
        }
    }
    if !found {
        findings.required(&volume.path, "must specify a volume type");
    }
}

fn check_iscsi_names(volume: &Part<'_>, findings: &mut Findings) {
    let iscsi = volume.child("iscsi");
    let name = volume.text("name");
    if iscsi.has("initiatorName") && name.len() + 1 + iscsi.text("targetPortal").len() > 64 {
        let detail = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if \
                      iscsi.initiatorName is specified.";
        findings.invalid(&volume.at("name"), name, detail);
    }
}

fn check_kind(kind: &str, source: &Part<'_>, findings: &mut Findings) {
    match kind {
        "emptyDir" => {
            let limit = barque_api::quantity::Quantity::of_value(source.get("sizeLimit"));
            if limit.is_ok_and(|limit| limit.sign() < 0) {
                let detail = "SizeLimit field must be a valid resource quantity";
                findings.forbidden(&source.at("sizeLimit"), detail);
            }
        }
        "hostPath" => {
            let path = source.text("path");
            if path.is_empty() {
                findings.required(&source.at("path"), "");
            } else {
                check_no_backsteps(path, &source.at("path"), findings);
                findings.word_if_given(source, "type", &HOST_PATHS);
            }
        }
        "gitRepo" => {
            findings.needs(source, "repository");
            check_descending(source.text("directory"), &source.at("directory"), findings);
        }
        "secret" | "configMap" => {
            findings.needs(source, if kind == "secret" { "secretName" } else { "name" });
            check_mode(source, "defaultMode", findings);
            for item in source.items("items") {
                check_key_to_path(&item, findings);
            }
        }
        "persistentVolumeClaim" => findings.needs(source, "claimName"),
        "downwardAPI" => {
            check_mode(source, "defaultMode", findings);
            for file in source.items("items") {
                check_pod_file(&file, &source.path, findings);
            }
        }
        "projected" => {
            check_mode(source, "defaultMode", findings);
            check_projected(source, findings);
        }
        "ephemeral" => match source.given("volumeClaimTemplate") {
            Some(template) => check_claim_template(&template, findings),
            None => findings.required(&source.at("volumeClaimTemplate"), ""),
        },
        "image" => {
            findings.needs(source, "reference");
            findings.word(source, "pullPolicy", &["Always", "IfNotPresent", "Never"]);
        }
        disk => check_disk(disk, source, findings),
    }
}

/// The rights of files.
pub(super) fn check_mode(part: &Part<'_>, field: &str, findings: &mut Findings) {
    if let Some(mode) = part.number(field).filter(|mode| !(0..=0o777).contains(mode)) {
        let detail = "must be a number between 0 and 0777 (octal), both inclusive";
        findings.invalid(&part.at(field), mode, detail);
    }
}

/// A key of a `ConfigMap` or Secret that becomes a file.
pub(super) fn check_key_to_path(item: &Part<'_>, findings: &mut Findings) {
    findings.needs(item, "key");
    findings.needs(item, "path");
    check_not_reserved(item.text("path"), &item.at("path"), findings);
    check_mode(item, "mode", findings);
}

/// A field of the pod that becomes a file. As in Kubernetes its errors are told at the place of the volume.
pub(super) fn check_pod_file(file: &Part<'_>, path: &FieldPath, findings: &mut Findings) {
    let file = Part::new(file.value, path.clone());
    findings.needs(&file, "path");
    check_not_reserved(file.text("path"), &file.at("path"), findings);
    if let Some(field) = file.given("fieldRef") {
        check_field_ref(&field, &FILE_FIELDS, findings);
        if file.has("resourceFieldRef") {
            let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
            findings.invalid(path, "resource", detail);
        }
    } else if let Some(resource) = file.given("resourceFieldRef") {
        check_resource_ref(&resource, true, findings);
    } else {
        findings.required(path, "one of fieldRef and resourceFieldRef is required");
    }
    check_mode(&file, "mode", findings);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::validation::tests::told;

    fn checked(volumes: &Value) -> Vec<String> {
        let spec = json!({"volumes": volumes});
        told(|findings| {
            check_volumes(&Part::root(&spec), "pod", findings);
        })
    }

    #[test]
    fn volumes_and_what_is_wrong_with_them() {
        let table: &[(Value, &[&str])] = &[
            (
                json!([{"name": "a", "emptyDir": {}}, {"name": "b", "configMap": {"name": "m", "defaultMode": 420}}]),
                &[],
            ),
            (json!([{"name": "a"}]), &["volumes[0]: Required value: must specify a volume type"]),
            (json!([{"emptyDir": {}}]), &["volumes[0].name: Required value"]),
            (
                json!([{"name": "a", "emptyDir": {}}, {"name": "a", "emptyDir": {}}]),
                &["volumes[1].name: Duplicate value: \"a\""],
            ),
            (
                json!([{"name": "a", "emptyDir": {}, "hostPath": {"path": "/x"}}]),
                &["volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"],
            ),
            (
                json!([{"name": "a", "hostPath": {"path": "/x/../y", "type": "Dir"}}]),
                &[
                    "volumes[0].hostPath.path: Invalid value: \"/x/../y\": must not contain '..'",
                    "volumes[0].hostPath.type: Unsupported value: \"Dir\": supported values: \"\", \"BlockDevice\", \
                     \"CharDevice\", \"Directory\", \"DirectoryOrCreate\", \"File\", \"FileOrCreate\", \"Socket\"",
                ],
            ),
            (
                json!([{"name": "a", "secret": {"defaultMode": 512, "items": [{"path": "/x"}]}}]),
                &[
                    "volumes[0].secret.secretName: Required value",
                    "volumes[0].secret.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), \
                     both inclusive",
                    "volumes[0].secret.items[0].key: Required value",
                    "volumes[0].secret.items[0].path: Invalid value: \"/x\": must be a relative path",
                ],
            ),
            (
                json!([{"name": "a", "persistentVolumeClaim": {}}]),
                &["volumes[0].persistentVolumeClaim.claimName: Required value"],
            ),
            (
                json!([{"name": "a", "downwardAPI": {"items": [{"path": "l"}]}}]),
                &["volumes[0].downwardAPI: Required value: one of fieldRef and resourceFieldRef is required"],
            ),
            (
                json!([{"name": "a", "nfs": {"server": "s", "path": "x"}}]),
                &["volumes[0].nfs.path: Invalid value: \"x\": must be an absolute path"],
            ),
            (json!([{"name": "a", "image": {"reference": "x", "pullPolicy": "Always"}}]), &[]),
            (
                json!([{"name": "a", "ephemeral": {}}, {"name": "b", "persistentVolumeClaim": {"claimName": "pod-a"}}]),
                &[
                    "volumes[0].ephemeral.volumeClaimTemplate: Required value",
                    "volumes[1].persistentVolumeClaim.claimName: Invalid value: \"pod-a\": must not reference a PVC that \
                     gets created for an ephemeral volume",
                ],
            ),
        ];
        for (volumes, expected) in table {
            assert_eq!(checked(volumes), *expected, "{volumes}");
        }
    }
}
