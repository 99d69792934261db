//! An object laid over another one as if it were applied, without anybody owning what it says. Must never change a list or map
//! that is owned as a whole, because what is not said of it would go.

use serde_json::Value;

use super::path::{Path, PathElement};
use super::typed::{Form, Items, Shape, Strictness, merge, validate};
use crate::schema::View;

/// `live` with what `applied` says, which has fields that the schema knows.
///
/// # Errors
/// When `applied` does not fit the schema, or says something of what can only be replaced as a whole.
pub fn overlay(view: Option<View<'_>>, live: &Value, applied: &Value) -> Result<Value, String> {
    let shape = Shape::of_object(view);
    validate(shape, applied, Strictness::Applied)
        .map_err(|errors| format!("failed to convert patch object to typed object: {errors}"))?;
    let mut wholes = Vec::new();
    find_wholes(shape, applied, &mut Path::default(), &mut wholes);
    if !wholes.is_empty() {
        let wholes = wholes.join(", ");
        return Err(format!(
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {wholes}"
        ));
    }
    Ok(merge(shape, live, applied))
}

fn find_wholes(shape: Shape<'_>, value: &Value, path: &mut Path, found: &mut Vec<String>) {
    // Where no schema says anything, nothing is said to be whole.
    if !matches!(shape, Shape::Typed { .. }) {
        return;
    }
    match (shape.form(Some(value)), value) {
        (Form::Map(fields), Value::Object(values)) => {
            if fields.whole {
                found.push(path.to_string());
            }
            for (name, value) in values {
                let Some(below) = fields.field(name) else { continue };
                path.push(PathElement::field(name));
                find_wholes(below, value, path, found);
                path.pop();
            }
        }
        (Form::List(list), Value::Array(items)) => {
            if matches!(list.items, Items::Whole) {
                found.push(path.to_string());
            }
            for (place, item) in items.iter().enumerate() {
                path.push(PathElement::Index(i64::try_from(place).unwrap_or(i64::MAX)));
                find_wholes(list.item, item, path, found);
                path.pop();
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kind::GroupVersionKind;
    use crate::schema::BuiltinSchemas;

    fn laid(live: &Value, applied: &Value) -> Result<Value, String> {
        let schemas = BuiltinSchemas::get();
        let name = schemas.name_of(&GroupVersionKind::new("", "v1", "Pod")).unwrap();
        overlay(schemas.definitions().view(name), live, applied)
    }

    #[test]
    fn fields_and_items_are_merged() {
        let live = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        let applied = json!({"metadata": {"labels": {"x": "y"}},
            "spec": {"containers": [{"name": "d"}, {"name": "c", "stdin": true}]}});
        let merged = laid(&live, &applied).unwrap();
        assert_eq!(merged["metadata"]["labels"], json!({"a": "b", "x": "y"}));
        let containers = merged["spec"]["containers"].as_array().unwrap();
        assert!(containers.contains(&json!({"name": "c", "image": "i", "stdin": true})));
        assert!(containers.contains(&json!({"name": "d"})));
    }

    #[test]
    fn what_is_owned_as_a_whole_stays() {
        let applied = json!({"spec": {"containers": [{"name": "c", "command": ["x"]}]}});
        assert_eq!(
            laid(&json!({}), &applied).unwrap_err(),
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.containers[0].command"
        );
    }

    #[test]
    fn unknown_fields_are_refused() {
        let error = laid(&json!({}), &json!({"spec": {"colour": 1}})).unwrap_err();
        assert_eq!(
            error,
            "failed to convert patch object to typed object: .spec.colour: field not declared in schema"
        );
    }
}
