//! Names that are asked of a resolver on loopback are asked of another one: where programs read `/etc/resolv.conf` of the machine in
//! a network namespace, in which nobody answers there. Must never touch a table of another name.

use std::net::IpAddr;

use crate::nft::rule::End;
use crate::nft::{BaseChain, Block, Family, Hook, Kernel, KernelError, Rule, Step, Transaction};

/// Priorities of translations, as the kernel numbers them.
const DESTINATION_NAT: i32 = -100;
const SOURCE_NAT: i32 = 100;
/// The chains.
const ASKED: &str = "nat-output";
const ASKING: &str = "nat-postrouting";
/// UDP and TCP, and the port of resolvers.
const PROTOCOLS: [u8; 2] = [17, 6];
const PORT: u16 = 53;
/// Packets with an address of loopback leave only where that is allowed.
const ROUTE_LOOPBACK: &str = "route_localnet";

/// Why it is not so.
#[derive(Debug, thiserror::Error)]
pub enum ResolverError {
    /// The packet filter.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The setting of the interface.
    #[error("{path} cannot be set to 1: {source}")]
    Setting {
        /// Which one.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Sends what is asked of these addresses of loopback to another one by the interface, by a table of this name, in the network
/// namespace of the calling thread; addresses of IPv6 are left out.
///
/// # Errors
/// When the kernel does not let us.
pub fn redirect_names(
    table: &str,
    interface: &str,
    from: &[IpAddr],
    to: IpAddr,
) -> Result<(), ResolverError> {
    let path = format!("/proc/sys/net/ipv4/conf/{interface}/{ROUTE_LOOPBACK}");
    std::fs::write(&path, "1").map_err(|source| ResolverError::Setting { path, source })?;
    Ok(Kernel::open(table)?.commit(&plan(from, to))?)
}

fn plan(from: &[IpAddr], to: IpAddr) -> Transaction {
    let family = Family::V4;
    let base = |hook, priority| Some(BaseChain { nat: true, hook, priority });
    let mut steps = vec![
        // To delete what is not there is an error, to add what is there is none.
        Step::AddTable,
        Step::DeleteTable,
        Step::AddTable,
        Step::AddChain(ASKED.into(), base(Hook::Output, DESTINATION_NAT), None),
        Step::AddChain(ASKING.into(), base(Hook::Postrouting, SOURCE_NAT), None),
    ];
    for address in from.iter().filter(|address| Family::of(**address) == family && to.is_ipv4()) {
        for protocol in PROTOCOLS {
            let asked = Rule::new(family).address(End::Destination, *address).protocol(protocol);
            steps.push(Step::AddRule(ASKED.into(), asked.ports(PORT, PORT).dnat(protocol, to, PORT)));
        }
    }
    if let Some(loopback) = Block::new(IpAddr::from([127, 0, 0, 0]), 8) {
        let leaves =
            Rule::new(family).block(End::Source, &loopback, true).block(End::Destination, &loopback, false);
        steps.push(Step::AddRule(ASKING.into(), leaves.masquerade()));
    }
    Transaction { steps: steps.into_iter().map(|step| (family, step)).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_resolver_has_a_rule_for_each_protocol() {
        let rules = |from: &[IpAddr]| {
            let plan = plan(from, IpAddr::from([192, 0, 2, 1]));
            plan.steps.iter().filter(|(_, step)| matches!(step, Step::AddRule(..))).count()
        };
        let (v4, v6) = (IpAddr::from([127, 0, 0, 53]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1_u16]));
        assert_eq!((rules(&[]), rules(&[v4]), rules(&[v4, v6])), (1, 3, 3));
    }
}
