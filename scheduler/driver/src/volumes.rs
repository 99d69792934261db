//! Pods that are placed but not bound yet, because their claims have no volumes. A decision; time is handed in.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use barque_scheduler::plugins::{Progress, progress};
use barque_scheduler::snapshot::{ClaimPlan, NodeId, Pod, Snapshot};
use barque_scheduler::volume::ClaimKey;

/// One pod on its way to a node.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) pod: Arc<Pod>,
    pub(crate) node: NodeId,
    pub(crate) node_name: Box<str>,
    pub(crate) claims: ClaimPlan,
    /// By number.
    pub(crate) profile: usize,
    /// Which attempt this is, from 1.
    pub(crate) number: u32,
    /// When the pod first came.
    pub(crate) first: Duration,
    /// When it was decided on.
    pub(crate) began: Duration,
}

#[derive(Debug)]
struct Waiting {
    attempt: Attempt,
    until: Duration,
    /// Claims that were seen with the node written into them.
    selected: BTreeSet<ClaimKey>,
}

/// Pods that wait for volumes.
#[derive(Debug, Default)]
pub(crate) struct Volumes {
    waiting: HashMap<Arc<str>, Waiting>,
}

/// Too much time has passed; in Kubernetes' words.
const TOO_LATE: &str = "context deadline exceeded";

impl Volumes {
    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// One more, until a time.
    pub(crate) fn wait(&mut self, attempt: Attempt, until: Duration) {
        let waiting = Waiting { until, selected: BTreeSet::new(), attempt };
        self.waiting.insert(waiting.attempt.pod.uid.clone(), waiting);
    }

    /// A pod that is gone waits no longer.
    pub(crate) fn remove(&mut self, uid: &str) -> Option<Attempt> {
        self.waiting.remove(uid).map(|waiting| waiting.attempt)
    }

    /// Those that need not wait any longer: they have their volumes, or never will, and why.
    pub(crate) fn ready(&mut self, snapshot: &Snapshot, now: Duration) -> Vec<(Attempt, Result<(), String>)> {
        let mut ready = Vec::new();
        self.waiting.retain(|_, waiting| {
            let Attempt { claims, node, .. } = &waiting.attempt;
            let result = match progress(snapshot, claims, *node, &mut waiting.selected) {
                Progress::Bound => Ok(()),
                Progress::Broken(why) => Err(why),
                Progress::Waiting if waiting.until <= now => Err(TOO_LATE.to_owned()),
                Progress::Waiting => return true,
            };
            let told = |why| format!("running PreBind plugin \"VolumeBinding\": binding volumes: {why}");
            ready.push((waiting.attempt.clone(), result.map_err(told)));
            false
        });
        ready
    }

    /// When the first has waited long enough.
    pub(crate) fn next_change(&self) -> Option<Duration> {
        self.waiting.values().map(|waiting| waiting.until).min()
    }
}

#[cfg(test)]
mod tests {
    use barque_scheduler::node::NodeSpec;
    use barque_scheduler::pod::{DefaultSpread, PodSpec, Surroundings, Workloads};
    use barque_scheduler::volume::ClaimSpec;
    use serde_json::{Value, json};

    use super::*;

    fn claim(annotations: &Value) -> ClaimSpec {
        let claim = json!({
            "metadata": {"namespace": "default", "name": "data", "annotations": annotations},
            "spec": {"storageClassName": "slow"},
        });
        ClaimSpec::of(&serde_json::from_value(claim).unwrap()).unwrap()
    }

    /// A pod on its way to a node, whose volume is to be made.
    fn attempt(snapshot: &mut Snapshot) -> Attempt {
        let node = json!({"metadata": {"name": "a"}});
        let node = snapshot.put_node(NodeSpec::of(&serde_json::from_value(node).unwrap()).unwrap());
        let pod = json!({
            "metadata": {"name": "p", "namespace": "default", "uid": "p"},
            "spec": {"containers": []},
        });
        let spread = DefaultSpread::of_system();
        let surroundings = Surroundings { workloads: &Workloads::default(), default_spread: &spread };
        let pod = PodSpec::of(&serde_json::from_value(pod).unwrap(), surroundings).unwrap();
        let pod = snapshot.register(pod);
        let claims = ClaimPlan { bind: Vec::new(), provision: vec![claim(&json!({})).key] };
        snapshot.assume(&pod, node, &claims);
        Attempt {
            pod,
            node,
            node_name: "a".into(),
            claims,
            profile: 0,
            number: 1,
            first: Duration::ZERO,
            began: Duration::ZERO,
        }
    }

    fn told(ready: Vec<(Attempt, Result<(), String>)>) -> Vec<Result<(), String>> {
        ready.into_iter().map(|(_, result)| result).collect()
    }

    #[test]
    fn a_pod_waits_for_its_volumes_for_so_long() {
        let mut snapshot = Snapshot::new();
        let attempt = attempt(&mut snapshot);
        snapshot.put_claim(claim(&json!({"volume.kubernetes.io/selected-node": "a"})));
        let until = Duration::from_secs(600);
        let mut volumes = Volumes::default();
        volumes.wait(attempt.clone(), until);
        assert_eq!(volumes.next_change(), Some(until));
        assert_eq!(told(volumes.ready(&snapshot, until - Duration::from_secs(1))), []);
        let late = "running PreBind plugin \"VolumeBinding\": binding volumes: context deadline exceeded";
        assert_eq!(told(volumes.ready(&snapshot, until)), [Err(late.to_owned())]);
        assert_eq!((volumes.len(), volumes.next_change()), (0, None));
        // Who makes volumes gave up.
        volumes.wait(attempt.clone(), until);
        assert_eq!(told(volumes.ready(&snapshot, Duration::ZERO)), []);
        snapshot.put_claim(claim(&json!({})));
        let why =
            "running PreBind plugin \"VolumeBinding\": binding volumes: provisioning failed for PVC \"data\"";
        assert_eq!(told(volumes.ready(&snapshot, Duration::ZERO)), [Err(why.to_owned())]);
        // The pod goes.
        volumes.wait(attempt, until);
        assert!(volumes.remove("p").is_some());
        assert_eq!(volumes.len(), 0);
    }
}
