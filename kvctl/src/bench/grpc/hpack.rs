//! Header compression (RFC 7541), as much as a gRPC client needs: a decoder of everything, an encoder of a
//! small fixed set of request headers. Never does I/O.
//!
//! The encoder indexes its headers, as real clients do, so that servers see short blocks.

use std::collections::VecDeque;

use super::huffman::Huffman;

const TABLE_LIMIT_BYTES: usize = 4096;
const ENTRY_OVERHEAD_BYTES: usize = 32;
const STATIC_ENTRIES: usize = 61;

/// Names of the static table; values matter only for `:status`.
const STATIC_NAMES: [&str; STATIC_ENTRIES] = [
    ":authority",
    ":method",
    ":method",
    ":path",
    ":path",
    ":scheme",
    ":scheme",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "accept",
    "access-control-allow-origin",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "link",
    "location",
    "max-forwards",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "refresh",
    "retry-after",
    "server",
    "set-cookie",
    "strict-transport-security",
    "transfer-encoding",
    "user-agent",
    "vary",
    "via",
    "www-authenticate",
];
const STATIC_STATUSES: [&str; 7] = ["200", "204", "206", "304", "400", "404", "500"];
const FIRST_STATIC_STATUS: usize = 8;

/// A header block that breaks the rules; the connection's state is lost.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the server sent a header block that cannot be decoded")]
pub(crate) struct BadHeaders;

struct Entry {
    name: Box<[u8]>,
    value: Box<[u8]>,
}

impl Entry {
    fn size(&self) -> usize {
        self.name.len() + self.value.len() + ENTRY_OVERHEAD_BYTES
    }
}

/// Reads the header blocks of one connection, in order.
pub(super) struct Decoder {
    huffman: Huffman,
    entries: VecDeque<Entry>,
    size: usize,
    limit: usize,
}

enum Text<'a> {
    Plain(&'a [u8]),
    Decoded(Vec<u8>),
}

impl Text<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Text::Plain(bytes) => bytes,
            Text::Decoded(bytes) => bytes,
        }
    }
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self { huffman: Huffman::new(), entries: VecDeque::new(), size: 0, limit: TABLE_LIMIT_BYTES }
    }

    /// Calls `found` with each name and value of the block.
    pub(super) fn decode(
        &mut self,
        block: &[u8],
        mut found: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), BadHeaders> {
        let mut rest = block;
        while let Some(&first) = rest.first() {
            if first & 0x80 != 0 {
                let index = integer(&mut rest, 7)?;
                let (name, value) = self.field(index)?;
                found(name, value);
            } else if first & 0xe0 == 0x20 {
                let limit = integer(&mut rest, 5)?;
                if limit > TABLE_LIMIT_BYTES {
                    return Err(BadHeaders);
                }
                self.limit = limit;
                self.evict(0);
            } else {
                let indexed = first & 0xc0 == 0x40;
                let index = integer(&mut rest, if indexed { 6 } else { 4 })?;
                let literal = if index == 0 { Some(self.text(&mut rest)?) } else { None };
                let value = self.text(&mut rest)?;
                let name = match &literal {
                    Some(text) => text.bytes(),
                    None => self.field(index)?.0,
                };
                found(name, value.bytes());
                if indexed {
                    let entry = Entry { name: name.into(), value: value.bytes().into() };
                    self.insert(entry);
                }
            }
        }
        Ok(())
    }

    fn field(&self, index: usize) -> Result<(&[u8], &[u8]), BadHeaders> {
        if index == 0 {
            return Err(BadHeaders);
        }
        if let Some(name) = STATIC_NAMES.get(index - 1) {
            let status = index.checked_sub(FIRST_STATIC_STATUS).and_then(|at| STATIC_STATUSES.get(at));
            return Ok((name.as_bytes(), status.map_or(&[][..], |text| text.as_bytes())));
        }
        let entry = self.entries.get(index - STATIC_ENTRIES - 1).ok_or(BadHeaders)?;
        Ok((&entry.name, &entry.value))
    }

    fn text<'a>(&self, rest: &mut &'a [u8]) -> Result<Text<'a>, BadHeaders> {
        let coded = rest.first().ok_or(BadHeaders)? & 0x80 != 0;
        let length = integer(rest, 7)?;
        let (bytes, after) = rest.split_at_checked(length).ok_or(BadHeaders)?;
        *rest = after;
        if coded {
            self.huffman.decode(bytes).map(Text::Decoded).ok_or(BadHeaders)
        } else {
            Ok(Text::Plain(bytes))
        }
    }

    fn insert(&mut self, entry: Entry) {
        let size = entry.size();
        self.evict(size);
        if size <= self.limit {
            self.size += size;
            self.entries.push_front(entry);
        }
    }

    fn evict(&mut self, needed: usize) {
        while self.size + needed > self.limit {
            let Some(oldest) = self.entries.pop_back() else { return };
            self.size -= oldest.size();
        }
    }
}

fn integer(rest: &mut &[u8], prefix_bits: u32) -> Result<usize, BadHeaders> {
    let (first, mut after) = rest.split_first().ok_or(BadHeaders)?;
    let mask = (1usize << prefix_bits) - 1;
    let mut value = usize::from(*first) & mask;
    if value == mask {
        let mut shift = 0;
        loop {
            let (byte, next) = after.split_first().ok_or(BadHeaders)?;
            after = next;
            if shift > 28 {
                return Err(BadHeaders);
            }
            value += usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *rest = after;
    Ok(value)
}

/// Writes the request headers of one connection.
pub(super) struct Encoder {
    /// What the server's table holds, oldest first. Far below the limit: a handful of headers, never changing.
    sent: Vec<(Vec<u8>, Vec<u8>)>,
    indexing: bool,
}

/// Static index of `:method: POST`.
const METHOD_POST: u8 = 3;
/// Static index of `:scheme: http`.
const SCHEME_HTTP: u8 = 6;

impl Encoder {
    /// `table_limit` is the server's SETTINGS_HEADER_TABLE_SIZE; a small one turns indexing off.
    pub(super) fn new(table_limit: u32) -> Self {
        Self { sent: Vec::new(), indexing: table_limit as usize >= TABLE_LIMIT_BYTES }
    }

    /// Appends the block of a gRPC call to `path` (without the path's repetition on later calls).
    pub(super) fn encode(&mut self, path: &str, authority: &str, block: &mut Vec<u8>) {
        block.extend_from_slice(&[0x80 | METHOD_POST, 0x80 | SCHEME_HTTP]);
        for (name, value) in [
            (":path", path),
            (":authority", authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", concat!("kvctl/", env!("CARGO_PKG_VERSION"))),
        ] {
            self.field(name.as_bytes(), value.as_bytes(), block);
        }
    }

    fn field(&mut self, name: &[u8], value: &[u8], block: &mut Vec<u8>) {
        if let Some(at) = self.sent.iter().position(|(n, v)| n == name && v == value) {
            put_integer(block, 0x80, 7, STATIC_ENTRIES + self.sent.len() - at);
            return;
        }
        block.push(if self.indexing { 0x40 } else { 0x00 });
        for text in [name, value] {
            put_integer(block, 0, 7, text.len());
            block.extend_from_slice(text);
        }
        if self.indexing {
            self.sent.push((name.to_vec(), value.to_vec()));
        }
    }
}

fn put_integer(block: &mut Vec<u8>, flags: u8, prefix_bits: u32, value: usize) {
    let mask = (1usize << prefix_bits) - 1;
    if value < mask {
        block.push(flags | value as u8);
        return;
    }
    block.push(flags | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        block.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    block.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(decoder: &mut Decoder, block: &[u8]) -> Vec<(String, String)> {
        let mut all = Vec::new();
        decoder
            .decode(block, |name, value| {
                all.push((
                    String::from_utf8_lossy(name).into_owned(),
                    String::from_utf8_lossy(value).into_owned(),
                ));
            })
            .unwrap();
        all
    }

    #[test]
    fn responses_of_the_rfc_decode_with_eviction() {
        // RFC 7541, appendix C.6, with its table of 256 bytes.
        let mut decoder = Decoder::new();
        let first: &[u8] = &[
            0x48, 0x82, 0x64, 0x02, 0x58, 0x85, 0xae, 0xc3, 0x77, 0x1a, 0x4b, 0x61, 0x96, 0xd0, 0x7a, 0xbe,
            0x94, 0x10, 0x54, 0xd4, 0x44, 0xa8, 0x20, 0x05, 0x95, 0x04, 0x0b, 0x81, 0x66, 0xe0, 0x82, 0xa6,
            0x2d, 0x1b, 0xff, 0x6e, 0x91, 0x9d, 0x29, 0xad, 0x17, 0x18, 0x63, 0xc7, 0x8f, 0x0b, 0x97, 0xc8,
            0xe9, 0xae, 0x82, 0xae, 0x43, 0xd3,
        ];
        let resize = [0x3f, 0xe1, 0x01];
        let all = fields(&mut decoder, &[&resize, first].concat());
        assert_eq!(all[0], (":status".into(), "302".into()));
        assert_eq!(all[3], ("location".into(), "https://www.example.com".into()));
        assert_eq!(decoder.size, 222);
        // The second answer evicts the first's status.
        let all = fields(&mut decoder, &[0x48, 0x83, 0x64, 0x0e, 0xff, 0xc1, 0xc0, 0xbf]);
        assert_eq!(all[0], (":status".into(), "307".into()));
        assert_eq!(all[3], ("location".into(), "https://www.example.com".into()));
        assert_eq!(decoder.size, 222);
    }

    #[test]
    fn an_encoded_request_decodes_and_shrinks() {
        let (mut encoder, mut decoder) = (Encoder::new(4096), Decoder::new());
        let mut lengths = Vec::new();
        for path in ["/a.B/C", "/a.B/D", "/a.B/C"] {
            let mut block = Vec::new();
            encoder.encode(path, "localhost:2379", &mut block);
            lengths.push(block.len());
            let all = fields(&mut decoder, &block);
            assert_eq!(all[2], (":path".into(), path.into()));
            assert_eq!(all[3], (":authority".into(), "localhost:2379".into()));
        }
        assert_eq!(lengths[2], 7);
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(Decoder::new().decode(&[0xff, 0xff], |_, _| ()), Err(BadHeaders));
        assert_eq!(Decoder::new().decode(&[0xc0], |_, _| ()), Err(BadHeaders));
        assert_eq!(Decoder::new().decode(&[0x40, 0x7f], |_, _| ()), Err(BadHeaders));
    }
}
