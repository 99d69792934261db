//! PodTopologyLabels: a pod that has a node wears the node's zone and region. Must never fail for want of the node.

use barque_api::metadata::{Metadata, MetadataMut};
use barque_api::status::Status;
use serde_json::Value;

use super::pod::text;
use super::{Admission, Attributes, Operation};
use crate::storage::Storage;

/// What is copied.
const LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

impl<S: Storage> Admission<S> {
    /// Labels a pod that is made with a node, or gets one.
    pub(super) async fn label_topology(
        &self,
        attributes: &Attributes<'_>,
        object: &mut Value,
    ) -> Result<(), Status> {
        if attributes.operation != Operation::Create || !attributes.is_about("", "pods") {
            return Ok(());
        }
        let name = match attributes.subresource {
            "" => text(object, "/spec/nodeName"),
            // Who binds the pod puts its labels on it.
            "binding" if ["", "Node"].contains(&text(object, "/target/kind")) => text(object, "/target/name"),
            _ => return Ok(()),
        };
        if name.is_empty() {
            return Ok(());
        }
        if let Some(node) = self.found("", "nodes", "", name).await? {
            copy(object, &node);
        }
        Ok(())
    }
}

fn copy(object: &mut Value, node: &Value) {
    for label in LABELS {
        if let (Some(value), Some(mut metadata)) = (Metadata::of(node).label(label), MetadataMut::of(object))
        {
            metadata.set_label(label, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::admission::test_cluster::{Asked, Cluster};

    #[tokio::test]
    async fn a_pod_wears_the_zone_of_its_node() {
        let labels =
            json!({"topology.kubernetes.io/zone": "z", "topology.kubernetes.io/region": "r", "other": "o"});
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "labels": labels}});
        let cluster = Cluster::with(&[node]).await;
        let labels = async |asked: Asked, node: &str| {
            let mut pod = json!({"metadata": {"labels": {"topology.kubernetes.io/zone": "own"}}, "spec": {"nodeName": node}});
            cluster.admission.label_topology(&asked.attributes(), &mut pod).await.unwrap();
            pod["metadata"]["labels"].clone()
        };
        let copied = json!({"topology.kubernetes.io/zone": "z", "topology.kubernetes.io/region": "r"});
        let own = json!({"topology.kubernetes.io/zone": "own"});
        assert_eq!(labels(Asked::pod(), "n").await, copied);
        assert_eq!(labels(Asked::pod().over(json!({})).below("status"), "n").await, own);
        assert_eq!(labels(Asked::pod(), "gone").await, own);
        assert_eq!(labels(Asked::pod(), "").await, own);
        let mut binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
        let asked = Asked::pod().below("binding");
        cluster.admission.label_topology(&asked.attributes(), &mut binding).await.unwrap();
        assert_eq!(binding["metadata"]["labels"], copied);
    }
}
