//! Which group a key belongs to, when keys are put into groups by their first parts. Pure.

use std::borrow::Cow;

/// The separator of Kubernetes' keys, and of most others.
const SLASH: &[u8] = b"/";
/// More parts than any key layout has.
pub const MAX_DEPTH: usize = 32;

/// How keys are cut into parts, and how many parts tell the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grouping {
    separator: Cow<'static, [u8]>,
    depth: usize,
}

impl Default for Grouping {
    fn default() -> Self {
        Self { separator: Cow::Borrowed(SLASH), depth: 1 }
    }
}

impl Grouping {
    /// An empty separator means `/`; the depth is brought between 1 and [`MAX_DEPTH`].
    #[must_use]
    pub fn new(separator: &[u8], depth: usize) -> Self {
        let separator = if separator.is_empty() { Cow::Borrowed(SLASH) } else { separator.to_vec().into() };
        Self { separator, depth: depth.clamp(1, MAX_DEPTH) }
    }

    /// The group of `key`, which begins with `prefix_len` bytes that do not count: its part up to the
    /// `depth`th separator behind them, or up to the last one if there are fewer. A separator right behind
    /// them begins the first part and does not end it.
    #[must_use]
    pub fn group_of<'a>(&self, prefix_len: usize, key: &'a [u8]) -> &'a [u8] {
        let separator = &*self.separator;
        let start = prefix_len.min(key.len());
        let mut end = start;
        let mut at = if key[start..].starts_with(separator) { start + separator.len() } else { start };
        for _ in 0..self.depth {
            let found = key[at..].windows(separator.len()).position(|window| window == separator);
            let Some(found) = found else { break };
            at += found + separator.len();
            end = at;
        }
        &key[..end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group<'a>(separator: &str, depth: usize, prefix: &str, key: &'a str) -> &'a str {
        let group = Grouping::new(separator.as_bytes(), depth).group_of(prefix.len(), key.as_bytes());
        std::str::from_utf8(group).unwrap()
    }

    #[test]
    fn parts_end_with_a_separator() {
        let pod = "/registry/pods/default/web";
        let table = [
            ("/", 1, "", pod, "/registry/"),
            ("/", 2, "", pod, "/registry/pods/"),
            ("/", 9, "", pod, "/registry/pods/default/"),
            ("/", 0, "", pod, "/registry/"),
            ("", 1, "", pod, "/registry/"),
            ("/", 1, "/registry/", pod, "/registry/pods/"),
            ("/", 1, "/registry", pod, "/registry/pods/"),
            ("/", 1, "/registry/p", pod, "/registry/pods/"),
            ("/", 1, "", "plain", ""),
            ("/", 1, "", "/plain", ""),
            ("/", 1, "", "a/b", "a/"),
            ("/", 1, "a", "a", "a"),
            (".", 1, "", "a.b.c", "a."),
            ("::", 2, "", "a::b::c", "a::b::"),
        ];
        for (separator, depth, prefix, key, expected) in table {
            assert_eq!(group(separator, depth, prefix, key), expected, "{separator} {depth} {prefix} {key}");
        }
    }
}
