//! What holds for any requests to any object.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::entries::{self, ManagerId, Managers, Operation};
use super::field_manager::BEFORE_FIRST_APPLY;
use super::samples::{self, VERSION};
use super::typed::{compare, field_set, merge, with_named_fields, without};
use super::versions::shape;
use super::{FieldManager, FieldSet};
use crate::kind::GroupVersionKind;
use crate::time::Time;

const NAMES: [&str; 3] = ["a", "b", "c"];

fn object(spec: &Value) -> Value {
    json!({"apiVersion": VERSION, "kind": "Sample", "metadata": {"name": "a"}, "spec": spec})
}

fn id(name: &str, operation: Operation) -> ManagerId {
    ManagerId::new(name, operation, VERSION, "")
}

/// Objects are written and applied in turn; `seen` is told of every object before and after, and of who did what.
fn run(requests: &[(bool, usize, Value)], mut seen: impl FnMut(&Value, &Value, &ManagerId, &Value)) {
    let (kind, reset) = (GroupVersionKind::new("example.com", "v1", "Sample"), BTreeMap::new());
    let versions = samples::versions("object");
    let mut live = Value::Null;
    for (second, (apply, name, spec)) in (1..).zip(requests) {
        let now = Time::of_unix(second);
        let manager = FieldManager { kind: &kind, subresource: "", versions: &versions, reset: &reset, now };
        let (name, written) = (NAMES[*name], object(spec));
        let (new, id) = if *apply {
            (manager.apply(&live, &written, name, true).unwrap(), id(name, Operation::Apply))
        } else {
            (manager.update(&live, written.clone(), name), id(name, Operation::Update))
        };
        seen(&live, &new, &id, &written);
        live = new;
    }
}

fn owners(object: &Value) -> Managers {
    entries::decode(object).unwrap()
}

fn plain(mut object: Value) -> Value {
    object["metadata"].as_object_mut().unwrap().remove("managedFields");
    object
}

fn requests() -> impl Strategy<Value = Vec<(bool, usize, Value)>> {
    prop::collection::vec((any::<bool>(), 0..NAMES.len(), samples::any_item()), 1..5)
}

/// The paths of a written object, but for those that nobody owns.
fn owned_paths(written: &Value) -> FieldSet {
    let versions = samples::versions("object");
    let set = field_set(shape(&versions, VERSION), written);
    set.difference(&FieldSet::of(&["apiVersion", "kind", "metadata.name"]))
}

/// A list without items has no path: an object that has only such ones looks as if something were in it, and nothing is.
fn without_empty_lists(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept =
                fields.iter().filter(|(_, field)| field.as_array().is_none_or(|items| !items.is_empty()));
            Value::Object(kept.map(|(name, field)| (name.clone(), without_empty_lists(field))).collect())
        }
        other => other.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn who_applies_owns_exactly_what_it_names(requests in requests()) {
        run(&requests, |_, new, id, written| {
            if id.operation == Operation::Apply {
                let owned = owners(new).remove(id).map(|owned| owned.set).unwrap_or_default();
                assert_eq!(owned, owned_paths(written));
            }
        });
    }

    #[test]
    fn what_is_applied_is_there(requests in requests()) {
        let versions = samples::versions("object");
        run(&requests, |_, new, id, written| {
            if id.operation == Operation::Apply {
                let new = plain(new.clone());
                let shape = shape(&versions, VERSION);
                let there = with_named_fields(&field_set(shape, &without_empty_lists(&new)), Some(shape));
                let missing = owned_paths(&without_empty_lists(written)).difference(&there);
                assert!(missing.is_empty(), "{missing}");
                assert_eq!(merge(shape, &new, written), new);
            }
        });
    }

    /// The one exception is an object that nobody owns after the first time, because all that is applied is lists without
    /// items, which have no path. Upstream forgets an owner without paths, takes an object without owners for one whose owners
    /// were never kept, and enters what it holds, empty lists too, as there before the first apply. The object stays as it is,
    /// and the next time its owners do as well.
    #[test]
    fn applied_twice_is_applied_once(mut requests in requests(), name in 0..NAMES.len(), spec in samples::any_item()) {
        let once = requests.len() + 1;
        requests.extend(vec![(true, name, spec); 3]);
        let mut count = 0;
        run(&requests, |live, new, _, written| {
            count += 1;
            if count == once + 1 && owners(live).is_empty() {
                assert!(owned_paths(written).is_empty());
                assert_eq!(plain(live.clone()), plain(new.clone()));
                let before = id(BEFORE_FIRST_APPLY, Operation::Update);
                assert_eq!(owners(new).into_keys().collect::<Vec<_>>(), [before]);
            } else if count > once {
                assert_eq!(live, new);
            }
        });
    }

    #[test]
    fn who_writes_owns_what_changed(requests in requests()) {
        let versions = samples::versions("object");
        run(&requests, |live, new, id, written| {
            let live = if live.is_null() { object(&json!({})) } else { plain(live.clone()) };
            let changes = compare(shape(&versions, VERSION), &live, &plain(new.clone()));
            let changed = changes.added.union(&changes.modified);
            let owners = owners(new);
            let own = owners.get(id).map(|owned| owned.set.clone()).unwrap_or_default();
            if id.operation == Operation::Update {
                assert_eq!(plain(new.clone()), *written);
                let missing = changed.difference(&own).difference(&FieldSet::of(&["spec"]));
                assert!(missing.is_empty(), "{missing}");
            }
            // Nobody else owns what changed or went.
            for (_, owned) in owners.iter().filter(|(other, _)| *other != id) {
                assert!(owned.set.intersection(&changed).is_empty());
                assert!(owned.set.intersection(&changes.removed).is_empty());
            }
        });
    }

    #[test]
    fn nobody_loses_what_stays(requests in requests()) {
        let versions = samples::versions("object");
        run(&requests, |live, new, id, _| {
            if live.is_null() {
                return;
            }
            let (before, after) = (owners(live), owners(new));
            let changes = compare(shape(&versions, VERSION), &plain(live.clone()), &plain(new.clone()));
            for (other, owned) in before.iter().filter(|(other, _)| *other != id) {
                let stays = owned.set.difference(&changes.added).difference(&changes.modified).difference(&changes.removed);
                let now = after.get(other).map(|owned| owned.set.clone()).unwrap_or_default();
                assert_eq!(now, stays);
            }
            // An apply takes nothing away that somebody else owned, but with what it applied itself, or put another kind of
            // value in its place.
            if id.operation == Operation::Apply {
                let own = before.get(id).map(|owned| owned.set.union(&changes.modified)).unwrap_or(changes.modified);
                for (other, owned) in before.iter().filter(|(other, _)| *other != id) {
                    let removed = match other.operation {
                        Operation::Apply => changes.removed.clone(),
                        // A map that nobody applied goes with what was in it.
                        Operation::Update => changes.removed.leaves(),
                    };
                    let lost = owned.set.leaves().intersection(&removed).recursive_difference(&own);
                    assert!(lost.is_empty(), "{lost}");
                }
            }
        });
    }

    #[test]
    fn differences_are_of_what_is_there(old in samples::any_item(), new in samples::any_item()) {
        let versions = samples::versions("item");
        let shape = shape(&versions, VERSION);
        let changes = compare(shape, &old, &new);
        let back = compare(shape, &new, &old);
        prop_assert_eq!(&changes.added, &back.removed);
        prop_assert_eq!(&changes.removed, &back.added);
        prop_assert_eq!(&changes.modified, &back.modified);
        let nothing = compare(shape, &old, &old);
        prop_assert!(nothing.added.is_empty() && nothing.modified.is_empty() && nothing.removed.is_empty());
        // Without the paths that are there, there are none.
        let paths = with_named_fields(&field_set(shape, &old), Some(shape));
        prop_assert_eq!(field_set(shape, &without(shape, &old, &paths)), FieldSet::default());
    }

    #[test]
    fn merged_into_nothing_is_what_is_applied(applied in samples::any_item()) {
        let versions = samples::versions("item");
        prop_assert_eq!(merge(shape(&versions, VERSION), &json!({}), &applied), applied);
    }
}

#[test]
fn only_an_empty_list_is_nobodys_and_then_was_there_before_the_first_apply() {
    let nothing = json!({"byName": []});
    let requests = [json!({}), nothing.clone(), nothing.clone(), nothing].map(|spec| (true, 1, spec));
    let mut told = Vec::new();
    run(&requests, |_, new, _, _| {
        told.push(owners(new).into_iter().map(|(id, owned)| (id, owned.set)).collect::<Vec<_>>());
    });
    let applied = vec![(id("b", Operation::Apply), FieldSet::of(&["spec"]))];
    let before = vec![(id(BEFORE_FIRST_APPLY, Operation::Update), FieldSet::of(&["spec", "spec.byName"]))];
    assert_eq!(told, [applied, vec![], before.clone(), before]);
}
