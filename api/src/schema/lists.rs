//! Lists that are sets, or maps by keys of their items: no item twice. Must never judge the items themselves.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::model::{ListType, View};
use crate::field::{FieldError, FieldPath};

/// Items that are there twice, in all lists below a value.
#[must_use]
pub fn validate_lists(view: View<'_>, value: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    look(view, value, at, &mut errors);
    errors
}

fn look(view: View<'_>, value: &Value, at: &FieldPath, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let Some(below) = view.property(name) else { continue };
                let named = view.schema().properties.contains_key(name.as_str());
                let at = if named { at.child(name) } else { at.key(name) };
                look(below, value, &at, errors);
            }
        }
        Value::Array(list) => {
            match view.list_type() {
                ListType::Atomic => {}
                ListType::Set => {
                    let repeated = repeated(list.iter().map(Value::to_string));
                    errors.extend(
                        repeated.map(|index| FieldError::duplicate(&at.index(index), list[index].clone())),
                    );
                }
                ListType::Map(keys) => map_items(keys, list, at, errors),
            }
            if let Some(below) = view.items() {
                for (index, item) in list.iter().enumerate() {
                    look(below, item, &at.index(index), errors);
                }
            }
        }
        _ => {}
    }
}

fn map_items(keys: &[Arc<str>], list: &[Value], at: &FieldPath, errors: &mut Vec<FieldError>) {
    if let Some(index) = list.iter().position(|item| !item.is_null() && !item.is_object()) {
        let should = "must be an object for an array of list-type map";
        errors.push(FieldError::invalid(&at.index(index), list[index].clone(), should));
        return;
    }
    let key_of = |item: &Value| {
        let given = |key: &Arc<str>| Some((key.to_string(), item.get(&**key)?.clone()));
        Value::Object(keys.iter().filter_map(given).collect::<Map<_, _>>())
    };
    let found: Vec<Value> = list.iter().map(key_of).collect();
    let repeated = repeated(found.iter().map(Value::to_string));
    errors.extend(repeated.map(|index| FieldError::duplicate(&at.index(index), found[index].clone())));
}

/// Where each text stands for the second time.
fn repeated(texts: impl Iterator<Item = String>) -> impl Iterator<Item = usize> {
    let mut times: HashMap<String, usize> = HashMap::new();
    let seconds = texts.enumerate().filter_map(move |(index, text)| {
        let times = times.entry(text).or_default();
        *times += 1;
        (*times == 2).then_some(index)
    });
    seconds.collect::<Vec<_>>().into_iter()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::{Definitions, Texts, read};

    #[test]
    fn items_that_are_there_twice_are_told() {
        let schema = json!({"properties": {
            "set": {"x-kubernetes-list-type": "set", "items": {}},
            "one": {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": {}},
            "two": {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k", "l"], "items": {}},
            "atomic": {"items": {}},
            "map": {"additionalProperties": {"x-kubernetes-list-type": "set", "items": {}}},
        }});
        let schema = read(&FieldPath::root(), &schema, &mut Texts::default()).unwrap();
        let definitions = Definitions::default();
        let table = [
            (json!({"set": [1, 2, 1, 1]}), vec!["set[2]: Duplicate value: 1"]),
            (json!({"set": [{"a": 1}, {"a": 1}]}), vec![r#"set[1]: Duplicate value: {"a":1}"#]),
            (json!({"one": [{"k": "a"}, {"k": "a", "x": 1}]}), vec![r#"one[1]: Duplicate value: {"k":"a"}"#]),
            (json!({"one": [{}, {"x": 1}]}), vec!["one[1]: Duplicate value: {}"]),
            (json!({"two": [{"k": 1, "l": 2}, {"k": 1, "l": 3}]}), vec![]),
            (
                json!({"two": [{"k": 1, "l": 2}, {"l": 2, "k": 1}]}),
                vec![r#"two[1]: Duplicate value: {"k":1,"l":2}"#],
            ),
            (
                json!({"one": [1]}),
                vec!["one[0]: Invalid value: 1: must be an object for an array of list-type map"],
            ),
            (json!({"atomic": [1, 1]}), vec![]),
            (json!({"map": {"x": ["a", "a"]}}), vec![r#"map[x][1]: Duplicate value: "a""#]),
        ];
        for (value, expected) in table {
            let errors = validate_lists(definitions.view_of(&schema), &value, &FieldPath::root());
            let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(told, expected, "{value}");
        }
    }
}
