//! What nodes may do: each reads what its own pods need and nothing else (Kubernetes' Node authorizer, with selectors). Must
//! never judge the content of what a node writes; that is an admission's.

mod graph;
mod references;

use barque_api::field_selector::FieldSelector;

use super::{Action, Decision, User};
use crate::bootstrap;
pub use graph::Graph;
use graph::Kind;

const USER_PREFIX: &str = "system:node:";
const GROUP: &str = "system:nodes";
const LEASES: &str = "kube-node-lease";

/// The name of the node that somebody is; nothing for others. It may be empty.
#[must_use]
pub fn node_of(user: &User) -> Option<&str> {
    let name = user.name.strip_prefix(USER_PREFIX)?;
    user.groups.iter().any(|group| group == GROUP).then_some(name)
}

/// A question about a resource, taken apart.
#[derive(Clone, Copy)]
struct Asked<'a> {
    node: &'a str,
    verb: &'a str,
    /// What hangs below the object; empty for the object.
    subresource: &'a str,
    namespace: &'a str,
    name: &'a str,
    fields: &'a FieldSelector,
}

impl Graph {
    /// Whether a node may do this. `fields` is the selector of a list, a watch or a deletion of many; without one, many are
    /// all.
    #[must_use]
    pub fn authorize(&self, user: &User, action: &Action, fields: &FieldSelector) -> Decision {
        let Some(node) = node_of(user) else { return no("") };
        if node.is_empty() {
            return Decision::NoOpinion(format!("unknown node for user {:?}", user.name));
        }
        if let Action::Resource { verb, group, resource, namespace, name } = action {
            let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
            let asked = Asked { node, verb, subresource, namespace, name, fields };
            match (group.as_str(), resource) {
                ("", "secrets") => return self.read_in_namespace(Kind::Secret, asked),
                ("", "configmaps") => return self.read_in_namespace(Kind::ConfigMap, asked),
                ("", "persistentvolumeclaims") if subresource == "status" => return self.claim_status(asked),
                ("", "persistentvolumeclaims") => return self.get(Kind::Claim, asked),
                ("", "persistentvolumes") => return self.get(Kind::Volume, asked),
                ("resource.k8s.io", "resourceclaims") => return self.get(Kind::ResourceClaim, asked),
                ("storage.k8s.io", "volumeattachments") => return self.get(Kind::Attachment, asked),
                ("", "serviceaccounts") => return self.service_account(asked),
                ("coordination.k8s.io", "leases") => return lease(asked),
                ("storage.k8s.io", "csinodes") => return csi_node(asked),
                ("resource.k8s.io", "resourceslices") => return self.slice(asked),
                ("", "nodes") => return node_object(asked),
                ("", "pods") => return self.pod(asked),
                _ => {}
            }
        }
        let rules = bootstrap::rules_of("system:node").unwrap_or_default();
        if rules.iter().any(|rule| rule.covers(action)) { yes() } else { no("") }
    }

    /// Whether there is a way from the object to the node.
    fn related(&self, kind: Kind, asked: Asked<'_>) -> Decision {
        if asked.name.is_empty() {
            return no("No Object name found");
        }
        if self.reaches(kind, asked.namespace, asked.name, asked.node) {
            return yes();
        }
        Decision::NoOpinion(format!("no relationship found between node '{}' and this object", asked.node))
    }

    fn get(&self, kind: Kind, asked: Asked<'_>) -> Decision {
        if asked.verb != "get" {
            return no("can only get individual resources of this type");
        }
        if !asked.subresource.is_empty() {
            return no("cannot get subresource");
        }
        self.related(kind, asked)
    }

    fn read_in_namespace(&self, kind: Kind, asked: Asked<'_>) -> Decision {
        if !["get", "list", "watch"].contains(&asked.verb) {
            return no("can only read resources of this type");
        }
        if !asked.subresource.is_empty() {
            return no("cannot read subresource");
        }
        if asked.namespace.is_empty() {
            return no("can only read namespaced object of this type");
        }
        self.related(kind, asked)
    }

    fn claim_status(&self, asked: Asked<'_>) -> Decision {
        if !["update", "patch"].contains(&asked.verb) {
            return no("can only get/update/patch this type");
        }
        self.related(Kind::Claim, asked)
    }

    fn service_account(&self, asked: Asked<'_>) -> Decision {
        if asked.verb == "get" && asked.subresource.is_empty() {
            return self.related(Kind::ServiceAccount, asked);
        }
        if asked.verb != "create" || asked.name.is_empty() {
            return no("can only create tokens for individual service accounts");
        }
        if asked.subresource != "token" {
            return no("can only create token subresource of serviceaccount");
        }
        self.related(Kind::ServiceAccount, asked)
    }

    fn slice(&self, asked: Asked<'_>) -> Decision {
        if !asked.subresource.is_empty() {
            return no("cannot authorize ResourceSlice subresources");
        }
        match asked.verb {
            // Whose it is, is seen at admission.
            "create" => yes(),
            "get" | "update" | "patch" | "delete" => self.related(Kind::Slice, asked),
            "watch" | "list" | "deletecollection"
                if asked.fields.exact("spec.nodeName") == Some(asked.node) =>
            {
                yes()
            }
            "watch" | "list" | "deletecollection" => {
                no("can only list/watch/deletecollection resourceslices with nodeName field selector")
            }
            _ => no(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, \
                 patch, delete, deletecollection",
            ),
        }
    }

    fn pod(&self, asked: Asked<'_>) -> Decision {
        match (asked.subresource, asked.verb) {
            ("", "get") => self.get(Kind::Pod, asked),
            ("", "list" | "watch") => {
                if asked.fields.exact("spec.nodeName") == Some(asked.node) {
                    return yes();
                }
                if asked.name.is_empty() {
                    return no("can only list/watch pods with spec.nodeName field selector");
                }
                self.related(Kind::Pod, asked)
            }
            // Which pods these are, is seen at admission.
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => yes(),
            _ => no(""),
        }
    }
}

fn lease(asked: Asked<'_>) -> Decision {
    if !["get", "create", "update", "patch", "delete"].contains(&asked.verb) {
        return no("can only get, create, update, patch, or delete a node lease");
    }
    if asked.namespace != LEASES {
        return Decision::NoOpinion(format!("can only access leases in the {LEASES:?} system namespace"));
    }
    // The name of what is created is seen at admission.
    if asked.verb != "create" && asked.name != asked.node {
        return no("can only access node lease with the same name as the requesting node");
    }
    yes()
}

fn csi_node(asked: Asked<'_>) -> Decision {
    if !["get", "create", "update", "patch", "delete"].contains(&asked.verb) {
        return no("can only get, create, update, patch, or delete a CSINode");
    }
    if !asked.subresource.is_empty() {
        return no("cannot authorize CSINode subresources");
    }
    if asked.verb != "create" && asked.name != asked.node {
        return no("can only access CSINode with the same name as the requesting node");
    }
    yes()
}

fn node_object(asked: Asked<'_>) -> Decision {
    let node = asked.node;
    match (asked.subresource, asked.verb) {
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => yes(),
        // By the name alone, so that a node may look for itself before it is there.
        ("", "get" | "list" | "watch") => match asked.name {
            name if name == node => yes(),
            "" => {
                Decision::NoOpinion(format!("node '{node}' cannot read all nodes, only its own Node object"))
            }
            other => {
                Decision::NoOpinion(format!("node '{node}' cannot read '{other}', only its own Node object"))
            }
        },
        _ => no(""),
    }
}

const fn yes() -> Decision {
    Decision::Allow(String::new())
}

fn no(why: &str) -> Decision {
    Decision::NoOpinion(why.to_owned())
}

#[cfg(test)]
mod tests {
    use barque_api::field_selector::Term;
    use serde_json::json;

    use super::*;

    fn node(name: &str) -> User {
        User { name: format!("system:node:{name}"), groups: vec![GROUP.into()], ..User::default() }
    }

    /// `verb group resource namespace name`, with `-` for nothing.
    fn action(text: &str) -> Action {
        let words: Vec<&str> = text.split(' ').map(|word| if word == "-" { "" } else { word }).collect();
        let [verb, group, resource, namespace, name] = words.try_into().unwrap();
        Action::Resource {
            verb: verb.into(),
            group: group.into(),
            resource: resource.into(),
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    fn graph() -> Graph {
        let mut graph = Graph::default();
        graph.pod_is(&json!({
            "metadata": {"namespace": "x", "name": "web"},
            "spec": {
                "nodeName": "a",
                "serviceAccountName": "robot",
                "containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "key"}}}]}],
                "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "disk"}}],
            },
        }));
        graph.volume_is(&json!({
            "metadata": {"name": "pv1"},
            "spec": {
                "claimRef": {"namespace": "x", "name": "disk"},
                "csi": {"nodePublishSecretRef": {"namespace": "y", "name": "mount"}},
            },
        }));
        graph.attachment_is(&json!({"metadata": {"name": "va"}, "spec": {"nodeName": "a"}}));
        graph.slice_is(&json!({"metadata": {"name": "gpus"}, "spec": {"nodeName": "a"}}));
        graph
    }

    #[test]
    fn a_node_reads_what_its_pods_need() {
        let graph = graph();
        let own = [
            "get - secrets x key",
            "watch - secrets x key",
            "get - secrets y mount",
            "get - persistentvolumeclaims x disk",
            "patch - persistentvolumeclaims/status x disk",
            "get - persistentvolumes - pv1",
            "get storage.k8s.io volumeattachments - va",
            "get - serviceaccounts x robot",
            "create - serviceaccounts/token x robot",
            "get - pods x web",
            "watch - pods x web",
            "delete resource.k8s.io resourceslices - gpus",
        ];
        for text in own {
            let action = action(text);
            let nothing = FieldSelector::default();
            assert_eq!(graph.authorize(&node("a"), &action, &nothing), yes(), "{text}");
            let why = "no relationship found between node 'b' and this object";
            assert_eq!(graph.authorize(&node("b"), &action, &nothing), no(why), "{text}");
        }
    }

    #[test]
    fn refusals_say_why_in_the_words_of_kubernetes() {
        let graph = graph();
        let table = [
            ("delete - secrets x key", "can only read resources of this type"),
            ("list - secrets - -", "can only read namespaced object of this type"),
            ("list - configmaps x -", "No Object name found"),
            ("list - persistentvolumes - -", "can only get individual resources of this type"),
            ("get - persistentvolumeclaims/status x disk", "can only get/update/patch this type"),
            ("create - serviceaccounts x robot", "can only create token subresource of serviceaccount"),
            ("create - serviceaccounts/token x -", "can only create tokens for individual service accounts"),
            (
                "get coordination.k8s.io leases default a",
                r#"can only access leases in the "kube-node-lease" system namespace"#,
            ),
            (
                "get coordination.k8s.io leases kube-node-lease b",
                "can only access node lease with the same name as the requesting node",
            ),
            (
                "list coordination.k8s.io leases kube-node-lease a",
                "can only get, create, update, patch, or delete a node lease",
            ),
            (
                "update storage.k8s.io csinodes - b",
                "can only access CSINode with the same name as the requesting node",
            ),
            ("list - nodes - -", "node 'a' cannot read all nodes, only its own Node object"),
            ("get - nodes - b", "node 'a' cannot read 'b', only its own Node object"),
            ("list - pods - -", "can only list/watch pods with spec.nodeName field selector"),
            (
                "list resource.k8s.io resourceslices - -",
                "can only list/watch/deletecollection resourceslices with nodeName field selector",
            ),
            ("create - pods/exec x web", ""),
            ("delete - nodes - a", ""),
            ("get apps deployments x y", ""),
        ];
        for (text, why) in table {
            let decision = graph.authorize(&node("a"), &action(text), &FieldSelector::default());
            assert_eq!(decision, no(why), "{text}");
        }
    }

    #[test]
    fn a_node_does_its_own_work() {
        let graph = graph();
        let table = [
            "create coordination.k8s.io leases kube-node-lease -",
            "update coordination.k8s.io leases kube-node-lease a",
            "create storage.k8s.io csinodes - -",
            "create - nodes - a",
            "get - nodes - a",
            "patch - nodes/status - a",
            "patch - pods/status x web",
            "create - pods/eviction x web",
            "create - events x -",
            "list - services - -",
            "watch node.k8s.io runtimeclasses - -",
            "create certificates.k8s.io certificatesigningrequests - -",
        ];
        for text in table {
            let decision = graph.authorize(&node("a"), &action(text), &FieldSelector::default());
            assert_eq!(decision, yes(), "{text}");
        }
        let on = |node: &str| {
            let term = Term { field: "spec.nodeName".into(), value: node.into(), equals: true };
            FieldSelector::of(vec![term])
        };
        for text in ["list - pods - -", "watch resource.k8s.io resourceslices - -"] {
            assert_eq!(graph.authorize(&node("a"), &action(text), &on("a")), yes(), "{text}");
            assert_ne!(graph.authorize(&node("a"), &action(text), &on("b")), yes(), "{text}");
        }
    }

    #[test]
    fn who_is_no_node_is_not_judged() {
        let graph = graph();
        let action = action("get - nodes - a");
        let outsider = User { name: "system:node:a".into(), ..User::default() };
        assert_eq!(graph.authorize(&outsider, &action, &FieldSelector::default()), no(""));
        let nameless = graph.authorize(&node(""), &action, &FieldSelector::default());
        assert_eq!(nameless, no(r#"unknown node for user "system:node:""#));
    }
}
