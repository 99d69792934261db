//! Selectors that choose objects by the values of fields: `metadata.name=a,status.phase!=Running`. Must never know which
//! fields a kind has.

use std::fmt;
use std::str::FromStr;

/// One term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// The field, such as `spec.nodeName`.
    pub field: String,
    /// The value.
    pub value: String,
    /// Whether the field must have the value, or must not.
    pub equals: bool,
}

/// A text that is no selector, in the words of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldSelectorError {
    /// A term has no operator.
    #[error("invalid selector: '{selector}'; can't understand '{term}'")]
    Term {
        /// The whole text.
        selector: String,
        /// The term.
        term: String,
    },
    /// A backslash stands before something that needs none.
    #[error("invalid field selector: invalid escape sequence: {0}")]
    Escape(String),
    /// A character stands in a value without the backslash that it needs.
    #[error("invalid field selector: unescaped character in value: {}", u32::from(*.0))]
    Unescaped(char),
}

/// All terms must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector(Vec<Term>);

impl FieldSelector {
    /// Of terms.
    #[must_use]
    pub const fn of(terms: Vec<Term>) -> Self {
        Self(terms)
    }

    /// The terms, sorted as text.
    #[must_use]
    pub fn terms(&self) -> &[Term] {
        &self.0
    }

    /// Whether it chooses every object.
    #[must_use]
    pub const fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an object is chosen; `field` gives the value of a field, empty where there is none.
    pub fn matches<V: AsRef<str>>(&self, mut field: impl FnMut(&str) -> V) -> bool {
        self.0.iter().all(|term| (field(&term.field).as_ref() == term.value) == term.equals)
    }

    /// The value that a field must have, if there is one.
    #[must_use]
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.0.iter().find(|term| term.equals && term.field == field).map(|term| term.value.as_str())
    }
}

/// A selector of this text.
impl FromStr for FieldSelector {
    type Err = FieldSelectorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut terms = split_terms(text);
        terms.sort_unstable();
        let mut read = Vec::with_capacity(terms.len());
        for term in terms.into_iter().filter(|term| !term.is_empty()) {
            let term = read_term(term, text)?;
            // A term that names nothing asks nothing.
            if !term.field.is_empty() || !term.value.is_empty() {
                read.push(term);
            }
        }
        Ok(Self(read))
    }
}

/// What stands between commas that have no backslash.
fn split_terms(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b',' => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn read_term(term: &str, selector: &str) -> Result<Term, FieldSelectorError> {
    let at = (0..term.len()).find(|at| {
        let rest = &term.as_bytes()[*at..];
        rest.starts_with(b"=") || rest.starts_with(b"!=")
    });
    let at =
        at.ok_or_else(|| FieldSelectorError::Term { selector: selector.to_owned(), term: term.to_owned() })?;
    let (field, rest) = term.split_at(at);
    let (equals, value) = match (rest.strip_prefix("!="), rest.strip_prefix("==")) {
        (Some(value), _) => (false, value),
        (None, Some(value)) => (true, value),
        (None, None) => (true, &rest[1..]),
    };
    Ok(Term { field: field.to_owned(), value: unescape(value)?, equals })
}

fn unescape(value: &str) -> Result<String, FieldSelectorError> {
    let mut plain = String::with_capacity(value.len());
    let mut letters = value.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some(escaped @ ('\\' | ',' | '=')) => plain.push(escaped),
                Some(other) => return Err(FieldSelectorError::Escape(format!("\\{other}"))),
                None => return Err(FieldSelectorError::Escape("\\".to_owned())),
            },
            ',' | '=' => return Err(FieldSelectorError::Unescaped(letter)),
            other => plain.push(other),
        }
    }
    Ok(plain)
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.field, if self.equals { "=" } else { "!=" })?;
        for letter in self.value.chars() {
            if matches!(letter, '\\' | ',' | '=') {
                f.write_str("\\")?;
            }
            write!(f, "{letter}")?;
        }
        Ok(())
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{term}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn selectors_are_read_and_written() {
        let table = [
            ("", ""),
            (",,", ""),
            ("b=2,a!=1", "a!=1,b=2"),
            ("a==1", "a=1"),
            ("a=", "a="),
            ("=b", "=b"),
            (r"a=x\,y\=z\\", r"a=x\,y\=z\\"),
        ];
        for (text, written) in table {
            let selector: FieldSelector = text.parse().unwrap();
            assert_eq!(selector.to_string(), written);
        }
    }

    #[test]
    fn sentences_are_those_of_kubernetes() {
        let table = [
            ("a=1,b", "invalid selector: 'a=1,b'; can't understand 'b'"),
            (r"a=\x", r"invalid field selector: invalid escape sequence: \x"),
            ("a=\\", r"invalid field selector: invalid escape sequence: \"),
            ("a=b=c", "invalid field selector: unescaped character in value: 61"),
        ];
        for (text, error) in table {
            assert_eq!(text.parse::<FieldSelector>().unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn terms_hold_or_not() {
        let value = |field: &str| if field == "a" { "1" } else { "" };
        for (text, matches) in
            [("a=1", true), ("a!=1", false), ("b=", true), ("b!=", false), ("a=1,b!=2", true), ("", true)]
        {
            assert_eq!(text.parse::<FieldSelector>().unwrap().matches(value), matches, "{text}");
        }
        let selector: FieldSelector = "a!=2,metadata.name=x".parse().unwrap();
        assert_eq!((selector.exact("metadata.name"), selector.exact("a")), (Some("x"), None));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_the_same(value: String, equals: bool) {
            let selector = FieldSelector::of(vec![Term { field: "a.b".to_owned(), value, equals }]);
            prop_assert_eq!(selector.to_string().parse(), Ok(selector));
        }
    }
}
