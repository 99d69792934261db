//! Pods are on nodes that are there and have room, where they tolerate it and none forbids it, and only one is of an index.

use std::collections::{BTreeMap, HashMap};

use barque_api::labels::Selector;
use barque_api::quota::amounts::{Amounts, Side, add, amounts, of_pod_with_overhead};
use k8s_openapi::api::core::v1::{Node, Pod, PodAffinityTerm};

use crate::finding::{Findings, Rule};
use crate::objects::{controller, matches, place, selector, shown};
use crate::pods;
use crate::snapshot::Snapshot;

/// The label by which a pod must be alone on its machine.
const HOSTNAME: &str = "kubernetes.io/hostname";
/// Where pods of StatefulSets say their ordinal, as a label.
const ORDINAL: &str = "apps.kubernetes.io/pod-index";
/// Where pods of Jobs say their index, as an annotation.
const COMPLETION: &str = "batch.kubernetes.io/job-completion-index";

pub(super) fn check(snapshot: &Snapshot, findings: &mut Findings) {
    let nodes: BTreeMap<&str, &Node> = snapshot.nodes.iter().map(|node| (place(node).1, node)).collect();
    let mut living: BTreeMap<&str, Vec<&Pod>> = BTreeMap::new();
    for pod in &snapshot.pods {
        let Some(name) = pods::node(pod) else { continue };
        let Some(node) = nodes.get(name) else {
            findings.add(Rule::PodNodeMissing, pod, format!("is bound to node {name:?}, which is not there"));
            continue;
        };
        if !pods::is_terminal(pod) {
            living.entry(name).or_default().push(pod);
        }
        if let Some(words) = super::taints::outstayed(pod, node, snapshot.at) {
            findings.add(Rule::TaintNotTolerated, pod, words);
        }
    }
    for (name, pods) in &living {
        overcommitted(nodes[name], pods, findings);
    }
    anti_affinity(snapshot, &nodes, &living, findings);
    indexes(snapshot, findings);
}

fn overcommitted(node: &Node, pods: &[&Pod], findings: &mut Findings) {
    let status = serde_json::to_value(&node.status).unwrap_or_default();
    let has = amounts(status.get("allocatable"));
    // Its agent has never told what it has.
    if has.is_empty() {
        return;
    }
    let mut asked = Amounts::new();
    for pod in pods {
        let pod = serde_json::to_value(pod).unwrap_or_default();
        add(&mut asked, &of_pod_with_overhead(&pod, Side::Requests));
    }
    for (resource, asked) in asked.iter().filter(|(_, asked)| !asked.is_zero()) {
        let has = has.get(resource);
        if has.is_none_or(|has| asked > has) {
            let has = has.map_or_else(|| "none".to_owned(), ToString::to_string);
            let words = format!("has {has} of {resource} to give, and its pods ask for {asked}");
            findings.add(Rule::NodeOvercommitted, node, words);
        }
    }
    let count = i64::try_from(pods.len()).unwrap_or(i64::MAX);
    if let Some(has) = has.get("pods").map(barque_api::quantity::Quantity::value).filter(|has| count > *has) {
        let words = format!("has room for {has} pods, and {count} are there");
        findings.add(Rule::NodeOvercommitted, node, words);
    }
}

/// A term of required anti-affinity by host name: which pods must not be on the same machine.
struct Term {
    selector: Selector,
    namespaces: Vec<String>,
    /// Namespaces by their labels.
    also: Option<Selector>,
}

impl Term {
    fn of(term: &PodAffinityTerm, pod: &Pod) -> Option<Self> {
        let mut namespaces = term.namespaces.clone().unwrap_or_default();
        let also = term.namespace_selector.as_ref().and_then(selector);
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.push(place(pod).0.to_owned());
        }
        // Without a selector no pod is meant.
        Some(Self { selector: selector(term.label_selector.as_ref()?)?, namespaces, also })
    }

    fn means(&self, pod: &Pod, snapshot: &Snapshot) -> bool {
        let (namespace, _) = place(pod);
        let by_label = |also: &Selector| {
            let mut all = snapshot.namespaces.iter();
            all.any(|one| place(one).1 == namespace && matches(also, one))
        };
        matches(&self.selector, pod)
            && (self.namespaces.iter().any(|one| one == namespace)
                || self.also.as_ref().is_some_and(by_label))
    }
}

fn terms(pod: &Pod) -> Vec<Term> {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()?.pod_anti_affinity.as_ref());
    let required =
        affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    let by_host = required.into_iter().flatten().filter(|term| term.topology_key == HOSTNAME);
    by_host.filter_map(|term| Term::of(term, pod)).collect()
}

fn anti_affinity(
    snapshot: &Snapshot,
    nodes: &BTreeMap<&str, &Node>,
    living: &BTreeMap<&str, Vec<&Pod>>,
    findings: &mut Findings,
) {
    let mut machines: BTreeMap<&str, Vec<&Pod>> = BTreeMap::new();
    for (name, pods) in living {
        let label = nodes[name].metadata.labels.as_ref().and_then(|labels| labels.get(HOSTNAME));
        // A node without the label is no machine in this sense.
        if let Some(machine) = label {
            machines.entry(machine).or_default().extend(pods);
        }
    }
    for (machine, pods) in &machines {
        for pod in pods {
            for term in terms(pod) {
                let mut others = pods.iter().filter(|other| place(**other) != place(*pod));
                if let Some(other) = others.find(|other| term.means(other, snapshot)) {
                    let words = format!(
                        "must not be on one machine with pods {}, and {} is on {machine} too",
                        term.selector,
                        shown(place(*other))
                    );
                    findings.add(Rule::AntiAffinityViolated, *pod, words);
                }
            }
        }
    }
}

/// The index of a pod of a StatefulSet or of an indexed Job.
fn index<'a>(pod: &'a Pod, kind: &str) -> Option<&'a str> {
    let (meta, annotation, label) = (&pod.metadata, COMPLETION, ORDINAL);
    let text = match kind {
        "Job" => meta.annotations.as_ref()?.get(annotation)?,
        "StatefulSet" => meta.labels.as_ref()?.get(label)?,
        _ => return None,
    };
    Some(text)
}

fn indexes(snapshot: &Snapshot, findings: &mut Findings) {
    let mut first: HashMap<(&str, &str), &Pod> = HashMap::new();
    let mut living: Vec<&Pod> = snapshot.pods.iter().filter(|pod| pods::is_active(pod)).collect();
    living.sort_by_key(|pod| place(*pod));
    for pod in living {
        let Some(owner) = controller(&pod.metadata) else { continue };
        let Some(index) = index(pod, &owner.kind) else { continue };
        let holder = *first.entry((&owner.uid, index)).or_insert(pod);
        if !std::ptr::eq(holder, pod) {
            let (kind, name, other) = (&owner.kind, &owner.name, shown(place(holder)));
            findings.add(
                Rule::IndexTwice,
                pod,
                format!("is of index {index} of {kind} {name}, as {other} is"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::test_snapshot::{check, controlled_by, deleted, ended, node, object, pod, with};

    #[test]
    fn nodes_are_there() {
        let lost = pod("p", "10.0.0.1", json!({"spec": {"nodeName": "gone"}}));
        let found = "pod-node-missing: Pod n/p is bound to node \"gone\", which is not there";
        check(std::slice::from_ref(&lost), &[found]);
        check(&[with(lost.clone(), ended())], &[found]);
        check(&[with(lost, json!({"spec": {"nodeName": null}}))], &[]);
    }

    #[test]
    fn nodes_have_room() {
        let asks = |name: &str, ip: &str, resource: &str, amount: &str| {
            let resources = json!({"requests": {resource: amount}});
            pod(name, ip, json!({"spec": {"containers": [{"name": "c", "resources": resources}]}}))
        };
        let (one, two) = (asks("one", "10.0.0.1", "cpu", "1"), asks("two", "10.0.0.2", "cpu", "1001m"));
        check(&[one.clone(), asks("two", "10.0.0.2", "cpu", "1")], &[]);
        check(
            &[one.clone(), two.clone()],
            &["node-overcommitted: Node a has 2 of cpu to give, and its pods ask for 2001m"],
        );
        check(&[one.clone(), with(two.clone(), ended())], &[]);
        // It holds what it has until it has ended.
        check(
            &[one, with(two, deleted())],
            &["node-overcommitted: Node a has 2 of cpu to give, and its pods ask for 2001m"],
        );
        check(
            &[asks("one", "10.0.0.1", "x.org/gpu", "1")],
            &["node-overcommitted: Node a has none of x.org/gpu to give, and its pods ask for 1"],
        );
        let crowd: Vec<Value> =
            (1..=4).map(|index| pod(&format!("p{index}"), &format!("10.0.0.{index}"), json!({}))).collect();
        check(&crowd[..3], &[]);
        check(&crowd, &["node-overcommitted: Node a has room for 3 pods, and 4 are there"]);
        let silent = node("b", json!({"spec": {"podCIDR": null, "podCIDRs": null}, "status": null}));
        check(&[silent, with(asks("one", "10.0.0.1", "cpu", "9"), json!({"spec": {"nodeName": "b"}}))], &[]);
    }

    fn apart(name: &str, ip: &str, term: Value) -> Value {
        let term = with(
            json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "web"}}}),
            term,
        );
        let required = json!({"requiredDuringSchedulingIgnoredDuringExecution": [term]});
        pod(name, ip, json!({"spec": {"affinity": {"podAntiAffinity": required}}}))
    }

    #[test]
    fn pods_are_apart() {
        let web = pod("web", "10.0.0.2", json!({"metadata": {"labels": {"app": "web"}}}));
        let found = "anti-affinity-violated: Pod n/p must not be on one machine with pods app=web, and n/web is on a too";
        check(&[apart("p", "10.0.0.1", json!({})), web.clone()], &[found]);
        check(&[apart("p", "10.0.0.1", json!({})), with(web.clone(), ended())], &[]);
        check(&[apart("p", "10.0.0.1", json!({})), pod("other", "10.0.0.2", json!({}))], &[]);
        // It does not mean itself.
        check(
            &[with(apart("p", "10.0.0.1", json!({})), json!({"metadata": {"labels": {"app": "web"}}}))],
            &[],
        );
        let away = node("b", json!({"spec": {"podCIDR": null, "podCIDRs": null}}));
        let elsewhere = with(web.clone(), json!({"spec": {"nodeName": "b"}}));
        check(&[apart("p", "10.0.0.1", json!({})), elsewhere, away], &[]);
        let table = [
            (json!({"topologyKey": "zone"}), false),
            (json!({"labelSelector": null}), false),
            (json!({"namespaces": ["far"]}), false),
            (json!({"namespaces": ["far", "n"]}), true),
            (json!({"namespaceSelector": {}}), true),
            (json!({"namespaceSelector": {"matchLabels": {"team": "a"}}}), false),
        ];
        for (term, is_violated) in table {
            let expected = if is_violated { vec![found] } else { vec![] };
            check(&[apart("p", "10.0.0.1", term), web.clone()], &expected);
        }
    }

    #[test]
    fn indexes_are_given_once() {
        let job = object("batch/v1", "Job", "n", "job", json!({}));
        let of_job = |name: &str, ip: &str, index: &str| {
            let index =
                json!({"metadata": {"annotations": {"batch.kubernetes.io/job-completion-index": index}}});
            with(pod(name, ip, controlled_by(&job)), index)
        };
        let (one, two) = (of_job("one", "10.0.0.1", "0"), of_job("two", "10.0.0.2", "0"));
        check(&[job.clone(), one.clone(), of_job("two", "10.0.0.2", "1")], &[]);
        check(
            &[job.clone(), one.clone(), two.clone()],
            &["index-twice: Pod n/two is of index 0 of Job job, as n/one is"],
        );
        check(&[job.clone(), one.clone(), with(two.clone(), ended())], &[]);
        check(&[job.clone(), one, with(two, deleted())], &[]);

        let spec = json!({"spec": {"selector": {}, "template": {}}, "status": {"replicas": 2}});
        let set = object("apps/v1", "StatefulSet", "n", "db", spec);
        let of_set = |name: &str, ip: &str, index: &str| {
            let index = json!({"metadata": {"labels": {"apps.kubernetes.io/pod-index": index}}});
            with(pod(name, ip, controlled_by(&set)), index)
        };
        check(&[set.clone(), of_set("db-0", "10.0.0.1", "0"), of_set("db-1", "10.0.0.2", "1")], &[]);
        check(
            &[set.clone(), of_set("db-0", "10.0.0.1", "0"), of_set("db-1", "10.0.0.2", "0")],
            &["index-twice: Pod n/db-1 is of index 0 of StatefulSet db, as n/db-0 is"],
        );
    }
}
