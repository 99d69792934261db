//! A definition as what is served because of it: one row for each version, with the schema, columns and paths that it gives.
//! Pure. Must never serve a name that was not accepted.

use std::collections::BTreeMap;
use std::sync::Arc;

use barque_api::custom_schema::CustomSchema;
use barque_api::field::{FieldError, FieldPath};
use barque_api::kind::{GroupVersion, GroupVersionKind};
use barque_api::names::NameRule;
use barque_api::resources::priority::version_order;
use barque_api::resources::{Builtin, Resource, Subresource, Verb};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{conditions, is_true, list, text, versions};
use crate::registry::deletion::{Manner, Propagation};
use crate::registry::served::{Converter, CustomShape, ScalePaths, Served, Shape};
use crate::table::CustomColumns;

/// In the order in which Kubernetes tells them.
const VERBS: [Verb; 8] = [
    Verb::Delete,
    Verb::DeleteCollection,
    Verb::Get,
    Verb::List,
    Verb::Patch,
    Verb::Create,
    Verb::Update,
    Verb::Watch,
];
/// What can be done while the definition goes.
const LAST_VERBS: [Verb; 5] = [Verb::Delete, Verb::DeleteCollection, Verb::Get, Verb::List, Verb::Watch];

/// Whether objects of the definition are served: its names were accepted, now or before.
#[must_use]
pub fn is_served(definition: &Value) -> bool {
    ["NamesAccepted", "Established"].iter().any(|kind| conditions::holds(definition, kind))
}

/// Whether a built-in collection has the name already, and keeps it.
#[must_use]
pub fn is_builtin(definition: &Value) -> bool {
    let (group, plural) = (text(definition, "/spec/group"), text(definition, "/spec/names/plural"));
    Builtin::table().all().iter().any(|row| &*row.name.group == group && &*row.name.resource == plural)
}

/// The version that objects are stored in; nothing for a definition without one.
#[must_use]
pub fn storage_version(definition: &Value) -> Option<&str> {
    versions(definition).iter().find(|version| is_true(version, "storage")).map(|one| text(one, "/name"))
}

/// The schemas of all versions, by `apiVersion`; versions without one are left out.
///
/// # Errors
/// Everything that is wrong with them.
pub fn schemas(definition: &Value) -> Result<BTreeMap<String, CustomSchema>, Vec<FieldError>> {
    let group = text(definition, "/spec/group");
    let mut schemas = BTreeMap::new();
    let mut errors = Vec::new();
    for (index, version) in versions(definition).iter().enumerate() {
        let Some(schema) = version.pointer("/schema/openAPIV3Schema") else { continue };
        let at = FieldPath::of("spec.versions").index(index).child("schema").child("openAPIV3Schema");
        match CustomSchema::new(schema, &at, has_status(version)) {
            Ok(schema) => {
                let api_version = GroupVersion::new(group, text(version, "/name")).to_string();
                schemas.insert(api_version, schema);
            }
            Err(wrong) => errors.extend(wrong),
        }
    }
    if errors.is_empty() { Ok(schemas) } else { Err(errors) }
}

/// What is served of a definition whose names were accepted: its versions in its order, with the names in its status. While
/// it goes, the stored version is there in any case, so that its objects can go.
///
/// # Errors
/// What is wrong with its schemas.
pub fn served(
    definition: &Value,
    converter: Option<Arc<dyn Converter>>,
) -> Result<Vec<Arc<Served>>, Vec<FieldError>> {
    let Some(storage) = storage_version(definition) else { return Ok(Vec::new()) };
    let schemas = Arc::new(schemas(definition)?);
    let group = text(definition, "/spec/group");
    let names = Names::of(definition);
    let goes = definition.pointer("/metadata/deletionTimestamp").is_some_and(|time| !time.is_null());
    let kind = |version: &str| GroupVersionKind::new(group, version, names.kind);
    let all = versions(definition);
    let kinds: Vec<_> =
        all.iter().filter(|one| is_true(one, "served")).map(|one| kind(text(one, "/name"))).collect();
    let mut selectable: Vec<String> = all.iter().flat_map(selectable).collect();
    selectable.sort();
    selectable.dedup();
    let stored_kind = kind(storage);
    let mut served = Vec::new();
    for version in all {
        let name = text(version, "/name");
        let is_served = is_true(version, "served");
        let is_last = goes && name == storage;
        if !is_served && !is_last {
            continue;
        }
        let kind = kind(name);
        let verbs: &[Verb] = match (is_served, goes) {
            (false, _) => &[],
            (true, true) => &LAST_VERBS,
            (true, false) => &VERBS,
        };
        let shape = CustomShape {
            schema: schemas.get(&kind.group_version().to_string()).cloned(),
            schemas: Arc::clone(&schemas),
            scale: scale(version),
            status: has_status(version),
            selectable: selectable.clone(),
            offered: self::selectable(version).collect(),
            columns: CustomColumns::of(list(version, "/additionalPrinterColumns")),
            converter: converter.clone(),
            deprecated: deprecation(version, all, &kind),
            ended: CancellationToken::new(),
        };
        served.push(Arc::new(Served {
            resource: Arc::new(resource(version, definition, &names, &kind, verbs)),
            stored: stored_kind.group_version().resource(names.plural),
            stored_kind: stored_kind.clone(),
            versions: kinds.clone(),
            names: NameRule::Subdomain,
            manner: Manner { propagation: Propagation::Background, graceful: false },
            scale: shape.scale.clone(),
            shape: Shape::Custom(Arc::new(shape)),
            kind,
        }));
    }
    Ok(served)
}

/// The names that were accepted.
struct Names<'a> {
    plural: &'a str,
    singular: &'a str,
    kind: &'a str,
    short: &'a [Value],
    categories: &'a [Value],
}

impl<'a> Names<'a> {
    fn of(definition: &'a Value) -> Self {
        let accepted = definition.pointer("/status/acceptedNames").unwrap_or(&Value::Null);
        Self {
            plural: text(accepted, "/plural"),
            singular: text(accepted, "/singular"),
            kind: text(accepted, "/kind"),
            short: list(accepted, "/shortNames"),
            categories: list(accepted, "/categories"),
        }
    }
}

fn resource(
    version: &Value,
    definition: &Value,
    names: &Names<'_>,
    kind: &GroupVersionKind,
    verbs: &[Verb],
) -> Resource {
    let texts =
        |list: &[Value]| -> Vec<Arc<str>> { list.iter().filter_map(Value::as_str).map(Into::into).collect() };
    let mut subresources = Vec::new();
    let change = || vec![Verb::Get, Verb::Patch, Verb::Update];
    if has_status(version) && !verbs.is_empty() {
        subresources.push(Subresource { name: "status".into(), kind: kind.clone(), verbs: change() });
    }
    if scale(version).is_some() && !verbs.is_empty() {
        let kind = GroupVersionKind::new("autoscaling", "v1", "Scale");
        subresources.push(Subresource { name: "scale".into(), kind, verbs: change() });
    }
    Resource {
        name: kind.group_version().resource(names.plural),
        kind: Arc::clone(&kind.kind),
        singular: names.singular.into(),
        namespaced: text(definition, "/spec/scope") == "Namespaced",
        short_names: texts(names.short),
        categories: texts(names.categories),
        verbs: verbs.to_vec(),
        subresources,
    }
}

/// What those who use a version are told that is on its way out.
fn deprecation(version: &Value, all: &[Value], kind: &GroupVersionKind) -> Option<String> {
    if !is_true(version, "deprecated") {
        return None;
    }
    if let Some(warning) = version.get("deprecationWarning").and_then(Value::as_str) {
        return Some(warning.to_owned());
    }
    let of = |version: &str| format!("{}/{version} {}", kind.group, kind.kind);
    let own = version_order(&kind.version);
    let better = all.iter().filter(|one| is_true(one, "served") && !is_true(one, "deprecated"));
    let better = better.map(|one| text(one, "/name")).filter(|name| version_order(name) < own);
    let told = format!("{} is deprecated", of(&kind.version));
    Some(match better.min_by_key(|name| version_order(name)) {
        Some(better) => format!("{told}; use {}", of(better)),
        None => told,
    })
}

/// Whether `status` of this version is a subresource.
pub(super) fn has_status(version: &Value) -> bool {
    version.pointer("/subresources/status").is_some_and(|status| !status.is_null())
}

fn scale(version: &Value) -> Option<ScalePaths> {
    let scale = version.pointer("/subresources/scale").filter(|scale| !scale.is_null())?;
    let path = |field: &str| text(scale, field).trim_start_matches('.').to_owned();
    Some(ScalePaths {
        spec_replicas: path("/specReplicasPath"),
        status_replicas: path("/statusReplicasPath"),
        selector: path("/labelSelectorPath"),
    })
}

/// The fields that selectors may ask for, without the dot at their front.
fn selectable(version: &Value) -> impl Iterator<Item = String> + '_ {
    list(version, "/selectableFields")
        .iter()
        .map(|field| text(field, "/jsonPath").trim_start_matches('.').to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn definition(versions: Value) -> Value {
        json!({
            "metadata": {"name": "foos.example.com"},
            "spec": {"group": "example.com", "scope": "Cluster", "names": {"plural": "foos"}, "versions": versions},
            "status": {
                "acceptedNames": {"plural": "foos", "singular": "foo", "kind": "Foo", "listKind": "FooList"},
                "conditions": [{"type": "NamesAccepted", "status": "True"}],
            },
        })
    }

    fn version(name: &str, served: bool, storage: bool) -> Value {
        json!({"name": name, "served": served, "storage": storage, "schema": {"openAPIV3Schema": {"type": "object"}}})
    }

    #[test]
    fn versions_are_served_as_they_say_and_share_what_is_stored() {
        let mut one = definition(json!([
            version("v2", true, false),
            version("v1", false, true),
            version("v0", false, false)
        ]));
        assert!(is_served(&one) && !is_builtin(&one));
        let all = served(&one, None).unwrap();
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].resource.name.to_string(), "example.com/v2, Resource=foos");
        assert_eq!(&*all[0].stored_kind.version, "v1");
        assert!(!all[0].resource.namespaced && all[0].has_status().eq(&false));
        // What is stored is there while it goes, so that it can.
        one["metadata"]["deletionTimestamp"] = json!("2026-01-02T12:00:00Z");
        let all = served(&one, None).unwrap();
        assert_eq!(all.len(), 2);
        assert!(!all[0].resource.can(Verb::Create) && all[0].resource.can(Verb::Delete));
        assert!(all[1].resource.verbs.is_empty());
    }

    #[test]
    fn names_of_builtin_collections_stay_theirs() {
        let mut one = definition(json!([version("v1", true, true)]));
        one["spec"]["group"] = json!("apps");
        one["spec"]["names"]["plural"] = json!("deployments");
        assert!(is_builtin(&one));
    }

    #[test]
    fn users_of_versions_on_their_way_out_are_warned() {
        let mut versions =
            json!([version("v1alpha1", true, false), version("v1", true, true), version("v2", false, false)]);
        versions[0]["deprecated"] = json!(true);
        let warning = |versions: &Value| {
            let all = served(&definition(versions.clone()), None).unwrap();
            all[0].deprecation().map(str::to_owned)
        };
        let told = warning(&versions).unwrap();
        assert_eq!(told, "example.com/v1alpha1 Foo is deprecated; use example.com/v1 Foo");
        versions[1]["served"] = json!(false);
        assert_eq!(warning(&versions).unwrap(), "example.com/v1alpha1 Foo is deprecated");
        versions[0]["deprecationWarning"] = json!("leave it");
        assert_eq!(warning(&versions).unwrap(), "leave it");
        versions[0]["deprecated"] = json!(false);
        assert_eq!(warning(&versions), None);
    }
}
