//! What is there in the end: everything that was asked for, and nothing else; no address, node port or pod is left over or had
//! twice. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::checkers::Violation;
use crate::masters::entry::{Deployment, Lost, Picture, Pod, Request};
use crate::masters::history::{History, Operation};

/// Judges the end; how many objects were looked at.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(history: &History) -> Result<usize, Violation> {
    let mut checked = history.settled.len();
    if let Some(picture) = &history.end {
        checked += settled(picture).map_err(Violation::new)?;
        checked += leaks(picture).map_err(Violation::new)?;
        checked += lost(picture, history)?;
    }
    if let Some((objects, findings)) = &history.lint {
        if !findings.is_empty() {
            return Err(Violation::new(format!("the linter finds: {}", findings.join("; "))));
        }
        checked += objects;
    }
    Ok(checked)
}

/// Whether what Services had who are gone can be had again, and addresses are taken for who has them. Where nobody knows what became
/// of a write of such a Service, what it had or was to have is kept until the repair, which comes every ten minutes; for everything
/// else it is given back at once. How many of those that are kept.
fn lost(picture: &Picture, history: &History) -> Result<usize, Violation> {
    let has = |service: &str, address: &String| {
        picture.services.iter().any(|one| one.name == service && one.addresses.contains(address))
    };
    let stale =
        picture.addresses.iter().filter(|(address, of)| !has(of, address)).map(|(address, of)| Lost {
            what: format!("the address {address}"),
            service: of.rsplit('/').next().unwrap_or_default().to_owned(),
            why: format!("it is taken for Service {of}, which does not have it"),
        });
    let all: Vec<Lost> = stale.chain(picture.lost.iter().cloned()).collect();
    for Lost { what, service, why } in &all {
        let about = |operation: &&Operation| match &operation.request {
            Request::Other { what } => what.ends_with(&format!("/services/{service}")),
            _ => false,
        };
        if !history.operations.iter().filter(about).any(|operation| operation.known().is_none()) {
            let told = format!("{what} of Service {service}, which is gone, cannot be had again: {why}");
            return Err(Violation::new(told));
        }
    }
    Ok(all.len())
}

/// Whether all Deployments are what they ask for, and nothing of others is left; how many objects, or what is missing.
///
/// # Errors
/// What is missing.
pub fn settled(picture: &Picture) -> Result<usize, String> {
    let mut owners = BTreeMap::new();
    for set in &picture.replica_sets {
        let Some(deployment) = picture.deployments.iter().find(|one| one.uid == set.owner) else {
            return Err(format!("ReplicaSet {} is of a Deployment that is gone", set.name));
        };
        owners.insert(set.uid.as_str(), deployment);
    }
    let mut pods: BTreeMap<&str, Vec<&Pod>> = BTreeMap::new();
    for pod in &picture.pods {
        let Some(deployment) = owners.get(pod.owner.as_str()) else {
            return Err(format!("Pod {} is of a ReplicaSet that is gone", pod.name));
        };
        pods.entry(&deployment.uid).or_default().push(pod);
    }
    for deployment in &picture.deployments {
        is_as_asked(deployment, pods.get(deployment.uid.as_str()).map_or(&[][..], Vec::as_slice))?;
        let sets = picture.replica_sets.iter().filter(|set| set.owner == deployment.uid);
        let wanted: i64 = sets.map(|set| set.wanted).sum();
        if wanted != deployment.wanted {
            return Err(format!("ReplicaSets of Deployment {} ask for {wanted} pods", deployment.name));
        }
    }
    let services: BTreeSet<&str> = picture.services.iter().map(|service| service.name.as_str()).collect();
    if let Some((slice, service)) = picture.slices.iter().find(|(_, of)| !services.contains(of.as_str())) {
        return Err(format!("EndpointSlice {slice} is of Service {service}, which is gone"));
    }
    Ok(picture.deployments.len() + picture.replica_sets.len() + picture.pods.len())
}

fn is_as_asked(deployment: &Deployment, pods: &[&Pod]) -> Result<(), String> {
    let Deployment { name, generation, observed, wanted, counts, round, .. } = deployment;
    let wrong = |what: String| Err(format!("Deployment {name}: {what}"));
    if observed != generation {
        return wrong(format!("its controller has seen generation {observed} of {generation}"));
    }
    if counts.iter().any(|count| count != wanted) {
        return wrong(format!("{counts:?} replicas are there, new and available, of {wanted}"));
    }
    if pods.len() as i64 != *wanted {
        return wrong(format!("{} pods are there, of {wanted}", pods.len()));
    }
    match pods.iter().find(|pod| !pod.ready || pod.deleting || pod.round != *round) {
        Some(pod) => wrong(format!("{pod:?} is not ready, goes, or is not of round {round}")),
        None => Ok(()),
    }
}

/// Whether nothing is had twice or by nobody; how many addresses and ports.
///
/// # Errors
/// What is.
pub fn leaks(picture: &Picture) -> Result<usize, String> {
    let mut checked = 0;
    let mut holders: BTreeMap<&str, &str> = BTreeMap::new();
    let mut ports: BTreeMap<u16, &str> = BTreeMap::new();
    for service in &picture.services {
        for address in &service.addresses {
            if let Some(other) = holders.insert(address, &service.name) {
                return Err(format!("Services {} and {other} both have the address {address}", service.name));
            }
            checked += 1;
        }
        for port in &service.node_ports {
            if let Some(other) = ports.insert(*port, &service.name) {
                return Err(format!("Services {} and {other} both have the node port {port}", service.name));
            }
            checked += 1;
        }
    }
    let recorded: BTreeSet<&str> = picture.addresses.iter().map(|(address, _)| address.as_str()).collect();
    if let Some((address, service)) = holders.iter().find(|(address, _)| !recorded.contains(*address)) {
        return Err(format!("Service {service} has the address {address}, which is not taken"));
    }
    let nodes: BTreeSet<&str> = picture.nodes.iter().map(String::as_str).collect();
    let mut pods: BTreeMap<&str, &str> = BTreeMap::new();
    for pod in &picture.pods {
        if !pod.node.is_empty() && !nodes.contains(pod.node.as_str()) {
            return Err(format!("Pod {} is on the node {}, which is gone", pod.name, pod.node));
        }
        for address in &pod.addresses {
            if let Some(other) = pods.insert(address, &pod.name) {
                return Err(format!("Pods {} and {other} both have the address {address}", pod.name));
            }
            checked += 1;
        }
    }
    Ok(checked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{ClientId, OperationId};
    use crate::masters::entry::{Outcome, ReplicaSet, Service};

    fn right() -> Picture {
        let text = str::to_owned;
        let pod = |name: &str, address: &str| Pod {
            name: text(name),
            owner: text("r"),
            node: text("n"),
            addresses: vec![text(address)],
            ready: true,
            deleting: false,
            round: text("1"),
        };
        let service = |name: &str, address: &str, port: u16| Service {
            name: text(name),
            addresses: vec![text(address)],
            node_ports: vec![port],
        };
        Picture {
            deployments: vec![Deployment {
                name: text("d"),
                uid: text("d"),
                generation: 2,
                observed: 2,
                wanted: 2,
                counts: [2, 2, 2],
                round: text("1"),
            }],
            replica_sets: vec![
                ReplicaSet { name: text("old"), uid: text("o"), owner: text("d"), wanted: 0 },
                ReplicaSet { name: text("r"), uid: text("r"), owner: text("d"), wanted: 2 },
            ],
            pods: vec![pod("p", "10.0.0.1"), pod("q", "10.0.0.2")],
            services: vec![service("a/s", "10.96.0.1", 30001), service("a/t", "10.96.0.2", 30002)],
            slices: vec![(text("x"), text("a/s"))],
            nodes: vec![text("n")],
            addresses: vec![(text("10.96.0.1"), text("a/s")), (text("10.96.0.2"), text("a/t"))],
            lost: Vec::new(),
        }
    }

    #[test]
    fn what_is_not_as_asked_or_left_over_is_found() {
        type Plant = fn(&mut Picture);
        let planted: &[(Plant, &str)] = &[
            (|it| it.deployments[0].observed = 1, "has seen generation 1 of 2"),
            (|it| it.deployments[0].counts = [2, 2, 1], "new and available, of 2"),
            (|it| drop(it.pods.pop()), "1 pods are there"),
            (|it| it.pods.push(it.pods[0].clone()), "3 pods are there"),
            (|it| it.pods[0].ready = false, "is not ready"),
            (|it| it.pods[1].deleting = true, "is not ready, goes"),
            (|it| it.pods[1].round = "0".to_owned(), "of round 1"),
            (|it| it.pods[0].owner = "gone".to_owned(), "ReplicaSet that is gone"),
            (|it| it.replica_sets[0].owner = "gone".to_owned(), "Deployment that is gone"),
            (|it| it.replica_sets[0].wanted = 1, "ask for 3 pods"),
            (|it| it.slices[0].1 = "a/gone".to_owned(), "Service a/gone, which is gone"),
            (
                |it| it.services[1].addresses = it.services[0].addresses.clone(),
                "both have the address 10.96.0.1",
            ),
            (|it| it.services[1].node_ports = vec![30001], "both have the node port 30001"),
            (|it| drop(it.services.pop()), "taken for Service a/t"),
            (|it| it.addresses[0].1 = "a/t".to_owned(), "taken for Service a/t"),
            (|it| drop(it.addresses.pop()), "which is not taken"),
            (|it| it.pods[0].node = "away".to_owned(), "node away, which is gone"),
            (|it| it.pods[1].addresses = it.pods[0].addresses.clone(), "both have the address 10.0.0.1"),
        ];
        let judge = |picture| check(&History { end: Some(picture), ..History::default() });
        assert_eq!(judge(right()).unwrap(), 5 + 4 + 2);
        for (plant, words) in planted {
            let mut picture = right();
            plant(&mut picture);
            let found = judge(picture).unwrap_err().what;
            assert!(found.contains(words), "{words}: {found}");
        }
        let lost =
            Lost { what: "node port 30009".to_owned(), service: "s".to_owned(), why: "taken".to_owned() };
        let mut history =
            History { end: Some(Picture { lost: vec![lost], ..right() }), ..History::default() };
        let found = check(&history).unwrap_err().what;
        assert!(found.contains("node port 30009 of Service s"), "{found}");
        // Nobody knows whether it was deleted.
        history.operations.push(Operation {
            id: OperationId(1),
            client: ClientId(1),
            member: "m1".to_owned(),
            request: Request::Other { what: "DELETE /api/v1/namespaces/default/services/s".to_owned() },
            invoked_ns: 1,
            completed: None,
        });
        check(&history).unwrap();
        history.operations[0].completed = Some((2, Outcome::Done { object: None }));
        check(&history).unwrap_err();

        let lint = Some((3, vec!["owner-gone Pod p: has none".to_owned()]));
        let found = check(&History { lint, ..History::default() }).unwrap_err();
        assert!(found.what.contains("owner-gone"), "{}", found.what);
    }
}
