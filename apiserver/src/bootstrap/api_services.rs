//! One `APIService` for each built-in group version, so that clients see who serves it. Must never touch one that somebody
//! else manages.

use std::collections::BTreeSet;

use barque_api::kind::GroupVersion;
use barque_api::resources::Builtin;
use barque_api::resources::priority::{self, Priority};
use barque_api::time::Time;
use serde_json::{Value, json};

use super::{Desired, Rule};

const GROUP: &str = "apiregistration.k8s.io";
/// Tells that the server manages it, since its start.
const MANAGED: (&str, &str) = ("kube-aggregator.kubernetes.io/automanaged", "onstart");

/// A metrics server brings its own, and takes the place of what is built in.
const REPLACEABLE: &str = "metrics.k8s.io";

/// The group of these objects itself has none, as in Kubernetes.
pub(super) fn objects() -> Vec<Desired> {
    let group_versions: BTreeSet<(String, String)> = Builtin::table()
        .all()
        .iter()
        .map(|one| (one.name.group.to_string(), one.name.version.to_string()))
        .filter(|(group, _)| group != GROUP && group != REPLACEABLE)
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

/// The object with the condition that it is available, for one that this server serves itself and that does not say so yet.
#[must_use]
pub fn locally_available(service: &Value, now: Time) -> Option<Value> {
    if service["spec"].get("service").is_some_and(|service| !service.is_null()) {
        return None;
    }
    let conditions = service.pointer("/status/conditions").and_then(Value::as_array);
    let mut conditions = conditions.cloned().unwrap_or_default();
    let place = conditions.iter().position(|one| one["type"] == "Available");
    let mut condition = json!({
        "type": "Available",
        "status": "True",
        "reason": "Local",
        "message": "Local APIServices are always available",
        "lastTransitionTime": now.to_string(),
    });
    match place.map(|place| &mut conditions[place]) {
        Some(old) => {
            // Only a change of the status is a transition.
            if old["status"] == "True" && old.get("lastTransitionTime").is_some() {
                condition["lastTransitionTime"] = old["lastTransitionTime"].clone();
            }
            if *old == condition {
                return None;
            }
            *old = condition;
        }
        None => conditions.push(condition),
    }
    let mut available = service.clone();
    available["status"]["conditions"] = conditions.into();
    Some(available)
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
        let without = ["v1.apiregistration.k8s.io", "v1beta1.metrics.k8s.io"];
        assert!(objects().iter().all(|one| !without.contains(&one.name.as_str())));
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

    #[test]
    fn what_the_server_serves_itself_is_available() {
        let apps = one("apiservices", "v1.apps").object;
        let available = locally_available(&apps, Time::of_unix(1)).unwrap();
        let expected = json!([{
            "type": "Available",
            "status": "True",
            "reason": "Local",
            "message": "Local APIServices are always available",
            "lastTransitionTime": "1970-01-01T00:00:01Z",
        }]);
        assert_eq!(available["status"]["conditions"], expected);
        assert_eq!(locally_available(&available, Time::of_unix(2)), None);
        let mut changed = available.clone();
        changed["status"]["conditions"][0]["reason"] = "Passed".into();
        assert_eq!(locally_available(&changed, Time::of_unix(2)), Some(available));
        changed["status"]["conditions"][0]["status"] = "False".into();
        let again = locally_available(&changed, Time::of_unix(2)).unwrap();
        assert_eq!(again["status"]["conditions"][0]["lastTransitionTime"], "1970-01-01T00:00:02Z");
        let mut remote = apps;
        remote["spec"]["service"] = json!({"name": "metrics-server", "namespace": "kube-system"});
        assert_eq!(locally_available(&remote, Time::of_unix(1)), None);
    }
}
