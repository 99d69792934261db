//! Ranges of keys as the protocol writes them: a key and an end, with `\0` for "no end".

/// The end that means "all keys from here on".
pub(crate) const NO_END: &[u8] = b"\0";

/// The end of the range of all keys that begin with `prefix`; [`NO_END`] if nothing comes after them.
pub(crate) fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    NO_END.to_vec()
}

/// Key and end of all keys that begin with `prefix`; of all keys if it is empty.
pub(crate) fn prefix(prefix: &[u8]) -> (Vec<u8>, Vec<u8>) {
    if prefix.is_empty() { (NO_END.to_vec(), NO_END.to_vec()) } else { (prefix.to_vec(), prefix_end(prefix)) }
}

/// Key and end of all keys from `key` on.
pub(crate) fn from_key(key: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let key = if key.is_empty() { NO_END } else { key };
    (key.to_vec(), NO_END.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_its_successor() {
        assert_eq!(prefix_end(b"ab"), b"ac");
        assert_eq!(prefix_end(b"a\xff\xff"), b"b");
        assert_eq!(prefix_end(b"\xff"), NO_END);
        assert_eq!(prefix(b""), (b"\0".to_vec(), b"\0".to_vec()));
        assert_eq!(from_key(b""), (b"\0".to_vec(), b"\0".to_vec()));
        assert_eq!(from_key(b"k"), (b"k".to_vec(), b"\0".to_vec()));
    }
}
