//! What happened in a run, counted by kind; and over many runs, so that what never happened is seen.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Counts by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally(BTreeMap<String, u64>);

impl Tally {
    /// Notes that a kind exists, so that it is told when it never happens.
    pub fn expect(&mut self, what: &str) {
        self.add(what, 0);
    }

    /// Adds to a kind.
    pub fn add(&mut self, what: &str, times: u64) {
        *self.0.entry(what.to_owned()).or_default() += times;
    }

    /// Adds what was counted elsewhere.
    pub fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|(what, times)| self.add(what, *times));
    }

    /// How often a kind happened.
    #[must_use]
    pub fn of(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or(0)
    }

    /// Kinds that never happened.
    pub fn never(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|(_, times)| **times == 0).map(|(what, _)| what.as_str())
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widest = self.0.keys().map(String::len).max().unwrap_or(0);
        for (what, times) in &self.0 {
            writeln!(f, "  {what:widest$} {times:>9}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_happened_is_told() {
        let (mut one, mut other) = (Tally::default(), Tally::default());
        one.expect("a flood");
        one.expect("a fire");
        other.add("a fire", 2);
        one.merge(&other);
        one.merge(&other);
        assert_eq!(one.never().collect::<Vec<_>>(), ["a flood"]);
        assert_eq!(one.of("a fire"), 4);
        assert_eq!(one.to_string(), "  a fire          4\n  a flood         0\n");
    }
}
