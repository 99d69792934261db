//! Pods' networks by CNI plugins, for who has configured them: <https://www.cni.dev/docs/spec/>, versions 0.3.0 to 1.1.0.
//! Must never mix with the built-in network: a node has the one or the other.

mod cache;
mod configuration;
mod error;
mod plugin;
mod result;

use core::net::IpAddr;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::error::CniError;

use self::cache::{Cache, Entry};
use self::configuration::Configuration;
use self::plugin::{Command, Plugins};
use crate::model::PodAddresses;
use crate::names::POD_INTERFACE;
use crate::namespace;
use crate::network::AdoptedPod;

/// A port of the node that leads to a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    /// The port of the node.
    pub host_port: u16,
    /// The port of the pod.
    pub container_port: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// The node's address that has the port; all if none.
    #[serde(rename = "hostIP", skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
}

/// How fast a pod may send and receive, from its annotations; zero is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bandwidth {
    /// Bits a second into the pod.
    pub ingress_rate: u64,
    /// Bits into the pod at once.
    pub ingress_burst: u64,
    /// Bits a second out of the pod.
    pub egress_rate: u64,
    /// Bits out of the pod at once.
    pub egress_burst: u64,
}

/// A pod's sandbox, as plugins are told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// The sandbox.
    pub id: String,
    /// Its network namespace.
    pub namespace: PathBuf,
    /// The pod's namespace in the cluster.
    pub pod_namespace: String,
    /// The pod's name.
    pub pod_name: String,
    /// The pod's UID.
    pub pod_uid: String,
    /// For plugins with the capability `portMappings`.
    pub port_mappings: Vec<PortMapping>,
    /// For plugins with the capability `bandwidth`.
    pub bandwidth: Option<Bandwidth>,
}

/// Networks that plugins have made, which are removed as they were made, whatever is configured now.
#[derive(Debug)]
pub struct Networks {
    plugins: Plugins,
    cache: Cache,
}

/// The plugins that somebody has configured.
#[derive(Debug)]
pub struct Cni {
    path: PathBuf,
    configuration: Configuration,
    networks: Networks,
}

impl Cni {
    /// The first configuration of the directory by its file's name, usually of `/etc/cni/net.d`; none if there is none.
    ///
    /// Plugins are looked for in `plugin_dirs`, usually `/opt/cni/bin`; `cache_dir` keeps what has to be known to remove a
    /// pod's network, also after a restart.
    ///
    /// # Errors
    ///
    /// The configuration cannot be read or is wrong.
    pub fn find(
        configuration_dir: &Path,
        plugin_dirs: &[PathBuf],
        cache_dir: PathBuf,
    ) -> Result<Option<Self>, CniError> {
        let Some(path) = configuration::first(configuration_dir)? else { return Ok(None) };
        let configuration = Configuration::read(&path)?;
        let networks = Networks::open(plugin_dirs, cache_dir)?;
        Ok(Some(Self { path, configuration, networks }))
    }

    /// Names of the plugins, in their order.
    #[must_use]
    pub fn plugins(&self) -> Vec<&str> {
        self.configuration.plugins.iter().map(|plugin| plugin.kind.as_str()).collect()
    }

    /// The file with the configuration.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the pod a network, with all plugins one after the other. What a plugin did is undone if a later one fails.
    ///
    /// # Errors
    ///
    /// A plugin's error in its own words, or the plugin is not there.
    pub async fn attach(&self, sandbox: &Sandbox) -> Result<PodAddresses, CniError> {
        self.take_loopback_up(&sandbox.namespace).await?;
        let mut entry =
            Entry { sandbox: sandbox.clone(), configuration: self.configuration.clone(), result: None };
        self.networks.cache.write(&entry)?;
        let mut previous = None;
        for plugin in &self.configuration.plugins {
            match self.networks.run(Command::Add, plugin, &entry, previous.take()).await {
                Ok(result) => previous = Some(result),
                Err(error) => {
                    if let Err(error) = self.detach(&sandbox.id).await {
                        tracing::warn!(pod = sandbox.pod_name, %error, "a pod's half network cannot be removed yet");
                    }
                    return Err(error);
                }
            }
        }
        let result = previous.unwrap_or(Value::Null);
        let addresses = result::addresses(&result, POD_INTERFACE);
        entry.result = Some(result);
        self.networks.cache.write(&entry)?;
        addresses
    }

    /// Removes the pod's network, as [`Networks::detach`] does.
    ///
    /// # Errors
    ///
    /// A plugin's error in its own words; the pod's network counts as there then.
    pub async fn detach(&self, sandbox_id: &str) -> Result<(), CniError> {
        self.networks.detach(sandbox_id).await
    }

    /// Whether the pod's network is as the plugins left it; always, if the configuration says `disableCheck`.
    ///
    /// # Errors
    ///
    /// What a plugin found wrong, in its own words; or the pod has no network.
    pub async fn check(&self, sandbox_id: &str) -> Result<(), CniError> {
        let entry = self
            .networks
            .cache
            .read(sandbox_id)?
            .ok_or_else(|| CniError::Unknown { id: sandbox_id.to_owned() })?;
        if entry.configuration.disable_check || !entry.configuration.at_least(0, 4) {
            return Ok(());
        }
        for plugin in &entry.configuration.plugins {
            self.networks.run(Command::Check, plugin, &entry, entry.result.clone()).await?;
        }
        Ok(())
    }

    /// Whether the plugins can give networks now. Those of versions before 1.1 are only looked for.
    ///
    /// # Errors
    ///
    /// Why not, in a plugin's own words.
    pub async fn status(&self) -> Result<(), CniError> {
        for plugin in &self.configuration.plugins {
            if self.configuration.at_least(1, 1) {
                let input = self.configuration.input(plugin);
                self.networks.plugins.run(Command::Status, &plugin.kind, &input, &[]).await?;
            } else {
                self.networks.plugins.find(&plugin.kind)?;
            }
        }
        Ok(())
    }

    /// Removes the networks of all sandboxes but the living ones; tells whose.
    ///
    /// # Errors
    ///
    /// A plugin's error; what was removed until then stays removed.
    pub async fn collect(&self, living: &HashSet<String>) -> Result<Vec<String>, CniError> {
        let mut removed = Vec::new();
        for id in self.networks.cache.sandboxes()?.into_iter().filter(|id| !living.contains(id)) {
            self.detach(&id).await?;
            removed.push(id);
        }
        Ok(removed)
    }

    /// No plugin has to; containers expect it.
    async fn take_loopback_up(&self, path: &Path) -> Result<(), CniError> {
        let entering =
            |source| CniError::File { what: "entering the network namespace", path: path.to_owned(), source };
        let file = namespace::open(path).map_err(entering)?;
        let (socket, _changes) = namespace::connect(&file).await.map_err(entering)?;
        tokio::select! {
            () = socket.connection => Ok(()),
            outcome = socket.kernel.set_up("lo", None) => Ok(outcome?),
        }
    }
}

impl Networks {
    /// Those of which the directory knows; plugins are looked for in `plugin_dirs`.
    ///
    /// # Errors
    ///
    /// The directory cannot be used.
    pub fn open(plugin_dirs: &[PathBuf], cache_dir: PathBuf) -> Result<Self, CniError> {
        Ok(Self { plugins: Plugins { directories: plugin_dirs.to_vec() }, cache: Cache::open(cache_dir)? })
    }

    /// Sandboxes that have a network, or half of one.
    ///
    /// # Errors
    ///
    /// The directory cannot be read.
    pub fn attached(&self) -> Result<Vec<AdoptedPod>, CniError> {
        let mut pods = Vec::new();
        for pod_id in self.cache.sandboxes()? {
            let Some(entry) = self.cache.read(&pod_id)? else { continue };
            let found = entry.result.and_then(|result| result::addresses(&result, POD_INTERFACE).ok());
            let connected = found.is_some() && entry.sandbox.namespace.exists();
            let addresses = found.map(|pod| pod.addresses).unwrap_or_default();
            pods.push(AdoptedPod { pod_id, addresses, connected });
        }
        Ok(pods)
    }

    /// Removes the sandbox's network with the configuration that it was made with, in the reverse order. One that has none is
    /// no error.
    ///
    /// # Errors
    ///
    /// A plugin's error in its own words; the network counts as there then.
    pub async fn detach(&self, sandbox_id: &str) -> Result<(), CniError> {
        let Some(entry) = self.cache.read(sandbox_id)? else { return Ok(()) };
        for plugin in entry.configuration.plugins.iter().rev() {
            self.run(Command::Del, plugin, &entry, entry.result.clone()).await?;
        }
        self.cache.remove(sandbox_id)
    }

    async fn run(
        &self,
        command: Command,
        plugin: &configuration::Plugin,
        entry: &Entry,
        previous: Option<Value>,
    ) -> Result<Value, CniError> {
        let sandbox = &entry.sandbox;
        let mut input = entry.configuration.input(plugin);
        let mut capabilities = Map::new();
        if plugin.can("portMappings") && !sandbox.port_mappings.is_empty() {
            capabilities.insert("portMappings".to_owned(), json(&sandbox.port_mappings));
        }
        if plugin.can("bandwidth")
            && let Some(bandwidth) = &sandbox.bandwidth
        {
            capabilities.insert("bandwidth".to_owned(), json(bandwidth));
        }
        if !capabilities.is_empty() {
            input.insert("runtimeConfig".to_owned(), Value::Object(capabilities));
        }
        // Before 0.4 plugins were told only while adding.
        let tell = command == Command::Add || entry.configuration.at_least(0, 4);
        if let Some(previous) = previous.filter(|_| tell) {
            input.insert("prevResult".to_owned(), previous);
        }
        // Plugins that remove must not fail because the namespace went first.
        let gone = command == Command::Del && !sandbox.namespace.exists();
        let namespace = if gone { String::new() } else { sandbox.namespace.to_string_lossy().into_owned() };
        let arguments = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID={}",
            sandbox.pod_namespace, sandbox.pod_name, sandbox.id, sandbox.pod_uid
        );
        let environment = [
            ("CNI_CONTAINERID", sandbox.id.clone()),
            ("CNI_NETNS", namespace),
            ("CNI_IFNAME", POD_INTERFACE.to_owned()),
            ("CNI_ARGS", arguments),
        ];
        self.plugins.run(command, &plugin.kind, &input, &environment).await
    }
}

fn json<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).expect("plain structures have a JSON form")
}
