//! JSON as clients send it, with what a map cannot show: fields that are there twice. Must never refuse what JSON allows;
//! whether a duplicate matters is for others to say.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// So many findings are remembered; more would only fill the answer.
pub(super) const MOST_FINDINGS: usize = 100;

/// A document with the paths of its fields that were there before; the last one of them counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// What it says.
    pub value: Value,
    /// Fields that are there more than once: `spec.containers[0].name`. Each once, at most a hundred.
    pub duplicates: Vec<String>,
}

/// Reads a document.
///
/// # Errors
/// When it is not JSON, or more follows it.
pub fn read_document(text: &[u8]) -> Result<Document, serde_json::Error> {
    let mut found = Found::default();
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = Node(&mut found).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(Document { value, duplicates: found.duplicates })
}

#[derive(Default)]
struct Found {
    path: String,
    duplicates: Vec<String>,
}

impl Found {
    fn below<T>(&mut self, step: &dyn fmt::Display, then: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        self.path.push_str(&step.to_string());
        let result = then(self);
        self.path.truncate(length);
        result
    }

    fn step(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!(".{key}") }
    }

    fn duplicate(&mut self, key: &str) {
        let path = format!("{}{}", self.path, self.step(key));
        if self.duplicates.len() < MOST_FINDINGS && !self.duplicates.contains(&path) {
            self.duplicates.push(path);
        }
    }
}

struct Node<'a>(&'a mut Found);

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("the number is too large"))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) =
            self.0.below(&format_args!("[{}]", list.len()), |found| items.next_element_seed(Node(found)))?
        {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = fields.next_key::<String>()? {
            if map.contains_key(&key) {
                self.0.duplicate(&key);
            }
            let step = self.0.step(&key);
            let value = self.0.below(&step, |found| fields.next_value_seed(Node(found)))?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn duplicates_are_told_with_their_paths_and_the_last_counts() {
        let text = br#"{"a":1,"a":2,"s":{"l":[{"x":1},{"x":1,"x":null,"x":3}]},"s":{"t":1.5}}"#;
        let document = read_document(text).unwrap();
        assert_eq!(document.value, json!({"a": 2, "s": {"t": 1.5}}));
        assert_eq!(document.duplicates, ["a", "s.l[1].x", "s"]);
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in ["", "{", "[1,]", "{} {}", "nul", "{\"a\":1e999}"] {
            assert!(read_document(text.as_bytes()).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn documents_without_duplicates_are_read_as_ever(numbers in proptest::collection::vec(-9i64..9, 0..9)) {
            let value = json!({"a": numbers, "b": {"c": [null, true, "t", 0.5]}});
            let document = read_document(value.to_string().as_bytes()).unwrap();
            proptest::prop_assert_eq!(document, Document { value, duplicates: Vec::new() });
        }
    }
}
