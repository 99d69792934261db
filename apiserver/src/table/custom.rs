//! The columns of a custom kind (`additionalPrinterColumns`): which there are, and what stands in them. Must never show a value
//! of another type than its column says.

use barque_api::json_path::JsonPath;
use barque_api::time::Time;
use serde_json::{Value, json};

use super::age::human_duration;
use super::text::{Now, words};

/// The columns behind the name.
#[derive(Clone, Debug, PartialEq)]
pub struct CustomColumns(Vec<Column>);

#[derive(Clone, Debug, PartialEq)]
struct Column {
    name: String,
    kind: String,
    format: String,
    description: String,
    priority: i64,
    path: JsonPath,
}

impl CustomColumns {
    /// As a version defines them; the age where it defines none. From the first whose path cannot be read on, there are none.
    #[must_use]
    pub fn of(columns: &[Value]) -> Self {
        if columns.is_empty() {
            let age = json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"});
            return Self(Column::of(&age).into_iter().collect());
        }
        Self(columns.iter().map_while(Column::of).collect())
    }

    /// All columns, the name first, as a table tells them.
    #[must_use]
    pub fn definitions(&self) -> Vec<Value> {
        let name =
            json!({"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0});
        let others = self.0.iter().map(|column| {
            json!({
                "name": column.name,
                "type": column.kind,
                "format": column.format,
                "description": column.description,
                "priority": column.priority,
            })
        });
        std::iter::once(name).chain(others).collect()
    }

    /// What stands in the row of an object.
    #[must_use]
    pub fn cells(&self, object: &Value, now: Now) -> Vec<Value> {
        let name = words(object, "/metadata/name").into();
        let others = self.0.iter().map(|column| column.cell(object, now));
        std::iter::once(name).chain(others).collect()
    }
}

impl Column {
    fn of(column: &Value) -> Option<Self> {
        let text = |field: &str| column.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let path = text("jsonPath");
        let description = match text("description") {
            none if none.is_empty() => {
                format!("Custom resource definition column (in JSONPath format): {path}")
            }
            told => told,
        };
        Some(Self {
            name: text("name"),
            kind: text("type"),
            format: text("format"),
            description,
            priority: column.get("priority").and_then(Value::as_i64).unwrap_or_default(),
            path: JsonPath::parse(&path).ok()?,
        })
    }

    /// The first value that the path leads to, as Kubernetes shows it; null when there is none of the column's type.
    fn cell(&self, object: &Value, now: Now) -> Value {
        let Some(value) = self.path.find(object).first().copied() else { return Value::Null };
        match self.kind.as_str() {
            "string" => printed(value).into(),
            "integer" => match (value.as_i64(), value.as_f64()) {
                (Some(whole), _) => whole.into(),
                // A fraction is cut off, as a column of whole numbers has no place for it.
                (None, Some(number)) => {
                    format!("{:.0}", number.trunc()).parse::<i64>().map_or(Value::Null, Value::from)
                }
                _ => Value::Null,
            },
            "number" if value.is_number() => value.clone(),
            "boolean" if value.is_boolean() => value.clone(),
            "date" => value.as_str().map_or(Value::Null, |text| age(text, now).into()),
            _ => Value::Null,
        }
    }
}

fn printed(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "<no value>".to_owned(),
        other => other.to_string(),
    }
}

fn age(text: &str, now: Now) -> String {
    if text.is_empty() {
        return "<unknown>".to_owned();
    }
    match Time::parse(text) {
        Ok(then) => human_duration(now.seconds - then.unix()),
        Err(_) => "<invalid>".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::noon;
    use super::*;

    #[test]
    fn columns_show_what_their_paths_lead_to() {
        let object = json!({
            "metadata": {"name": "a", "creationTimestamp": "2026-01-02T11:00:00Z"},
            "spec": {"n": 3, "f": 2.5, "b": true, "s": "text", "o": {"x": [1]}, "when": "soon"},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        });
        let table = [
            ("string", ".spec.s", json!("text")),
            ("string", ".spec.n", json!("3")),
            ("string", ".spec.b", json!("true")),
            ("string", ".spec.o", json!(r#"{"x":[1]}"#)),
            ("string", r#".status.conditions[?(@.type=="Ready")].status"#, json!("True")),
            ("string", ".spec.none", Value::Null),
            ("integer", ".spec.n", json!(3)),
            ("integer", ".spec.f", json!(2)),
            ("integer", ".spec.s", Value::Null),
            ("number", ".spec.f", json!(2.5)),
            ("boolean", ".spec.b", json!(true)),
            ("boolean", ".spec.s", Value::Null),
            ("date", ".metadata.creationTimestamp", json!("60m")),
            ("date", ".spec.when", json!("<invalid>")),
            ("date", ".spec.n", Value::Null),
        ];
        for (kind, path, expected) in table {
            let column = json!({"name": "X", "type": kind, "jsonPath": path});
            let cells = CustomColumns::of(&[column]).cells(&object, noon());
            assert_eq!(cells, [json!("a"), expected], "{kind} {path}");
        }
    }

    #[test]
    fn a_kind_without_columns_has_a_name_and_an_age() {
        let columns = CustomColumns::of(&[]);
        let heads: Vec<_> = columns.definitions().iter().map(|column| column["name"].clone()).collect();
        assert_eq!(heads, ["Name", "Age"]);
        let object = json!({"metadata": {"name": "a", "creationTimestamp": "2026-01-02T11:59:00Z"}});
        assert_eq!(columns.cells(&object, noon()), [json!("a"), json!("60s")]);
    }

    #[test]
    fn columns_are_told_with_what_they_are_for() {
        let column =
            json!({"name": "X", "type": "integer", "format": "int32", "priority": 1, "jsonPath": ".spec.n"});
        assert_eq!(
            CustomColumns::of(&[column]).definitions()[1],
            json!({"name": "X", "type": "integer", "format": "int32", "priority": 1,
                "description": "Custom resource definition column (in JSONPath format): .spec.n"})
        );
    }
}
