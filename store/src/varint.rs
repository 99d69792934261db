//! Numbers of one to ten bytes, the small ones short: LEB128, as in protobuf. Never reads behind its input.

/// Writes a number.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads the number at `at`; it and where the next thing begins. `None` when it is cut off or too long.
#[inline]
pub(crate) fn varint(from: &[u8], mut at: usize) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *from.get(at)?;
        at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some((value, at));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_back(value: u64, before: Vec<u8>) {
            let mut out = before.clone();
            put_varint(&mut out, value);
            prop_assert_eq!(varint(&out, before.len()), Some((value, out.len())));
            prop_assert_eq!(varint(&out[..out.len() - 1], before.len()), None, "cut off");
        }
    }

    #[test]
    fn eleven_bytes_are_no_number() {
        assert_eq!(varint(&[0x80; 11], 0), None);
    }
}
