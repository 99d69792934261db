//! How requests share the server: `FlowSchema`, `PriorityLevelConfiguration`. Must never hold up a request.

use std::collections::BTreeSet;

use barque_api::field::FieldPath;
use barque_api::metadata::Metadata;
use barque_api::names;

use super::{Change, Findings, Part};

const HIGHEST_PRECEDENCE: i64 = 10_000;
const MOST_QUEUES: i64 = 10_000_000;
/// Bits of the hash that deals queues.
const HASH_BITS: i64 = 60;
const EXEMPT: &str = "exempt";
const VERBS: [&str; 9] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];

/// What is wrong with a `FlowSchema`.
pub(super) fn check_schema(change: &Change<'_>, findings: &mut Findings) {
    if change.subresource != "status" {
        check_spec(&change.new.child("spec"), Metadata::of(change.new.value).name(), findings);
    }
    check_conditions(&change.new.child("status"), findings);
}

fn check_conditions(status: &Part<'_>, findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    for condition in status.items("conditions") {
        let kind = condition.text("type");
        if !seen.insert(kind) {
            findings.duplicate(&condition.at("type"), kind);
        }
        if kind.is_empty() {
            findings.required(&condition.at("type"), "must not be empty");
        }
    }
}

fn check_spec(spec: &Part<'_>, name: &str, findings: &mut Findings) {
    let (precedence, at) = (spec.count("matchingPrecedence"), spec.at("matchingPrecedence"));
    if precedence <= 0 {
        findings.invalid(&at, precedence, "must be a positive value");
    }
    if precedence > HIGHEST_PRECEDENCE {
        findings.invalid(&at, precedence, format!("must not be greater than {HIGHEST_PRECEDENCE}"));
    }
    if precedence == 1 && name != EXEMPT {
        let detail = "only the schema named 'exempt' may have matchingPrecedence 1";
        findings.invalid(&at, precedence, detail);
    }
    if let Some(method) = spec.given("distinguisherMethod") {
        findings.word_if_given(&method, "type", &["ByNamespace", "ByUser"]);
    }
    let level = spec.child("priorityLevelConfiguration");
    if level.text("name").is_empty() {
        findings.required(&level.at("name"), "must reference a priority level");
    } else {
        findings.dns_subdomain(&level.at("name"), level.text("name"));
    }
    for rule in spec.items("rules") {
        check_rule(&rule, findings);
    }
}

fn check_rule(rule: &Part<'_>, findings: &mut Findings) {
    if rule.list("subjects").is_empty() {
        findings.required(&rule.at("subjects"), "subjects must contain at least one value");
    }
    for subject in rule.items("subjects") {
        check_subject(&subject, findings);
    }
    if rule.list("resourceRules").is_empty() && rule.list("nonResourceRules").is_empty() {
        let detail = "at least one of resourceRules and nonResourceRules has to be non-empty";
        findings.required(&rule.path, detail);
    }
    for resources in rule.items("resourceRules") {
        check_verbs(&resources, findings);
        check_some_or_all(
            &resources,
            "apiGroups",
            "resource rules must supply at least one api group",
            "api groups",
            findings,
        );
        check_some_or_all(
            &resources,
            "resources",
            "resource rules must supply at least one resource",
            "resources",
            findings,
        );
        check_namespaces(&resources, findings);
    }
    for paths in rule.items("nonResourceRules") {
        check_verbs(&paths, findings);
        let needed = "nonResourceURLs must contain at least one value";
        if !check_some_or_all(&paths, "nonResourceURLs", needed, "non-resource URLs", findings) {
            for (index, path) in paths.texts("nonResourceURLs").enumerate() {
                check_path(path, &paths.at("nonResourceURLs").index(index), findings);
            }
        }
    }
}

fn has_all(part: &Part<'_>, field: &str) -> bool {
    part.texts(field).any(|item| item == "*")
}

/// A list with something in it, or with `*` alone; whether that is in it.
fn check_some_or_all(
    part: &Part<'_>,
    field: &str,
    needed: &str,
    what: &str,
    findings: &mut Findings,
) -> bool {
    let all = has_all(part, field);
    if part.list(field).is_empty() {
        findings.required(&part.at(field), needed);
    } else if all && part.list(field).len() > 1 {
        let detail = format!("if '*' is present, must not specify other {what}");
        findings.invalid(&part.at(field), part.get(field).clone(), detail);
    }
    all
}

fn check_verbs(rule: &Part<'_>, findings: &mut Findings) {
    let needed = "verbs must contain at least one value";
    let all = check_some_or_all(rule, "verbs", needed, "verbs", findings);
    if !all && rule.texts("verbs").any(|verb| !VERBS.contains(&verb)) {
        findings.not_supported(&rule.at("verbs"), rule.get("verbs").clone(), &VERBS);
    }
}

fn check_namespaces(rule: &Part<'_>, findings: &mut Findings) {
    if rule.list("namespaces").is_empty() {
        if !rule.flag("clusterScope") {
            let detail = "resource rules that are not cluster scoped must supply at least one namespace";
            findings.required(&rule.at("namespaces"), detail);
        }
        return;
    }
    if check_some_or_all(rule, "namespaces", "", "namespaces", findings) {
        return;
    }
    for (index, namespace) in rule.texts("namespaces").enumerate() {
        for wrong in names::dns_label(namespace) {
            let detail = format!("each member of this list must be '*' or a DNS-1123 label; {wrong}");
            findings.invalid(&rule.at("namespaces").index(index), namespace, detail);
        }
    }
}

fn check_subject(subject: &Part<'_>, findings: &mut Findings) {
    const KINDS: [(&str, &str); 3] =
        [("Group", "group"), ("ServiceAccount", "serviceAccount"), ("User", "user")];
    let kind = subject.text("kind");
    let Some((_, field)) = KINDS.iter().find(|(known, _)| *known == kind) else {
        findings.not_supported(&subject.at("kind"), kind, &KINDS.map(|(kind, _)| kind));
        return;
    };
    match subject.given(field) {
        None => {
            findings
                .required(&subject.at(field), format!("{field} is required when subject kind is '{kind}'"));
        }
        Some(named) => {
            let name = named.text("name");
            findings.needs(&named, "name");
            if *field == "serviceAccount" {
                if !name.is_empty() && name != "*" {
                    findings.dns_subdomain(&named.at("name"), name);
                }
                if named.text("namespace").is_empty() {
                    findings.required(&named.at("namespace"), "must specify namespace for service account");
                } else {
                    findings.dns_label(&named.at("namespace"), named.text("namespace"));
                }
            }
        }
    }
    for (other_kind, other) in KINDS.iter().filter(|(_, other)| other != field && subject.has(other)) {
        let detail = format!("{other} is forbidden when subject kind is not '{other_kind}'");
        findings.forbidden(&subject.at(other), detail);
    }
}

fn check_path(path: &str, at: &FieldPath, findings: &mut Findings) {
    let stars = path.matches('*').count();
    let why = if path.is_empty() {
        "must not be empty"
    } else if path == "/" {
        return;
    } else if !path.starts_with('/') {
        "must start with slash"
    } else if path.contains(' ') {
        "must not contain white-space"
    } else if path.contains("//") {
        "must not contain double slash"
    } else if stars > 1 || stars == 1 && !path.ends_with("/*") {
        "wildcard can only do suffix matching"
    } else {
        return;
    };
    findings.invalid(at, path, why);
}

/// What is wrong with a `PriorityLevelConfiguration`.
pub(super) fn check_level(change: &Change<'_>, findings: &mut Findings) {
    if change.subresource != "status" {
        check_level_spec(&change.new.child("spec"), Metadata::of(change.new.value).name(), findings);
    }
    check_conditions(&change.new.child("status"), findings);
}

fn check_level_spec(spec: &Part<'_>, name: &str, findings: &mut Findings) {
    let kind = spec.text("type");
    if (name == EXEMPT) != (kind == "Exempt") {
        findings.invalid(&spec.at("type"), kind, "type must be 'Exempt' if and only if name is 'exempt'");
    }
    match kind {
        "Exempt" => {
            if spec.has("limited") {
                findings.forbidden(&spec.at("limited"), "must be nil if the type is not Limited");
            }
            if let Some(exempt) = spec.given("exempt") {
                check_shares(&exempt, findings);
                check_lendable(&exempt, findings);
            }
        }
        "Limited" => {
            if spec.has("exempt") {
                findings.forbidden(&spec.at("exempt"), "must be nil if the type is Limited");
            }
            match spec.given("limited") {
                None => findings.required(&spec.at("limited"), "must not be empty when type is Limited"),
                Some(limited) => check_limited(&limited, findings),
            }
        }
        other => findings.not_supported(&spec.at("type"), other, &["Exempt", "Limited"]),
    }
}

fn check_shares(part: &Part<'_>, findings: &mut Findings) {
    let shares = part.count("nominalConcurrencyShares");
    if shares < 0 {
        findings.invalid(&part.at("nominalConcurrencyShares"), shares, "must be a non-negative integer");
    }
}

fn check_lendable(part: &Part<'_>, findings: &mut Findings) {
    let percent = part.count("lendablePercent");
    if !(0..=100).contains(&percent) {
        findings.invalid(&part.at("lendablePercent"), percent, "must be between 0 and 100, inclusive");
    }
}

fn check_limited(limited: &Part<'_>, findings: &mut Findings) {
    check_shares(limited, findings);
    let response = limited.child("limitResponse");
    let queuing = response.given("queuing");
    match (response.text("type"), queuing) {
        ("Reject", Some(queuing)) => {
            let detail = "must be nil if limited.limitResponse.type is not Limited";
            findings.forbidden(&queuing.path, detail);
        }
        ("Reject", None) => {}
        ("Queue", None) => {
            let detail = "must not be empty if limited.limitResponse.type is Limited";
            findings.required(&response.at("queuing"), detail);
        }
        ("Queue", Some(queuing)) => check_queuing(&queuing, findings),
        (other, _) => findings.not_supported(&response.at("type"), other, &["Queue", "Reject"]),
    }
    check_lendable(limited, findings);
    let limit = limited.count("borrowingLimitPercent");
    if limit < 0 {
        let detail = "if specified, must be a non-negative integer";
        findings.invalid(&limited.at("borrowingLimitPercent"), limit, detail);
    }
}

fn check_queuing(queuing: &Part<'_>, findings: &mut Findings) {
    let (length, queues, hand) =
        (queuing.count("queueLengthLimit"), queuing.count("queues"), queuing.count("handSize"));
    if length <= 0 {
        findings.invalid(&queuing.at("queueLengthLimit"), length, "must be positive");
    }
    if queues <= 0 {
        findings.invalid(&queuing.at("queues"), queues, "must be positive");
    } else if queues > MOST_QUEUES {
        findings.invalid(&queuing.at("queues"), queues, format!("must not be greater than {MOST_QUEUES}"));
    }
    let at = queuing.at("handSize");
    if hand <= 0 {
        findings.invalid(&at, hand, "must be positive");
    } else if hand > queues {
        findings.invalid(&at, hand, format!("should not be greater than queues ({queues})"));
    } else if is_too_random(queues, hand) {
        let detail = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS}"
        );
        findings.invalid(&at, hand, detail);
    }
}

#[expect(clippy::cast_precision_loss, reason = "both are small, and Kubernetes counts so")]
fn is_too_random(queues: i64, hand: i64) -> bool {
    ((queues as f64).log2() * hand as f64).ceil() > HASH_BITS as f64
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::told;

    const GROUP: &str = "flowcontrol.apiserver.k8s.io";

    #[test]
    fn schemas_say_who_and_what() {
        let told =
            |spec: Value| told(GROUP, "FlowSchema", &json!({"metadata": {"name": "a"}, "spec": spec}), None);
        let level = json!({"name": "l"});
        assert!(
            told(json!({"matchingPrecedence": 2, "priorityLevelConfiguration": level, "rules": [{
                "subjects": [{"kind": "User", "user": {"name": "u"}}],
                "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/a/*"]}],
            }]}))
            .is_empty()
        );
        assert_eq!(
            told(json!({"matchingPrecedence": 1, "priorityLevelConfiguration": {}})),
            [
                "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1",
                "spec.priorityLevelConfiguration.name: Required value: must reference a priority level",
            ]
        );
        assert_eq!(
            told(json!({"matchingPrecedence": 2, "priorityLevelConfiguration": level, "rules": [{
                "subjects": [{"kind": "Group", "user": {"name": "u"}}],
                "resourceRules": [{"verbs": ["get", "*"], "apiGroups": ["*"], "resources": ["*"]}],
            }]})),
            [
                "spec.rules[0].subjects[0].group: Required value: group is required when subject kind is 'Group'",
                "spec.rules[0].subjects[0].user: Forbidden: user is forbidden when subject kind is not 'User'",
                "spec.rules[0].resourceRules[0].verbs: Invalid value: [\"get\",\"*\"]: if '*' is present, must not specify \
             other verbs",
                "spec.rules[0].resourceRules[0].namespaces: Required value: resource rules that are not cluster scoped must \
             supply at least one namespace",
            ]
        );
    }

    #[test]
    fn levels_are_limited_unless_exempt() {
        let told = |spec: Value| {
            told(GROUP, "PriorityLevelConfiguration", &json!({"metadata": {"name": "a"}, "spec": spec}), None)
        };
        let queued = |hand: i64| {
            json!({"type": "Limited", "limited": {"nominalConcurrencyShares": 1, "limitResponse":
            {"type": "Queue", "queuing": {"queues": 128, "handSize": hand, "queueLengthLimit": 50}}}})
        };
        assert!(told(queued(6)).is_empty());
        assert_eq!(
            told(queued(9)),
            [
                "spec.limited.limitResponse.queuing.handSize: Invalid value: 9: required entropy bits of deckSize 128 and \
             handSize 9 should not be greater than 60"
            ]
        );
        assert_eq!(
            told(json!({"type": "Exempt"})),
            ["spec.type: Invalid value: \"Exempt\": type must be 'Exempt' if and only if name is 'exempt'"]
        );
        assert_eq!(
            told(json!({"type": "Limited"})),
            ["spec.limited: Required value: must not be empty when type is Limited"]
        );
    }
}
