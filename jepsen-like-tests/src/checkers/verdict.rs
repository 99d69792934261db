//! What a checker says, and what it points at.

use std::fmt;

use crate::history::{OperationId, WatchId};

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What is wrong, in sentences for people.
    pub what: String,
    /// The requests that show it.
    pub operations: Vec<OperationId>,
    /// The watch that shows it.
    pub watch: Option<WatchId>,
    /// The revisions that it is about.
    pub revisions: Vec<i64>,
}

impl Violation {
    /// A violation that is told in words.
    #[must_use]
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), operations: Vec::new(), watch: None, revisions: Vec::new() }
    }

    /// Shown by these requests.
    #[must_use]
    pub fn by(mut self, operations: impl IntoIterator<Item = OperationId>) -> Self {
        self.operations.extend(operations);
        self
    }

    /// Shown by this watch.
    #[must_use]
    pub fn on(mut self, watch: WatchId) -> Self {
        self.watch = Some(watch);
        self
    }

    /// About this revision.
    #[must_use]
    pub fn at(mut self, revision: i64) -> Self {
        self.revisions.push(revision);
        self
    }
}

/// What a checker found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing wrong, in so many things that were looked at.
    Passed {
        /// How many.
        checked: usize,
    },
    /// Something wrong.
    Failed(Box<Violation>),
    /// No answer in the time that was given; a run with such a verdict has not passed.
    Unknown {
        /// What could not be decided.
        why: String,
    },
}

impl Verdict {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn passed(&self) -> bool {
        matches!(self, Self::Passed { .. })
    }

    /// The violation, if there is one.
    #[must_use]
    pub fn violation(&self) -> Option<&Violation> {
        match self {
            Self::Failed(violation) => Some(violation),
            _ => None,
        }
    }

    /// From the count of what was looked at, or the first thing that is wrong.
    #[must_use]
    pub fn of(result: Result<usize, Violation>) -> Self {
        match result {
            Ok(checked) => Self::Passed { checked },
            Err(violation) => Self::Failed(Box::new(violation)),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed { checked } => write!(f, "passed ({checked} checked)"),
            Self::Failed(violation) => write!(f, "FAILED: {}", violation.what),
            Self::Unknown { why } => write!(f, "UNKNOWN: {why}"),
        }
    }
}
