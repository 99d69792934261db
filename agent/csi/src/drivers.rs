//! The drivers of the node: each puts a socket into a directory, is asked who it is, and is told that it was taken; it is there as
//! long as its socket is. Must never keep a driver waiting for another.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::directory::{Directory, Socket};
use crate::driver::{Driver, DriverError, NodeInfo, Plugin};
use crate::registration::PluginInfo;

/// The type of plugins that are drivers of volumes.
const DRIVER: &str = "CSIPlugin";

/// Before a plugin that does not answer is tried again; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A driver that was taken.
#[derive(Clone, Debug)]
pub struct Registered {
    /// Its name, as classes and volumes name it.
    pub name: String,
    /// What it says of the node.
    pub node: NodeInfo,
    /// How it is asked.
    pub driver: Driver,
}

/// Why a plugin was not taken.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Driver(#[from] DriverError),
    #[error("plugins of type {0:?} are not known here; {DRIVER} is")]
    Type(String),
    #[error("the name {0:?} is that of no driver")]
    Name(String),
    #[error("it speaks {0}, and not version 1 of CSI")]
    Version(String),
    #[error("it has no name for this node")]
    NodeId,
}

/// See the module's description. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Drivers(Arc<watch::Sender<BTreeMap<String, Arc<Registered>>>>);

impl Default for Drivers {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(BTreeMap::new())))
    }
}

impl Drivers {
    /// The driver with this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<Arc<Registered>> {
        self.0.borrow().get(name).cloned()
    }

    /// All of them by name, now and whenever one comes or goes.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<BTreeMap<String, Arc<Registered>>> {
        self.0.subscribe()
    }

    /// Takes drivers whose sockets are in a directory, until `stop`.
    ///
    /// # Errors
    /// When the directory cannot be watched.
    pub fn run(
        &self,
        directory: &Path,
        stop: CancellationToken,
    ) -> io::Result<impl Future<Output = ()> + use<>> {
        let directory = Directory::watch(directory)?;
        let drivers = self.clone();
        Ok(async move {
            drivers.follow_directory(directory, &stop).await;
        })
    }

    async fn follow_directory(&self, directory: Directory, stop: &CancellationToken) {
        let mut known: BTreeMap<Socket, Known> = BTreeMap::new();
        let mut asked = JoinSet::new();
        loop {
            let there = match directory.sockets() {
                Ok(there) => there,
                Err(error) => {
                    tracing::warn!("drivers of volumes cannot be looked for: {error}");
                    Vec::new()
                }
            };
            known.retain(|socket, known| {
                let stays = there.contains(socket);
                match known {
                    Known::Asked(asked) if !stays => asked.abort(),
                    Known::Taken(name) if !stays => {
                        tracing::info!(driver = name, "a driver of volumes has gone");
                        self.0.send_modify(|all| drop(all.remove(name)));
                    }
                    _ => {}
                }
                stays
            });
            for socket in there {
                if !known.contains_key(&socket) {
                    let key = socket.clone();
                    let asks = asked.spawn(async move { (take(&socket.path).await, socket) });
                    known.insert(key, Known::Asked(asks));
                }
            }
            tokio::select! {
                () = stop.cancelled() => break,
                changed = directory.changed() => if let Err(error) = changed {
                    tracing::error!("the directory of drivers cannot be followed any more: {error}");
                    stop.cancelled().await;
                    break;
                },
                Some(done) = asked.join_next() => if let Ok((taken, socket)) = done { match taken {
                    Ok(registered) => if let Some(known) = known.get_mut(&socket) {
                        tracing::info!(driver = registered.name, "a driver of volumes is there");
                        *known = Known::Taken(registered.name.clone());
                        let entry = (registered.name.clone(), Arc::new(registered));
                        self.0.send_modify(|all| all.extend([entry]));
                    },
                    Err(why) => tracing::warn!(socket = %socket.path.display(), "a plugin is not taken: {why}"),
                } },
            }
        }
        asked.shutdown().await;
    }
}

/// What came of a socket.
enum Known {
    /// Nothing yet, or it was not taken.
    Asked(AbortHandle),
    /// The driver.
    Taken(String),
}

/// Connects to a plugin. Its socket is there before it listens.
async fn reach(socket: &Path) -> Plugin {
    let mut wait = FIRST_WAIT;
    loop {
        match Plugin::connect(socket).await {
            Ok(plugin) => return plugin,
            Err(why) => tracing::debug!(socket = %socket.display(), "a plugin does not answer yet: {why}"),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Asks a plugin who it is, and tells it what came of that.
async fn take(socket: &Path) -> Result<Registered, Refusal> {
    let mut plugin = reach(socket).await;
    let info = plugin.info().await?;
    let taken = driver(info, socket).await;
    plugin.tell(taken.as_ref().err().map(ToString::to_string)).await?;
    taken
}

async fn driver(info: PluginInfo, socket: &Path) -> Result<Registered, Refusal> {
    let name = judged(&info)?.to_owned();
    let endpoint = match info.endpoint.as_str() {
        "" => socket.to_owned(),
        endpoint => PathBuf::from(endpoint.strip_prefix("unix://").unwrap_or(endpoint)),
    };
    let driver = Driver::connect(&endpoint).await?;
    let node = driver.node_info().await?;
    if node.node_id.is_empty() {
        return Err(Refusal::NodeId);
    }
    Ok(Registered { name, node, driver })
}

/// The name of a driver that can be taken.
fn judged(info: &PluginInfo) -> Result<&str, Refusal> {
    if info.r#type != DRIVER {
        return Err(Refusal::Type(info.r#type.clone()));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || ['-', '.'].contains(&c);
    let name = &info.name;
    if name.is_empty() || name.len() > 63 || !name.chars().all(plain) || name.starts_with(['-', '.']) {
        return Err(Refusal::Name(name.clone()));
    }
    let is_one = |version: &String| {
        let version = version.strip_prefix('v').unwrap_or(version);
        version.split('.').next() == Some("1")
    };
    if !info.supported_versions.iter().any(is_one) {
        return Err(Refusal::Version(info.supported_versions.join(", ")));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_of_version_one_are_taken() {
        let info = |kind: &str, name: &str, version: &str| PluginInfo {
            r#type: kind.into(),
            name: name.into(),
            endpoint: String::new(),
            supported_versions: vec![version.into()],
        };
        let told = |info: &PluginInfo| judged(info).map(str::to_owned).map_err(|why| why.to_string());
        assert_eq!(
            told(&info("CSIPlugin", "hostpath.csi.k8s.io", "1.0.0")),
            Ok("hostpath.csi.k8s.io".into())
        );
        assert_eq!(told(&info("CSIPlugin", "a", "v1.9.0")), Ok("a".into()));
        let table = [
            (
                info("DRAPlugin", "a", "1.0.0"),
                "plugins of type \"DRAPlugin\" are not known here; CSIPlugin is",
            ),
            (info("CSIPlugin", "../a", "1.0.0"), "the name \"../a\" is that of no driver"),
            (info("CSIPlugin", "a", "0.3.0"), "it speaks 0.3.0, and not version 1 of CSI"),
        ];
        for (info, why) in table {
            assert_eq!(told(&info), Err(why.to_owned()));
        }
    }
}
