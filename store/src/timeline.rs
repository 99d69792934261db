//! Which revision was current when: marks of revision and time, dense where young and thin where old. Pure.
//!
//! A mark says that at its time its revision was current on the member that led. Times come from commands only,
//! and both grow from mark to mark: a mark that would go back in time (the clock was set back, or the next leader's
//! is behind) is left out, and compaction takes the marks of what cannot be read any more. So a clock that was
//! wrong for a while is forgotten with the history of that while.

use serde::{Deserialize, Serialize};

use crate::ids::Revision;

/// Marks that are kept: enough for one each second over more than the hour that is kept by default.
pub const MAX_MARKS: usize = 4096;
/// How many go at once when there are too many, so that thinning is rare.
const THINNED: usize = MAX_MARKS / 8;

/// At this time this revision was current.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The revision.
    pub revision: Revision,
    /// Milliseconds since 1970.
    pub time_ms: i64,
}

/// See the module's description. Stored as the differences between marks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Vec<(u64, u64)>", try_from = "Vec<(u64, u64)>")]
pub struct Timeline {
    marks: Vec<Mark>,
}

/// The current revision at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The last mark that is not later.
    pub mark: Mark,
    /// The first one that is later.
    pub next: Option<Mark>,
}

/// When a revision was made: after one time, and not later than another, as far as they are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MadeAt {
    /// Milliseconds since 1970.
    pub after_ms: Option<i64>,
    /// Milliseconds since 1970.
    pub until_ms: Option<i64>,
}

impl Timeline {
    /// The newest mark.
    #[must_use]
    pub fn last(&self) -> Option<Mark> {
        self.marks.last().copied()
    }

    /// The oldest mark.
    #[must_use]
    pub fn first(&self) -> Option<Mark> {
        self.marks.first().copied()
    }

    /// Adds a mark, unless it is not later in both respects than the last; whether it was added.
    pub fn mark(&mut self, mark: Mark) -> bool {
        let later = |last: Mark| last.revision < mark.revision && last.time_ms < mark.time_ms;
        if mark.time_ms <= 0 || mark.revision.0 <= 0 || !self.last().is_none_or(later) {
            return false;
        }
        self.marks.push(mark);
        if self.marks.len() > MAX_MARKS {
            self.thin(mark.time_ms);
        }
        true
    }

    /// Forgets the marks of revisions that cannot be read any more.
    pub fn compact(&mut self, compact_revision: Revision) {
        let gone = self.marks.partition_point(|mark| mark.revision < compact_revision);
        self.marks.drain(..gone);
    }

    /// Forgets the marks of later revisions: history ends here.
    pub fn end_at(&mut self, revision: Revision) {
        let kept = self.marks.partition_point(|mark| mark.revision <= revision);
        self.marks.truncate(kept);
    }

    /// Takes away marks whose neighbours are close for their age, never two that stand side by side, nor the first
    /// or the last.
    fn thin(&mut self, now_ms: i64) {
        let distance = |from: i64, to: i64| u128::try_from(to - from).unwrap_or(0);
        let mut order: Vec<(u128, usize)> = (1..self.marks.len() - 1)
            .map(|at| {
                let gap = distance(self.marks[at - 1].time_ms, self.marks[at + 1].time_ms);
                let age = distance(self.marks[at].time_ms, now_ms).max(1);
                ((gap << 32) / age, at)
            })
            .collect();
        order.sort_unstable();
        let mut gone = vec![false; self.marks.len()];
        let mut left = THINNED;
        for (_, at) in order {
            if left > 0 && !gone[at - 1] && !gone[at + 1] {
                gone[at] = true;
                left -= 1;
            }
        }
        let mut gone = gone.into_iter();
        self.marks.retain(|_| !gone.next().unwrap_or(false));
    }

    /// What was current at a time; `None` before the first mark.
    #[must_use]
    pub fn at(&self, time_ms: i64) -> Option<Moment> {
        let later = self.marks.partition_point(|mark| mark.time_ms <= time_ms);
        let mark = *self.marks.get(later.checked_sub(1)?)?;
        Some(Moment { mark, next: self.marks.get(later).copied() })
    }

    /// When a revision was made.
    #[must_use]
    pub fn made_at(&self, revision: Revision) -> MadeAt {
        let from = self.marks.partition_point(|mark| mark.revision < revision);
        let time = |at: usize| self.marks.get(at).map(|mark| mark.time_ms);
        MadeAt { after_ms: from.checked_sub(1).and_then(time), until_ms: time(from) }
    }
}

impl From<Timeline> for Vec<(u64, u64)> {
    fn from(timeline: Timeline) -> Self {
        let mut before = Mark { revision: Revision(0), time_ms: 0 };
        let steps = timeline.marks.into_iter().map(|mark| {
            // Both grow from mark to mark, and the first ones are positive.
            let step = (
                (mark.revision.0 - before.revision.0).unsigned_abs(),
                (mark.time_ms - before.time_ms).unsigned_abs(),
            );
            before = mark;
            step
        });
        steps.collect()
    }
}

impl TryFrom<Vec<(u64, u64)>> for Timeline {
    type Error = &'static str;

    fn try_from(steps: Vec<(u64, u64)>) -> Result<Self, Self::Error> {
        let mut timeline = Self::default();
        let mut last = Mark { revision: Revision(0), time_ms: 0 };
        for (revisions, ms) in steps {
            let revision =
                last.revision.0.checked_add_unsigned(revisions).ok_or("a revision is too large")?;
            let time_ms = last.time_ms.checked_add_unsigned(ms).ok_or("a time is too large")?;
            last = Mark { revision: Revision(revision), time_ms };
            if revisions == 0 || ms == 0 || timeline.marks.len() == MAX_MARKS {
                return Err("the marks of time are too many or out of order");
            }
            timeline.marks.push(last);
        }
        Ok(timeline)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mark(revision: i64, time_ms: i64) -> Mark {
        Mark { revision: Revision(revision), time_ms }
    }

    fn timeline(marks: &[(i64, i64)]) -> Timeline {
        let mut timeline = Timeline::default();
        for &(revision, time_ms) in marks {
            timeline.mark(mark(revision, time_ms));
        }
        timeline
    }

    #[test]
    fn finds_revisions_by_time_and_times_by_revision() {
        let timeline = timeline(&[(5, 1000), (9, 2000), (30, 5000)]);
        assert_eq!(timeline.at(999), None);
        assert_eq!(timeline.at(1000), Some(Moment { mark: mark(5, 1000), next: Some(mark(9, 2000)) }));
        assert_eq!(timeline.at(4999).unwrap().mark.revision, Revision(9));
        assert_eq!(timeline.at(i64::MAX), Some(Moment { mark: mark(30, 5000), next: None }));
        let made = |revision| {
            let made = timeline.made_at(Revision(revision));
            (made.after_ms, made.until_ms)
        };
        assert_eq!(made(3), (None, Some(1000)));
        assert_eq!(made(5), (None, Some(1000)));
        assert_eq!(made(6), (Some(1000), Some(2000)));
        assert_eq!(made(9), (Some(1000), Some(2000)));
        assert_eq!(made(31), (Some(5000), None));
    }

    #[test]
    fn never_goes_back_and_forgets_what_was_compacted() {
        let mut timeline = timeline(&[(5, 1000), (5, 1500), (4, 1600), (7, 900), (7, 1000), (8, 1001)]);
        assert_eq!(timeline.marks, [mark(5, 1000), mark(8, 1001)]);
        timeline.compact(Revision(8));
        assert_eq!(timeline.first(), Some(mark(8, 1001)));
        timeline.compact(Revision(9));
        assert_eq!(timeline, Timeline::default());
    }

    #[test]
    fn a_history_that_ends_earlier_has_no_later_marks() {
        let mut timeline = timeline(&[(5, 1000), (9, 2000), (30, 5000)]);
        timeline.end_at(Revision(9));
        assert_eq!(timeline.last(), Some(mark(9, 2000)));
        timeline.end_at(Revision(4));
        assert_eq!(timeline, Timeline::default());
    }

    #[test]
    fn an_hour_of_seconds_is_kept_whole_and_a_week_of_them_thinly() {
        let mut timeline = Timeline::default();
        for second in 1..=3600 {
            timeline.mark(mark(second, second * 1000));
        }
        assert_eq!(timeline.marks.len(), 3600);
        let week = 7 * 24 * 3600;
        for second in 3601..=week {
            timeline.mark(mark(second, second * 1000));
            assert!(timeline.marks.len() <= MAX_MARKS);
        }
        assert_eq!((timeline.first(), timeline.last()), (Some(mark(1, 1000)), Some(mark(week, week * 1000))));
        for pair in timeline.marks.windows(2) {
            let (gap, age) = (pair[1].time_ms - pair[0].time_ms, week * 1000 - pair[0].time_ms);
            assert!(gap <= 1000 + age / 100, "{gap} ms at an age of {age} ms");
        }
    }

    proptest! {
        #[test]
        fn answers_as_a_plain_list_does(
            steps in prop::collection::vec((0i64..5, -3i64..10), 0..200),
            compact in 0i64..300,
            time_ms in 0i64..800,
            revision in 0i64..400,
        ) {
            let (mut timeline, mut plain) = (Timeline::default(), Vec::<Mark>::new());
            let mut now = mark(1, 1);
            for (revisions, ms) in steps {
                now = mark(now.revision.0 + revisions, now.time_ms + ms);
                let fits = now.time_ms > 0
                    && plain.iter().all(|m| m.revision < now.revision && m.time_ms < now.time_ms);
                prop_assert_eq!(timeline.mark(now), fits);
                plain.extend(fits.then_some(now));
            }
            timeline.compact(Revision(compact));
            plain.retain(|mark| mark.revision.0 >= compact);
            let at = plain.iter().rfind(|mark| mark.time_ms <= time_ms).copied();
            prop_assert_eq!(timeline.at(time_ms).map(|moment| moment.mark), at);
            let made = timeline.made_at(Revision(revision));
            let until = plain.iter().find(|mark| mark.revision.0 >= revision).map(|mark| mark.time_ms);
            prop_assert_eq!(made.until_ms, until);
            let config = bincode::config::standard();
            let bytes = bincode::serde::encode_to_vec(&timeline, config).unwrap();
            let (back, _): (Timeline, _) = bincode::serde::decode_from_slice(&bytes, config).unwrap();
            prop_assert_eq!(back, timeline);
        }

        #[test]
        fn foreign_steps_never_panic(steps: Vec<(u64, u64)>) {
            if let Ok(timeline) = Timeline::try_from(steps.clone()) {
                prop_assert_eq!(Vec::from(timeline), steps);
            }
        }
    }
}
