//! Objects as rows for people (`meta.k8s.io/v1` Table): which columns a kind has, and what stands in them. Columns are part
//! of the interface, as users and their scripts read them. Pure: the time of day is handed in.

mod age;
mod cluster;
mod columns;
mod custom;
mod network;
mod policy;
mod text;
mod volumes;
mod workloads;

use serde_json::{Value, json};

pub use age::human_duration;
pub use columns::{Column, columns};
pub use custom::CustomColumns;
pub use text::{Now, at, text};

/// How much of each object stands in its row (`includeObject`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// Its metadata.
    #[default]
    Metadata,
    /// All of it.
    Object,
}

/// The cells of one object of a built-in kind, one for each of its [`columns()`].
#[must_use]
pub fn cells(group: &str, kind: &str, object: &Value, now: Now) -> Vec<Value> {
    let found = workloads::cells(group, kind, object, now)
        .or_else(|| network::cells(group, kind, object, now))
        .or_else(|| cluster::cells(group, kind, object, now))
        .or_else(|| volumes::cells(group, kind, object, now))
        .or_else(|| policy::cells(group, kind, object, now));
    found.unwrap_or_else(|| {
        vec![text(object, "/metadata/name"), now.since(object, "/metadata/creationTimestamp")]
    })
}

/// One row.
#[must_use]
pub fn row(group: &str, kind: &str, object: &Value, include: IncludeObject, now: Now) -> Value {
    let mut row = row_of(cells(group, kind, object, now), object, include);
    if (group, kind) == ("", "Pod")
        && let Some(condition) = workloads::completed(object)
    {
        row["conditions"] = json!([condition]);
    }
    row
}

/// A row with these cells.
#[must_use]
pub fn row_of(cells: Vec<Value>, object: &Value, include: IncludeObject) -> Value {
    let mut row = json!({"cells": cells});
    match include {
        IncludeObject::None => {}
        IncludeObject::Metadata => {
            row["object"] = json!({
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": object.get("metadata").unwrap_or(&Value::Null),
            });
        }
        IncludeObject::Object => row["object"] = object.clone(),
    }
    row
}

/// The columns of a built-in kind as a table tells them.
#[must_use]
pub fn definitions(group: &str, kind: &str) -> Vec<Value> {
    columns(group, kind).iter().map(Column::to_value).collect()
}

/// A table of rows. `metadata` is that of the list; columns are left out where the client has them already (all but the first
/// event of a watch).
#[must_use]
pub fn table(columns: Vec<Value>, metadata: Value, rows: Vec<Value>) -> Value {
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": columns,
        "rows": rows,
    })
}

#[cfg(test)]
mod tests {
    use barque_api::resources::{Builtin, Verb};

    use super::*;

    /// The same minute in each test.
    pub(super) fn noon() -> Now {
        Now::of("2026-01-02T12:00:00Z").unwrap()
    }

    #[test]
    fn each_kind_has_a_cell_for_each_of_its_columns_even_when_empty() {
        for resource in Builtin::table().all().iter().filter(|resource| resource.can(Verb::List)) {
            let object = json!({"metadata": {"name": "a"}});
            let columns = columns(&resource.name.group, &resource.kind);
            let cells = cells(&resource.name.group, &resource.kind, &object, noon());
            assert_eq!(cells.len(), columns.len(), "{}", resource.name);
            for (cell, column) in cells.iter().zip(columns) {
                let fits = match column.kind {
                    "integer" => cell.is_i64(),
                    "boolean" => cell.is_boolean(),
                    _ => cell.is_string() || cell.is_i64(),
                };
                assert!(fits, "{} {}: {cell}", resource.name, column.name);
            }
        }
    }

    #[test]
    fn rows_carry_what_was_asked_for() {
        let object = json!({"metadata": {"name": "a"}, "status": {"phase": "Failed"}});
        let row = |include| row("", "Pod", &object, include, noon());
        assert_eq!(row(IncludeObject::None).get("object"), None);
        assert_eq!(row(IncludeObject::Metadata)["object"]["kind"], "PartialObjectMetadata");
        assert_eq!(row(IncludeObject::Object)["object"], object);
        assert_eq!(row(IncludeObject::None)["conditions"][0]["reason"], "Failed");
        let told = table(definitions("", "Pod"), json!({}), vec![]);
        assert_eq!(told["columnDefinitions"][0]["format"], "name");
        assert_eq!(table(Vec::new(), json!({}), vec![])["columnDefinitions"], json!([]));
    }
}
