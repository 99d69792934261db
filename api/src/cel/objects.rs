//! Objects that expressions make (`Object.spec{replicas: 1}`, `JSONPatch{op: "add"}`): which types there are, where they may
//! stand, and values as JSON. Must never make JSON that is not paid for.

use serde_json::{Map, Number, Value};

use super::ast::{Expr, Node};
use super::convert;
use super::machine::{Budget, EvalError};
use super::strings::base64_encode;
use super::value::Val;

/// The fields of an operation of a JSON patch.
const OPERATION: [&str; 4] = ["op", "path", "from", "value"];

/// What is wrong with an object of this type and these fields.
pub(super) fn unknown(name: &str, fields: &[(Box<str>, Node, bool)]) -> Option<String> {
    if name == "JSONPatch" {
        let wrong = fields.iter().find(|(field, ..)| !OPERATION.contains(&&**field));
        return wrong.map(|(field, ..)| format!("undefined field '{field}'"));
    }
    let known = name == "Object" || name.starts_with("Object.");
    (!known).then(|| format!("undeclared reference to '{name}' (in container '')"))
}

/// Holds objects that are written in a field to the type that belongs there.
///
/// # Errors
/// When one of them has another type.
pub(super) fn check_names(expected: &str, node: &Node) -> Result<(), EvalError> {
    match &node.expr {
        Expr::Object { name, .. } if **name != *expected => Err(EvalError::other(format!(
            "type mismatch: unexpected type name \"{name}\", expected \"{expected}\", which matches field name path from root Object type"
        ))),
        Expr::List(items) => items.iter().try_for_each(|(item, _)| check_names(expected, item)),
        Expr::If(_, then, otherwise) => {
            check_names(expected, then)?;
            check_names(expected, otherwise)
        }
        _ => Ok(()),
    }
}

/// A key as a step of a JSON pointer: `jsonpatch.escapeKey()`.
pub(super) fn escape_key(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

impl Val<'_> {
    /// The value as JSON; what there is to write is taken from the budget.
    ///
    /// # Errors
    /// When it has none, or there is more than the budget pays for.
    pub fn to_json(&self, budget: &mut Budget) -> Result<Value, EvalError> {
        budget.pay_for(self)?;
        json_of(self)
    }
}

fn json_of(value: &Val<'_>) -> Result<Value, EvalError> {
    Ok(match value {
        Val::Null => Value::Null,
        Val::Bool(value) => Value::Bool(*value),
        Val::Int(value) => (*value).into(),
        Val::Uint(value) => (*value).into(),
        Val::Double(value) => {
            let number = Number::from_f64(*value);
            Value::Number(number.ok_or_else(|| EvalError::other("no number of JSON"))?)
        }
        Val::Bytes(bytes) => base64_encode(bytes).into(),
        Val::JsonList(list, _) => Value::Array(list.to_vec()),
        Val::JsonMap(map, _) => Value::Object((*map).clone()),
        Val::List(list) => Value::Array(list.iter().map(json_of).collect::<Result<_, _>>()?),
        Val::Map(map) => {
            let mut fields = Map::new();
            for (key, value) in map.iter() {
                let key = convert::text_of(key).ok_or(EvalError::NoSuchOverload)?;
                fields.insert(key, json_of(value)?);
            }
            Value::Object(fields)
        }
        Val::Optional(Some(inner)) => json_of(inner)?,
        Val::Optional(None) => Value::Null,
        other => match convert::text_of(other) {
            Some(text) => text.into(),
            None => return Err(EvalError::other(format!("type '{}' has no JSON", other.type_name()))),
        },
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Activation, Environment, PER_OBJECT, Program};
    use super::*;

    fn made(source: &str) -> Result<Value, String> {
        let object = json!({"a": [1, {"b": "c"}], "n": 2});
        let environment = Environment::default().with("object", None).with_objects();
        let program = Program::compile(&environment, source, None).map_err(|error| error.to_string())?;
        let activation = Activation::default().with("object", Val::of_json(&object, None));
        let mut budget = Budget::new(PER_OBJECT);
        let value = program.evaluate(&activation, &mut budget).map_err(|error| error.to_string())?;
        value.to_json(&mut budget).map_err(|error| error.to_string())
    }

    #[test]
    fn objects_are_made_of_expressions() {
        let table = [
            ("Object{}", json!({})),
            (
                "Object{spec: Object.spec{replicas: object.n + 1, list: object.a}}",
                json!({"spec": {"replicas": 3, "list": [1, {"b": "c"}]}}),
            ),
            (
                "Object{spec: Object.spec{items: [Object.spec.items{?name: object.?x, f: 1.5}]}}",
                json!({"spec": {"items": [{"f": 1.5}]}}),
            ),
            (
                "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b~c'), value: 'x'}]",
                json!([{"op": "add", "path": "/metadata/labels/a~1b~0c", "value": "x"}]),
            ),
            (
                "Object{metadata: Object.metadata{labels: {'a/b': 'c'}}}",
                json!({"metadata": {"labels": {"a/b": "c"}}}),
            ),
        ];
        for (source, expected) in table {
            assert_eq!(made(source), Ok(expected), "{source}");
        }
    }

    #[test]
    fn objects_of_other_types_are_refused() {
        let table = [
            ("Thing{}", "undeclared reference to 'Thing' (in container '')"),
            ("JSONPatch{operation: 'add'}", "undefined field 'operation'"),
            (
                "Object{spec: Object.status{}}",
                "type mismatch: unexpected type name \"Object.status\", expected \"Object.spec\"",
            ),
        ];
        for (source, expected) in table {
            let error = made(source).unwrap_err();
            assert!(error.contains(expected), "{source}: {error}");
        }
        let environment = Environment::default();
        assert!(Program::compile(&environment, "Object{}", None).is_err());
    }

    #[test]
    fn json_is_paid_for() {
        let long = Val::list(vec![Val::text("x".repeat(100)); 50]);
        assert_eq!(long.to_json(&mut Budget::new(100)), Err(EvalError::LimitExceeded));
        assert!(long.to_json(&mut Budget::new(1000)).is_ok());
    }
}
