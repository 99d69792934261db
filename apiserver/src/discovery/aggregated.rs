//! Discovery at once: all groups, versions and resources in one document (`apidiscovery.k8s.io/v2`).

use barque_api::kind::GroupVersionKind;
use barque_api::resources::{Resource, Subresource};
use serde_json::{Map, Value, json};

use super::plain::{below_verbs, names};
use super::{Group, Version};

/// `APIGroupDiscoveryList`: of the core group for `/api`, of all others for `/apis`.
#[must_use]
pub fn aggregated(groups: &[Group], core: bool) -> Value {
    let wanted = groups.iter().filter(|group| group.name.is_empty() == core);
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": wanted.map(described).collect::<Vec<_>>(),
    })
}

fn described(group: &Group) -> Value {
    let metadata = if group.name.is_empty() { json!({}) } else { json!({"name": &*group.name}) };
    json!({"metadata": metadata, "versions": group.versions.iter().map(version).collect::<Vec<_>>()})
}

fn version(version: &Version) -> Value {
    if let Some(told) = &version.told {
        return json!({
            "version": &*version.group_version.version,
            "freshness": if told.fresh { "Current" } else { "Stale" },
            "resources": told.resources,
        });
    }
    json!({
        "version": &*version.group_version.version,
        "freshness": "Current",
        "resources": version.resources.iter().map(|one| resource(one)).collect::<Vec<_>>(),
    })
}

fn resource(resource: &Resource) -> Value {
    let mut row = Map::new();
    row.insert("resource".into(), (*resource.name.resource).into());
    row.insert("responseKind".into(), kind(&resource.group_version_kind()));
    row.insert("scope".into(), if resource.namespaced { "Namespaced" } else { "Cluster" }.into());
    row.insert("singularResource".into(), (*resource.singular).into());
    row.insert("verbs".into(), names(resource.verbs.iter().map(|verb| verb.name())));
    for (field, texts) in [("shortNames", &resource.short_names), ("categories", &resource.categories)] {
        if !texts.is_empty() {
            row.insert(field.into(), names(texts.iter().map(|text| &**text)));
        }
    }
    if !resource.subresources.is_empty() {
        row.insert("subresources".into(), resource.subresources.iter().map(subresource).collect());
    }
    Value::Object(row)
}

fn subresource(below: &Subresource) -> Value {
    json!({
        "subresource": &*below.name,
        "responseKind": kind(&below.kind),
        "verbs": below_verbs(below),
    })
}

fn kind(kind: &GroupVersionKind) -> Value {
    json!({"group": &*kind.group, "version": &*kind.version, "kind": &*kind.kind})
}

#[cfg(test)]
mod tests {
    use barque_api::resources::Builtin;

    use super::*;
    use crate::discovery::{Elsewhere, catalog};

    #[test]
    fn all_is_told_at_once() {
        let catalog = catalog(Builtin::table().all().iter().cloned(), &Elsewhere::default());
        let core = aggregated(&catalog, true);
        assert_eq!(core["items"].as_array().unwrap().len(), 1);
        let resources = core["items"][0]["versions"][0]["resources"].as_array().unwrap();
        let pods = resources.iter().find(|row| row["resource"] == "pods").unwrap();
        assert_eq!(pods["responseKind"], json!({"group": "", "version": "v1", "kind": "Pod"}));
        assert_eq!(pods["scope"], "Namespaced");
        let below = pods["subresources"].as_array().unwrap();
        let eviction = below.iter().find(|row| row["subresource"] == "eviction").unwrap();
        assert_eq!(eviction["responseKind"], json!({"group": "policy", "version": "v1", "kind": "Eviction"}));
        let others = aggregated(&catalog, false);
        let names: Vec<_> =
            others["items"].as_array().unwrap().iter().map(|one| &one["metadata"]["name"]).collect();
        assert_eq!(names.len(), catalog.len() - 1);
    }
}
