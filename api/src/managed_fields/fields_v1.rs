//! How sets of paths are stored: the field `fieldsV1`, a tree of objects whose names are steps (`f:spec`, `k:{"name":"a"}`,
//! `v:"a"`, `i:0`), with `.` where a step that goes on is in the set itself. Must never guess: a name of a kind that is not
//! known is left out, as it means nothing here.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::path::PathElement;
use super::set::FieldSet;

/// A value of `fieldsV1` that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldsV1Error {
    /// Objects hold objects.
    #[error("fieldsV1 holds {0} where an object is expected; write the set as nested objects")]
    NotAnObject(String),
    /// A name without a kind.
    #[error("key must be 2 characters long: {0:?}")]
    Short(String),
    /// A name whose kind is not set off.
    #[error("missing colon: {0}")]
    NoColon(String),
    /// A name with a content that is none of its kind.
    #[error("parsing key as path element {0:?}: its content does not fit its kind")]
    Content(String),
}

/// As it is stored.
#[must_use]
pub fn encode(set: &FieldSet) -> Value {
    let mut tree = Map::new();
    for step in set.members() {
        tree.insert(name_of(step), Value::Object(Map::new()));
    }
    for (step, child) in set.children() {
        let mut below = encode(child);
        if let (true, Value::Object(below)) = (set.members().contains(step), &mut below) {
            below.insert(".".to_owned(), Value::Object(Map::new()));
        }
        tree.insert(name_of(step), below);
    }
    Value::Object(tree)
}

/// From what is stored.
///
/// # Errors
/// When it is not such a tree.
pub fn decode(tree: &Value) -> Result<FieldSet, FieldsV1Error> {
    decode_below(tree).map(|(set, _)| set)
}

/// What lies below, and whether the step itself is in the set.
fn decode_below(tree: &Value) -> Result<(FieldSet, bool), FieldsV1Error> {
    let fields = match tree {
        Value::Object(fields) => fields,
        Value::Null => return Ok((FieldSet::default(), true)),
        other => return Err(FieldsV1Error::NotAnObject(other.to_string())),
    };
    let mut is_member = false;
    let (mut members, mut children) = (Vec::new(), Vec::new());
    for (name, below) in fields {
        if name == "." {
            is_member = true;
            continue;
        }
        let Some(step) = step_of(name)? else { continue };
        let (child, child_is_member) = decode_below(below)?;
        if child_is_member {
            members.push(step.clone());
        }
        if !child.is_empty() {
            children.push((step, child));
        }
    }
    let is_member = is_member || (members.is_empty() && children.is_empty());
    Ok((FieldSet::from_parts(members.into_iter().collect(), children.into_iter().collect()), is_member))
}

fn name_of(step: &PathElement) -> String {
    match step {
        PathElement::Field(name) => format!("f:{name}"),
        PathElement::Key(fields) => {
            let key = fields.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
            format!("k:{}", crate::go_text::json(&Value::Object(key)))
        }
        PathElement::Value(value) => format!("v:{}", crate::go_text::json(value)),
        PathElement::Index(index) => format!("i:{index}"),
    }
}

/// Nothing for steps of a kind that is not known.
fn step_of(name: &str) -> Result<Option<PathElement>, FieldsV1Error> {
    let wrong = || FieldsV1Error::Content(name.to_owned());
    if name.len() < 2 {
        return Err(FieldsV1Error::Short(name.to_owned()));
    }
    if name.as_bytes()[1] != b':' {
        return Err(FieldsV1Error::NoColon(name.to_owned()));
    }
    let (kind, content) = name.split_at(2);
    Ok(Some(match kind {
        "f:" => PathElement::field(content),
        "v:" => PathElement::Value(serde_json::from_str(content).map_err(|_| wrong())?),
        "k:" => {
            let key: Map<String, Value> = serde_json::from_str(content).map_err(|_| wrong())?;
            let fields = key.into_iter().map(|(name, value)| (Arc::from(name), value));
            PathElement::key(fields.collect())
        }
        "i:" => PathElement::Index(content.parse().map_err(|_| wrong())?),
        _ => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::managed_fields::path::Path;
    use crate::managed_fields::set::tests::any_set;

    #[test]
    fn a_set_is_stored_as_a_tree() {
        let mut set =
            FieldSet::of(&["spec.replicas", "spec.template", "metadata.labels", "metadata.labels.app"]);
        let port = PathElement::key(vec![("protocol".into(), json!("TCP")), ("port".into(), json!(80))]);
        let ports = |rest: &[PathElement]| {
            let mut path = Path::of("spec.ports");
            path.push(port.clone());
            rest.iter().for_each(|step| path.push(step.clone()));
            path
        };
        set.insert(ports(&[]).steps());
        set.insert(ports(&[PathElement::field("name")]).steps());
        set.insert(&[PathElement::field("finalizers"), PathElement::Value(json!("a/b"))]);
        set.insert(&[PathElement::field("numbers"), PathElement::Value(json!(3))]);
        set.insert(&[PathElement::field("args"), PathElement::Index(2)]);
        let tree = json!({
            "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
            "f:spec": {
                "f:replicas": {},
                "f:template": {},
                "f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:name": {}}},
            },
            "f:finalizers": {"v:\"a/b\"": {}},
            "f:numbers": {"v:3": {}},
            "f:args": {"i:2": {}},
        });
        assert_eq!(encode(&set), tree);
        assert_eq!(decode(&tree), Ok(set));
        assert_eq!(encode(&FieldSet::default()), json!({}));
        assert_eq!(decode(&json!(null)), Ok(FieldSet::default()));
    }

    #[test]
    fn other_spellings_are_read() {
        let spaced =
            json!({"k:{ \"protocol\":\"TCP\", \"port\": 80 }": {}, "v: 3": {}, "x:later": {"f:a": {}}});
        let plain = json!({"k:{\"port\":80,\"protocol\":\"TCP\"}": {}, "v:3": {}});
        assert_eq!(encode(&decode(&spaced).unwrap()), plain);
        assert_eq!(decode(&json!({"f:a": {".": {}}})), Ok(FieldSet::of(&["a"])));
        assert_eq!(decode(&json!({"f:a": {"x:b": {}}})), Ok(FieldSet::of(&["a"])));
    }

    #[test]
    fn what_is_no_such_tree_is_refused() {
        let table = [
            (json!([]), "fieldsV1 holds [] where an object is expected; write the set as nested objects"),
            (
                json!({"f:a": 1}),
                "fieldsV1 holds 1 where an object is expected; write the set as nested objects",
            ),
            (json!({"f": {}}), "key must be 2 characters long: \"f\""),
            (json!({"": {}}), "key must be 2 characters long: \"\""),
            (json!({"spec": {}}), "missing colon: spec"),
            (json!({"v:x": {}}), "parsing key as path element \"v:x\": its content does not fit its kind"),
            (
                json!({"k:[1]": {}}),
                "parsing key as path element \"k:[1]\": its content does not fit its kind",
            ),
            (json!({"i:x": {}}), "parsing key as path element \"i:x\": its content does not fit its kind"),
            (json!({"é:": {}}), "missing colon: é:"),
        ];
        for (tree, sentence) in table {
            assert_eq!(decode(&tree).unwrap_err().to_string(), sentence);
        }
    }

    proptest! {
        #[test]
        fn what_is_stored_is_read_back(set in any_set()) {
            prop_assert_eq!(decode(&encode(&set)), Ok(set));
        }
    }
}
