//! A definition as what is served because of it: one row for each version, with the schema, columns and paths that it gives.
//! Pure. Must never serve a name that was not accepted.

use std::collections::BTreeMap;
use std::sync::Arc;

use barque_api::custom_schema::CustomSchema;
use barque_api::field::{FieldError, FieldPath};
use barque_api::kind::{GroupVersion, GroupVersionKind};
use barque_api::names::NameRule;
use barque_api::resources::{Builtin, Resource, Subresource, Verb};
use serde_json::Value;

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
        if !is_served && !(goes && name == storage) {
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
