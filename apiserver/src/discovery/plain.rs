//! Discovery one step after the other: `/api`, `/apis`, `/apis/GROUP`, `/apis/GROUP/VERSION`.

use serde_json::{Map, Value, json};

use super::{Group, Version};

/// `/api`: the versions of the core group.
///
/// `address` is where clients that cannot tell (in-cluster ones) find this server, as host and port.
#[must_use]
pub fn api_versions(groups: &[Group], address: &str) -> Value {
    let core = groups.iter().filter(|group| group.name.is_empty()).flat_map(|group| &group.versions);
    let versions: Vec<&str> = core.map(|version| &*version.group_version.version).collect();
    json!({
        "kind": "APIVersions",
        "versions": versions,
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    })
}

/// `/apis`: all groups but core.
#[must_use]
pub fn groups(groups: &[Group]) -> Value {
    let named = groups.iter().filter(|group| !group.name.is_empty());
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": named.map(described).collect::<Vec<_>>()})
}

/// `/apis/GROUP`.
#[must_use]
pub fn group(group: &Group) -> Value {
    let mut value = described(group);
    value["kind"] = "APIGroup".into();
    value["apiVersion"] = "v1".into();
    value
}

fn described(group: &Group) -> Value {
    let version = |version: &Version| {
        json!({
            "groupVersion": version.group_version.to_string(),
            "version": &*version.group_version.version,
        })
    };
    json!({
        "name": &*group.name,
        "versions": group.versions.iter().map(version).collect::<Vec<_>>(),
        "preferredVersion": group.versions.first().map(version),
    })
}

/// `/api/v1` and `/apis/GROUP/VERSION`: the collections and what hangs below their objects.
#[must_use]
pub fn resources(version: &Version) -> Value {
    let mut rows = Vec::new();
    for resource in &version.resources {
        let mut row = Map::new();
        row.insert("name".into(), (*resource.name.resource).into());
        row.insert("singularName".into(), (*resource.singular).into());
        row.insert("namespaced".into(), resource.namespaced.into());
        row.insert("kind".into(), (*resource.kind).into());
        row.insert("verbs".into(), names(resource.verbs.iter().map(|verb| verb.name())));
        for (field, texts) in [("shortNames", &resource.short_names), ("categories", &resource.categories)] {
            if !texts.is_empty() {
                row.insert(field.into(), names(texts.iter().map(|text| &**text)));
            }
        }
        rows.push(Value::Object(row));
        for below in &resource.subresources {
            let mut row = Map::new();
            row.insert("name".into(), format!("{}/{}", resource.name.resource, below.name).into());
            row.insert("singularName".into(), "".into());
            row.insert("namespaced".into(), resource.namespaced.into());
            // A body of another group says so: clients find evictions and scales by it.
            if below.kind.group_version() != version.group_version {
                row.insert("group".into(), (*below.kind.group).into());
                row.insert("version".into(), (*below.kind.version).into());
            }
            row.insert("kind".into(), (*below.kind.kind).into());
            row.insert("verbs".into(), below_verbs(below));
            rows.push(Value::Object(row));
        }
    }
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": version.group_version.to_string(),
        "resources": rows,
    })
}

/// The verbs of what hangs below an object: a connection is made by the verbs of HTTP.
pub(super) fn below_verbs(below: &barque_api::resources::Subresource) -> Value {
    use barque_api::resources::Verb;
    if below.verbs == [Verb::Connect] {
        return match &*below.name {
            "proxy" => names(["create", "delete", "get", "patch", "update"].into_iter()),
            _ => names(["create", "get"].into_iter()),
        };
    }
    names(below.verbs.iter().map(|verb| verb.name()))
}

pub(super) fn names<'a>(names: impl Iterator<Item = &'a str>) -> Value {
    names.map(Value::from).collect()
}

#[cfg(test)]
mod tests {
    use barque_api::resources::Builtin;

    use super::*;
    use crate::discovery::{Elsewhere, catalog};

    #[test]
    fn groups_are_told_in_their_order_with_the_preferred_version() {
        let catalog = catalog(Builtin::table().all().iter().cloned(), &Elsewhere::default());
        let told = groups(&catalog);
        let named: Vec<&str> =
            told["groups"].as_array().unwrap().iter().map(|group| group["name"].as_str().unwrap()).collect();
        assert_eq!(named[..4], ["apiregistration.k8s.io", "apps", "events.k8s.io", "authentication.k8s.io"]);
        let autoscaling = named.iter().position(|name| *name == "autoscaling").unwrap();
        assert_eq!(told["groups"][autoscaling]["preferredVersion"]["groupVersion"], "autoscaling/v2");
        assert_eq!(api_versions(&catalog, "10.0.0.1:6443")["versions"], json!(["v1"]));
    }

    #[test]
    fn evictions_and_scales_name_the_group_of_their_bodies() {
        let catalog = catalog(Builtin::table().all().iter().cloned(), &Elsewhere::default());
        let row = |group: &str, name: &str| {
            let version = &catalog.iter().find(|one| &*one.name == group).unwrap().versions[0];
            let list = resources(version);
            list["resources"].as_array().unwrap().iter().find(|row| row["name"] == name).unwrap().clone()
        };
        assert_eq!(
            row("", "pods/eviction"),
            json!({
                "name": "pods/eviction", "singularName": "", "namespaced": true,
                "group": "policy", "version": "v1", "kind": "Eviction", "verbs": ["create"],
            })
        );
        assert_eq!(row("apps", "deployments/scale")["group"], "autoscaling");
        assert_eq!(row("", "pods/exec")["verbs"], json!(["create", "get"]));
        assert_eq!(row("", "pods/status").get("group"), None);
        assert_eq!(row("", "pods")["shortNames"], json!(["po"]));
    }
}
