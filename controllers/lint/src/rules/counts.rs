//! Numbers that objects tell are those of what is there: replicas, and what is used of quotas.

use std::collections::HashMap;

use barque_api::kind::GroupResource;
use barque_api::quantity::{Format, Quantity};
use barque_api::quota::amounts::{Amounts, add, amounts};
use barque_api::quota::{Meter, cover};
use barque_api::time::Time;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use kube::Resource;
use serde::Serialize;
use serde_json::Value;

use crate::finding::{Findings, Rule};
use crate::objects::{controller, is_deleting, place, uid};
use crate::pods;
use crate::snapshot::Snapshot;

pub(super) fn check(snapshot: &Snapshot, findings: &mut Findings) {
    replicas(snapshot, findings);
    if snapshot.quotas.is_empty() {
        return;
    }
    let mut objects = Objects { snapshot, values: HashMap::new(), numbers: HashMap::new() };
    for meta in snapshot.objects.iter().filter(|meta| !meta.namespace.is_empty()) {
        *objects.numbers.entry((meta.collection.group_resource(), &meta.namespace)).or_default() += 1;
    }
    for quota in &snapshot.quotas {
        of_quota(quota, &mut objects, findings);
    }
}

fn replicas(snapshot: &Snapshot, findings: &mut Findings) {
    let mut of: HashMap<&str, Vec<&Pod>> = HashMap::new();
    for pod in &snapshot.pods {
        if let Some(owner) = controller(&pod.metadata) {
            of.entry(&owner.uid).or_default().push(pod);
        }
    }
    let count = |uid: &str, counts: fn(&Pod) -> bool| {
        i32::try_from(of.get(uid).into_iter().flatten().filter(|pod| counts(pod)).count()).unwrap_or(i32::MAX)
    };
    for set in snapshot.replica_sets.iter().filter(|set| !is_deleting(*set)) {
        let told = set.status.as_ref().map_or(0, |status| status.replicas);
        compare(set, told, count(uid(set), pods::is_active), findings);
    }
    // These count pods that are going or have ended, too: nobody else can have their names.
    for set in snapshot.stateful_sets.iter().filter(|set| !is_deleting(*set)) {
        let told = set.status.as_ref().map_or(0, |status| status.replicas);
        compare(set, told, count(uid(set), |pod| !pods::phase(pod).is_empty()), findings);
    }
}

fn compare<K: Resource<DynamicType = ()>>(set: &K, told: i32, is: i32, findings: &mut Findings) {
    if told != is {
        let words = format!("has {told} in status.replicas, and {is} of its pods are there");
        findings.add(Rule::ReplicasMiscounted, set, words);
    }
}

/// Objects as quotas look at them, by kind and namespace.
struct Objects<'a> {
    snapshot: &'a Snapshot,
    values: HashMap<(&'static str, String), Vec<Value>>,
    /// How many there are of a collection in a namespace.
    numbers: HashMap<(String, &'a str), i64>,
}

impl Objects<'_> {
    /// Those of a namespace that a meter is about; nothing for what is only counted.
    fn of(&mut self, meter: &Meter, namespace: &str) -> &[Value] {
        let (name, snapshot) = (meter_name(meter), self.snapshot);
        self.values.entry((name, namespace.to_owned())).or_insert_with(|| match meter {
            Meter::Pods => values(&snapshot.pods, namespace),
            Meter::Claims => values(&snapshot.claims, namespace),
            Meter::Services => values(&snapshot.services, namespace),
            Meter::Others(_) => Vec::new(),
        })
    }
}

const fn meter_name(meter: &Meter) -> &'static str {
    match meter {
        Meter::Pods => "pods",
        Meter::Claims => "claims",
        Meter::Services => "services",
        Meter::Others(_) => "",
    }
}

fn values<K: Resource + Serialize>(all: &[K], namespace: &str) -> Vec<Value> {
    let own = all.iter().filter(|object| place(*object).0 == namespace);
    own.filter_map(|object| serde_json::to_value(object).ok()).collect()
}

fn of_quota(quota: &ResourceQuota, objects: &mut Objects<'_>, findings: &mut Findings) {
    let value = serde_json::to_value(quota).unwrap_or_default();
    let told = amounts(value.pointer("/status/used"));
    let (hard, counted) = (amounts(value.pointer("/spec/hard")), amounts(value.pointer("/status/hard")));
    for (name, told) in told.iter().filter(|(name, _)| hard.get(*name) == counted.get(*name)) {
        let Some((least, most)) = used(name, quota, &value, objects) else { continue };
        if *told < least || *told > most {
            let words = format!("has {told} of {name} in status.used, and {least} are used");
            findings.add(Rule::QuotaMiscounted, quota, words);
        }
    }
}

/// What is used under a name, at least and at most; nothing when that cannot be told. A pod whose grace is over may have been
/// counted before it was.
fn used(
    name: &str,
    quota: &ResourceQuota,
    value: &Value,
    objects: &mut Objects<'_>,
) -> Option<(Quantity, Quantity)> {
    let (namespace, _) = place(quota);
    let zero = || Quantity::new(0, 0, Format::DecimalSi);
    let measured = [Meter::Pods, Meter::Claims, Meter::Services].into_iter().find(|meter| meter.counts(name));
    if let Some(meter) = measured {
        let now = Time::of_unix(objects.snapshot.at.as_second());
        let all = objects.of(&meter, namespace);
        let at = |time| {
            let mut sum = Amounts::new();
            for object in all.iter().filter(|object| cover(value, &meter, object)) {
                add(&mut sum, &meter.usage(object, time));
            }
            sum.remove(name).unwrap_or_else(zero)
        };
        return Some((at(now), at(Time::of_unix(0))));
    }
    let counted = name.strip_prefix("count/").unwrap_or(name);
    let (resource, group) = counted.split_once('.').unwrap_or((counted, ""));
    let resource = GroupResource::new(group, resource);
    let meter = Meter::of(&resource).filter(|meter| meter.counts(name))?;
    let snapshot = objects.snapshot;
    let wanted = resource.to_string();
    let collections = snapshot.served.preferred();
    let collection = collections.iter().find(|one| one.group_resource() == wanted)?;
    if !snapshot.was_read(collection) {
        return None;
    }
    // What has only a number is in no scope.
    let is_covered = cover(value, &meter, &Value::Null);
    let count = objects.numbers.get(&(wanted, namespace)).filter(|_| is_covered).copied().unwrap_or_default();
    let count = Quantity::new(count, 0, Format::DecimalSi);
    Some((count.clone(), count))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::test_snapshot::{check, controlled_by, deleted, ended, object, pod, with};

    fn set(kind: &str, replicas: i32) -> Value {
        let more = json!({"spec": {"selector": {}, "template": {}}, "status": {"replicas": replicas}});
        object("apps/v1", kind, "n", "s", more)
    }

    #[test]
    fn replicas_are_those_that_are_there() {
        // How many are told when one pod is there that is as the other object says.
        let table = [
            ("ReplicaSet", json!({}), 1),
            ("ReplicaSet", ended(), 0),
            ("ReplicaSet", deleted(), 0),
            ("StatefulSet", json!({}), 1),
            ("StatefulSet", ended(), 1),
            ("StatefulSet", deleted(), 1),
            ("StatefulSet", json!({"status": {"phase": null}}), 0),
        ];
        for (kind, more, right) in table {
            let of_set = |replicas| {
                let set = set(kind, replicas);
                [set.clone(), with(pod("p", "10.0.0.1", controlled_by(&set)), more.clone())]
            };
            check(&of_set(right), &[]);
            let words = format!("has {} in status.replicas, and {right} of its pods are there", right + 1);
            check(&of_set(right + 1), &[&format!("replicas-miscounted: {kind} n/s {words}")]);
        }
        check(&[pod("free", "10.0.0.1", json!({})), set("ReplicaSet", 0)], &[]);
        check(&[with(set("ReplicaSet", 5), deleted())], &[]);
    }

    fn quota(name: &str, used: &str) -> Value {
        let (hard, used) = (json!({name: "10"}), json!({name: used}));
        let more = json!({"spec": {"hard": hard}, "status": {"hard": hard, "used": used}});
        object("v1", "ResourceQuota", "n", "q", more)
    }

    #[test]
    fn quotas_count_what_is_there() {
        let lives = || {
            pod(
                "p",
                "10.0.0.1",
                json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]}}),
            )
        };
        let map = || object("v1", "ConfigMap", "n", "m", json!({}));
        let far = [
            object("v1", "Namespace", "", "far", json!({})),
            object("v1", "ConfigMap", "far", "m", json!({"metadata": {"uid": "far"}})),
        ];
        let deployment = || object("apps/v1", "Deployment", "n", "d", json!({}));
        let service = || object("v1", "Service", "n", "s", json!({"spec": {"clusterIP": "None"}}));
        let claim = || object("v1", "PersistentVolumeClaim", "n", "c", json!({}));
        let table = [
            ("pods", vec![lives()], "1"),
            ("pods", vec![with(lives(), ended())], "0"),
            ("count/pods", vec![with(lives(), ended())], "1"),
            ("requests.cpu", vec![lives()], "1"),
            ("configmaps", vec![map()], "1"),
            ("count/configmaps", [vec![map()], far.to_vec()].concat(), "1"),
            ("count/deployments.apps", vec![deployment()], "1"),
            ("count/deployments.apps", vec![], "0"),
            ("services", vec![service()], "1"),
            ("persistentvolumeclaims", vec![claim()], "1"),
        ];
        for (name, objects, right) in table {
            let all = |used| [objects.clone(), vec![quota(name, used)]].concat();
            check(&all(right), &[]);
            let found = format!(
                "quota-miscounted: ResourceQuota n/q has 7 of {name} in status.used, and {right} are used"
            );
            check(&all("7"), &[&found]);
        }
    }

    #[test]
    fn what_is_not_counted_yet_is_not_judged() {
        check(&[with(quota("pods", "7"), json!({"status": {"hard": {"pods": "9"}}}))], &[]);
        check(&[quota("count/ships.x.org", "7")], &[]);
        // A pod whose grace is over may have been counted before it was.
        let going = || with(pod("p", "10.0.0.1", json!({})), deleted());
        check(&[going(), quota("pods", "1")], &[]);
        check(&[going(), quota("pods", "0")], &[]);
        check(
            &[going(), quota("pods", "2")],
            &["quota-miscounted: ResourceQuota n/q has 2 of pods in status.used, and 0 are used"],
        );
    }

    #[test]
    fn scopes_are_kept() {
        let scoped = |used| with(quota("pods", used), json!({"spec": {"scopes": ["Terminating"]}}));
        check(&[pod("p", "10.0.0.1", json!({})), scoped("0")], &[]);
        let maps = with(quota("count/configmaps", "0"), json!({"spec": {"scopes": ["Terminating"]}}));
        check(&[object("v1", "ConfigMap", "n", "m", json!({})), maps], &[]);
        check(&[pod("p", "10.0.0.1", json!({"spec": {"activeDeadlineSeconds": 9}})), scoped("1")], &[]);
        check(
            &[pod("p", "10.0.0.1", json!({})), scoped("1")],
            &["quota-miscounted: ResourceQuota n/q has 1 of pods in status.used, and 0 are used"],
        );
    }
}
