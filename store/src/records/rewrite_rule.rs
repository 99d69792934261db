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
    /// Since a rewrite failed.
    pub(super) since_failure: Option<Duration>,
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
        let packed =
            u128::from(self.disk_bytes) * u128::from(self.live_bytes) / u128::from(self.peak_bytes.max(1));
        unpacked.min(u64::try_from(packed).unwrap_or(u64::MAX))
    }
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
            let now = Occupancy { disk_bytes, live_bytes, peak_bytes, free_bytes, since_failure: None };
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
            since_failure: None,
        };
        let after =
            |seconds| rule.decide(&Occupancy { since_failure: Some(Duration::from_secs(seconds)), ..now });
        assert_eq!([after(0), after(599), after(600)], [Verdict::TooSoon, Verdict::TooSoon, Verdict::Worth]);
    }

    #[test]
    fn no_numbers_overflow() {
        let most = Occupancy {
            disk_bytes: u64::MAX,
            live_bytes: u64::MAX,
            peak_bytes: 1,
            free_bytes: 0,
            since_failure: None,
        };
        assert_eq!(RewriteRule::default().decide(&most), Verdict::NotWorth);
    }
}
