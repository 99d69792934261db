//! The keys that a watch wants, in a form in which equal wishes are equal values.

use bytes::Bytes;

/// Which keys a watch wants.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WatchRange {
    /// Exactly this key.
    Key(Bytes),
    /// Every key that begins with this; not empty and not only `0xff`.
    Prefix(Bytes),
    /// Every key from the first to before the second, if there is a second.
    Span(Bytes, Option<Bytes>),
}

/// The end of the range is not behind its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("mvcc: watcher range is empty")]
pub struct EmptyRange;

impl WatchRange {
    /// Understands `key` and `range_end` as a `WatchCreateRequest` means them: an empty key is the
    /// smallest one, an empty end is "this key alone", `\0` as end is "from this key on".
    ///
    /// # Errors
    /// When no key can be in the range.
    pub fn from_request(key: &Bytes, range_end: &Bytes) -> Result<Self, EmptyRange> {
        let key = if key.is_empty() { Bytes::from_static(&[0]) } else { key.clone() };
        match range_end.as_ref() {
            [] => Ok(Self::Key(key)),
            [0] => Ok(Self::Span(key, None)),
            end if key.as_ref() >= end => Err(EmptyRange),
            end if is_successor(&key, end) => Ok(Self::Prefix(key)),
            _ => Ok(Self::Span(key, Some(range_end.clone()))),
        }
    }

    /// As it would stand in a request: key and end.
    #[must_use]
    pub fn to_request(&self) -> (Bytes, Bytes) {
        match self {
            Self::Key(key) => (key.clone(), Bytes::new()),
            Self::Prefix(prefix) => (prefix.clone(), successor(prefix).unwrap_or(Bytes::from_static(&[0]))),
            Self::Span(start, end) => (start.clone(), end.clone().unwrap_or(Bytes::from_static(&[0]))),
        }
    }

    /// Whether the key is wanted.
    #[must_use]
    #[inline]
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::Key(wanted) => wanted == key,
            Self::Prefix(prefix) => key.starts_with(prefix),
            Self::Span(start, end) => {
                start.as_ref() <= key && end.as_ref().is_none_or(|end| key < end.as_ref())
            }
        }
    }
}

/// The first key behind all that begin with `prefix`, if there is one.
pub(super) fn successor(prefix: &[u8]) -> Option<Bytes> {
    let last = prefix.iter().rposition(|&b| b != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end.into())
}

/// Whether `end` is the first key behind all that begin with `prefix`.
fn is_successor(prefix: &[u8], end: &[u8]) -> bool {
    let Some(last) = prefix.iter().rposition(|&b| b != 0xff) else { return false };
    end.len() == last + 1 && end[..last] == prefix[..last] && end[last] == prefix[last] + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(key: &'static [u8], end: &'static [u8]) -> Result<WatchRange, EmptyRange> {
        WatchRange::from_request(&Bytes::from_static(key), &Bytes::from_static(end))
    }

    #[test]
    fn requests_are_understood_as_etcd_does() {
        let b = Bytes::from_static;
        assert_eq!(range(b"", b""), Ok(WatchRange::Key(b(b"\0"))));
        assert_eq!(range(b"a", b""), Ok(WatchRange::Key(b(b"a"))));
        assert_eq!(range(b"a", b"\0"), Ok(WatchRange::Span(b(b"a"), None)));
        assert_eq!(range(b"", b"\0"), Ok(WatchRange::Span(b(b"\0"), None)));
        assert_eq!(range(b"a", b"b"), Ok(WatchRange::Prefix(b(b"a"))));
        assert_eq!(range(b"a\xff", b"b"), Ok(WatchRange::Prefix(b(b"a\xff"))));
        assert_eq!(range(b"a", b"c"), Ok(WatchRange::Span(b(b"a"), Some(b(b"c")))));
        assert_eq!(range(b"\xff", b"\xff\xff"), Ok(WatchRange::Span(b(b"\xff"), Some(b(b"\xff\xff")))));
        assert_eq!(range(b"b", b"b"), Err(EmptyRange));
        assert_eq!(range(b"b", b"a"), Err(EmptyRange));
    }

    #[test]
    fn what_is_understood_can_be_asked_for_again() {
        for (key, end) in [(&b"a"[..], &b""[..]), (b"a", b"\0"), (b"a", b"b"), (b"a\xff", b"b"), (b"a", b"c")]
        {
            let understood = range(key, end).unwrap();
            let (key, end) = understood.to_request();
            assert_eq!(WatchRange::from_request(&key, &end), Ok(understood));
        }
    }
}
