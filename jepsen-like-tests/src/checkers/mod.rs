//! Verdicts: pure functions from a history to what is wrong with it.
//!
//! A checker must never need more than the history, and never say "wrong" of what a correct store can do. Each is
//! tested on correct histories, which it must pass, and with planted faults, which it must find.

pub mod auth;
pub mod clocks;
pub mod counter;
pub mod end;
mod execute;
pub mod lease;
pub mod list_append;
pub mod lock;
mod matching;
mod past;
#[cfg(test)]
mod planted;
mod real_time;
pub mod revisions;
pub mod search;
pub mod serializable;
pub mod set;
#[cfg(test)]
mod tests;
pub mod values;
mod verdict;
pub mod watch;

pub use execute::{Executed, execute};
pub use past::{FIRST_REVISION, Inconsistent, Past};
pub use revisions::Extent;
pub use verdict::{Verdict, Violation};

use crate::history::History;

/// Keys of registers begin so; they are judged by search as well.
pub const REGISTERS: &str = "register/";

/// What one checker says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The checker.
    pub checker: &'static str,
    /// Its verdict.
    pub verdict: Verdict,
}

/// Lets every checker judge.
#[must_use]
pub fn check_all(history: &History) -> Vec<Finding> {
    let finding = |checker, verdict| Finding { checker, verdict };
    let past = match Past::of(&history.revisions) {
        Ok(past) => past,
        // Without a past there is nothing to judge by.
        Err(why) => {
            let violation = Violation::new(format!("the history that the store tells: {why}"));
            return vec![finding("history", Verdict::Failed(Box::new(violation)))];
        }
    };
    let pinned = revisions::pinned(history, &past);
    vec![
        finding("history", Verdict::Passed { checked: history.revisions.len() }),
        finding("revisions", revisions::check(history, &past, Extent::Whole)),
        finding("serializable", serializable::check(history, &past)),
        finding("registers", values::check(history, REGISTERS, pinned.as_ref(), values::BUDGET)),
        finding("watch", watch::check(history, &past)),
        finding("lease", lease::check(history, &past)),
        finding("lock", lock::check(history, &past)),
        finding("auth", auth::check(history)),
        finding("set", set::check(history)),
        finding("counter", counter::check(history, &past)),
        finding("list-append", list_append::check(history, &past)),
        finding("end", end::check(history, &past)),
    ]
}
