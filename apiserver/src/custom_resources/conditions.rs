//! What the status of a definition says: which names it has, whether it is served, what is wrong with its schemas. Decided
//! from the definition and all others, in Kubernetes' words. Pure: the time is handed in. Must never give two definitions
//! one name.

use std::collections::BTreeSet;

use barque_api::field::FieldError;
use barque_api::time::Time;
use serde_json::{Map, Value, json};

use super::definition::schemas;
use super::validation::approval::{self, Approval};
use super::{list, text};

/// A condition that is to stand in a status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// `NamesAccepted`, `Established` and so on.
    pub kind: &'static str,
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// One word.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

/// Whether a condition of a definition is true.
#[must_use]
pub fn holds(definition: &Value, kind: &str) -> bool {
    find(definition, kind).is_some_and(|one| text(one, "/status") == "True")
}

/// A condition of a definition.
#[must_use]
pub fn find<'a>(definition: &'a Value, kind: &str) -> Option<&'a Value> {
    list(definition, "/status/conditions").iter().find(|one| text(one, "/type") == kind)
}

/// Enters a condition, in place of the one of its kind. The time of its last change is now only if its status changes.
pub fn set(definition: &mut Value, condition: &Condition, now: Time) {
    let before = find(definition, condition.kind);
    let since = before
        .filter(|one| text(one, "/status") == condition.status)
        .map(|one| text(one, "/lastTransitionTime").to_owned())
        .filter(|time| !time.is_empty())
        .unwrap_or_else(|| now.to_string());
    let mut told = json!({
        "type": condition.kind, "status": condition.status, "reason": condition.reason,
        "message": condition.message, "lastTransitionTime": since,
    });
    if let Some(generation) = before.and_then(|one| one.get("observedGeneration")) {
        told["observedGeneration"] = generation.clone();
    }
    if !definition.get("status").is_some_and(Value::is_object) {
        definition["status"] = json!({});
    }
    let conditions = &mut definition["status"]["conditions"];
    match conditions {
        Value::Array(all) => match all.iter_mut().find(|one| text(one, "/type") == condition.kind) {
            Some(place) => *place = told,
            None => all.push(told),
        },
        other => *other = json!([told]),
    }
}

fn remove(definition: &mut Value, kind: &str) {
    if let Some(all) = definition.pointer_mut("/status/conditions").and_then(Value::as_array_mut) {
        all.retain(|one| text(one, "/type") != kind);
    }
}

/// What the status of a definition should be.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// The definition with that status.
    pub definition: Value,
    /// It is to be established then, and not before.
    pub established_at: Option<Time>,
}

/// Judges a definition. `others` are all definitions as they are accepted so far, with or without itself. `delay_seconds` is
/// how long the servers have to hear of accepted names before they are called established: none where there is one server.
#[must_use]
pub fn judge<'a>(
    definition: &Value,
    others: impl IntoIterator<Item = &'a Value>,
    now: Time,
    delay_seconds: i64,
) -> Judged {
    let mut judged = definition.clone();
    if definition.pointer("/spec/names") != definition.pointer("/status/acceptedNames") {
        name(&mut judged, others, now);
    }
    let established_at = establish(&mut judged, now, delay_seconds);
    match non_structural(&judged) {
        Some(condition) => set(&mut judged, &condition, now),
        None => remove(&mut judged, "NonStructuralSchema"),
    }
    match approved(&judged) {
        Some(condition) => set(&mut judged, &condition, now),
        None => remove(&mut judged, APPROVED),
    }
    Judged { definition: judged, established_at }
}

/// Accepts the names that nobody else has.
fn name<'a>(judged: &mut Value, others: impl IntoIterator<Item = &'a Value>, now: Time) {
    let group = text(judged, "/spec/group").to_owned();
    let used = Used::of(others, &group);
    let wanted = judged.pointer("/spec/names").cloned().unwrap_or_default();
    let before = judged.pointer("/status/acceptedNames").cloned().unwrap_or_default();
    let mut accepted = before.as_object().cloned().unwrap_or_default();
    let mut conflict: Option<(&'static str, String)> = None;

    for (field, reason) in [("plural", "PluralConflict"), ("singular", "SingularConflict")] {
        match used.check_resource(&wanted, &before, field) {
            Ok(()) => take(&mut accepted, &wanted, field),
            Err(message) => conflict = Some((reason, message)),
        }
    }
    let own = list(&before, "/shortNames");
    let taken: Vec<String> = list(&wanted, "/shortNames")
        .iter()
        .filter(|name| !own.contains(name))
        .filter_map(Value::as_str)
        .filter(|name| used.resources.contains(*name))
        .map(in_use)
        .collect();
    match taken.as_slice() {
        [] => take(&mut accepted, &wanted, "shortNames"),
        [one] => conflict = Some(("ShortNamesConflict", one.clone())),
        all => conflict = Some(("ShortNamesConflict", format!("[{}]", all.join(", ")))),
    }
    for (field, reason) in [("kind", "KindConflict"), ("listKind", "ListKindConflict")] {
        match used.check_kind(&wanted, &before, field) {
            Ok(()) => take(&mut accepted, &wanted, field),
            Err(message) => conflict = Some((reason, message)),
        }
    }
    take(&mut accepted, &wanted, "categories");
    judged["status"]["acceptedNames"] = Value::Object(accepted);

    let is_free = conflict.is_none();
    let (reason, message) = conflict.unwrap_or(("NoConflicts", "no conflicts found".to_owned()));
    let status = if is_free { "True" } else { "False" };
    set(judged, &Condition { kind: "NamesAccepted", status, reason, message }, now);
    let (reason, message) = match is_free {
        true => ("Installing", "the initial names have been accepted"),
        false => ("NotAccepted", "not all names are accepted"),
    };
    let is_new = find(judged, "Established").is_none();
    if !holds(judged, "Established") && (is_free || is_new) {
        let condition =
            Condition { kind: "Established", status: "False", reason, message: message.to_owned() };
        set(judged, &condition, now);
    }
}

/// Calls it established when its names were accepted for long enough; answers when that will be.
fn establish(judged: &mut Value, now: Time, delay_seconds: i64) -> Option<Time> {
    if !holds(judged, "NamesAccepted") || holds(judged, "Established") {
        return None;
    }
    let since = find(judged, "NamesAccepted").map(|one| text(one, "/lastTransitionTime"));
    let since = since.and_then(|time| Time::parse(time).ok()).unwrap_or(now);
    let due = since.plus_seconds(delay_seconds);
    if due > now {
        return Some(due);
    }
    let condition = if super::validation::conversion::has_bad_bundle(judged) {
        Condition {
            kind: "Established",
            status: "False",
            reason: "InvalidCABundle",
            message: "The conversion webhook CABundle is invalid".to_owned(),
        }
    } else {
        Condition {
            kind: "Established",
            status: "True",
            reason: "InitialNamesAccepted",
            message: "the initial names have been accepted".to_owned(),
        }
    };
    set(judged, &condition, now);
    None
}

fn non_structural(definition: &Value) -> Option<Condition> {
    let errors = schemas(definition).err()?;
    let told: Vec<String> = errors.iter().map(FieldError::to_string).collect();
    let message = match told.as_slice() {
        [one] => one.clone(),
        all => format!("[{}]", all.join(", ")),
    };
    Some(Condition { kind: "NonStructuralSchema", status: "True", reason: "Violations", message })
}

const APPROVED: &str = "KubernetesAPIApprovalPolicyConformant";

fn approved(definition: &Value) -> Option<Condition> {
    if !approval::is_protected(text(definition, "/spec/group")) {
        return None;
    }
    let (approval, message) = approval::of(definition);
    let (status, reason) = match approval {
        Approval::Approved => ("True", "ApprovedAnnotation"),
        Approval::Bypassed => ("False", "UnapprovedAnnotation"),
        Approval::Missing => ("False", "MissingAnnotation"),
        Approval::Invalid => ("False", "InvalidAnnotation"),
    };
    Some(Condition { kind: APPROVED, status, reason, message })
}

fn take(accepted: &mut Map<String, Value>, wanted: &Value, field: &str) {
    match wanted.get(field).filter(|value| !value.is_null()) {
        Some(value) => accepted.insert(field.to_owned(), value.clone()),
        None => accepted.remove(field),
    };
}

fn in_use(name: &str) -> String {
    format!("{name:?} is already in use")
}

/// The names that the definitions of a group have.
#[derive(Default)]
struct Used {
    resources: BTreeSet<String>,
    kinds: BTreeSet<String>,
}

impl Used {
    fn of<'a>(definitions: impl IntoIterator<Item = &'a Value>, group: &str) -> Self {
        let mut used = Self::default();
        for one in definitions.into_iter().filter(|one| text(one, "/spec/group") == group) {
            let names = one.pointer("/status/acceptedNames").unwrap_or(&Value::Null);
            let short = list(names, "/shortNames").iter().filter_map(Value::as_str);
            let resources = [text(names, "/plural"), text(names, "/singular")].into_iter().chain(short);
            used.resources.extend(resources.filter(|name| !name.is_empty()).map(str::to_owned));
            let kinds = [text(names, "/kind"), text(names, "/listKind")];
            used.kinds.extend(kinds.into_iter().filter(|name| !name.is_empty()).map(str::to_owned));
        }
        used
    }

    fn check_resource(&self, wanted: &Value, own: &Value, field: &str) -> Result<(), String> {
        check(&self.resources, wanted, own, field)
    }

    fn check_kind(&self, wanted: &Value, own: &Value, field: &str) -> Result<(), String> {
        check(&self.kinds, wanted, own, field)
    }
}

fn check(used: &BTreeSet<String>, wanted: &Value, own: &Value, field: &str) -> Result<(), String> {
    let name = wanted.get(field).and_then(Value::as_str).unwrap_or_default();
    let own = own.get(field).and_then(Value::as_str).unwrap_or_default();
    if name == own || !used.contains(name) { Ok(()) } else { Err(in_use(name)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: &str = "2026-01-02T12:00:00Z";

    fn noon() -> Time {
        Time::parse(NOON).unwrap()
    }

    fn definition(plural: &str, kind: &str, short: &[&str]) -> Value {
        json!({
            "metadata": {"name": format!("{plural}.example.com")},
            "spec": {
                "group": "example.com",
                "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind,
                    "listKind": format!("{kind}List"), "shortNames": short},
                "versions": [{"name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object"}}}],
            },
            "status": {"acceptedNames": {"kind": "", "plural": ""}, "conditions": [], "storedVersions": ["v1"]},
        })
    }

    fn told(definition: &Value, kind: &str) -> String {
        let one = find(definition, kind).unwrap();
        format!("{} {}: {}", text(one, "/status"), text(one, "/reason"), text(one, "/message"))
    }

    #[test]
    fn names_that_nobody_has_are_accepted_and_established_at_once_by_a_single_server() {
        let judged = judge(&definition("foos", "Foo", &["f"]), [], noon(), 0);
        let one = &judged.definition;
        assert_eq!(one["status"]["acceptedNames"], one["spec"]["names"]);
        assert_eq!(told(one, "NamesAccepted"), "True NoConflicts: no conflicts found");
        assert_eq!(
            told(one, "Established"),
            "True InitialNamesAccepted: the initial names have been accepted"
        );
        assert_eq!(judged.established_at, None);
        assert_eq!(judge(one, [one], noon().plus_seconds(60), 0).definition, *one, "it stays as it is");
    }

    #[test]
    fn several_servers_are_given_time_before_it_is_established() {
        let first = judge(&definition("foos", "Foo", &[]), [], noon(), 5);
        assert_eq!(first.established_at, Some(noon().plus_seconds(5)));
        assert_eq!(
            told(&first.definition, "Established"),
            "False Installing: the initial names have been accepted"
        );
        let waits = judge(&first.definition, [], noon().plus_seconds(4), 5);
        assert_eq!(waits, first);
        let done = judge(&first.definition, [], noon().plus_seconds(5), 5);
        assert!(holds(&done.definition, "Established"));
    }

    #[test]
    fn names_of_others_are_refused_until_they_are_free() {
        let first = judge(&definition("foos", "Foo", &["f", "g"]), [], noon(), 0).definition;
        let table = [
            (definition("foo", "Bar", &[]), "False PluralConflict: \"foo\" is already in use"),
            (definition("bars", "Foos", &[]), "False SingularConflict: \"foos\" is already in use"),
            (definition("bars", "Bar", &["f"]), "False ShortNamesConflict: \"f\" is already in use"),
            (
                definition("bars", "Bar", &["f", "g", "h"]),
                "False ShortNamesConflict: [\"f\" is already in use, \"g\" is already in use]",
            ),
            (definition("bars", "FooList", &[]), "False KindConflict: \"FooList\" is already in use"),
        ];
        for (second, expected) in table {
            let judged = judge(&second, [&first], noon(), 0).definition;
            assert_eq!(told(&judged, "NamesAccepted"), expected);
            assert_eq!(told(&judged, "Established"), "False NotAccepted: not all names are accepted");
            let later = judge(&judged, [], noon().plus_seconds(9), 0).definition;
            assert!(holds(&later, "Established"), "{expected}");
        }
        let mut elsewhere = definition("foos", "Foo", &[]);
        elsewhere["spec"]["group"] = json!("other.example.com");
        assert!(holds(&judge(&elsewhere, [&first], noon(), 0).definition, "NamesAccepted"));
    }

    #[test]
    fn a_name_that_is_lost_does_not_take_away_what_is_established() {
        let first = judge(&definition("foos", "Foo", &[]), [], noon(), 0).definition;
        let mut second = judge(&definition("bars", "Bar", &[]), [], noon(), 0).definition;
        second["spec"]["names"]["shortNames"] = json!(["foos"]);
        let judged = judge(&second, [&first, &second], noon(), 0).definition;
        assert!(!holds(&judged, "NamesAccepted") && holds(&judged, "Established"));
        assert_eq!(judged["status"]["acceptedNames"]["shortNames"], json!([]));
    }

    #[test]
    fn what_is_wrong_with_schemas_and_approvals_is_told() {
        let mut one = definition("foos", "Foo", &[]);
        one["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = json!({});
        let judged = judge(&one, [], noon(), 0).definition;
        assert_eq!(
            told(&judged, "NonStructuralSchema"),
            "True Violations: spec.versions[0].schema.openAPIV3Schema.type: Required value: must not be empty at the root"
        );
        one["spec"]["group"] = json!("x.k8s.io");
        one["metadata"]["annotations"] =
            json!({"api-approved.kubernetes.io": "https://github.com/a/b/pull/1"});
        let judged = judge(&one, [], noon(), 0).definition;
        assert_eq!(
            told(&judged, APPROVED),
            "True ApprovedAnnotation: approved in https://github.com/a/b/pull/1"
        );
    }
}
