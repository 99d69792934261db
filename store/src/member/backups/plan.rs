//! When the next snapshot is due, and which ones are too many. Pure: time and files are handed in.

use super::name::BackupName;
use crate::config::Schedule;

/// After a failure it is tried again this soon, unless the schedule asks earlier.
const RETRY_MS: i64 = 5 * 60_000;

/// What happened so far, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Past {
    /// The member's start, or when its clock was set back.
    pub(super) started_ms: i64,
    /// The last good one, of this or an earlier run.
    pub(super) taken_ms: Option<i64>,
    /// The last failure of this run, unless a good one came after it.
    pub(super) failed_ms: Option<i64>,
}

impl Past {
    /// The clock was set back: what lies ahead now says nothing.
    pub(super) fn clock_was_set_back(&mut self, now_ms: i64) {
        self.started_ms = now_ms;
        self.taken_ms = self.taken_ms.filter(|taken_ms| *taken_ms <= now_ms);
        self.failed_ms = self.failed_ms.filter(|failed_ms| *failed_ms <= now_ms);
    }
}

/// When the next one is due, which may be over already: one that was missed while the member was down is made up
/// for, once.
pub(super) fn next_run(schedule: &Schedule, past: Past) -> Option<i64> {
    let Some(failed_ms) = past.failed_ms else {
        return schedule.next_after(past.taken_ms.unwrap_or(past.started_ms));
    };
    let soon = failed_ms.saturating_add(RETRY_MS);
    Some(schedule.next_after(failed_ms).map_or(soon, |regular| regular.min(soon)))
}

/// A finished file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) name: BackupName,
    pub(super) size_bytes: u64,
    /// It was read completely since this member started, and is whole.
    pub(super) verified: bool,
}

/// Those of `kept`, in any order, that are older than the `retention` newest good ones. As long as there are not so
/// many good ones nothing is removed, and so never the last good one.
pub(super) fn too_many(kept: &[Kept], retention: u32) -> Vec<BackupName> {
    let mut good: Vec<BackupName> = kept.iter().filter(|it| it.verified).map(|it| it.name).collect();
    good.sort_unstable();
    let retention = usize::try_from(retention).unwrap_or(usize::MAX).max(1);
    let Some(oldest_kept) = good.len().checked_sub(retention).map(|at| good[at]) else { return Vec::new() };
    kept.iter().map(|it| it.name).filter(|name| *name < oldest_kept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MemberConfig;
    use crate::ids::{MemberId, Revision};

    const HOUR_MS: i64 = 3_600_000;
    const DAY_MS: i64 = 24 * HOUR_MS;

    fn schedule(text: &str) -> Schedule {
        let config = MemberConfig { snapshot_schedule: text.to_owned(), ..MemberConfig::default() };
        config.validate().unwrap().backups.unwrap().schedule
    }

    #[test]
    fn what_is_due_when() {
        let started_ms = 10 * DAY_MS + HOUR_MS;
        let table = [
            // Schedule, last good one, last failure, due.
            ("@daily", None, None, 11 * DAY_MS),
            ("@daily", Some(10 * DAY_MS), None, 11 * DAY_MS),
            ("@daily", Some(11 * DAY_MS), None, 12 * DAY_MS),
            // Missed while it was down: at once.
            ("@daily", Some(8 * DAY_MS), None, 9 * DAY_MS),
            ("@every 6h", None, None, started_ms + 6 * HOUR_MS),
            ("@every 6h", Some(10 * DAY_MS), None, 10 * DAY_MS + 6 * HOUR_MS),
            ("@daily", Some(10 * DAY_MS), Some(11 * DAY_MS), 11 * DAY_MS + RETRY_MS),
            ("@daily", None, Some(12 * DAY_MS - 1), 12 * DAY_MS),
            ("@every 1s", None, Some(started_ms), started_ms + 1000),
        ];
        for (text, taken_ms, failed_ms, due) in table {
            let past = Past { started_ms, taken_ms, failed_ms };
            assert_eq!(next_run(&schedule(text), past), Some(due), "{text} {past:?}");
        }
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_make_it_wait_for_what_was_ahead() {
        let mut past = Past { started_ms: 9 * DAY_MS, taken_ms: Some(10 * DAY_MS), failed_ms: None };
        past.clock_was_set_back(5 * DAY_MS + 1);
        assert_eq!(next_run(&schedule("@daily"), past), Some(6 * DAY_MS));
        let mut past =
            Past { started_ms: 9 * DAY_MS, taken_ms: Some(5 * DAY_MS), failed_ms: Some(10 * DAY_MS) };
        past.clock_was_set_back(5 * DAY_MS + 1);
        assert_eq!(past, Past { started_ms: 5 * DAY_MS + 1, taken_ms: Some(5 * DAY_MS), failed_ms: None });
    }

    #[test]
    fn what_is_removed() {
        let name = |at: i64| BackupName { member: MemberId(1), taken_ms: at, revision: Revision(at) };
        // By age, the oldest first: good ones as 'g', damaged or unread ones as 'x'.
        let table: [(&str, u32, &[i64]); 10] = [
            ("", 1, &[]),
            ("g", 1, &[]),
            ("gg", 1, &[0]),
            ("ggg", 2, &[0]),
            ("ggg", 5, &[]),
            ("xxx", 1, &[]),
            // The last good one stays however many came after it.
            ("gxxx", 1, &[]),
            ("gxgx", 1, &[0, 1]),
            ("xgxg", 2, &[0]),
            ("gg", 0, &[0]),
        ];
        for (files, retention, expected) in table {
            let mut kept: Vec<Kept> = files
                .chars()
                .zip(0..)
                .map(|(state, at)| Kept { name: name(at), size_bytes: 1, verified: state == 'g' })
                .collect();
            kept.reverse();
            let mut removed: Vec<i64> =
                too_many(&kept, retention).into_iter().map(|name| name.taken_ms).collect();
            removed.sort_unstable();
            assert_eq!(removed, expected, "{files} {retention}");
        }
    }

    #[test]
    fn what_was_written_last_is_newest_though_the_clock_was_set_back() {
        let at = |taken_ms, revision| Kept {
            name: BackupName { member: MemberId(1), taken_ms, revision: Revision(revision) },
            size_bytes: 1,
            verified: true,
        };
        let (before, after) = (at(9000, 5), at(1000, 6));
        assert_eq!(too_many(&[before.clone(), after], 1), [before.name]);
    }
}
