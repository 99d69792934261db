//! The flags that say how keys are put into groups, and the groups themselves where the server does not make them.

use barque_proto::admin::Grouping;
use clap::Args;

use super::words::Raw;

/// Flags of `space` and `top`.
#[derive(Clone, Debug, Args)]
pub(crate) struct GroupArgs {
    /// Group keys by so many parts
    #[arg(long, value_name = "PARTS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=32))]
    depth: u32,
    /// What ends a part of a key
    #[arg(long, value_name = "TEXT", default_value = "/")]
    separator: Raw,
    /// Show so many of each kind
    #[arg(long, value_name = "COUNT", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    top: u32,
}

impl GroupArgs {
    /// As it is asked of the server.
    pub(super) fn grouping(&self) -> Grouping {
        Grouping { separator: self.separator.0.clone().into(), depth: self.depth, top: self.top }
    }

    /// How many of each kind to show.
    pub(super) fn top(&self) -> usize {
        usize::try_from(self.top).unwrap_or(usize::MAX)
    }

    /// The group of `key`, by the same rule as the server's: its part up to the last separator that counts behind
    /// the first `prefix_len` bytes.
    pub(super) fn group_of<'a>(&self, prefix_len: usize, key: &'a [u8]) -> &'a [u8] {
        let separator = if self.separator.0.is_empty() { b"/" } else { &self.separator.0[..] };
        let rest = &key[prefix_len.min(key.len())..];
        let leading = if rest.starts_with(separator) { separator.len() } else { 0 };
        let mut end = 0;
        let mut at = leading;
        for _ in 0..self.depth {
            match rest[at..].windows(separator.len()).position(|part| part == separator) {
                Some(found) => at += found + separator.len(),
                None => break,
            }
            end = at;
        }
        &key[..key.len() - rest.len() + end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_the_servers() {
        let args = |depth| GroupArgs { depth, separator: Raw(b"/".to_vec()), top: 10 };
        for (depth, prefix, key, group) in [
            (1, "", "/registry/pods/a", "/registry/"),
            (2, "", "/registry/pods/a", "/registry/pods/"),
            (9, "", "/registry/pods/a", "/registry/pods/"),
            (1, "/registry/", "/registry/pods/a", "/registry/pods/"),
            (1, "/registry", "/registry/pods/a", "/registry/pods/"),
            (1, "", "plain", ""),
            (1, "pl", "plain", "pl"),
        ] {
            assert_eq!(args(depth).group_of(prefix.len(), key.as_bytes()), group.as_bytes(), "{key} {depth}");
        }
    }
}
