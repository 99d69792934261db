//! How busy somebody was between two looks. Must never keep those who are gone.

use std::collections::HashMap;

use super::CpuStats;

/// The last look at each, by name.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    last: HashMap<String, CpuStats>,
    now: HashMap<String, CpuStats>,
}

/// A look at all; who is not looked at is forgotten when the next begins.
impl Rates {
    /// Begins a look.
    pub(crate) fn begin(&mut self) {
        if !self.now.is_empty() {
            self.last = std::mem::take(&mut self.now);
        }
    }

    /// Billionths of a processor since the look before; nothing for who was not there, or began anew.
    pub(crate) fn nano_cores(&mut self, name: String, now: CpuStats) -> Option<u64> {
        let before = self.last.get(&name).copied();
        self.now.insert(name, now);
        let before = before?;
        let time = u64::try_from(now.at_ns.checked_sub(before.at_ns)?).ok().filter(|time| *time > 0)?;
        let used = now.used_ns.checked_sub(before.used_ns)?;
        u64::try_from(u128::from(used) * 1_000_000_000 / u128::from(time)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_between_two_looks_is_told() {
        let mut rates = Rates::default();
        let mut look = |names: &[(&str, i64, u64)]| {
            rates.begin();
            let one = |(name, at_ns, used_ns): &(&str, i64, u64)| {
                rates.nano_cores((*name).to_owned(), CpuStats { at_ns: *at_ns, used_ns: *used_ns })
            };
            names.iter().map(one).collect::<Vec<_>>()
        };
        assert_eq!(look(&[("a", 0, 0), ("b", 0, 5)]), [None, None]);
        assert_eq!(look(&[("a", 2_000_000_000, 1_000_000_000)]), [Some(500_000_000)]);
        // Began anew; came back.
        assert_eq!(look(&[("a", 3_000_000_000, 0), ("b", 3_000_000_000, 9)]), [None, None]);
        // At the same moment.
        assert_eq!(look(&[("a", 3_000_000_000, 0)]), [None]);
    }
}
