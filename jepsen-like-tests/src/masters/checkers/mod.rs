//! What must hold in a record of masters, whatever struck them. Pure: a history in, a verdict out.
//!
//! - [`truth`]: the one history of objects that all informers together tell
//! - [`writes`], [`reads`], [`watches`]: what clients and informers were told, against it
//! - [`leader`]: who acts has the Lease
//! - [`converged`]: what is there in the end is what was asked for, and nothing else

pub mod converged;
pub mod leader;
#[cfg(test)]
mod planted;
pub mod reads;
mod real_time;
pub mod truth;
pub mod watches;
pub mod writes;

use super::history::History;
use crate::checkers::{Finding, Verdict, Violation};
use truth::Truth;

/// Judges a record. What a run did not look at has nothing to judge, and passes with nothing checked.
#[must_use]
pub fn check_all(history: &History) -> Vec<Finding> {
    let of = |checker, result: Result<usize, Violation>| Finding { checker, verdict: Verdict::of(result) };
    let leaders = of("leader", leader::check(history));
    let converged = of("converged", converged::check(history));
    let truth = match Truth::of(history) {
        Ok(truth) => truth,
        Err(violation) => return vec![of("truth", Err(violation)), leaders, converged],
    };
    vec![
        of("truth", Ok(truth.len())),
        of("writes", writes::check(history, &truth)),
        of("reads", reads::check(history, &truth)),
        of("watches", watches::check(history, &truth)),
        leaders,
        converged,
    ]
}
