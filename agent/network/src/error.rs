//! What can go wrong, in words for who runs the node. Must never hide the cause.

use core::net::IpAddr;
use std::error::Error;
use std::io;
use std::path::PathBuf;

use barque_api::ip::Cidr;

/// Why the network could not do something.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The kernel refused something.
    #[error("{what}")]
    Kernel {
        /// What was tried.
        what: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A file of the state directory cannot be read or written.
    #[error("{what} {path}")]
    File {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The cluster has not given the node a pod network yet.
    #[error(
        "the node has no pod network yet: its spec.podCIDRs is empty; is a controller manager running that gives nodes their networks?"
    )]
    NoPodNetwork,
    /// A pod network is of no use.
    #[error("the pod network {network} {problem}")]
    PodNetwork {
        /// The network.
        network: Cidr,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// All addresses are in use.
    #[error(
        "all addresses of the pod network {network} are in use; give nodes larger pod networks, or fewer pods"
    )]
    Exhausted {
        /// The network that is used up.
        network: Cidr,
    },
    /// The namespace has an interface of this name that the network did not make.
    #[error(
        "the network namespace {namespace} has an interface {interface} already, which is not this pod's"
    )]
    Occupied {
        /// The namespace.
        namespace: PathBuf,
        /// The interface.
        interface: &'static str,
    },
    /// Somebody else has a route to a network that the node needs one to.
    #[error("a route to {destination} exists that is not Barque's; remove it")]
    ForeignRoute {
        /// The network.
        destination: Cidr,
    },
    /// The settings name no address of the node.
    #[error("the node has no address; name one with --node-ip")]
    NoNodeAddress,
    /// No interface has the node's address.
    #[error("no interface has the node's address {address}; name one that an interface has with --node-ip")]
    NoInterface {
        /// The address.
        address: IpAddr,
    },
    /// Somebody else has a link of this name.
    #[error("a link {name} exists that is not Barque's; remove or rename it")]
    ForeignLink {
        /// The link.
        name: String,
    },
}

impl NetworkError {
    pub(crate) fn kernel(what: impl Into<String>, source: rtnetlink::Error) -> Self {
        Self::Kernel { what: what.into(), source: system_error(source) }
    }

    /// The error and what caused it, in one line.
    #[must_use]
    pub fn story(&self) -> String {
        story(self)
    }
}

/// An error and what caused it, in one line.
pub(crate) fn story(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The system's error inside one of netlink.
pub(crate) fn system_error(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    }
}
