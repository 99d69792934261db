//! When all is over, members hold the same, and it is what the history says.

use super::past::Past;
use super::verdict::{Verdict, Violation};
use crate::history::{History, Span};

/// Compares what the members hold with the history, and their hashes with each other.
#[must_use]
pub fn check(history: &History, past: &Past) -> Verdict {
    let mut checked = 0;
    for state in &history.members {
        if state.revision != past.newest() {
            let what = format!(
                "{} ends at revision {}, the history at {}",
                state.member,
                state.revision,
                past.newest()
            );
            return Verdict::of(Err(Violation::new(what).at(state.revision)));
        }
        let everything = Span::everything();
        let expected: Vec<_> = past.range(&everything, past.newest()).collect();
        let wrong = expected.iter().zip(&state.kvs).find(|(expected, found)| **expected != *found);
        if let Some((expected, found)) = wrong {
            let what = format!("{} holds {found:?} where the history says {expected:?}", state.member);
            return Verdict::of(Err(Violation::new(what).at(expected.mod_revision)));
        }
        if expected.len() != state.kvs.len() {
            let (found, expected) = (state.kvs.len(), expected.len());
            let what = format!("{} holds {found} keys, the history {expected}", state.member);
            return Verdict::of(Err(Violation::new(what)));
        }
        checked += expected.len();
    }
    for (one, other) in history.members.iter().zip(history.members.iter().skip(1)) {
        if one.compact_revision == other.compact_revision && one.hash != other.hash {
            let what = format!(
                "the hash of {} is {} and that of {} is {}, both at revision {}",
                one.member, one.hash, other.member, other.hash, one.revision
            );
            return Verdict::of(Err(Violation::new(what).at(one.revision)));
        }
    }
    Verdict::Passed { checked }
}
