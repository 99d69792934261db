//! What is wrong with a definition, in the order and the words of Kubernetes. Pure. Must never look at other definitions:
//! whether names are free is told in conditions.
//!
//! What all versions say alike is told at the place that it had before versions could differ: `spec.validation` for one
//! schema, and so on.

pub(super) mod approval;
pub(super) mod conversion;
mod names;
mod version;

use barque_api::field::{FieldError, FieldPath};
use barque_api::names::{dns_1035_label, dns_subdomain};
use serde_json::Value;

use super::{conditions, is_true, list, text, versions};

/// Everything that is wrong with a definition but its metadata, whose name is judged here too. `old` is what it replaces.
#[must_use]
pub fn validate(definition: &Value, old: Option<&Value>, subresource: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if old.is_none() {
        errors.extend(name(definition));
    }
    let status = FieldPath::of("status");
    let accepted = definition.pointer("/status/acceptedNames").unwrap_or(&Value::Null);
    if subresource == "status" {
        names::judge(accepted, &status.child("acceptedNames"), &mut errors);
        return errors;
    }
    spec(definition, old, &mut errors);
    if let Some(old) = old {
        immutable(definition, old, &mut errors);
    }
    names::judge(accepted, &status.child("acceptedNames"), &mut errors);
    stored_versions(definition, &status.child("storedVersions"), &mut errors);
    errors.extend(approval::judge(definition, old));
    let preserves =
        |one: &Value| one.pointer("/spec/preserveUnknownFields").is_some_and(|flag| *flag == true);
    if preserves(definition) && !old.is_some_and(preserves) {
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in \
                   spec.versions[*].schema instead";
        errors.push(FieldError::invalid(&FieldPath::of("spec.preserveUnknownFields"), true, why));
    }
    errors
}

fn name(definition: &Value) -> Vec<FieldError> {
    let name = text(definition, "/metadata/name");
    if name.is_empty() {
        return Vec::new();
    }
    let mut wrong = dns_subdomain(name);
    let (plural, group) = (text(definition, "/spec/names/plural"), text(definition, "/spec/group"));
    if name != format!("{plural}.{group}") {
        wrong.push("must be spec.names.plural+\".\"+spec.group".to_owned());
    }
    let at = FieldPath::of("metadata.name");
    wrong.into_iter().map(|why| FieldError::invalid(&at, name, why)).collect()
}

fn spec(definition: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let at = FieldPath::of("spec");
    let group = text(definition, "/spec/group");
    let wrong = dns_subdomain(group);
    if group.is_empty() {
        errors.push(FieldError::required(&at.child("group"), ""));
    } else if !wrong.is_empty() {
        errors.push(FieldError::invalid(&at.child("group"), group, wrong.join(",")));
    } else if !group.contains('.') {
        let why = "should be a domain with at least one dot";
        errors.push(FieldError::invalid(&at.child("group"), group, why));
    }
    match text(definition, "/spec/scope") {
        "Cluster" | "Namespaced" => {}
        "" => errors.push(FieldError::required(&at.child("scope"), "")),
        other => {
            errors.push(FieldError::not_supported(&at.child("scope"), other, &["Cluster", "Namespaced"]));
        }
    }

    let all = versions(definition);
    let schemas_were_optional = old.is_some_and(|old| versions(old).iter().any(|one| !has_schema(one)));
    for (index, version) in all.iter().enumerate() {
        let path = at.child("versions").index(index).child("schema").child("openAPIV3Schema");
        if has_schema(version) {
            continue;
        }
        if !schemas_were_optional {
            errors.push(FieldError::required(&path, ""));
        } else if is_true(version, "served") {
            errors.push(FieldError::required(&path, "because otherwise all fields are pruned"));
        }
    }
    each_version(definition, old, &at, errors);
    names::judge_spec(definition, &at.child("names"), errors);
    version::judge_alike(definition, old, &at, errors);
    conversion::judge(definition, old, &at.child("conversion"), errors);
}

fn each_version(definition: &Value, old: Option<&Value>, at: &FieldPath, errors: &mut Vec<FieldError>) {
    let all = versions(definition);
    let path = at.child("versions");
    for (index, version) in all.iter().enumerate() {
        let path = path.index(index);
        let name = text(version, "/name");
        let wrong = dns_1035_label(name);
        if !wrong.is_empty() {
            errors.push(FieldError::invalid(&path.child("name"), name, wrong.join(",")));
        }
        version::judge(definition, old, version, &path, errors);
    }
    let names: std::collections::BTreeSet<_> = all.iter().map(|one| text(one, "/name")).collect();
    let shown = || Value::Array(all.to_vec());
    if names.len() < all.len() {
        errors.push(FieldError::invalid(&path, shown(), "must contain unique version names"));
    }
    if all.iter().filter(|one| is_true(one, "storage")).count() != 1 {
        let why = "must have exactly one version marked as storage version";
        errors.push(FieldError::invalid(&path, shown(), why));
    }
}

fn has_schema(version: &Value) -> bool {
    version.pointer("/schema/openAPIV3Schema").is_some_and(Value::is_object)
}

/// What decides where objects are stored does not change.
fn immutable(definition: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let mut keep = |pointer: &str| {
        let (new, before) = (text(definition, pointer), text(old, pointer));
        if new != before {
            let path = FieldPath::of(&pointer.trim_start_matches('/').replace('/', "."));
            errors.push(FieldError::invalid(&path, new, "field is immutable"));
        }
    };
    if conditions::holds(old, "Established") {
        keep("/spec/scope");
        keep("/spec/names/kind");
    }
    keep("/spec/group");
    keep("/spec/names/plural");
}

fn stored_versions(definition: &Value, at: &FieldPath, errors: &mut Vec<FieldError>) {
    let stored = list(definition, "/status/storedVersions");
    let shown = || Value::Array(stored.to_vec());
    if stored.is_empty() {
        errors.push(FieldError::invalid(at, shown(), "must have at least one stored version"));
        return;
    }
    let all = versions(definition);
    for version in all.iter().filter(|one| is_true(one, "storage")) {
        let name = text(version, "/name");
        if !stored.iter().any(|one| *one == *name) {
            errors.push(FieldError::invalid(at, shown(), format!("must have the storage version {name}")));
        }
    }
    for (index, name) in stored.iter().enumerate() {
        let name = name.as_str().unwrap_or_default();
        if !all.iter().any(|one| text(one, "/name") == name) {
            let why = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions \
                 until a storage migration ensures no data remains persisted in {name} and removes {name} from \
                 status.storedVersions"
            );
            errors.push(FieldError::invalid(&at.index(index), name, why));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    pub(super) fn definition() -> Value {
        json!({
            "metadata": {"name": "foos.example.com"},
            "spec": {
                "group": "example.com", "scope": "Namespaced",
                "names": {"plural": "foos", "singular": "foo", "kind": "Foo", "listKind": "FooList"},
                "conversion": {"strategy": "None"},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema":
                    {"type": "object", "properties": {"spec": {"type": "object", "properties": {
                        "color": {"type": "string"}, "size": {"type": "number"}}}}}}}],
            },
            "status": {"storedVersions": ["v1"], "acceptedNames": {"kind": "", "plural": ""}},
        })
    }

    fn changed(changes: &[(&str, Value)]) -> Value {
        let mut one = definition();
        for (pointer, value) in changes {
            let (parent, field) = pointer.rsplit_once('/').unwrap();
            one.pointer_mut(parent).unwrap()[field] = value.clone();
        }
        one
    }

    #[track_caller]
    fn assert_told(definition: &Value, old: Option<&Value>, expected: &[&str]) {
        let told: Vec<String> = validate(definition, old, "").iter().map(ToString::to_string).collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn a_definition_as_people_write_it_is_right() {
        assert_told(&definition(), None, &[]);
        assert_told(&definition(), Some(&definition()), &[]);
    }

    #[test]
    fn what_is_wrong_is_told_where_kubernetes_tells_it() {
        let version = |pointer: &str| format!("/spec/versions/0{pointer}");
        let table: Vec<(&str, Value, &[&str])> = vec![
            (
                "/metadata/name",
                json!("foo.example.com"),
                &[
                    r#"metadata.name: Invalid value: "foo.example.com": must be spec.names.plural+"."+spec.group"#,
                ],
            ),
            (
                "/spec/scope",
                json!("Here"),
                &[r#"spec.scope: Unsupported value: "Here": supported values: "Cluster", "Namespaced""#],
            ),
            ("/spec/scope", json!(""), &["spec.scope: Required value"]),
            ("/spec/names/singular", json!(""), &["spec.names.singular: Required value"]),
            (
                "/spec/names/listKind",
                json!("Foo"),
                &[r#"spec.names.listKind: Invalid value: "Foo": kind and listKind may not be the same"#],
            ),
            (
                "/spec/preserveUnknownFields",
                json!(true),
                &["spec.preserveUnknownFields: Invalid value: true: cannot set to true, set \
                 x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"],
            ),
            (
                "/status/storedVersions",
                json!(["v1", "v0"]),
                &[
                    r#"status.storedVersions[1]: Invalid value: "v0": missing from spec.versions; v0 was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in v0 and removes v0 from status.storedVersions"#,
                ],
            ),
            (
                "/spec/conversion",
                json!({"strategy": "Magic"}),
                &[
                    r#"spec.conversion.strategy: Unsupported value: "Magic": supported values: "None", "Webhook""#,
                ],
            ),
            (
                "/spec/conversion",
                json!({"strategy": "Webhook"}),
                &[
                    "spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook",
                    "spec.conversion.conversionReviewVersions: Required value",
                ],
            ),
        ];
        for (pointer, value, expected) in table {
            assert_told(&changed(&[(pointer, value)]), None, expected);
        }
        let table: Vec<(&str, Value, &[&str])> = vec![
            ("/schema", Value::Null, &["spec.versions[0].schema.openAPIV3Schema: Required value"]),
            (
                "/schema",
                json!({"openAPIV3Schema": {}}),
                &["spec.validation.openAPIV3Schema.type: Required value: must not be empty at the root"],
            ),
            (
                "/subresources",
                json!({"scale": {"specReplicasPath": "spec.n", "statusReplicasPath": ".spec.n"}}),
                &[
                    r#"spec.subresources.scale.specReplicasPath: Invalid value: "spec.n": must be a simple json path starting with ."#,
                    r#"spec.subresources.scale.statusReplicasPath: Invalid value: ".spec.n": should be a json path under .status"#,
                ],
            ),
            (
                "/additionalPrinterColumns",
                json!([{"name": "", "type": "text", "jsonPath": ""}]),
                &[
                    "spec.additionalPrinterColumns[0].name: Required value",
                    r#"spec.additionalPrinterColumns[0].type: Invalid value: "text": must be one of boolean,date,integer,number,string"#,
                    "spec.additionalPrinterColumns[0].JSONPath: Required value",
                ],
            ),
            (
                "/selectableFields",
                json!([{"jsonPath": ".spec.color"}, {"jsonPath": ".spec.color"}, {"jsonPath": ".spec.size"}, {"jsonPath": ".spec.none"}]),
                &[
                    r#"spec.selectableFields[1].jsonPath: Duplicate value: ".spec.color""#,
                    r#"spec.selectableFields[2].jsonPath: Invalid value: ".spec.size": must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed."#,
                    r#"spec.selectableFields[3].jsonPath: Invalid value: ".spec.none": is an invalid path: does not refer to a valid field"#,
                ],
            ),
            (
                "/deprecationWarning",
                json!("old"),
                &[
                    r#"spec.versions[0].deprecationWarning: Invalid value: "old": can only be set for deprecated versions"#,
                ],
            ),
        ];
        for (pointer, value, expected) in table {
            assert_told(&changed(&[(&version(pointer), value)]), None, expected);
        }
    }

    #[test]
    fn one_version_is_stored() {
        let mut one = definition();
        one["spec"]["versions"][0]["storage"] = json!(false);
        let told = validate(&one, None, "");
        assert_eq!(told.len(), 1);
        assert!(told[0].to_string().ends_with("must have exactly one version marked as storage version"));
    }

    #[test]
    fn what_is_stored_keeps_its_place() {
        let mut old = definition();
        let scope = [("/spec/scope", json!("Cluster")), ("/spec/names/kind", json!("Fooo"))];
        assert_told(&changed(&scope), Some(&old), &[]);
        old["status"]["conditions"] = json!([{"type": "Established", "status": "True"}]);
        assert_told(
            &changed(&scope),
            Some(&old),
            &[
                r#"spec.scope: Invalid value: "Cluster": field is immutable"#,
                r#"spec.names.kind: Invalid value: "Fooo": field is immutable"#,
            ],
        );
    }

    #[test]
    fn what_was_wrong_before_may_stay_wrong() {
        let bad = changed(&[("/spec/versions/0/schema", json!({"openAPIV3Schema": {}}))]);
        assert_told(&bad, Some(&bad), &[]);
        assert_eq!(validate(&bad, Some(&definition()), "").len(), 1);
    }

    #[test]
    fn groups_of_the_community_need_an_approval() {
        let mut one =
            changed(&[("/spec/group", json!("x.k8s.io")), ("/metadata/name", json!("foos.x.k8s.io"))]);
        assert_told(
            &one,
            None,
            &[
                r#"metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval annotation "api-approved.kubernetes.io", see https://github.com/kubernetes/enhancements/pull/1111"#,
            ],
        );
        one["metadata"]["annotations"] = json!({"api-approved.kubernetes.io": "unapproved, a test"});
        assert_told(&one, None, &[]);
    }
}
