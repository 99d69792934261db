//! Names of the snapshots that a member takes by itself: whose, from when, up to which revision. Pure.
//!
//! The name tells apart what members write into one directory, so that each cleans up its own files alone.

use chrono::{DateTime, NaiveDateTime};

use crate::ids::{MemberId, Revision};

const ENDING: &str = ".snapshot";
const TIME: &str = "%Y%m%dT%H%M%S%3fZ";

/// What a name says. In the order in which they were taken; a clock that was set back changes nothing about that
/// as long as something was written in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BackupName {
    /// The last revision in it.
    pub(super) revision: Revision,
    /// Milliseconds since 1970, UTC.
    pub(super) taken_ms: i64,
    /// Who took it.
    pub(super) member: MemberId,
}

impl BackupName {
    /// The file's name; `None` for a time that no calendar has.
    pub(super) fn file_name(self) -> Option<String> {
        let time = DateTime::from_timestamp_millis(self.taken_ms)?.format(TIME);
        Some(format!("{:016x}-{time}-{}{ENDING}", self.member.0, self.revision.0))
    }

    /// Reads a name.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_suffix(ENDING)?.split('-');
        let (member, time, revision) = (parts.next()?, parts.next()?, parts.next()?);
        let parsed = Self {
            member: MemberId(u64::from_str_radix(member, 16).ok()?),
            taken_ms: NaiveDateTime::parse_from_str(time, TIME).ok()?.and_utc().timestamp_millis(),
            revision: Revision(revision.parse().ok()?),
        };
        // Exactly as it would be written: nothing that only looks alike is ever removed.
        (parsed.file_name().as_deref() == Some(name)).then_some(parsed)
    }

    /// Whether it is the name of a file that this member did not finish.
    pub(super) fn is_unfinished_of(member: MemberId, name: &str, writing: &str) -> bool {
        let finished = name.strip_suffix(writing).map(|stem| format!("{stem}{ENDING}"));
        finished.and_then(|name| Self::parse(&name)).is_some_and(|found| found.member == member)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "00000000000000ab-20260304T050607089Z-42.snapshot";

    fn name() -> BackupName {
        BackupName { member: MemberId(0xab), taken_ms: 1_772_600_767_089, revision: Revision(42) }
    }

    #[test]
    fn a_name_says_who_when_and_what() {
        assert_eq!(name().file_name().unwrap(), NAME);
        assert_eq!(BackupName::parse(NAME), Some(name()));
        assert_eq!(BackupName { taken_ms: i64::MAX, ..name() }.file_name(), None);
    }

    #[test]
    fn what_only_looks_alike_is_none() {
        for other in [
            "",
            "x.snapshot",
            "00000000000000ab-20260304T050607089Z-42.writing",
            "ab-20260304T050607089Z-42.snapshot",
            "00000000000000AB-20260304T050607089Z-42.snapshot",
            "00000000000000ab-20260304T050607Z-42.snapshot",
            "00000000000000ab-20260304T050607089Z-042.snapshot",
            "00000000000000ab-20260304T050607089Z-42-copy.snapshot",
            "00000000000000000042-00000000000000000001.snapshot",
        ] {
            assert_eq!(BackupName::parse(other), None, "{other}");
        }
    }

    #[test]
    fn only_its_own_unfinished_files_are_a_members() {
        let unfinished = NAME.replace(".snapshot", ".writing");
        for (member, name, expected) in [
            (0xab, unfinished.as_str(), true),
            (0xac, unfinished.as_str(), false),
            (0xab, NAME, false),
            (0xab, "notes.writing", false),
        ] {
            assert_eq!(BackupName::is_unfinished_of(MemberId(member), name, ".writing"), expected, "{name}");
        }
    }
}
