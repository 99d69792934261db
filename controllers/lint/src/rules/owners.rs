//! Owners are there under the name by which they are named, one controls at most, and its selector matches.

use std::collections::{BTreeMap, HashMap};

use barque_api::labels::Selector;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use kube::Resource;

use crate::finding::{Findings, Rule};
use crate::objects::{controller, is_deleting, matches, place, selector, shown, uid};
use crate::pods;
use crate::snapshot::{Meta, Snapshot};

pub(super) fn check(snapshot: &Snapshot, findings: &mut Findings) {
    let mut by_uid: HashMap<&str, Vec<&Meta>> = HashMap::new();
    for meta in snapshot.objects.iter().filter(|meta| !meta.uid.is_empty()) {
        by_uid.entry(&meta.uid).or_default().push(meta);
    }
    for meta in &snapshot.objects {
        if meta.owners.iter().filter(|owner| owner.controller == Some(true)).count() > 1 {
            let names: Vec<_> = meta.owners.iter().map(named).collect();
            let words = format!("has more than one controller among {}", names.join(", "));
            findings.add_about(Rule::TwoControllers, meta.object(), words);
        }
        // What is deleted and waits for a finalizer may well outlive its owners.
        for owner in meta.owners.iter().filter(|_| !meta.deleting) {
            let there = by_uid.get(&*owner.uid).map_or(&[][..], Vec::as_slice);
            if let Some((rule, words)) = wrong(snapshot, meta, owner, there) {
                findings.add_about(rule, meta.object(), words);
            }
        }
    }
    selectors(snapshot, findings);
}

fn named(owner: &OwnerReference) -> String {
    format!("{} {}", owner.kind, owner.name)
}

/// What is wrong with an owner; `there` is what has its uid.
fn wrong(
    snapshot: &Snapshot,
    meta: &Meta,
    owner: &OwnerReference,
    there: &[&Meta],
) -> Option<(Rule, String)> {
    let collection = snapshot.served.of_kind(&owner.api_version, &owner.kind)?;
    if !snapshot.was_read(collection) {
        return None;
    }
    let (name, uid) = (named(owner), &owner.uid);
    if collection.namespaced && meta.namespace.is_empty() {
        let words = format!("has the owner {name}, which is in a namespace, and is itself in none");
        return Some((Rule::OwnerElsewhere, words));
    }
    let same_kind = |one: &&&Meta| one.collection.group_resource() == collection.group_resource();
    let Some(found) = there.iter().find(same_kind) else {
        let words = format!("has the owner {name} with the uid {uid}, which is gone");
        return Some((Rule::OwnerGone, words));
    };
    let is_where_it_should = found.namespace.is_empty() || found.namespace == meta.namespace;
    (found.name != owner.name || !is_where_it_should).then(|| {
        let found = shown((&found.namespace, &found.name));
        (Rule::OwnerElsewhere, format!("has the owner {name} with the uid {uid}, which is {found}"))
    })
}

/// Kinds of owners that nobody serves, or that were not read.
pub(super) fn unknown(snapshot: &Snapshot) -> Vec<String> {
    let mut unknown: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for owner in snapshot.objects.iter().flat_map(|meta| &meta.owners) {
        let collection = snapshot.served.of_kind(&owner.api_version, &owner.kind);
        if !collection.is_some_and(|collection| snapshot.was_read(collection)) {
            *unknown.entry((&owner.api_version, &owner.kind)).or_default() += 1;
        }
    }
    let sentence = |((version, kind), count): (_, usize)| {
        let objects = if count == 1 { "one object has an owner" } else { "objects have owners" };
        let count = if count == 1 { String::new() } else { format!("{count} ") };
        format!("{count}{objects} of the kind {kind} of {version}, of which nothing is known")
    };
    unknown.into_iter().map(sentence).collect()
}

/// The selector by which an object controls pods.
struct Controller<'a> {
    kind: &'static str,
    place: (&'a str, &'a str),
    selector: Selector,
}

fn selectors(snapshot: &Snapshot, findings: &mut Findings) {
    let mut controllers: HashMap<&str, Controller<'_>> = HashMap::new();
    let mut add =
        |uid, controller: Option<_>| controllers.extend(controller.map(|controller| (uid, controller)));
    for set in &snapshot.replica_sets {
        add(uid(set), of("ReplicaSet", set, Some(&set.spec.selector)));
    }
    for set in &snapshot.stateful_sets {
        add(uid(set), of("StatefulSet", set, Some(&set.spec.selector)));
    }
    for set in &snapshot.daemon_sets {
        add(uid(set), of("DaemonSet", set, Some(&set.spec.selector)));
    }
    for job in &snapshot.jobs {
        add(uid(job), of("Job", job, job.spec.as_ref().and_then(|spec| spec.selector.as_ref())));
    }
    // Controllers let go of living pods only.
    for pod in snapshot.pods.iter().filter(|pod| pods::is_active(pod)) {
        let owner = controller(&pod.metadata).and_then(|owner| controllers.get(&*owner.uid));
        if let Some(owner) = owner.filter(|owner| !matches(&owner.selector, pod)) {
            let (kind, name) = (owner.kind, shown(owner.place));
            let words = format!(
                "is controlled by {kind} {name}, whose selector {} does not match it",
                owner.selector
            );
            findings.add(Rule::SelectorMismatch, pod, words);
        }
    }
}

fn of<'a, K: Resource>(
    kind: &'static str,
    object: &'a K,
    by: Option<&LabelSelector>,
) -> Option<Controller<'a>> {
    // One that is being deleted lets nobody go.
    if is_deleting(object) {
        return None;
    }
    Some(Controller { kind, place: place(object), selector: selector(by?)? })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::rules::{lint, notes};
    use crate::test_snapshot::{check, controlled_by, deleted, ended, ground, object, pod, snapshot, with};

    fn map(name: &str, owners: Value) -> Value {
        object("v1", "ConfigMap", "n", name, json!({"metadata": {"ownerReferences": owners}}))
    }

    fn owner(version: &str, kind: &str, name: &str, uid: &str) -> Value {
        json!({"apiVersion": version, "kind": kind, "name": name, "uid": uid})
    }

    #[test]
    fn owners_are_there() {
        let set = object("apps/v1", "Deployment", "n", "web", json!({}));
        let owned = |uid: &str| map("m", json!([owner("apps/v1", "Deployment", "web", uid)]));
        check(&[set.clone(), owned("deployment-web")], &[]);
        check(
            &[set.clone(), owned("before")],
            &["owner-gone: ConfigMap n/m has the owner Deployment web with the uid before, which is gone"],
        );
        check(&[set.clone(), with(owned("before"), deleted())], &[]);
        // What has the uid is of another kind.
        let other = object("v1", "ConfigMap", "n", "web", json!({"metadata": {"uid": "before"}}));
        check(
            &[set, owned("before"), other],
            &["owner-gone: ConfigMap n/m has the owner Deployment web with the uid before, which is gone"],
        );
        check(&[map("m", json!([owner("v1", "Node", "a", "node-a")]))], &[]);
    }

    #[test]
    fn owners_are_where_they_are_told_to_be() {
        let namespace = object("v1", "Namespace", "", "far", json!({}));
        let set = object("apps/v1", "Deployment", "far", "web", json!({}));
        let owned = map("m", json!([owner("apps/v1", "Deployment", "web", "deployment-web")]));
        check(
            &[namespace, set.clone(), owned.clone()],
            &[
                "owner-elsewhere: ConfigMap n/m has the owner Deployment web with the uid deployment-web, which is far/web",
            ],
        );
        let renamed = with(set, json!({"metadata": {"namespace": "n", "name": "www"}}));
        check(
            &[renamed, owned],
            &[
                "owner-elsewhere: ConfigMap n/m has the owner Deployment web with the uid deployment-web, which is n/www",
            ],
        );
        let owners = json!([owner("v1", "ConfigMap", "m", "configmap-m")]);
        let volume = json!({"metadata": {"ownerReferences": owners}});
        check(
            &[map("m", json!([])), object("v1", "PersistentVolume", "", "v", volume)],
            &[
                "owner-elsewhere: PersistentVolume v has the owner ConfigMap m, which is in a namespace, and is itself in \
               none",
            ],
        );
    }

    #[test]
    fn one_controls() {
        let controller = |name: &str| {
            with(owner("v1", "ConfigMap", name, &format!("configmap-{name}")), json!({"controller": true}))
        };
        let (one, two) = (map("one", json!([])), map("two", json!([])));
        check(
            &[
                one.clone(),
                two.clone(),
                map("m", json!([controller("one"), owner("v1", "ConfigMap", "two", "configmap-two")])),
            ],
            &[],
        );
        check(
            &[one, two, map("m", json!([controller("one"), controller("two")]))],
            &[
                "two-controllers: ConfigMap n/m has more than one controller among ConfigMap one, ConfigMap two",
            ],
        );
    }

    #[test]
    fn kinds_that_nobody_knows_are_noted() {
        let foreign = || json!([owner("x.org/v1", "Ship", "s", "u")]);
        let mut all = ground().to_vec();
        all.extend([map("one", foreign()), map("two", foreign())]);
        let picture = snapshot(&all);
        assert_eq!(lint(&picture), []);
        let unknown = "2 objects have owners of the kind Ship of x.org/v1, of which nothing is known";
        assert_eq!(notes(&picture), [unknown]);
        // The same for a kind that could not be read.
        all.push(map("three", json!([owner("apps/v1", "Deployment", "web", "u")])));
        let mut picture = snapshot(&all);
        assert_eq!(lint(&picture).len(), 1);
        picture.unread.insert("deployments.apps".to_owned(), "it was not allowed".to_owned());
        assert_eq!(lint(&picture), []);
        let unread = "deployments.apps was not read: it was not allowed";
        let owned = "one object has an owner of the kind Deployment of apps/v1, of which nothing is known";
        assert_eq!(notes(&picture), [unread, owned, unknown]);
    }

    #[test]
    fn selectors_match() {
        let spec = json!({"selector": {"matchLabels": {"app": "web"}}});
        let labels = |app: &str| json!({"metadata": {"labels": {"app": app}}});
        for (version, kind) in [
            ("apps/v1", "ReplicaSet"),
            ("apps/v1", "StatefulSet"),
            ("apps/v1", "DaemonSet"),
            ("batch/v1", "Job"),
        ] {
            let more =
                json!({"spec": {"selector": spec["selector"], "template": {}}, "status": {"replicas": 1}});
            let set = object(version, kind, "n", "s", more);
            let of_set = |app| with(pod("p", "10.0.0.1", controlled_by(&set)), labels(app));
            check(&[set.clone(), of_set("web")], &[]);
            let found = format!(
                "selector-mismatch: Pod n/p is controlled by {kind} n/s, whose selector app=web does not match it"
            );
            check(&[set.clone(), of_set("other")], &[&found]);
            check(&[with(set.clone(), deleted()), of_set("other")], &[]);
            if kind == "Job" {
                check(&[set.clone(), with(of_set("other"), ended())], &[]);
            }
        }
    }
}
