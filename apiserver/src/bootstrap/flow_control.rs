//! Priority levels and flow schemas of the start, and who keeps them: the server those that it needs, and those that it
//! suggests until their annotation says otherwise (Kubernetes' two strategies). Must never know how requests are queued.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use barque_api::kind::GroupVersion;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Desired, Rule, annotation};
use crate::defaults;

/// On levels and schemas: whether the server keeps the spec.
const AUTOUPDATE: &str = "apf.kubernetes.io/autoupdate-spec";
const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const LEVEL: &str = "PriorityLevelConfiguration";
const SCHEMA: &str = "FlowSchema";

#[derive(Deserialize)]
struct Tables {
    mandatory: Table,
    suggested: Table,
}

/// Specs by names.
#[derive(Deserialize)]
struct Table {
    #[serde(rename = "PriorityLevelConfiguration")]
    levels: BTreeMap<String, Value>,
    #[serde(rename = "FlowSchema")]
    schemas: BTreeMap<String, Value>,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let text = include_str!("../../data/bootstrap/flow-control.yaml");
    serde_saphyr::from_str(text).expect("the table that is compiled in is read by a test")
});

/// Levels before the schemas that name them.
pub(super) fn objects() -> Vec<Desired> {
    let group_version = GroupVersion::new(GROUP, "v1");
    let mut all = Vec::new();
    for (table, mandatory) in [(&TABLES.mandatory, true), (&TABLES.suggested, false)] {
        let kinds =
            [(LEVEL, "prioritylevelconfigurations", &table.levels), (SCHEMA, "flowschemas", &table.schemas)];
        for (kind, resource, specs) in kinds {
            all.extend(specs.iter().map(|(name, spec)| {
                Desired::new(&group_version, resource, kind, ("", name), Rule::FlowControl { mandatory })
                    .with_metadata("annotations", json!({AUTOUPDATE: "true"}))
                    .with("spec", spec.clone())
            }));
        }
    }
    all.sort_by_key(|one| one.object["kind"] != LEVEL);
    all
}

/// Whether a level or schema was left behind by a server that made others, and goes: it is still the server's to change, and
/// is none of these. Levels go after the schemas that name them.
#[must_use]
pub fn is_obsolete(existing: &Value) -> bool {
    let Some(name) = existing.pointer("/metadata/name").and_then(Value::as_str) else { return false };
    let known = |table: &Table| match existing["kind"].as_str() {
        Some(LEVEL) => table.levels.contains_key(name),
        Some(SCHEMA) => table.schemas.contains_key(name),
        _ => true,
    };
    !known(&TABLES.mandatory)
        && !known(&TABLES.suggested)
        && annotation(existing, AUTOUPDATE).and_then(read_bool) == Some(true)
}

/// An object as it should be.
pub(super) fn revised(expected: &Value, existing: &Value, mandatory: bool) -> Value {
    let mut object = existing.clone();
    let keep = mandatory || is_kept(existing);
    if keep {
        let spec = wanted_spec(expected, existing);
        if existing["spec"] != spec {
            object["spec"] = spec;
        }
    }
    if annotation(existing, AUTOUPDATE).and_then(read_bool) != Some(keep)
        && let Some(metadata) = object["metadata"].as_object_mut()
    {
        let annotations = metadata.entry("annotations").or_insert(Value::Null);
        if !annotations.is_object() {
            *annotations = json!({});
        }
        annotations[AUTOUPDATE] = keep.to_string().into();
    }
    object
}

/// With what is filled in where nothing is said. The shares of the exempt level are the operator's.
fn wanted_spec(expected: &Value, existing: &Value) -> Value {
    let mut wanted = expected.clone();
    let kind = expected["kind"].as_str().unwrap_or_default();
    defaults::fill(GROUP, kind, &mut wanted);
    let mut spec = wanted["spec"].take();
    if kind == LEVEL && expected["metadata"]["name"] == "exempt" {
        for field in ["nominalConcurrencyShares", "lendablePercent"] {
            if let Some(own) = existing.pointer(&format!("/spec/exempt/{field}")) {
                spec["exempt"][field] = own.clone();
            }
        }
    }
    spec
}

/// Whether the server may still change it: by the annotation, or because nobody has changed the spec since it was made.
fn is_kept(existing: &Value) -> bool {
    let said = annotation(existing, AUTOUPDATE).and_then(read_bool);
    said.unwrap_or_else(|| existing.pointer("/metadata/generation").and_then(Value::as_i64) == Some(1))
}

/// A truth in any of the words that Go takes for one.
fn read_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::one;
    use super::super::{Plan, plan};
    use super::*;

    fn annotated(object: &Value, text: Option<&str>, generation: i64) -> Value {
        let mut object = object.clone();
        object["metadata"]["annotations"] = text.map_or(json!({}), |text| json!({AUTOUPDATE: text}));
        object["metadata"]["generation"] = generation.into();
        object["spec"]["matchingPrecedence"] = 77.into();
        object
    }

    #[test]
    fn the_tables_are_read_and_each_schema_has_its_level() {
        let all = objects();
        let count = |kind: &str| all.iter().filter(|one| one.object["kind"] == kind).count();
        assert_eq!((count(LEVEL), count(SCHEMA)), (8, 11));
        for schema in all.iter().filter(|one| one.object["kind"] == SCHEMA) {
            let level = &schema.object["spec"]["priorityLevelConfiguration"]["name"];
            assert!(
                all.iter().any(|one| one.object["kind"] == LEVEL && one.name == *level),
                "{}",
                schema.name
            );
        }
        assert_eq!(
            one("flowschemas", "system-nodes").object["spec"]["rules"][0]["nonResourceRules"][0]["verbs"],
            json!(["*"])
        );
    }

    #[test]
    fn a_suggestion_is_kept_until_somebody_takes_it_over() {
        let desired = one("flowschemas", "service-accounts");
        let table = [
            (Some("true"), 5, Some(9000), "true"),
            (Some("false"), 1, None, "false"),
            (None, 1, Some(9000), "true"),
            (None, 2, Some(77), "false"),
            (Some("what"), 2, Some(77), "false"),
            (Some("T"), 2, Some(9000), "T"),
        ];
        for (text, generation, precedence, annotated_as) in table {
            let existing = annotated(&desired.object, text, generation);
            match (plan(&desired, Some(&existing)), precedence) {
                (Plan::Nothing, None) => {}
                (Plan::Update(object), Some(precedence)) => {
                    assert_eq!(object["spec"]["matchingPrecedence"], precedence, "{text:?} {generation}");
                    assert_eq!(annotation(&object, AUTOUPDATE), Some(annotated_as), "{text:?} {generation}");
                }
                (other, _) => panic!("{text:?} {generation}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_is_mandatory_is_kept_whatever_it_says() {
        let desired = one("flowschemas", "catch-all");
        let existing = annotated(&desired.object, Some("false"), 3);
        let Plan::Update(object) = plan(&desired, Some(&existing)) else { panic!() };
        assert_eq!(object["spec"], desired.object["spec"]);
        assert_eq!(annotation(&object, AUTOUPDATE), Some("true"));
    }

    #[test]
    fn what_an_older_server_made_goes_unless_somebody_took_it_over() {
        let mut schema = one("flowschemas", "catch-all").object;
        assert!(!is_obsolete(&schema));
        schema["metadata"]["name"] = "workload-leader-election".into();
        assert!(is_obsolete(&schema));
        schema["metadata"]["annotations"][AUTOUPDATE] = "false".into();
        assert!(!is_obsolete(&schema));
        schema["metadata"]["annotations"] = json!({});
        assert!(!is_obsolete(&schema));
    }

    #[test]
    fn the_shares_of_the_exempt_level_are_the_operators() {
        let desired = one("prioritylevelconfigurations", "exempt");
        let mut existing = desired.object.clone();
        existing["spec"]["exempt"]["nominalConcurrencyShares"] = 9.into();
        assert_eq!(plan(&desired, Some(&existing)), Plan::Nothing);
        existing["spec"]["type"] = "Limited".into();
        let Plan::Update(object) = plan(&desired, Some(&existing)) else { panic!() };
        let spec = json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 9, "lendablePercent": 0}});
        assert_eq!(object["spec"], spec);
    }
}
