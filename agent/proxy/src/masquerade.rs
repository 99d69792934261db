//! What leaves a network of this machine's own for another one gets this machine's address, as behind a router at home. Must
//! never touch a table of another name.

use std::net::IpAddr;

use crate::nft::rule::End;
use crate::nft::{BaseChain, Block, Family, Hook, Kernel, KernelError, Rule, Step, Transaction};

/// The priority of translations of sources, as the kernel numbers it.
const SOURCE_NAT: i32 = 100;
/// The chain.
const CHAIN: &str = "nat-postrouting";

/// Gives packets from the network to others the address of this machine, by a table of this name, in the network namespace of
/// the calling thread. What the table had before is gone.
///
/// # Errors
/// When the kernel does not let us.
pub fn masquerade(table: &str, network: &Block) -> Result<(), KernelError> {
    Kernel::open(table)?.commit(&plan(network))
}

fn plan(network: &Block) -> Transaction {
    let family = network.family();
    let base = BaseChain { nat: true, hook: Hook::Postrouting, priority: SOURCE_NAT };
    let mut rule =
        Rule::new(family).block(End::Source, network, true).block(End::Destination, network, false);
    if family == Family::V4
        && let Some(multicast) = Block::new(IpAddr::from([224, 0, 0, 0]), 4)
    {
        rule = rule.block(End::Destination, &multicast, false);
    }
    let steps = [
        // To delete what is not there is an error, to add what is there is none.
        Step::AddTable,
        Step::DeleteTable,
        Step::AddTable,
        Step::AddChain(CHAIN.into(), Some(base), None),
        Step::AddRule(CHAIN.into(), rule.masquerade()),
    ];
    Transaction { steps: steps.into_iter().map(|step| (family, step)).collect() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn only_what_leaves_is_translated_by_a_table_that_is_made_anew() {
        let network = Block::new(IpAddr::from([10, 77, 0, 0]), 24).unwrap();
        let steps: Vec<_> = plan(&network).steps.iter().map(|(_, step)| step.describe()).collect();
        assert_eq!(
            steps,
            [
                "add the table",
                "delete the table",
                "add the table",
                "add the chain `nat-postrouting`",
                "add a rule to the chain `nat-postrouting`"
            ]
        );
    }
}
