//! Which columns each built-in kind has, as a table that is compiled in. Must never depend on an object.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::{Value, json};

/// One column (`TableColumnDefinition`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its head.
    pub name: &'static str,
    /// `string`, `integer`, `boolean`, `date`.
    pub kind: &'static str,
    /// `name` for the name of the object; else empty.
    pub format: &'static str,
    /// 0 is always shown, 1 where there is much room.
    pub priority: i32,
}

impl Column {
    const fn plain(name: &'static str, format: &'static str) -> Self {
        Self { name, kind: "string", format, priority: 0 }
    }

    pub(super) fn to_value(&self) -> Value {
        json!({
            "name": self.name,
            "type": self.kind,
            "format": self.format,
            "description": "",
            "priority": self.priority,
        })
    }
}

const NAME_AND_AGE: [Column; 2] = [Column::plain("Name", "name"), Column::plain("Age", "")];

static COLUMNS: LazyLock<HashMap<(&'static str, &'static str), Vec<Column>>> = LazyLock::new(|| {
    let mut kinds: HashMap<_, Vec<Column>> = HashMap::new();
    let lines = include_str!("../../data/columns.tsv").lines().filter(|line| !line.starts_with('#'));
    for (kind, column) in lines.filter_map(read) {
        kinds.entry(kind).or_default().push(column);
    }
    kinds
});

fn read(line: &'static str) -> Option<((&'static str, &'static str), Column)> {
    let fields: Vec<&str> = line.split('\t').collect();
    let &[group, kind, name, column_kind, format, priority] = fields.as_slice() else { return None };
    let group = if group == "core" { "" } else { group };
    Some(((group, kind), Column { name, kind: column_kind, format, priority: priority.parse().ok()? }))
}

/// The columns of a kind; name and age where nothing else is known. Both kinds of events have the same.
#[must_use]
pub fn columns(group: &str, kind: &str) -> &'static [Column] {
    let group = if kind == "Event" { "" } else { group };
    COLUMNS.iter().find(|(named, _)| **named == (group, kind)).map_or(&NAME_AND_AGE, |(_, columns)| columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_read_and_names_a_kind_that_there_is() {
        let lines = include_str!("../../data/columns.tsv").lines().filter(|line| !line.starts_with('#'));
        assert_eq!(lines.count(), COLUMNS.values().map(Vec::len).sum::<usize>());
        let resources = barque_api::resources::Builtin::table().all();
        for (group, kind) in COLUMNS.keys() {
            assert!(
                resources.iter().any(|one| &*one.name.group == *group && &*one.kind == *kind),
                "{group} {kind}"
            );
        }
    }

    #[test]
    fn what_is_not_known_has_name_and_age() {
        assert_eq!(columns("example.com", "Thing").len(), 2);
        assert_eq!(columns("events.k8s.io", "Event"), columns("", "Event"));
    }
}
