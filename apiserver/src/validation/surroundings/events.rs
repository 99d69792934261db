//! Events: loose where they are written in the core group, strict in their own. Must never count or join them.

use barque_api::field::FieldPath;
use barque_api::metadata::Metadata;
use serde_json::Value;

use super::{Change, Findings, Part};
use crate::validation::findings::IMMUTABLE;
use crate::validation::same::same;

/// The names of the fields that the two groups write differently.
struct Fields {
    strict: bool,
}

impl Fields {
    const fn name(&self, core: &'static str) -> &'static str {
        if !self.strict {
            return core;
        }
        match core.as_bytes() {
            b"involvedObject" => "regarding",
            b"message" => "note",
            b"source" => "deprecatedSource",
            b"firstTimestamp" => "deprecatedFirstTimestamp",
            b"lastTimestamp" => "deprecatedLastTimestamp",
            b"count" => "deprecatedCount",
            b"reportingComponent" => "reportingController",
            _ => core,
        }
    }

    fn get<'a>(&self, event: &Part<'a>, core: &'static str) -> &'a Value {
        event.get(self.name(core))
    }

    fn text<'a>(&self, event: &Part<'a>, core: &'static str) -> &'a str {
        event.text(self.name(core))
    }
}

/// What is wrong with an event. Fields are told by their names in the core group, whatever group was asked.
pub(super) fn check_event(change: &Change<'_>, findings: &mut Findings) {
    let fields = Fields { strict: change.group == "events.k8s.io" };
    check_loosely(&change.new, &fields, findings);
    if !fields.strict {
        return;
    }
    match &change.old {
        None => check_new(&change.new, &fields, findings),
        Some(old) => check_changed(&change.new, old, &fields, findings),
    }
}

fn check_loosely(event: &Part<'_>, fields: &Fields, findings: &mut Findings) {
    let namespace = Metadata::of(event.value).namespace();
    let about =
        fields.get(event, "involvedObject").get("namespace").and_then(Value::as_str).unwrap_or_default();
    let mut mismatch = |is: bool| {
        if is {
            findings.invalid(
                &FieldPath::of("involvedObject.namespace"),
                about,
                "does not match event.namespace",
            );
        }
    };
    if !event.has("eventTime") {
        mismatch(if about.is_empty() { !["", "default"].contains(&namespace) } else { namespace != about });
    } else {
        mismatch(about.is_empty() && !["default", "kube-system"].contains(&namespace));
        let controller = fields.text(event, "reportingComponent");
        if controller.is_empty() {
            findings.required(&FieldPath::of("reportingController"), "");
        }
        findings.label_key(&FieldPath::of("reportingController"), controller);
        for field in ["reportingInstance", "action", "reason"] {
            check_text(event.text(field), field, 128, true, findings);
        }
        check_text(fields.text(event, "message"), "message", 1024, false, findings);
    }
    findings.dns_subdomain(&FieldPath::of("namespace"), namespace);
}

fn check_text(text: &str, field: &str, most: usize, needed: bool, findings: &mut Findings) {
    let at = FieldPath::of(field);
    if needed && text.is_empty() {
        findings.required(&at, "");
    }
    if text.len() > most {
        findings.invalid(&at, "", format!("can have at most {most} characters"));
    }
}

fn check_series(event: &Part<'_>, findings: &mut Findings) {
    let Some(series) = event.given("series") else { return };
    if series.count("count") < 2 {
        findings.invalid(&series.at("count"), "", "should be at least 2");
    }
    if !series.has("lastObservedTime") {
        findings.required(&series.at("lastObservedTime"), "");
    }
}

fn check_new(event: &Part<'_>, fields: &Fields, findings: &mut Findings) {
    check_series(event, findings);
    if !event.has("eventTime") {
        findings.required(&event.at("eventTime"), "");
    }
    let kind = event.text("type");
    if !["Normal", "Warning"].contains(&kind) {
        findings.invalid(&event.at("type"), "", format!("has invalid value: {kind}"));
    }
    for field in ["firstTimestamp", "lastTimestamp", "count", "source"] {
        let value = fields.get(event, field);
        let unset =
            value.is_null() || *value == 0 || value.as_object().is_some_and(serde_json::Map::is_empty);
        if !unset {
            findings.invalid(&FieldPath::of(field), "", "needs to be unset");
        }
    }
}

fn check_changed(new: &Part<'_>, old: &Part<'_>, fields: &Fields, findings: &mut Findings) {
    if new.get("series") != old.get("series") {
        check_series(new, findings);
    }
    for field in [
        "involvedObject",
        "reason",
        "message",
        "source",
        "firstTimestamp",
        "lastTimestamp",
        "count",
        "reason",
        "type",
        "eventTime",
        "action",
        "related",
        "reportingComponent",
        "reportingInstance",
    ] {
        let value = fields.get(new, field);
        if !same(value, fields.get(old, field)) {
            let told = if field == "reportingComponent" { "reportingController" } else { field };
            findings.invalid(&FieldPath::of(told), value.clone(), IMMUTABLE);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::told;

    #[test]
    fn an_event_lies_beside_what_it_is_about() {
        let event =
            |about: &str| json!({"metadata": {"namespace": "a"}, "involvedObject": {"namespace": about}});
        assert!(told("", "Event", &event("a"), None).is_empty());
        assert_eq!(
            told("", "Event", &event("b"), None),
            ["involvedObject.namespace: Invalid value: \"b\": does not match event.namespace"]
        );
    }

    #[test]
    fn their_own_group_is_strict() {
        let event = json!({
            "metadata": {"namespace": "a"}, "regarding": {"namespace": "a"}, "eventTime": "2024-01-01T00:00:00.000000Z",
            "type": "Normal", "reason": "r", "action": "x", "reportingController": "c", "reportingInstance": "i",
        });
        assert!(told("events.k8s.io", "Event", &event, None).is_empty());
        let mut other = event.clone();
        other["note"] = json!("changed");
        other["series"] = json!({"count": 1});
        assert_eq!(
            told("events.k8s.io", "Event", &other, Some(&event)),
            [
                "series.count: Invalid value: \"\": should be at least 2",
                "series.lastObservedTime: Required value",
                "message: Invalid value: \"changed\": field is immutable",
            ]
        );
        other["deprecatedCount"] = json!(1);
        other["type"] = json!("Odd");
        let told = told("events.k8s.io", "Event", &other, None);
        assert!(told.contains(&"count: Invalid value: \"\": needs to be unset".to_owned()));
        assert!(told.contains(&"type: Invalid value: \"\": has invalid value: Odd".to_owned()));
    }
}
