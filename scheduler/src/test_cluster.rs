//! A small cluster of JSON objects, for tests.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::decision::{Decision, Scheduler};
use crate::label_set::LabelSet;
use crate::node::NodeSpec;
use crate::pod::{PodSpec, Surroundings, Workloads};
use crate::profile::Profile;
use crate::snapshot::{NodeId, Pod, Snapshot};

pub(crate) struct TestCluster {
    pub(crate) snapshot: Snapshot,
    pub(crate) workloads: Workloads,
    pub(crate) scheduler: Scheduler,
}

impl TestCluster {
    pub(crate) fn new() -> Self {
        Self::with(Profile::of_defaults("default-scheduler"))
    }

    pub(crate) fn with(profile: Profile) -> Self {
        let scheduler = Scheduler::new(vec![profile], 7);
        Self { snapshot: Snapshot::new(), workloads: Workloads::default(), scheduler }
    }

    /// A node with 4 cores, 8 GiB and 10 pods; `more` is merged into it.
    pub(crate) fn node(&mut self, name: &str, more: Value) -> NodeId {
        self.snapshot.put_node(node(name, more))
    }

    pub(crate) fn compile(&self, pod: Value) -> PodSpec {
        let default_spread = &self.scheduler.profiles()[0].default_spread;
        let surroundings = Surroundings { workloads: &self.workloads, default_spread };
        PodSpec::of(&serde_json::from_value(pod).unwrap(), surroundings).unwrap()
    }

    /// A pod that is to be placed.
    pub(crate) fn pending(&mut self, name: &str, more: Value) -> Arc<Pod> {
        let spec = self.compile(pod(name, more));
        self.snapshot.register(spec)
    }

    /// A pod that runs on a node.
    pub(crate) fn running(&mut self, name: &str, node: &str, more: Value) {
        let mut pod = pod(name, more);
        pod["spec"]["nodeName"] = json!(node);
        let spec = self.compile(pod);
        self.snapshot.put_pod(spec);
    }

    pub(crate) fn namespace(&mut self, name: &str, labels: Value) {
        let labels = serde_json::from_value(labels).unwrap();
        self.snapshot.put_namespace(name, LabelSet::of(Some(&labels)));
    }

    pub(crate) fn decide(&mut self, pod: &Arc<Pod>) -> Decision {
        self.scheduler.decide(&self.snapshot, pod, 0)
    }

    /// The node, or the whole message.
    pub(crate) fn answer(&mut self, name: &str, more: Value) -> String {
        let pod = self.pending(name, more);
        match self.decide(&pod) {
            Decision::Placed(placement) => self.snapshot.node_name(placement.node).to_owned(),
            Decision::Refused(refused) => refused.message(),
        }
    }
}

pub(crate) fn node(name: &str, more: Value) -> NodeSpec {
    let mut node = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10"}},
    });
    merge(&mut node, more);
    NodeSpec::of(&serde_json::from_value(node).unwrap()).unwrap()
}

/// Asks for half a core and half a GiB; `more` is merged into it.
pub(crate) fn pod(name: &str, more: Value) -> Value {
    let requests = json!({"cpu": "500m", "memory": "512Mi"});
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "default", "uid": name},
        "spec": {"containers": [{"name": "c", "image": "app", "resources": {"requests": requests}}]},
    });
    merge(&mut pod, more);
    pod
}

/// What a pod's only container asks for.
pub(crate) fn requests(requests: Value) -> Value {
    json!({"spec": {"containers": [{"name": "c", "image": "app", "resources": {"requests": requests}}]}})
}

/// Objects field by field, everything else as it comes.
pub(crate) fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}
