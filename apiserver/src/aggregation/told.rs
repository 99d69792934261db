//! What services tell of what they serve: their discovery, aggregated or plain, and the index of their OpenAPI documents,
//! brought into one form. Pure; must never tell of another group than the one that was asked for.

use barque_api::kind::GroupVersion;
use serde_json::{Map, Value, json};

/// The resources of a version in aggregated discovery (`APIGroupDiscoveryList`).
#[must_use]
pub fn of_aggregated(list: &Value, of: &GroupVersion) -> Option<Value> {
    let mut groups = list["items"].as_array()?.iter();
    let group = groups.find(|group| group["metadata"]["name"].as_str().unwrap_or_default() == &*of.group)?;
    let mut versions = group["versions"].as_array()?.iter();
    let version = versions.find(|version| version["version"] == *of.version)?;
    Some(version.get("resources").filter(|all| all.is_array()).cloned().unwrap_or_else(|| json!([])))
}

/// The same out of plain discovery (`APIResourceList`).
#[must_use]
pub fn of_plain(list: &Value, of: &GroupVersion) -> Value {
    let mut resources: Vec<Value> = Vec::new();
    for row in list["resources"].as_array().into_iter().flatten() {
        let Some(name) = row["name"].as_str() else { continue };
        let (name, below) = name.split_once('/').unwrap_or((name, ""));
        let at = resources.iter().position(|one| one["resource"] == name).unwrap_or_else(|| {
            resources
                .push(json!({"resource": name, "scope": scope(row), "singularResource": "", "verbs": []}));
            resources.len() - 1
        });
        let entry = &mut resources[at];
        if below.is_empty() {
            entry["responseKind"] = kind(row, of);
            entry["singularResource"] = row["singularName"].as_str().unwrap_or_default().into();
            entry["verbs"] = list_of(row, "verbs");
            for field in ["shortNames", "categories"] {
                if row.get(field).is_some_and(Value::is_array) {
                    entry[field] = list_of(row, field);
                }
            }
        } else {
            if !entry["subresources"].is_array() {
                entry["subresources"] = json!([]);
            }
            if let Some(all) = entry["subresources"].as_array_mut() {
                all.push(json!({"subresource": below, "responseKind": kind(row, of), "verbs": list_of(row, "verbs")}));
            }
        }
    }
    resources.into()
}

/// Where the OpenAPI document of a version is, with its hash, by the index of `/openapi/v3`.
#[must_use]
pub fn openapi_url(index: &Value, of: &GroupVersion) -> Option<String> {
    let path = barque_api::openapi::v3::path_of(of);
    let url = index["paths"].get(&path)?["serverRelativeURL"].as_str()?;
    // The document is asked for by this path only; anything else would lead elsewhere.
    let rest = url.strip_prefix("/openapi/v3/")?.strip_prefix(&path)?;
    (rest.is_empty() || rest.starts_with('?')).then(|| url.to_owned())
}

fn scope(row: &Value) -> &'static str {
    if row["namespaced"].as_bool() == Some(true) { "Namespaced" } else { "Cluster" }
}

fn kind(row: &Value, of: &GroupVersion) -> Value {
    let text = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
    let mut kind = Map::new();
    // What says nothing else is of the group and version itself.
    let own = text("version").is_empty();
    kind.insert("group".into(), if own { of.group.to_string() } else { text("group") }.into());
    kind.insert("version".into(), if own { of.version.to_string() } else { text("version") }.into());
    kind.insert("kind".into(), text("kind").into());
    kind.into()
}

fn list_of(row: &Value, field: &str) -> Value {
    row.get(field).filter(|all| all.is_array()).cloned().unwrap_or_else(|| json!([]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_discovery_is_brought_into_the_aggregated_form() {
        let of = GroupVersion::new("wardle.example.com", "v1");
        let list = json!({"kind": "APIResourceList", "groupVersion": "wardle.example.com/v1", "resources": [
            {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder",
             "verbs": ["get", "list"], "shortNames": ["fl"]},
            {"name": "flunders/scale", "singularName": "", "namespaced": true, "kind": "Scale",
             "group": "autoscaling", "version": "v1", "verbs": ["get"]},
        ]});
        assert_eq!(
            of_plain(&list, &of),
            json!([{
                "resource": "flunders", "scope": "Namespaced", "singularResource": "flunder",
                "responseKind": {"group": "wardle.example.com", "version": "v1", "kind": "Flunder"},
                "verbs": ["get", "list"], "shortNames": ["fl"],
                "subresources": [{
                    "subresource": "scale", "verbs": ["get"],
                    "responseKind": {"group": "autoscaling", "version": "v1", "kind": "Scale"},
                }],
            }])
        );
    }

    #[test]
    fn only_the_version_that_was_asked_for_is_taken() {
        let list = json!({"items": [
            {"metadata": {"name": "other"}, "versions": [{"version": "v1", "resources": [{"resource": "x"}]}]},
            {"metadata": {"name": "g"}, "versions": [{"version": "v1", "resources": [{"resource": "y"}]}]},
        ]});
        assert_eq!(of_aggregated(&list, &GroupVersion::new("g", "v1")), Some(json!([{"resource": "y"}])));
        assert_eq!(of_aggregated(&list, &GroupVersion::new("g", "v2")), None);
        let url = |url: &str| {
            let index = json!({"paths": {"apis/g/v1": {"serverRelativeURL": url}}});
            openapi_url(&index, &GroupVersion::new("g", "v1"))
        };
        assert!(url("/openapi/v3/apis/g/v1?hash=A").is_some());
        assert_eq!(url("/openapi/v3/apis/g/v12"), None);
        assert_eq!(url("https://elsewhere/"), None);
    }
}
