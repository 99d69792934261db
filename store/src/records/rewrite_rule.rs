//! Whether rewriting the records would give the file system enough space back. Pure.
//!
//! The engine's files keep the length that they once had, whatever is removed: what it frees at the end of a file it
//! cuts off only as long as it remembers that length, which is until it is opened anew.

use std::time::Duration;

/// When to rewrite the records, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RewriteRule {
    /// Not worth it for less.
    pub worth_bytes: u64,
    /// So much of the disk is left to others: the log above all, whose failure ends the member.
    pub reserve_bytes: u64,
    /// Copied in one step, between two batches.
    pub step_bytes: u64,
    /// What failed is not tried again before.
    pub retry_after: Duration,
}

impl Default for RewriteRule {
    fn default() -> Self {
        Self {
            worth_bytes: 8 << 20,
            reserve_bytes: 64 << 20,
            step_bytes: 4 << 20,
            retry_after: Duration::from_secs(600),
        }
    }
}

/// What is known when it is to be decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Occupancy {
    /// Bytes that the engine's files take.
    pub(super) disk_bytes: u64,
    /// Bytes of the records, before they are packed.
    pub(super) live_bytes: u64,
    /// The most that there ever were in these files, as far as is known.
    pub(super) peak_bytes: u64,
    /// What the disk has left.
    pub(super) free_bytes: u64,
    /// What the last rewrite made of these files.
    pub(super) last_copy: Option<LastCopy>,
    /// Since a rewrite failed.
    pub(super) since_failure: Option<Duration>,
}

/// A copy, right after it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LastCopy {
    /// Bytes of the records, before they are packed.
    pub(super) live_bytes: u64,
    /// Bytes that the engine's files took.
    pub(super) disk_bytes: u64,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It would give too little back.
    NotWorth,
    /// It failed not long ago.
    TooSoon,
    /// There is no room for both copies.
    NoRoom {
        /// What has to be free.
        needed_bytes: u64,
    },
    /// To be rewritten.
    Worth,
}

impl RewriteRule {
    /// A rewrite is worth it when half of what is there comes back, and not too little.
    pub(super) fn decide(&self, now: &Occupancy) -> Verdict {
        let copy_bytes = now.copy_bytes();
        if copy_bytes > now.disk_bytes / 2 || now.disk_bytes - copy_bytes < self.worth_bytes {
            return Verdict::NotWorth;
        }
        if now.since_failure.is_some_and(|since| since < self.retry_after) {
            return Verdict::TooSoon;
        }
        // While it grows, a copy holds leaves that were replaced.
        let needed_bytes = copy_bytes.saturating_mul(2).saturating_add(self.reserve_bytes);
        if now.free_bytes < needed_bytes { Verdict::NoRoom { needed_bytes } } else { Verdict::Worth }
    }
}

impl Occupancy {
    /// About what the copy takes. Records that can be packed take less than their bytes: as much less as when there
    /// were the most of them, when nearly everything in the files was theirs.
    fn copy_bytes(&self) -> u64 {
        // Slots in the engine's files are a bit larger than what is in them.
        let unpacked = self.live_bytes.saturating_add(self.live_bytes / 4);
        let packed = part_of(self.disk_bytes, self.live_bytes, self.peak_bytes);
        let last = self.last_copy.map_or(0, |copy| {
            part_of(copy.disk_bytes, self.live_bytes.min(copy.live_bytes), copy.live_bytes)
        });
        unpacked.min(packed).max(last)
    }
}

/// `bytes * part / whole`; all of them when there is no whole.
fn part_of(bytes: u64, part: u64, whole: u64) -> u64 {
    if whole == 0 {
        return bytes;
    }
    u64::try_from(u128::from(bytes) * u128::from(part) / u128::from(whole)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_rewrite_is_worth_half_of_what_is_there() {
        let rule = RewriteRule::default();
        let no_room = |mib| Verdict::NoRoom { needed_bytes: mib * MIB };
        // MiB on disk, live, at most, free; what to do.
        for (disk, live, peak, free, expected, why) in [
            (200, 200, 200, 1000, Verdict::NotWorth, "nothing was removed"),
            (200, 10, 200, 1000, Verdict::Worth, "nearly everything was removed"),
            (200, 0, 200, 1000, Verdict::Worth, "everything was removed"),
            (200, 80, 80, 1000, Verdict::Worth, "removed before the start"),
            (200, 81, 81, 1000, Verdict::NotWorth, "too little removed before the start"),
            (200, 500, 1000, 1000, Verdict::Worth, "packed to a fifth, half of it gone"),
            (200, 501, 1000, 1000, Verdict::NotWorth, "packed, too much of it left"),
            (200, 500, 500, 1000, Verdict::NotWorth, "packed, removed before the start: not known"),
            (9, 1, 9, 1000, Verdict::Worth, "just enough comes back"),
            (8, 1, 8, 1000, Verdict::NotWorth, "too little comes back"),
            (0, 0, 0, 1000, Verdict::NotWorth, "nothing is there"),
            (200, 40, 160, 164, Verdict::Worth, "just enough room"),
            (200, 40, 160, 163, no_room(164), "too little room"),
            (200, 0, 160, 63, no_room(64), "the log needs what is left"),
        ] {
            let [disk_bytes, live_bytes, peak_bytes, free_bytes] =
                [disk, live, peak, free].map(|mib| mib * MIB);
            let now = Occupancy {
                disk_bytes,
                live_bytes,
                peak_bytes,
                free_bytes,
                last_copy: None,
                since_failure: None,
            };
            assert_eq!(rule.decide(&now), expected, "{why}");
        }
    }

    #[test]
    fn what_failed_is_not_tried_again_at_once() {
        let rule = RewriteRule::default();
        let now = Occupancy {
            disk_bytes: 200 * MIB,
            live_bytes: MIB,
            peak_bytes: 200 * MIB,
            free_bytes: 1000 * MIB,
            last_copy: None,
            since_failure: None,
        };
        let after =
            |seconds| rule.decide(&Occupancy { since_failure: Some(Duration::from_secs(seconds)), ..now });
        assert_eq!([after(0), after(599), after(600)], [Verdict::TooSoon, Verdict::TooSoon, Verdict::Worth]);
    }

    #[test]
    fn what_the_last_rewrite_could_not_give_back_is_not_tried_for_again() {
        // MiB live and on disk after it, live and on disk now; what to do.
        for (copy_live, copy_disk, live, disk, expected, why) in [
            (10, 80, 10, 80, Verdict::NotWorth, "nothing has changed"),
            (10, 80, 20, 150, Verdict::NotWorth, "grown, as badly packed"),
            (10, 80, 10, 160, Verdict::Worth, "twice as large since"),
            (10, 80, 5, 80, Verdict::Worth, "half of it was removed since"),
            (0, 1, 0, 1, Verdict::NotWorth, "it was empty"),
            (0, 1, 10, 100, Verdict::Worth, "it was empty, and filled since"),
        ] {
            let last_copy = LastCopy { live_bytes: copy_live * MIB, disk_bytes: copy_disk * MIB };
            let now = Occupancy {
                disk_bytes: disk * MIB,
                live_bytes: live * MIB,
                peak_bytes: 1000 * MIB,
                free_bytes: 1000 * MIB,
                last_copy: Some(last_copy),
                since_failure: None,
            };
            assert_eq!(RewriteRule::default().decide(&now), expected, "{why}");
        }
    }

    #[test]
    fn no_numbers_overflow() {
        let most = Occupancy {
            disk_bytes: u64::MAX,
            live_bytes: u64::MAX,
            peak_bytes: 1,
            free_bytes: 0,
            last_copy: Some(LastCopy { live_bytes: 1, disk_bytes: u64::MAX }),
            since_failure: None,
        };
        assert_eq!(RewriteRule::default().decide(&most), Verdict::NotWorth);
    }
}
