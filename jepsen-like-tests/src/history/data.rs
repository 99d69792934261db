//! Keys, values and events as clients see them. Workloads write text only, so text is what histories hold.

use serde::{Deserialize, Serialize};

/// A key with everything the store tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyValue {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// The revision that created it.
    pub create_revision: i64,
    /// The revision that changed it last.
    pub mod_revision: i64,
    /// How often it was written since it was created.
    pub version: i64,
    /// The lease it hangs on; 0 for none.
    pub lease: i64,
}

/// A change of one key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Event {
    /// The key after the change; of a deleted one only key and revision.
    pub kv: KeyValue,
    /// Whether the key was deleted.
    pub deleted: bool,
    /// The key before the change, where it was asked for and told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev: Option<KeyValue>,
}

/// Keys from one to another, in the notation of the wire.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Span {
    /// The first key.
    pub key: String,
    /// The first key behind it; empty for one key, a zero byte for no end.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub end: String,
}

impl Span {
    /// One key.
    #[must_use]
    pub fn one(key: impl Into<String>) -> Self {
        Self { key: key.into(), end: String::new() }
    }

    /// All keys that begin with `prefix`, which ends with a character of ASCII below `~`.
    #[must_use]
    pub fn prefix(prefix: impl Into<String>) -> Self {
        let key = prefix.into();
        let mut end = key.clone();
        let last = end.pop().filter(char::is_ascii).map_or('\0', |last| char::from(last as u8 + 1));
        end.push(last);
        Self { key, end }
    }

    /// Every key.
    #[must_use]
    pub fn everything() -> Self {
        Self { key: "\0".to_owned(), end: "\0".to_owned() }
    }

    /// Whether `key` lies in it.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        match self.end.as_str() {
            "" => key == self.key,
            "\0" => key >= self.key.as_str(),
            end => key >= self.key.as_str() && key < end,
        }
    }

    /// Whether it is one key.
    #[must_use]
    pub fn is_one(&self) -> bool {
        self.end.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_contain_what_the_wire_says() {
        for (span, inside, outside) in [
            (Span::one("a"), vec!["a"], vec!["", "aa", "b"]),
            (Span::prefix("a/"), vec!["a/", "a/b", "a/~"], vec!["a", "a0", "b"]),
            (Span::everything(), vec!["\0", "a", "~"], vec![""]),
        ] {
            assert!(inside.iter().all(|key| span.contains(key)), "{span:?} lacks one of {inside:?}");
            assert!(!outside.iter().any(|key| span.contains(key)), "{span:?} has one of {outside:?}");
        }
    }
}
