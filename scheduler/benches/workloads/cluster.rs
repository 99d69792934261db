//! A cluster under measurement: nodes and pods as objects, compiled as a driver would.

use std::sync::Arc;

use barque_scheduler::decision::{Decision, Scheduler};
use barque_scheduler::label_set::LabelSet;
use barque_scheduler::node::NodeSpec;
use barque_scheduler::pod::{DefaultSpread, PodSpec, Surroundings, Workloads};
use barque_scheduler::profile::Profile;
use barque_scheduler::snapshot::{Pod, Snapshot};
use serde_json::Value;

use super::shapes::node_of;

pub(crate) struct Cluster {
    pub(crate) snapshot: Snapshot,
    pub(crate) scheduler: Scheduler,
    pub(crate) workloads: Workloads,
    defaults: DefaultSpread,
    count: u64,
}

impl Cluster {
    /// Nodes with 4 cores, 32 GiB and 110 pods, in so many zones.
    pub(crate) fn of(nodes: usize, zones: usize) -> Self {
        Self::with(nodes, |at| node_of(at, zones))
    }

    pub(crate) fn with(nodes: usize, make: impl Fn(usize) -> Value) -> Self {
        let mut snapshot = Snapshot::new();
        for at in 0..nodes {
            put_node(&mut snapshot, make(at));
        }
        for at in 0..100 {
            let labels = [("team".to_owned(), "devops".to_owned())].into();
            snapshot.put_namespace(&format!("ns-{at}"), LabelSet::of(Some(&labels)));
        }
        let scheduler = Scheduler::new(vec![Profile::of_defaults("default-scheduler")], 1);
        let defaults = DefaultSpread::of_system();
        Self { snapshot, scheduler, workloads: Workloads::default(), defaults, count: 0 }
    }

    /// A pod of a template, with a name of its own.
    pub(crate) fn pod(&mut self, template: &k8s_openapi::api::core::v1::Pod) -> Arc<Pod> {
        self.count += 1;
        let mut pod = template.clone();
        pod.metadata.name = Some(format!("pod-{}", self.count));
        pod.metadata.uid = Some(format!("uid-{}", self.count));
        let surroundings = Surroundings { workloads: &self.workloads, default_spread: &self.defaults };
        self.snapshot.register(PodSpec::of(&pod, surroundings).expect("a pod of a template"))
    }

    /// Decides on a pod that has changed meanwhile.
    pub(crate) fn again(&mut self, pod: &Arc<Pod>, changed: &k8s_openapi::api::core::v1::Pod) -> Decision {
        let mut changed = changed.clone();
        changed.metadata.name = Some(pod.name.name.to_string());
        changed.metadata.uid = Some(pod.uid.to_string());
        let surroundings = Surroundings { workloads: &self.workloads, default_spread: &self.defaults };
        let pod = self.snapshot.register(PodSpec::of(&changed, surroundings).expect("a pod of a template"));
        self.schedule(&pod)
    }

    /// Decides on a pod, and places it if it can be.
    pub(crate) fn schedule(&mut self, pod: &Arc<Pod>) -> Decision {
        let decision = self.scheduler.decide(&self.snapshot, pod, 0);
        if let Decision::Placed(placement) = &decision {
            self.snapshot.assume(pod, placement.node, &placement.claims);
        }
        decision
    }

    /// Compiles, decides on and places so many pods of a template, all of which must find a node.
    pub(crate) fn place(&mut self, template: &Value, count: usize) -> usize {
        let template = typed(template);
        for _ in 0..count {
            self.place_one(&template);
        }
        count
    }

    pub(crate) fn place_one(&mut self, template: &k8s_openapi::api::core::v1::Pod) {
        let pod = self.pod(template);
        let decision = self.schedule(&pod);
        if let Some(refused) = decision.refused() {
            panic!("{}", refused.message());
        }
    }
}

pub(crate) fn typed(template: &Value) -> k8s_openapi::api::core::v1::Pod {
    serde_json::from_value(template.clone()).expect("a template of a pod")
}

pub(crate) fn put_node(snapshot: &mut Snapshot, node: Value) {
    let node = serde_json::from_value(node).expect("a node");
    snapshot.put_node(NodeSpec::of(&node).expect("a node"));
}
