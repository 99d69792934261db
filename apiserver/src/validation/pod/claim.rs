//! Claims for volumes that are made for a pod.

use barque_api::metadata::validate_annotations;
use barque_api::names;

use crate::validation::findings::Findings;
use crate::validation::part::Part;

const ACCESS_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

/// A claim in a volume of a pod: of its metadata there are labels and annotations only.
pub(super) fn check_claim_template(template: &Part<'_>, findings: &mut Findings) {
    let metadata = template.child("metadata");
    if let Some(annotations) = metadata.map("annotations") {
        findings.extend(validate_annotations(annotations, &metadata.at("annotations")));
    }
    findings.labels(&metadata, "labels");
    let others = template.entries("metadata").filter(|(field, value)| {
        let says_something = !value.is_null() && value.as_str() != Some("");
        !["annotations", "labels"].contains(field) && says_something
    });
    for (field, _) in others {
        findings.forbidden(&metadata.at(field), "cannot be set");
    }
    check_claim_spec(&template.child("spec"), findings);
}

/// What a claim asks for (`core/v1` PersistentVolumeClaimSpec).
pub(in crate::validation) fn check_claim_spec(spec: &Part<'_>, findings: &mut Findings) {
    let modes = spec.at("accessModes");
    if spec.list("accessModes").is_empty() {
        findings.required(&modes, "at least 1 access mode is required");
    }
    findings.selector(spec, "selector");
    for mode in spec.texts("accessModes").filter(|mode| !ACCESS_MODES.contains(mode)) {
        findings.not_supported(&modes, mode, &ACCESS_MODES);
    }
    let (alone, together): (Vec<_>, Vec<_>) = spec
        .texts("accessModes")
        .filter(|mode| ACCESS_MODES.contains(mode))
        .partition(|mode| *mode == "ReadWriteOncePod");
    if !alone.is_empty() && !together.is_empty() {
        findings.forbidden(&modes, "may not use ReadWriteOncePod with other access modes");
    }
    check_storage(spec, findings);
    for class in ["storageClassName", "volumeAttributesClassName"] {
        let name = spec.text(class);
        if !name.is_empty() {
            findings.dns_subdomain(&spec.at(class), name);
        }
    }
    findings.word_if_given(spec, "volumeMode", &["Block", "Filesystem"]);
    for source in ["dataSource", "dataSourceRef"] {
        if let Some(source) = spec.given(source) {
            check_data_source(&source, findings);
        }
    }
    let (source, reference) = (spec.child("dataSource"), spec.child("dataSourceRef"));
    let fields = |part: &Part<'_>| ["apiGroup", "kind", "name"].map(|field| part.text(field).to_owned());
    if !source.value.is_null() && !reference.value.is_null() {
        if !reference.text("namespace").is_empty() {
            let detail = "may not be specified when dataSourceRef.namespace is specified";
            findings.invalid(&spec.path, source.path.to_string(), detail);
        } else if fields(&source) != fields(&reference) {
            findings.invalid(&spec.path, source.path.to_string(), "must match dataSourceRef");
        }
    }
}

fn check_storage(spec: &Part<'_>, findings: &mut Findings) {
    let resources = spec.child("resources");
    let at = resources.path.key("storage");
    let requests = resources.child("requests");
    if !requests.has("storage") {
        findings.required(&at, "");
    } else if let Some(size) = findings.quantity(requests.get("storage"), &at)
        && size.sign() <= 0
    {
        findings.invalid(&at, size.to_string(), "must be greater than zero");
    }
}

fn check_data_source(source: &Part<'_>, findings: &mut Findings) {
    findings.needs(source, "name");
    findings.needs(source, "kind");
    let (group, kind) = (source.text("apiGroup"), source.text("kind"));
    if group.is_empty() {
        if kind != "PersistentVolumeClaim" {
            let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            findings.invalid(&source.path, kind, detail);
        }
    } else {
        findings.dns_subdomain(&source.at("apiGroup"), group);
    }
    let namespace = source.text("namespace");
    if !namespace.is_empty() {
        findings.each(&source.at("namespace"), namespace, names::dns_label(namespace));
    }
}

#[cfg(test)]
mod tests {
    use barque_api::field::FieldPath;
    use serde_json::{Value, json};

    use super::*;
    use crate::validation::tests::told;

    #[test]
    fn claims_and_what_is_wrong_with_them() {
        let right = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
        let table: &[(Value, &[&str])] = &[
            (json!({"spec": right, "metadata": {"labels": {"a": "b"}}}), &[]),
            (
                json!({"spec": right, "metadata": {"name": "x"}}),
                &["t.metadata.name: Forbidden: cannot be set"],
            ),
            (
                json!({"spec": {}}),
                &[
                    "t.spec.accessModes: Required value: at least 1 access mode is required",
                    "t.spec.resources[storage]: Required value",
                ],
            ),
            (
                json!({"spec": {"accessModes": ["ReadWriteOncePod", "ReadWriteMany", "x"],
                    "resources": {"requests": {"storage": "0"}}, "dataSource": {"name": "n", "kind": "Pod"}}}),
                &[
                    "t.spec.accessModes: Unsupported value: \"x\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \
                     \"ReadWriteOnce\", \"ReadWriteOncePod\"",
                    "t.spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
                    "t.spec.resources[storage]: Invalid value: \"0\": must be greater than zero",
                    "t.spec.dataSource: Invalid value: \"Pod\": must be 'PersistentVolumeClaim' when referencing the \
                     default apiGroup",
                ],
            ),
        ];
        for (template, expected) in table {
            let part = Part::new(template, FieldPath::of("t"));
            assert_eq!(told(|findings| check_claim_template(&part, findings)), *expected, "{template}");
        }
    }
}
