//! Volumes as a container sees them: mounts, and block devices.

use std::collections::{BTreeMap, BTreeSet};

use crate::validation::findings::Findings;
use crate::validation::part::Part;
use crate::validation::paths::{check_descending, has_backsteps};

/// What a volume is made of, as far as mounts mind it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum VolumeUse {
    /// A claim, or one that is made for the pod: it may be a block device.
    Claim,
    /// An image.
    Image,
    /// Anything else.
    Other,
}

/// The volumes of a pod by their names; only those that are right.
pub(super) type Volumes<'a> = BTreeMap<&'a str, VolumeUse>;

/// The mounts and devices of a container.
pub(super) fn check_mounts(container: &Part<'_>, volumes: &Volumes<'_>, findings: &mut Findings) {
    let paths_of = |list: &'static str, field: &'static str| -> BTreeMap<&str, &str> {
        container.items(list).map(|item| (item.text("name"), item.text(field))).collect()
    };
    let mounted = paths_of("volumeMounts", "mountPath");
    let devices = paths_of("volumeDevices", "devicePath");
    let mut seen = BTreeSet::new();
    for mount in container.items("volumeMounts") {
        let (name, path) = (mount.text("name"), mount.text("mountPath"));
        findings.needs(&mount, "name");
        if !volumes.contains_key(name) {
            findings.not_found(&mount.at("name"), name);
        }
        findings.needs(&mount, "mountPath");
        if !seen.insert(path) {
            findings.invalid(&mount.at("mountPath"), path, "must be unique");
        }
        if devices.contains_key(name) {
            findings.invalid(&mount.at("name"), name, "must not already exist in volumeDevices");
        }
        if devices.values().any(|other| *other == path) {
            let detail = "must not already exist as a path in volumeDevices";
            findings.invalid(&mount.at("mountPath"), path, detail);
        }
        check_ways(container, &mount, volumes, findings);
    }
    check_devices(container, volumes, &mounted, findings);
}

/// How a volume is mounted. As in Kubernetes most of it is told at the place of all mounts.
fn check_ways(container: &Part<'_>, mount: &Part<'_>, volumes: &Volumes<'_>, findings: &mut Findings) {
    let mounts = container.at("volumeMounts");
    let (sub_path, expression) = (mount.text("subPath"), mount.text("subPathExpr"));
    if volumes.get(mount.text("name")) == Some(&VolumeUse::Image) {
        for field in ["subPath", "subPathExpr"] {
            if !mount.text(field).is_empty() {
                findings.invalid(&mount.at(field), mount.text(field), "not allowed in image volume sources");
            }
        }
    }
    if !sub_path.is_empty() {
        check_descending(sub_path, &mounts.child("subPath"), findings);
    }
    if !expression.is_empty() {
        if !sub_path.is_empty() {
            let detail = "subPathExpr and subPath are mutually exclusive";
            findings.invalid(&mount.at("subPathExpr"), expression, detail);
        }
        check_descending(expression, &mounts.child("subPathExpr"), findings);
    }
    if mount.has("mountPropagation") {
        let at = mounts.child("mountPropagation");
        let known = ["Bidirectional", "HostToContainer", "None"];
        let way = mount.text("mountPropagation");
        if !known.contains(&way) {
            findings.not_supported(&at, way, &known);
        }
        if way == "Bidirectional" && !container.child("securityContext").flag("privileged") {
            let detail = "Bidirectional mount propagation is available only to privileged containers";
            findings.forbidden(&at, detail);
        }
    }
    if mount.has("recursiveReadOnly") {
        let at = mounts.child("recursiveReadOnly");
        match mount.text("recursiveReadOnly") {
            "Disabled" => {}
            "Enabled" | "IfPossible" => {
                if !mount.flag("readOnly") {
                    findings.forbidden(&at, "may only be specified when readOnly is true");
                }
                if mount.has("mountPropagation") && mount.text("mountPropagation") != "None" {
                    let detail = "may only be specified when mountPropagation is None or not specified";
                    findings.forbidden(&at, detail);
                }
            }
            other => findings.not_supported(&at, other, &["Disabled", "Enabled", "IfPossible"]),
        }
    }
}

fn check_devices(
    container: &Part<'_>,
    volumes: &Volumes<'_>,
    mounted: &BTreeMap<&str, &str>,
    findings: &mut Findings,
) {
    let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
    for device in container.items("volumeDevices") {
        let (name, path) = (device.text("name"), device.text("devicePath"));
        let (at_name, at_path) = (device.at("name"), device.at("devicePath"));
        if name.is_empty() {
            findings.required(&at_name, "");
        }
        if names.contains(name) {
            findings.invalid(&at_name, name, "must be unique");
        }
        match volumes.get(name) {
            Some(VolumeUse::Claim) => {}
            Some(_) => {
                let detail =
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                findings.invalid(&at_name, name, detail);
            }
            None => findings.not_found(&at_name, name),
        }
        if path.is_empty() {
            findings.required(&at_path, "");
        }
        if paths.contains(path) {
            findings.invalid(&at_path, path, "must be unique");
        }
        if has_backsteps(path) {
            findings.invalid(&at_path, path, "can not contain backsteps ('..')");
        } else {
            paths.insert(path);
        }
        if mounted.contains_key(name) {
            findings.invalid(&at_name, name, "must not already exist in volumeMounts");
        }
        if mounted.values().any(|other| *other == path) {
            findings.invalid(&at_path, path, "must not already exist as a path in volumeMounts");
        }
        if !name.is_empty() {
            names.insert(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use barque_api::field::FieldPath;
    use serde_json::{Value, json};

    use super::*;
    use crate::validation::tests::told;

    fn checked(container: &Value) -> Vec<String> {
        let volumes = Volumes::from([
            ("v", VolumeUse::Other),
            ("claim", VolumeUse::Claim),
            ("image", VolumeUse::Image),
        ]);
        told(|findings| check_mounts(&Part::new(container, FieldPath::of("c")), &volumes, findings))
    }

    #[test]
    fn mounts_and_what_is_wrong_with_them() {
        let table: &[(Value, &[&str])] = &[
            (
                json!({"volumeMounts": [{"name": "v", "mountPath": "/a"}, {"name": "v", "mountPath": "/b"}]}),
                &[],
            ),
            (
                json!({"volumeMounts": [{"name": "w", "mountPath": "/a"}]}),
                &["c.volumeMounts[0].name: Not found: \"w\""],
            ),
            (
                json!({"volumeMounts": [{"name": "v"}, {"name": "v", "mountPath": "/a"}, {"name": "v", "mountPath": "/a"}]}),
                &[
                    "c.volumeMounts[0].mountPath: Required value",
                    "c.volumeMounts[2].mountPath: Invalid value: \"/a\": must be unique",
                ],
            ),
            (
                json!({"volumeMounts": [{"name": "v", "mountPath": "/a", "subPath": "/x"}]}),
                &["c.volumeMounts.subPath: Invalid value: \"/x\": must be a relative path"],
            ),
            (
                json!({"volumeMounts": [{"name": "image", "mountPath": "/a", "subPathExpr": "x"}]}),
                &["c.volumeMounts[0].subPathExpr: Invalid value: \"x\": not allowed in image volume sources"],
            ),
            (
                json!({"volumeMounts": [{"name": "v", "mountPath": "/a", "mountPropagation": "Bidirectional"}]}),
                &[
                    "c.volumeMounts.mountPropagation: Forbidden: Bidirectional mount propagation is available only to \
                   privileged containers",
                ],
            ),
            (
                json!({"volumeMounts": [{"name": "v", "mountPath": "/a", "recursiveReadOnly": "Enabled"}]}),
                &["c.volumeMounts.recursiveReadOnly: Forbidden: may only be specified when readOnly is true"],
            ),
            (json!({"volumeDevices": [{"name": "claim", "devicePath": "/dev/x"}]}), &[]),
            (
                json!({"volumeDevices": [{"name": "v", "devicePath": "/dev/../x"}]}),
                &[
                    "c.volumeDevices[0].name: Invalid value: \"v\": can only use volume source type of \
                     PersistentVolumeClaim or Ephemeral for block mode",
                    "c.volumeDevices[0].devicePath: Invalid value: \"/dev/../x\": can not contain backsteps ('..')",
                ],
            ),
        ];
        for (container, expected) in table {
            assert_eq!(checked(container), *expected, "{container}");
        }
    }
}
