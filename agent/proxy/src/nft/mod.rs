//! nftables over netlink: rules, chains, sets and maps as values, and transactions of them as bytes for the kernel. Must never
//! run a program, and never know what a service is.
//!
//! The facts are those of the kernel's `nf_tables.h` and of what `nft` itself sends.

mod block;
mod encode;
pub(crate) mod rule;
mod socket;
pub(crate) mod wire;

use std::net::IpAddr;
use std::time::Duration;

pub use block::{Block, BlockError};
pub use rule::{Name, Rule, Verdict};
pub use socket::{Kernel, KernelError, Monitor, Notice};
pub(crate) use socket::{open_netfilter, receive_all};

/// Which addresses; each has a table of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The one of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// Its number in netfilter's headers.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::V4 => 2,
            Self::V6 => 10,
        }
    }

    /// As `nft` calls its tables.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }
}

/// Where in a packet's way a base chain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hook {
    /// Before it is known where it goes.
    Prerouting = 0,
    /// To this machine.
    Input = 1,
    /// Through this machine.
    Forward = 2,
    /// From this machine.
    Output = 3,
    /// On its way out.
    Postrouting = 4,
}

/// What makes a chain a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BaseChain {
    /// Whether addresses are translated there.
    pub nat: bool,
    /// Where it is called.
    pub hook: Hook,
    /// Which of several is called first: the lowest.
    pub priority: i32,
}

/// A chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// Called by the kernel itself, or only by other chains.
    pub base: Option<BaseChain>,
    /// For people.
    pub comment: Option<String>,
    /// In order.
    pub rules: Vec<Rule>,
}

/// What the keys of a set or map are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Keys {
    /// Addresses.
    Addresses,
    /// Protocols and ports.
    Ports,
    /// Addresses, protocols and ports.
    Sockets,
    /// Addresses, protocols, ports, and numbers from zero.
    NumberedSockets,
    /// Protocols, ports, and numbers from zero.
    NumberedPorts,
    /// Two addresses.
    Pairs,
}

/// What the keys of a map lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Targets {
    /// It is a set.
    None,
    /// Verdicts.
    Verdicts,
    /// Addresses and ports.
    Sockets,
}

/// A set or a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Of what.
    pub keys: Keys,
    /// To what.
    pub targets: Targets,
    /// Filled by packets, whose elements go when they were not renewed for this long.
    pub timeout: Option<Duration>,
    /// For people.
    pub comment: Option<String>,
}

/// A key as the kernel has it.
pub type Key = Vec<u8>;

/// What a set or map has at a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Value {
    /// In maps to verdicts.
    pub verdict: Option<Verdict>,
    /// In maps to addresses and ports.
    pub socket: Option<(IpAddr, u16)>,
    /// In sets with a timeout: how long it has left, if not all of that.
    pub left: Option<Duration>,
    /// For people.
    pub comment: Option<String>,
}

/// A protocol and a port as a key.
#[must_use]
pub fn port_key(protocol: u8, port: u16) -> Key {
    let [high, low] = port.to_be_bytes();
    vec![protocol, 0, 0, 0, high, low, 0, 0]
}

/// An address, a protocol and a port as a key.
#[must_use]
pub fn socket_key(address: IpAddr, protocol: u8, port: u16) -> Key {
    let mut key = rule::octets(address);
    key.extend(port_key(protocol, port));
    key
}

/// An address as a key.
#[must_use]
pub fn address_key(address: IpAddr) -> Key {
    rule::octets(address)
}

/// A key with a number behind.
#[must_use]
pub fn numbered(mut key: Key, number: u32) -> Key {
    // As the kernel's random numbers come: in the machine's byte order.
    key.extend(number.to_ne_bytes());
    key
}

/// An address twice as a key.
#[must_use]
pub fn pair_key(address: IpAddr) -> Key {
    [rule::octets(address), rule::octets(address)].concat()
}

/// One step of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The table is there.
    AddTable,
    /// The table is gone with all that it has.
    DeleteTable,
    /// A set or map is there.
    AddSet(Name, Set),
    /// A set or map is gone; nothing may name it.
    DeleteSet(Name),
    /// A chain is there, without its rules.
    AddChain(Name, Option<BaseChain>, Option<String>),
    /// A chain has no rules.
    FlushChain(Name),
    /// A chain is gone; nothing may name it.
    DeleteChain(Name),
    /// A chain has a further rule at its end.
    AddRule(Name, Rule),
    /// A set or map has these too.
    AddElements(Name, Vec<(Key, Value)>),
    /// A set or map has these no more.
    DeleteElements(Name, Vec<(Key, Value)>),
}

impl Step {
    /// For sentences about errors.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::AddTable => "add the table".to_owned(),
            Self::DeleteTable => "delete the table".to_owned(),
            Self::AddSet(name, _) => format!("add the set `{name}`"),
            Self::DeleteSet(name) => format!("delete the set `{name}`"),
            Self::AddChain(name, ..) => format!("add the chain `{name}`"),
            Self::FlushChain(name) => format!("empty the chain `{name}`"),
            Self::DeleteChain(name) => format!("delete the chain `{name}`"),
            Self::AddRule(chain, _) => format!("add a rule to the chain `{chain}`"),
            Self::AddElements(set, elements) => format!("add {} elements to `{set}`", elements.len()),
            Self::DeleteElements(set, elements) => format!("delete {} elements of `{set}`", elements.len()),
        }
    }
}

/// Steps that happen all together or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    /// In order, each with the family whose table it is for.
    pub steps: Vec<(Family, Step)>,
}

impl Transaction {
    /// Whether nothing is to do.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}
