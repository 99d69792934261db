//! NodeRestriction: a node writes its own objects and those of its pods, and nothing by which it could draw pods to itself.
//! Must never restrict anybody else.

mod pods;

use std::collections::BTreeSet;

use barque_api::kind::GroupResource;
use barque_api::metadata::Metadata;
use barque_api::status::Status;
use serde_json::{Map, Value};

use super::pod::{given, list, text};
use super::signing_request::subject;
use super::{Admission, Attributes, Operation};
use crate::authorization::node::node_of;
use crate::storage::Storage;

/// Where nodes say that they live.
const LEASES: &str = "kube-node-lease";
/// Labels of Kubernetes that a node may give itself.
const OWN_LABELS: [&str; 12] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "node.kubernetes.io/windows-build",
];
/// Whose certificates name a node.
const NODE_SIGNERS: [&str; 2] =
    ["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"];

impl<S: Storage> Admission<S> {
    /// Whether a node may write this; everybody else may.
    pub(super) async fn restrict_node(
        &self,
        attributes: &Attributes<'_>,
        object: &Value,
    ) -> Result<(), Status> {
        let Some(node) = node_of(attributes.user) else { return Ok(()) };
        let refused = |why: String| Err(attributes.forbidden(why));
        if node.is_empty() {
            return refused(format!("could not determine node from user {:?}", attributes.user.name));
        }
        let operation = attributes.operation;
        let verdict = match (&*attributes.resource.group, &*attributes.resource.resource) {
            ("", "pods") => {
                let evicted = match attributes.subresource {
                    "eviction" => Some(self.pod(attributes).await?),
                    _ => None,
                };
                let old = evicted.as_ref().or(attributes.old);
                pods::check(&Attributes { old, ..*attributes }, node, object)
                    .map_err(|why| attributes.forbidden(why))?;
                return if operation == Operation::Create && attributes.subresource.is_empty() {
                    self.check_owner(attributes, node, object).await
                } else {
                    Ok(())
                };
            }
            ("", "serviceaccounts") => {
                return if operation == Operation::Create && attributes.subresource == "token" {
                    self.check_token(attributes, node, object).await
                } else {
                    Ok(())
                };
            }
            ("", "nodes") => own_node(attributes, node, object),
            ("", "persistentvolumeclaims") => claim(attributes, node, object),
            ("coordination.k8s.io", "leases") => lease(attributes, node),
            ("storage.k8s.io", "csinodes") if attributes.name != node => {
                Err("can only access CSINode with the same name as the requesting node".to_owned())
            }
            ("resource.k8s.io", "resourceslices") => slice(attributes, node, object),
            ("certificates.k8s.io", "certificatesigningrequests") if operation == Operation::Create => {
                certificate(node, object)
            }
            _ => Ok(()),
        };
        verdict.or_else(refused)
    }

    /// The pod of a request.
    async fn pod(&self, attributes: &Attributes<'_>) -> Result<Value, Status> {
        let pod = self.found("", "pods", attributes.namespace, attributes.name).await?;
        pod.ok_or_else(|| Status::not_found(&GroupResource::new("", "pods"), attributes.name))
    }

    /// Whether the owner of a mirror pod is its node, and not an older one of that name.
    async fn check_owner(&self, attributes: &Attributes<'_>, name: &str, pod: &Value) -> Result<(), Status> {
        let owner = Metadata::of(pod).owner_references().next().map(|owner| owner.uid()).unwrap_or_default();
        let node = self.found("", "nodes", "", name).await?;
        let node = node.ok_or_else(|| Status::not_found(&GroupResource::new("", "nodes"), name))?;
        let uid = Metadata::of(&node).uid();
        if owner != uid {
            return Err(attributes.forbidden(format!("node {name} UID mismatch: expected {owner} got {uid}")));
        }
        Ok(())
    }

    /// Whether a token is for a pod of the node.
    async fn check_token(
        &self,
        attributes: &Attributes<'_>,
        node: &str,
        object: &Value,
    ) -> Result<(), Status> {
        let refused = |why: String| Err(attributes.forbidden(why));
        let bound = |field: &str| text(object, &format!("/spec/boundObjectRef/{field}"));
        let name = bound("name");
        if bound("apiVersion") != "v1" || bound("kind") != "Pod" || name.is_empty() {
            return refused("node requested token not bound to a pod".to_owned());
        }
        let uid = bound("uid");
        if uid.is_empty() {
            return refused("node requested token with a pod binding without a uid".to_owned());
        }
        let pod = self.found("", "pods", attributes.namespace, name).await?;
        let pod = pod.ok_or_else(|| Status::not_found(&GroupResource::new("", "pods"), name))?;
        if Metadata::of(&pod).uid() != uid {
            return refused(format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have \
                 been deleted and then recreated"
            ));
        }
        if text(&pod, "/spec/nodeName") != node {
            return refused("node requested token bound to a pod scheduled on a different node".to_owned());
        }
        Ok(())
    }
}

fn own_node(attributes: &Attributes<'_>, name: &str, node: &Value) -> Result<(), String> {
    if attributes.name != name {
        return Err(format!("node {name:?} is not allowed to modify node {:?}", attributes.name));
    }
    let source = given(node, "/spec/configSource");
    match (attributes.operation, attributes.old) {
        (Operation::Create, _) => {
            if source.is_some() {
                return Err(format!(
                    "node {name:?} is not allowed to create pods with a non-nil configSource"
                ));
            }
            let labels = forbidden_labels(node, &Value::Null);
            if !labels.is_empty() {
                return Err(format!("node {name:?} is not allowed to set the following labels: {labels}"));
            }
        }
        (Operation::Update, Some(old)) => {
            if source.is_some() && source != given(old, "/spec/configSource") {
                return Err(format!(
                    "node {name:?} is not allowed to update configSource to a new non-nil configSource"
                ));
            }
            if list(node, "/spec/taints") != list(old, "/spec/taints") {
                return Err(format!("node {name:?} is not allowed to modify taints"));
            }
            let labels = forbidden_labels(node, old);
            if !labels.is_empty() {
                return Err(format!("is not allowed to modify labels: {labels}"));
            }
        }
        _ => {}
    }
    Ok(())
}

/// Labels that changed and are not the node's to change.
fn forbidden_labels(node: &Value, old: &Value) -> String {
    let empty = Map::new();
    let new = Metadata::of(node).labels().unwrap_or(&empty);
    let old = Metadata::of(old).labels().unwrap_or(&empty);
    let changed = new.keys().chain(old.keys()).filter(|key| new.get(*key) != old.get(*key));
    let forbidden: BTreeSet<&str> = changed.map(String::as_str).filter(|key| !is_for_nodes(key)).collect();
    forbidden.into_iter().collect::<Vec<_>>().join(", ")
}

fn is_for_nodes(label: &str) -> bool {
    let domain = label.split_once('/').map_or("", |(domain, _)| domain);
    let within =
        |parent: &str| domain.strip_suffix(parent).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    if within("node-restriction.kubernetes.io") {
        return false;
    }
    let of_kubernetes = within("kubernetes.io") || within("k8s.io");
    !of_kubernetes
        || OWN_LABELS.contains(&label)
        || within("kubelet.kubernetes.io")
        || within("node.kubernetes.io")
}

fn claim(attributes: &Attributes<'_>, node: &str, claim: &Value) -> Result<(), String> {
    if attributes.subresource != "status" {
        return Err("may only update PVC status".to_owned());
    }
    let (Operation::Update, Some(old)) = (attributes.operation, attributes.old) else {
        return Err(format!("unexpected operation {:?}", attributes.operation.name()));
    };
    let rest = |claim: &Value| {
        let mut claim = claim.clone();
        for (part, fields) in [
            ("metadata", &["resourceVersion", "managedFields"][..]),
            ("status", &["capacity", "conditions", "allocatedResourceStatuses", "allocatedResources"][..]),
        ] {
            if let Some(part) = claim.get_mut(part).and_then(Value::as_object_mut) {
                part.retain(|field, _| !fields.contains(&field.as_str()));
            }
        }
        claim
    };
    if rest(claim) != rest(old) {
        return Err(format!(
            "node {node:?} is not allowed to update fields other than status.quantity and status.conditions"
        ));
    }
    Ok(())
}

fn lease(attributes: &Attributes<'_>, node: &str) -> Result<(), String> {
    if attributes.namespace != LEASES {
        return Err(format!("can only access leases in the {LEASES:?} system namespace"));
    }
    if attributes.name != node {
        return Err("can only access node lease with the same name as the requesting node".to_owned());
    }
    Ok(())
}

fn slice(attributes: &Attributes<'_>, node: &str, object: &Value) -> Result<(), String> {
    let (slice, verb) = match attributes.operation {
        Operation::Create => (object, "create"),
        Operation::Delete => (attributes.old.unwrap_or(&Value::Null), "delete"),
        _ => return Ok(()),
    };
    if text(slice, "/spec/nodeName") == node {
        return Ok(());
    }
    Err(format!("can only {verb} ResourceSlice with the same NodeName as the requesting node"))
}

fn certificate(node: &str, object: &Value) -> Result<(), String> {
    if !NODE_SIGNERS.contains(&text(object, "/spec/signerName")) {
        return Ok(());
    }
    let subject = subject(object).map_err(|error| format!("unable to parse csr: {error}"))?;
    let name = format!("system:node:{node}");
    if subject.common_name == name {
        Ok(())
    } else {
        Err(format!("can only create a node CSR with CN={name}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::admission::pod::MIRROR;
    use crate::admission::signing_request::sample;
    use crate::admission::test_cluster::{Asked, Cluster};

    fn by_node(asked: Asked) -> Asked {
        asked.by("system:node:n", &["system:nodes"])
    }

    fn own_mirror() -> Value {
        json!({
            "metadata": {"name": "p", "annotations": {MIRROR: "x"}, "ownerReferences": [
                {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u", "controller": true}]},
            "spec": {"nodeName": "n", "containers": []},
        })
    }

    async fn cluster() -> Cluster {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "uid": "u"}});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a", "uid": "v"},
            "spec": {"nodeName": "n"}});
        Cluster::with(&[node, pod]).await
    }

    async fn refusal(cluster: &Cluster, asked: &Asked, object: &Value) -> String {
        let answer = cluster.admission.restrict_node(&asked.attributes(), object).await;
        let message = answer.err().map(|status| status.message).unwrap_or_default();
        message.split_once(" is forbidden: ").map_or(message.clone(), |(_, why)| why.to_owned())
    }

    #[tokio::test]
    async fn a_node_makes_only_mirror_pods_of_its_own() {
        let cluster = cluster().await;
        let asked = by_node(Asked::pod());
        let changed = |pointer: &str, value: Value| {
            let mut pod = own_mirror();
            *pod.pointer_mut(pointer).unwrap() = value;
            pod
        };
        let single = r#"node "n" can only create pods with an owner reference set to itself"#;
        let table = [
            (own_mirror(), ""),
            (
                changed("/metadata/annotations", json!({})),
                r#"pod does not have "kubernetes.io/config.mirror" annotation, node "n" can only create mirror pods"#,
            ),
            (
                changed("/spec/nodeName", json!("m")),
                r#"node "n" can only create pods with spec.nodeName set to itself"#,
            ),
            (changed("/metadata/ownerReferences", json!([])), single),
            (changed("/metadata/ownerReferences/0/name", json!("m")), single),
            (
                changed("/metadata/ownerReferences/0/controller", json!(false)),
                r#"node "n" can only create pods with a controller owner reference set to itself"#,
            ),
            (
                changed("/metadata/ownerReferences/0/uid", json!("old")),
                "node n UID mismatch: expected old got u",
            ),
            (
                changed("/spec", json!({"nodeName": "n", "serviceAccountName": "s"})),
                r#"node "n" can not create pods that reference a service account"#,
            ),
            (
                changed(
                    "/spec",
                    json!({"nodeName": "n", "volumes": [{"persistentVolumeClaim": {"claimName": "c"}}]}),
                ),
                r#"node "n" can not create pods that reference persistentvolumeclaims"#,
            ),
        ];
        for (pod, expected) in table {
            assert_eq!(refusal(&cluster, &asked, &pod).await, expected);
        }
        assert_eq!(refusal(&cluster, &Asked::pod().by("eva", &["system:nodes"]), &json!({})).await, "");
    }

    #[tokio::test]
    async fn a_node_touches_only_its_own_pods() {
        let cluster = cluster().await;
        let own = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"nodeName": "n"}, "status": {}});
        let other = json!({"spec": {"nodeName": "m"}});
        let delete = |pod: &Value| by_node(Asked::pod().over(pod.clone()).doing(Operation::Delete));
        let status = |pod: &Value| by_node(Asked::pod().over(pod.clone()).below("status"));
        let mut labelled = own.clone();
        labelled["metadata"]["labels"]["a"] = json!("c");
        let table = [
            (delete(&own), json!(null), ""),
            (
                delete(&other),
                json!(null),
                r#"node "n" can only delete pods with spec.nodeName set to itself"#,
            ),
            (status(&own), own.clone(), ""),
            (status(&own), labelled, r#"node "n" cannot update labels through pod status"#),
            (
                status(&other),
                other.clone(),
                r#"node "n" can only update pod status for pods with spec.nodeName set to itself"#,
            ),
            (
                by_node(Asked::pod().over(own.clone())),
                own.clone(),
                r#"unexpected operation "UPDATE", node "n" can only create and delete mirror pods"#,
            ),
            (
                by_node(Asked::pod().over(own.clone()).below("binding")),
                own,
                "unexpected pod subresource \"binding\", only 'status' and 'eviction' are allowed",
            ),
        ];
        for (asked, object, expected) in table {
            assert_eq!(refusal(&cluster, &asked, &object).await, expected);
        }
    }

    #[tokio::test]
    async fn a_node_does_not_draw_pods_to_itself() {
        let cluster = cluster().await;
        let nodes = by_node(Asked::create("", "nodes", "Node").named("n"));
        let with = |labels: Value| json!({"metadata": {"name": "n", "labels": labels}, "spec": {}});
        let own = json!({"kubernetes.io/hostname": "n", "node.kubernetes.io/x": "y", "any.org/x": "y", "plain": "y"});
        let table = [
            (nodes.clone(), with(own), ""),
            (
                nodes.clone(),
                with(json!({"node-restriction.kubernetes.io/x": "y", "kubernetes.io/y": "z"})),
                r#"node "n" is not allowed to set the following labels: kubernetes.io/y, node-restriction.kubernetes.io/x"#,
            ),
            (nodes.clone().named("m"), with(json!({})), r#"node "n" is not allowed to modify node "m""#),
            (
                nodes.clone().over(with(json!({"a.k8s.io/x": "y"}))),
                with(json!({})),
                "is not allowed to modify labels: a.k8s.io/x",
            ),
            (
                nodes.over(json!({"spec": {"taints": [{"key": "t"}]}})),
                json!({"spec": {}}),
                r#"node "n" is not allowed to modify taints"#,
            ),
        ];
        for (asked, node, expected) in table {
            assert_eq!(refusal(&cluster, &asked, &node).await, expected);
        }
    }

    #[tokio::test]
    async fn tokens_leases_and_certificates_are_the_nodes_own() {
        let cluster = cluster().await;
        let tokens = by_node(
            Asked::create("", "serviceaccounts", "TokenRequest").within("a").named("s").below("token"),
        );
        let token = |uid: &str| json!({"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid}}});
        let leases = by_node(Asked::create("coordination.k8s.io", "leases", "Lease"));
        let certificates = by_node(Asked::create(
            "certificates.k8s.io",
            "certificatesigningrequests",
            "CertificateSigningRequest",
        ));
        let signer = NODE_SIGNERS[0];
        let claims =
            by_node(Asked::create("", "persistentvolumeclaims", "PersistentVolumeClaim").within("a"));
        let table = [
            (tokens.clone(), token("v"), ""),
            (tokens.clone(), json!({"spec": {}}), "node requested token not bound to a pod"),
            (tokens.clone(), token(""), "node requested token with a pod binding without a uid"),
            (
                tokens,
                token("w"),
                "the UID in the bound object reference (w) does not match the UID in record. The object might have been \
                 deleted and then recreated",
            ),
            (leases.clone().within(LEASES).named("n"), json!({}), ""),
            (
                leases.clone().within(LEASES).named("m"),
                json!({}),
                "can only access node lease with the same name as the requesting node",
            ),
            (
                leases.within("a").named("n"),
                json!({}),
                r#"can only access leases in the "kube-node-lease" system namespace"#,
            ),
            (certificates.clone(), sample(signer, "system:node:n", "system:nodes"), ""),
            (
                certificates.clone(),
                sample(signer, "system:node:m", "system:nodes"),
                "can only create a node CSR with CN=system:node:n",
            ),
            (certificates, sample("x.io/s", "anybody", "g"), ""),
            (claims.clone(), json!({}), "may only update PVC status"),
            (
                claims
                    .clone()
                    .over(json!({"spec": {}, "status": {"capacity": {"storage": "1Gi"}}}))
                    .below("status"),
                json!({"spec": {}, "status": {"capacity": {"storage": "2Gi"}}}),
                "",
            ),
            (
                claims.over(json!({"spec": {}})).below("status"),
                json!({"spec": {"volumeName": "v"}}),
                r#"node "n" is not allowed to update fields other than status.quantity and status.conditions"#,
            ),
        ];
        for (asked, object, expected) in table {
            assert_eq!(refusal(&cluster, &asked, &object).await, expected);
        }
    }
}
