//! Who gives pods their networks: the built-in network, or the CNI plugins that somebody has configured for this machine. That is
//! decided once, when the agent begins; must never give one pod both.

mod plugins;
mod task;

use core::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use barque_network::cni::{CniError, Networks, Sandbox};
use barque_network::{AdoptedPod, Network, NetworkError};
use k8s_openapi::api::core::v1::Pod;

use crate::config::ContainerConfig;
use crate::containers::{name, namespace};
use crate::pods::spec;

pub(crate) use self::plugins::{Plugins, look};
pub(crate) use self::task::PluginsTask;

/// Why a pod has no network, or keeps it.
#[derive(Debug, thiserror::Error)]
pub enum PodNetworkError {
    /// The built-in network.
    #[error(transparent)]
    BuiltIn(#[from] NetworkError),
    /// Plugins.
    #[error(transparent)]
    Cni(#[from] CniError),
    /// Plugins that cannot be used.
    #[error("{0}")]
    NotReady(String),
}

/// Where plugins are looked for.
#[derive(Debug, Clone)]
pub struct PluginPlaces {
    /// Their configurations.
    pub configurations: PathBuf,
    /// Their programs.
    pub plugins: Vec<PathBuf>,
    /// The agent's directory.
    pub root: PathBuf,
}

/// The networks of this node's pods.
pub struct PodNetwork {
    built_in: Arc<Network>,
    /// What plugins have made, also before.
    networks: Networks,
    plugins: Option<Arc<Plugins>>,
}

/// Where is kept what has to be known to remove networks of plugins; it survives a boot, as what they keep does.
fn cache_directory(root: &Path) -> PathBuf {
    root.join("cni")
}

/// What plugins have made on a node with this configuration.
pub(crate) fn made_by_plugins(config: &ContainerConfig) -> Result<Networks, CniError> {
    Networks::open(&config.cni_bin_dirs, cache_directory(&config.root_dir))
}

impl PodNetwork {
    /// Looks once whether plugins are configured; if so, what they are may change later.
    ///
    /// # Errors
    /// When what plugins have made before is not known.
    pub async fn open(places: PluginPlaces, built_in: Arc<Network>) -> Result<Self, CniError> {
        let networks = Networks::open(&places.plugins, cache_directory(&places.root))?;
        let plugins = Plugins {
            configuration_dir: places.configurations,
            plugin_dirs: places.plugins,
            cache_dir: cache_directory(&places.root),
            current: parking_lot::RwLock::default(),
        };
        let plugins = plugins.reload().await.then(|| Arc::new(plugins));
        Ok(Self { built_in, networks, plugins })
    }

    /// The plugins, if it is they.
    pub(crate) fn plugins(&self) -> Option<Arc<Plugins>> {
        self.plugins.clone()
    }

    /// Why no pod can have a network now.
    pub(crate) fn problem(&self) -> Option<String> {
        match &self.plugins {
            Some(plugins) => plugins.problem(),
            None => self.built_in.problem(),
        }
    }

    /// The pods that an earlier process gave their network, however.
    pub(crate) async fn adopt(&self) -> Result<Vec<AdoptedPod>, PodNetworkError> {
        let mut pods = self.built_in.adopt().await?;
        pods.extend(self.networks.attached()?);
        Ok(pods)
    }

    /// Gives the pod a network in this namespace; its addresses.
    pub(crate) async fn attach(&self, pod: &Pod, path: &Path) -> Result<Vec<IpAddr>, PodNetworkError> {
        let uid = spec::uid(pod);
        let Some(plugins) = &self.plugins else {
            let owner = format!("{}/{}", namespace(pod), name(pod));
            return Ok(self.built_in.attach(uid, path, &owner).await?.addresses);
        };
        let sandbox = Sandbox {
            id: uid.to_owned(),
            namespace: path.to_owned(),
            pod_namespace: namespace(pod).to_owned(),
            pod_name: name(pod).to_owned(),
            pod_uid: uid.to_owned(),
            // The node's own rules lead ports of hosts to pods, whoever made their networks.
            port_mappings: Vec::new(),
            bandwidth: plugins::bandwidth(pod),
        };
        let cni = plugins.usable().map_err(PodNetworkError::NotReady)?;
        Ok(cni.attach(&sandbox).await?.addresses)
    }

    /// Takes the pod's network away, whoever gave it. A pod that has none is no error.
    pub(crate) async fn detach(&self, uid: &str) -> Result<(), PodNetworkError> {
        self.networks.detach(uid).await?;
        Ok(self.built_in.detach(uid).await?)
    }
}
