//! Known differences between Debian's etcd 3.4.23 and the behaviour of etcd 3.6 that Barque has. What is named here is kept
//! out of comparisons, and nothing else is.
//!
//! 1. A sort order or target outside its enumeration: 3.4 ignores the first and dies of the second, 3.6 answers
//!    "invalid sort option".
//! 2. A watch from a negative revision: 3.4 takes it for an old one, 3.6 refuses it at creation.
//! 3. Progress on request: 3.4.23 answers even when a watch of the stream is behind, or waits for a revision that is still
//!    to come. Only asked for when none does.
//! 4. The revision in the header of a cancellation is that of the moment; it is not compared.
//! 5. A put that keeps the value or lease of a key which the same transaction deleted before: etcd passes its
//!    check, then the process dies ("unexpected error during txn").
//! 6. A watch from the compact revision itself: 3.4 has lost the deletions of that revision, 3.6 tells them. That
//!    Barque tells them is tested with the keyspace and the watches.

/// Whether a watch from this revision is told otherwise by the two, when everything up to `compacted` is compacted
/// (differences 2 and 6).
#[must_use]
pub fn of_watch(start_revision: i64, compacted: i64) -> bool {
    start_revision < 0 || (start_revision > 0 && start_revision == compacted)
}

/// Whether progress of a watch from this revision, which has told everything up to `revision`, is told by one of the two
/// alone (difference 3).
#[must_use]
pub fn of_progress(start_revision: i64, revision: i64) -> bool {
    start_revision > revision
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_is_left_out() {
        for (start, compacted, differs) in
            [(0, 0, false), (0, 5, false), (5, 5, true), (4, 5, false), (6, 5, false), (-1, 5, true)]
        {
            assert_eq!(of_watch(start, compacted), differs, "from {start}, compacted at {compacted}");
        }
        for (start, revision, differs) in [(0, 9, false), (9, 9, false), (10, 9, true), (11, 9, true)] {
            assert_eq!(of_progress(start, revision), differs, "from {start} at {revision}");
        }
    }
}
