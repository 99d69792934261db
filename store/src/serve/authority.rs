//! Makes an `:authority` that is a URL the host of that URL, in the bytes a client sends.
//!
//! Old `etcdctl`s dial `passthrough:///http://127.0.0.1:2379` for some calls, and grpc-go then says
//! `http://127.0.0.1:2379` as `:authority`. Servers in Go take it; h2 resets the stream. So [`Authorities`] reads a
//! connection up to the first HEADERS frame. If its authority is in order, as nearly always, it never looks again;
//! otherwise it goes on, because a client says a field again when its HPACK table has dropped it (grpc-go says a new
//! `grpc-timeout` with each call, which pushes older entries out).
//!
//! Why both ends' HPACK tables stay in step. A field is replaced by one of the same kind, so that exactly one entry is
//! added where the client added one, or none where none; entries are counted from the newest, so an index means
//! the same on both sides. The new entry is smaller than the client's. Hence any number of the newest entries is at most
//! as large here as there, and what the client still has is still here: at most, old entries stay here that the
//! client has dropped and will not refer to. That holds for each field alone, so fields that are left as they
//! are, for whatever reason, do no harm.
//!
//! Never refuses anything: what it does not understand it leaves to h2. Never makes a frame longer. Holds back at
//! most one HEADERS frame of bounded size, and only bytes that h2 could not use yet.

use std::ops::Range;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD_BYTES: usize = 9;
/// Larger HEADERS frames pass unread: the largest frame that any receiver must take.
const HEADERS_MAX_BYTES: usize = 16 << 10;
const HEADERS: u8 = 1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// Of `:authority` in HPACK's static table.
const AUTHORITY_INDEX: usize = 1;

/// What a client sends on one connection, in and out.
#[derive(Debug)]
pub(super) struct Authorities {
    place: Place,
    /// The part of a frame that must be whole before it passes.
    held: Vec<u8>,
    /// Whether an authority was a URL.
    found: bool,
}

#[derive(Debug)]
enum Place {
    /// In the client's preface, after so many bytes.
    Preface(usize),
    /// In the head of a frame, which is held.
    Head,
    /// In a frame that passes, before so many bytes.
    Other(usize),
    /// In a HEADERS frame, which is held until it has so many bytes with its head.
    Headers(usize),
    /// Past everything of interest.
    Done,
}

impl Authorities {
    /// At the start of a connection.
    pub(super) fn new() -> Self {
        Self { place: Place::Preface(0), held: Vec::new(), found: false }
    }

    /// Whether all that follows is to pass as it is, without being given to [`Authorities::pass`].
    pub(super) fn is_done(&self) -> bool {
        matches!(self.place, Place::Done)
    }

    /// Takes the next bytes and appends to `out` what can go on.
    pub(super) fn pass(&mut self, mut input: &[u8], out: &mut Vec<u8>) {
        while !input.is_empty() {
            match self.place {
                Place::Preface(before) => {
                    let count = input.len().min(PREFACE.len() - before);
                    if input[..count] != PREFACE[before..before + count] {
                        // HTTP/1, or nothing known.
                        self.place = Place::Done;
                        continue;
                    }
                    out.extend_from_slice(&input[..count]);
                    input = &input[count..];
                    let after = before + count;
                    self.place = if after == PREFACE.len() { Place::Head } else { Place::Preface(after) };
                }
                Place::Head => {
                    input = self.hold(input, FRAME_HEAD_BYTES);
                    if self.held.len() == FRAME_HEAD_BYTES {
                        self.head_complete(out);
                    }
                }
                Place::Other(left) => {
                    let count = input.len().min(left);
                    out.extend_from_slice(&input[..count]);
                    input = &input[count..];
                    self.place = if count == left { Place::Head } else { Place::Other(left - count) };
                }
                Place::Headers(total) => {
                    input = self.hold(input, total);
                    if self.held.len() == total {
                        self.headers_complete(out);
                    }
                }
                Place::Done => {
                    out.extend_from_slice(input);
                    return;
                }
            }
        }
    }

    /// Nothing follows: lets go of what is held.
    pub(super) fn end(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
        self.place = Place::Done;
    }

    /// Holds as much of `input` as is missing to `total` bytes; returns the rest.
    fn hold<'a>(&mut self, input: &'a [u8], total: usize) -> &'a [u8] {
        let (held, rest) = input.split_at(input.len().min(total - self.held.len()));
        self.held.extend_from_slice(held);
        rest
    }

    fn head_complete(&mut self, out: &mut Vec<u8>) {
        let length =
            usize::from(self.held[0]) << 16 | usize::from(self.held[1]) << 8 | usize::from(self.held[2]);
        let (kind, flags) = (self.held[3], self.held[4]);
        if kind == HEADERS && flags & END_HEADERS != 0 && (1..=HEADERS_MAX_BYTES).contains(&length) {
            self.place = Place::Headers(FRAME_HEAD_BYTES + length);
            return;
        }
        out.append(&mut self.held);
        self.place = match length {
            _ if kind == HEADERS && !self.found => Place::Done,
            0 => Place::Head,
            left => Place::Other(left),
        };
    }

    fn headers_complete(&mut self, out: &mut Vec<u8>) {
        if let Some(frame) = repaired(&self.held) {
            out.extend_from_slice(&frame);
            self.held.clear();
            self.found = true;
        } else {
            out.append(&mut self.held);
        }
        self.place = if self.found { Place::Head } else { Place::Done };
    }
}

/// A whole HEADERS frame with the host in place of the URL, or `None` if it is to stay as it is.
fn repaired(frame: &[u8]) -> Option<Vec<u8>> {
    let (head, payload) = frame.split_at_checked(FRAME_HEAD_BYTES)?;
    let flags = head[4];
    let (mut start, mut end) = (0, payload.len());
    if flags & PADDED != 0 {
        end = end.checked_sub(usize::from(*payload.first()?))?;
        start += 1;
    }
    if flags & PRIORITY != 0 {
        start += 5;
    }
    let block = payload.get(start..end)?;
    let value = authority(block)?;
    let host = value.host()?;

    let before = start + value.place.start;
    let after = start + value.place.end;
    let mut repaired = Vec::with_capacity(frame.len());
    repaired.extend_from_slice(head);
    repaired.extend_from_slice(&payload[..before]);
    push_string(&mut repaired, value.huffman, &host);
    repaired.extend_from_slice(&payload[after..]);
    let length = u32::try_from(repaired.len() - FRAME_HEAD_BYTES).ok()?;
    repaired[..3].copy_from_slice(&length.to_be_bytes()[1..]);
    Some(repaired)
}

/// A string as HPACK has it.
#[derive(Debug)]
struct Text<'a> {
    /// Where it is in the block, with its length.
    place: Range<usize>,
    huffman: bool,
    coded: &'a [u8],
}

/// The value of the first `:authority` of a header block that is written out and names it by its index, as all known
/// encoders do.
fn authority(block: &[u8]) -> Option<Text<'_>> {
    let mut at = 0;
    while let Some(&first) = block.get(at) {
        // RFC 7541, section 6: indexed, added to the table, size of the table, and not added.
        let (prefix_bits, literal) = match first {
            0x80.. => (7, false),
            0x40.. => (6, true),
            0x20.. => (5, false),
            _ => (4, true),
        };
        let name_index = integer(block, &mut at, prefix_bits)?;
        if literal {
            if name_index == 0 {
                text(block, &mut at)?;
            }
            let value = text(block, &mut at)?;
            if name_index == AUTHORITY_INDEX {
                return Some(value);
            }
        }
    }
    None
}

/// An integer of at most 28 bits after its prefix: more is no length or index of anything in a frame.
fn integer(block: &[u8], at: &mut usize, prefix_bits: u32) -> Option<usize> {
    let mask = (1 << prefix_bits) - 1;
    let mut value = usize::from(*block.get(*at)?) & mask;
    *at += 1;
    if value < mask {
        return Some(value);
    }
    for shift in [0, 7, 14, 21] {
        let byte = *block.get(*at)?;
        *at += 1;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn text<'a>(block: &'a [u8], at: &mut usize) -> Option<Text<'a>> {
    let start = *at;
    let huffman = block.get(start)? & 0x80 != 0;
    let length = integer(block, at, 7)?;
    let end = at.checked_add(length)?;
    let coded = block.get(*at..end)?;
    *at = end;
    Some(Text { place: start..end, huffman, coded })
}

fn push_string(out: &mut Vec<u8>, huffman: bool, coded: &[u8]) {
    let flag = if huffman { 0x80 } else { 0 };
    match u8::try_from(coded.len()) {
        Ok(length @ ..0x7f) => out.push(flag | length),
        _ => {
            out.push(flag | 0x7f);
            let mut rest = coded.len() - 0x7f;
            while rest >= 0x80 {
                out.push((rest & 0x7f) as u8 | 0x80);
                rest >>= 7;
            }
            out.push(rest as u8);
        }
    }
    out.extend_from_slice(coded);
}

/// One symbol of a text, as far as it matters here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Symbol {
    Colon,
    Slash,
    Other,
    /// None: the end of the text, after which only padding may be.
    End,
}

/// Of how many bytes Huffman's code has the length that is the index (RFC 7541, appendix B). The code is canonical,
/// so that this says where each code ends. Longer codes are of bytes that are in no authority.
const CODES_OF_LENGTH: [u32; 16] = [0, 0, 0, 0, 0, 10, 26, 32, 6, 0, 5, 3, 2, 6, 2, 3];
/// The codes of `:` and `/`, with their lengths.
const COLON: (u32, usize) = (0x5c, 7);
const SLASH: (u32, usize) = (0x18, 6);

impl Text<'_> {
    /// What is between a scheme and a path, coded as the text is, if there is one of them and something is left.
    ///
    /// Nothing is decoded: the code of a part of a text is a part of the text's code, also when it is Huffman's. So
    /// it is enough to know where symbols end.
    fn host(&self) -> Option<Vec<u8>> {
        let slash = self.slash_or_end(0)?;
        if slash.symbol == Symbol::End {
            return None;
        }
        let (start, end) = match self.symbol(slash.after)? {
            (Symbol::Slash, after) if slash.after_colon => (after, self.slash_or_end(after)?.at),
            _ => (0, slash.at),
        };
        (start < end).then(|| self.part(start, end))
    }

    /// The next slash at or after a bit, or the end. `None` if the text is not understood.
    fn slash_or_end(&self, from: usize) -> Option<Slash> {
        let (mut at, mut after_colon) = (from, false);
        loop {
            let (symbol, after) = self.symbol(at)?;
            if matches!(symbol, Symbol::Slash | Symbol::End) {
                return Some(Slash { symbol, at, after, after_colon });
            }
            after_colon = symbol == Symbol::Colon;
            at = after;
        }
    }

    /// The symbol that begins at a bit, and the bit after it.
    fn symbol(&self, at: usize) -> Option<(Symbol, usize)> {
        if !self.huffman {
            return Some(match self.coded.get(at / 8) {
                None => (Symbol::End, at),
                Some(b':') => (Symbol::Colon, at + 8),
                Some(b'/') => (Symbol::Slash, at + 8),
                Some(_) => (Symbol::Other, at + 8),
            });
        }
        let (mut code, mut first) = (0u32, 0u32);
        for (bits, codes) in CODES_OF_LENGTH.into_iter().enumerate().skip(1) {
            let bit = at + bits - 1;
            let Some(byte) = self.coded.get(bit / 8) else {
                // Padding is less than a byte of ones.
                let padding = bits - 1;
                return (padding < 8 && code == (1 << padding) - 1).then_some((Symbol::End, at));
            };
            code = code << 1 | u32::from(byte >> (7 - bit % 8) & 1);
            first <<= 1;
            if code < first + codes {
                let symbol = match (code, bits) {
                    COLON => Symbol::Colon,
                    SLASH => Symbol::Slash,
                    _ => Symbol::Other,
                };
                return Some((symbol, at + bits));
            }
            first += codes;
        }
        None
    }

    /// The bits from `start` to `end`, which is greater, padded with ones as Huffman's code must be.
    fn part(&self, start: usize, end: usize) -> Vec<u8> {
        let byte = |index: usize| self.coded.get(index).copied().unwrap_or(0);
        let mut part: Vec<u8> = (start..end)
            .step_by(8)
            .map(|bit| (u16::from_be_bytes([byte(bit / 8), byte(bit / 8 + 1)]) << (bit % 8) >> 8) as u8)
            .collect();
        if let (Some(last), padding @ 1..) = (part.last_mut(), (8 - (end - start) % 8) % 8) {
            *last |= (1 << padding) - 1;
        }
        part
    }
}

/// A slash or the end, between two bits of a text.
struct Slash {
    symbol: Symbol,
    at: usize,
    after: usize,
    after_colon: bool,
}

#[cfg(test)]
mod tests;
