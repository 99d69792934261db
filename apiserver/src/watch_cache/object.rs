//! An object as the cache holds it: the stored bytes, and what selectors ask for, found once. Must never copy the bytes,
//! nor change them: the resource version is put in where they are written out.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use crate::storage::{Entry, Revision};

/// A text inside the stored bytes, or one of its own where it stands there in another form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Text {
    /// Where in the bytes.
    Span(u32, u32),
    /// With escapes resolved, or not a text in the bytes.
    Owned(Box<str>),
}

impl Text {
    fn get<'a>(&'a self, value: &'a [u8]) -> &'a str {
        match self {
            Self::Owned(text) => text,
            Self::Span(from, len) => {
                let span = *from as usize..*from as usize + *len as usize;
                value.get(span).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
            }
        }
    }
}

/// Where the resource version goes: the stored bytes have none, or one that is not to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In front of this key of the metadata.
    Before(u32),
    /// Instead of the text that stands there, quotes not counted.
    Instead(u32, u32),
}

/// What was found in the bytes.
#[derive(Debug)]
pub(super) struct Attributes {
    pub(super) place: Place,
    /// In the order of their names.
    pub(super) labels: Box<[(Text, Text)]>,
    /// In the order in which the reader was asked for them.
    pub(super) fields: Box<[Text]>,
}

/// Which of the fields that a cache keeps for selectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FieldIndex(pub(super) usize);

/// One version of an object. It never changes.
pub struct Object {
    key: Bytes,
    value: Bytes,
    revision: Revision,
    /// Why the bytes cannot be understood, if they cannot.
    attributes: Result<Attributes, Box<str>>,
}

impl Object {
    pub(super) fn new(entry: Entry, attributes: Result<Attributes, String>) -> Self {
        let attributes = attributes.map_err(String::into_boxed_str);
        Self { key: entry.key, value: entry.value, revision: entry.revision, attributes }
    }

    /// The key in the store.
    #[must_use]
    pub fn key(&self) -> &Bytes {
        &self.key
    }

    /// As it is stored: JSON without a resource version.
    #[must_use]
    pub fn stored(&self) -> &Bytes {
        &self.value
    }

    /// The write that made it.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Why it cannot be served, if it cannot.
    #[must_use]
    pub fn unreadable(&self) -> Option<&str> {
        self.attributes.as_ref().err().map(|why| &**why)
    }

    /// The value of a label.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&str> {
        let labels = &self.attributes.as_ref().ok()?.labels;
        let at = labels.binary_search_by(|(label, _)| label.get(&self.value).cmp(name)).ok()?;
        Some(labels[at].1.get(&self.value))
    }

    /// All labels with their values, in the order of their names.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        let labels = self.attributes.as_ref().map(|found| &*found.labels).unwrap_or_default();
        labels.iter().map(|(name, value)| (name.get(&self.value), value.get(&self.value)))
    }

    /// A field that selectors may ask for.
    #[must_use]
    pub fn field(&self, field: FieldIndex) -> &str {
        let fields = self.attributes.as_ref().map(|found| &*found.fields).unwrap_or_default();
        fields.get(field.0).map_or("", |text| text.get(&self.value))
    }

    /// The object as JSON with this resource version, in three pieces that share the stored bytes but for the one in the
    /// middle. A deleted object is told with the revision of its deletion.
    #[must_use]
    pub fn json(&self, version: Revision) -> [Bytes; 3] {
        let (before, middle, after) = self.pieces(version);
        [self.value.slice(before), middle.into(), self.value.slice(after)]
    }

    /// Writes the object as JSON with this resource version behind what is in `out`.
    pub fn write_json(&self, version: Revision, out: &mut Vec<u8>) {
        let (before, middle, after) = self.pieces(version);
        out.reserve(self.value.len() + middle.len());
        out.extend_from_slice(&self.value[before]);
        out.extend_from_slice(middle.as_bytes());
        out.extend_from_slice(&self.value[after]);
    }

    fn pieces(&self, version: Revision) -> (Range<usize>, String, Range<usize>) {
        let len = self.value.len();
        match self.attributes.as_ref().map(|found| found.place) {
            Ok(Place::Before(at)) => {
                let at = at as usize;
                (0..at, format!("\"resourceVersion\":\"{version}\","), at..len)
            }
            Ok(Place::Instead(at, old)) => {
                let at = at as usize;
                (0..at, version.to_string(), at + old as usize..len)
            }
            Err(_) => (0..len, String::new(), len..len),
        }
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", String::from_utf8_lossy(&self.key), self.revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_in_place_cost_no_more_than_a_pointer_and_a_length() {
        assert_eq!(size_of::<Text>(), 16);
    }
}
