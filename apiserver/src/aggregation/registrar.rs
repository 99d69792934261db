//! `APIService` objects of the groups and versions that CustomResourceDefinitions serve: made, kept and removed with them.
//! Pure; must never touch one that somebody else manages.

use std::collections::BTreeSet;

use barque_api::kind::GroupVersion;
use barque_api::metadata::Metadata;
use barque_api::resources::priority::CUSTOM;
use serde_json::{Value, json};

/// Tells that the server manages it.
const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A new object.
    Create(Value),
    /// The object as it should be.
    Update(Value),
    /// The object of this name is for nothing any more.
    Delete(String),
}

/// The groups and versions that a CustomResourceDefinition serves.
#[must_use]
pub fn served(definition: &Value) -> BTreeSet<GroupVersion> {
    let spec = &definition["spec"];
    let group = spec["group"].as_str().unwrap_or_default();
    let versions = spec["versions"].as_array().into_iter().flatten();
    let versions = versions.filter(|version| version["served"].as_bool() == Some(true));
    versions.filter_map(|version| Some(GroupVersion::new(group, version["name"].as_str()?))).collect()
}

/// What to do, given what there is.
#[must_use]
pub fn plan<'a>(wanted: &BTreeSet<GroupVersion>, existing: impl IntoIterator<Item = &'a Value>) -> Vec<Step> {
    let mut missing: BTreeSet<String> = wanted.iter().map(name).collect();
    let mut steps = Vec::new();
    for service in existing {
        let named = Metadata::of(service).name();
        let desired = wanted.iter().find(|one| name(one) == named);
        missing.remove(named);
        let label = Metadata::of(service).label(MANAGED).unwrap_or_default();
        match desired {
            // Those of built-in groups are marked `onstart`.
            None if label == "true" => steps.push(Step::Delete(named.to_owned())),
            Some(one) if ["true", "onstart"].contains(&label) && service["spec"] != spec(one) => {
                let mut service = service.clone();
                service["spec"] = spec(one);
                steps.push(Step::Update(service));
            }
            _ => {}
        }
    }
    let new = wanted.iter().filter(|one| missing.contains(&name(one)));
    steps.extend(new.map(|one| {
        Step::Create(json!({
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": name(one), "labels": {MANAGED: "true"}},
            "spec": spec(one),
        }))
    }));
    steps
}

fn name(of: &GroupVersion) -> String {
    format!("{}.{}", of.version, of.group)
}

fn spec(of: &GroupVersion) -> Value {
    json!({
        "group": &*of.group,
        "version": &*of.version,
        "groupPriorityMinimum": CUSTOM.group,
        "versionPriority": CUSTOM.version,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_have_a_service_for_each_version_that_they_serve() {
        let definition = json!({"spec": {"group": "example.com", "versions": [
            {"name": "v1", "served": true}, {"name": "v1beta1", "served": false},
        ]}});
        let wanted = served(&definition);
        let steps = plan(&wanted, []);
        let [Step::Create(made)] = steps.as_slice() else { panic!("{steps:?}") };
        assert_eq!(made["metadata"]["name"], "v1.example.com");
        assert_eq!(made["metadata"]["labels"][MANAGED], "true");
        assert_eq!(
            made["spec"],
            json!({"group": "example.com", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 100})
        );
        assert_eq!(plan(&wanted, [made]), []);
        assert_eq!(plan(&BTreeSet::new(), [made]), [Step::Delete("v1.example.com".to_owned())]);
    }

    #[test]
    fn what_others_manage_is_left_alone() {
        let wanted = BTreeSet::from([GroupVersion::new("example.com", "v1")]);
        let mut service = json!({
            "metadata": {"name": "v1.example.com"},
            "spec": {"group": "example.com", "version": "v1", "service": {"name": "s", "namespace": "a"}},
        });
        assert_eq!(plan(&wanted, [&service]), []);
        assert_eq!(plan(&BTreeSet::new(), [&service]), []);
        service["metadata"]["labels"] = json!({MANAGED: "onstart"});
        assert_eq!(plan(&BTreeSet::new(), [&service]), []);
        service["metadata"]["labels"] = json!({MANAGED: "true"});
        let steps = plan(&wanted, [&service]);
        let [Step::Update(changed)] = steps.as_slice() else { panic!("{steps:?}") };
        assert_eq!(changed["spec"].get("service"), None);
    }
}
