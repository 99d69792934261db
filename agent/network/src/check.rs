//! What the kernel can do of what a node's network needs, tried in a namespace that is gone afterwards. Must never touch
//! the node's own network.

use core::net::IpAddr;
use std::io;

use barque_api::ip::Cidr;
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::error::{NetworkError, story};
use crate::kernel::{Kernel, Socket};
use crate::model::{Action, Path, Route, Tunnel};
use crate::names::Mac;
use crate::plan::{PORT, VNI};
use crate::{namespace, sysctl};

/// Something that the kernel can do or cannot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    /// What it is, such as `vxlan`.
    pub name: &'static str,
    /// Whether the kernel can.
    pub ok: bool,
    /// What it is for, and if the kernel cannot, what it said and what to do.
    pub story: String,
}

/// Tries what the network needs of the kernel, in a network namespace of a thread that ends with it.
pub async fn check() -> Vec<Feature> {
    let opened = namespace::in_thread(|| {
        enter_new_namespace()?;
        Socket::open()
    });
    let Socket { connection, kernel } = match opened.await {
        Ok(socket) => socket,
        Err(error) => {
            let advice = "run as root, with a kernel that has CONFIG_NET_NS";
            return vec![feature(
                "network namespaces",
                "pods have their own networks",
                advice,
                Err(error.to_string()),
            )];
        }
    };
    tokio::select! {
        () = connection => Vec::new(),
        features = features(&kernel) => features,
    }
}

async fn features(kernel: &Kernel) -> Vec<Feature> {
    let told = |outcome: Result<(), NetworkError>| outcome.map_err(|error| story(&error));
    let tunnel = Tunnel { vni: VNI, port: PORT, local: Some(IpAddr::from([127, 0, 0, 1])), learning: false };
    let overlay = Action::CreateOverlay { tunnel, mac: Mac([2, 0, 0, 0, 0, 1]), mtu: 1450 };
    let blackhole = Action::AddRoute(Route {
        destination: Cidr { address: IpAddr::from([198, 18, 0, 0]), prefix: 15 },
        path: Path::Blackhole,
    });
    let v6 = Cidr { address: IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1]), prefix: 128 };
    let up = kernel.set_up("lo", None).await;
    let mut features = vec![feature(
        "network namespaces",
        "pods have their own networks",
        "use a kernel with CONFIG_NET_NS",
        told(up),
    )];
    let outcome = told(kernel.create_veth("bqcheck0", "bqcheck1").await);
    features.push(feature("veth", "pods' links", "load the module veth", outcome));
    let outcome = told(kernel.act(&overlay).await);
    features.push(feature(
        "vxlan",
        "the overlay between nodes",
        "load the module vxlan, or use host-gw",
        outcome,
    ));
    let outcome = told(kernel.act(&blackhole).await);
    features.push(feature("routes", "the ways to pods", "give the agent CAP_NET_ADMIN", outcome));
    let address = Action::AddAddress { name: "lo".to_owned(), address: v6 };
    let outcome = told(kernel.act(&address).await);
    features.push(feature(
        "IPv6",
        "IPv6 pods, if the cluster has any",
        "start the kernel without ipv6.disable",
        outcome,
    ));
    let forwarding = sysctl::read("net/ipv4/ip_forward")
        .ok_or_else(|| format!("{} cannot be read", sysctl::path("net/ipv4/ip_forward").display()));
    features.push(feature(
        "forwarding",
        "pods' packets leave the node",
        "mount /proc",
        forwarding.map(|_| ()),
    ));
    features
}

fn feature(name: &'static str, purpose: &str, advice: &str, outcome: Result<(), String>) -> Feature {
    match outcome {
        Ok(()) => Feature { name, ok: true, story: format!("for {purpose}") },
        Err(error) => Feature { name, ok: false, story: format!("for {purpose}; {error}; {advice}") },
    }
}

#[allow(unsafe_code, reason = "rustix has no safe call for it")]
pub(crate) fn enter_new_namespace() -> io::Result<()> {
    // SAFETY: only unsharing the table of open files can break what safe code relies on, and a network namespace does
    // not; the calling thread, made for this, is the only one that moves.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_kernel_for_nodes_has_all_and_one_without_rights_is_told() {
        let features = check().await;
        if rustix::process::geteuid().is_root() {
            let missing: Vec<_> = features.iter().filter(|feature| !feature.ok).collect();
            assert!(missing.is_empty() && features.len() == 6, "{features:?}");
        } else {
            assert!(!features[0].ok && features[0].story.contains("run as root"), "{features:?}");
        }
    }
}
