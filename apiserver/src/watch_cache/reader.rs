//! Finds in stored JSON what the cache needs: labels, the fields that selectors ask for, and where the resource version
//! goes. Pure; reads the bytes once and skips what nobody asked for.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::object::{Attributes, FieldIndex, Object, Place, Text};
use crate::storage::Entry;

/// A field that selectors may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelectableField {
    /// `spec.nodeName`.
    pub path: &'static str,
    /// What it is where an object does not say; `false` for booleans, else mostly nothing.
    pub default: &'static str,
}

/// Reads the objects of one collection.
#[derive(Debug)]
pub struct ObjectReader {
    paths: Vec<Box<str>>,
    defaults: Vec<Box<str>>,
    root: Node,
}

/// Where a step into an object leads.
#[derive(Debug, Default)]
struct Node {
    children: Vec<(Box<str>, Node)>,
    field: Option<usize>,
}

impl Node {
    fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|(child, _)| **child == *name).map(|(_, node)| node)
    }

    fn make(&mut self, path: &str) -> &mut Self {
        path.split('.').fold(self, |node, name| {
            let at = node.children.iter().position(|(child, _)| **child == *name).unwrap_or_else(|| {
                node.children.push((name.into(), Self::default()));
                node.children.len() - 1
            });
            &mut node.children[at].1
        })
    }
}

impl ObjectReader {
    /// `metadata.name` and `metadata.namespace` are always read; `more` come behind them. A path with a default.
    pub fn new<'a>(more: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let always = [("metadata.name", ""), ("metadata.namespace", "")];
        let mut reader = Self { paths: Vec::new(), defaults: Vec::new(), root: Node::default() };
        for (path, default) in always.into_iter().chain(more) {
            let node = reader.root.make(path);
            if node.field.is_none() {
                node.field = Some(reader.paths.len());
                reader.paths.push(path.into());
                reader.defaults.push(default.into());
            }
        }
        reader
    }

    /// For built-in collections.
    #[must_use]
    pub fn of(fields: &[SelectableField]) -> Self {
        Self::new(fields.iter().map(|field| (field.path, field.default)))
    }

    /// The field with this path, if it is read.
    #[must_use]
    pub fn field(&self, path: &str) -> Option<FieldIndex> {
        self.paths.iter().position(|known| **known == *path).map(FieldIndex)
    }

    /// Understands an entry. One that cannot be understood is an object that says why.
    #[must_use]
    pub fn read(&self, entry: Entry) -> Object {
        let attributes = self.attributes(&entry.value);
        Object::new(entry, attributes)
    }

    fn attributes(&self, value: &[u8]) -> Result<Attributes, String> {
        if u32::try_from(value.len()).is_err() {
            return Err("it is larger than 4 GiB".to_owned());
        }
        let mut found = Found {
            base: value.as_ptr() as usize,
            first: None,
            before: None,
            instead: None,
            labels: Vec::new(),
            fields: vec![None; self.paths.len()],
        };
        let mut from = serde_json::Deserializer::from_slice(value);
        let walk = Walk { node: &self.root, level: Level::Object, found: &mut found };
        walk.deserialize(&mut from).and_then(|()| from.end()).map_err(|error| error.to_string())?;
        let place = match (found.instead, found.before.or(found.first)) {
            (Some((at, len)), _) => Place::Instead(at, len),
            (None, Some(at)) => Place::Before(at),
            (None, None) => return Err("it has no metadata".to_owned()),
        };
        let mut labels = found.labels;
        labels.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        labels.dedup_by(|(a, ..), (b, ..)| a == b);
        let fields = found.fields.into_iter().zip(&self.defaults);
        Ok(Attributes {
            place,
            labels: labels.into_iter().map(|(_, name, value)| (name, value)).collect(),
            fields: fields.map(|(text, default)| text.unwrap_or(Text::Owned(default.clone()))).collect(),
        })
    }
}

/// What was found so far.
struct Found {
    /// Where the bytes begin.
    base: usize,
    /// The first key of the metadata.
    first: Option<u32>,
    /// The first key of the metadata that stands behind `resourceVersion` in the order of keys.
    before: Option<u32>,
    /// A resource version that is there.
    instead: Option<(u32, u32)>,
    labels: Vec<(String, Text, Text)>,
    fields: Vec<Option<Text>>,
}

impl Found {
    /// Where a text stands that was borrowed from the bytes.
    fn at(&self, text: &str) -> u32 {
        u32::try_from(text.as_ptr() as usize - self.base).expect("checked to be below 4 GiB")
    }

    fn text(&self, text: &Read<'_>) -> Text {
        match text {
            Read::Here(text) => {
                Text::Span(self.at(text), u32::try_from(text.len()).expect("checked to be below 4 GiB"))
            }
            Read::Resolved(text) => Text::Owned(text.as_str().into()),
        }
    }

    fn metadata_key(&mut self, key: &Read<'_>) {
        let Read::Here(text) = key else { return };
        // In front of the quote.
        let at = self.at(text) - 1;
        self.first.get_or_insert(at);
        if *text > "resourceVersion" {
            self.before.get_or_insert(at);
        }
    }
}

/// A text of the input.
enum Read<'de> {
    Here(&'de str),
    Resolved(String),
}

impl Read<'_> {
    fn as_str(&self) -> &str {
        match self {
            Self::Here(text) => text,
            Self::Resolved(text) => text,
        }
    }
}

/// Reads a text.
struct TextSeed;

impl<'de> DeserializeSeed<'de> for TextSeed {
    type Value = Read<'de>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Read<'de>, D::Error> {
        from.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for TextSeed {
    type Value = Read<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Read<'de>, E> {
        Ok(Read::Here(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Read<'de>, E> {
        Ok(Read::Resolved(text.to_owned()))
    }
}

/// What is special about the map that is walked through.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Object,
    Metadata,
    Labels,
    Other,
}

/// Walks through a value, as far as fields are wanted from it.
struct Walk<'a> {
    node: &'a Node,
    level: Level,
    found: &'a mut Found,
}

static NOTHING: Node = Node { children: Vec::new(), field: None };

impl Walk<'_> {
    fn is_wanted(&self) -> bool {
        self.level != Level::Other || !self.node.children.is_empty()
    }

    fn set(self, text: Text) {
        if let Some(field) = self.node.field {
            self.found.fields[field] = Some(text);
        }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        if self.level == Level::Object { from.deserialize_map(self) } else { from.deserialize_any(self) }
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if !self.is_wanted() {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(());
        }
        while let Some(key) = map.next_key_seed(TextSeed)? {
            if self.level == Level::Labels {
                let value = map.next_value_seed(TextSeed)?;
                let (name, value) = (self.found.text(&key), self.found.text(&value));
                self.found.labels.push((key.as_str().to_owned(), name, value));
                continue;
            }
            if self.level == Level::Metadata {
                if key.as_str() == "resourceVersion" {
                    let Read::Here(version) = map.next_value_seed(TextSeed)? else {
                        return Err(A::Error::custom("metadata.resourceVersion is no number"));
                    };
                    let len = u32::try_from(version.len()).expect("checked to be below 4 GiB");
                    self.found.instead = Some((self.found.at(version), len));
                    continue;
                }
                self.found.metadata_key(&key);
            }
            let level = match (self.level, key.as_str()) {
                (Level::Object, "metadata") => Level::Metadata,
                (Level::Metadata, "labels") => Level::Labels,
                _ => Level::Other,
            };
            match self.node.child(key.as_str()) {
                None if level == Level::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
                node => {
                    let walk = Walk { node: node.unwrap_or(&NOTHING), level, found: &mut *self.found };
                    map.next_value_seed(walk)?;
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<(), E> {
        let text = self.found.text(&Read::Here(text));
        self.set(text);
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.set(Text::Owned(text.into()));
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.set(Text::Owned(value.to_string().into()));
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.set(Text::Owned(value.to_string().into()));
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.set(Text::Owned(value.to_string().into()));
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.set(Text::Owned(value.to_string().into()));
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::storage::Revision;

    fn read(reader: &ObjectReader, value: &str) -> Object {
        let value = Bytes::copy_from_slice(value.as_bytes());
        reader.read(Entry { key: Bytes::from_static(b"/k"), value, revision: Revision(7) })
    }

    fn json_of(object: &Object) -> String {
        let mut out = Vec::new();
        object.write_json(object.revision(), &mut out);
        assert_eq!(object.json(object.revision()).concat(), out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_resource_version_stands_where_sorted_keys_have_it() {
        let reader = ObjectReader::new([]);
        let table = [
            (
                r#"{"metadata":{"name":"a","uid":"u"}}"#,
                r#"{"metadata":{"name":"a","resourceVersion":"7","uid":"u"}}"#,
            ),
            (
                r#"{"kind":"X","metadata":{"name":"a"}}"#,
                r#"{"kind":"X","metadata":{"resourceVersion":"7","name":"a"}}"#,
            ),
            (
                r#"{ "metadata" : { "resourceVersion" : "123" , "uid":"u" } }"#,
                r#"{ "metadata" : { "resourceVersion" : "7" , "uid":"u" } }"#,
            ),
        ];
        for (stored, served) in table {
            assert_eq!(json_of(&read(&reader, stored)), served);
        }
    }

    #[test]
    fn labels_and_fields_are_found_whatever_form_they_have() {
        let reader = ObjectReader::new([
            ("spec.nodeName", ""),
            ("spec.unschedulable", "false"),
            ("spec.hostNetwork", "false"),
            ("spec.replicas", ""),
            ("status.phase", ""),
        ]);
        let object = read(
            &reader,
            r#"{"metadata":{"annotations":{"x\n":"{}"},"labels":{"b":"2","a/b":"\u0031"},"name":"n","namespace":"ns"},
                "spec":{"nodeName":"node-1","hostNetwork":true,"replicas":3,"list":[{"nodeName":"no"}]},"status":null}"#,
        );
        let field = |path| object.field(reader.field(path).unwrap());
        assert_eq!(object.unreadable(), None);
        assert_eq!(object.labels().collect::<Vec<_>>(), [("a/b", "1"), ("b", "2")]);
        assert_eq!((object.label("b"), object.label("c")), (Some("2"), None));
        assert_eq!((field("metadata.name"), field("metadata.namespace")), ("n", "ns"));
        assert_eq!((field("spec.nodeName"), field("spec.hostNetwork")), ("node-1", "true"));
        assert_eq!((field("spec.unschedulable"), field("spec.replicas")), ("false", "3"));
        assert_eq!(field("status.phase"), "");
        assert_eq!(reader.field("spec.unknown"), None);
    }

    #[test]
    fn what_cannot_be_understood_says_why_and_is_kept() {
        let reader = ObjectReader::new([]);
        for wrong in
            ["", "[]", "{}", r#"{"metadata":{}}"#, r#"{"metadata":{"name":"a"}"#, "k8s:enc:aesgcm:v1:k:\u{1}"]
        {
            let object = read(&reader, wrong);
            assert!(object.unreadable().is_some(), "{wrong}");
            assert_eq!(object.stored(), wrong);
            assert_eq!((object.label("a"), object.field(FieldIndex(0))), (None, ""));
        }
    }

    fn object() -> impl Strategy<Value = Value> {
        let text = "[a-zA-Z\"\\\\\u{e4}\n]{0,6}";
        let labels = proptest::collection::btree_map(text, text, 0..4);
        let others = proptest::collection::btree_map(text, text, 0..4);
        (labels, others, proptest::option::of("[0-9]{1,3}")).prop_map(|(labels, others, version)| {
            let mut metadata = json!({"labels": labels, "name": "n", "uid": "u", "annotations": others});
            if let Some(version) = version {
                metadata["resourceVersion"] = version.into();
            }
            json!({"metadata": metadata, "spec": others})
        })
    }

    proptest! {
        #[test]
        fn what_is_served_is_what_was_stored_with_its_version(mut stored in object()) {
            let object = read(&ObjectReader::new([]), &stored.to_string());
            let labels: Vec<_> = object.labels().map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
            let expected = stored["metadata"]["labels"].as_object().unwrap().clone();
            prop_assert_eq!(labels, expected.into_iter().collect::<Vec<_>>());
            let served: Value = serde_json::from_str(&json_of(&object)).unwrap();
            stored["metadata"]["resourceVersion"] = "7".into();
            prop_assert_eq!(served, stored);
        }

        #[test]
        fn no_bytes_bring_it_down(bytes: Vec<u8>) {
            let entry = Entry { key: Bytes::new(), value: bytes.into(), revision: Revision(1) };
            let object = ObjectReader::new([]).read(entry);
            let _ = object.json(Revision(2));
        }
    }
}
