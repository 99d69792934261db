//! Nothing is left of what is gone: leases of nodes, marks of Jobs on pods, objects of namespaces.

use std::collections::HashSet;

use crate::finding::{Findings, Rule};
use crate::objects::{controller, place, uid};
use crate::snapshot::Snapshot;

/// Where nodes renew their leases.
const NODE_LEASES: &str = "kube-node-lease";
/// What keeps a pod until its Job has counted it.
const JOB_TRACKING: &str = "batch.kubernetes.io/job-tracking";

pub(super) fn check(snapshot: &Snapshot, findings: &mut Findings) {
    let nodes: HashSet<&str> = snapshot.nodes.iter().map(|node| place(node).1).collect();
    for lease in &snapshot.leases {
        let (namespace, name) = place(lease);
        if namespace == NODE_LEASES && !nodes.contains(name) {
            findings.add(Rule::LeaseWithoutNode, lease, "is of a node that is not there".to_owned());
        }
    }

    let jobs: HashSet<&str> = snapshot.jobs.iter().map(uid).collect();
    for pod in &snapshot.pods {
        if !pod.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == JOB_TRACKING) {
            continue;
        }
        let words = match controller(&pod.metadata) {
            None => "waits to be counted by a Job, and has none".to_owned(),
            Some(owner) if owner.kind == "Job" && !jobs.contains(&*owner.uid) => {
                format!("waits to be counted by Job {}, which is gone", owner.name)
            }
            Some(_) => continue,
        };
        findings.add(Rule::JobFinalizerLeft, pod, words);
    }

    let namespaces: HashSet<&str> = snapshot.namespaces.iter().map(|namespace| place(namespace).1).collect();
    for meta in &snapshot.objects {
        if !meta.namespace.is_empty() && !namespaces.contains(&*meta.namespace) {
            let words = format!("is in namespace {:?}, which is gone", meta.namespace);
            findings.add_about(Rule::NamespaceGone, meta.object(), words);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::test_snapshot::{check, controlled_by, object, pod, with};

    #[test]
    fn leases_have_their_node() {
        let namespace = object("v1", "Namespace", "", "kube-node-lease", json!({}));
        let lease =
            |name: &str| object("coordination.k8s.io/v1", "Lease", "kube-node-lease", name, json!({}));
        check(&[namespace.clone(), lease("a")], &[]);
        check(
            &[namespace, lease("b")],
            &["lease-without-node: Lease kube-node-lease/b is of a node that is not there"],
        );
        check(&[object("coordination.k8s.io/v1", "Lease", "n", "b", json!({}))], &[]);
    }

    #[test]
    fn pods_that_are_to_be_counted_have_their_job() {
        let job = object("batch/v1", "Job", "n", "job", json!({}));
        let tracked = json!({"metadata": {"finalizers": [super::JOB_TRACKING]}});
        let of_job = with(pod("p", "10.0.0.1", controlled_by(&job)), tracked.clone());
        check(&[job, of_job.clone()], &[]);
        check(
            &[of_job],
            &[
                "owner-gone: Pod n/p has the owner Job job with the uid job-job, which is gone",
                "job-finalizer-left: Pod n/p waits to be counted by Job job, which is gone",
            ],
        );
        check(
            &[with(pod("p", "10.0.0.1", json!({})), tracked)],
            &["job-finalizer-left: Pod n/p waits to be counted by a Job, and has none"],
        );
        check(&[pod("p", "10.0.0.1", json!({}))], &[]);
    }

    #[test]
    fn objects_have_their_namespace() {
        check(&[object("v1", "ConfigMap", "n", "m", json!({}))], &[]);
        check(
            &[object("v1", "ConfigMap", "gone", "m", json!({}))],
            &["namespace-gone: ConfigMap gone/m is in namespace \"gone\", which is gone"],
        );
    }
}
