//! What is asked of the cluster's API: nodes that are ready, objects applied and come to be what they ask for. Waits for what
//! servers tell; must never ask again and again.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::time::Duration;

use barque_api::ip::{Cidr, parse_cidr};
use barque_manifests::manifest::Manifest;
use futures::StreamExt as _;
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::core::{ApiResource, GroupVersionKind};
use kube::discovery::Scope;
use kube::runtime::watcher::{self, watch_object};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Client, Config, ResourceExt as _};

use crate::convergence;
use crate::progress::Progress;

/// Who owns the fields that are applied.
const MANAGER: &str = "barque";

/// How long until it is asked again what was not answered.
const AGAIN: Duration = Duration::from_millis(200);

/// Why objects are not there.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The cluster's kubeconfig is of no use.
    #[error("the cluster's kubeconfig")]
    Kubeconfig(#[from] KubeconfigError),
    /// No client, or nothing that it could find out.
    #[error("the API of the cluster")]
    Client(#[from] kube::Error),
    /// An object was not taken.
    #[error("{object} was not taken")]
    Object {
        /// Its kind and name.
        object: String,
        /// What the server said.
        #[source]
        source: kube::Error,
    },
    /// An object will never be what it asks for.
    #[error("{object}: {why}")]
    Failed {
        /// Its kind and name.
        object: String,
        /// What its controller said.
        why: String,
    },
    /// The servers tell nothing any more.
    #[error("the watch of {0} has ended")]
    Watch(String),
}

/// A client by a kubeconfig.
pub(crate) async fn client(kubeconfig: &std::path::Path) -> Result<Client, ApplyError> {
    let config =
        Config::from_custom_kubeconfig(Kubeconfig::read_from(kubeconfig)?, &KubeConfigOptions::default())
            .await?;
    Ok(Client::try_from(config)?)
}

/// Waits until these nodes are ready.
pub(crate) async fn nodes_ready(
    client: &Client,
    names: &BTreeSet<String>,
    progress: &Progress,
) -> Result<(), ApplyError> {
    let mut missing: BTreeMap<String, String> =
        names.iter().map(|name| (name.clone(), "is not registered".to_owned())).collect();
    let mut events =
        pin!(watch(Api::<Node>::all(client.clone()), watcher::Config::default()).default_backoff());
    loop {
        for name in names {
            match missing.get(name) {
                Some(why) => progress.waiting(&format!("node {name}"), why.clone()),
                None => progress.came(&format!("node {name}")),
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        match events.next().await {
            Some(Ok(watcher::Event::Apply(node) | watcher::Event::InitApply(node))) => {
                let name = node.name_any();
                match not_ready(&node) {
                    Some(why) if names.contains(&name) => drop(missing.insert(name, why)),
                    Some(_) => {}
                    None => drop(missing.remove(&name)),
                }
            }
            Some(Ok(watcher::Event::Delete(node))) => {
                if names.contains(&node.name_any()) {
                    missing.insert(node.name_any(), "was removed".to_owned());
                }
            }
            Some(Ok(watcher::Event::Init | watcher::Event::InitDone)) => {}
            // The watch begins again by itself, after a while.
            Some(Err(error)) => tracing::debug!("the watch of nodes: {error}"),
            None => return Err(ApplyError::Watch("nodes".to_owned())),
        }
    }
}

/// The networks of IPv4 that are behind nodes, by the names of the nodes: their pods', and that of services behind one of them.
pub(crate) async fn networks_behind_nodes(
    client: &Client,
    progress: &Progress,
) -> Result<Vec<(String, Cidr)>, ApplyError> {
    let (nodes, services) = (Api::<Node>::all(client.clone()), Api::<ServiceCIDR>::all(client.clone()));
    let all = ListParams::default();
    let nodes = taken("the list of nodes", progress, || nodes.list(&all)).await?.items;
    let services = taken("the networks of services", progress, || services.list(&all)).await?.items;
    let services = services.into_iter().filter_map(|services| services.spec?.cidrs).flatten();
    let first = nodes.first().map(kube::ResourceExt::name_any);
    let of_services = services.filter_map(|network| Some((first.clone()?, network)));
    let of_pods = nodes.iter().flat_map(|node| {
        let networks = node.spec.as_ref().and_then(|spec| spec.pod_cidrs.clone()).unwrap_or_default();
        networks.into_iter().map(|network| (node.name_any(), network))
    });
    let all = of_pods.chain(of_services).filter_map(|(node, network)| Some((node, parse_cidr(&network)?)));
    Ok(all.filter(|(_, network)| network.address.is_ipv4()).collect())
}

/// Why a node is not ready.
fn not_ready(node: &Node) -> Option<String> {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    match conditions.and_then(|all| all.iter().find(|condition| condition.type_ == "Ready")) {
        Some(ready) if ready.status == "True" => None,
        Some(ready) => {
            Some(format!("is not ready: {}", ready.message.as_deref().unwrap_or("it says not why")))
        }
        None => Some("is not ready".to_owned()),
    }
}

/// Applies objects in their order, and waits until all are what they ask for.
pub(crate) async fn apply(
    client: &Client,
    manifests: &[Manifest],
    progress: &Progress,
) -> Result<(), ApplyError> {
    let mut applied = Vec::new();
    let mut resources = BTreeMap::new();
    for manifest in manifests {
        let target = target(client, manifest, &mut resources, progress).await?;
        if manifest.kind.group.is_empty() && manifest.kind.kind == "Pod" {
            account(client, manifest.namespace.as_deref().unwrap_or("default"), progress).await?;
        }
        let params = PatchParams::apply(MANAGER).force();
        let patch = Patch::Apply(&manifest.object);
        taken(&target.title, progress, || target.api.patch(&manifest.name, &params, &patch)).await?;
        // Objects of the kind can be applied when it is established.
        if manifest.kind.kind == "CustomResourceDefinition" {
            converged(&target, manifest, progress).await?;
        }
        applied.push((target, manifest));
    }
    progress.done(&format!("{} objects are applied", applied.len()));
    try_join_all(applied.iter().map(|(target, manifest)| converged(target, manifest, progress))).await?;
    Ok(())
}

/// Asks until the API server says yes or no: a master may end meanwhile, and what is applied is applied as well again.
async fn taken<T, F>(title: &str, progress: &Progress, ask: impl Fn() -> F) -> Result<T, ApplyError>
where
    F: Future<Output = Result<T, kube::Error>>,
{
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) if may_pass(&error) => {
                progress.waiting(title, format!("was not taken yet: {error}"));
                tokio::time::sleep(AGAIN).await;
            }
            Err(source) => return Err(ApplyError::Object { object: title.to_owned(), source }),
        }
    }
}

/// Whether the server was only not there, or too busy.
fn may_pass(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => matches!(status.code, 429 | 503 | 504),
        kube::Error::HyperError(_) | kube::Error::Service(_) => true,
        _ => false,
    }
}

/// Where an object belongs.
struct Target {
    api: Api<DynamicObject>,
    /// Its kind and name.
    title: String,
}

type Resources = BTreeMap<(String, String, String), (ApiResource, Scope)>;

async fn target(
    client: &Client,
    manifest: &Manifest,
    known: &mut Resources,
    progress: &Progress,
) -> Result<Target, ApplyError> {
    let kind: &GroupVersionKind = &manifest.kind;
    let key = (kind.group.clone(), kind.version.clone(), kind.kind.clone());
    let title = match &manifest.namespace {
        Some(namespace) => format!("{} {namespace}/{}", kind.kind, manifest.name),
        None => format!("{} {}", kind.kind, manifest.name),
    };
    let (resource, scope) = match known.get(&key) {
        Some(found) => found.clone(),
        None => {
            let (resource, capabilities) =
                taken(&title, progress, || kube::discovery::pinned_kind(client, kind)).await?;
            known.entry(key).or_insert((resource, capabilities.scope)).clone()
        }
    };
    let api = match scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => {
            let namespace = manifest.namespace.as_deref().unwrap_or("default");
            Api::namespaced_with(client.clone(), namespace, &resource)
        }
    };
    Ok(Target { api, title })
}

/// A pod is refused before its namespace has its account.
async fn account(client: &Client, namespace: &str, progress: &Progress) -> Result<(), ApplyError> {
    let title = format!("ServiceAccount {namespace}/default");
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), namespace);
    let mut events = pin!(watch_object(accounts, "default").default_backoff());
    progress.waiting(&title, "is not there yet".to_owned());
    while let Some(event) = events.next().await {
        if let Ok(Some(_)) = event {
            progress.came(&title);
            return Ok(());
        }
    }
    Err(ApplyError::Watch(title))
}

/// Waits until an object is what it asks for.
async fn converged(target: &Target, manifest: &Manifest, progress: &Progress) -> Result<(), ApplyError> {
    let Target { api, title } = target;
    let mut events = pin!(watch_object(api.clone(), &manifest.name).default_backoff());
    while let Some(event) = events.next().await {
        let object = match event {
            Ok(Some(object)) => {
                serde_json::to_value(object).expect("what was read as JSON can be written as JSON")
            }
            Ok(None) => {
                progress.waiting(title, "is not there".to_owned());
                continue;
            }
            Err(error) => {
                progress.waiting(title, format!("cannot be watched: {error}"));
                continue;
            }
        };
        match convergence::progress(&manifest.kind.group, &manifest.kind.kind, &object) {
            convergence::Progress::Done => {
                progress.came(title);
                return Ok(());
            }
            convergence::Progress::Missing(what) => progress.waiting(title, what),
            convergence::Progress::Failed(why) => {
                return Err(ApplyError::Failed { object: title.clone(), why });
            }
        }
    }
    Err(ApplyError::Watch(title.clone()))
}
