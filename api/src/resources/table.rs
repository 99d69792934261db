//! How the table of collections is written: one line each, fields between tabs, subresources as `resource/name` below
//! theirs. Must never guess what a line leaves out.

use std::sync::Arc;

use super::{Resource, Subresource, Verb};
use crate::kind::{GroupVersion, GroupVersionKind};

/// A line that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct TableError {
    line: usize,
    why: &'static str,
}

/// Reads the whole table.
pub(super) fn read(text: &str) -> Result<Vec<Resource>, TableError> {
    let mut resources: Vec<Resource> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if !line.starts_with('#') {
            read_line(line, &mut resources).map_err(|why| TableError { line: index + 1, why })?;
        }
    }
    Ok(resources)
}

fn read_line(line: &str, resources: &mut Vec<Resource>) -> Result<(), &'static str> {
    let fields: Vec<&str> = line.split('\t').collect();
    let &[group, version, name, kind, singular, namespaced, short_names, categories, verbs] =
        fields.as_slice()
    else {
        return Err("there must be nine fields");
    };
    let group_version = GroupVersion::new(if group == "core" { "" } else { group }, version);
    let verbs: Option<Vec<Verb>> = verbs.split(',').map(Verb::of_name).collect();
    let verbs = verbs.ok_or("there is a verb that is none")?;
    let namespaced = match namespaced {
        "yes" => true,
        "no" => false,
        _ => return Err("namespaced must be yes or no"),
    };
    let kind = kind_of(&group_version, kind).ok_or("the kind's apiVersion is none")?;
    let Some((parent, below)) = name.split_once('/') else {
        resources.push(Resource {
            name: group_version.resource(name),
            kind: kind.kind,
            singular: singular.into(),
            namespaced,
            short_names: names(short_names),
            categories: names(categories),
            verbs,
            subresources: Vec::new(),
        });
        return Ok(());
    };
    let parent = group_version.resource(parent);
    let parent = resources.iter_mut().find(|one| one.name == parent);
    let parent = parent.ok_or("a subresource must stand below its resource")?;
    parent.subresources.push(Subresource { name: below.into(), kind, verbs });
    Ok(())
}

/// The kind, of the line's group and version or with its own (`policy/v1/Eviction`).
fn kind_of(group_version: &GroupVersion, kind: &str) -> Option<GroupVersionKind> {
    match kind.rsplit_once('/') {
        Some((own, kind)) => Some(GroupVersion::of_api_version(own).ok()?.kind(kind)),
        None => Some(group_version.kind(kind)),
    }
}

fn names(field: &str) -> Vec<Arc<str>> {
    field.split(',').filter(|name| *name != "-").map(Into::into).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_none_are_named() {
        let table = [
            ("core\tv1", "line 1: there must be nine fields"),
            ("# a\ncore\tv1\tpods\tPod\tpod\tyes\tpo\t-\tfly", "line 2: there is a verb that is none"),
            ("core\tv1\tpods\tPod\tpod\tmaybe\tpo\t-\tget", "line 1: namespaced must be yes or no"),
            (
                "core\tv1\tpods/log\tPod\t-\tyes\t-\t-\tget",
                "line 1: a subresource must stand below its resource",
            ),
            ("core\tv1\tpods\ta//Pod\tpod\tyes\tpo\t-\tget", "line 1: the kind's apiVersion is none"),
        ];
        for (text, error) in table {
            assert_eq!(read(text).unwrap_err().to_string(), error);
        }
    }
}
