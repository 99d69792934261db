//! Objects made at random by the table of messages become bytes and objects again.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::table::{Layout, Messages, Shape, Type};

/// Decisions, taken one after the other from random numbers.
struct Choices {
    numbers: Vec<u8>,
    at: usize,
}

impl Choices {
    /// One of so many; always the first when the numbers are used up, so that objects end.
    fn one_of(&mut self, count: usize) -> usize {
        let number = self.numbers.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        usize::from(number) % count
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.one_of(from.len())]
    }

    /// An object in which no field stands that Go would leave out.
    fn object(&mut self, messages: &Messages, layout: &Layout, object: &mut Map<String, Value>) {
        for field in &layout.fields {
            if let (true, Type::Message(at)) = (field.inline, field.of) {
                self.object(messages, messages.at(at).layout, object);
                continue;
            }
            if self.one_of(4) == 0 {
                continue;
            }
            let value = match field.shape {
                Shape::One | Shape::Pointer => self.value(messages, field.of),
                Shape::List => (0..=self.one_of(2)).map(|_| self.value(messages, field.of)).collect(),
                Shape::Map => {
                    let keys = ["", "a", "b/c", "\u{fc}"];
                    let entries = (0..=self.one_of(2)).map(|_| self.pick(&keys).to_owned());
                    let entries: Vec<String> = entries.collect();
                    entries.into_iter().map(|key| (key, self.value(messages, field.of))).collect()
                }
            };
            object.insert(field.name.clone().into(), value);
        }
    }

    fn value(&mut self, messages: &Messages, of: Type) -> Value {
        match of {
            Type::Text => self.pick(&["a", "web-0", "\u{65e5}\u{672c}", "two\nlines"]).into(),
            Type::Bool => true.into(),
            Type::Int32 => [json!(1), json!(-1), json!(i32::MIN), json!(i32::MAX)][self.one_of(4)].clone(),
            Type::Int64 => [json!(1), json!(-1), json!(i64::MIN), json!(i64::MAX)][self.one_of(4)].clone(),
            Type::Double => [json!(1), json!(-2.5), json!(1e300), json!(1e-9)][self.one_of(4)].clone(),
            Type::Bytes => self.pick(&["AA==", "aGVsbG8=", "/+8="]).into(),
            Type::Time => self.pick(&["1970-01-01T00:00:00Z", "2024-02-29T23:59:59Z"]).into(),
            Type::MicroTime => {
                self.pick(&["1969-12-31T23:59:59.999999Z", "2024-02-29T00:00:00.000001Z"]).into()
            }
            Type::Duration => self.pick(&["0s", "1h0m0s", "-1.5ms"]).into(),
            Type::Quantity => self.pick(&["0", "100m", "1536Mi", "1e3"]).into(),
            Type::IntOrString => [json!(80), json!("25%"), json!(""), json!(0)][self.one_of(4)].clone(),
            Type::Raw | Type::Json => [json!({"a": [1, null]}), json!("x"), json!(2)][self.one_of(3)].clone(),
            Type::Texts => (0..=self.one_of(2)).map(|_| self.value(messages, Type::Text)).collect(),
            Type::SchemaOrBool(at) => match self.one_of(3) {
                0 => json!(false),
                1 => json!(true),
                _ => self.value(messages, Type::Message(at)),
            },
            Type::SchemaOrArray(at) => match self.one_of(2) {
                0 => json!([self.value(messages, Type::Message(at))]),
                _ => self.value(messages, Type::Message(at)),
            },
            Type::SchemaOrTexts(at) => match self.one_of(2) {
                0 => json!(["a"]),
                _ => self.value(messages, Type::Message(at)),
            },
            Type::Message(at) => {
                let mut object = Map::new();
                self.object(messages, messages.at(at).layout, &mut object);
                Value::Object(object)
            }
        }
    }
}

/// Whether everything that `part` has is in `whole`.
fn holds(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(name, part)| whole.get(name).is_some_and(|whole| holds(whole, part)))
        }
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len() && whole.iter().zip(part).all(|(whole, part)| holds(whole, part))
        }
        _ => whole == part,
    }
}

proptest! {
    #[test]
    fn objects_come_back(numbers in prop::collection::vec(any::<u8>(), 0..600)) {
        let messages = Messages::builtin();
        let mut choices = Choices { numbers, at: 0 };
        let all: Vec<_> = messages.of_kinds().collect();
        let message = all[choices.one_of(all.len())];
        let mut object = Map::new();
        choices.object(messages, message.layout, &mut object);
        let object = Value::Object(object);
        let bytes = message.encode(&object).unwrap();
        let again = message.decode(&bytes).unwrap();
        prop_assert!(holds(&again, &object), "{}: {object} became {again}", message.layout.name);
        prop_assert_eq!(message.encode(&again).unwrap(), bytes);
        prop_assert_eq!(message.decode(&message.encode(&again).unwrap()).unwrap(), again);
    }
}

#[test]
fn objects_that_give_nothing_come_back() {
    for message in Messages::builtin().of_kinds() {
        let bytes = message.encode(&json!({})).unwrap();
        let shown = message.decode(&bytes).unwrap();
        assert_eq!(message.decode(&[]).unwrap(), shown, "{}", message.layout.name);
        assert_eq!(message.encode(&shown).unwrap(), bytes, "{}", message.layout.name);
    }
}
