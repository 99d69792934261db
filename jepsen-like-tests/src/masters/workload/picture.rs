//! What is there in the end: everything that Deployments and Services are made of, read from one API server, and whether what went
//! can be had again. Waits for changes, and must never change anything itself.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::select_all;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::deployments::{DEPLOYMENTS, SERVICES};
use crate::masters::checkers::converged::settled;
use crate::masters::client::{Answer, Server};
use crate::masters::entry::{Deployment, Lost, Picture, Pod, ReplicaSet, Service};

const REPLICA_SETS: &str = "/apis/apps/v1/namespaces/default/replicasets";
const PODS: &str = "/api/v1/namespaces/default/pods";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
const ALL_SERVICES: &str = "/api/v1/services";
const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";
const NODES: &str = "/api/v1/nodes";
/// The Service of the API servers themselves, whose slices are of nobody else.
const API: &str = "kubernetes";

/// Waits until everything is what was asked for, over the changes that the server tells.
///
/// # Errors
/// What is missing in the end.
pub(crate) async fn wait_until_settled(server: &Server, longest: Duration) -> Result<Picture, String> {
    let deadline = Instant::now() + longest;
    let mut last = "nothing was read".to_owned();
    while Instant::now() < deadline {
        match look(server, deadline, &mut last).await {
            Ok(Some(picture)) => return Ok(picture),
            Ok(None) => {}
            Err(why) => last = why,
        }
    }
    Err(format!("within {longest:?}: {last}"))
}

/// Looks whenever something changes, until the watches end.
async fn look(server: &Server, deadline: Instant, last: &mut String) -> Result<Option<Picture>, String> {
    let mut watches = Vec::new();
    for collection in [DEPLOYMENTS, REPLICA_SETS, PODS, SLICES, SERVICES] {
        let list = get(server, collection).await?;
        let version = list["metadata"]["resourceVersion"].as_str().and_then(|version| version.parse().ok());
        let version = version.ok_or_else(|| format!("{collection}: no version"))?;
        watches.push(Box::pin(server.watch(collection, version, 60).await?));
    }
    let mut changes = select_all(watches);
    loop {
        let picture = read(server).await?;
        match settled(&picture) {
            Ok(_) => return Ok(Some(picture)),
            Err(why) => *last = why,
        }
        match timeout_at(deadline, changes.next()).await {
            Ok(Some(Ok(_))) => {}
            // Time is over, or the watches are.
            _ => return Ok(None),
        }
    }
}

async fn get(server: &Server, collection: &str) -> Result<Value, String> {
    server.ask("GET", collection, None).await.done().map_err(|why| format!("{collection}: {why}"))
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Reads everything once.
async fn read(server: &Server) -> Result<Picture, String> {
    // Dependants first: what they are of was there when they were.
    let mut picture = Picture::default();
    for pod in items(&get(server, PODS).await?) {
        picture.pods.push(pod_of(pod));
    }
    for set in items(&get(server, REPLICA_SETS).await?) {
        picture.replica_sets.push(ReplicaSet {
            name: text(&set["metadata"]["name"]),
            uid: text(&set["metadata"]["uid"]),
            owner: controller(set),
            wanted: set["spec"]["replicas"].as_i64().unwrap_or(1),
        });
    }
    for deployment in items(&get(server, DEPLOYMENTS).await?) {
        picture.deployments.push(deployment_of(deployment));
    }
    for slice in items(&get(server, SLICES).await?) {
        let of = text(&slice["metadata"]["labels"]["kubernetes.io/service-name"]);
        if of != API {
            picture.slices.push((text(&slice["metadata"]["name"]), format!("default/{of}")));
        }
    }
    for address in items(&get(server, ADDRESSES).await?) {
        let parent = &address["spec"]["parentRef"];
        let of = format!("{}/{}", text(&parent["namespace"]), text(&parent["name"]));
        picture.addresses.push((text(&address["metadata"]["name"]), of));
    }
    for service in items(&get(server, ALL_SERVICES).await?) {
        picture.services.push(service_of(service));
    }
    for node in items(&get(server, NODES).await?) {
        picture.nodes.push(text(&node["metadata"]["name"]));
    }
    Ok(picture)
}

fn controller(object: &Value) -> String {
    let owners = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    owners
        .filter(|owner| owner["controller"] == true)
        .map(|owner| text(&owner["uid"]))
        .next()
        .unwrap_or_default()
}

fn deployment_of(deployment: &Value) -> Deployment {
    let (metadata, status) = (&deployment["metadata"], &deployment["status"]);
    let count = |field: &str| status[field].as_i64().unwrap_or_default();
    Deployment {
        name: text(&metadata["name"]),
        uid: text(&metadata["uid"]),
        generation: metadata["generation"].as_i64().unwrap_or_default(),
        observed: count("observedGeneration"),
        wanted: deployment["spec"]["replicas"].as_i64().unwrap_or(1),
        counts: [count("replicas"), count("updatedReplicas"), count("availableReplicas")],
        round: text(&deployment["spec"]["template"]["metadata"]["annotations"]["round"]),
    }
}

fn pod_of(pod: &Value) -> Pod {
    let (metadata, status) = (&pod["metadata"], &pod["status"]);
    let addresses = status["podIPs"].as_array().into_iter().flatten();
    let conditions = status["conditions"].as_array().into_iter().flatten();
    Pod {
        name: text(&metadata["name"]),
        owner: controller(pod),
        node: text(&pod["spec"]["nodeName"]),
        addresses: addresses.map(|address| text(&address["ip"])).collect(),
        ready: conditions.clone().any(|one| one["type"] == "Ready" && one["status"] == "True"),
        deleting: metadata.get("deletionTimestamp").is_some(),
        round: text(&metadata["annotations"]["round"]),
    }
}

fn service_of(service: &Value) -> Service {
    let (metadata, spec) = (&service["metadata"], &service["spec"]);
    let addresses = spec["clusterIPs"].as_array().into_iter().flatten();
    let ports = spec["ports"].as_array().into_iter().flatten();
    Service {
        name: format!("{}/{}", text(&metadata["namespace"]), text(&metadata["name"])),
        addresses: addresses.map(text).filter(|address| address != "None").collect(),
        node_ports: ports.filter_map(|port| u16::try_from(port["nodePort"].as_u64()?).ok()).collect(),
    }
}

/// Which of the addresses and node ports that Services had who are gone a new Service could not have: a dry run asks for each.
pub(crate) async fn lost(server: &Server, had: &[Service], picture: &Picture) -> Result<Vec<Lost>, String> {
    let now = || picture.services.iter();
    // The last one to have it counts.
    let mut asked = BTreeMap::new();
    for Service { name, addresses, node_ports } in had {
        let service = name.rsplit('/').next().unwrap_or_default();
        for address in addresses.iter().filter(|address| now().all(|it| !it.addresses.contains(address))) {
            let spec = json!({"clusterIP": address, "ports": [{"port": 80}]});
            asked.insert(format!("the address {address}"), (service, spec));
        }
        for port in node_ports.iter().filter(|port| now().all(|it| !it.node_ports.contains(port))) {
            let spec = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]});
            asked.insert(format!("the node port {port}"), (service, spec));
        }
    }
    let mut lost = Vec::new();
    for (what, (service, spec)) in asked {
        let again = json!({"metadata": {"name": "again"}, "spec": spec});
        match server.ask("POST", &format!("{SERVICES}?dryRun=All"), Some(again)).await {
            Answer::Done(_) => {}
            Answer::Refused { message: why, .. } => {
                lost.push(Lost { what, service: service.to_owned(), why });
            }
            Answer::Unknown(why) => return Err(format!("{what}: {why}")),
        }
    }
    Ok(lost)
}

/// Everything that Services ever had, as a watch tells it, until the run ends.
pub(crate) async fn follow_services(shared: super::Shared, id: u32) -> Vec<Service> {
    let mut session = super::Session::new(&shared, id);
    let mut had = Vec::new();
    let mut servers = shared.servers.clone().into_iter().cycle();
    let mut stop = shared.stop.clone();
    while session.goes_on() {
        let Some(server) = servers.next() else { break };
        // From a list each time: what was missed is only not looked for.
        if let Ok(list) = get(&server, SERVICES).await {
            had.extend(items(&list).map(service_of));
            let version =
                list["metadata"]["resourceVersion"].as_str().and_then(|version| version.parse().ok());
            if let Ok(events) = server.watch(SERVICES, version.unwrap_or_default(), 30).await {
                let mut events = std::pin::pin!(events);
                loop {
                    let next = tokio::select! {
                        next = events.next() => next,
                        _ = stop.wait_for(|stop| *stop) => break,
                    };
                    let Some(Ok(event)) = next else { break };
                    if let kube::api::WatchEvent::Added(service) | kube::api::WatchEvent::Modified(service) =
                        event
                    {
                        had.extend(serde_json::to_value(&service).ok().as_ref().map(service_of));
                    }
                }
            }
        }
        session.pause().await;
    }
    had
}
