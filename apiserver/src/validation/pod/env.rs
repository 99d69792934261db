//! Variables of a container, and the fields of its pod that they and files may be made of.

use barque_api::field::FieldPath;
use barque_api::names;
use serde_json::Value;

use crate::validation::findings::Findings;
use crate::validation::part::Part;
use crate::validation::paths::check_not_reserved;

/// Fields of a pod that a variable may hold.
const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields of a pod that a file may hold.
pub(super) const FILE_FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
/// Fields of a pod that have a name for variables or files.
const POD_FIELDS: [&str; 14] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const BYTES: [&str; 13] = ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

/// The variables of a container, one by one and from elsewhere.
pub(super) fn check_env(container: &Part<'_>, findings: &mut Findings) {
    for variable in container.items("env") {
        let name = variable.text("name");
        if name.is_empty() {
            findings.required(&variable.at("name"), "");
        } else {
            findings.each(&variable.at("name"), name, names::env_var_name(name));
        }
        check_value_from(&variable, findings);
    }
    let path = container.at("envFrom");
    for source in container.items("envFrom") {
        let prefix = source.text("prefix");
        if !prefix.is_empty() {
            findings.each(&source.at("prefix"), prefix, names::env_var_name(prefix));
        }
        let kinds: Vec<_> =
            ["configMapRef", "secretRef"].iter().filter_map(|kind| source.given(kind)).collect();
        for kind in &kinds {
            let name = kind.text("name");
            if name.is_empty() {
                findings.required(&kind.at("name"), "");
            } else {
                // The beginning of a name is enough.
                findings.dns_subdomain(&kind.at("name"), name.strip_suffix('-').unwrap_or(name));
            }
        }
        if kinds.is_empty() {
            findings.invalid(&path, "", "must specify one of: `configMapRef` or `secretRef`");
        } else if kinds.len() > 1 {
            findings.invalid(&path, "", "may not have more than one field specified at a time");
        }
    }
}

fn check_value_from(variable: &Part<'_>, findings: &mut Findings) {
    let Some(from) = variable.given("valueFrom") else { return };
    let mut sources = 0;
    if let Some(field) = from.given("fieldRef") {
        sources += 1;
        check_field_ref(&field, &ENV_FIELDS, findings);
    }
    if let Some(resource) = from.given("resourceFieldRef") {
        sources += 1;
        check_resource_ref(&resource, false, findings);
    }
    for kind in ["configMapKeyRef", "secretKeyRef"] {
        if let Some(key) = from.given(kind) {
            sources += 1;
            findings.dns_subdomain(&key.at("name"), key.text("name"));
            let word = key.text("key");
            if word.is_empty() {
                findings.required(&key.at("key"), "");
            } else {
                findings.each(&key.at("key"), word, names::config_map_key(word));
            }
        }
    }
    if let Some(file) = from.given("fileKeyRef") {
        sources += 1;
        check_file_key(&file, findings);
    }
    let invalid = if sources == 0 {
        "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
    } else if !variable.text("value").is_empty() {
        "may not be specified when `value` is not empty"
    } else if sources > 1 {
        "may not have more than one field specified at a time"
    } else {
        return;
    };
    findings.invalid(&from.path, "", invalid);
}

fn check_file_key(file: &Part<'_>, findings: &mut Findings) {
    let (key, volume) = (file.text("key"), file.text("volumeName"));
    if key.is_empty() {
        findings.required(&file.at("key"), "");
    } else {
        findings.each(&file.at("key"), key, names::env_var_name(key));
    }
    if volume.is_empty() {
        findings.required(&file.at("volumeName"), "");
    } else {
        findings.dns_label(&file.at("volumeName"), volume);
    }
    findings.needs(file, "path");
    check_not_reserved(file.text("path"), &file.at("path"), findings);
}

/// A field of the pod, which must be one of those known.
pub(super) fn check_field_ref(field: &Part<'_>, known: &[&str], findings: &mut Findings) {
    for needed in ["apiVersion", "fieldPath"] {
        if field.text(needed).is_empty() {
            findings.required(&field.at(needed), "");
            return;
        }
    }
    let (version, told) = (field.text("apiVersion"), field.text("fieldPath"));
    let (name, subscript) = subscripted(told).map_or((told, None), |(name, key)| (name, Some(key)));
    let may_be_subscripted = ["metadata.annotations", "metadata.labels"].contains(&name);
    let converted = if version != "v1" {
        Err(format!("unsupported pod version: {version}"))
    } else if subscript.is_some() && !may_be_subscripted {
        Err(format!("field label does not support subscript: {told}"))
    } else if name == "spec.host" {
        // What it was once called.
        Ok("spec.nodeName")
    } else if POD_FIELDS.contains(&name) {
        Ok(name)
    } else {
        Err(format!("field label not supported: {told}"))
    };
    let name = match converted {
        Ok(name) => name,
        Err(why) => {
            findings.invalid(&field.at("fieldPath"), told, format!("error converting fieldPath: {why}"));
            return;
        }
    };
    match subscript {
        Some(key) if name == "metadata.annotations" => {
            findings.each(&field.path, &key.to_lowercase(), names::annotation_key(key));
        }
        Some(key) => findings.label_key(&field.path, key),
        None if !known.contains(&name) => findings.not_supported(&field.at("fieldPath"), name, known),
        None => {}
    }
}

/// The parts of `metadata.labels['app']`.
fn subscripted(path: &str) -> Option<(&str, &str)> {
    path.strip_suffix("']")?.split_once("['").filter(|(name, _)| !name.is_empty())
}

/// A resource of a container, told by its name where a whole pod is asked.
pub(super) fn check_resource_ref(resource: &Part<'_>, of_pod: bool, findings: &mut Findings) {
    let name = resource.text("resource");
    if of_pod && resource.text("containerName").is_empty() {
        findings.required(&resource.at("containerName"), "");
    } else if name.is_empty() {
        findings.required(&resource.at("resource"), "");
    } else if !RESOURCES.contains(&name) && !is_huge_pages(name) {
        findings.not_supported(&resource.at("resource"), name, &RESOURCES);
    }
    check_divisor(name, resource.get("divisor"), &resource.at("divisor"), findings);
}

fn is_huge_pages(resource: &str) -> bool {
    ["limits.hugepages-", "requests.hugepages-"].iter().any(|prefix| resource.starts_with(prefix))
}

fn check_divisor(resource: &str, divisor: &Value, path: &FieldPath, findings: &mut Findings) {
    let Some(divisor) = findings.quantity(divisor, path).filter(|divisor| !divisor.is_zero()) else { return };
    let text = divisor.to_string();
    let bytes = BYTES.contains(&text.as_str());
    let (right, detail) = match resource {
        "limits.cpu" | "requests.cpu" => (
            text == "1m" || text == "1",
            "only divisor's values 1m and 1 are supported with the cpu resource".to_owned(),
        ),
        "limits.memory" | "requests.memory" => (bytes, byte_divisors("memory")),
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => {
            (bytes, byte_divisors("local ephemeral storage"))
        }
        _ if is_huge_pages(resource) => (bytes, byte_divisors("hugepages")),
        _ => return,
    };
    if !right {
        findings.invalid(path, resource, detail);
    }
}

fn byte_divisors(resource: &str) -> String {
    format!("only divisor's values {} are supported with the {resource} resource", BYTES.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::validation::tests::told;

    fn checked(container: &Value) -> Vec<String> {
        told(|findings| check_env(&Part::new(container, FieldPath::of("c")), findings))
    }

    #[test]
    fn variables_and_what_is_wrong_with_them() {
        let of = |field: &str| json!({"env": [{"name": "a", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": field}}}]});
        let fields = "supported values: \"metadata.name\", \"metadata.namespace\", \"metadata.uid\", \"spec.nodeName\", \
                      \"spec.serviceAccountName\", \"status.hostIP\", \"status.hostIPs\", \"status.podIP\", \"status.podIPs\"";
        let table = [
            (json!({"env": [{"name": "A", "value": "x"}, {"name": "a.b", "value": ""}]}), vec![]),
            (json!({"env": [{"value": "x"}]}), vec!["c.env[0].name: Required value".to_owned()]),
            (
                json!({"env": [{"name": "a=b"}]}),
                vec![
                    "c.env[0].name: Invalid value: \"a=b\": a valid environment variable name must consist only of \
                     printable ASCII characters other than '='"
                        .to_owned(),
                ],
            ),
            (
                json!({"env": [{"name": "a", "valueFrom": {}}]}),
                vec![
                    "c.env[0].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, \
                     `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
                        .to_owned(),
                ],
            ),
            (
                json!({"env": [{"name": "a", "value": "x", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}),
                vec![
                    "c.env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty"
                        .to_owned(),
                ],
            ),
            (
                json!({"env": [{"name": "a", "valueFrom": {"configMapKeyRef": {"name": "m"}}}]}),
                vec!["c.env[0].valueFrom.configMapKeyRef.key: Required value".to_owned()],
            ),
            (of("metadata.labels['app']"), vec![]),
            (of("status.podIP"), vec![]),
            (
                of("metadata.labels"),
                vec![format!(
                    "c.env[0].valueFrom.fieldRef.fieldPath: Unsupported value: \"metadata.labels\": {fields}"
                )],
            ),
            (
                of("metadata.nam"),
                vec![
                    "c.env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"metadata.nam\": error converting \
                     fieldPath: field label not supported: metadata.nam"
                        .to_owned(),
                ],
            ),
            (
                json!({"env": [{"name": "a", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "10m"}}}]}),
                vec![
                    "c.env[0].valueFrom.resourceFieldRef.divisor: Invalid value: \"limits.cpu\": only divisor's values \
                     1m and 1 are supported with the cpu resource"
                        .to_owned(),
                ],
            ),
            (
                json!({"env": [{"name": "a", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "../x", "key": "K"}}}]}),
                vec![
                    "c.env[0].valueFrom.fileKeyRef.path: Invalid value: \"../x\": must not contain '..'".to_owned(),
                ],
            ),
        ];
        for (container, expected) in table {
            assert_eq!(checked(&container), expected, "{container}");
        }
    }

    #[test]
    fn variables_from_elsewhere_name_one_source() {
        assert_eq!(
            checked(
                &json!({"envFrom": [{"prefix": "P_", "configMapRef": {"name": "m"}}, {"secretRef": {}}, {}]})
            ),
            [
                "c.envFrom[1].secretRef.name: Required value",
                "c.envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`",
            ]
        );
    }
}
