//! What a rule is made of, and how rules are put together so that they read as `nft` prints them. Must never talk to the
//! kernel.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Block, Family};

/// A name of a chain, map or set.
pub type Name = Arc<str>;

/// What happens to a packet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It passes this hook.
    Accept,
    /// It is gone.
    Drop,
    /// Goes on behind the jump.
    Return,
    /// Goes on in a chain, then behind this rule.
    Jump(Name),
    /// Goes on in a chain, then where this one was jumped to from.
    Goto(Name),
}

/// A register of the virtual machine, four bytes wide; addresses take as many as they need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Register(pub(crate) u32);

impl Register {
    /// The first one, by the name that `nft` gives it.
    pub(crate) const FIRST: Self = Self(1);
    /// What is put here is done.
    pub(crate) const VERDICT: Self = Self(0);

    /// This many words behind the first.
    const fn word(words: u32) -> Self {
        match words {
            0 => Self::FIRST,
            words if words % 4 == 0 => Self(1 + words / 4),
            words => Self(8 + words),
        }
    }
}

/// Which way a comparison goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Comparison {
    Equal = 0,
    NotEqual = 1,
    AtMost = 3,
    AtLeast = 5,
}

/// What of a packet's surroundings is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Meta {
    Mark = 3,
    Protocol = 16,
}

/// Where in a packet is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Base {
    Network = 1,
    Transport = 2,
}

/// How a packet is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Refusal {
    TcpReset,
    PortUnreachable(Family),
}

/// A set or map that a rule looks into.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum SetRef {
    Named(Name),
    /// A map from 0, 1, 2 and so on to verdicts, which lives and dies with its rule.
    Numbered(Vec<Verdict>),
}

/// One step of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Expression {
    Meta {
        key: Meta,
        to: Register,
    },
    SetMark {
        from: Register,
    },
    Payload {
        base: Base,
        offset: u32,
        length: u32,
        to: Register,
    },
    Compare {
        register: Register,
        how: Comparison,
        value: Vec<u8>,
    },
    Bitwise {
        register: Register,
        mask: Vec<u8>,
        xor: Vec<u8>,
    },
    Lookup {
        set: SetRef,
        from: Register,
        /// Where what a map has is put.
        to: Option<Register>,
        inverted: bool,
    },
    Value {
        to: Register,
        value: Vec<u8>,
    },
    Verdict(Verdict),
    DestinationNat {
        family: Family,
        address: Register,
        port: Register,
    },
    Masquerade {
        fully_random: bool,
    },
    /// The type of the address: local and so on.
    AddressType {
        source: bool,
        to: Register,
    },
    ConntrackState {
        to: Register,
    },
    Random {
        modulus: u32,
        to: Register,
    },
    Update {
        set: Name,
        key: Register,
    },
    Reject(Refusal),
    NoTrack,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    pub(crate) family: Family,
    pub(crate) expressions: Vec<Expression>,
    pub(crate) comment: Option<String>,
}

/// Which end of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Source,
    Destination,
}

/// States of connections, as bits.
pub(crate) const ESTABLISHED: u32 = 1 << 1;
pub(crate) const RELATED: u32 = 1 << 2;
pub(crate) const NEW: u32 = 1 << 3;
const TYPE_LOCAL: u32 = 2;

impl Rule {
    /// One that applies to every packet and does nothing.
    pub(crate) const fn new(family: Family) -> Self {
        Self { family, expressions: Vec::new(), comment: None }
    }

    /// For people.
    pub(crate) fn comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = Some(comment.into());
        self
    }

    fn with(mut self, expression: Expression) -> Self {
        self.expressions.push(expression);
        self
    }

    fn load_address(self, end: End, to: Register) -> Self {
        let (offset, length) = match (self.family, end) {
            (Family::V4, End::Source) => (12, 4),
            (Family::V4, End::Destination) => (16, 4),
            (Family::V6, End::Source) => (8, 16),
            (Family::V6, End::Destination) => (24, 16),
        };
        self.with(Expression::Payload { base: Base::Network, offset, length, to })
    }

    fn load_protocol(self, to: Register) -> Self {
        self.with(Expression::Meta { key: Meta::Protocol, to })
    }

    fn load_port(self, end: End, to: Register) -> Self {
        let offset = if end == End::Source { 0 } else { 2 };
        self.with(Expression::Payload { base: Base::Transport, offset, length: 2, to })
    }

    fn compare(self, how: Comparison, value: Vec<u8>) -> Self {
        self.with(Expression::Compare { register: Register::FIRST, how, value })
    }

    /// Only packets from or to this address.
    pub(crate) fn address(self, end: End, address: IpAddr) -> Self {
        self.load_address(end, Register::FIRST).compare(Comparison::Equal, octets(address))
    }

    /// Only packets from or to this block, or with `inside` false from or to outside of it.
    pub(crate) fn block(self, end: End, block: &Block, inside: bool) -> Self {
        let how = if inside { Comparison::Equal } else { Comparison::NotEqual };
        let rule = self.load_address(end, Register::FIRST);
        let address = octets(block.address());
        let mask = block.mask();
        if mask.iter().all(|byte| *byte == 0xff) {
            return rule.compare(how, address);
        }
        let xor = vec![0; mask.len()];
        rule.with(Expression::Bitwise { register: Register::FIRST, mask, xor }).compare(how, address)
    }

    /// Only packets whose address is, or with `inside` false is not, in a set of addresses.
    pub(crate) fn address_in(self, end: End, set: SetRef, inside: bool) -> Self {
        self.load_address(end, Register::FIRST).with(Expression::Lookup {
            set,
            from: Register::FIRST,
            to: None,
            inverted: !inside,
        })
    }

    /// Only packets of this protocol.
    pub(crate) fn protocol(self, protocol: u8) -> Self {
        self.load_protocol(Register::FIRST).compare(Comparison::Equal, vec![protocol])
    }

    /// Only packets to this port, or this range of ports.
    pub(crate) fn ports(self, first: u16, last: u16) -> Self {
        let rule = self.load_port(End::Destination, Register::FIRST);
        if first == last {
            return rule.compare(Comparison::Equal, first.to_be_bytes().to_vec());
        }
        rule.compare(Comparison::AtLeast, first.to_be_bytes().to_vec())
            .compare(Comparison::AtMost, last.to_be_bytes().to_vec())
    }

    fn load_socket(self, end: End) -> (Self, Register) {
        let words = self.address_words();
        let rule = self
            .load_address(end, Register::FIRST)
            .load_protocol(Register::word(words))
            .load_port(end, Register::word(words + 1));
        (rule, Register::FIRST)
    }

    /// Only packets whose address, protocol and port are in a set.
    pub(crate) fn socket_in(self, end: End, set: &Name) -> Self {
        let (rule, from) = self.load_socket(end);
        rule.with(Expression::Lookup { set: SetRef::Named(set.clone()), from, to: None, inverted: false })
    }

    /// The verdict that a map has for address, protocol and port of the destination.
    pub(crate) fn socket_map(self, map: &Name) -> Self {
        let (rule, from) = self.load_socket(End::Destination);
        rule.with(Expression::Lookup {
            set: SetRef::Named(map.clone()),
            from,
            to: Some(Register::VERDICT),
            inverted: false,
        })
    }

    /// The verdict that a map has for protocol and port of the destination.
    pub(crate) fn port_map(self, map: &Name) -> Self {
        self.load_protocol(Register::FIRST).load_port(End::Destination, Register::word(1)).with(
            Expression::Lookup {
                set: SetRef::Named(map.clone()),
                from: Register::FIRST,
                to: Some(Register::VERDICT),
                inverted: false,
            },
        )
    }

    /// The verdict that a map has for the address.
    pub(crate) fn address_map(self, end: End, map: &Name) -> Self {
        self.load_address(end, Register::FIRST).with(Expression::Lookup {
            set: SetRef::Named(map.clone()),
            from: Register::FIRST,
            to: Some(Register::VERDICT),
            inverted: false,
        })
    }

    /// One of these verdicts, drawn anew for each packet.
    pub(crate) fn draw(self, verdicts: Vec<Verdict>) -> Self {
        let modulus = u32::try_from(verdicts.len()).unwrap_or(u32::MAX);
        self.with(Expression::Random { modulus, to: Register::FIRST }).with(Expression::Lookup {
            set: SetRef::Numbered(verdicts),
            from: Register::FIRST,
            to: Some(Register::VERDICT),
            inverted: false,
        })
    }

    /// Only packets whose source and destination are a pair of a set.
    pub(crate) fn pair_in(self, set: &Name) -> Self {
        let words = self.address_words();
        self.load_address(End::Source, Register::FIRST)
            .load_address(End::Destination, Register::word(words))
            .with(Expression::Lookup {
                set: SetRef::Named(set.clone()),
                from: Register::FIRST,
                to: None,
                inverted: false,
            })
    }

    /// Sends packets to one of so many addresses and ports that a map has for the destination and a number.
    pub(crate) fn dnat_drawn(self, map: &Name, choices: u32) -> Self {
        let words = self.address_words();
        let (rule, _) = self.load_socket(End::Destination);
        rule.draw_from(map, words + 2, choices)
    }

    /// The same by the destination's protocol and port alone.
    pub(crate) fn dnat_drawn_by_port(self, map: &Name, choices: u32) -> Self {
        let rule = self.load_protocol(Register::FIRST).load_port(End::Destination, Register::word(1));
        rule.draw_from(map, 2, choices)
    }

    fn draw_from(self, map: &Name, word: u32, choices: u32) -> Self {
        let (family, words) = (self.family, self.address_words());
        let found = Register::FIRST;
        self.with(Expression::Random { modulus: choices, to: Register::word(word) })
            .with(Expression::Lookup {
                set: SetRef::Named(map.clone()),
                from: Register::FIRST,
                to: Some(found),
                inverted: false,
            })
            .with(Expression::DestinationNat { family, address: found, port: Register::word(words) })
    }

    const fn address_words(&self) -> u32 {
        match self.family {
            Family::V4 => 1,
            Family::V6 => 4,
        }
    }

    /// Remembers the source's address in a set with a timeout.
    pub(crate) fn remember_source(self, set: &Name) -> Self {
        self.load_address(End::Source, Register::FIRST)
            .with(Expression::Update { set: set.clone(), key: Register::FIRST })
    }

    /// Only packets from or to an address of this machine.
    pub(crate) fn local(self, end: End) -> Self {
        self.with(Expression::AddressType { source: end == End::Source, to: Register::FIRST })
            .compare(Comparison::Equal, TYPE_LOCAL.to_ne_bytes().to_vec())
    }

    /// Only packets of connections in one of these states.
    pub(crate) fn state(self, states: u32) -> Self {
        self.with(Expression::ConntrackState { to: Register::FIRST })
            .with(Expression::Bitwise {
                register: Register::FIRST,
                mask: states.to_ne_bytes().to_vec(),
                xor: vec![0; 4],
            })
            .compare(Comparison::NotEqual, vec![0; 4])
    }

    /// Only packets without this mark.
    pub(crate) fn unmarked(self, mark: u32) -> Self {
        self.with(Expression::Meta { key: Meta::Mark, to: Register::FIRST })
            .with(Expression::Bitwise {
                register: Register::FIRST,
                mask: mark.to_ne_bytes().to_vec(),
                xor: vec![0; 4],
            })
            .compare(Comparison::Equal, vec![0; 4])
    }

    /// Sets the mark's bits.
    pub(crate) fn mark(self, mark: u32) -> Self {
        self.change_mark(!mark, mark)
    }

    /// Turns the mark's bits over.
    pub(crate) fn toggle_mark(self, mark: u32) -> Self {
        self.change_mark(u32::MAX, mark)
    }

    fn change_mark(self, mask: u32, xor: u32) -> Self {
        self.with(Expression::Meta { key: Meta::Mark, to: Register::FIRST })
            .with(Expression::Bitwise {
                register: Register::FIRST,
                mask: mask.to_ne_bytes().to_vec(),
                xor: xor.to_ne_bytes().to_vec(),
            })
            .with(Expression::SetMark { from: Register::FIRST })
    }

    pub(crate) fn verdict(self, verdict: Verdict) -> Self {
        self.with(Expression::Verdict(verdict))
    }

    pub(crate) fn jump(self, chain: &str) -> Self {
        self.verdict(Verdict::Jump(chain.into()))
    }

    pub(crate) fn goto(self, chain: &str) -> Self {
        self.verdict(Verdict::Goto(chain.into()))
    }

    pub(crate) fn drop(self) -> Self {
        self.verdict(Verdict::Drop)
    }

    pub(crate) fn reject(self, how: Refusal) -> Self {
        self.with(Expression::Reject(how))
    }

    pub(crate) fn masquerade(self) -> Self {
        self.with(Expression::Masquerade { fully_random: true })
    }

    pub(crate) fn notrack(self) -> Self {
        self.with(Expression::NoTrack)
    }

    /// Sends the packets of this protocol to an address and port.
    pub(crate) fn dnat(self, protocol: u8, address: IpAddr, port: u16) -> Self {
        let family = self.family;
        self.protocol(protocol)
            .with(Expression::Value { to: Register(1), value: octets(address) })
            .with(Expression::Value { to: Register(2), value: port.to_be_bytes().to_vec() })
            .with(Expression::DestinationNat { family, address: Register(1), port: Register(2) })
    }
}

/// An address as it stands in packets.
pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
