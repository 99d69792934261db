//! Who owns what after a write: a write takes what it changes from others, an apply owns what it names and asks before it takes.
//! Must never know of times, names of managers or the annotations of clients.

use std::collections::BTreeMap;

use serde_json::Value;

use super::conflict::{Conflict, Conflicts};
use super::entries::{ManagerId, Managers, Operation, Owned};
use super::set::FieldSet;
use super::typed::{
    Comparison, compare, field_set, merge, reconcile, with_emptied_maps, with_named_fields, without,
};
use super::versions::{Versions, in_version, shape};

/// Why an apply fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Others own what it would change.
    Conflicts(Conflicts),
    /// An object cannot be had in another version.
    Conversion(String),
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self::Conversion(why)
    }
}

pub(super) struct Updater<'a> {
    pub(super) versions: &'a dyn Versions,
    /// The version of the objects that are written.
    pub(super) api_version: &'a str,
    /// By version, paths that nobody comes to own by this kind of request.
    pub(super) reset: &'a BTreeMap<String, FieldSet>,
}

impl Updater<'_> {
    /// Takes from all owners what is other in `new` than in `live`. What the writer comes to own.
    pub(super) fn update(
        &self,
        live: &Value,
        new: &Value,
        managers: &mut Managers,
    ) -> Result<FieldSet, String> {
        self.reconcile(managers);
        let own = self.comparison(live, new, self.api_version)?;
        let mut by_version = BTreeMap::from([(self.api_version.to_owned(), own)]);
        self.take(live, new, managers, None, &mut by_version)?;
        let own = by_version.remove(self.api_version).flatten().unwrap_or_default();
        Ok(own.modified.union(&own.added))
    }

    /// Merges `config` into `live`, and takes away what `manager` applied before, does not apply now, and nobody else owns.
    /// Nothing when the object stays as it is.
    pub(super) fn apply(
        &self,
        live: &Value,
        config: &Value,
        managers: &mut Managers,
        manager: &ManagerId,
        force: bool,
    ) -> Result<Option<Value>, Failure> {
        self.reconcile(managers);
        let own = shape(self.versions, self.api_version);
        let merged = merge(own, live, config);
        let set = field_set(own, config).recursive_difference(&self.reset_of(self.api_version));
        let before = managers.get(manager).cloned();
        let time = before.as_ref().and_then(|before| before.time);
        managers.insert(manager.clone(), Owned { set, api_version: self.api_version.to_owned(), time });
        let new = match before {
            Some(before) if !before.set.is_empty() => {
                let mut pruned = self.prune(&merged, managers, &before)?;
                // What is empty now was taken away, even where it is applied as empty.
                for (_, owned) in managers.iter().filter(|(id, _)| applied(id)) {
                    if owned.api_version == self.api_version {
                        with_emptied_maps(own, &merged, &mut pruned, &owned.set);
                    }
                }
                merge(own, &pruned, config)
            }
            _ => merged,
        };
        let conflicts = self.take(live, &new, managers, Some(manager), &mut BTreeMap::new())?;
        if !force && !conflicts.is_empty() {
            return Err(Failure::Conflicts(Conflicts(conflicts)));
        }
        Ok((!super::path::same(live, &new)).then_some(new))
    }

    fn reset_of(&self, api_version: &str) -> FieldSet {
        self.reset.get(api_version).cloned().unwrap_or_default()
    }

    /// Owners' paths by today's schema.
    fn reconcile(&self, managers: &mut Managers) {
        managers.retain(|_, owned| {
            let served = owned.api_version == self.api_version || self.versions.serves(&owned.api_version);
            if served {
                owned.set = reconcile(&owned.set, shape(self.versions, &owned.api_version));
            }
            served
        });
    }

    /// What changes, in the words of a version; nothing where that is not served.
    fn comparison(&self, live: &Value, new: &Value, api_version: &str) -> Result<Option<Comparison>, String> {
        let Some(live) = in_version(self.versions, live, api_version)? else { return Ok(None) };
        let Some(new) = in_version(self.versions, new, api_version)? else { return Ok(None) };
        let changes = compare(shape(self.versions, api_version), &live, &new);
        Ok(Some(changes.without(&self.reset_of(api_version))))
    }

    /// Takes what changes, and what goes, from all owners but `writer`. What they owned of what changes: conflicts, if nobody
    /// asked them. `by_version` is what is known of the changes, and grows.
    fn take(
        &self,
        live: &Value,
        new: &Value,
        managers: &mut Managers,
        writer: Option<&ManagerId>,
        by_version: &mut BTreeMap<String, Option<Comparison>>,
    ) -> Result<Vec<Conflict>, String> {
        let mut left = Managers::new();
        let mut conflicts = Vec::new();
        for (id, owned) in managers.iter() {
            if Some(id) == writer {
                left.insert(id.clone(), owned.clone());
                continue;
            }
            if !by_version.contains_key(&owned.api_version) {
                let changes = self.comparison(live, new, &owned.api_version)?;
                by_version.insert(owned.api_version.clone(), changes);
            }
            let Some(changes) = by_version.get(&owned.api_version).and_then(Option::as_ref) else { continue };
            let taken = owned.set.intersection(&changes.modified.union(&changes.added));
            conflicts.extend(taken.paths().into_iter().map(|path| Conflict { manager: id.clone(), path }));
            let set = owned.set.difference(&taken).difference(&changes.removed);
            left.insert(id.clone(), Owned { set, ..owned.clone() });
        }
        left.retain(|_, owned| !owned.set.is_empty());
        *managers = left;
        Ok(conflicts)
    }

    /// Takes away what was applied before and nobody owns now.
    fn prune(&self, merged: &Value, managers: &Managers, before: &Owned) -> Result<Value, String> {
        let version = before.api_version.as_str();
        let Some(converted) = in_version(self.versions, merged, version)? else {
            return Ok(merged.clone());
        };
        let converted = converted.into_owned();
        let own = shape(self.versions, version);
        let last = with_named_fields(&before.set, Some(own));
        let pruned = without(own, &converted, &last);
        let pruned = self.with_owned_items(&converted, pruned, version, managers)?;
        // What was not applied before stays, whoever owns it.
        let Some(pruned) = in_version(self.versions, &pruned, version)? else {
            return Ok(merged.clone());
        };
        let named = |object: &Value| with_named_fields(&field_set(own, object), Some(own));
        let gone = named(&converted).difference(&named(&pruned)).intersection(&last);
        let pruned = without(own, &converted, &gone);
        let pruned = in_version(self.versions, &pruned, self.api_version)?.map(std::borrow::Cow::into_owned);
        Ok(pruned.unwrap_or_else(|| merged.clone()))
    }

    /// Puts back what anybody owns now, first in the words of the version of `pruned`, in which nothing can fail to convert.
    fn with_owned_items(
        &self,
        merged: &Value,
        mut pruned: Value,
        version: &str,
        managers: &Managers,
    ) -> Result<Value, String> {
        let mut by_version: BTreeMap<&str, FieldSet> = BTreeMap::new();
        for owned in managers.values() {
            by_version.entry(&owned.api_version).or_default().add(&owned.set);
        }
        let first = by_version.remove_entry(version);
        for (version, owned) in first.into_iter().chain(by_version) {
            let Some(merged) = in_version(self.versions, merged, version)? else { continue };
            let Some(converted) = in_version(self.versions, &pruned, version)? else { continue };
            let own = shape(self.versions, version);
            let named = |set: &FieldSet| with_named_fields(set, Some(own));
            let stay = named(&field_set(own, &converted)).union(&named(&owned));
            let gone = named(&field_set(own, &merged)).difference(&stay);
            pruned = without(own, &merged, &gone);
        }
        Ok(pruned)
    }
}

/// Whether somebody applied.
pub(super) const fn applied(id: &ManagerId) -> bool {
    matches!(id.operation, Operation::Apply)
}
