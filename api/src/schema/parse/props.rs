//! One schema as it is written, with the keywords by name. Must never fail: what has the wrong type is as good as not
//! given, and is told where the schema is read.

use serde_json::{Map, Value};

/// The keywords of one schema.
#[derive(Clone, Copy)]
pub(super) struct Props<'a>(&'a Map<String, Value>);

/// Whether a value says something: not null, empty, false or zero-length.
pub(super) fn is_set(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::Object(map)) => !map.is_empty(),
        Some(_) => true,
    }
}

impl<'a> Props<'a> {
    pub(super) fn of(json: &'a Value) -> Option<Self> {
        json.as_object().map(Self)
    }

    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = (&'a str, &'a Value)> + use<'a> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    pub(super) fn text(&self, key: &str) -> &'a str {
        self.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn flag(&self, key: &str) -> bool {
        self.get(key).and_then(Value::as_bool).unwrap_or_default()
    }

    pub(super) fn kind(&self) -> &'a str {
        self.text("type")
    }

    pub(super) fn texts(&self, key: &str) -> Vec<&'a str> {
        self.list(key).iter().filter_map(Value::as_str).collect()
    }

    pub(super) fn list(&self, key: &str) -> &'a [Value] {
        self.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// The schema at this keyword, if it is one: not `true`, and not a list.
    pub(super) fn schema(&self, key: &str) -> Option<Self> {
        Self::of(self.get(key)?)
    }

    /// The schemas in the list at this keyword.
    pub(super) fn schemas(&self, key: &str) -> impl Iterator<Item = (usize, Self)> + use<'a> {
        self.list(key).iter().enumerate().filter_map(|(index, json)| Some((index, Self::of(json)?)))
    }

    /// The schemas in the map at this keyword.
    pub(super) fn named(&self, key: &str) -> impl Iterator<Item = (&'a str, Self)> + use<'a> {
        let map = self.get(key).and_then(Value::as_object);
        map.into_iter().flatten().filter_map(|(name, json)| Some((name.as_str(), Self::of(json)?)))
    }

    pub(super) fn property(&self, name: &str) -> Option<Self> {
        Self::of(self.get("properties")?.get(name)?)
    }

    pub(super) fn has_properties(&self) -> bool {
        is_set(self.get("properties"))
    }
}
