//! What the cluster is told of the node's drivers of volumes: the `CSINode` object, and on the node where it is and what drivers call
//! it. A driver that an agent before this one knew stays until this one has seen it go. Must never touch another's entries.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use barque_csi::Registered;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::storage::v1::{CSINode, CSINodeDriver, CSINodeSpec, VolumeNodeResources};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What drivers call the node, as JSON.
const NODE_IDS: &str = "csi.volume.kubernetes.io/nodeid";
/// The wait after a write that failed.
const RETRY: Duration = Duration::from_secs(5);

type All = BTreeMap<String, Arc<Registered>>;

/// Keeps what the cluster knows of a node's drivers.
pub struct CsiNodeTask {
    /// By whom it speaks.
    pub client: Client,
    /// The node.
    pub node: String,
}

impl CsiNodeTask {
    /// Runs until the token is cancelled.
    pub async fn run(self, mut drivers: watch::Receiver<All>, stop: CancellationToken) {
        let mut seen = BTreeSet::new();
        loop {
            let now = drivers.borrow_and_update().clone();
            let gone: BTreeSet<String> =
                seen.iter().filter(|name| !now.contains_key(*name)).cloned().collect();
            let told = stop.run_until_cancelled(self.tell(&now, &gone)).await;
            let wait = async {
                match &told {
                    Some(Err(why)) => {
                        tracing::warn!(node = self.node, "the node's drivers of volumes are not told: {why}");
                        tokio::time::sleep(RETRY).await;
                    }
                    _ => std::future::pending().await,
                }
            };
            seen.extend(now.keys().cloned());
            tokio::select! {
                () = stop.cancelled() => return,
                () = wait => {}
                changed = drivers.changed() => if changed.is_err() { return },
            }
            if told.is_some_and(|told| told.is_ok()) {
                seen.retain(|name| !gone.contains(name));
            }
        }
    }

    async fn tell(&self, now: &All, gone: &BTreeSet<String>) -> Result<(), String> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let objects: Api<CSINode> = Api::all(self.client.clone());
        let node = nodes.get(&self.node).await.map_err(|error| error.to_string())?;
        let there = objects.get_opt(&self.node).await.map_err(|error| error.to_string())?;
        let written = match plan(&node, there.as_ref(), now, gone) {
            None => Ok(()),
            Some(object) if there.is_some() => {
                objects.replace(&self.node, &PostParams::default(), &object).await.map(drop)
            }
            Some(object) => objects.create(&PostParams::default(), &object).await.map(drop),
        };
        written.map_err(|error| error.to_string())?;
        let (patch, problems) = node_patch(&node, now, gone);
        for problem in problems {
            tracing::warn!(node = self.node, "{problem}");
        }
        if let Some(patch) = patch {
            let patched = nodes.patch(&self.node, &PatchParams::default(), &Patch::Merge(patch)).await;
            patched.map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

/// The object as it should be; nothing when it is.
fn plan(node: &Node, there: Option<&CSINode>, now: &All, gone: &BTreeSet<String>) -> Option<CSINode> {
    let name = node.metadata.name.clone().unwrap_or_default();
    let before = there.map(|object| object.spec.drivers.clone()).unwrap_or_default();
    let stays = |one: &&CSINodeDriver| !gone.contains(&one.name) && !now.contains_key(&one.name);
    let mut drivers: Vec<CSINodeDriver> = before.iter().filter(stays).cloned().collect();
    drivers.extend(now.values().map(|one| entry(one)));
    drivers.sort_by(|a, b| a.name.cmp(&b.name));
    if there.is_some() && same(&before, &drivers) {
        return None;
    }
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: name.clone(),
        uid: node.metadata.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    };
    let metadata = there.map_or_else(
        || ObjectMeta { name: Some(name), owner_references: Some(vec![owner]), ..ObjectMeta::default() },
        |object| object.metadata.clone(),
    );
    Some(CSINode { metadata, spec: CSINodeSpec { drivers }, ..there.cloned().unwrap_or_default() })
}

fn same(one: &[CSINodeDriver], other: &[CSINodeDriver]) -> bool {
    one.len() == other.len() && other.iter().all(|driver| one.contains(driver))
}

fn entry(registered: &Registered) -> CSINodeDriver {
    let most = registered.node.most_volumes.and_then(|most| i32::try_from(most).ok());
    let keys: Vec<String> = registered.node.topology.keys().cloned().collect();
    CSINodeDriver {
        name: registered.name.clone(),
        node_id: registered.node.node_id.clone(),
        topology_keys: Some(keys).filter(|keys| !keys.is_empty()),
        allocatable: most.map(|count| VolumeNodeResources { count: Some(count) }),
    }
}

/// What changes on the node, and what cannot be changed: nobody else's label is overwritten.
fn node_patch(node: &Node, now: &All, gone: &BTreeSet<String>) -> (Option<Value>, Vec<String>) {
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let annotations = node.metadata.annotations.as_ref();
    let text = annotations.and_then(|all| all.get(NODE_IDS)).cloned().unwrap_or_default();
    let mut ids: BTreeMap<String, String> = serde_json::from_str(&text).unwrap_or_default();
    let before = ids.clone();
    ids.retain(|driver, _| !gone.contains(driver));
    ids.extend(now.values().map(|one| (one.name.clone(), one.node.node_id.clone())));

    let (mut metadata, mut problems) = (Map::new(), Vec::new());
    if ids != before {
        let told = (!ids.is_empty()).then(|| json!(ids).to_string());
        metadata.insert("annotations".to_owned(), json!({NODE_IDS: told}));
    }
    let mut new = Map::new();
    for one in now.values() {
        for (key, value) in &one.node.topology {
            match labels.get(key) {
                None => drop(new.insert(key.clone(), value.as_str().into())),
                Some(there) if there != value => problems.push(format!(
                    "the driver {} says that the node's {key} is {value}, but its label is {there}",
                    one.name
                )),
                Some(_) => {}
            }
        }
    }
    if !new.is_empty() {
        metadata.insert("labels".to_owned(), new.into());
    }
    ((!metadata.is_empty()).then(|| json!({"metadata": metadata})), problems)
}

#[cfg(test)]
mod tests {
    use barque_csi::{Driver, NodeInfo};

    use super::*;

    async fn registered(name: &str, most: Option<i64>) -> Arc<Registered> {
        let socket = tempfile::tempdir().unwrap();
        let path = socket.path().join("d.sock");
        let _listens = tokio::net::UnixListener::bind(&path).unwrap();
        let topology = [("example.com/rack".to_owned(), "r1".to_owned())].into();
        let node = NodeInfo { node_id: format!("{name}-id"), most_volumes: most, topology };
        Arc::new(Registered { name: name.to_owned(), node, driver: Driver::connect(&path).await.unwrap() })
    }

    fn node(value: Value) -> Node {
        serde_json::from_value(value).unwrap()
    }

    #[tokio::test]
    async fn drivers_are_entered_and_taken_out() {
        let node = node(json!({"metadata": {"name": "n", "uid": "u"}}));
        let none = BTreeSet::new();
        let all: All = [("d".to_owned(), registered("d", Some(3)).await)].into();
        let made = plan(&node, None, &all, &none).unwrap();
        assert_eq!(made.metadata.owner_references.as_ref().unwrap()[0].uid, "u");
        let expected = json!([{"name": "d", "nodeID": "d-id", "topologyKeys": ["example.com/rack"],
            "allocatable": {"count": 3}}]);
        assert_eq!(json!(made.spec.drivers), expected);
        assert_eq!(plan(&node, Some(&made), &all, &none), None);
        // One that this agent has never seen stays; one that it has seen go does not.
        assert_eq!(plan(&node, Some(&made), &All::new(), &none), None);
        let gone = BTreeSet::from(["d".to_owned()]);
        assert_eq!(plan(&node, Some(&made), &All::new(), &gone).unwrap().spec.drivers, []);
        assert_eq!(plan(&node, None, &All::new(), &none).unwrap().spec.drivers, []);
    }

    #[tokio::test]
    async fn the_node_has_the_labels_of_its_drivers_and_keeps_its_own() {
        let all: All = [("d".to_owned(), registered("d", None).await)].into();
        let none = BTreeSet::new();
        let (patch, problems) = node_patch(&node(json!({"metadata": {"name": "n"}})), &all, &none);
        let ids = "{\"d\":\"d-id\"}";
        let expected =
            json!({"metadata": {"annotations": {NODE_IDS: ids}, "labels": {"example.com/rack": "r1"}}});
        assert_eq!((patch, problems.len()), (Some(expected), 0));
        let told = |rack: &str| {
            node(
                json!({"metadata": {"name": "n", "annotations": {NODE_IDS: ids}, "labels": {"example.com/rack": rack}}}),
            )
        };
        assert_eq!(node_patch(&told("r1"), &all, &none), (None, vec![]));
        let (patch, problems) = node_patch(&told("r2"), &all, &none);
        assert_eq!((patch, problems.len()), (None, 1));
        let (patch, _) = node_patch(&told("r1"), &All::new(), &BTreeSet::from(["d".to_owned()]));
        assert_eq!(patch, Some(json!({"metadata": {"annotations": {NODE_IDS: null}}})));
    }
}
