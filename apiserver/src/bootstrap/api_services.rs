//! One `APIService` for each built-in group version, so that clients see who serves it. Must never touch one that somebody
//! else manages.

use std::collections::BTreeSet;

use barque_api::kind::GroupVersion;
use barque_api::resources::Builtin;
use barque_api::resources::priority::{self, Priority};
use serde_json::{Value, json};

use super::{Desired, Rule};

const GROUP: &str = "apiregistration.k8s.io";
/// Tells that the server manages it, since its start.
const MANAGED: (&str, &str) = ("kube-aggregator.kubernetes.io/automanaged", "onstart");

/// The group of these objects itself has none, as in Kubernetes.
pub(super) fn objects() -> Vec<Desired> {
    let group_versions: BTreeSet<(String, String)> = Builtin::table()
        .all()
        .iter()
        .map(|one| (one.name.group.to_string(), one.name.version.to_string()))
        .filter(|(group, _)| group != GROUP)
        .collect();
    group_versions.iter().map(|(group, version)| object(&GroupVersion::new(group, version))).collect()
}

fn object(group_version: &GroupVersion) -> Desired {
    let name = format!("{}.{}", group_version.version, group_version.group);
    let Priority { group, version } = priority::of_builtin(group_version).unwrap_or(priority::CUSTOM);
    let mut spec = json!({
        "version": &*group_version.version,
        "groupPriorityMinimum": group,
        "versionPriority": version,
    });
    if !group_version.group.is_empty() {
        spec["group"] = (*group_version.group).into();
    }
    Desired::new(&GroupVersion::new(GROUP, "v1"), "apiservices", "APIService", ("", &name), Rule::ApiService)
        .with_metadata("labels", json!({MANAGED.0: MANAGED.1}))
        .with("spec", spec)
}

/// The object as it should be.
pub(super) fn revised(expected: &Value, existing: &Value) -> Value {
    let mut object = existing.clone();
    let label = existing.pointer("/metadata/labels").and_then(|labels| labels.get(MANAGED.0));
    let managed = label.and_then(Value::as_str).is_some_and(|label| [MANAGED.1, "true"].contains(&label));
    if managed && existing["spec"] != expected["spec"] {
        object["spec"] = expected["spec"].clone();
    }
    object
}

#[cfg(test)]
mod tests {
    use super::super::tests::one;
    use super::super::{Plan, plan};
    use super::*;

    #[test]
    fn core_has_a_name_that_ends_in_a_dot() {
        let core = one("apiservices", "v1.");
        let spec = json!({"version": "v1", "groupPriorityMinimum": 18000, "versionPriority": 1});
        assert_eq!(core.object["spec"], spec);
        assert_eq!(one("apiservices", "v2.autoscaling").object["spec"]["versionPriority"], 30);
        assert!(objects().iter().all(|one| one.name != "v1.apiregistration.k8s.io"));
    }

    #[test]
    fn only_what_is_marked_as_managed_is_kept() {
        let apps = one("apiservices", "v1.apps");
        let mut existing = apps.object.clone();
        existing["spec"]["service"] = json!({"name": "mine", "namespace": "default"});
        let Plan::Update(object) = plan(&apps, Some(&existing)) else { panic!() };
        assert_eq!(object["spec"], apps.object["spec"]);
        existing["metadata"]["labels"] = json!({});
        assert_eq!(plan(&apps, Some(&existing)), Plan::Nothing);
    }
}
