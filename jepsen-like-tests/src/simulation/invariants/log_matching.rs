//! Where two logs have an entry of the same term at the same place, they are equal up to there.

use barque_store::wal::LogEntry;

use crate::simulation::network::Place;
use crate::simulation::violation::Violation;

const PROPERTY: &str = "log matching";

/// Compares two logs, each without holes.
///
/// # Errors
/// When they agree in an entry's term and differ in what comes before, or in the entry.
pub fn compare(one: (Place, &[LogEntry]), other: (Place, &[LogEntry])) -> Result<(), Violation> {
    let ((here, one), (there, other)) = (one, other);
    let (Some(one_first), Some(other_first)) = (one.first(), other.first()) else { return Ok(()) };
    let start = one_first.position.index.max(other_first.position.index);
    let from = |log: &[LogEntry], first: u64| {
        usize::try_from(start - first).map_or(log.len(), |at| at.min(log.len()))
    };
    let one = &one[from(one, one_first.position.index)..];
    let other = &other[from(other, other_first.position.index)..];
    let common = one.iter().zip(other).rposition(|(a, b)| a.position == b.position);
    let Some(common) = common else { return Ok(()) };
    match one.iter().zip(other).take(common + 1).find(|(a, b)| a != b) {
        None => Ok(()),
        Some((a, b)) => {
            let same = one[common].position;
            let detail = format!(
                "m{here} and m{there} agree in entry {}.{}, but entry {} is of term {} here and of term {} there, or \
                 differs in content",
                same.term, same.index, a.position.index, a.position.term, b.position.term
            );
            Err(Violation::of(PROPERTY, detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use barque_store::wal::{Payload, Position};
    use bytes::Bytes;

    use super::*;

    fn log(first: u64, entries: &[(u64, &'static str)]) -> Vec<LogEntry> {
        let entry = |(at, (term, text)): (usize, &(u64, &'static str))| LogEntry {
            position: Position { term: *term, index: first + at as u64 },
            payload: Payload::Batch(Bytes::from_static(text.as_bytes())),
        };
        entries.iter().enumerate().map(entry).collect()
    }

    #[test]
    fn logs_may_differ_behind_the_last_common_entry_alone() {
        let one = log(1, &[(1, "a"), (1, "b"), (2, "c")]);
        let matches = |other: &[LogEntry]| compare((0, &one), (1, other)).is_ok();
        assert!(matches(&one));
        assert!(matches(&[]));
        assert!(matches(&log(1, &[(1, "a"), (1, "b"), (3, "x")])));
        assert!(matches(&log(2, &[(1, "b"), (2, "c"), (2, "d")])));
        assert!(!matches(&log(1, &[(1, "a"), (1, "x"), (2, "c")])), "other content");
        assert!(!matches(&log(2, &[(2, "b"), (2, "c")])), "another term before");
    }
}
