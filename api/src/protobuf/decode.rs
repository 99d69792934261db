//! Bytes to objects, as Go would print them in JSON. The bytes may come from anybody: they are read no deeper and become
//! no larger than they deserve. Fields that the table does not know are skipped.

use base64::Engine as _;
use serde_json::{Map, Number, Value};

use super::encode::BASE64;
use super::envelope::decode_nested;
use super::table::{Field, Layout, Message, Messages, Shape, Type};
use super::wire::{Reader, Wire};
use super::{DecodeError, MAGIC, MAX_DEPTH};
use crate::quantity::Quantity;
use crate::time::{GoDuration, MicroTime, Time};

/// So many values may be shown that the bytes leave out, whatever their number.
const FREE_DEFAULTS: usize = 8192;
/// And one more for so many bytes.
const BYTES_PER_DEFAULT: usize = 8;
/// Moments that JSON can tell: years with four digits.
const MOMENTS: std::ops::RangeInclusive<i64> = -62_167_219_200..=253_402_300_799;

impl Message<'_> {
    /// The object of bytes without an envelope; it has no `apiVersion` and no `kind`.
    ///
    /// # Errors
    /// When they are damaged, or want too much.
    pub fn decode(&self, bytes: &[u8]) -> Result<Value, DecodeError> {
        self.decode_at(bytes, 0, &mut defaults_of(bytes))
    }

    /// Inside `depth` other messages, showing no more than so many values that the bytes leave out.
    pub(super) fn decode_at(
        &self,
        bytes: &[u8],
        depth: usize,
        defaults: &mut usize,
    ) -> Result<Value, DecodeError> {
        let mut decoder = Decoder { messages: self.messages, depth, defaults };
        let mut object = Map::new();
        decoder.message(self.layout, bytes, &mut object)?;
        Ok(Value::Object(object))
    }
}

/// How many values may be shown that these bytes leave out.
pub(super) const fn defaults_of(bytes: &[u8]) -> usize {
    FREE_DEFAULTS + bytes.len() / BYTES_PER_DEFAULT
}

struct Decoder<'a, 'd> {
    messages: &'a Messages,
    depth: usize,
    defaults: &'d mut usize,
}

/// Where an error is told.
#[derive(Clone, Copy)]
struct Place<'a>(&'a Layout, &'a Field);

impl Place<'_> {
    fn wire(self, why: &'static str) -> DecodeError {
        DecodeError::Wire { message: self.0.name.to_string(), why }
    }

    fn wrong(self, why: impl ToString) -> DecodeError {
        DecodeError::Field {
            message: self.0.name.to_string(),
            field: self.1.name.to_string(),
            why: why.to_string(),
        }
    }
}

impl<'a> Decoder<'a, '_> {
    /// Adds the fields of a message to an object. A message that comes twice is merged, as protobuf has it.
    fn message(
        &mut self,
        layout: &'a Layout,
        bytes: &[u8],
        object: &mut Map<String, Value>,
    ) -> Result<(), DecodeError> {
        if self.depth >= MAX_DEPTH {
            return Err(DecodeError::TooMuch);
        }
        self.depth += 1;
        let damaged = |why| DecodeError::Wire { message: layout.name.to_string(), why };
        let mut reader = Reader::new(bytes);
        let mut seen: u64 = 0;
        while !reader.is_empty() {
            let (number, wire) = reader.tag().map_err(damaged)?;
            match layout.by_number(number) {
                None => reader.skip(wire).map_err(damaged)?,
                Some(at) => {
                    seen |= 1 << at;
                    self.field(Place(layout, &layout.fields[at]), wire, &mut reader, object)?;
                }
            }
        }
        for at in &layout.always {
            if seen & 1 << at == 0 {
                self.fill(&layout.fields[*at], object)?;
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// Shows a field that the bytes leave out.
    fn fill(&mut self, field: &Field, object: &mut Map<String, Value>) -> Result<(), DecodeError> {
        *self.defaults = self.defaults.checked_sub(1).ok_or(DecodeError::TooMuch)?;
        if let Type::Message(at) = field.of
            && field.inline
        {
            return self.message(self.messages.at(at).layout, &[], object);
        }
        if !object.contains_key(&*field.name) {
            let value = if field.shape == Shape::One { self.empty(field.of)? } else { Value::Null };
            object.insert(field.name.clone().into(), value);
        }
        Ok(())
    }

    fn empty(&mut self, of: Type) -> Result<Value, DecodeError> {
        Ok(match of {
            Type::Text => Value::String(String::new()),
            Type::Bool | Type::SchemaOrBool(_) => Value::Bool(false),
            Type::Int32 | Type::Int64 | Type::Double | Type::IntOrString => 0.into(),
            Type::Duration => "0s".into(),
            Type::Quantity => "0".into(),
            Type::Message(at) => {
                let mut inner = Map::new();
                self.message(self.messages.at(at).layout, &[], &mut inner)?;
                Value::Object(inner)
            }
            Type::Bytes
            | Type::Texts
            | Type::Time
            | Type::MicroTime
            | Type::Raw
            | Type::Json
            | Type::SchemaOrArray(_)
            | Type::SchemaOrTexts(_) => Value::Null,
        })
    }

    fn field(
        &mut self,
        place: Place<'a>,
        wire: Wire,
        reader: &mut Reader<'_>,
        object: &mut Map<String, Value>,
    ) -> Result<(), DecodeError> {
        let field = place.1;
        match field.shape {
            Shape::One | Shape::Pointer => {
                if let Type::Message(at) = field.of {
                    let bytes = bytes(place, wire, reader)?;
                    let layout = self.messages.at(at).layout;
                    if field.inline {
                        return self.message(layout, bytes, object);
                    }
                    return match object.get_mut(&*field.name) {
                        Some(Value::Object(inner)) => self.message(layout, bytes, inner),
                        _ => {
                            let mut inner = Map::new();
                            self.message(layout, bytes, &mut inner)?;
                            object.insert(field.name.clone().into(), Value::Object(inner));
                            Ok(())
                        }
                    };
                }
                let value = self.value(place, wire, reader)?;
                if field.shape == Shape::One && is_left_out(field, &value) {
                    object.remove(&*field.name);
                } else {
                    object.insert(field.name.clone().into(), value);
                }
            }
            Shape::List => {
                let list = object.entry(&*field.name).or_insert(Value::Null);
                if !list.is_array() {
                    *list = Value::Array(Vec::new());
                }
                let Value::Array(list) = list else { return Ok(()) };
                let packed = matches!(field.of, Type::Int32 | Type::Int64 | Type::Bool | Type::Double);
                if packed && wire == Wire::Bytes {
                    let inner_wire = if field.of == Type::Double { Wire::Fixed64 } else { Wire::Varint };
                    let mut inner = Reader::new(bytes(place, wire, reader)?);
                    while !inner.is_empty() {
                        list.push(self.value(place, inner_wire, &mut inner)?);
                    }
                } else {
                    list.push(self.value(place, wire, reader)?);
                }
            }
            Shape::Map => {
                let (key, value) = self.entry(place, bytes(place, wire, reader)?)?;
                let map = object.entry(&*field.name).or_insert(Value::Null);
                if !map.is_object() {
                    *map = Value::Object(Map::new());
                }
                if let Value::Object(map) = map {
                    map.insert(key, value);
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, place: Place<'a>, bytes_of_entry: &[u8]) -> Result<(String, Value), DecodeError> {
        let mut reader = Reader::new(bytes_of_entry);
        let (mut key, mut value) = (String::new(), None);
        while !reader.is_empty() {
            match reader.tag().map_err(|why| place.wire(why))? {
                (1, wire) => key = text(bytes(place, wire, &mut reader)?),
                (2, wire) => value = Some(self.value(place, wire, &mut reader)?),
                (_, wire) => reader.skip(wire).map_err(|why| place.wire(why))?,
            }
        }
        let value = match value {
            Some(value) => value,
            None => self.empty(place.1.of)?,
        };
        Ok((key, value))
    }

    /// One value.
    fn value(&mut self, place: Place<'a>, wire: Wire, reader: &mut Reader<'_>) -> Result<Value, DecodeError> {
        let of = place.1.of;
        Ok(match of {
            Type::Bool => Value::Bool(varint(place, wire, reader)? != 0),
            // Go takes the low bits too.
            Type::Int32 => (varint(place, wire, reader)? as i32).into(),
            Type::Int64 => varint(place, wire, reader)?.cast_signed().into(),
            Type::Double => {
                if wire != Wire::Fixed64 {
                    return Err(place.wire("wrong wireType for a field"));
                }
                number(reader.double().map_err(|why| place.wire(why))?)
                    .ok_or_else(|| place.wrong("is no number that JSON has"))?
            }
            Type::Text => Value::String(text(bytes(place, wire, reader)?)),
            Type::Bytes => Value::String(BASE64.encode(bytes(place, wire, reader)?)),
            Type::Message(at) => {
                let mut inner = Map::new();
                self.message(self.messages.at(at).layout, bytes(place, wire, reader)?, &mut inner)?;
                Value::Object(inner)
            }
            _ => self.special(place, bytes(place, wire, reader)?)?,
        })
    }

    /// What is something else in JSON than its message.
    fn special(&mut self, place: Place<'a>, bytes_of_value: &[u8]) -> Result<Value, DecodeError> {
        let mut parts = Parts::default();
        let mut reader = Reader::new(bytes_of_value);
        let damaged = |why| place.wire(why);
        while !reader.is_empty() {
            match reader.tag().map_err(damaged)? {
                (number @ 1..=2, Wire::Varint) => {
                    parts.numbers[number as usize - 1] = reader.varint().map_err(damaged)?;
                }
                (number @ 1..=3, Wire::Bytes) => {
                    parts.texts.push((number, reader.bytes().map_err(damaged)?));
                }
                (_, wire) => reader.skip(wire).map_err(damaged)?,
            }
        }
        let [first, second] = parts.numbers;
        Ok(match place.1.of {
            Type::Quantity => match parts.last(1) {
                Some(quantity) => {
                    let quantity = Quantity::parse(&text(quantity)).map_err(|error| place.wrong(error))?;
                    quantity.to_string().into()
                }
                None => "0".into(),
            },
            Type::IntOrString => match first {
                0 => (second as i32).into(),
                1 => parts.last(3).map_or_else(String::new, text).into(),
                _ => return Err(place.wrong("is neither a number nor a text")),
            },
            Type::Duration => GoDuration::of_nanos(first.cast_signed()).to_string().into(),
            Type::Time | Type::MicroTime if bytes_of_value.is_empty() => Value::Null,
            Type::Time | Type::MicroTime => moment(place, first.cast_signed(), second as i32)?,
            Type::Texts => parts.all(1).map(|item| Value::String(text(item))).collect(),
            Type::Raw | Type::Json => match parts.last(1) {
                None | Some([]) => Value::Null,
                Some(raw) if place.1.of == Type::Raw && raw.starts_with(&MAGIC) => {
                    decode_nested(raw, self.messages, self.depth, self.defaults)?
                }
                Some(raw) => serde_json::from_slice(raw).map_err(|error| place.wrong(error))?,
            },
            Type::SchemaOrBool(at) => match parts.last(2) {
                Some(schema) => self.schema(at, schema)?,
                None => Value::Bool(first != 0),
            },
            Type::SchemaOrArray(at) => {
                let schemas =
                    parts.all(2).map(|schema| self.schema(at, schema)).collect::<Result<Vec<_>, _>>()?;
                match parts.last(1) {
                    _ if !schemas.is_empty() => Value::Array(schemas),
                    Some(schema) => self.schema(at, schema)?,
                    None => Value::Null,
                }
            }
            Type::SchemaOrTexts(at) => {
                let texts: Vec<Value> = parts.all(2).map(|item| Value::String(text(item))).collect();
                match parts.last(1) {
                    _ if !texts.is_empty() => Value::Array(texts),
                    Some(schema) => self.schema(at, schema)?,
                    None => Value::Null,
                }
            }
            Type::Text
            | Type::Bool
            | Type::Int32
            | Type::Int64
            | Type::Double
            | Type::Bytes
            | Type::Message(_) => {
                return Err(place.wrong("has no message of its own"));
            }
        })
    }

    fn schema(&mut self, at: usize, bytes: &[u8]) -> Result<Value, DecodeError> {
        let mut schema = Map::new();
        self.message(self.messages.at(at).layout, bytes, &mut schema)?;
        Ok(Value::Object(schema))
    }
}

/// The fields of a small message.
#[derive(Default)]
struct Parts<'a> {
    /// Those with the numbers 1 and 2.
    numbers: [u64; 2],
    texts: Vec<(u32, &'a [u8])>,
}

impl<'a> Parts<'a> {
    fn all(&self, number: u32) -> impl DoubleEndedIterator<Item = &'a [u8]> {
        self.texts.iter().filter(move |(of, _)| *of == number).map(|(_, text)| *text)
    }

    fn last(&self, number: u32) -> Option<&'a [u8]> {
        self.all(number).next_back()
    }
}

fn bytes<'r>(place: Place<'_>, wire: Wire, reader: &mut Reader<'r>) -> Result<&'r [u8], DecodeError> {
    if wire != Wire::Bytes {
        return Err(place.wire("wrong wireType for a field"));
    }
    reader.bytes().map_err(|why| place.wire(why))
}

fn varint(place: Place<'_>, wire: Wire, reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
    if wire != Wire::Varint {
        return Err(place.wire("wrong wireType for a field"));
    }
    reader.varint().map_err(|why| place.wire(why))
}

/// Bytes that are no UTF-8 are replaced, as Go does when it writes JSON.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// As JSON reads the number that Go writes: whole numbers are whole.
fn number(double: f64) -> Option<Value> {
    const LARGEST: f64 = 9_007_199_254_740_992.0 * 1024.0;
    if double.fract() == 0.0 && double.abs() < LARGEST {
        return Some((double as i64).into());
    }
    Number::from_f64(double).map(Value::Number)
}

fn moment(place: Place<'_>, seconds: i64, nanos: i32) -> Result<Value, DecodeError> {
    if !MOMENTS.contains(&seconds) {
        return Err(place.wrong("is a moment outside the years 0000 to 9999"));
    }
    let (time, micros) = (Time::of_unix(seconds), i64::from(nanos) / 1000);
    let text = match place.1.of {
        Type::Time if time == Time::ZERO => return Ok(Value::Null),
        Type::Time => time.to_string(),
        _ => {
            let time = MicroTime::of_unix_micros(seconds * 1_000_000 + micros);
            if time == MicroTime::ZERO {
                return Ok(Value::Null);
            }
            time.to_string()
        }
    };
    Ok(Value::String(text))
}

/// Whether Go leaves the value out of JSON.
fn is_left_out(field: &Field, value: &Value) -> bool {
    let empty = match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(_) => false,
    };
    match field.of {
        Type::Text | Type::Bool | Type::Int32 | Type::Int64 | Type::Double | Type::Bytes | Type::Texts => {
            field.omit_empty && empty
        }
        _ => field.omit_zero && empty,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::kind::GroupVersionKind;

    fn message(kind: &str) -> Message<'static> {
        Messages::builtin().of_kind(&GroupVersionKind::new("", "v1", kind)).unwrap()
    }

    #[test]
    fn what_the_bytes_leave_out_is_shown_as_go_shows_it() {
        assert_eq!(
            message("Pod").decode(&[]).unwrap(),
            json!({"metadata": {}, "spec": {"containers": null}, "status": {}})
        );
        assert_eq!(message("ConfigMap").decode(&[]).unwrap(), json!({"metadata": {}}));
    }

    #[test]
    fn unknown_fields_are_skipped_and_parts_are_merged() {
        // Field 300 as text, then metadata twice: a name, and a namespace.
        let bytes = [0xe2, 0x12, 1, b'x', 0x0a, 3, 0x0a, 1, b'a', 0x0a, 3, 0x1a, 1, b'b'];
        let object = message("ConfigMap").decode(&bytes).unwrap();
        assert_eq!(object, json!({"metadata": {"name": "a", "namespace": "b"}}));
    }

    #[test]
    fn damage_is_told() {
        let table: [(&[u8], &str); 4] = [
            (&[0x0a], "proto: core.v1.Pod: unexpected end of data"),
            (&[0x0a, 5, 0], "proto: core.v1.Pod: unexpected end of data"),
            (&[0x08, 1], "proto: core.v1.Pod: wrong wireType for a field"),
            (&[0x0c], "proto: core.v1.Pod: wrong wireType for a field"),
        ];
        for (bytes, error) in table {
            assert_eq!(message("Pod").decode(bytes).unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn small_bytes_do_not_become_large_objects() {
        let bytes: Vec<u8> = [0x12, 0].repeat(100_000);
        assert_eq!(message("PodList").decode(&bytes).unwrap_err(), DecodeError::TooMuch);
        let some: Vec<u8> = [0x12, 0].repeat(1_000);
        assert_eq!(message("PodList").decode(&some).unwrap()["items"].as_array().unwrap().len(), 1_000);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            for kind in ["Pod", "PodList", "Secret", "Event", "List"] {
                let _ = message(kind).decode(&bytes);
            }
        }

        #[test]
        fn damaged_bytes_are_read_or_refused(at in 0usize..200, byte: u8, length in 0usize..200) {
            let pod = json!({
                "metadata": {"name": "a", "labels": {"a": "b"}, "creationTimestamp": "2024-01-01T00:00:00Z"},
                "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "1"}}, "ports": [{"containerPort": 80}],
                    "livenessProbe": {"httpGet": {"port": "http"}}}], "volumes": [{"name": "v", "emptyDir": {}}]},
            });
            let mut bytes = message("Pod").encode(&pod).unwrap();
            if let Some(one) = bytes.get_mut(at) {
                *one = byte;
            }
            bytes.truncate(bytes.len().saturating_sub(length));
            let _ = message("Pod").decode(&bytes);
        }
    }
}
