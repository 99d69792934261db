//! What schemas of built-in kinds do not say of themselves: how lists and maps merge, and defaults. Read from two tables.
//! Must never guess: a fact that hits no field of a definition that is there is an error.

use serde_json::Value;

use super::model::{ListType, MapType, Schema};
use super::read::{Texts, patch_strategy};

/// A line of the tables that is none, or that says something of a field that is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{table}, line {line}: {why}")]
pub(super) struct FactError {
    table: &'static str,
    line: usize,
    why: &'static str,
}

/// One line: what is said of a field.
pub(super) struct Fact<'a> {
    /// The schema, by name.
    pub(super) definition: &'a str,
    /// The field of it.
    pub(super) field: &'a str,
    said: Said<'a>,
}

enum Said<'a> {
    Merge { list: &'a str, keys: &'a str, strategy: &'a str, merge_key: &'a str, map: &'a str },
    Default(Value),
}

/// The lines of both tables.
pub(super) fn all() -> Result<Vec<Fact<'static>>, FactError> {
    let mut facts = Vec::new();
    let merge = include_str!("../../data/merge-facts.tsv");
    read("data/merge-facts.tsv", merge, merge_fact, &mut facts)?;
    let defaults = include_str!("../../data/default-facts.tsv");
    read("data/default-facts.tsv", defaults, default_fact, &mut facts)?;
    Ok(facts)
}

fn read<'a>(
    table: &'static str,
    text: &'a str,
    fact: fn(&[&'a str]) -> Result<Fact<'a>, &'static str>,
    facts: &mut Vec<Fact<'a>>,
) -> Result<(), FactError> {
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split('\t').collect();
        facts.push(fact(&fields).map_err(|why| FactError { table, line: index + 1, why })?);
    }
    Ok(())
}

fn merge_fact<'a>(fields: &[&'a str]) -> Result<Fact<'a>, &'static str> {
    let &[definition, field, list, keys, strategy, merge_key, map] = fields else {
        return Err("there must be seven fields");
    };
    let known = |name, names: &[&str]| names.contains(&name);
    if !known(list, &["", "atomic", "set", "map"]) || (list == "map") == keys.is_empty() {
        return Err("the list type is none, or has no keys");
    }
    if !strategy.split(',').all(|one| known(one, &["", "merge", "retainKeys", "replace"])) {
        return Err("the patch strategy is none");
    }
    if !known(map, &["", "atomic", "granular"]) {
        return Err("the map type is none");
    }
    Ok(Fact { definition, field, said: Said::Merge { list, keys, strategy, merge_key, map } })
}

fn default_fact<'a>(fields: &[&'a str]) -> Result<Fact<'a>, &'static str> {
    let &[definition, field, default] = fields else { return Err("there must be three fields") };
    let default = serde_json::from_str(default).map_err(|_| "the default is not JSON")?;
    Ok(Fact { definition, field, said: Said::Default(default) })
}

impl Fact<'_> {
    /// Enters what is said into the field's schema.
    pub(super) fn enter(&self, schema: &mut Schema, texts: &mut Texts) {
        match &self.said {
            Said::Default(default) => schema.default = Some(default.clone()),
            Said::Merge { list, keys, strategy, merge_key, map } => {
                schema.list_type = match *list {
                    "atomic" => Some(ListType::Atomic),
                    "set" => Some(ListType::Set),
                    "map" => Some(ListType::Map(keys.split(',').map(|key| texts.share(key)).collect())),
                    _ => None,
                };
                if *map == "atomic" {
                    schema.map_type = MapType::Atomic;
                }
                let key = Some(*merge_key).filter(|key| !key.is_empty()).map(|key| texts.share(key));
                schema.patch = patch_strategy(strategy, key, texts);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_none_are_refused() {
        for (line, why) in [
            ("a\tb\tmap\t\t\t\t", "the list type is none, or has no keys"),
            ("a\tb\tatomic\tname\t\t\t", "the list type is none, or has no keys"),
            ("a\tb\t\t\tunite\t\t", "the patch strategy is none"),
            ("a\tb\t\t\t\t\tround", "the map type is none"),
            ("a\tb", "there must be seven fields"),
        ] {
            let fields: Vec<&str> = line.split('\t').collect();
            assert_eq!(merge_fact(&fields).err(), Some(why), "{line}");
        }
        assert_eq!(default_fact(&["a", "b", "c"]).err(), Some("the default is not JSON"));
    }
}
