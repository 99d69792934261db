//! What tells an object from every other that ever was: random UUIDs (RFC 9562, version 4).

/// A new one.
#[must_use]
pub fn new_uid() -> String {
    text(rand::random())
}

fn text(bits: u128) -> String {
    // Version 4, variant 10.
    let bits = bits & !(0xf << 76) & !(0b11 << 62) | (0x4 << 76) | (0b10 << 62);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_have_the_form_of_uuids() {
        assert_eq!(text(0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(text(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_ne!(new_uid(), new_uid());
    }
}
