//! Which objects are a node's, because its pods need them: counted as pods and volumes come and go, so that a question costs
//! a look-up and not a walk. Follows the objects that it is told of; must never read them itself.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::Value;

use super::references::{of_pod, secrets_of_volume, text};

/// The kinds of objects that belong to nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Pod,
    Secret,
    ConfigMap,
    ServiceAccount,
    Claim,
    ResourceClaim,
    Volume,
    Attachment,
    Slice,
}

/// An object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Thing {
    kind: Kind,
    /// Empty for objects of the cluster.
    namespace: Box<str>,
    name: Box<str>,
}

impl Thing {
    pub(super) fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Self { kind, namespace: namespace.into(), name: name.into() }
    }
}

/// A pod that has a node.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Placed {
    node: Arc<str>,
    needs: Vec<Thing>,
}

/// A volume that is bound to a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bound {
    claim: Thing,
    secrets: Vec<Thing>,
}

/// What belongs to which node.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    pods: HashMap<Thing, Placed>,
    volumes: HashMap<Box<str>, Bound>,
    /// Attachments and slices of nodes.
    owned: HashMap<Thing, Arc<str>>,
    /// What pods need: on each node, by how many of them.
    needed: HashMap<Thing, HashMap<Arc<str>, usize>>,
    /// The volumes that need a secret.
    mounted_with: HashMap<Thing, BTreeSet<Box<str>>>,
}

impl Graph {
    /// A pod is there, or changed. One without a node belongs to none.
    pub fn pod_is(&mut self, pod: &Value) {
        let metadata = &pod["metadata"];
        let thing = Thing::new(Kind::Pod, text(metadata, "namespace"), text(metadata, "name"));
        let node = text(&pod["spec"], "nodeName");
        if node.is_empty() {
            self.remove_pod(&thing);
            return;
        }
        let placed = Placed { node: node.into(), needs: of_pod(pod) };
        if self.pods.get(&thing) == Some(&placed) {
            return;
        }
        self.remove_pod(&thing);
        for need in &placed.needs {
            *self.needed.entry(need.clone()).or_default().entry(placed.node.clone()).or_default() += 1;
        }
        self.pods.insert(thing, placed);
    }

    /// A pod is gone.
    pub fn pod_is_gone(&mut self, namespace: &str, name: &str) {
        self.remove_pod(&Thing::new(Kind::Pod, namespace, name));
    }

    fn remove_pod(&mut self, pod: &Thing) {
        let Some(Placed { node, needs }) = self.pods.remove(pod) else { return };
        for need in needs {
            let Some(nodes) = self.needed.get_mut(&need) else { continue };
            if let Some(count) = nodes.get_mut(&node) {
                *count -= 1;
                if *count == 0 {
                    nodes.remove(&node);
                }
            }
            if nodes.is_empty() {
                self.needed.remove(&need);
            }
        }
    }

    /// A `PersistentVolume` is there, or changed.
    pub fn volume_is(&mut self, volume: &Value) {
        let name = text(&volume["metadata"], "name");
        self.volume_is_gone(name);
        let Some(claim) = volume["spec"].get("claimRef").filter(|claim| claim.is_object()) else { return };
        let bound = Bound {
            claim: Thing::new(Kind::Claim, text(claim, "namespace"), text(claim, "name")),
            secrets: secrets_of_volume(volume),
        };
        for secret in &bound.secrets {
            self.mounted_with.entry(secret.clone()).or_default().insert(name.into());
        }
        self.volumes.insert(name.into(), bound);
    }

    /// A `PersistentVolume` is gone.
    pub fn volume_is_gone(&mut self, name: &str) {
        let Some(bound) = self.volumes.remove(name) else { return };
        for secret in bound.secrets {
            if let Some(volumes) = self.mounted_with.get_mut(&secret) {
                volumes.remove(name);
                if volumes.is_empty() {
                    self.mounted_with.remove(&secret);
                }
            }
        }
    }

    /// A `VolumeAttachment` is there, or changed.
    pub fn attachment_is(&mut self, attachment: &Value) {
        self.owned_is(Kind::Attachment, attachment);
    }

    /// A `VolumeAttachment` is gone.
    pub fn attachment_is_gone(&mut self, name: &str) {
        self.owned.remove(&Thing::new(Kind::Attachment, "", name));
    }

    /// A `ResourceSlice` is there, or changed.
    pub fn slice_is(&mut self, slice: &Value) {
        self.owned_is(Kind::Slice, slice);
    }

    /// A `ResourceSlice` is gone.
    pub fn slice_is_gone(&mut self, name: &str) {
        self.owned.remove(&Thing::new(Kind::Slice, "", name));
    }

    fn owned_is(&mut self, kind: Kind, object: &Value) {
        let thing = Thing::new(kind, "", text(&object["metadata"], "name"));
        match text(&object["spec"], "nodeName") {
            "" => self.owned.remove(&thing),
            node => self.owned.insert(thing, node.into()),
        };
    }

    /// Whether an object belongs to a node.
    pub(super) fn reaches(&self, kind: Kind, namespace: &str, name: &str, node: &str) -> bool {
        // What belongs to the cluster has no namespace, whatever the question says.
        let namespace = match kind {
            Kind::Volume | Kind::Attachment | Kind::Slice => "",
            _ => namespace,
        };
        let thing = Thing::new(kind, namespace, name);
        match kind {
            Kind::Pod => self.pods.get(&thing).is_some_and(|pod| &*pod.node == node),
            Kind::Attachment | Kind::Slice => self.owned.get(&thing).is_some_and(|owner| &**owner == node),
            Kind::Volume => self.volume_reaches(name, node),
            Kind::Secret => {
                let volumes = self.mounted_with.get(&thing);
                self.is_needed(&thing, node)
                    || volumes.is_some_and(|all| all.iter().any(|volume| self.volume_reaches(volume, node)))
            }
            Kind::ConfigMap | Kind::ServiceAccount | Kind::Claim | Kind::ResourceClaim => {
                self.is_needed(&thing, node)
            }
        }
    }

    fn is_needed(&self, thing: &Thing, node: &str) -> bool {
        self.needed.get(thing).is_some_and(|nodes| nodes.contains_key(node))
    }

    fn volume_reaches(&self, volume: &str, node: &str) -> bool {
        self.volumes.get(volume).is_some_and(|bound| self.is_needed(&bound.claim, node))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, node: &str, secret: &str) -> Value {
        json!({
            "metadata": {"namespace": "x", "name": name},
            "spec": {"nodeName": node, "volumes": [
                {"secret": {"secretName": secret}},
                {"persistentVolumeClaim": {"claimName": "disk"}},
            ]},
        })
    }

    #[test]
    fn an_object_is_a_nodes_as_long_as_one_of_its_pods_needs_it() {
        let mut graph = Graph::default();
        let has = |graph: &Graph, node: &str| graph.reaches(Kind::Secret, "x", "s", node);
        graph.pod_is(&pod("one", "a", "s"));
        graph.pod_is(&pod("two", "a", "s"));
        graph.pod_is(&pod("two", "a", "s"));
        assert_eq!((has(&graph, "a"), has(&graph, "b")), (true, false));
        graph.pod_is_gone("x", "one");
        assert!(has(&graph, "a"));
        graph.pod_is(&pod("two", "a", "other"));
        assert!(!has(&graph, "a"));
        graph.pod_is(&pod("three", "", "s"));
        assert!(!has(&graph, ""));
        graph.pod_is_gone("x", "two");
        assert!(graph.pods.is_empty() && graph.needed.is_empty());
    }

    #[test]
    fn a_volume_and_its_secrets_follow_the_claim() {
        let mut graph = Graph::default();
        let volume = json!({
            "metadata": {"name": "pv1"},
            "spec": {
                "claimRef": {"namespace": "x", "name": "disk"},
                "csi": {"nodeStageSecretRef": {"namespace": "y", "name": "stage"}},
            },
        });
        graph.volume_is(&volume);
        let has = |graph: &Graph| {
            (graph.reaches(Kind::Volume, "", "pv1", "a"), graph.reaches(Kind::Secret, "y", "stage", "a"))
        };
        assert_eq!(has(&graph), (false, false));
        graph.pod_is(&pod("one", "a", "s"));
        assert_eq!(has(&graph), (true, true));
        let mut unbound = volume;
        unbound["spec"].as_object_mut().unwrap().remove("claimRef");
        graph.volume_is(&unbound);
        assert_eq!(has(&graph), (false, false));
        assert!(graph.volumes.is_empty() && graph.mounted_with.is_empty());
    }

    #[test]
    fn attachments_and_slices_belong_to_the_node_that_they_name() {
        let mut graph = Graph::default();
        let object = |node: &str| json!({"metadata": {"name": "o"}, "spec": {"nodeName": node}});
        graph.attachment_is(&object("a"));
        graph.slice_is(&object("b"));
        assert!(
            graph.reaches(Kind::Attachment, "", "o", "a") && !graph.reaches(Kind::Attachment, "", "o", "b")
        );
        assert!(graph.reaches(Kind::Slice, "", "o", "b"));
        graph.slice_is(&object(""));
        graph.attachment_is_gone("o");
        assert!(graph.owned.is_empty());
        graph.slice_is(&object("a"));
        graph.slice_is_gone("o");
        assert!(graph.owned.is_empty());
    }

    #[test]
    fn many_pods_are_told_apart_by_look_ups() {
        let mut graph = Graph::default();
        for number in 0..20_000 {
            graph.pod_is(&pod(&format!("p{number}"), &format!("n{}", number % 500), "shared"));
        }
        assert!(graph.reaches(Kind::Secret, "x", "shared", "n499"));
        assert!(!graph.reaches(Kind::Secret, "x", "shared", "n500"));
        for number in 0..20_000 {
            graph.pod_is_gone("x", &format!("p{number}"));
        }
        assert!(graph.needed.is_empty());
    }
}
