//! Policies over objects: which requests they are about, and that their expressions are some. Must never
//! evaluate one.

use std::collections::BTreeSet;

use barque_api::kind::GroupVersion;
use barque_api::metadata::Metadata;
use barque_api::names;

use super::super::same::same;
use super::super::workload::conditions;
use super::match_conditions::check_conditions;
use super::webhooks::check_rule;
use super::{Change, Findings, Part};
use crate::admission::expressions::Names;

const MOST_ANNOTATIONS: usize = 20;
const MOST_ANNOTATION_BYTES: usize = 5 * 1024;
const REASONS: [&str; 4] = ["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"];
const RESERVED: [&str; 21] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
    "var",
    "void",
    "while",
];

/// What is wrong with a `ValidatingAdmissionPolicy`.
pub(super) fn check_validating(change: &Change<'_>, findings: &mut Findings) {
    if change.subresource == "status" {
        check_status(&change.new.child("status"), findings);
        return;
    }
    let spec = change.new.child("spec");
    let names = check_policy(change, &spec, findings);
    if spec.list("validations").is_empty() && spec.list("auditAnnotations").is_empty() {
        for field in ["validations", "auditAnnotations"] {
            let detail = "validations or auditAnnotations must contain at least one item";
            findings.required(&spec.at(field), detail);
        }
        return;
    }
    for validation in spec.items("validations") {
        check_validation(&validation, &names, findings);
    }
    check_annotations(&change.new, &spec, &names, findings);
}

/// What is wrong with a `MutatingAdmissionPolicy`.
pub(super) fn check_mutating(change: &Change<'_>, findings: &mut Findings) {
    let spec = change.new.child("spec");
    let names = check_policy(change, &spec, findings).with_objects();
    if spec.list("mutations").is_empty() {
        findings.required(&spec.at("mutations"), "mutations must contain at least one item");
    }
    for mutation in spec.items("mutations") {
        check_mutation(&mutation, &names, findings);
    }
    findings.word(&spec, "reinvocationPolicy", &["IfNeeded", "Never"]);
}

/// What both kinds of policy have. Answers what their expressions may name.
fn check_policy(change: &Change<'_>, spec: &Part<'_>, findings: &mut Findings) -> Names {
    findings.word(spec, "failurePolicy", &["Fail", "Ignore"]);
    let param_kind = spec.given("paramKind");
    if let Some(kind) = &param_kind {
        check_param_kind(kind, findings);
    }
    match spec.given("matchConstraints") {
        None => findings.required(&spec.at("matchConstraints"), ""),
        Some(constraints) => {
            check_resources(&constraints, findings);
            if constraints.list("resourceRules").is_empty() {
                findings.required(&constraints.at("resourceRules"), "");
            }
        }
    }
    let mut names = Names::with_params(param_kind.is_some());
    let old = change.old.as_ref().map(|old| old.child("spec"));
    let kept = |field: &str| old.as_ref().is_some_and(|old| same(spec.get(field), old.get(field)));
    if !(kept("paramKind") && kept("matchConditions")) {
        check_conditions(spec, &names, findings);
    }
    for variable in spec.items("variables") {
        check_variable(&variable, &names, findings);
        names.declare(variable.text("name"));
    }
    names
}

fn check_param_kind(kind: &Part<'_>, findings: &mut Findings) {
    let (version, at) = (kind.text("apiVersion"), kind.at("apiVersion"));
    if version.is_empty() {
        findings.required(&at, "");
    } else {
        match GroupVersion::of_api_version(version) {
            Err(error) => findings.invalid(&at, version, error.to_string()),
            Ok(parsed) => {
                let wrong = names::dns_subdomain(&parsed.group);
                if !parsed.group.is_empty() && !wrong.is_empty() {
                    findings.invalid(&at, &*parsed.group, wrong.join(","));
                }
                let wrong = names::dns_1035_label(&parsed.version);
                if parsed.version.is_empty() {
                    findings.invalid(&at, version, "version must be specified");
                } else if !wrong.is_empty() {
                    findings.invalid(&at, &*parsed.version, wrong.join(","));
                }
            }
        }
    }
    let name = kind.text("kind");
    let wrong = names::dns_1035_label(&name.to_lowercase());
    if name.is_empty() {
        findings.required(&kind.at("kind"), "");
    } else if !wrong.is_empty() {
        let detail = format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
        findings.invalid(&kind.at("kind"), name, detail);
    }
}

/// Which requests are meant: `matchConstraints` or `matchResources`.
pub(super) fn check_resources(resources: &Part<'_>, findings: &mut Findings) {
    findings.word(resources, "matchPolicy", &["Equivalent", "Exact"]);
    for field in ["namespaceSelector", "objectSelector"] {
        if resources.has(field) {
            findings.selector(resources, field);
        } else {
            findings.required(&resources.at(field), "");
        }
    }
    for rule in ["resourceRules", "excludeResourceRules"].iter().flat_map(|field| resources.items(field)) {
        let mut seen = BTreeSet::new();
        for (index, name) in rule.texts("resourceNames").enumerate() {
            let at = rule.at("resourceNames").index(index);
            findings.each(&at, name, names::path_segment_name(name));
            if !seen.insert(name) {
                findings.duplicate(&at, name);
            }
        }
        check_rule(&rule, findings);
    }
}

fn is_identifier(name: &str) -> bool {
    let word = |character: char| character == '_' || character.is_ascii_alphanumeric();
    !name.starts_with(|first: char| first.is_ascii_digit())
        && name.chars().all(word)
        && !RESERVED.contains(&name)
}

fn check_variable(variable: &Part<'_>, names: &Names, findings: &mut Findings) {
    let name = variable.text("name");
    if name.trim().is_empty() {
        findings.required(&variable.at("name"), "name is not specified");
    } else if !is_identifier(name) {
        findings.invalid(&variable.at("name"), name, "name is not a valid CEL identifier");
    }
    check_expression(variable, "expression", names, &[], findings);
}

/// An expression that must be given.
fn check_expression(owner: &Part<'_>, field: &str, names: &Names, types: &[&str], findings: &mut Findings) {
    let source = owner.text(field);
    if source.trim().is_empty() {
        findings.required(&owner.at(field), format!("{field} is not specified"));
    } else if let Err(why) = names.compile(source, types) {
        findings.invalid(&owner.at(field), source, why);
    }
}

fn check_validation(validation: &Part<'_>, names: &Names, findings: &mut Findings) {
    check_expression(validation, "expression", names, &["bool"], findings);
    let message = validation.text("messageExpression");
    let at = validation.at("messageExpression");
    if !message.is_empty() && message.trim().is_empty() {
        findings.invalid(&at, message, "must be non-empty if specified");
    } else if !message.is_empty()
        && let Err(why) = names.of_messages().compile(message, &["string"])
    {
        findings.invalid(&at, message, why);
    }
    let (message, at) = (validation.text("message"), validation.at("message"));
    if !message.is_empty() && message.trim().is_empty() {
        findings.invalid(&at, message, "message must be non-empty if specified");
    } else if message.trim().contains(['\n', '\r']) {
        findings.invalid(&at, message, "message must not contain line breaks");
    }
    findings.word_if_given(validation, "reason", &REASONS);
}

fn check_annotations(policy: &Part<'_>, spec: &Part<'_>, names: &Names, findings: &mut Findings) {
    if spec.list("auditAnnotations").len() > MOST_ANNOTATIONS {
        let detail = format!("must not have more than {MOST_ANNOTATIONS} auditAnnotations");
        findings.invalid(&spec.at("auditAnnotations"), spec.get("auditAnnotations").clone(), detail);
    }
    let name = Metadata::of(policy.value).name();
    let mut seen = BTreeSet::new();
    for annotation in spec.items("auditAnnotations") {
        let (key, at) = (annotation.text("key"), annotation.at("key"));
        if name.is_empty() {
            findings.invalid(&at, key, "requires metadata.name be non-empty");
        } else {
            findings.label_key(&at, &format!("{name}/{key}"));
        }
        let (source, at) = (annotation.text("valueExpression"), annotation.at("valueExpression"));
        if source.trim().len() > MOST_ANNOTATION_BYTES {
            findings.required(&at, format!("must not exceed {MOST_ANNOTATION_BYTES} bytes in length"));
        } else {
            check_expression(&annotation, "valueExpression", names, &["string", "null_type"], findings);
        }
        if !seen.insert(key) {
            findings.duplicate(&annotation.at("key"), key);
        }
    }
}

fn check_mutation(mutation: &Part<'_>, names: &Names, findings: &mut Findings) {
    findings.word(mutation, "patchType", &["ApplyConfiguration", "JSONPatch"]);
    let (own, other, types) = match mutation.text("patchType") {
        "ApplyConfiguration" => ("applyConfiguration", "jsonPatch", "Object"),
        "JSONPatch" => ("jsonPatch", "applyConfiguration", "list"),
        _ => return,
    };
    let kind = mutation.text("patchType");
    match mutation.given(own) {
        None => {
            findings.required(&mutation.at(own), format!("must be specified when patchType is {kind}"));
        }
        Some(patch) => check_expression(&patch, "expression", names, &[types], findings),
    }
    if mutation.has(other) {
        let detail = format!("must not be specified when patchType is {kind}");
        findings.invalid(&mutation.at(other), format!("{{{other}}}"), detail);
    }
}

fn check_status(status: &Part<'_>, findings: &mut Findings) {
    for warning in status.child("typeChecking").items("expressionWarnings") {
        findings.needs(&warning, "warning");
        if warning.text("fieldRef").trim().is_empty() {
            findings.required(&warning.at("fieldRef"), "");
        }
    }
    conditions::check_conditions(status, findings);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::told;

    const GROUP: &str = "admissionregistration.k8s.io";

    fn spec(changes: Value) -> Value {
        let rule = json!({"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]});
        let mut spec = json!({
            "failurePolicy": "Fail", "reinvocationPolicy": "Never",
            "matchConstraints": {"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {},
                "resourceRules": [rule]},
        });
        spec.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        json!({"metadata": {"name": "p"}, "spec": spec})
    }

    fn validating(changes: Value) -> Vec<String> {
        told(GROUP, "ValidatingAdmissionPolicy", &spec(changes), None)
    }

    #[test]
    fn policies_that_judge_and_what_is_wrong_with_them() {
        let good = json!([{"expression": "object.spec.x == 1"}]);
        let table: Vec<(Value, &[&str])> = vec![
            (json!({"validations": good}), &[]),
            (
                json!({"validations": good, "failurePolicy": "other"}),
                &["spec.failurePolicy: Unsupported value: \"other\": supported values: \"Fail\", \"Ignore\""],
            ),
            (
                json!({}),
                &[
                    "spec.validations: Required value: validations or auditAnnotations must contain at least one item",
                    "spec.auditAnnotations: Required value: validations or auditAnnotations must contain at least one item",
                ],
            ),
            (
                json!({"validations": good, "matchConstraints": null}),
                &["spec.matchConstraints: Required value"],
            ),
            (
                json!({"validations": good, "matchConstraints": {"matchPolicy": "x"}}),
                &[
                    "spec.matchConstraints.matchPolicy: Unsupported value: \"x\": supported values: \"Equivalent\", \"Exact\"",
                    "spec.matchConstraints.namespaceSelector: Required value",
                    "spec.matchConstraints.objectSelector: Required value",
                    "spec.matchConstraints.resourceRules: Required value",
                ],
            ),
            (
                json!({"validations": good, "paramKind": {"apiVersion": "", "kind": "A_b"}}),
                &[
                    "spec.paramKind.apiVersion: Required value",
                    "spec.paramKind.kind: Invalid value: \"A_b\": may have mixed case, but should otherwise match: a \
                     DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
                     character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
                     validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
                ],
            ),
            (
                json!({"validations": [{"expression": " ", "message": " ", "reason": "Other"}]}),
                &[
                    "spec.validations[0].expression: Required value: expression is not specified",
                    "spec.validations[0].message: Invalid value: \" \": message must be non-empty if specified",
                    "spec.validations[0].reason: Unsupported value: \"Other\": supported values: \"Forbidden\", \
                     \"Invalid\", \"RequestEntityTooLarge\", \"Unauthorized\"",
                ],
            ),
            (
                json!({"validations": [{"expression": "'a'", "message": "a\nb", "messageExpression": "true"}]}),
                &[
                    "spec.validations[0].expression: Invalid value: \"'a'\": must evaluate to bool but got string",
                    "spec.validations[0].messageExpression: Invalid value: \"true\": must evaluate to string but got bool",
                    "spec.validations[0].message: Invalid value: \"a\\nb\": message must not contain line breaks",
                ],
            ),
            (
                json!({"validations": good, "variables": [{"name": "in", "expression": "1"}, {"name": " "}]}),
                &[
                    "spec.variables[0].name: Invalid value: \"in\": name is not a valid CEL identifier",
                    "spec.variables[1].name: Required value: name is not specified",
                    "spec.variables[1].expression: Required value: expression is not specified",
                ],
            ),
            (
                json!({"auditAnnotations": [{"key": "a", "valueExpression": "1"}, {"key": "a", "valueExpression": "'x'"}]}),
                &[
                    "spec.auditAnnotations[0].valueExpression: Invalid value: \"1\": must evaluate to one of [string \
                     null_type] but got int",
                    "spec.auditAnnotations[1].key: Duplicate value: \"a\"",
                ],
            ),
        ];
        for (changes, expected) in table {
            assert_eq!(validating(changes.clone()), expected, "{changes}");
        }
    }

    #[test]
    fn expressions_are_compiled_where_they_stand() {
        let variables =
            json!([{"name": "a", "expression": "object.x"}, {"name": "b", "expression": "variables.a"}]);
        let validations = json!([{"expression": "variables.b == 1 && params.x == 1"}]);
        let param_kind = json!({"apiVersion": "v1", "kind": "ConfigMap"});
        let whole = json!({"variables": variables, "validations": validations, "paramKind": param_kind});
        assert_eq!(validating(whole), [""; 0]);
        let told = validating(json!({"variables": variables, "validations": validations}));
        let begin = "spec.validations[0].expression: Invalid value: \"variables.b == 1 && params.x == 1\": \
                     compilation failed: ERROR: <input>:1:";
        assert!(told.len() == 1 && told[0].starts_with(begin), "{told:?}");
        let late = json!([{"name": "b", "expression": "variables.a"}, {"name": "a", "expression": "1"}]);
        let told = validating(json!({"variables": late, "validations": [{"expression": "true"}]}));
        assert!(
            told[0].starts_with("spec.variables[0].expression: Invalid value: \"variables.a\": "),
            "{told:?}"
        );
        let conditions = json!([{"name": "c", "expression": "object.x =="}]);
        let told =
            validating(json!({"matchConditions": conditions, "validations": [{"expression": "true"}]}));
        assert!(told[0].starts_with("spec.matchConditions[0].expression: Invalid value: "), "{told:?}");
    }

    #[test]
    fn policies_that_change_and_what_is_wrong_with_them() {
        let told = |mutations: Value| {
            told(GROUP, "MutatingAdmissionPolicy", &spec(json!({"mutations": mutations})), None)
        };
        let apply = json!({"expression": "Object{metadata: Object.metadata{labels: {'a': 'b'}}}"});
        let patch = json!({"expression": "[JSONPatch{op: 'remove', path: '/a'}]"});
        let good = json!([
            {"patchType": "ApplyConfiguration", "applyConfiguration": apply},
            {"patchType": "JSONPatch", "jsonPatch": patch},
        ]);
        assert_eq!(told(good), [""; 0]);
        assert_eq!(
            told(json!([])),
            ["spec.mutations: Required value: mutations must contain at least one item"]
        );
        assert_eq!(
            told(
                json!([{"patchType": "JSONPatch", "applyConfiguration": apply}, {"patchType": "other"}, {}])
            ),
            [
                "spec.mutations[0].jsonPatch: Required value: must be specified when patchType is JSONPatch",
                "spec.mutations[0].applyConfiguration: Invalid value: \"{applyConfiguration}\": must not be specified when \
                 patchType is JSONPatch",
                "spec.mutations[1].patchType: Unsupported value: \"other\": supported values: \"ApplyConfiguration\", \
                 \"JSONPatch\"",
                "spec.mutations[2].patchType: Required value",
            ]
        );
        assert_eq!(
            told(json!([{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "1"}}])),
            [
                "spec.mutations[0].applyConfiguration.expression: Invalid value: \"1\": must evaluate to Object but got int"
            ]
        );
    }
}
