//! Which pod leaves first when something is short, and what it is told: who uses more than it asked for, then who matters
//! least, then who uses most above what it asked for. A decision.

use std::cmp::Reverse;
use std::fmt::Write as _;

use barque_api::quantity::{Format, Quantity};
use k8s_openapi::api::core::v1::Pod;

use super::signals::{Observations, Resource};
use super::thresholds::{Threshold, shortage};
use super::usage::PodUsage;
use crate::node::admission::asks;
use crate::pods::spec;
use crate::static_pods::manifest::{is_static, mirrored};

/// The priority from which on a pod belongs to the system: that of `system-cluster-critical`.
pub const CRITICAL: i32 = 2_000_000_000;

/// A pod that could leave, and what it uses; nothing when that is not known.
pub type Candidate<P> = (P, Option<PodUsage>);

/// How much a pod matters.
#[must_use]
pub fn priority(pod: &Pod) -> i32 {
    spec::spec(pod).and_then(|spec| spec.priority).unwrap_or_default()
}

/// Whether the node cannot do without it.
#[must_use]
pub fn is_critical(pod: &Pod) -> bool {
    is_static(pod) || mirrored(pod).is_some() || priority(pod) >= CRITICAL
}

fn amount(usage: &PodUsage, resource: Resource) -> u64 {
    match resource {
        Resource::Memory => usage.memory,
        Resource::EphemeralStorage => usage.disk().bytes,
        Resource::Inodes => usage.disk().inodes,
        Resource::Pids => usage.processes,
    }
}

/// Who leaves first comes first. Those of whom nothing is known go before others of their kind.
pub fn rank<P: AsRef<Pod>>(candidates: &mut [Candidate<P>], resource: Resource) {
    candidates.sort_by_cached_key(|(pod, usage)| {
        let pod = pod.as_ref();
        let used = i128::from(usage.as_ref().map_or(0, |usage| amount(usage, resource)));
        let is_known = usage.is_some();
        let above = used - i128::from(asks(pod).get(resource.word()));
        match resource {
            // Nobody asks for processes.
            Resource::Pids => (false, false, priority(pod), is_known, Reverse(used)),
            _ => (is_known, above <= 0, priority(pod), is_known, Reverse(above)),
        }
    });
}

/// What is told of a pod that leaves.
#[must_use]
pub fn message(
    pod: &Pod,
    usage: Option<&PodUsage>,
    resource: Resource,
    due: &[&Threshold],
    observations: &Observations,
) -> String {
    let word = resource.word();
    let mut text = format!("The node was low on resource: {word}. ");
    // Writing into a text cannot fail.
    if let Some((wanted, available)) = shortage(due, resource, observations) {
        let _ = write!(text, "Threshold quantity: {wanted}, available: {available}. ");
    }
    let containers = spec::main_containers(pod).chain(spec::init_containers(pod));
    for container in containers.filter_map(|container| container.container) {
        let Some(used) = usage.and_then(|usage| usage.containers.get(&container.name)) else { continue };
        let used = match resource {
            Resource::Memory => used.memory,
            Resource::EphemeralStorage => Some(used.root.plus(used.logs).bytes),
            Resource::Inodes | Resource::Pids => None,
        };
        let Some(used) = used.map(|used| resource.quantity(used)) else { continue };
        let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        let request = requests.and_then(|requests| Quantity::parse(&requests.get(word)?.0).ok());
        let request = request.unwrap_or(Quantity::new(0, 0, Format::DecimalSi));
        if used > request {
            let name = &container.name;
            let _ = write!(
                text,
                "Container {name} was using {used}, request is {request}, has larger consumption of {word}. "
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::super::signals::{Observed, Signal};
    use super::super::thresholds::Amount;
    use super::super::usage::ContainerUsage;
    use super::*;
    use crate::volumes::Usage;

    /// `name priority request used`, `-` for what is not known.
    fn candidate(words: &str) -> Candidate<Arc<Pod>> {
        let [name, priority, request, used] = words.split(' ').collect::<Vec<_>>()[..] else { panic!() };
        let requests = json!({"memory": request, "ephemeral-storage": request});
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": name, "uid": name},
            "spec": {"priority": priority.parse::<i32>().unwrap(),
                "containers": [{"name": "c", "resources": {"requests": requests}}]},
        }))
        .unwrap();
        let usage = used.parse().ok().map(|used: u64| {
            let root = Usage { bytes: used, inodes: used };
            let container = ContainerUsage { memory: Some(used), root, ..ContainerUsage::default() };
            PodUsage {
                memory: used,
                processes: used,
                containers: [("c".to_owned(), container)].into(),
                ..PodUsage::default()
            }
        });
        (Arc::new(pod), usage)
    }

    fn check(resource: Resource, candidates: &[&str], expected: &str) {
        for turned in [false, true] {
            let mut list: Vec<_> = candidates.iter().map(|words| candidate(words)).collect();
            if turned {
                list.reverse();
            }
            rank(&mut list, resource);
            let told: Vec<_> = list.iter().map(|(pod, _)| pod.metadata.name.clone().unwrap()).collect();
            assert_eq!(told.join(" "), expected, "{resource:?}");
        }
    }

    #[test]
    fn who_exceeds_its_request_goes_first_then_the_unimportant_then_the_greedy() {
        let pods = ["within 0 100 90", "much 5 10 80", "little 5 10 30", "low 1 10 11", "unknown 9 10 -"];
        check(Resource::Memory, &pods, "unknown low much little within");
        check(Resource::EphemeralStorage, &pods, "unknown low much little within");
        // Nobody asks for files: all exceed.
        check(Resource::Inodes, &pods, "unknown within low much little");
        check(Resource::Pids, &pods, "within low much little unknown");
    }

    #[test]
    fn the_story_is_the_kubelets() {
        let threshold = Threshold {
            signal: Signal::MemoryAvailable,
            amount: Amount::Part(10_000),
            grace: std::time::Duration::ZERO,
            minimum_reclaim: None,
        };
        let seen = [(Signal::MemoryAvailable, Observed { available: 1 << 20, capacity: 40 << 20 })].into();
        let (pod, usage) = candidate("p 0 1Ki 3072");
        assert_eq!(
            message(&pod, usage.as_ref(), Resource::Memory, &[&threshold], &seen),
            "The node was low on resource: memory. Threshold quantity: 4Mi, available: 1Mi. Container c was using \
             3Ki, request is 1Ki, has larger consumption of memory. "
        );
        assert_eq!(
            message(&pod, None, Resource::Pids, &[&threshold], &seen),
            "The node was low on resource: pids. "
        );
    }

    #[test]
    fn what_the_system_needs_stays() {
        assert!(
            is_critical(&candidate("p 2000000000 0 0").0) && !is_critical(&candidate("p 1999999999 0 0").0)
        );
    }
}
