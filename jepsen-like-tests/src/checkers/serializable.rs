//! Serializable reads may be old, but each must be a state that really was, and none of the future.
//!
//! That they do not see the future is part of real time: what comes later makes a later revision. So the content is
//! what this looks at.

use super::execute::execute;
use super::past::Past;
use super::verdict::{Verdict, Violation};
use crate::history::History;

/// Checks every serializable read that was answered.
#[must_use]
pub fn check(history: &History, past: &Past) -> Verdict {
    let mut checked = 0;
    for operation in history.operations.iter().filter(|operation| operation.request.is_serializable()) {
        let Some((revision, answer)) = operation.ok() else { continue };
        let state = execute(&operation.request, past, revision).answer;
        if revision > past.newest() || state != *answer {
            let what = format!(
                "serializable range {} at {} was answered at revision {revision} with {answer:?}, which was never \
                 true; that state answers {state:?}",
                operation.id.0, operation.member
            );
            return Verdict::of(Err(Violation::new(what).by([operation.id]).at(revision)));
        }
        checked += 1;
    }
    Verdict::Passed { checked }
}
