//! Owners of an object as owners of its subresource `scale`, and back: a scale has one field that matters, the number of
//! replicas, which the object has at a place of its own.

use std::collections::BTreeMap;

use serde_json::Value;

use super::entries::{self, ManagedFieldsError, ManagerId, Managers, Owned};
use super::path::Path;
use super::set::FieldSet;

/// The version of scales.
const SCALE_VERSION: &str = "autoscaling/v1";

/// Where objects have their number of replicas, by `apiVersion`; nothing where that version has none.
pub type ReplicasPaths = BTreeMap<String, Option<Path>>;

/// Enters the owners of the parent's replicas into a scale made of it.
///
/// # Errors
/// When the parent's owners cannot be read.
pub fn enter_owners(
    parent: &Value,
    paths: &ReplicasPaths,
    scale: &mut Value,
) -> Result<(), ManagedFieldsError> {
    let owners = entries::decode(parent)?.into_iter().filter_map(|(id, owned)| {
        let path = paths.get(&owned.api_version)?.as_ref()?;
        let set = owned.set.contains(path.steps()).then(replicas_of_scale)?;
        Some((id, Owned { set, api_version: SCALE_VERSION.to_owned(), ..owned }))
    });
    entries::store(&owners.collect(), scale);
    Ok(())
}

/// Enters the owners of a scale that was written into the parent that is written for it, whose version is `api_version`:
/// those who lost the replicas lose them, those who got them have them.
///
/// # Errors
/// When the owners of one of them cannot be read.
pub fn return_owners(
    scale: &Value,
    paths: &ReplicasPaths,
    api_version: &str,
    parent: &mut Value,
) -> Result<(), ManagedFieldsError> {
    let mut of_scale = entries::decode(scale)?;
    let mut owners = Managers::new();
    for (id, mut owned) in entries::decode(parent)? {
        // Owners of versions that are not known any more are forgotten.
        let Some(path) = paths.get(&owned.api_version) else { continue };
        if let Some(path) = path.as_ref().filter(|path| owned.set.contains(path.steps()))
            && take_same(&mut of_scale, &id).is_none()
        {
            owned.set = owned.set.difference(&FieldSet::from_iter([path.clone()]));
        }
        if !owned.set.is_empty() {
            owners.insert(id, owned);
        }
    }
    let replicas = paths.get(api_version).cloned().flatten();
    for (id, owned) in of_scale {
        let scaled = owned.set.contains(Path::of("spec.replicas").steps());
        let Some(path) = replicas.clone().filter(|_| scaled) else { continue };
        let id = ManagerId::new(&id.manager, id.operation, api_version, &id.subresource);
        let set = FieldSet::from_iter([path]);
        let owned = Owned { set, api_version: api_version.to_owned(), time: owned.time };
        owners
            .entry(id)
            .and_modify(|before: &mut Owned| {
                before.set.add(&owned.set);
                before.time = owned.time;
            })
            .or_insert(owned);
    }
    entries::store(&owners, parent);
    Ok(())
}

fn replicas_of_scale() -> FieldSet {
    FieldSet::of(&["spec.replicas"])
}

/// Takes out the owner who is the same but for the version it writes in.
fn take_same(owners: &mut Managers, wanted: &ManagerId) -> Option<Owned> {
    let same = |id: &ManagerId| {
        (&id.manager, id.operation, &id.subresource)
            == (&wanted.manager, wanted.operation, &wanted.subresource)
    };
    let id = owners.keys().find(|id| same(id)).cloned()?;
    owners.remove(&id)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(manager: &str, operation: &str, version: &str, subresource: &str, fields: Value) -> Value {
        let mut entry = json!({
            "manager": manager, "operation": operation, "apiVersion": version,
            "fieldsType": "FieldsV1", "fieldsV1": fields, "time": "2026-01-02T03:04:05Z",
        });
        if !subresource.is_empty() {
            entry["subresource"] = subresource.into();
        }
        entry
    }

    fn paths() -> ReplicasPaths {
        BTreeMap::from([
            ("apps/v1".to_owned(), Some(Path::of("spec.replicas"))),
            ("apps/v2".to_owned(), Some(Path::of("spec.count"))),
            ("apps/v3".to_owned(), None),
        ])
    }

    fn object(entries: &[Value]) -> Value {
        json!({"metadata": {"managedFields": entries}})
    }

    fn scale_entry(manager: &str, operation: &str, subresource: &str) -> Value {
        let replicas = json!({"f:spec": {"f:replicas": {}}});
        entry(manager, operation, SCALE_VERSION, subresource, replicas)
    }

    #[test]
    fn owners_of_the_replicas_own_the_scale() {
        let replicas = || json!({"f:spec": {"f:replicas": {}, "f:selector": {}}});
        let parent = object(&[
            entry("a", "Apply", "apps/v1", "", replicas()),
            entry("b", "Apply", "apps/v2", "", replicas()),
            entry("c", "Apply", "apps/v2", "", json!({"f:spec": {"f:count": {}}})),
            entry("d", "Apply", "apps/v3", "", replicas()),
            entry("e", "Apply", "apps/v4", "", replicas()),
            entry("f", "Update", "apps/v1", "scale", replicas()),
        ]);
        let mut scale = json!({"metadata": {}});
        enter_owners(&parent, &paths(), &mut scale).unwrap();
        assert_eq!(
            scale,
            object(&[
                scale_entry("a", "Apply", ""),
                scale_entry("c", "Apply", ""),
                scale_entry("f", "Update", "scale"),
            ])
        );
    }

    #[track_caller]
    fn returned(parent: &[Value], scale: &[Value], result: &[Value]) {
        let mut parent = object(parent);
        return_owners(&object(scale), &paths(), "apps/v1", &mut parent).unwrap();
        assert_eq!(parent, object(result));
    }

    #[test]
    fn who_scales_owns_the_replicas() {
        let replicas = || json!({"f:spec": {"f:replicas": {}}});
        let more = || json!({"f:spec": {"f:replicas": {}, "f:selector": {}}});
        let rest = || json!({"f:spec": {"f:selector": {}}});
        // Taken from one that has more, from one that has no more, and from one of another version.
        for (operation, left) in [("Apply", rest()), ("Update", rest())] {
            returned(
                &[entry("a", operation, "apps/v1", "", more())],
                &[scale_entry("hpa", "Update", "scale")],
                &[
                    entry("a", operation, "apps/v1", "", left),
                    entry("hpa", "Update", "apps/v1", "scale", replicas()),
                ],
            );
        }
        returned(
            &[entry("a", "Apply", "apps/v1", "", replicas())],
            &[entry("b", "Apply", SCALE_VERSION, "scale", json!({"f:spec": {".": {}, "f:replicas": {}}}))],
            &[entry("b", "Apply", "apps/v1", "scale", replicas())],
        );
        returned(
            &[entry("a", "Apply", "apps/v2", "", json!({"f:spec": {"f:count": {}, "f:selector": {}}}))],
            &[scale_entry("hpa", "Update", "scale")],
            &[
                entry("a", "Apply", "apps/v2", "", rest()),
                entry("hpa", "Update", "apps/v1", "scale", replicas()),
            ],
        );
        // Who kept them stays as it was, and so does who never had them.
        let kept = [
            entry("a", "Apply", "apps/v1", "", more()),
            entry("b", "Update", "apps/v1", "", more()),
            entry("c", "Update", "apps/v3", "", replicas()),
        ];
        returned(&kept, &[scale_entry("a", "Apply", ""), scale_entry("b", "Update", "")], &kept);
        returned(
            &[entry("a", "Apply", "apps/v4", "", replicas())],
            &[scale_entry("b", "Apply", "")],
            &[entry("b", "Apply", "apps/v1", "", replicas())],
        );
        // What else somebody owns of a scale is not the parent's.
        returned(
            &[entry("a", "Apply", "apps/v1", "", rest())],
            &[entry("b", "Update", SCALE_VERSION, "scale", json!({"f:metadata": {"f:labels": {}}}))],
            &[entry("a", "Apply", "apps/v1", "", rest())],
        );
    }
}
