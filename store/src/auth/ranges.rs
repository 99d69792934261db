//! Sets of keys: what the permissions of all roles of a user allow together.

use bytes::Bytes;

use crate::command::KeyRange;

/// `range_end` of a range without end.
const OPEN: &[u8] = &[0];

/// Ranges that neither overlap nor touch, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<Span>);

/// From a key to before another one, or without end.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    start: Bytes,
    end: Option<Bytes>,
}

/// Whether a permission can be on this range: on one key, on a range that has keys, or on one without end.
#[must_use]
pub fn is_grantable(range: &KeyRange) -> bool {
    let end = &range.range_end[..];
    !range.key.is_empty() && (end.is_empty() || end == OPEN || range.key < range.range_end)
}

impl Ranges {
    /// All keys of all these ranges.
    #[must_use]
    pub fn union<'a>(ranges: impl Iterator<Item = &'a KeyRange>) -> Self {
        let mut spans: Vec<Span> = ranges.map(Span::of).collect();
        spans.sort_by(|a, b| a.start.cmp(&b.start));
        let mut merged: Vec<Span> = Vec::new();
        for span in spans {
            match merged.last_mut() {
                Some(last) if last.reaches(&span.start) => last.extend_to(span.end),
                _ => merged.push(span),
            }
        }
        Self(merged)
    }

    /// Whether every key of `range` is in the set; of a range without keys, where it begins and where it ends.
    #[must_use]
    pub fn cover(&self, range: &KeyRange) -> bool {
        match &range.range_end[..] {
            [] => self.contain(&range.key),
            OPEN => self.span_at(&range.key).is_some_and(|span| span.end.is_none()),
            end => self.span_at(&range.key).is_some_and(|span| {
                let is_before_end = |last: &Bytes| range.key < *last && end <= &last[..];
                span.start[..] < *end && span.end.as_ref().is_none_or(is_before_end)
            }),
        }
    }

    /// Whether a key is in the set.
    #[must_use]
    pub fn contain(&self, key: &[u8]) -> bool {
        self.span_at(key).is_some_and(|span| span.end.as_ref().is_none_or(|end| key < &end[..]))
    }

    /// The last span that does not begin behind `key`.
    fn span_at(&self, key: &[u8]) -> Option<&Span> {
        let behind = self.0.partition_point(|span| span.start[..] <= *key);
        self.0.get(behind.checked_sub(1)?)
    }
}

impl Span {
    fn of(range: &KeyRange) -> Self {
        let end = match &range.range_end[..] {
            // The next key is this one and a zero.
            [] => Some([&range.key[..], &[0]].concat().into()),
            OPEN => None,
            _ => Some(range.range_end.clone()),
        };
        Self { start: range.key.clone(), end }
    }

    fn reaches(&self, start: &[u8]) -> bool {
        self.end.as_ref().is_none_or(|end| start <= &end[..])
    }

    fn extend_to(&mut self, end: Option<Bytes>) {
        self.end = match (self.end.take(), end) {
            (Some(mine), Some(other)) => Some(mine.max(other)),
            _ => None,
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(key: &'static str, range_end: &'static str) -> KeyRange {
        KeyRange { key: key.into(), range_end: range_end.into() }
    }

    #[test]
    fn what_is_covered() {
        let set = Ranges::union(
            [&range("a", ""), &range("c", "e"), &range("e", "g"), &range("x", "\0")].into_iter(),
        );
        let table = [
            (range("a", ""), true),
            (range("a", "a\0"), true),
            // One key is not every key from it on.
            (range("a", "\0"), false),
            (range("a", "b"), false),
            (range("a\0", ""), false),
            (range("b", ""), false),
            (range("c", ""), true),
            (range("c", "g"), true),
            (range("d", "f"), true),
            (range("c", "g\0"), false),
            (range("c", "\0"), false),
            (range("g", ""), false),
            (range("x", ""), true),
            (range("x", "\0"), true),
            (range("y", "z"), true),
            (range("y", "\0"), true),
            (range("w", "\0"), false),
            (range("\0", "\0"), false),
            // Without keys: within one range, and not.
            (range("f", "d"), true),
            (range("d", "d"), true),
            (range("z", "y"), true),
            (range("c", "c"), false),
            (range("f", "b"), false),
            (range("h", "d"), false),
            (range("h", "b"), false),
        ];
        for (asked, covered) in table {
            assert_eq!(set.cover(&asked), covered, "{asked:?}");
        }
        assert!(Ranges::union([&range("\0", "\0")].into_iter()).cover(&range("\0", "\0")));
        assert!(!Ranges::default().cover(&range("a", "")));
    }

    #[test]
    fn what_can_be_granted() {
        for (range, good) in [
            (range("a", ""), true),
            (range("a", "b"), true),
            (range("a", "\0"), true),
            (range("\0", "\0"), true),
            (range("", ""), false),
            (range("", "b"), false),
            (range("b", "a"), false),
            (range("a", "a"), false),
        ] {
            assert_eq!(is_grantable(&range), good, "{range:?}");
        }
    }

    fn any_range() -> impl Strategy<Value = KeyRange> {
        let key = "[a-d]{1,2}";
        (key, prop_oneof![Just(String::new()), Just("\0".to_owned()), key.prop_map(String::from)])
            .prop_map(|(key, end)| KeyRange { key: key.into(), range_end: end.into() })
            .prop_filter("has keys", is_grantable)
    }

    fn holds(range: &KeyRange, key: &[u8]) -> bool {
        match &range.range_end[..] {
            [] => key == range.key,
            OPEN => key >= &range.key[..],
            end => key >= &range.key[..] && key < end,
        }
    }

    proptest! {
        /// A set covers a range exactly when it has every key of it: all short keys are tried, and one that
        /// is behind all others.
        #[test]
        fn covering_is_having_every_key(granted in prop::collection::vec(any_range(), 0..5), asked in any_range()) {
            let set = Ranges::union(granted.iter());
            let letters = [&b""[..], b"\0", b"a", b"b", b"c", b"d"];
            let mut keys = vec![b"zz".to_vec()];
            for first in &letters[1..] {
                for second in letters {
                    for third in [&b""[..], b"\0"] {
                        keys.push([first, second, third].concat());
                    }
                }
            }
            let all = keys.iter().filter(|key| holds(&asked, key));
            let expected = all.clone().all(|key| granted.iter().any(|range| holds(range, key)));
            prop_assert_eq!(set.cover(&asked), expected);
            for key in &keys {
                prop_assert_eq!(set.contain(key), granted.iter().any(|range| holds(range, key)));
            }
        }
    }
}
