//! Volumes that are disks and shares of somebody else.

use barque_api::field::FieldError;
use barque_api::names;

use crate::validation::findings::Findings;
use crate::validation::part::Part;

const DRIVER_LIMIT: usize = 63;
const QUOBYTE_REGISTRY: &str = "must be a host:port pair or multiple pairs separated by commas";

/// The source of a volume of one of these kinds.
pub(super) fn check_disk(kind: &str, source: &Part<'_>, findings: &mut Findings) {
    let mut needs = |fields: &[&str]| fields.iter().for_each(|field| findings.needs(source, field));
    match kind {
        "gcePersistentDisk" => {
            needs(&["pdName"]);
            check_partition(source, findings);
        }
        "awsElasticBlockStore" => {
            needs(&["volumeID"]);
            check_partition(source, findings);
        }
        "nfs" => {
            needs(&["server", "path"]);
            if !source.text("path").starts_with('/') {
                findings.invalid(&source.at("path"), source.text("path"), "must be an absolute path");
            }
        }
        "iscsi" => check_iscsi(source, findings),
        "glusterfs" => needs(&["endpoints", "path"]),
        "flocker" => check_flocker(source, findings),
        "rbd" => {
            if source.list("monitors").is_empty() {
                findings.required(&source.at("monitors"), "");
            }
            findings.needs(source, "image");
        }
        "cephfs" if source.list("monitors").is_empty() => findings.required(&source.at("monitors"), ""),
        "cinder" => {
            needs(&["volumeID"]);
            check_secret_name(source, findings);
        }
        "quobyte" => check_quobyte(source, findings),
        "fc" => check_fibre_channel(source, findings),
        "flexVolume" => check_flex(source, findings),
        "azureFile" => needs(&["secretName", "shareName"]),
        "azureDisk" => check_azure_disk(source, findings),
        "vsphereVolume" => needs(&["volumePath"]),
        "photonPersistentDisk" => needs(&["pdID"]),
        "portworxVolume" => needs(&["volumeID"]),
        "scaleIO" => needs(&["gateway", "system", "volumeName"]),
        "storageos" => check_storage_os(source, findings),
        "csi" => check_csi(source, findings),
        _ => {}
    }
}

fn check_partition(source: &Part<'_>, findings: &mut Findings) {
    let partition = source.count("partition");
    if !(0..=255).contains(&partition) {
        findings.invalid(&source.at("partition"), partition, names::inclusive_range(1, 255));
    }
}

fn check_secret_name(source: &Part<'_>, findings: &mut Findings) {
    if let Some(secret) = source.given("secretRef") {
        findings.needs(&secret, "name");
    }
}

fn check_iscsi(source: &Part<'_>, findings: &mut Findings) {
    findings.needs(source, "targetPortal");
    let name = source.text("iqn");
    if name.is_empty() {
        findings.required(&source.at("iqn"), "");
    } else if let Some(wrong) = iscsi_name(name) {
        findings.invalid(&source.at("iqn"), name, wrong);
    }
    findings.within(source, "lun", 0, 255);
    if (source.flag("chapAuthDiscovery") || source.flag("chapAuthSession")) && !source.has("secretRef") {
        findings.required(&source.at("secretRef"), "");
    }
    if source.has("initiatorName") {
        let name = source.text("initiatorName");
        if let Some(wrong) = iscsi_name(name) {
            findings.invalid(&source.at("initiatorname"), name, wrong);
        }
    }
}

/// What is wrong with a name such as `iqn.2024-01.com.example:disk`.
fn iscsi_name(name: &str) -> Option<&'static str> {
    let exactly = |rest: &str, count: usize| {
        rest.len() == count && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let after = |prefix: &str| name.strip_prefix(prefix).and_then(|rest| rest.get(1..));
    let right = if name.starts_with("iqn") {
        name.split_once("iqn.").is_some_and(|(_, rest)| is_iqn(rest))
    } else if name.starts_with("eui") {
        after("eui").is_some_and(|rest| exactly(rest, 16))
    } else if name.starts_with("naa") {
        after("naa").is_some_and(|rest| exactly(rest, 32))
    } else {
        return Some("must be valid format starting with iqn, eui, or naa");
    };
    (!right).then_some("must be valid format")
}

/// `2024-01.com.example:disk`: year and month, an authority, and a name of its own.
fn is_iqn(rest: &str) -> bool {
    let bytes = rest.as_bytes();
    let digits =
        |from: usize, to: usize| bytes.get(from..to).is_some_and(|some| some.iter().all(u8::is_ascii_digit));
    let is_dated = digits(0, 4) && bytes.get(4) == Some(&b'-') && digits(5, 7) && bytes.get(7) == Some(&b'.');
    let Some((authority, own)) = rest.get(8..).and_then(|rest| rest.split_once(':')) else { return false };
    is_dated
        && !authority.is_empty()
        && authority.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.')
        && !own.is_empty()
        && !own.contains([',', ';', '*', '&', '$', '|'])
        && !own.contains(char::is_whitespace)
}

fn check_flocker(source: &Part<'_>, findings: &mut Findings) {
    let (name, uuid) = (source.text("datasetName"), source.text("datasetUUID"));
    match (name.is_empty(), uuid.is_empty()) {
        (true, true) => findings.required(&source.path, "one of datasetName and datasetUUID is required"),
        (false, false) => {
            let detail = "datasetName and datasetUUID can not be specified simultaneously";
            findings.invalid(&source.path, "resource", detail);
        }
        _ => {}
    }
    if name.contains('/') {
        findings.invalid(&source.at("datasetName"), name, "must not contain '/'");
    }
}

fn check_quobyte(source: &Part<'_>, findings: &mut Findings) {
    let registry = source.text("registry");
    if registry.is_empty() {
        findings.required(&source.at("registry"), QUOBYTE_REGISTRY);
    } else if source.text("tenant").len() >= 65 {
        let detail = "must be a UUID and may not exceed a length of 64 characters";
        findings.required(&source.at("tenant"), detail);
    } else {
        for pair in registry.split(',') {
            let right = match pair.rsplit_once(':') {
                Some((host, _)) if host.starts_with('[') => host.ends_with(']'),
                Some((host, _)) => !host.contains(':'),
                None => false,
            };
            if !right {
                findings.invalid(&source.at("registry"), registry, QUOBYTE_REGISTRY);
            }
        }
    }
    findings.needs(source, "volume");
}

fn check_fibre_channel(source: &Part<'_>, findings: &mut Findings) {
    let at = source.at("targetWWNs");
    let (targets, ids) = (!source.list("targetWWNs").is_empty(), !source.list("wwids").is_empty());
    if !targets && !ids {
        findings.required(&at, "must specify either targetWWNs or wwids, but not both");
    }
    if targets && ids {
        let detail = "targetWWNs and wwids can not be specified simultaneously";
        findings.invalid(&at, source.get("targetWWNs").clone(), detail);
    }
    if targets && !source.has("lun") {
        findings.required(&source.at("lun"), "lun is required if targetWWNs is specified");
    } else if targets {
        findings.within(source, "lun", 0, 255);
    }
}

fn check_flex(source: &Part<'_>, findings: &mut Findings) {
    findings.needs(source, "driver");
    for (key, _) in source.entries("options") {
        let owner = format!(".{}", key.split('/').next().unwrap_or_default().to_lowercase());
        if owner.ends_with(".kubernetes.io") || owner.ends_with(".k8s.io") {
            let detail = "kubernetes.io and k8s.io namespaces are reserved";
            findings.invalid(&source.at("options").key(key), key, detail);
        }
    }
}

fn check_azure_disk(source: &Part<'_>, findings: &mut Findings) {
    findings.needs(source, "diskName");
    findings.needs(source, "diskURI");
    findings.word_if_given(source, "cachingMode", &["None", "ReadOnly", "ReadWrite"]);
    findings.word_if_given(source, "kind", &["Dedicated", "Managed", "Shared"]);
    if source.has("kind") {
        let (prefix, known) = if source.text("kind") == "Managed" {
            (
                "/subscriptions/",
                "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",
            )
        } else {
            ("https://", "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd")
        };
        if !source.text("diskURI").starts_with(prefix) {
            findings.not_supported(&source.at("diskURI"), source.text("diskURI"), &[known]);
        }
    }
}

fn check_storage_os(source: &Part<'_>, findings: &mut Findings) {
    let (name, namespace) = (source.text("volumeName"), source.text("volumeNamespace"));
    if name.is_empty() {
        findings.required(&source.at("volumeName"), "");
    } else {
        findings.dns_label(&source.at("volumeName"), name);
    }
    if !namespace.is_empty() {
        findings.dns_label(&source.at("volumeNamespace"), namespace);
    }
    check_secret_name(source, findings);
}

fn check_csi(source: &Part<'_>, findings: &mut Findings) {
    let (driver, at) = (source.text("driver"), source.at("driver"));
    if driver.is_empty() {
        findings.required(&at, "");
    }
    if driver.len() > DRIVER_LIMIT {
        findings.push(FieldError::too_long(&at, DRIVER_LIMIT));
    }
    findings.each(&at, driver, names::dns_subdomain(&driver.to_lowercase()));
    if let Some(secret) = source.given("nodePublishSecretRef") {
        if secret.text("name").is_empty() {
            findings.required(&secret.at("name"), "");
        } else {
            findings.dns_subdomain(&source.at("name"), secret.text("name"));
        }
    }
}

#[cfg(test)]
mod tests {
    use barque_api::field::FieldPath;
    use serde_json::{Value, json};

    use super::*;
    use crate::validation::tests::told;

    #[test]
    fn names_of_iscsi() {
        let wrong = Some("must be valid format");
        let table = [
            ("iqn.2024-01.com.example:disk", None),
            ("iqn.2024-1.com.example:disk", wrong),
            ("iqn.2024-01.com.example", wrong),
            ("iqn.2024-01.com.example:a b", wrong),
            ("eui.0123456789ABCDEF", None),
            ("eui.012", wrong),
            ("naa.0123456789abcdef0123456789abcdef", None),
            ("iqn", wrong),
            ("x", Some("must be valid format starting with iqn, eui, or naa")),
        ];
        for (name, expected) in table {
            assert_eq!(iscsi_name(name), expected, "{name}");
        }
    }

    #[test]
    fn disks_and_what_is_wrong_with_them() {
        let table: &[(&str, Value, &[&str])] = &[
            (
                "gcePersistentDisk",
                json!({"partition": 256}),
                &[
                    "d.pdName: Required value",
                    "d.partition: Invalid value: 256: must be between 1 and 255, inclusive",
                ],
            ),
            ("glusterfs", json!({"endpoints": "e", "path": "p"}), &[]),
            (
                "flocker",
                json!({"datasetName": "a/b"}),
                &["d.datasetName: Invalid value: \"a/b\": must not contain '/'"],
            ),
            ("rbd", json!({}), &["d.monitors: Required value", "d.image: Required value"]),
            (
                "fc",
                json!({"targetWWNs": ["a"]}),
                &["d.lun: Required value: lun is required if targetWWNs is specified"],
            ),
            (
                "quobyte",
                json!({"registry": "a:1,b", "volume": "v"}),
                &[
                    "d.registry: Invalid value: \"a:1,b\": must be a host:port pair or multiple pairs separated by commas",
                ],
            ),
            (
                "flexVolume",
                json!({"driver": "d", "options": {"kubernetes.io/x": "y", "a": "b"}}),
                &[
                    "d.options[kubernetes.io/x]: Invalid value: \"kubernetes.io/x\": kubernetes.io and k8s.io namespaces are reserved",
                ],
            ),
            (
                "azureDisk",
                json!({"diskName": "n", "diskURI": "x", "kind": "Managed"}),
                &[
                    "d.diskURI: Unsupported value: \"x\": supported values: \"/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}\"",
                ],
            ),
            (
                "csi",
                json!({"driver": "CSI.example.com", "nodePublishSecretRef": {}}),
                &["d.nodePublishSecretRef.name: Required value"],
            ),
            (
                "storageos",
                json!({"volumeName": "A_"}),
                &[
                    "d.volumeName: Invalid value: \"A_\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
                ],
            ),
        ];
        for (kind, source, expected) in table {
            let part = Part::new(source, FieldPath::of("d"));
            assert_eq!(told(|findings| check_disk(kind, &part, findings)), *expected, "{kind}");
        }
    }
}
