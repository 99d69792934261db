//! What stands in an object when nothing is given: defaults of its schema, and nulls that say nothing. Must never change
//! what was given.

use serde_json::{Map, Value};

use super::model::View;

/// Removes nulls where the schema neither allows null nor has a default, then enters the defaults, also below those that
/// were entered. What a default holds is completed too.
pub fn default(view: View<'_>, value: &mut Value) {
    drop_nulls(view, value);
    enter(view, value);
}

fn default_of<'a>(view: View<'a>) -> Option<&'a Value> {
    view.field().default.as_ref().or(view.schema().default.as_ref())
}

fn nullable(view: View<'_>) -> bool {
    view.field().nullable || view.schema().nullable
}

/// Removes nulls of fields that may not be null and have no default. Items of lists stay, since removing one would move
/// the others.
pub fn drop_nulls(view: View<'_>, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, value| {
                let below = view.property(name);
                let says_nothing = |below: View<'_>| !nullable(below) && default_of(below).is_none();
                !(value.is_null() && below.is_some_and(says_nothing))
            });
            for (name, value) in fields.iter_mut() {
                if let Some(below) = view.property(name) {
                    drop_nulls(below, value);
                }
            }
        }
        Value::Array(list) => {
            if let Some(below) = view.items() {
                list.iter_mut().for_each(|item| drop_nulls(below, item));
            }
        }
        _ => {}
    }
}

fn enter(view: View<'_>, value: &mut Value) {
    match value {
        Value::Object(fields) => enter_fields(view, fields),
        Value::Array(list) => {
            if let Some(below) = view.items() {
                for item in list {
                    replace_null(below, item);
                    enter(below, item);
                }
            }
        }
        _ => {}
    }
}

fn enter_fields(view: View<'_>, fields: &mut Map<String, Value>) {
    for name in view.schema().properties.keys() {
        let missing = || !fields.contains_key(&**name);
        let default = view.property(name).and_then(default_of);
        if let Some(default) = default.filter(|_| missing()) {
            fields.insert(name.to_string(), default.clone());
        }
    }
    for (name, value) in fields.iter_mut() {
        if let Some(below) = view.property(name) {
            replace_null(below, value);
            enter(below, value);
        }
    }
}

fn replace_null(view: View<'_>, value: &mut Value) {
    let default = default_of(view).filter(|_| value.is_null() && !nullable(view));
    if let Some(default) = default {
        *value = default.clone();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::field::FieldPath;
    use crate::schema::{BuiltinSchemas, Definitions, Texts, read};

    #[test]
    fn defaults_are_entered_where_nothing_is_given() {
        let definitions = Definitions::default();
        let table = [
            (json!({"properties": {"a": {"default": 1}}}), json!({}), json!({"a": 1})),
            (json!({"properties": {"a": {"default": 1}}}), json!({"a": 2}), json!({"a": 2})),
            (json!({"properties": {"a": {"default": 1}}}), json!({"a": null}), json!({"a": 1})),
            (
                json!({"properties": {"a": {"default": 1, "nullable": true}}}),
                json!({"a": null}),
                json!({"a": null}),
            ),
            (json!({"properties": {"a": {"type": "string"}}}), json!({"a": null}), json!({})),
            (json!({"properties": {"a": {"nullable": true}}}), json!({"a": null}), json!({"a": null})),
            (json!({}), json!({"a": null}), json!({"a": null})),
            (
                json!({"properties": {"a": {"default": {}, "properties": {"b": {"default": [1]}}}}}),
                json!({}),
                json!({"a": {"b": [1]}}),
            ),
            (json!({"properties": {"a": {"properties": {"b": {"default": 1}}}}}), json!({}), json!({})),
            (
                json!({"properties": {"l": {"items": {"properties": {"b": {"default": 1}}}}}}),
                json!({"l": [{}, {"b": 2}]}),
                json!({"l": [{"b": 1}, {"b": 2}]}),
            ),
            (
                json!({"properties": {"l": {"items": {"default": 7}}}}),
                json!({"l": [null, 1]}),
                json!({"l": [7, 1]}),
            ),
            (
                json!({"properties": {"m": {"additionalProperties": {"properties": {"b": {"default": 1}}}}}}),
                json!({"m": {"x": {}, "y": null}}),
                json!({"m": {"x": {"b": 1}}}),
            ),
        ];
        for (schema, mut value, expected) in table {
            let read = read(&FieldPath::root(), &schema, &mut Texts::default()).unwrap();
            default(definitions.view_of(&read), &mut value);
            assert_eq!(value, expected, "{schema}");
        }
    }

    #[test]
    fn ports_of_built_in_kinds_have_a_protocol() {
        let service = BuiltinSchemas::get().definitions().view("io.k8s.api.core.v1.Service").unwrap();
        let mut value = json!({"spec": {"ports": [{"port": 80}], "selector": null}});
        default(service, &mut value);
        assert_eq!(value, json!({"spec": {"ports": [{"port": 80, "protocol": "TCP"}]}}));
    }
}
