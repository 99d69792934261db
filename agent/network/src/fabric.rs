//! Machines inside one machine: a bridge, and a network namespace on it for each. Must never touch a link or a namespace that
//! was not named to it.
//!
//! Namespaces are where `ip netns` looks for them, so that people find them with the usual programs.

use core::net::{IpAddr, Ipv4Addr};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path as FilePath;
use std::time::Duration;

use barque_api::ip::Cidr;
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use tokio_util::task::AbortOnDropHandle;

use crate::error::NetworkError;
use crate::kernel::{Changes, Kernel, Socket};
use crate::model::{Path, Route};
use crate::{check, namespace, pod};

/// A machine's interface inside.
const INTERFACE: &str = "eth0";
/// How long the kernel may take to notice that both ends of a link are up.
const NOTICE: Duration = Duration::from_secs(10);

/// The links of one network namespace, as the kernel has them.
#[derive(Debug)]
pub struct Fabric {
    kernel: Kernel,
    _connection: AbortOnDropHandle<()>,
}

/// A machine on the bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine<'a> {
    /// The bridge.
    pub bridge: &'a str,
    /// The link's name on this side.
    pub link: &'a str,
    /// Its namespace.
    pub namespace: &'a FilePath,
    /// Its address, with the network of all machines.
    pub address: Cidr,
    /// Where what is for nobody on the bridge goes.
    pub gateway: IpAddr,
}

impl Fabric {
    /// Opens the network namespace of the calling thread, within a runtime.
    ///
    /// # Errors
    /// When the kernel does not let us.
    pub fn open() -> io::Result<Self> {
        let Socket { connection, kernel } = Socket::open()?;
        Ok(Self { kernel, _connection: AbortOnDropHandle::new(tokio::spawn(connection)) })
    }

    /// The networks of IPv4 that have a route here, but for the default one.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub async fn networks(&self) -> Result<Vec<Cidr>, NetworkError> {
        self.kernel.networks().await
    }

    /// Whether there is a link of this name.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub async fn has_link(&self, name: &str) -> Result<bool, NetworkError> {
        Ok(self.kernel.link(name).await?.is_some())
    }

    /// Adds a bridge with an address, and takes it up.
    ///
    /// # Errors
    /// When there is such a link, or the kernel does not let us.
    pub async fn add_bridge(&self, name: &str, address: Cidr) -> Result<(), NetworkError> {
        self.kernel.create_bridge(name).await?;
        self.kernel.add_network_address(name, address).await?;
        self.kernel.set_up(name, None).await
    }

    /// Gives a machine, whose namespace is there, its link to the bridge, its address and its way to everybody; comes back when
    /// packets can go by the link.
    ///
    /// # Errors
    /// When it has a link already, or the kernel does not let us.
    pub async fn add_machine(&self, machine: &Machine<'_>) -> Result<(), NetworkError> {
        let entering = |source: io::Error| NetworkError::Kernel {
            what: format!("entering the network namespace {}", machine.namespace.display()),
            source,
        };
        let inside = namespace::open(machine.namespace).map_err(entering)?;
        let (Socket { connection, kernel }, changes) = namespace::connect(&inside).await.map_err(entering)?;
        tokio::select! {
            () = connection => Err(entering(io::Error::other("the socket closed"))),
            outcome = self.configure(&kernel, &inside, changes, machine) => outcome,
        }
    }

    async fn configure(
        &self,
        inside: &Kernel,
        namespace: &File,
        changes: Changes,
        machine: &Machine<'_>,
    ) -> Result<(), NetworkError> {
        self.kernel.create_link_into(machine.link, INTERFACE, namespace.as_fd()).await?;
        self.kernel.set_bridge(machine.link, machine.bridge).await?;
        self.kernel.set_up(machine.link, None).await?;
        inside.set_up("lo", None).await?;
        inside.add_network_address(INTERFACE, machine.address).await?;
        inside.set_up(INTERFACE, None).await?;
        let everything = Cidr { address: Ipv4Addr::UNSPECIFIED.into(), prefix: 0 };
        let path = Path::Gateway { device: INTERFACE.to_owned(), gateway: machine.gateway, onlink: false };
        inside.add_static_route(&Route { destination: everything, path }).await?;
        let running = tokio::time::timeout(NOTICE, pod::wait_until_running(inside, INTERFACE, changes));
        running.await.unwrap_or_else(|elapsed| {
            let what = format!("waiting for the link {} to come up", machine.link);
            Err(NetworkError::Kernel { what, source: elapsed.into() })
        })
    }

    /// Lets packets go by a link, or not: what a pulled cable does.
    ///
    /// # Errors
    /// When there is no such link, or the kernel does not let us.
    pub async fn set_connected(&self, link: &str, is_connected: bool) -> Result<(), NetworkError> {
        if is_connected { self.kernel.set_up(link, None).await } else { self.kernel.set_down(link).await }
    }

    /// Removes a link, with its other end, if it is there.
    ///
    /// # Errors
    /// When the kernel does not let us.
    pub async fn remove_link(&self, name: &str) -> Result<(), NetworkError> {
        self.kernel.delete_link(name).await
    }
}

/// Gives a machine, by its namespace, a way to a network by another machine of the bridge; what the way was before is gone.
///
/// # Errors
/// When there is no such namespace, or the kernel does not let us.
pub async fn add_way(machine: &FilePath, network: Cidr, by: IpAddr) -> Result<(), NetworkError> {
    let entering = |source: io::Error| NetworkError::Kernel {
        what: format!("entering the network namespace {}", machine.display()),
        source,
    };
    let namespace = namespace::open(machine).map_err(entering)?;
    let (Socket { connection, kernel }, _) = namespace::connect(&namespace).await.map_err(entering)?;
    let path = Path::Gateway { device: INTERFACE.to_owned(), gateway: by, onlink: false };
    let route = Route { destination: network, path };
    tokio::select! {
        () = connection => Err(entering(io::Error::other("the socket closed"))),
        outcome = kernel.add_static_route(&route) => outcome,
    }
}

/// Makes a network namespace that lasts, and that this path names.
///
/// # Errors
/// When the path is there already, or the kernel does not let us.
pub async fn add_namespace(path: &FilePath) -> io::Result<()> {
    let path = path.to_owned();
    namespace::in_thread(move || {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        File::create_new(&path)?;
        let made =
            check::enter_new_namespace().and_then(|()| Ok(mount_bind("/proc/thread-self/ns/net", &path)?));
        if made.is_err() {
            fs::remove_file(&path)?;
        }
        made
    })
    .await
}

/// Removes a network namespace, if it is there; it ends with the last process in it.
///
/// # Errors
/// When the system does not let us.
pub fn remove_namespace(path: &FilePath) -> io::Result<()> {
    use rustix::io::Errno;
    match unmount(path, UnmountFlags::DETACH) {
        // Nothing was mounted there, or there is nothing.
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
