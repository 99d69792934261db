//! Objects to bytes. What an object does not give is written as Go writes it: values that cannot be absent are written as
//! empty ones. Fields that the table does not know are left out.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};

use super::table::{Field, Layout, MAX_FIELDS, Message, Messages, Shape, Type};
use super::wire::{Wire, Writer};
use super::{EncodeError, MAX_DEPTH, Step, Wrong};
use crate::int_or_string::IntOrString;
use crate::quantity::Quantity;
use crate::time::{GoDuration, MicroTime, Time};

/// As Go reads base64: padding is needed, spare bits are not looked at.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

impl Message<'_> {
    /// The bytes of an object, without an envelope.
    ///
    /// # Errors
    /// When a field has a value that its type has not; the error names it.
    pub fn encode(&self, object: &Value) -> Result<Vec<u8>, EncodeError> {
        let mut writer = Writer::with_capacity(1024);
        self.encode_to(object, &mut writer)?;
        Ok(writer.finish())
    }

    pub(super) fn encode_to(&self, object: &Value, writer: &mut Writer) -> Result<(), EncodeError> {
        let mut encoder = Encoder { messages: self.messages, writer, depth: 0 };
        let object = object.as_object().ok_or_else(|| expected("an object"));
        object.and_then(|object| encoder.message(self.layout, object)).map_err(Wrong::into_error)
    }
}

struct Encoder<'a> {
    messages: &'a Messages,
    writer: &'a mut Writer,
    depth: usize,
}

fn expected(what: &str) -> Wrong {
    Wrong::new(format_args!("expected {what}"))
}

impl<'a> Encoder<'a> {
    fn message(&mut self, layout: &Layout, object: &Map<String, Value>) -> Result<(), Wrong> {
        if self.depth == MAX_DEPTH {
            return Err(Wrong::new("nested too deep"));
        }
        let mut given: [Option<&Value>; MAX_FIELDS] = [None; MAX_FIELDS];
        for (name, value) in object {
            if let Some(at) = layout.by_name(name)
                && !value.is_null()
            {
                given[at] = Some(value);
            }
        }
        self.depth += 1;
        for (field, value) in layout.fields.iter().zip(given).rev() {
            let written = match field.of {
                Type::Message(at) if field.inline => self.inner(field.number, at, object),
                _ => self.field(field, value).map_err(|wrong| wrong.at(Step::Field(field.name.clone()))),
            };
            written?;
        }
        self.depth -= 1;
        Ok(())
    }

    fn inner(&mut self, number: u32, at: usize, object: &Map<String, Value>) -> Result<(), Wrong> {
        let before = self.writer.len();
        let messages = self.messages;
        self.message(messages.at(at).layout, object)?;
        self.writer.close(number, before);
        Ok(())
    }

    fn field(&mut self, field: &Field, value: Option<&Value>) -> Result<(), Wrong> {
        match (field.shape, value) {
            (Shape::One, None) => match field.of {
                // Go has no empty slice where there is none.
                Type::Bytes | Type::Texts => Ok(()),
                _ => self.value(field.number, field.of, &Value::Null),
            },
            (Shape::Pointer | Shape::List | Shape::Map, None) => Ok(()),
            (Shape::One | Shape::Pointer, Some(value)) => self.value(field.number, field.of, value),
            (Shape::List, Some(Value::Array(items))) => {
                for (index, item) in items.iter().enumerate().rev() {
                    self.value(field.number, field.of, item).map_err(|wrong| wrong.at(Step::Index(index)))?;
                }
                Ok(())
            }
            (Shape::List, Some(_)) => Err(expected("a list")),
            (Shape::Map, Some(Value::Object(entries))) => {
                for (key, value) in entries.iter().rev() {
                    let before = self.writer.len();
                    if !(value.is_null() && field.of == Type::Bytes) {
                        self.value(2, field.of, value).map_err(|wrong| wrong.at(Step::Key(key.clone())))?;
                    }
                    self.writer.bytes(1, key.as_bytes());
                    self.writer.close(field.number, before);
                }
                Ok(())
            }
            (Shape::Map, Some(_)) => Err(expected("an object")),
        }
    }

    /// One value; null is the empty one.
    fn value(&mut self, number: u32, of: Type, value: &Value) -> Result<(), Wrong> {
        match of {
            Type::Text => self.writer.bytes(number, text(value)?.as_bytes()),
            Type::Bool => self.writer.number(number, u64::from(flag(value)?)),
            Type::Int32 => {
                let integer =
                    i32::try_from(integer(value)?).map_err(|_| expected("an integer of 32 bits"))?;
                self.writer.number(number, i64::from(integer).cast_unsigned());
            }
            Type::Int64 => self.writer.number(number, integer(value)?.cast_unsigned()),
            Type::Double => {
                let double = if value.is_null() { Some(0.0) } else { value.as_f64() };
                self.writer.raw(&double.ok_or_else(|| expected("a number"))?.to_le_bytes());
                self.writer.tag(number, Wire::Fixed64);
            }
            Type::Bytes => self.writer.bytes(number, &bytes(value)?),
            Type::Message(at) => match value {
                Value::Object(object) => self.inner(number, at, object)?,
                Value::Null => self.inner(number, at, &Map::new())?,
                _ => return Err(expected("an object")),
            },
            _ => {
                let before = self.writer.len();
                self.special(of, value)?;
                self.writer.close(number, before);
            }
        }
        Ok(())
    }

    /// The inside of a message that is something else in JSON.
    fn special(&mut self, of: Type, value: &Value) -> Result<(), Wrong> {
        match (of, value) {
            (Type::Quantity, _) => {
                let quantity = Quantity::of_value(value).map_err(Wrong::new)?;
                self.writer.bytes(1, quantity.to_string().as_bytes());
            }
            (Type::IntOrString, _) => self.int_or_string(value)?,
            (Type::Duration, _) => {
                let nanos = match value {
                    Value::Null => 0,
                    _ => GoDuration::parse(text(value)?).map_err(Wrong::new)?.nanos(),
                };
                self.writer.number(1, nanos.cast_unsigned());
            }
            (Type::Texts, _) => self.texts(1, value)?,
            (Type::SchemaOrBool(_), Value::Bool(allows)) => self.writer.number(1, u64::from(*allows)),
            (Type::SchemaOrBool(at), Value::Object(schema)) => {
                self.inner(2, at, schema)?;
                self.writer.number(1, 1);
            }
            (Type::SchemaOrBool(_), _) => return Err(expected("a boolean or a schema")),
            (Type::SchemaOrArray(at) | Type::SchemaOrTexts(at), Value::Object(schema)) => {
                self.inner(1, at, schema)?;
            }
            (Type::SchemaOrArray(at), Value::Array(schemas)) => {
                for (index, schema) in schemas.iter().enumerate().rev() {
                    self.value(2, Type::Message(at), schema).map_err(|wrong| wrong.at(Step::Index(index)))?;
                }
            }
            (Type::SchemaOrTexts(_), Value::Array(_)) => self.texts(2, value)?,
            // What remains is empty where there is nothing.
            (_, Value::Null) => {}
            (Type::Time, _) => {
                let time = Time::parse(text(value)?).map_err(Wrong::new)?;
                if time != Time::ZERO {
                    self.moment(time.unix(), 0);
                }
            }
            (Type::MicroTime, _) => {
                let time = MicroTime::parse(text(value)?).map_err(Wrong::new)?;
                if time != MicroTime::ZERO {
                    let micros = time.unix_micros();
                    self.moment(micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000) * 1000);
                }
            }
            (Type::Raw | Type::Json, _) => self.writer.bytes(1, value.to_string().as_bytes()),
            _ => return Err(expected("a list or a schema")),
        }
        Ok(())
    }

    fn moment(&mut self, seconds: i64, nanos: i64) {
        self.writer.number(2, nanos.cast_unsigned());
        self.writer.number(1, seconds.cast_unsigned());
    }

    fn int_or_string(&mut self, value: &Value) -> Result<(), Wrong> {
        let value = match value {
            Value::Null => IntOrString::Int(0),
            _ => IntOrString::of_value(value).ok_or_else(|| expected("an integer of 32 bits or a text"))?,
        };
        let (kind, number, text) = match &value {
            IntOrString::Int(number) => (0, *number, ""),
            IntOrString::Text(text) => (1, 0, text.as_str()),
        };
        self.writer.bytes(3, text.as_bytes());
        self.writer.number(2, i64::from(number).cast_unsigned());
        self.writer.number(1, kind);
        Ok(())
    }

    fn texts(&mut self, number: u32, value: &Value) -> Result<(), Wrong> {
        let items = match value {
            Value::Array(items) => items.as_slice(),
            Value::Null => &[],
            _ => return Err(expected("a list")),
        };
        for (index, item) in items.iter().enumerate().rev() {
            let item = text(item).map_err(|wrong| wrong.at(Step::Index(index)))?;
            self.writer.bytes(number, item.as_bytes());
        }
        Ok(())
    }
}

fn text(value: &Value) -> Result<&str, Wrong> {
    match value {
        Value::String(text) => Ok(text),
        Value::Null => Ok(""),
        _ => Err(expected("a text")),
    }
}

fn flag(value: &Value) -> Result<bool, Wrong> {
    match value {
        Value::Bool(flag) => Ok(*flag),
        Value::Null => Ok(false),
        _ => Err(expected("a boolean")),
    }
}

fn integer(value: &Value) -> Result<i64, Wrong> {
    if value.is_null() { Ok(0) } else { value.as_i64().ok_or_else(|| expected("an integer")) }
}

fn bytes(value: &Value) -> Result<Vec<u8>, Wrong> {
    let text = text(value)?;
    let wrong = |error| Wrong::new(format_args!("expected base64: {error}"));
    if text.contains(['\n', '\r']) {
        return BASE64.decode(text.replace(['\n', '\r'], "")).map_err(wrong);
    }
    BASE64.decode(text).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kind::GroupVersionKind;

    #[test]
    fn what_cannot_be_written_is_named() {
        let message = Messages::builtin().of_kind(&GroupVersionKind::new("", "v1", "Pod")).unwrap();
        let container = |field: &str, value: Value| json!({"spec": {"containers": [{}, {field: value}]}});
        let table = [
            (json!([]), "the object: expected an object"),
            (json!({"spec": 1}), "spec: expected an object"),
            (json!({"metadata": {"labels": {"a": 1}}}), "metadata.labels[a]: expected a text"),
            (container("stdin", json!("yes")), "spec.containers[1].stdin: expected a boolean"),
            (container("ports", json!({})), "spec.containers[1].ports: expected a list"),
            (
                container("ports", json!([{"containerPort": 1u64 << 40}])),
                "spec.containers[1].ports[0].containerPort: expected an integer of 32 bits",
            ),
            (
                container("resources", json!({"limits": {"cpu": "x"}})),
                "spec.containers[1].resources.limits[cpu]: quantities must match the regular expression \
                 '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            ),
            (
                json!({"metadata": {"creationTimestamp": "now"}}),
                "metadata.creationTimestamp: parsing time \"now\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \
                 \"now\" as \"2006\"",
            ),
        ];
        for (object, error) in table {
            assert_eq!(message.encode(&object).unwrap_err().to_string(), error);
        }
        let secret = Messages::builtin().of_kind(&GroupVersionKind::new("", "v1", "Secret")).unwrap();
        let error = secret.encode(&json!({"data": {"a": "?"}})).unwrap_err().to_string();
        assert!(error.starts_with("data[a]: expected base64"), "{error}");
    }

    #[test]
    fn schemas_in_schemas_end_somewhere() {
        let kind = GroupVersionKind::new("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
        let message = Messages::builtin().of_kind(&kind).unwrap();
        let nested = |levels| {
            let schema = (0..levels).fold(json!({"type": "string"}), |inner, _| json!({"not": inner}));
            json!({"spec": {"versions": [{"schema": {"openAPIV3Schema": schema}}]}})
        };
        let bytes = message.encode(&nested(100)).unwrap();
        let again = message.decode(&bytes).unwrap();
        assert_eq!(message.encode(&again).unwrap(), bytes);
        assert!(message.encode(&nested(1000)).unwrap_err().to_string().ends_with("nested too deep"));
    }
}
