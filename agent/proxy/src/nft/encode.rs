//! Transactions as the netlink messages of one batch. Must never fail: what cannot be said in types is not built.

use super::rule::{Expression, Refusal, SetRef};
use super::wire::{Head, Writer};
use super::{Family, Key, Keys, Rule, Set, Step, Targets, Transaction, Value, Verdict, rule::octets};

const SUBSYSTEM: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const REQUEST: u16 = 0x1;
/// The kernel answers this message also when it went well.
const ACKNOWLEDGE: u16 = 0x4;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;

mod message {
    pub(super) const NEW_TABLE: u16 = 0;
    pub(super) const DELETE_TABLE: u16 = 2;
    pub(super) const NEW_CHAIN: u16 = 3;
    pub(super) const DELETE_CHAIN: u16 = 5;
    pub(super) const NEW_RULE: u16 = 6;
    pub(super) const DELETE_RULE: u16 = 8;
    pub(super) const NEW_SET: u16 = 9;
    pub(super) const DELETE_SET: u16 = 11;
    pub(super) const NEW_ELEMENTS: u16 = 12;
    pub(super) const DELETE_ELEMENTS: u16 = 14;
}

/// A comment that `nft` can print.
const LONGEST_COMMENT: usize = 127;
/// Elements in one message stay below what the length of an attribute can say.
const ELEMENTS_BYTES: usize = super::wire::LONGEST / 2;

/// Bytes of a batch, and which message belongs to which step.
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    /// The sequence number of each step's first message.
    starts: Vec<u32>,
    /// The sequence number of the message whose acknowledgement says that all is done.
    pub(super) last: u32,
}

impl Batch {
    /// The step that a message belongs to.
    pub(super) fn step(&self, sequence: u32) -> Option<usize> {
        self.starts.partition_point(|start| *start <= sequence).checked_sub(1)
    }
}

/// The batch of a transaction for the tables of this name.
pub(super) fn batch(table: &str, transaction: &Transaction) -> Batch {
    let mut writer = Writer::default();
    let resource = SUBSYSTEM >> 8;
    writer.message(Head { kind: BATCH_BEGIN, flags: REQUEST, sequence: 0, family: 0, resource }, |_| ());
    let mut encoder = Encoder { writer, table, sequence: 0, sets: 0, last_start: 0 };
    let mut starts = Vec::with_capacity(transaction.steps.len());
    for (family, step) in &transaction.steps {
        starts.push(encoder.sequence + 1);
        encoder.step(*family, step);
    }
    let Encoder { mut writer, sequence, last_start, .. } = encoder;
    if sequence > 0 {
        writer.or_flags(last_start, ACKNOWLEDGE);
    }
    let end = Head { kind: BATCH_END, flags: REQUEST, sequence: sequence + 1, family: 0, resource };
    writer.message(end, |_| ());
    Batch { bytes: writer.finish(), starts, last: sequence }
}

struct Encoder<'a> {
    writer: Writer,
    table: &'a str,
    sequence: u32,
    /// How many sets without a name there are so far.
    sets: u32,
    /// The byte at which the last message begins.
    last_start: usize,
}

impl Encoder<'_> {
    fn message(&mut self, family: Family, kind: u16, flags: u16, attributes: impl FnOnce(&mut Writer, &str)) {
        self.sequence += 1;
        self.last_start = self.writer.len();
        let head = Head {
            kind: SUBSYSTEM | kind,
            flags: REQUEST | flags,
            sequence: self.sequence,
            family: family.number(),
            resource: 0,
        };
        self.writer.message(head, |writer| attributes(writer, self.table));
    }

    fn step(&mut self, family: Family, step: &Step) {
        match step {
            Step::AddTable => self.message(family, message::NEW_TABLE, CREATE, |writer, table| {
                writer.text(1, table);
                writer.number(2, 0);
                comment(writer, 6, 0, Some("services, host ports and policies of Barque"));
            }),
            Step::DeleteTable => {
                self.message(family, message::DELETE_TABLE, 0, |writer, table| writer.text(1, table));
            }
            Step::AddChain(name, base, text) => {
                self.message(family, message::NEW_CHAIN, CREATE, |writer, table| {
                    writer.text(1, table);
                    writer.text(3, name);
                    if let Some(base) = base {
                        writer.text(7, if base.nat { "nat" } else { "filter" });
                        writer.nest(4, |hook| {
                            hook.number(1, base.hook as u32);
                            hook.bytes(2, &base.priority.to_be_bytes());
                        });
                    }
                    comment(writer, 12, 0, text.as_deref());
                });
            }
            Step::FlushChain(name) => self.message(family, message::DELETE_RULE, 0, |writer, table| {
                writer.text(1, table);
                writer.text(2, name);
            }),
            Step::DeleteChain(name) => self.message(family, message::DELETE_CHAIN, 0, |writer, table| {
                writer.text(1, table);
                writer.text(3, name);
            }),
            Step::AddSet(name, set) => self.set(family, name, set),
            Step::DeleteSet(name) => self.message(family, message::DELETE_SET, 0, |writer, table| {
                writer.text(1, table);
                writer.text(2, name);
            }),
            Step::AddElements(set, elements) => {
                let elements = elements.iter().map(|(key, value)| (key.as_slice(), value));
                self.elements(family, message::NEW_ELEMENTS, set, None, elements);
            }
            Step::DeleteElements(set, elements) => {
                let elements = elements.iter().map(|(key, value)| (key.as_slice(), value));
                self.elements(family, message::DELETE_ELEMENTS, set, None, elements);
            }
            Step::AddRule(chain, rule) => self.rule(family, chain, rule),
        }
    }

    fn set(&mut self, family: Family, name: &str, set: &Set) {
        self.sets += 1;
        let id = self.sets;
        self.message(family, message::NEW_SET, CREATE, |writer, table| {
            let (kind, length) = key_type(family, set.keys);
            writer.text(1, table);
            writer.text(2, name);
            let map = if set.targets == Targets::None { 0 } else { 0x8 };
            let dynamic = if set.timeout.is_some() { 0x10 | 0x20 } else { 0 };
            writer.number(3, map | dynamic);
            writer.number(4, kind);
            writer.number(5, length);
            match set.targets {
                Targets::None => {}
                Targets::Verdicts => {
                    writer.number(6, VERDICT_TYPE);
                    writer.number(7, 0);
                }
                Targets::Sockets => {
                    let (address, length) = key_type(family, Keys::Addresses);
                    writer.number(6, address << 6 | PORT_TYPE);
                    writer.number(7, length + 4);
                }
            }
            writer.number(10, id);
            if let Some(timeout) = set.timeout {
                writer.long(11, milliseconds(timeout));
                // The kernel refuses one that grows without a bound.
                writer.nest(9, |size| size.number(1, 65_535));
            }
            comment(writer, 13, 7, set.comment.as_deref());
        });
    }

    fn elements<'e>(
        &mut self,
        family: Family,
        kind: u16,
        set: &str,
        id: Option<u32>,
        elements: impl Iterator<Item = (&'e [u8], &'e Value)>,
    ) {
        let flags = if kind == message::NEW_ELEMENTS { CREATE } else { 0 };
        let mut elements = elements.peekable();
        while elements.peek().is_some() {
            self.message(family, kind, flags, |writer, table| {
                writer.text(1, table);
                writer.text(2, set);
                if let Some(id) = id {
                    writer.number(4, id);
                }
                writer.nest(3, |list| {
                    let start = list.len();
                    while list.len() - start < ELEMENTS_BYTES {
                        let Some((key, value)) = elements.next() else { return };
                        list.nest(1, |element| {
                            element.nest(1, |data| data.bytes(1, key));
                            if let Some(verdict) = &value.verdict {
                                element.nest(2, |data| write_verdict(data, verdict));
                            }
                            if let Some(left) = value.left {
                                element.long(5, milliseconds(left));
                            }
                            if let Some((address, port)) = value.socket {
                                let mut bytes = octets(address);
                                bytes.extend(port.to_be_bytes());
                                bytes.extend([0; 2]);
                                element.nest(2, |data| data.bytes(1, &bytes));
                            }
                            comment(element, 6, 0, value.comment.as_deref());
                        });
                    }
                });
            });
        }
    }

    /// Maps that live in the rule come before it.
    fn rule(&mut self, family: Family, chain: &str, rule: &Rule) {
        let mut ids = Vec::new();
        for expression in &rule.expressions {
            if let Expression::Lookup { set: SetRef::Numbered(verdicts), .. } = expression {
                ids.push(self.numbered(family, verdicts));
            }
        }
        let mut ids = ids.into_iter();
        self.message(family, message::NEW_RULE, CREATE | APPEND, |writer, table| {
            writer.text(1, table);
            writer.text(2, chain);
            writer.nest(4, |list| {
                for expression in &rule.expressions {
                    write_expression(list, expression, &mut ids);
                }
            });
            comment(writer, 7, 0, rule.comment.as_deref());
        });
    }

    fn numbered(&mut self, family: Family, verdicts: &[Verdict]) -> u32 {
        self.sets += 1;
        let id = self.sets;
        self.message(family, message::NEW_SET, CREATE, |writer, table| {
            writer.text(1, table);
            writer.text(2, MAP_WITHOUT_A_NAME);
            // Anonymous, constant, a map.
            writer.number(3, 0x1 | 0x2 | 0x8);
            writer.number(4, INTEGER_TYPE);
            writer.number(5, 4);
            writer.number(6, VERDICT_TYPE);
            writer.number(7, 0);
            writer.number(10, id);
            writer.nest(9, |size| size.number(1, u32::try_from(verdicts.len()).unwrap_or(u32::MAX)));
            // The keys are in the machine's byte order, which `nft` has to know for printing.
            writer.bytes(13, &[0, 4, 1, 0, 0, 0]);
        });
        let elements: Vec<(Key, Value)> = (0_u32..)
            .zip(verdicts)
            .map(|(number, verdict)| {
                (number.to_ne_bytes().to_vec(), Value { verdict: Some(verdict.clone()), ..Value::default() })
            })
            .collect();
        let elements = elements.iter().map(|(key, value)| (key.as_slice(), value));
        self.elements(family, message::NEW_ELEMENTS, MAP_WITHOUT_A_NAME, Some(id), elements);
        id
    }
}

const MAP_WITHOUT_A_NAME: &str = "__map%d";
const VERDICT_TYPE: u32 = 0xffff_ff00;
/// Numbers of `nft`'s types, which it reads when it prints.
const INTEGER_TYPE: u32 = 4;
const PROTOCOL_TYPE: u32 = 12;
const PORT_TYPE: u32 = 13;
/// A word without a meaning of its own; `nft` has no type for those in concatenations.
const MARK_TYPE: u32 = 19;

/// Type and length of keys.
const fn key_type(family: Family, keys: Keys) -> (u32, u32) {
    let (address, length) = match family {
        Family::V4 => (7, 4),
        Family::V6 => (8, 16),
    };
    let ports = PROTOCOL_TYPE << 6 | PORT_TYPE;
    match keys {
        Keys::Addresses => (address, length),
        Keys::Ports => (ports, 8),
        Keys::Sockets => (address << 12 | ports, length + 8),
        Keys::NumberedSockets => ((address << 12 | ports) << 6 | MARK_TYPE, length + 12),
        Keys::NumberedPorts => (ports << 6 | MARK_TYPE, 12),
        Keys::Pairs => (address << 6 | address, length * 2),
    }
}

fn milliseconds(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A comment as user data of this kind, in an attribute.
fn comment(writer: &mut Writer, attribute: u16, kind: u8, text: Option<&str>) {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return };
    let mut end = text.len().min(LONGEST_COMMENT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = &text[..end];
    let mut data = vec![kind, u8::try_from(text.len() + 1).unwrap_or(u8::MAX)];
    data.extend_from_slice(text.as_bytes());
    data.push(0);
    writer.bytes(attribute, &data);
}

fn write_verdict(data: &mut Writer, verdict: &Verdict) {
    data.nest(2, |inner| match verdict {
        Verdict::Drop => inner.number(1, 0),
        Verdict::Accept => inner.number(1, 1),
        Verdict::Return => inner.bytes(1, &(-5_i32).to_be_bytes()),
        Verdict::Jump(chain) => {
            inner.bytes(1, &(-3_i32).to_be_bytes());
            inner.text(2, chain);
        }
        Verdict::Goto(chain) => {
            inner.bytes(1, &(-4_i32).to_be_bytes());
            inner.text(2, chain);
        }
    });
}

fn write_expression(list: &mut Writer, expression: &Expression, ids: &mut impl Iterator<Item = u32>) {
    let mut write = |name: &str, attributes: &mut dyn FnMut(&mut Writer)| {
        list.nest(1, |outer| {
            outer.text(1, name);
            outer.nest(2, |inner| attributes(inner));
        });
    };
    match expression {
        Expression::Meta { key, to } => write("meta", &mut |inner| {
            inner.number(2, *key as u32);
            inner.number(1, to.0);
        }),
        Expression::SetMark { from } => write("meta", &mut |inner| {
            inner.number(2, super::rule::Meta::Mark as u32);
            inner.number(3, from.0);
        }),
        Expression::Payload { base, offset, length, to } => write("payload", &mut |inner| {
            inner.number(1, to.0);
            inner.number(2, *base as u32);
            inner.number(3, *offset);
            inner.number(4, *length);
        }),
        Expression::Compare { register, how, value } => write("cmp", &mut |inner| {
            inner.number(1, register.0);
            inner.number(2, *how as u32);
            inner.nest(3, |data| data.bytes(1, value));
        }),
        Expression::Bitwise { register, mask, xor } => write("bitwise", &mut |inner| {
            inner.number(1, register.0);
            inner.number(2, register.0);
            inner.number(3, u32::try_from(mask.len()).unwrap_or(0));
            inner.nest(4, |data| data.bytes(1, mask));
            inner.nest(5, |data| data.bytes(1, xor));
        }),
        Expression::Lookup { set, from, to, inverted } => write("lookup", &mut |inner| {
            inner.number(2, from.0);
            if let Some(to) = to {
                inner.number(3, to.0);
            }
            match set {
                SetRef::Named(name) => inner.text(1, name),
                SetRef::Numbered(_) => {
                    inner.text(1, MAP_WITHOUT_A_NAME);
                    inner.number(4, ids.next().unwrap_or(0));
                }
            }
            if *inverted {
                inner.number(5, 1);
            }
        }),
        Expression::Value { to, value } => write("immediate", &mut |inner| {
            inner.number(1, to.0);
            inner.nest(2, |data| data.bytes(1, value));
        }),
        Expression::Verdict(verdict) => write("immediate", &mut |inner| {
            inner.number(1, 0);
            inner.nest(2, |data| write_verdict(data, verdict));
        }),
        Expression::DestinationNat { family, address, port } => write("nat", &mut |inner| {
            inner.number(1, 1);
            inner.number(2, u32::from(family.number()));
            inner.number(3, address.0);
            inner.number(5, port.0);
            // Ports are given.
            inner.number(7, 2);
        }),
        Expression::Masquerade { fully_random } => write("masq", &mut |inner| {
            inner.number(1, if *fully_random { 0x10 } else { 0 });
        }),
        Expression::AddressType { source, to } => write("fib", &mut |inner| {
            inner.number(3, if *source { 1 } else { 2 });
            inner.number(2, 3);
            inner.number(1, to.0);
        }),
        Expression::ConntrackState { to } => write("ct", &mut |inner| {
            inner.number(2, 0);
            inner.number(1, to.0);
        }),
        Expression::Random { modulus, to } => write("numgen", &mut |inner| {
            inner.number(1, to.0);
            inner.number(2, *modulus);
            inner.number(3, 1);
            inner.number(4, 0);
        }),
        Expression::Update { set, key } => write("dynset", &mut |inner| {
            inner.number(4, key.0);
            inner.number(3, 1);
            inner.text(1, set);
        }),
        Expression::Reject(how) => write("reject", &mut |inner| match how {
            Refusal::TcpReset => {
                inner.number(1, 1);
                inner.byte(2, 0);
            }
            // The code of ICMP is not the one of ICMPv6.
            Refusal::PortUnreachable(family) => {
                inner.number(1, 0);
                inner.byte(2, if *family == Family::V4 { 3 } else { 4 });
            }
        }),
        Expression::NoTrack => write("notrack", &mut |_| ()),
    }
}
