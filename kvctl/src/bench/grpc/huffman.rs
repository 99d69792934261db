//! Decodes the static Huffman code of HPACK (RFC 7541, appendix B). Never encodes: what is sent is plain.
//!
//! The code is canonical: lengths alone define it, in order of symbols.

/// Bits of each byte's code; the end-of-string symbol follows them with 30 ones.
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6,
    6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7,
    8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7,
    15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24,
    23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23,
    23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26,
    26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20,
    21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27,
    27, 27, 26,
];
const LONGEST: usize = 30;

/// For each length: the first code, how many codes there are, and where their symbols start.
pub(super) struct Huffman {
    first: [u32; LONGEST + 1],
    count: [u32; LONGEST + 1],
    start: [usize; LONGEST + 1],
    symbols: Vec<u8>,
}

impl Huffman {
    pub(super) fn new() -> Self {
        let mut table = Self {
            first: [0; LONGEST + 1],
            count: [0; LONGEST + 1],
            start: [0; LONGEST + 1],
            symbols: Vec::with_capacity(256),
        };
        let mut code = 0u32;
        for length in 1..=LONGEST {
            code <<= 1;
            table.first[length] = code;
            table.start[length] = table.symbols.len();
            for (symbol, bits) in (0u8..=255).zip(LENGTHS) {
                if usize::from(bits) == length {
                    table.symbols.push(symbol);
                    code += 1;
                }
            }
            table.count[length] = u32::try_from(table.symbols.len() - table.start[length]).unwrap_or(0);
        }
        table
    }

    /// The decoded bytes, or `None` if `coded` is no valid string.
    pub(super) fn decode(&self, coded: &[u8]) -> Option<Vec<u8>> {
        let mut text = Vec::with_capacity(coded.len() * 2);
        let (mut code, mut length) = (0u32, 0usize);
        for byte in coded {
            for bit in (0..8).rev() {
                code = code << 1 | u32::from(byte >> bit & 1);
                length += 1;
                if length > LONGEST {
                    return None;
                }
                let Some(offset) = code.checked_sub(self.first[length]) else { continue };
                if offset < self.count[length] {
                    text.push(self.symbols[self.start[length] + offset as usize]);
                    (code, length) = (0, 0);
                }
            }
        }
        // The rest must be padding: less than a byte, all ones.
        (length < 8 && code == (1 << length) - 1).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_the_rfc_decode() {
        // RFC 7541, appendix C.4 and C.6.
        let cases: [(&[u8], &str); 4] = [
            (&[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff], "www.example.com"),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache"),
            (&[0x64, 0x02], "302"),
            (&[0xae, 0xc3, 0x77, 0x1a, 0x4b], "private"),
        ];
        let huffman = Huffman::new();
        for (coded, text) in cases {
            assert_eq!(huffman.decode(coded).as_deref(), Some(text.as_bytes()));
        }
    }

    #[test]
    fn bad_padding_is_refused() {
        assert_eq!(Huffman::new().decode(&[0x64, 0x02, 0x00]), None);
        assert_eq!(Huffman::new().decode(&[0xff, 0xff, 0xff, 0xff]), None);
    }
}
