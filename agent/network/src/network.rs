//! The network of one node: it gives pods their links and keeps the ways to other nodes' pods. Must never touch what it
//! did not make.

use core::net::IpAddr;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path as FilePath, PathBuf};

use barque_api::ip::Cidr;
use parking_lot::Mutex;
use tokio::sync::RwLock;
use tokio_util::task::AbortOnDropHandle;

use crate::addresses::Addresses;
use crate::error::{NetworkError, story};
use crate::kernel::{Kernel, Socket};
use crate::model::{
    Action, Backend, Desired, Kind, Neighbour, Outer, Path, Peer, Pod, PodAddresses, Route, single,
};
use crate::names::{OVERLAY, POD_INTERFACE, PodLink, pod_link};
use crate::records::{Record, Records};
use crate::{plan, pod, sysctl};

/// The loopback interface.
const LOOPBACK: &str = "lo";

/// What the network of a node is told once.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the pods' addresses are written; best on a file system that is empty after a boot, as the pods are gone too.
    pub state_dir: PathBuf,
    /// The node's own addresses, the one that other nodes know first.
    pub addresses: Vec<IpAddr>,
    /// The largest packet of a pod in bytes; if none, what the interface with the node's address takes, less the
    /// overlay's share.
    pub mtu: Option<u32>,
    /// How packets reach pods of other nodes.
    pub backend: Backend,
}

/// A pod that an earlier process of the agent gave its network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdoptedPod {
    /// The pod.
    pub pod_id: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Whether its link is there; without it the pod has no network until it is attached again.
    pub connected: bool,
}

/// The network of one node, in the network namespace of the thread that opened it.
///
/// Calls for one pod must not overlap, all others may.
#[derive(Debug)]
pub struct Network {
    settings: Settings,
    kernel: Kernel,
    records: Records,
    state: Mutex<State>,
    /// A pass over everything must not see a pod that is half attached; pods do not hinder each other.
    passes: RwLock<()>,
    _connection: AbortOnDropHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    addresses: Addresses,
    pod_networks: Vec<Cidr>,
    peers: Vec<Peer>,
    /// By the names of their links.
    pods: BTreeMap<String, Record>,
    /// The interface with the node's address, as the last pass found it.
    outer: Option<Outer>,
    problem: Option<String>,
}

impl Network {
    /// Opens the network in the calling thread's network namespace and reads which pods have which addresses. Nothing is
    /// changed until the node's pod networks are known.
    ///
    /// # Errors
    ///
    /// The state directory cannot be used, or the kernel gives no socket.
    pub fn open(settings: Settings) -> Result<Self, NetworkError> {
        let (records, found) = Records::open(settings.state_dir.join("pods"))?;
        let Socket { connection, kernel } = Socket::open().map_err(|source| NetworkError::Kernel {
            what: "opening a socket to the kernel's network".to_owned(),
            source,
        })?;
        let mut state = State::default();
        for record in found {
            state.addresses.claim(&record.addresses);
            state.pods.insert(pod_link(&record.pod_id).name, record);
        }
        Ok(Self {
            settings,
            kernel,
            records,
            state: Mutex::new(state),
            passes: RwLock::new(()),
            _connection: AbortOnDropHandle::new(tokio::spawn(connection)),
        })
    }

    /// The pods that an earlier process gave their network.
    ///
    /// # Errors
    ///
    /// The kernel does not tell.
    pub async fn adopt(&self) -> Result<Vec<AdoptedPod>, NetworkError> {
        let _pass = self.passes.write().await;
        let observed = self.kernel.observe().await?;
        let state = self.state.lock();
        let pods = state.pods.iter().map(|(link, record)| AdoptedPod {
            pod_id: record.pod_id.clone(),
            addresses: record.addresses.clone(),
            connected: observed.links.get(link).is_some_and(|link| link.kind == Kind::Veth),
        });
        Ok(pods.collect())
    }

    /// The node's pod networks, at most one per family, from `spec.podCIDRs`. Pods keep the addresses that they have.
    ///
    /// # Errors
    ///
    /// A network is of no use, or something could not be set up; that is tried again with the next pass.
    pub async fn set_node(&self, pod_networks: &[Cidr]) -> Result<(), NetworkError> {
        let networks: Vec<Cidr> = pod_networks.iter().map(|network| network.network()).collect();
        for (index, network) in networks.iter().enumerate() {
            let bits = if network.address.is_ipv4() { 32 } else { 128 };
            let problem = if network.prefix > bits - 2 {
                "has no room for a pod; give nodes networks of at least four addresses"
            } else if networks[..index]
                .iter()
                .any(|other| other.address.is_ipv4() == network.address.is_ipv4())
            {
                "is the second one of its family; a node has one of each"
            } else {
                continue;
            };
            return Err(NetworkError::PodNetwork { network: *network, problem });
        }
        {
            let mut state = self.state.lock();
            state.addresses.set_networks(&networks);
            state.pod_networks = networks;
        }
        self.repair().await
    }

    /// All other nodes that have a pod network.
    ///
    /// # Errors
    ///
    /// Something could not be set up; that is tried again with the next pass.
    pub async fn set_peers(&self, mut peers: Vec<Peer>) -> Result<(), NetworkError> {
        // Of two nodes with the same network always the same one has it.
        peers.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        {
            let mut state = self.state.lock();
            if state.peers == peers && state.problem.is_none() {
                return Ok(());
            }
            state.peers = peers;
        }
        self.repair().await
    }

    /// Gives the pod a network: an interface `eth0` with its addresses in the namespace, and the way to it. A pod that has
    /// one keeps it, and what is missing of it is added; in another namespace it has the same addresses.
    ///
    /// `pod_id` names the pod's sandbox, `description` tells people whose link it is, such as `namespace/name`.
    ///
    /// # Errors
    ///
    /// There is no pod network yet, its addresses are all in use, or the kernel refuses. Nothing is left behind that
    /// [`Network::detach`] would not remove.
    pub async fn attach(
        &self,
        pod_id: &str,
        namespace: &FilePath,
        description: &str,
    ) -> Result<PodAddresses, NetworkError> {
        let _pass = self.passes.read().await;
        let link = pod_link(pod_id);
        if !self.state.lock().addresses.has_networks() {
            return Err(NetworkError::NoPodNetwork);
        }
        let known = self.state.lock().outer.clone();
        let outer = match known {
            Some(outer) => outer,
            None => self.outer().await?,
        };
        let mtu = self.mtu_within(&outer);
        let (addresses, new) = {
            let mut state = self.state.lock();
            match state.pods.get(&link.name) {
                Some(record) => (record.addresses.clone(), false),
                None => {
                    let taken =
                        state.addresses.take().map_err(|network| NetworkError::Exhausted { network })?;
                    (taken, true)
                }
            }
        };
        if new {
            let record = Record {
                pod_id: pod_id.to_owned(),
                addresses: addresses.clone(),
                description: description.to_owned(),
            };
            // Before the pod can have them, so that no crash gives them to another one.
            let written = self.records.write(&record);
            let mut state = self.state.lock();
            if let Err(error) = written {
                state.addresses.release(&addresses);
                return Err(error);
            }
            state.pods.insert(link.name.clone(), record);
        }
        let node_side = self.connect_node(&link, &addresses, description);
        pod::connect(&self.kernel, namespace, &link, &addresses, mtu, node_side).await?;
        tracing::debug!(pod = description, link = link.name, ?addresses, "a pod has a network");
        Ok(PodAddresses {
            gateways: addresses.iter().map(|address| pod::gateway(*address)).collect(),
            addresses,
            mtu: Some(mtu),
            interface: POD_INTERFACE.to_owned(),
        })
    }

    /// The node's side of a pod's link.
    async fn connect_node(
        &self,
        link: &PodLink,
        addresses: &[IpAddr],
        description: &str,
    ) -> Result<(), NetworkError> {
        let name = &link.name;
        self.kernel.act(&Action::SetAlias { name: name.clone(), alias: alias(description) }).await?;
        self.kernel.set_up(name, None).await?;
        for address in addresses {
            let neighbour = Neighbour { device: name.clone(), address: *address, mac: link.pod_mac };
            self.kernel.set_neighbour(&neighbour).await?;
            let source =
                self.settings.addresses.iter().copied().find(|own| own.is_ipv4() == address.is_ipv4());
            let path = Path::Direct { device: name.clone(), source };
            let route = Route { destination: single(*address), path };
            match self.kernel.add_route(&route, false).await {
                Err(NetworkError::ForeignRoute { .. }) => self.replace_route(&route).await?,
                outcome => outcome?,
            }
        }
        Ok(())
    }

    /// Adds a route in the place of one of the crate's own.
    async fn replace_route(&self, route: &Route) -> Result<(), NetworkError> {
        let observed = self.kernel.observe().await?;
        if observed.routes.contains(route) {
            return Ok(());
        }
        for old in observed.routes.into_iter().filter(|old| old.destination == route.destination) {
            self.kernel.act(&Action::DeleteRoute(old)).await?;
        }
        self.kernel.add_route(route, false).await
    }

    /// Takes the pod's network away; its addresses are free again. A pod that has none is no error.
    ///
    /// # Errors
    ///
    /// The kernel or the state directory refuses; the addresses stay taken then.
    pub async fn detach(&self, pod_id: &str) -> Result<(), NetworkError> {
        let _pass = self.passes.read().await;
        self.remove(pod_id).await
    }

    async fn remove(&self, pod_id: &str) -> Result<(), NetworkError> {
        let name = pod_link(pod_id).name;
        // Routes and neighbours go with the link.
        self.kernel.delete_link(&name).await?;
        self.records.remove(pod_id)?;
        let mut state = self.state.lock();
        if let Some(record) = state.pods.remove(&name) {
            state.addresses.release(&record.addresses);
        }
        Ok(())
    }

    /// Removes the networks of all pods but the living ones, and links of pods that nobody knows; tells whose.
    ///
    /// # Errors
    ///
    /// The kernel or the state directory refuses; what was removed until then stays removed.
    pub async fn collect(&self, living: &HashSet<String>) -> Result<Vec<String>, NetworkError> {
        let mut removed = Vec::new();
        {
            let _pass = self.passes.write().await;
            let known: Vec<String> =
                self.state.lock().pods.values().map(|record| record.pod_id.clone()).collect();
            for pod_id in known.into_iter().filter(|pod_id| !living.contains(pod_id)) {
                self.remove(&pod_id).await?;
                removed.push(pod_id);
            }
        }
        self.repair().await?;
        Ok(removed)
    }

    /// One pass: whatever differs from what should be is put right. The changes of pods need none; it is for what others
    /// have changed, and for the node and its peers.
    ///
    /// # Errors
    ///
    /// The first thing that could not be done; the rest is done all the same. [`Network::problem`] tells all.
    pub async fn repair(&self) -> Result<(), NetworkError> {
        let _pass = self.passes.write().await;
        let outcome = self.pass().await;
        let mut state = self.state.lock();
        match outcome {
            Ok((problems, error)) => {
                state.problem = (!problems.is_empty()).then(|| problems.join("; "));
                error.map_or(Ok(()), Err)
            }
            Err(error) => {
                state.problem = Some(story(&error));
                Err(error)
            }
        }
    }

    async fn pass(&self) -> Result<(Vec<String>, Option<NetworkError>), NetworkError> {
        let desired = self.desired().await?;
        let observed = self.kernel.observe().await?;
        let mut problems = plan::target(&desired).problems;
        let mut first = None;
        if desired.pod_networks.is_empty() {
            problems.push(story(&NetworkError::NoPodNetwork));
        }
        for action in plan::plan(&desired, &observed) {
            match self.kernel.act(&action).await {
                Ok(()) => tracing::info!(?action, "the node's network was changed"),
                Err(error) => {
                    problems.push(story(&error));
                    first.get_or_insert(error);
                }
            }
        }
        for link in plan::lost(&desired, &observed) {
            if let Some(pod) = desired.pods.get(link) {
                problems.push(format!(
                    "the link {link} of {} is gone; the pod has no network until it is started anew",
                    pod.alias
                ));
            }
        }
        problems.extend(self.settle(&desired));
        Ok((problems, first))
    }

    /// Writes the kernel's settings; tells what could not be written.
    fn settle(&self, desired: &Desired) -> Vec<String> {
        let has = |v4: bool| desired.pod_networks.iter().any(|network| network.address.is_ipv4() == v4);
        let outer = desired.outer.as_ref().map(|outer| outer.name.as_str());
        let overlay =
            (desired.backend == Backend::Vxlan && !desired.pod_networks.is_empty()).then_some(OVERLAY);
        let devices: Vec<&str> = outer.into_iter().chain(overlay).collect();
        let mut problems = Vec::new();
        for setting in sysctl::plan(has(true), has(false), outer, &devices, sysctl::read) {
            match sysctl::write(&setting) {
                Ok(()) => tracing::info!(
                    setting = setting.name,
                    value = setting.value,
                    why = setting.why,
                    "a setting of the kernel was changed"
                ),
                Err(error) => {
                    problems.push(format!(
                        "{} cannot be set to {}: {error}",
                        setting.name.replace('/', "."),
                        setting.value
                    ));
                }
            }
        }
        problems
    }

    async fn desired(&self) -> Result<Desired, NetworkError> {
        let has_networks = self.state.lock().addresses.has_networks();
        let outer = if has_networks { Some(self.outer().await?) } else { None };
        let mtu = outer.as_ref().map_or(0, |outer| self.mtu_within(outer));
        let mut state = self.state.lock();
        state.outer.clone_from(&outer);
        let pods = state.pods.iter().map(|(name, record)| {
            let pod = Pod {
                addresses: record.addresses.clone(),
                mac: pod_link(&record.pod_id).pod_mac,
                alias: alias(&record.description),
            };
            (name.clone(), pod)
        });
        Ok(Desired {
            backend: self.settings.backend,
            addresses: self.settings.addresses.clone(),
            outer,
            mtu,
            pod_networks: state.pod_networks.clone(),
            peers: state.peers.clone(),
            pods: pods.collect(),
        })
    }

    /// The interface that has the node's first address.
    async fn outer(&self) -> Result<Outer, NetworkError> {
        let address = self.settings.addresses.first().copied().ok_or(NetworkError::NoNodeAddress)?;
        self.kernel.outer(address).await?.ok_or(NetworkError::NoInterface { address })
    }

    fn mtu_within(&self, outer: &Outer) -> u32 {
        let overhead = match (self.settings.backend, self.settings.addresses.first()) {
            (Backend::Vxlan, Some(address)) => plan::overhead(*address),
            _ => 0,
        };
        self.settings.mtu.unwrap_or_else(|| outer.mtu.saturating_sub(overhead))
    }

    /// The node answers to this address too, on its loopback interface: that of something that every node has, such as a
    /// resolver. Safe to repeat.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub async fn add_local_address(&self, address: IpAddr) -> Result<(), NetworkError> {
        self.kernel.add_address(LOOPBACK, address).await
    }

    /// The node does not answer to this address any more; that it never did is no error.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub async fn remove_local_address(&self, address: IpAddr) -> Result<(), NetworkError> {
        let known = self.kernel.observe().await?;
        let own = known.links.get(LOOPBACK).map(|link| &link.addresses);
        if own.is_some_and(|own| own.contains(&single(address))) {
            let name = LOOPBACK.to_owned();
            self.kernel.act(&Action::DeleteAddress { name, address: single(address) }).await?;
        }
        Ok(())
    }

    /// Removes everything that the network made but the kernel's settings: pods' links, the overlay, routes and records.
    ///
    /// # Errors
    ///
    /// The first thing that could not be removed; the rest is removed all the same.
    pub async fn cleanup(&self) -> Result<(), NetworkError> {
        let _pass = self.passes.write().await;
        let mut first = None;
        let observed = self.kernel.observe().await?;
        for action in plan::plan(&Desired::default(), &observed) {
            if let Err(error) = self.kernel.act(&action).await {
                first.get_or_insert(error);
            }
        }
        let known: Vec<String> =
            self.state.lock().pods.values().map(|record| record.pod_id.clone()).collect();
        for pod_id in known {
            if let Err(error) = self.remove(&pod_id).await {
                first.get_or_insert(error);
            }
        }
        first.map_or(Ok(()), Err)
    }

    /// What keeps pods from being reached, in a sentence for the node's condition; none if all is well.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.state.lock().problem.clone()
    }
}

/// What a pod's link is called for people; the kernel takes 255 bytes.
fn alias(description: &str) -> String {
    let text = format!("barque pod {description}");
    text.chars().take(63).collect()
}

#[cfg(test)]
mod tests {
    use barque_api::ip::parse_cidr;

    use super::*;
    use crate::{check, namespace};

    #[tokio::test]
    async fn after_a_pass_the_kernel_has_what_was_planned_and_a_second_pass_has_nothing_to_do() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let state_dir = directory.path().to_owned();
        // The settings are those of the thread's namespace, so the whole test is in one thread.
        let test = move || {
            check::enter_new_namespace()?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(passes(state_dir));
            Ok(())
        };
        namespace::in_thread(test).await.unwrap();
    }

    async fn passes(state_dir: PathBuf) {
        let node: IpAddr = "192.0.2.1".parse().unwrap();
        let settings = Settings { state_dir, addresses: vec![node], mtu: None, backend: Backend::Vxlan };
        let network = Network::open(settings).unwrap();
        network.kernel.create_veth("outer", "fabric").await.unwrap();
        network.kernel.add_address("outer", node).await.unwrap();
        for link in ["outer", "fabric"] {
            network.kernel.set_up(link, None).await.unwrap();
        }
        network
            .set_node(&[parse_cidr("10.1.1.0/24").unwrap(), parse_cidr("fd00:1::/64").unwrap()])
            .await
            .unwrap();
        let peers = (2..5).map(|number| Peer {
            name: format!("node-{number}"),
            addresses: vec![IpAddr::from([192, 0, 2, number])],
            pod_networks: vec![
                parse_cidr(&format!("10.1.{number}.0/24")).unwrap(),
                parse_cidr(&format!("fd00:{number}::/64")).unwrap(),
            ],
        });
        network.set_peers(peers.collect()).await.unwrap();
        assert_eq!(network.problem(), None);
        let observed = network.kernel.observe().await.unwrap();
        assert_eq!((observed.routes.len(), observed.neighbours.len(), observed.forwards.len()), (8, 6, 3));
        let desired = network.desired().await.unwrap();
        assert_eq!(plan::plan(&desired, &observed), []);
        assert_eq!(sysctl::plan(true, true, Some("outer"), &["outer"], sysctl::read), []);
        network.cleanup().await.unwrap();
        let observed = network.kernel.observe().await.unwrap();
        assert!(observed.routes.is_empty() && !observed.links.contains_key(OVERLAY), "{observed:?}");
    }
}
