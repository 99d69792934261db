//! What is said when a property does not hold.

use std::fmt;

/// A property that must always hold was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which property, in words.
    pub property: &'static str,
    /// How it was seen.
    pub detail: String,
}

impl Violation {
    /// A property and how it was seen to be broken.
    #[must_use]
    pub fn of(property: &'static str, detail: impl Into<String>) -> Self {
        Self { property, detail: detail.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.property, self.detail)
    }
}
