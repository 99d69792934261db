//! Sets of completion indexes, as Jobs write them: `1,3-5`. A data structure; must never know of pods.

use std::collections::BTreeSet;
use std::fmt;

/// A set of indexes, kept as what is without gaps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Indexes {
    /// First and last, in order, with gaps between.
    runs: Vec<(i32, i32)>,
}

impl Indexes {
    /// Reads what [`fmt::Display`] wrote, up to the number of completions; what cannot be read is left out.
    pub(super) fn parse(text: &str, completions: i32) -> Self {
        let mut indexes = Self::default();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            if let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>()) {
                indexes.add(first.max(0), last.min(completions.saturating_sub(1)));
            }
        }
        indexes
    }

    /// These indexes.
    pub(super) fn of(indexes: impl IntoIterator<Item = i32>) -> Self {
        let mut set = Self::default();
        let ordered: BTreeSet<_> = indexes.into_iter().collect();
        ordered.into_iter().for_each(|index| set.add(index, index));
        set
    }

    fn add(&mut self, mut first: i32, mut last: i32) {
        if first > last {
            return;
        }
        self.runs.retain(|run| {
            let apart = run.1 < first.saturating_sub(1) || run.0 > last.saturating_add(1);
            if !apart {
                (first, last) = (first.min(run.0), last.max(run.1));
            }
            apart
        });
        let at = self.runs.partition_point(|run| run.0 < first);
        self.runs.insert(at, (first, last));
    }

    /// One more.
    pub(super) fn insert(&mut self, index: i32) {
        self.add(index, index);
    }

    /// What is in either.
    #[must_use]
    pub(super) fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        other.runs.iter().for_each(|run| all.add(run.0, run.1));
        all
    }

    pub(super) fn contains(&self, index: i32) -> bool {
        let at = self.runs.partition_point(|run| run.1 < index);
        self.runs.get(at).is_some_and(|run| run.0 <= index)
    }

    /// How many there are.
    pub(super) fn len(&self) -> i32 {
        self.runs.iter().map(|run| run.1 - run.0 + 1).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// How many are in both.
    pub(super) fn len_of_common(&self, other: &Self) -> i32 {
        let pairs = self.runs.iter().flat_map(|one| other.runs.iter().map(move |two| (one, two)));
        pairs.map(|(one, two)| (one.1.min(two.1) - one.0.max(two.0) + 1).max(0)).sum()
    }

    /// The first ones below the number of completions that are not in it.
    pub(super) fn missing(&self, completions: i32, count: usize) -> Vec<i32> {
        let (mut missing, mut next) = (Vec::new(), 0);
        for (first, last) in self.runs.iter().copied().chain([(completions, completions)]) {
            let room = count - missing.len();
            missing.extend((next..first.min(completions)).take(room));
            next = last.saturating_add(1);
        }
        missing
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.runs.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            match last - first {
                0 => write!(f, "{first}")?,
                1 => write!(f, "{first},{last}")?,
                _ => write!(f, "{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn they_are_written_as_runs() {
        for text in ["", "0", "0,1", "0-2", "1,3-5,7", "2,4,5"] {
            assert_eq!(Indexes::parse(text, 10).to_string(), text);
        }
        assert_eq!(Indexes::parse("0-9,12", 4).to_string(), "0-3");
        assert_eq!(Indexes::parse("1,x,3-y,5", 9).to_string(), "1,5");
    }

    proptest! {
        #[test]
        fn they_are_a_set(one in prop::collection::btree_set(0i32..30, 0..20), two in prop::collection::btree_set(0i32..30, 0..20)) {
            let (first, second) = (Indexes::of(one.clone()), Indexes::of(two.clone()));
            let both: BTreeSet<_> = one.union(&two).copied().collect();
            prop_assert_eq!(first.union(&second), Indexes::of(both));
            prop_assert_eq!(&Indexes::parse(&first.to_string(), 30), &first);
            prop_assert_eq!(usize::try_from(first.len()).unwrap(), one.len());
            prop_assert_eq!(usize::try_from(first.len_of_common(&second)).unwrap(), one.intersection(&two).count());
            for index in 0..30 {
                prop_assert_eq!(first.contains(index), one.contains(&index));
            }
            let missing: Vec<_> = (0..25).filter(|index| !one.contains(index)).take(5).collect();
            prop_assert_eq!(first.missing(25, 5), missing);
        }
    }
}
