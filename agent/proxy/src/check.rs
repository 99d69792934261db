//! Finding out whether the kernel can have the tables. Must never leave anything behind, nor touch what is there.

use std::net::IpAddr;
use std::time::Duration;

use crate::nft::rule::{End, NEW, Refusal};
use crate::nft::{
    BaseChain, Family, Hook, Kernel, KernelError, Keys, Name, Rule, Set, Step, Targets, Transaction, Value,
    Verdict, port_key,
};

/// Something that the kernel must be able to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    /// Short.
    pub name: String,
    /// Whether it can.
    pub ok: bool,
    /// What it is for, and what would help if it cannot.
    pub story: String,
}

/// Tries each feature in a table that is gone again within the same transaction, in the network namespace of the calling
/// thread.
#[must_use]
pub fn check() -> Vec<Feature> {
    let mut kernel = match Kernel::open(&format!("barque-check-{}", std::process::id())) {
        Ok(kernel) => kernel,
        Err(error) => {
            return vec![Feature { name: "nftables".to_owned(), ok: false, story: told(&error) }];
        }
    };
    let mut features = Vec::new();
    for family in Family::ALL {
        for trial in trials(family) {
            let mut steps = vec![(family, Step::AddTable)];
            steps.extend(trial.steps.into_iter().map(|step| (family, step)));
            steps.push((family, Step::DeleteTable));
            let tried = kernel.commit(&Transaction { steps });
            features.push(Feature {
                name: format!("{} {}", family.word(), trial.name),
                ok: tried.is_ok(),
                story: match tried {
                    Ok(()) => trial.purpose.to_owned(),
                    Err(error) => {
                        format!("{}; {}. The kernel needs {}", trial.purpose, told(&error), trial.option)
                    }
                },
            });
        }
    }
    features
}

fn told(error: &KernelError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

struct Trial {
    name: &'static str,
    purpose: &'static str,
    option: &'static str,
    steps: Vec<Step>,
}

fn trials(family: Family) -> Vec<Trial> {
    let chain = |nat, hook, rule| {
        let base = BaseChain { nat, hook, priority: if nat { -100 } else { 0 } };
        let name: Name = "trial".into();
        vec![Step::AddChain(name.clone(), Some(base), None), Step::AddRule(name, rule)]
    };
    let rule = || Rule::new(family);
    let address = match family {
        Family::V4 => IpAddr::from([192, 0, 2, 1]),
        Family::V6 => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1_u16]),
    };
    let map = Set { keys: Keys::Ports, targets: Targets::Verdicts, timeout: None, comment: None };
    let remembered = Set {
        keys: Keys::Addresses,
        targets: Targets::None,
        timeout: Some(Duration::from_secs(1)),
        comment: None,
    };
    let element = Value { verdict: Some(Verdict::Drop), ..Value::default() };
    let before = |first: Step, mut then: Vec<Step>| {
        then.insert(0, first);
        then
    };
    vec![
        Trial {
            name: "tables",
            purpose: "every rule is in a table",
            option: "CONFIG_NF_TABLES with the family",
            steps: Vec::new(),
        },
        Trial {
            name: "translation",
            purpose: "services are addresses that are translated to those of pods",
            option: "CONFIG_NFT_NAT and CONFIG_NF_NAT",
            steps: chain(true, Hook::Prerouting, rule().dnat(6, address, 80)),
        },
        Trial {
            name: "masquerading",
            purpose: "pods reach the outside with the node's address",
            option: "CONFIG_NFT_MASQ",
            steps: chain(true, Hook::Postrouting, rule().masquerade()),
        },
        Trial {
            name: "verdict maps",
            purpose: "services are found in one look, however many there are",
            option: "CONFIG_NF_TABLES of 5.13 or later",
            steps: before(
                Step::AddSet("map".into(), map),
                vec![
                    Step::AddElements("map".into(), vec![(port_key(6, 80), element)]),
                    Step::AddChain("trial".into(), None, None),
                    Step::AddRule("trial".into(), rule().port_map(&"map".into())),
                ],
            ),
        },
        Trial {
            name: "random choice",
            purpose: "endpoints are drawn",
            option: "CONFIG_NFT_NUMGEN",
            steps: chain(false, Hook::Input, rule().draw(vec![Verdict::Accept, Verdict::Accept])),
        },
        Trial {
            name: "address types",
            purpose: "node ports are at the node's own addresses",
            option: "CONFIG_NFT_FIB_IPV4 and CONFIG_NFT_FIB_IPV6",
            steps: chain(false, Hook::Prerouting, rule().local(End::Destination).verdict(Verdict::Accept)),
        },
        Trial {
            name: "connection tracking",
            purpose: "only the first packet of a connection is judged",
            option: "CONFIG_NFT_CT and CONFIG_NF_CONNTRACK",
            steps: chain(false, Hook::Input, rule().state(NEW).verdict(Verdict::Accept)),
        },
        Trial {
            name: "refusals",
            purpose: "clients of services without endpoints are told at once",
            option: "CONFIG_NFT_REJECT",
            steps: chain(false, Hook::Input, rule().reject(Refusal::PortUnreachable(family))),
        },
        Trial {
            name: "sets filled by packets",
            purpose: "clients stay with their endpoint",
            option: "CONFIG_NF_TABLES of 5.13 or later",
            steps: before(
                Step::AddSet("set".into(), remembered),
                chain(false, Hook::Input, rule().remember_source(&"set".into())),
            ),
        },
        Trial {
            name: "untracked packets",
            purpose: "names are answered by the node without connection tracking",
            option: "CONFIG_NFT_CT",
            steps: chain(false, Hook::Output, rule().notrack()),
        },
    ]
}
