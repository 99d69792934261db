//! Who is asked before objects are stored: webhook configurations. Must never call one.

use std::collections::BTreeSet;

use barque_api::field::{FieldError, FieldPath};
use barque_api::labels::{SelectorRules, validate_label_selector};
use barque_api::names;

use super::match_conditions::check_conditions;
use super::{Change, Findings, Part};
use crate::admission::expressions::Names;

const VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const HARMLESS: [&str; 2] = ["None", "NoneOnDryRun"];
const EFFECTS: [&str; 4] = ["None", "NoneOnDryRun", "Some", "Unknown"];
const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const FORM: &str = "desired format: https://host[:port]/path";

/// What an object that is as old asks for no more.
#[derive(Clone, Copy)]
struct Rules {
    harmless: bool,
    known_version: bool,
    unique_names: bool,
    /// All have the conditions that they had.
    kept_conditions: bool,
    selectors: SelectorRules,
}

/// What is wrong with a `MutatingWebhookConfiguration`.
pub(super) fn check_mutating(change: &Change<'_>, findings: &mut Findings) {
    check_hooks(change, findings);
    for hook in change.new.items("webhooks") {
        findings.word_if_given(&hook, "reinvocationPolicy", &["IfNeeded", "Never"]);
    }
}

/// What is wrong with a `ValidatingWebhookConfiguration`.
pub(super) fn check_validating(change: &Change<'_>, findings: &mut Findings) {
    check_hooks(change, findings);
}

fn rules_of(change: &Change<'_>) -> Rules {
    let strict = SelectorRules::default();
    let Some(old) = &change.old else {
        return Rules {
            harmless: true,
            known_version: true,
            unique_names: true,
            kept_conditions: false,
            selectors: strict,
        };
    };
    let conditions = |owner: &Part<'_>| -> Vec<_> {
        owner.items("webhooks").map(|hook| hook.get("matchConditions").clone()).collect()
    };
    let knows = |hook: &Part<'_>| {
        hook.list("admissionReviewVersions").is_empty()
            || hook.texts("admissionReviewVersions").any(|version| VERSIONS.contains(&version))
    };
    let is_wrong = |hook: &Part<'_>| {
        ["namespaceSelector", "objectSelector"]
            .iter()
            .any(|field| !validate_label_selector(Some(hook.get(field)), strict, &hook.path).is_empty())
    };
    let names: BTreeSet<&str> = old.items("webhooks").map(|hook| hook.text("name")).collect();
    Rules {
        harmless: old.items("webhooks").all(|hook| HARMLESS.contains(&hook.text("sideEffects"))),
        known_version: old.items("webhooks").all(|hook| knows(&hook)),
        unique_names: names.len() == old.list("webhooks").len(),
        kept_conditions: conditions(old) == conditions(&change.new),
        selectors: SelectorRules { any_value: old.items("webhooks").any(|hook| is_wrong(&hook)), ..strict },
    }
}

fn check_hooks(change: &Change<'_>, findings: &mut Findings) {
    let rules = rules_of(change);
    let mut seen = BTreeSet::new();
    for hook in change.new.items("webhooks") {
        check_hook(&hook, rules, findings);
        check_versions(&hook, rules, findings);
        let name = hook.text("name");
        if rules.unique_names && !name.is_empty() && !seen.insert(name) {
            findings.duplicate(&hook.at("name"), name);
        }
    }
}

fn check_hook(hook: &Part<'_>, rules: Rules, findings: &mut Findings) {
    check_qualified(hook.text("name"), &hook.at("name"), findings);
    for rule in hook.items("rules") {
        check_rule(&rule, findings);
    }
    findings.word_if_given(hook, "failurePolicy", &["Fail", "Ignore"]);
    findings.word_if_given(hook, "matchPolicy", &["Equivalent", "Exact"]);
    let effects: &[&str] = if rules.harmless { &HARMLESS } else { &EFFECTS };
    if hook.has("sideEffects") {
        findings.word_if_given(hook, "sideEffects", effects);
    } else {
        findings.required(&hook.at("sideEffects"), format!("must specify one of {}", effects.join(", ")));
    }
    if let Some(seconds) = hook.number("timeoutSeconds")
        && !(1..=30).contains(&seconds)
    {
        let detail = "the timeout value must be between 1 and 30 seconds";
        findings.invalid(&hook.at("timeoutSeconds"), seconds, detail);
    }
    for field in ["namespaceSelector", "objectSelector"] {
        findings.extend(validate_label_selector(Some(hook.get(field)), rules.selectors, &hook.at(field)));
    }
    let client = hook.child("clientConfig");
    match (client.given("url"), client.given("service")) {
        (Some(_), None) => check_url(client.text("url"), &client.at("url"), findings),
        (None, Some(service)) => check_service(&service, findings),
        _ => findings.required(&client.path, "exactly one of url or service is required"),
    }
    if !rules.kept_conditions {
        check_conditions(hook, &Names::default(), findings);
    }
}

fn check_qualified(name: &str, at: &FieldPath, findings: &mut Findings) {
    let wrong = names::dns_subdomain(name);
    if name.is_empty() {
        findings.required(at, "");
    } else if !wrong.is_empty() {
        findings.invalid(at, name, wrong.join(","));
    } else if name.split('.').count() < 3 {
        let detail = "should be a domain with at least three segments separated by dots";
        findings.invalid(at, name, detail);
    }
}

fn check_versions(hook: &Part<'_>, rules: Rules, findings: &mut Findings) {
    let at = hook.at("admissionReviewVersions");
    if hook.list("admissionReviewVersions").is_empty() {
        findings.required(&at, format!("must specify one of {}", VERSIONS.join(", ")));
        return;
    }
    let mut seen = BTreeSet::new();
    for (index, version) in hook.texts("admissionReviewVersions").enumerate() {
        if seen.insert(version) {
            findings.each(&at.index(index), version, names::dns_1035_label(version));
        } else {
            findings.invalid(&at.index(index), version, "duplicate version");
        }
    }
    if rules.known_version && !seen.iter().any(|version| VERSIONS.contains(version)) {
        let detail = format!("must include at least one of {}", VERSIONS.join(", "));
        findings.invalid(&at, hook.get("admissionReviewVersions").clone(), detail);
    }
}

fn check_alone(rule: &Part<'_>, field: &str, what: &str, findings: &mut Findings) {
    if rule.list(field).is_empty() {
        findings.required(&rule.at(field), "");
    }
    if rule.list(field).len() > 1 && rule.texts(field).any(|item| item == "*") {
        let detail = format!("if '*' is present, must not specify other {what}");
        findings.invalid(&rule.at(field), rule.get(field).clone(), detail);
    }
}

/// What is wrong with a rule that says which requests are meant.
pub(super) fn check_rule(rule: &Part<'_>, findings: &mut Findings) {
    check_alone(rule, "operations", "operations", findings);
    for (index, operation) in rule.texts("operations").enumerate() {
        if !OPERATIONS.contains(&operation) {
            findings.not_supported(&rule.at("operations").index(index), operation, &OPERATIONS);
        }
    }
    check_alone(rule, "apiGroups", "API groups", findings);
    check_alone(rule, "apiVersions", "API versions", findings);
    for (index, _) in rule.texts("apiVersions").enumerate().filter(|(_, version)| version.is_empty()) {
        findings.required(&rule.at("apiVersions").index(index), "");
    }
    check_resources(rule, findings);
    findings.word_if_given(rule, "scope", &["*", "Cluster", "Namespaced"]);
}

fn check_resources(rule: &Part<'_>, findings: &mut Findings) {
    let at = rule.at("resources");
    let value = || rule.get("resources").clone();
    if rule.list("resources").is_empty() {
        findings.required(&at, "");
    }
    let (mut all_below, mut all_above) = (BTreeSet::new(), BTreeSet::new());
    for (index, resource) in rule.texts("resources").enumerate() {
        let at = at.index(index);
        if resource.is_empty() {
            findings.required(&at, "");
            continue;
        }
        let Some((above, below)) = resource.split_once('/') else { continue };
        if all_below.contains(above) {
            let detail = format!("if '{above}/*' is present, must not specify {resource}");
            findings.invalid(&at, resource, detail);
        }
        if all_above.contains(below) {
            let detail = format!("if '*/{below}' is present, must not specify {resource}");
            findings.invalid(&at, resource, detail);
        }
        if below == "*" {
            all_below.insert(above);
        }
        if above == "*" {
            all_above.insert(below);
        }
    }
    let has = |wanted: &str| rule.texts("resources").any(|resource| resource == wanted);
    if rule.list("resources").len() > 1 && has("*/*") {
        findings.invalid(&at, value(), "if '*/*' is present, must not specify other resources");
    }
    // As in Kubernetes, the last resource without a slash decides.
    let plain = rule.texts("resources").filter(|resource| !resource.contains('/')).last();
    if has("*") && plain.is_some_and(|resource| resource != "*") {
        let detail = "if '*' is present, must not specify other resources without subresources";
        findings.invalid(&at, value(), detail);
    }
}

fn check_url(url: &str, at: &FieldPath, findings: &mut Findings) {
    if url.chars().any(char::is_control) {
        let why = format!("parse {url:?}: net/url: invalid control character in URL");
        findings.required(at, format!("url must be a valid URL: {why}; {FORM}"));
        return;
    }
    let (url, fragment) = url.split_once('#').unwrap_or((url, ""));
    let (url, query) = url.split_once('?').unwrap_or((url, ""));
    let (scheme, rest) = url.split_once("://").unwrap_or(("", ""));
    let authority = rest.split('/').next().unwrap_or_default();
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if scheme != "https" {
        findings.invalid(at, scheme, format!("'https' is the only allowed URL scheme; {FORM}"));
    }
    if host.is_empty() {
        findings.invalid(at, host, format!("host must be specified; {FORM}"));
    }
    for (part, what) in
        [(user, "user information is"), (fragment, "fragments are"), (query, "query parameters are")]
    {
        if !part.is_empty() {
            findings.invalid(at, part, format!("{what} not permitted in the URL"));
        }
    }
}

fn check_service(service: &Part<'_>, findings: &mut Findings) {
    for (field, what) in [("name", "service name"), ("namespace", "service namespace")] {
        if service.text(field).is_empty() {
            findings.required(&service.at(field), format!("{what} is required"));
        }
    }
    if let Some(port) = service.number("port") {
        for wrong in names::port_number(port) {
            findings.push(FieldError::invalid(
                &service.at("port"),
                port,
                format!("port is not valid: {wrong}"),
            ));
        }
    }
    let (path, at) = (service.text("path"), service.at("path"));
    if path.is_empty() || path == "/" {
        return;
    }
    if path == "//" {
        findings.invalid(&at, path, "segment[0] may not be empty");
        return;
    }
    if !path.starts_with('/') {
        findings.invalid(&at, path, "must start with a '/'");
    }
    let inner = path.strip_prefix('/').unwrap_or(path);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    for (index, segment) in inner.split('/').enumerate() {
        if segment.is_empty() {
            findings.invalid(&at, path, format!("segment[{index}] may not be empty"));
            continue;
        }
        for wrong in names::dns_subdomain(segment) {
            findings.invalid(&at, path, format!("segment[{index}]: {wrong}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::told;

    fn hook(changes: Value) -> Value {
        let mut hook = json!({
            "name": "a.b.io", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": "https://a.io/p"},
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
        });
        hook.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        json!({"webhooks": [hook]})
    }

    #[test]
    fn hooks_and_what_is_wrong_with_them() {
        let table: Vec<(Value, &[&str])> = vec![
            (json!({}), &[]),
            (
                json!({"name": "a.b"}),
                &[
                    "name: Invalid value: \"a.b\": should be a domain with at least three segments separated by dots",
                ],
            ),
            (
                json!({"sideEffects": "Some"}),
                &["sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\""],
            ),
            (
                json!({"sideEffects": null}),
                &["sideEffects: Required value: must specify one of None, NoneOnDryRun"],
            ),
            (
                json!({"timeoutSeconds": 31}),
                &["timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds"],
            ),
            (
                json!({"clientConfig": {}}),
                &["clientConfig: Required value: exactly one of url or service is required"],
            ),
            (
                json!({"clientConfig": {"url": "http://a.io/p?q"}}),
                &[
                    "clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: \
                     https://host[:port]/path",
                    "clientConfig.url: Invalid value: \"q\": query parameters are not permitted in the URL",
                ],
            ),
            (
                json!({"clientConfig": {"service": {"name": "s", "namespace": "n", "path": "a//b"}}}),
                &[
                    "clientConfig.service.path: Invalid value: \"a//b\": must start with a '/'",
                    "clientConfig.service.path: Invalid value: \"a//b\": segment[1] may not be empty",
                ],
            ),
            (
                json!({"admissionReviewVersions": ["v2"]}),
                &[
                    "admissionReviewVersions: Invalid value: [\"v2\"]: must include at least one of v1, v1beta1",
                ],
            ),
            (
                json!({"rules": [{"operations": ["*", "CREATE"], "apiGroups": ["*"], "apiVersions": ["*"],
                                  "resources": ["*", "pods"]}]}),
                &[
                    "rules[0].operations: Invalid value: [\"*\",\"CREATE\"]: if '*' is present, must not specify other \
                     operations",
                    "rules[0].resources: Invalid value: [\"*\",\"pods\"]: if '*' is present, must not specify other \
                     resources without subresources",
                ],
            ),
        ];
        for (changes, expected) in table {
            let expected: Vec<_> = expected.iter().map(|one| format!("webhooks[0].{one}")).collect();
            for kind in ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"] {
                assert_eq!(
                    told("admissionregistration.k8s.io", kind, &hook(changes.clone()), None),
                    expected
                );
            }
        }
    }

    #[test]
    fn conditions_are_compiled() {
        let condition = json!({"matchConditions": [{"name": "c", "expression": "object.a ="}]});
        let wrong = hook(condition);
        let told = |old: Option<&Value>| {
            told("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", &wrong, old)
        };
        let begin =
            "webhooks[0].matchConditions[0].expression: Invalid value: \"object.a =\": compilation failed: ";
        let found = told(None);
        assert!(found.len() == 1 && found[0].starts_with(begin), "{found:?}");
        assert!(told(Some(&wrong)).is_empty());
    }

    #[test]
    fn old_hooks_with_effects_stay() {
        let old = hook(json!({"sideEffects": "Some"}));
        let told = told("admissionregistration.k8s.io", "MutatingWebhookConfiguration", &old, Some(&old));
        assert!(told.is_empty(), "{told:?}");
    }
}
