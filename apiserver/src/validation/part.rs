//! A part of an object together with its place in it, to read. Fields that are missing, null or of another shape read as
//! nothing. Must never judge.

use barque_api::field::FieldPath;
use serde_json::{Map, Value};

static NOTHING: Value = Value::Null;

/// A part of an object and its place.
#[derive(Clone)]
pub(super) struct Part<'a> {
    /// What stands there.
    pub(super) value: &'a Value,
    /// Where.
    pub(super) path: FieldPath,
}

impl<'a> Part<'a> {
    /// A value at a place.
    pub(super) fn new(value: &'a Value, path: FieldPath) -> Self {
        Self { value, path }
    }

    /// The whole object.
    pub(super) fn root(value: &'a Value) -> Self {
        Self::new(value, FieldPath::root())
    }

    /// The place of a field.
    pub(super) fn at(&self, field: &str) -> FieldPath {
        self.path.child(field)
    }

    /// What stands in a field; null where there is none.
    pub(super) fn get(&self, field: &str) -> &'a Value {
        self.value.get(field).unwrap_or(&NOTHING)
    }

    /// Whether something stands in a field.
    pub(super) fn has(&self, field: &str) -> bool {
        !self.get(field).is_null()
    }

    /// A field, whatever stands there.
    pub(super) fn child(&self, field: &str) -> Self {
        Self::new(self.get(field), self.at(field))
    }

    /// A field in which something stands.
    pub(super) fn given(&self, field: &str) -> Option<Self> {
        self.has(field).then(|| self.child(field))
    }

    /// The text of a field; empty where there is none.
    pub(super) fn text(&self, field: &str) -> &'a str {
        self.get(field).as_str().unwrap_or_default()
    }

    /// The whole number in a field.
    pub(super) fn number(&self, field: &str) -> Option<i64> {
        self.get(field).as_i64()
    }

    /// The whole number in a field; 0 where there is none.
    pub(super) fn count(&self, field: &str) -> i64 {
        self.number(field).unwrap_or_default()
    }

    /// What a field says, yes or no, if it says it.
    pub(super) fn choice(&self, field: &str) -> Option<bool> {
        self.get(field).as_bool()
    }

    /// Whether a field says yes.
    pub(super) fn flag(&self, field: &str) -> bool {
        self.choice(field) == Some(true)
    }

    /// The list in a field.
    pub(super) fn list(&self, field: &str) -> &'a [Value] {
        self.get(field).as_array().map_or(&[], Vec::as_slice)
    }

    /// The texts of the list in a field.
    pub(super) fn texts(&self, field: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.list(field).iter().map(|item| item.as_str().unwrap_or_default())
    }

    /// The items of the list in a field, each at its place.
    pub(super) fn items(&self, field: &str) -> impl Iterator<Item = Self> + use<'a> {
        let items = self.list(field);
        // Most lists are not there; their places need not be made.
        let path = if items.is_empty() { FieldPath::root() } else { self.at(field) };
        items.iter().enumerate().map(move |(index, item)| Self::new(item, path.index(index)))
    }

    /// The map in a field.
    pub(super) fn map(&self, field: &str) -> Option<&'a Map<String, Value>> {
        self.get(field).as_object()
    }

    /// The entries of the map in a field.
    pub(super) fn entries(&self, field: &str) -> impl Iterator<Item = (&'a str, &'a Value)> + use<'a> {
        self.map(field).into_iter().flatten().map(|(key, value)| (key.as_str(), value))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_has_another_shape_reads_as_nothing() {
        let value = json!({"a": [1, {"b": "x"}], "n": null, "s": 3});
        let part = Part::root(&value);
        assert_eq!(part.text("s"), "");
        assert!(!part.has("n") && part.given("n").is_none());
        assert_eq!(part.items("s").count() + part.entries("a").count() + part.list("q").len(), 0);
        let last = part.items("a").last().unwrap();
        assert_eq!((last.text("b"), last.at("b").to_string().as_str()), ("x", "a[1].b"));
        assert_eq!((last.number("b"), last.choice("b"), last.flag("b")), (None, None, false));
        assert_eq!(part.child("s").child("t").text("u"), "");
    }
}
