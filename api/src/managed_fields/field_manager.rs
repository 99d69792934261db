//! What happens to an object's owners on every write. The order of steps is that of Kubernetes' API servers; time and names
//! are handed in. Must never default, prune or validate the object itself.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::conflict::Conflicts;
use super::entries::{self, ManagerId, Managers, Operation, Owned};
use super::last_applied;
use super::set::FieldSet;
use super::typed::{Strictness, validate};
use super::updater::{Failure, Updater, applied};
use super::versions::{Versions, shape};
use crate::kind::GroupVersionKind;
use crate::status::{Reason, Status};
use crate::time::Time;

/// How many owners that did not apply are kept apart.
const UPDATE_MANAGERS_MAX: usize = 10;
/// Who owns what owners too many had.
const ANCIENT_CHANGES: &str = "ancient-changes";
/// Who owns what was there before owners were kept.
pub(super) const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Fields that nobody owns: the server's, or those that say which object it is.
const NEVER_OWNED: &[&str] = &[
    "apiVersion",
    "kind",
    "metadata",
    "metadata.name",
    "metadata.namespace",
    "metadata.creationTimestamp",
    "metadata.selfLink",
    "metadata.uid",
    "metadata.clusterName",
    "metadata.generation",
    "metadata.managedFields",
    "metadata.resourceVersion",
];

/// Keeps account of owners for requests of one kind.
#[derive(Clone, Copy)]
pub struct FieldManager<'a> {
    /// The version and kind that the request names, and that its objects have.
    pub kind: &'a GroupVersionKind,
    /// The subresource that it goes to; empty for the object itself.
    pub subresource: &'a str,
    /// The versions of the kind.
    pub versions: &'a dyn Versions,
    /// By `apiVersion`, the fields that such a request cannot change: `status` for the object itself, all but `status` for
    /// that subresource.
    pub reset: &'a BTreeMap<String, FieldSet>,
    /// Now.
    pub now: Time,
}

impl FieldManager<'_> {
    /// The owners after any write that is not an apply, entered into `new`, which is otherwise what will be stored: defaulted,
    /// with fields that the request cannot change as they are in `live`. `live` is null for an object that is created, or what
    /// every object of the kind holds, which nobody owns then.
    ///
    /// An object whose owners cannot be told keeps those it had.
    #[must_use]
    pub fn update(&self, live: &Value, mut new: Value, manager: &str) -> Value {
        let mut managers = self.owners_of(live, &new);
        entries::strip(&mut new);
        // Owners are kept from the creation on, or not before the first apply.
        if managers.is_empty() && has_uid(live) {
            return new;
        }
        let id = self.id(manager, Operation::Update);
        match self.take_over(&self.live(live), &new, &mut managers, id) {
            Ok(()) => entries::store(&managers, &mut new),
            Err(_) => keep_owners(live, &mut new),
        }
        new
    }

    /// The object after an apply, with its owners. `live` is null for an object that is created. Defaults are for the caller to
    /// set.
    ///
    /// # Errors
    /// When others own what it would change and `force` is not set, or the applied object is none of this kind.
    pub fn apply(&self, live: &Value, applied: &Value, manager: &str, force: bool) -> Result<Value, Status> {
        let managers = entries::decode(live)
            .map_err(|why| Status::internal(format!("failed to decode managed fields: {why}")))?;
        self.check(applied)?;
        let shape = shape(self.versions, &self.api_version());
        validate(shape, applied, Strictness::Applied).map_err(|why| {
            let object = self.named(applied);
            Status::new(Reason::BadRequest, format!("failed to create typed patch object ({object}): {why}"))
        })?;
        let live = self.live(live);
        validate(shape, &live, Strictness::Stored).map_err(|why| {
            let object = self.named(&live);
            Status::internal(format!("failed to create typed live object ({object}): {why}"))
        })?;

        let mut object = match self.apply_as(&live, applied, managers.clone(), manager, force) {
            Err(Failure::Conflicts(conflicts)) if manager == last_applied::KUBECTL => {
                match self.left_after_last_applied(&live, conflicts) {
                    None => self.apply_as(&live, applied, managers, manager, true),
                    Some(conflicts) => Err(Failure::Conflicts(conflicts)),
                }
            }
            outcome => outcome,
        }
        .map_err(|failure| match failure {
            Failure::Conflicts(conflicts) => conflicts.status(),
            Failure::Conversion(why) => Status::internal(why),
        })?;
        if manager == last_applied::KUBECTL {
            last_applied::renew(&mut object, applied);
        }
        Ok(object)
    }

    fn apply_as(
        &self,
        live: &Value,
        config: &Value,
        mut managers: Managers,
        manager: &str,
        force: bool,
    ) -> Result<Value, Failure> {
        if managers.is_empty() {
            let id = self.id(BEFORE_FIRST_APPLY, Operation::Update);
            self.take_over(&self.live(&Value::Null), live, &mut managers, id)?;
        }
        let id = self.id(manager, Operation::Apply);
        let api_version = self.api_version();
        let updater = self.updater(&api_version);
        let new = updater.apply(live, config, &mut managers, &id, force)?;
        strip_never_owned(&mut managers, &id);
        let mut object = match new {
            Some(new) => {
                if let Some(owned) = managers.get_mut(&id) {
                    owned.time = Some(self.now);
                }
                new
            }
            None => live.clone(),
        };
        entries::store(&managers, &mut object);
        Ok(object)
    }

    /// Enters what a writer changes as its own.
    fn take_over(
        &self,
        live: &Value,
        new: &Value,
        managers: &mut Managers,
        id: ManagerId,
    ) -> Result<(), String> {
        let api_version = self.api_version();
        let shape = shape(self.versions, &api_version);
        for object in [live, new] {
            validate(shape, object, Strictness::Stored).map_err(|why| why.to_string())?;
        }
        let updater = self.updater(&api_version);
        let changed = updater.update(live, new, managers)?;
        let changed = changed.difference(&FieldSet::of(NEVER_OWNED));
        if !changed.is_empty() {
            let set = match managers.get(&id) {
                Some(before) => before.set.union(&changed),
                None => changed,
            };
            managers.insert(id, Owned { set, api_version, time: Some(self.now) });
        }
        cap(managers);
        Ok(())
    }

    fn updater<'u>(&'u self, api_version: &'u str) -> Updater<'u> {
        Updater { versions: self.versions, api_version, reset: self.reset }
    }

    /// Owners that the request itself names count, unless it goes to a subresource or names none.
    fn owners_of(&self, live: &Value, new: &Value) -> Managers {
        let of_live = || entries::decode(live).unwrap_or_default();
        if !self.subresource.is_empty() {
            return of_live();
        }
        if is_reset(new) {
            return Managers::new();
        }
        match entries::decode(new) {
            Ok(managers) if !managers.is_empty() => managers,
            _ => of_live(),
        }
    }

    /// Whether what is applied is an object of this kind.
    fn check(&self, applied: &Value) -> Result<(), Status> {
        let text = |field: &str| applied.get(field).and_then(Value::as_str).unwrap_or_default();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        if api_version != self.api_version() || kind != &*self.kind.kind {
            return Err(Status::bad_request(format!("invalid object type: {api_version}, Kind={kind}")));
        }
        match applied.pointer("/metadata/managedFields") {
            None | Some(Value::Null) => Ok(()),
            Some(_) => Err(Status::bad_request("metadata.managedFields must be nil")),
        }
    }

    /// Conflicts about fields that kubectl did not apply itself before; nothing when there are none.
    fn left_after_last_applied(&self, live: &Value, conflicts: Conflicts) -> Option<Conflicts> {
        let api_version = self.api_version();
        let Some(allowed) = last_applied::unchanged_fields(live, self.versions, &api_version) else {
            return Some(conflicts);
        };
        let all_allowed = conflicts.fields().difference(&allowed).is_empty();
        (!all_allowed).then(|| conflicts.without(&allowed))
    }

    /// The stored object without its owners, or an empty one.
    fn live(&self, live: &Value) -> Value {
        let mut live = if live.is_object() { live.clone() } else { Value::Object(Map::new()) };
        if live.get("apiVersion").is_none()
            && let Some(fields) = live.as_object_mut()
        {
            fields.insert("apiVersion".to_owned(), self.api_version().into());
            fields.insert("kind".to_owned(), json!(&*self.kind.kind));
        }
        entries::strip(&mut live);
        live
    }

    fn api_version(&self) -> String {
        self.kind.group_version().to_string()
    }

    fn id(&self, manager: &str, operation: Operation) -> ManagerId {
        let manager = if manager.is_empty() { "unknown" } else { manager };
        ManagerId::new(manager, operation, &self.api_version(), self.subresource)
    }

    fn named(&self, object: &Value) -> String {
        let text = |field: &str| {
            object.pointer(&format!("/metadata/{field}")).and_then(Value::as_str).unwrap_or_default()
        };
        format!("{}/{}; {}", text("namespace"), text("name"), self.kind)
    }
}

fn has_uid(live: &Value) -> bool {
    live.pointer("/metadata/uid").and_then(Value::as_str).is_some_and(|uid| !uid.is_empty())
}

/// Whether the request wants owners forgotten: an empty list of them, or one with one empty entry.
fn is_reset(new: &Value) -> bool {
    match new.pointer("/metadata/managedFields").and_then(Value::as_array).map(Vec::as_slice) {
        Some([]) => true,
        Some([Value::Object(entry)]) => entry.values().all(|value| value.is_null() || value == ""),
        _ => false,
    }
}

fn keep_owners(live: &Value, new: &mut Value) {
    let owners = live.pointer("/metadata/managedFields").cloned();
    if let (Some(owners), Some(metadata)) = (owners, new.get_mut("metadata").and_then(Value::as_object_mut)) {
        metadata.insert("managedFields".to_owned(), owners);
    }
}

fn strip_never_owned(managers: &mut Managers, id: &ManagerId) {
    if let Some(owned) = managers.get_mut(id) {
        owned.set = owned.set.difference(&FieldSet::of(NEVER_OWNED));
        if owned.set.is_empty() {
            managers.remove(id);
        }
    }
}

/// Puts the oldest owners of a version together until there are few enough.
fn cap(managers: &mut Managers) {
    let mut writers: Vec<ManagerId> = managers.keys().filter(|id| !applied(id)).cloned().collect();
    let mut count = writers.len();
    if count <= UPDATE_MANAGERS_MAX {
        return;
    }
    writers.sort_by_cached_key(|id| (managers.get(id).and_then(|owned| owned.time), id.clone()));
    // The first of a version alone keeps its name.
    let mut first_of: BTreeMap<String, ManagerId> = BTreeMap::new();
    for id in writers {
        if count <= UPDATE_MANAGERS_MAX {
            break;
        }
        let Some(version) = managers.get(&id).map(|owned| owned.api_version.clone()) else { continue };
        let Some(first) = first_of.get(&version) else {
            first_of.insert(version, id);
            continue;
        };
        let bucket = ManagerId::new(ANCIENT_CHANGES, Operation::Update, &version, "");
        let mut ancient = managers.remove(&bucket);
        let count_before = managers.len() + usize::from(ancient.is_some());
        for id in [first, &id] {
            let Some(owned) = managers.remove(id) else { continue };
            match &mut ancient {
                Some(ancient) => {
                    ancient.set.add(&owned.set);
                    ancient.time = owned.time;
                }
                None => ancient = Some(owned),
            }
        }
        managers.extend(ancient.map(|ancient| (bucket, ancient)));
        count -= count_before - managers.len();
    }
}

/// Gives entries of owners the times that they had, when nothing else of the object changed: a write that changes nothing is
/// none.
pub fn keep_times_of_unchanged(old: &Value, new: &mut Value) {
    const OWNERS: &str = "/metadata/managedFields";
    let (Some(before), Some(after)) = (old.pointer(OWNERS), new.pointer(OWNERS)) else { return };
    if before == after || !are_same_but_for_times(before, after) || !are_same_but_for_owners(old, new) {
        return;
    }
    let before = before.clone();
    if let Some(entries) = new.pointer_mut(OWNERS) {
        *entries = before;
    }
}

/// Whether entries of owners differ in nothing but when something was written.
fn are_same_but_for_times(one: &Value, other: &Value) -> bool {
    let (Some(one), Some(other)) = (one.as_array(), other.as_array()) else { return one == other };
    one.len() == other.len()
        && one.iter().zip(other).all(|(one, other)| are_same_but_for("time", one, other, |_, _| true))
}

fn are_same_but_for_owners(one: &Value, other: &Value) -> bool {
    are_same_but_for("metadata", one, other, |one, other| {
        are_same_but_for("managedFields", one, other, |_, _| true)
    })
}

/// Whether two objects are the same but for one field, which is looked at apart where both have it. Copies nothing.
fn are_same_but_for(field: &str, one: &Value, other: &Value, apart: impl Fn(&Value, &Value) -> bool) -> bool {
    let (Some(one), Some(other)) = (one.as_object(), other.as_object()) else { return one == other };
    let rest = |fields: &Map<String, Value>| fields.len() - usize::from(fields.contains_key(field));
    let are_same = |(name, value): (&String, &Value)| name == field || other.get(name) == Some(value);
    rest(one) == rest(other)
        && one.iter().all(are_same)
        && match (one.get(field), other.get(field)) {
            (Some(one), Some(other)) => apart(one, other),
            _ => true,
        }
}
