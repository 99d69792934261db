//! For tests: what an HTTP/2 client sends, with an HPACK table as grpc-go keeps it.

use std::collections::VecDeque;

/// What both ends take the table's size for until somebody says otherwise.
const TABLE_BYTES: usize = 4096;
const STATIC_ENTRIES: usize = 61;

/// Huffman's codes are given out in order of their lengths, and then of their bytes (RFC 7541, appendix B).
const BYTES_OF_LENGTH: [(u32, &str); 10] = [
    (5, "012aceiost"),
    (6, " %-./3456789=A_bdfghlmnpru"),
    (7, ":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, "&*,;XZ"),
    (10, "!\"()?"),
    (11, "'+|"),
    (12, "#>"),
    (13, "\0$@[]~"),
    (14, "^}"),
    (15, "<`{"),
];

/// How headers are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) huffman: bool,
    /// Of literals: 0 is added to the table, 1 is not, 2 never.
    pub(super) kind: u8,
    pub(super) padding: Option<u8>,
    pub(super) priority: bool,
}

pub(super) struct Encoder {
    layout: Layout,
    table: VecDeque<(String, String)>,
    /// How often `:authority` was written out.
    pub(super) authorities: usize,
}

impl Encoder {
    pub(super) fn new(layout: Layout) -> Self {
        Self { layout, table: VecDeque::new(), authorities: 0 }
    }

    /// A frame that begins and ends a stream.
    pub(super) fn headers(&mut self, stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
        let (mut flags, mut payload) = (0x5, Vec::new());
        if let Some(padding) = self.layout.padding {
            flags |= 0x8;
            payload.push(padding);
        }
        if self.layout.priority {
            flags |= 0x20;
            payload.extend([0, 0, 0, 0, 7]);
        }
        for (name, value) in fields {
            self.field(&mut payload, name, value);
        }
        payload.extend(vec![0; self.layout.padding.unwrap_or(0).into()]);
        frame(1, flags, stream, &payload)
    }

    fn field(&mut self, out: &mut Vec<u8>, name: &str, value: &str) {
        if (name, value) == (":method", "POST") {
            return out.push(0x83);
        }
        if let Some(at) =
            self.table.iter().position(|entry| (entry.0.as_str(), entry.1.as_str()) == (name, value))
        {
            return integer(out, 0x80, 7, STATIC_ENTRIES + 1 + at);
        }
        let index = match name {
            ":authority" => 1,
            ":path" => 4,
            ":scheme" => 6,
            _ => 0,
        };
        self.authorities += usize::from(index == 1);
        let (flag, bits) = [(0x40, 6), (0x00, 4), (0x10, 4)][usize::from(self.layout.kind)];
        integer(out, flag, bits, index);
        if index == 0 {
            self.string(out, name);
        }
        self.string(out, value);
        if self.layout.kind == 0 {
            self.table.push_front((name.to_owned(), value.to_owned()));
            while self.table.iter().map(|(name, value)| name.len() + value.len() + 32).sum::<usize>()
                > TABLE_BYTES
            {
                self.table.pop_back();
            }
        }
    }

    fn string(&self, out: &mut Vec<u8>, text: &str) {
        if self.layout.huffman {
            let coded = huffman(text);
            integer(out, 0x80, 7, coded.len());
            out.extend(coded);
        } else {
            integer(out, 0, 7, text.len());
            out.extend(text.bytes());
        }
    }
}

/// The preface and empty settings.
pub(super) fn preface() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    bytes
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn integer(out: &mut Vec<u8>, flag: u8, bits: u32, value: usize) {
    let mask = (1 << bits) - 1;
    if value < mask {
        return out.push(flag | value as u8);
    }
    out.push(flag | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn huffman(text: &str) -> Vec<u8> {
    let mut bits = String::new();
    for wanted in text.chars() {
        let (mut code, mut length_before) = (0u32, 0);
        let found = BYTES_OF_LENGTH.iter().find_map(|(length, bytes)| {
            code <<= length - length_before;
            length_before = *length;
            let place = bytes.chars().position(|byte| byte == wanted);
            let found = place.map(|place| (code + u32::try_from(place).unwrap(), *length));
            code += u32::try_from(bytes.len()).unwrap();
            found
        });
        let (code, length) = found.expect("a byte of a host");
        bits.push_str(&format!("{code:0width$b}", width = length as usize));
    }
    while !bits.len().is_multiple_of(8) {
        bits.push('1');
    }
    bits.as_bytes()
        .chunks(8)
        .map(|byte| u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 2).unwrap())
        .collect()
}
