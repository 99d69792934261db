//! DER, as far as certificates are made of it: a data structure. Must never know what is written in it.

use k8s_openapi::jiff::Timestamp;

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const SEQUENCE: u8 = 0x30;

/// Of this class, in place of the tag that it has.
pub(super) const fn implicit(number: u8) -> u8 {
    0x80 | number
}

/// Of this class, around what has its own tag.
pub(super) const fn explicit(number: u8) -> u8 {
    0xa0 | number
}

/// A value with its tag and length.
pub(super) fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = content.len();
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let bytes: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
            // At most eight of them.
            out.push(0x80 | bytes.len() as u8);
            out.extend(bytes);
        }
    }
    out.extend_from_slice(content);
    out
}

/// Several values, one after the other.
pub(super) fn sequence<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    tagged(SEQUENCE, &parts.into_iter().collect::<Vec<_>>().concat())
}

/// A number of zero or more, from its bytes, the greatest first.
pub(super) fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let mut content: Vec<u8> = bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
    if content.first().is_none_or(|first| *first >= 0x80) {
        content.insert(0, 0);
    }
    tagged(INTEGER, &content)
}

/// Whole bytes as bits.
pub(super) fn bits(bytes: &[u8]) -> Vec<u8> {
    tagged(BIT_STRING, &[&[0], bytes].concat())
}

/// A list of named bits: `flags` has the bit of number 0 as its lowest. Zeros at the end are not written.
pub(super) fn named_bits(flags: u16) -> Vec<u8> {
    let reversed = flags.reverse_bits().to_be_bytes();
    let used = 16 - flags.leading_zeros() as usize;
    let bytes = used.div_ceil(8);
    let unused = (bytes * 8 - used) as u8;
    tagged(BIT_STRING, &[&[unused], &reversed[..bytes]].concat())
}

/// The name of an object.
pub(super) fn oid(parts: &[u32]) -> Vec<u8> {
    let mut content = Vec::new();
    let first = parts.first().copied().unwrap_or_default() * 40 + parts.get(1).copied().unwrap_or_default();
    for part in std::iter::once(first).chain(parts.iter().skip(2).copied()) {
        let groups = (32 - part.leading_zeros()).div_ceil(7).max(1);
        for group in (0..groups).rev() {
            let bits = ((part >> (7 * group)) & 0x7f) as u8;
            content.push(if group == 0 { bits } else { bits | 0x80 });
        }
    }
    tagged(0x06, &content)
}

/// A time, in whole seconds: in the short form as long as that can tell its year.
pub(super) fn time(at: Timestamp) -> Vec<u8> {
    let text = at.strftime("%Y%m%d%H%M%SZ").to_string();
    if ("1950".."2050").contains(&&text[..4]) {
        tagged(0x17, &text.as_bytes()[2..])
    } else {
        tagged(0x18, text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_x690_says() {
        assert_eq!(tagged(OCTET_STRING, &[0; 200])[..3], [4, 0x81, 200]);
        assert_eq!(tagged(OCTET_STRING, &[0; 300])[..4], [4, 0x82, 1, 44]);
        assert_eq!(unsigned(&[0, 0, 0x80]), [2, 2, 0, 0x80]);
        assert_eq!(unsigned(&[0]), [2, 1, 0]);
        assert_eq!(named_bits(0b101), [3, 2, 5, 0b1010_0000]);
        assert_eq!(named_bits(1 << 8), [3, 3, 7, 0, 0x80]);
        assert_eq!(oid(&[1, 2, 840, 113_549, 1, 1, 11])[2..], [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11]);
        assert_eq!(oid(&[2, 5, 29, 37, 0]), [6, 4, 0x55, 0x1d, 0x25, 0]);
        assert_eq!(time("2026-01-02T03:04:05Z".parse().unwrap()), b"\x17\x0d260102030405Z");
        assert_eq!(time("2050-01-02T03:04:05Z".parse().unwrap()), b"\x18\x0f20500102030405Z");
    }
}
