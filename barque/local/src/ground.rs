//! What members stand on: a bridge of the host, a namespace with a link for each, and the way to the outside. Must never touch
//! what the plan does not name.

use std::io;
use std::net::{IpAddr, SocketAddr};

use barque_api::ip::Cidr;
use barque_network::NetworkError;
use barque_network::fabric::{Fabric, Machine, add_namespace, add_way, remove_namespace};
use barque_proxy::{Block, KernelError};

use crate::plan::{Ground, Place, Plan, Resolvers, Role, overlapping};

/// The host forwards packets.
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

/// What members call their link.
const INTERFACE: &str = "eth0";
/// Where nobody listens.
const UNUSED_PORT: u16 = 1;

/// Why there is no ground.
#[derive(Debug, thiserror::Error)]
pub enum GroundError {
    /// The machine has the addresses already.
    #[error(
        "the network {network} of the cluster has addresses of {other}, to which this machine has a route; name another one with --subnet"
    )]
    Overlaps {
        /// The cluster's.
        network: Cidr,
        /// The machine's.
        other: Cidr,
    },
    /// Something has the name.
    #[error(
        "there is a link or a namespace {0} already: of another cluster (name this one with --name), or left by one that was not taken away (`barque down`)"
    )]
    Taken(String),
    /// The kernel's links.
    #[error("the network of the cluster")]
    Network(#[from] NetworkError),
    /// The kernel's packet filter.
    #[error("the way from the cluster to the outside")]
    PacketFilter(#[from] KernelError),
    /// Packets do not go over the bridge.
    #[error(
        "packets from {from} to {to} do not arrive: a packet filter of this machine drops what goes over the bridge, as Docker's does; let it pass, with `iptables -I FORWARD -i {bridge} -o {bridge} -j ACCEPT`, or set net.bridge.bridge-nf-call-iptables to 0"
    )]
    Filtered {
        /// Who sends.
        from: String,
        /// To whom.
        to: String,
        /// By what.
        bridge: String,
    },
    /// Something else of the system.
    #[error("{what}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> GroundError {
    let what = what.into();
    move |source| GroundError::System { what, source }
}

fn open() -> Result<Fabric, GroundError> {
    Fabric::open().map_err(system("opening netlink"))
}

/// Whether the machine has room for a new cluster.
///
/// # Errors
/// When it has not.
pub async fn check(plan: &Plan) -> Result<(), GroundError> {
    let Ground::Bridge { bridge, .. } = &plan.ground else { return Ok(()) };
    let fabric = open()?;
    if fabric.has_link(bridge).await? {
        return Err(GroundError::Taken(bridge.clone()));
    }
    for Place { namespace, link } in plan.members.iter().filter_map(|member| member.place.as_ref()) {
        if namespace.exists() || fabric.has_link(link).await? {
            return Err(GroundError::Taken(link.clone()));
        }
    }
    if let Some(network) = plan.network()
        && let Some(other) = overlapping(network, &fabric.networks().await?)
    {
        return Err(GroundError::Overlaps { network, other });
    }
    Ok(())
}

/// Makes it, with the way to whom members ask for names.
///
/// # Errors
/// When the kernel does not let us; what was made until then is there.
pub async fn make(plan: &Plan, resolvers: Option<&Resolvers>) -> Result<(), GroundError> {
    let Ground::Bridge { bridge, gateway, table, .. } = &plan.ground else { return Ok(()) };
    let Some(network) = plan.network() else { return Ok(()) };
    let fabric = open()?;
    fabric.add_bridge(bridge, Cidr { address: *gateway, prefix: network.prefix }).await?;
    forward()?;
    let block = Block::new(network.address, network.prefix).expect("a network is a block");
    barque_proxy::masquerade::masquerade(table, &block)?;
    for member in &plan.members {
        if let Some(place) = &member.place {
            let address = Cidr { address: member.address, prefix: network.prefix };
            add(&fabric, bridge, place, address, *gateway).await?;
            if let Some(resolvers) = resolvers {
                redirect_names(place, table, resolvers).await?;
            }
        }
    }
    try_links(plan, bridge).await
}

/// Masters reach pods and services, as webhooks are: these networks are behind the nodes of these names.
///
/// # Errors
/// When the kernel does not let us.
pub async fn reach_nodes(plan: &Plan, networks: &[(String, Cidr)]) -> Result<(), GroundError> {
    for place in plan.of_role(Role::Master).filter_map(|master| master.place.as_ref()) {
        for (node, network) in networks {
            if let Some(node) = plan.member(node) {
                add_way(&place.namespace, *network, node.address).await?;
            }
        }
    }
    Ok(())
}

/// What is asked of the machine's resolver on loopback goes to one that a member reaches.
async fn redirect_names(place: &Place, table: &str, resolvers: &Resolvers) -> Result<(), GroundError> {
    let Resolvers { unreachable, first, .. } = resolvers.clone();
    if unreachable.is_empty() {
        return Ok(());
    }
    let table = table.to_owned();
    let redirecting = barque_network::inside(&place.namespace, move || {
        barque_proxy::resolver::redirect_names(&table, INTERFACE, &unreachable, first)
            .map_err(io::Error::other)
    });
    redirecting.await.map_err(system("sending questions for names to another resolver"))
}

/// Whether packets pass between two members: nobody listens yet, and that is told at once.
async fn try_links(plan: &Plan, bridge: &str) -> Result<(), GroundError> {
    let mut members = plan.members.iter().filter_map(|member| Some((member, member.place.as_ref()?)));
    let (Some((from, place)), Some((to, _))) = (members.next(), members.next()) else { return Ok(()) };
    match barque_network::connect_tcp(&place.namespace, SocketAddr::new(to.address, UNUSED_PORT)).await {
        Err(error) if error.kind() != io::ErrorKind::ConnectionRefused => Err(GroundError::Filtered {
            from: from.name.clone(),
            to: to.name.clone(),
            bridge: bridge.to_owned(),
        }),
        _ => Ok(()),
    }
}

async fn add(
    fabric: &Fabric,
    bridge: &str,
    place: &Place,
    address: Cidr,
    gateway: IpAddr,
) -> Result<(), GroundError> {
    let Place { namespace, link } = place;
    add_namespace(namespace)
        .await
        .map_err(system(format!("making the network namespace {}", namespace.display())))?;
    fabric.add_machine(&Machine { bridge, link, namespace, address, gateway }).await?;
    Ok(())
}

/// What members send to the outside goes through the host. That stays so: others may rely on it before the cluster goes away.
fn forward() -> Result<(), GroundError> {
    let is_on = std::fs::read_to_string(FORWARDING).is_ok_and(|text| text.trim() == "1");
    if is_on {
        return Ok(());
    }
    std::fs::write(FORWARDING, "1").map_err(system(format!("writing 1 to {FORWARDING}")))
}

/// Takes a member's link down, or up again.
///
/// # Errors
/// When the kernel does not let us.
pub async fn set_connected(place: &Place, is_connected: bool) -> Result<(), GroundError> {
    Ok(open()?.set_connected(&place.link, is_connected).await?)
}

/// Removes it as far as that goes; sentences about what is left.
pub async fn remove(plan: &Plan) -> Vec<String> {
    let Ground::Bridge { bridge, table, .. } = &plan.ground else { return Vec::new() };
    let mut left = Vec::new();
    let fabric = match open() {
        Ok(fabric) => fabric,
        Err(error) => return vec![format!("the network: {error}")],
    };
    let places: Vec<_> = plan.members.iter().filter_map(|member| member.place.as_ref()).collect();
    let links = places.iter().map(|place| &place.link).chain([bridge]);
    for link in links {
        if let Err(error) = fabric.remove_link(link).await {
            left.push(format!("the link {link}: {}", error.story()));
        }
    }
    for Place { namespace, .. } in places {
        if let Err(error) = remove_namespace(namespace) {
            left.push(format!("the network namespace {}: {error}", namespace.display()));
        }
    }
    if let Err(error) = barque_proxy::cleanup(table) {
        left.push(format!("the table {table} of the packet filter: {error}"));
    }
    left
}
