//! What a cluster of masters keeps in its API beside what every API server brings: who may join, and what they must know then.
//! Pure; must never read or write it.

use std::path::Path;
use std::time::SystemTime;

use barque_api::node_certificate::SERVER_NAMES;
use serde_json::{Value, json};

use crate::kubeconfig;
use crate::leaf::{API_SERVER_USER, MANIFESTS_USER};
use crate::pki::Authorities;
use crate::rotation::objects as rotation;
use crate::sealed::seal;
use crate::settings::{self, ClusterSettings};
use crate::token::Credential;

/// The secret with the sealed authorities, in `kube-system`: an entry for each token for masters.
pub const AUTHORITIES: &str = "barque-authorities";
/// The map with the cluster's certificates, in `kube-public`.
pub const CLUSTER_INFO: &str = "cluster-info";
/// The groups of who joins.
pub(crate) const MASTERS: &str = "system:bootstrappers:barque:masters";
pub(crate) const NODES: &str = "system:bootstrappers:barque:nodes";

/// The role by which nodes get certificates as servers.
const SERVING: &str = "barque:node-serving-certificates";
/// The controller manager.
const CONTROLLERS_USER: &str = "system:kube-controller-manager";

/// What a token lets a machine become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A master, or a node.
    Master,
    /// A node.
    Node,
}

/// An object that should be there.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// The path of its collection.
    pub collection: String,
    /// The object.
    pub object: Value,
}

impl Desired {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap_or_default()
    }
}

fn core(kind: &str, plural: &str, namespace: &str, name: &str, mut more: Value) -> Desired {
    more["apiVersion"] = json!("v1");
    more["kind"] = json!(kind);
    more["metadata"] = json!({"namespace": namespace, "name": name});
    Desired { collection: format!("/api/v1/namespaces/{namespace}/{plural}"), object: more }
}

const RBAC: &str = "rbac.authorization.k8s.io";

fn rbac(kind: &str, plural: &str, namespace: Option<&str>, name: &str, mut more: Value) -> Desired {
    more["apiVersion"] = json!(format!("{RBAC}/v1"));
    more["kind"] = json!(kind);
    more["metadata"] = json!({"name": name});
    let place = namespace.map(|it| format!("/namespaces/{it}")).unwrap_or_default();
    if let Some(namespace) = namespace {
        more["metadata"]["namespace"] = json!(namespace);
    }
    Desired { collection: format!("/apis/{RBAC}/v1{place}/{plural}"), object: more }
}

fn role(namespace: &str, name: &str, rules: Value) -> Desired {
    rbac("Role", "roles", Some(namespace), name, json!({"rules": rules}))
}

fn subject(kind: &str, name: &str) -> Value {
    json!({"apiGroup": RBAC, "kind": kind, "name": name})
}

fn binding(namespace: &str, name: &str, subjects: Value) -> Desired {
    let role = json!({"apiGroup": RBAC, "kind": "Role", "name": name});
    rbac("RoleBinding", "rolebindings", Some(namespace), name, json!({"roleRef": role, "subjects": subjects}))
}

fn cluster_binding(name: &str, role: &str, subjects: Value) -> Desired {
    let role = json!({"apiGroup": RBAC, "kind": "ClusterRole", "name": role});
    rbac(
        "ClusterRoleBinding",
        "clusterrolebindings",
        None,
        name,
        json!({"roleRef": role, "subjects": subjects}),
    )
}

/// What every master sees to when it starts.
#[must_use]
pub fn always() -> Vec<Desired> {
    let get = |resource: &str, names: &[&str]| json!([{"apiGroups": [""], "resources": [resource], "resourceNames": names, "verbs": ["get"]}]);
    let follow = |resource: &str, names: &[&str]| json!([{"apiGroups": [""], "resources": [resource], "resourceNames": names, "verbs": ["get", "list", "watch"]}]);
    let joining =
        json!([subject("Group", MASTERS), subject("Group", NODES), subject("Group", "system:nodes")]);
    vec![
        // Who knows nobody yet finds out whom to believe.
        role("kube-public", "barque:cluster-info", get("configmaps", &[CLUSTER_INFO])),
        binding("kube-public", "barque:cluster-info", json!([subject("User", "system:anonymous")])),
        role("kube-system", "barque:settings", follow("configmaps", &[settings::NAME, settings::MASTERS])),
        binding("kube-system", "barque:settings", joining),
        core("ConfigMap", "configmaps", settings::NAMESPACE, settings::MASTERS, json!({})),
        // Nodes follow whom the cluster trusts.
        role("kube-system", "barque:trust", follow("configmaps", &[rotation::TRUST])),
        binding("kube-system", "barque:trust", json!([subject("Group", "system:nodes")])),
        core("ConfigMap", "configmaps", settings::NAMESPACE, rotation::MASTERS, json!({})),
        // And what only API servers are called.
        core("ConfigMap", "configmaps", settings::NAMESPACE, SERVER_NAMES, json!({})),
        role("kube-system", "barque:server-names", get("configmaps", &[settings::MASTERS, SERVER_NAMES])),
        binding("kube-system", "barque:server-names", json!([subject("Group", "system:nodes")])),
        role("kube-system", "barque:authorities", get("secrets", &[AUTHORITIES])),
        binding("kube-system", "barque:authorities", json!([subject("Group", MASTERS)])),
        cluster_binding(
            "barque:node-bootstrapper",
            "system:node-bootstrapper",
            json!([subject("Group", NODES), subject("Group", MASTERS)]),
        ),
        cluster_binding(
            "barque:node-certificates",
            "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
            json!([subject("Group", NODES), subject("Group", MASTERS)]),
        ),
        cluster_binding(
            "barque:node-certificates-renewed",
            "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
            json!([subject("Group", "system:nodes")]),
        ),
        rbac(
            "ClusterRole",
            "clusterroles",
            None,
            SERVING,
            json!({"rules": [{
                "apiGroups": ["certificates.k8s.io"], "resources": ["certificatesigningrequests/selfnodeserving"], "verbs": ["create"],
            }]}),
        ),
        cluster_binding(SERVING, SERVING, json!([subject("Group", "system:nodes")])),
        cluster_binding(
            "barque:node-serving-certificates-approver",
            "system:certificates.k8s.io:kubelet-serving-approver",
            json!([subject("User", CONTROLLERS_USER)]),
        ),
        cluster_binding(
            "barque:agents-are-asked",
            "system:kubelet-api-admin",
            json!([subject("User", API_SERVER_USER)]),
        ),
        // Manifests are objects of any kind, roles among them.
        cluster_binding("barque:manifests", "cluster-admin", json!([subject("User", MANIFESTS_USER)])),
    ]
}

/// A controller manager that has one identity for all of its controllers has the rights of each.
#[must_use]
pub fn controller_bindings(cluster_roles: &[String]) -> Vec<Desired> {
    let of_controllers = cluster_roles.iter().filter(|name| name.starts_with("system:controller:"));
    let who = || json!([subject("User", CONTROLLERS_USER)]);
    of_controllers.map(|role| cluster_binding(&format!("barque:{role}"), role, who())).collect()
}

/// What a cluster begins with by which machines find and believe it; what they read first is written last, so that the rest is there then.
#[must_use]
pub fn at_birth(
    settings: &ClusterSettings,
    authorities: &Authorities,
    server: &str,
    masters: &Credential,
    nodes: &Credential,
) -> Vec<Desired> {
    let info = kubeconfig::cluster_info(server, &authorities.cluster.certificate);
    let sealed = json!({masters.id.clone(): seal(authorities, masters)});
    vec![
        bootstrap_token(masters, Purpose::Master, None, "made with the cluster, for masters"),
        bootstrap_token(nodes, Purpose::Node, None, "made with the cluster, for nodes"),
        core(
            "Secret",
            "secrets",
            "kube-system",
            AUTHORITIES,
            json!({"type": "barque/authorities", "stringData": sealed}),
        ),
        core(
            "ConfigMap",
            "configmaps",
            settings::NAMESPACE,
            settings::NAME,
            json!({"data": settings.data()}),
        ),
        core("ConfigMap", "configmaps", "kube-public", CLUSTER_INFO, json!({"data": {"kubeconfig": info}})),
    ]
}

/// The storage class of claims that name none: directories of nodes below this one. Administrators may change or delete it.
#[must_use]
pub fn storage_class(directory: &Path) -> Desired {
    let collection = "/apis/storage.k8s.io/v1/storageclasses".to_owned();
    let object = json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "local-path", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "barque.dev/local-path",
        "volumeBindingMode": "WaitForFirstConsumer",
        "reclaimPolicy": "Delete",
        "parameters": {"path": directory},
    });
    Desired { collection, object }
}

/// The secret by which API servers know a token (Kubernetes: bootstrap tokens).
#[must_use]
pub fn bootstrap_token(
    credential: &Credential,
    purpose: Purpose,
    expires: Option<SystemTime>,
    description: &str,
) -> Desired {
    let group = if purpose == Purpose::Master { MASTERS } else { NODES };
    let mut data = json!({
        "token-id": credential.id,
        "token-secret": credential.secret(),
        "usage-bootstrap-authentication": "true",
        "usage-bootstrap-signing": "true",
        "auth-extra-groups": group,
        "description": description,
    });
    if let Some(at) = expires {
        let seconds = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let at = k8s_openapi::jiff::Timestamp::from_second(i64::try_from(seconds).unwrap_or(i64::MAX));
        data["expiration"] = json!(at.unwrap_or(k8s_openapi::jiff::Timestamp::MAX).to_string());
    }
    core(
        "Secret",
        "secrets",
        "kube-system",
        &format!("bootstrap-token-{}", credential.id),
        json!({"type": "bootstrap.kubernetes.io/token", "stringData": data}),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_for_masters_alone() {
        let all = always();
        let binding =
            all.iter().find(|it| it.name() == "barque:authorities" && it.object["kind"] == "RoleBinding");
        assert_eq!(binding.unwrap().object["subjects"], json!([subject("Group", MASTERS)]));
        let secrets = all.iter().filter(|it| it.object["rules"][0]["resources"] == json!(["secrets"]));
        assert_eq!(secrets.map(Desired::name).collect::<Vec<_>>(), ["barque:authorities"]);
    }

    #[test]
    fn a_cluster_is_born_with_what_is_read_first_last_and_nothing_open() {
        let authorities = Authorities::create(SystemTime::now()).unwrap();
        let settings = ClusterSettings {
            cluster_cidr: "10.244.0.0/16".to_owned(),
            service_cidr: "10.96.0.0/16".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
            cluster_dns: "10.96.0.10".parse().unwrap(),
            api_port: 6443,
            store_client_port: 2379,
        };
        let (masters, nodes) = (Credential::random(), Credential::random());
        let all = at_birth(&settings, &authorities, "https://10.0.0.1:6443", &masters, &nodes);
        assert_eq!(all.last().unwrap().name(), CLUSTER_INFO);
        let text = serde_json::to_string(&all.iter().map(|it| &it.object).collect::<Vec<_>>()).unwrap();
        assert!(!text.contains("PRIVATE KEY"));
        let token = bootstrap_token(&nodes, Purpose::Node, Some(SystemTime::UNIX_EPOCH), "");
        assert_eq!(token.object["stringData"]["expiration"], "1970-01-01T00:00:00Z");
    }

    #[test]
    fn a_controller_manager_may_what_its_controllers_may() {
        let roles = ["system:controller:job-controller", "admin"].map(str::to_owned);
        let made = controller_bindings(&roles);
        assert_eq!(made.len(), 1);
        assert_eq!(made[0].name(), "barque:system:controller:job-controller");
        assert_eq!(made[0].collection, "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings");
    }
}
