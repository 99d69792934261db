//! What must not happen to a pod over time: it goes to another node, changes its address under running containers, or runs again
//! after its end. Remembers every pod that it was ever shown; must be shown each as its watch tells it.

use core::net::IpAddr;
use std::collections::{HashMap, HashSet};

use k8s_openapi::api::core::v1::Pod;

use crate::finding::{Finding, Object, Rule};
use crate::{objects, pods};

/// What has been seen of pods.
#[derive(Clone, Debug, Default)]
pub struct Bindings {
    seen: HashMap<String, Seen>,
}

/// A pod, as it was seen last.
#[derive(Clone, Debug)]
struct Seen {
    version: u64,
    node: Option<String>,
    addresses: Vec<IpAddr>,
    /// Ids of containers that run.
    running: HashSet<String>,
    /// The phase with which it ended.
    ended: Option<String>,
}

impl Seen {
    fn of(pod: &Pod) -> Self {
        let version = pod.metadata.resource_version.as_deref().and_then(|version| version.parse().ok());
        Self {
            version: version.unwrap_or_default(),
            node: pods::node(pod).map(str::to_owned),
            addresses: pods::addresses(pod),
            running: running(pod),
            ended: pods::is_terminal(pod).then(|| pods::phase(pod).to_owned()),
        }
    }
}

fn running(pod: &Pod) -> HashSet<String> {
    let Some(status) = &pod.status else { return HashSet::new() };
    let all = [&status.container_statuses, &status.init_container_statuses];
    let running = all
        .into_iter()
        .flat_map(|all| all.iter().flatten())
        .filter(|container| container.state.as_ref().is_some_and(|state| state.running.is_some()));
    running.filter_map(|container| container.container_id.clone()).collect()
}

impl Bindings {
    /// Takes in how a pod is, and tells the worst of what must not have happened since it was last seen. What is older than what
    /// was seen, as another server may tell it, is passed over.
    pub fn observe(&mut self, pod: &Pod) -> Option<Finding> {
        let now = Seen::of(pod);
        let Some(before) = self.seen.get_mut(objects::uid(pod)) else {
            self.seen.insert(objects::uid(pod).to_owned(), now);
            return None;
        };
        if now.version < before.version {
            return None;
        }
        let before = std::mem::replace(before, now.clone());
        let (rule, words) = wrong(&before, &now, pods::is_on_host_network(pod))?;
        Some(Finding { rule, object: Object::of(pod), words })
    }
}

fn wrong(before: &Seen, now: &Seen, is_on_host_network: bool) -> Option<(Rule, String)> {
    if let Some(old) = &before.node
        && now.node.as_ref() != Some(old)
    {
        let new = now.node.as_deref().map_or_else(|| "none".to_owned(), |new| format!("{new:?}"));
        return Some((Rule::PodMoved, format!("was bound to node {old:?}, and now to {new}")));
    }
    if let Some(end) = &before.ended
        && now.ended.as_ref() != Some(end)
    {
        let now = now.ended.as_ref().map_or_else(|| "has not ended".to_owned(), |now| format!("is {now}"));
        return Some((Rule::PodRanAgain, format!("was {end}, and now {now}")));
    }
    let goes_on = before.running.iter().find(|id| now.running.contains(*id))?;
    let is_other =
        !before.addresses.is_empty() && !now.addresses.is_empty() && before.addresses != now.addresses;
    (is_other && !is_on_host_network).then(|| {
        let words = format!(
            "had the addresses {}, and now {}, while container {goes_on} goes on running",
            list(&before.addresses),
            list(&now.addresses)
        );
        (Rule::PodAddressChanged, words)
    })
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A pod: node, phase, address, the container that runs.
    fn pod(version: u64, node: &str, phase: &str, ip: &str, container: &str) -> Value {
        let ips = if ip.is_empty() { json!([]) } else { json!([{"ip": ip}]) };
        json!({
            "metadata": {"namespace": "n", "name": "p", "uid": "u", "resourceVersion": version.to_string()},
            "spec": {"nodeName": node, "containers": []},
            "status": {"phase": phase, "podIPs": ips, "containerStatuses": [{
                "name": "c", "containerID": container, "state": {"running": {}},
                "image": "", "imageID": "", "ready": true, "restartCount": 0,
            }]},
        })
    }

    fn observed(history: &[Value]) -> Vec<String> {
        let mut bindings = Bindings::default();
        let told = history.iter().filter_map(|pod| {
            let pod: Pod = serde_json::from_value(pod.clone()).unwrap();
            bindings.observe(&pod)
        });
        told.map(|finding| finding.to_string()).collect()
    }

    #[test]
    fn histories() {
        let other = |mut pod: Value| {
            pod["metadata"]["uid"] = "other".into();
            pod
        };
        let on_host = |mut pod: Value| {
            pod["spec"]["hostNetwork"] = true.into();
            pod
        };
        let start = pod(1, "", "Pending", "", "");
        let runs = pod(2, "a", "Running", "10.0.0.1", "c1");
        let table = [
            (vec![start, runs.clone(), runs.clone()], ""),
            (
                vec![runs.clone(), pod(3, "b", "Running", "10.0.0.1", "c1")],
                "pod-moved: Pod n/p was bound to node \"a\", and now to \"b\"",
            ),
            (
                vec![runs.clone(), pod(3, "", "Pending", "", "")],
                "pod-moved: Pod n/p was bound to node \"a\", and now to none",
            ),
            (vec![runs.clone(), other(pod(3, "b", "Running", "10.0.0.1", "c1"))], ""),
            // What another server told late.
            (vec![pod(3, "b", "Running", "10.0.0.1", "c1"), runs.clone()], ""),
            (
                vec![pod(3, "a", "Failed", "10.0.0.1", "c1"), pod(4, "a", "Running", "10.0.0.1", "c1")],
                "pod-ran-again: Pod n/p was Failed, and now has not ended",
            ),
            (
                vec![pod(3, "a", "Succeeded", "", ""), pod(4, "a", "Failed", "", "")],
                "pod-ran-again: Pod n/p was Succeeded, and now is Failed",
            ),
            (vec![runs.clone(), pod(3, "a", "Failed", "10.0.0.1", "c1")], ""),
            (
                vec![runs.clone(), pod(3, "a", "Running", "10.0.0.2", "c1")],
                "pod-address-changed: Pod n/p had the addresses 10.0.0.1, and now 10.0.0.2, while container c1 goes on \
                 running",
            ),
            // Its sandbox was made anew.
            (vec![runs.clone(), pod(3, "a", "Running", "10.0.0.2", "c2")], ""),
            (vec![on_host(runs), on_host(pod(3, "a", "Running", "10.0.0.2", "c1"))], ""),
        ];
        for (history, expected) in table {
            let expected: Vec<&str> = if expected.is_empty() { Vec::new() } else { vec![expected] };
            assert_eq!(observed(&history), expected, "{history:#?}");
        }
    }

    #[test]
    fn it_is_told_once() {
        let moved = pod(3, "b", "Running", "10.0.0.1", "c1");
        let history = [pod(2, "a", "Running", "10.0.0.1", "c1"), moved.clone(), moved];
        assert_eq!(observed(&history).len(), 1);
    }
}
