//! Resource versions: text that is opaque to clients, and a revision of the store here. The one place where one becomes
//! the other; must never be compared as text.

use std::fmt;

use crate::field::{FieldError, FieldPath};

/// A revision of the store, as clients see it. 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceVersion(u64);

impl ResourceVersion {
    /// None: of an object that is not stored, or of a request that takes any.
    pub const NONE: Self = Self(0);

    /// Of a revision.
    #[must_use]
    pub const fn of_revision(revision: u64) -> Self {
        Self(revision)
    }

    /// The revision.
    #[must_use]
    pub const fn revision(self) -> u64 {
        self.0
    }

    /// Whether it is none.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// From a request or an object. Nothing and `0` are none.
    ///
    /// # Errors
    /// The field and what is wrong with it, in the words of Kubernetes.
    pub fn parse(text: &str) -> Result<Self, FieldError> {
        if text.is_empty() {
            return Ok(Self::NONE);
        }
        let invalid = |why: &str| {
            let detail = format!("strconv.ParseUint: parsing {text:?}: {why}");
            FieldError::invalid(&FieldPath::of("resourceVersion"), text, detail)
        };
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(invalid("invalid syntax"));
        }
        text.parse().map(Self).map_err(|_| invalid("value out of range"))
    }
}

/// As it stands in `metadata.resourceVersion`; none is empty.
impl fmt::Display for ResourceVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_none() { Ok(()) } else { self.0.fmt(f) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_revision() {
        for (text, revision, again) in [
            ("", 0, ""),
            ("0", 0, ""),
            ("7", 7, "7"),
            ("18446744073709551615", u64::MAX, "18446744073709551615"),
        ] {
            let version = ResourceVersion::parse(text).unwrap();
            assert_eq!((version.revision(), version.to_string().as_str()), (revision, again));
        }
    }

    #[test]
    fn what_is_none_is_told() {
        let table = [
            ("a", r#"resourceVersion: Invalid value: "a": strconv.ParseUint: parsing "a": invalid syntax"#),
            (
                "-1",
                r#"resourceVersion: Invalid value: "-1": strconv.ParseUint: parsing "-1": invalid syntax"#,
            ),
            (
                "+1",
                r#"resourceVersion: Invalid value: "+1": strconv.ParseUint: parsing "+1": invalid syntax"#,
            ),
            (
                "18446744073709551616",
                r#"resourceVersion: Invalid value: "18446744073709551616": strconv.ParseUint: parsing "18446744073709551616": value out of range"#,
            ),
        ];
        for (text, error) in table {
            assert_eq!(ResourceVersion::parse(text).unwrap_err().to_string(), error);
        }
    }
}
