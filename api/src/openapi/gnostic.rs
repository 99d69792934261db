//! OpenAPI version 2 as protobuf, in the messages of gnostic (`openapi.v2.Document`), written by hand: their numbers are
//! told by name in tables. Must never write a field that these do not name.

use serde_json::{Map, Value};

/// How a field is written.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Texts,
    Flag,
    Int,
    Double,
    /// Any value, as YAML; JSON is YAML too.
    Any,
    /// Several of them.
    Anys,
    /// A message.
    One(fn(&Value) -> Vec<u8>),
    /// Several messages.
    Many(fn(&Value) -> Vec<u8>),
    /// A map: a message that only holds named values, in its field of this number.
    Named(u32, fn(&Value) -> Vec<u8>),
}

/// The fields of a message by their names in JSON, then the number of its extensions.
struct Shape(&'static [(&'static str, u32, Kind)], u32);

/// The whole document.
pub(super) fn document(json: &Value) -> Vec<u8> {
    const SHAPE: Shape = Shape(
        &[
            ("swagger", 1, Kind::Text),
            ("info", 2, Kind::One(info)),
            ("paths", 8, Kind::Named(2, path_item)),
            ("definitions", 9, Kind::Named(1, schema)),
            ("security", 12, Kind::Many(security_requirement)),
            ("securityDefinitions", 13, Kind::Named(1, security_definition)),
        ],
        16,
    );
    message(&SHAPE, json)
}

fn info(json: &Value) -> Vec<u8> {
    const SHAPE: Shape =
        Shape(&[("title", 1, Kind::Text), ("version", 2, Kind::Text), ("description", 3, Kind::Text)], 7);
    message(&SHAPE, json)
}

fn security_requirement(json: &Value) -> Vec<u8> {
    const SHAPE: Shape = Shape(&[("value", 1, Kind::Texts)], 0);
    named(1, json, |list| message(&SHAPE, &serde_json::json!({ "value": list })))
}

fn security_definition(json: &Value) -> Vec<u8> {
    const SHAPE: Shape = Shape(
        &[
            ("type", 1, Kind::Text),
            ("name", 2, Kind::Text),
            ("in", 3, Kind::Text),
            ("description", 4, Kind::Text),
        ],
        5,
    );
    wrapped(2, message(&SHAPE, json))
}

fn path_item(json: &Value) -> Vec<u8> {
    const SHAPE: Shape = Shape(
        &[
            ("get", 2, Kind::One(operation)),
            ("put", 3, Kind::One(operation)),
            ("post", 4, Kind::One(operation)),
            ("delete", 5, Kind::One(operation)),
            ("options", 6, Kind::One(operation)),
            ("head", 7, Kind::One(operation)),
            ("patch", 8, Kind::One(operation)),
            ("parameters", 9, Kind::Many(parameters_item)),
        ],
        10,
    );
    message(&SHAPE, json)
}

fn operation(json: &Value) -> Vec<u8> {
    const SHAPE: Shape = Shape(
        &[
            ("tags", 1, Kind::Texts),
            ("summary", 2, Kind::Text),
            ("description", 3, Kind::Text),
            ("operationId", 5, Kind::Text),
            ("produces", 6, Kind::Texts),
            ("consumes", 7, Kind::Texts),
            ("parameters", 8, Kind::Many(parameters_item)),
            ("responses", 9, Kind::Named(1, response_value)),
            ("schemes", 10, Kind::Texts),
            ("deprecated", 11, Kind::Flag),
        ],
        13,
    );
    message(&SHAPE, json)
}

/// `ParametersItem`, then `Parameter`, then by its place.
fn parameters_item(json: &Value) -> Vec<u8> {
    const BODY: Shape = Shape(
        &[
            ("description", 1, Kind::Text),
            ("name", 2, Kind::Text),
            ("in", 3, Kind::Text),
            ("required", 4, Kind::Flag),
            ("schema", 5, Kind::One(schema)),
        ],
        6,
    );
    const QUERY: Shape = Shape(
        &[
            ("required", 1, Kind::Flag),
            ("in", 2, Kind::Text),
            ("description", 3, Kind::Text),
            ("name", 4, Kind::Text),
            ("type", 6, Kind::Text),
            ("format", 7, Kind::Text),
            ("uniqueItems", 20, Kind::Flag),
        ],
        23,
    );
    const PATH: Shape = Shape(
        &[
            ("required", 1, Kind::Flag),
            ("in", 2, Kind::Text),
            ("description", 3, Kind::Text),
            ("name", 4, Kind::Text),
            ("type", 5, Kind::Text),
            ("format", 6, Kind::Text),
            ("uniqueItems", 19, Kind::Flag),
        ],
        22,
    );
    let parameter = match json.get("in").and_then(Value::as_str) {
        Some("body") => wrapped(1, message(&BODY, json)),
        Some("path") => wrapped(2, wrapped(4, message(&PATH, json))),
        _ => wrapped(2, wrapped(3, message(&QUERY, json))),
    };
    wrapped(1, parameter)
}

fn response_value(json: &Value) -> Vec<u8> {
    const SHAPE: Shape = Shape(&[("description", 1, Kind::Text), ("schema", 2, Kind::One(schema_item))], 5);
    wrapped(1, message(&SHAPE, json))
}

fn schema_item(json: &Value) -> Vec<u8> {
    wrapped(1, schema(json))
}

fn schema(json: &Value) -> Vec<u8> {
    const SHAPE: Shape = Shape(
        &[
            ("$ref", 1, Kind::Text),
            ("format", 2, Kind::Text),
            ("title", 3, Kind::Text),
            ("description", 4, Kind::Text),
            ("default", 5, Kind::Any),
            ("multipleOf", 6, Kind::Double),
            ("maximum", 7, Kind::Double),
            ("exclusiveMaximum", 8, Kind::Flag),
            ("minimum", 9, Kind::Double),
            ("exclusiveMinimum", 10, Kind::Flag),
            ("maxLength", 11, Kind::Int),
            ("minLength", 12, Kind::Int),
            ("pattern", 13, Kind::Text),
            ("maxItems", 14, Kind::Int),
            ("minItems", 15, Kind::Int),
            ("uniqueItems", 16, Kind::Flag),
            ("maxProperties", 17, Kind::Int),
            ("minProperties", 18, Kind::Int),
            ("required", 19, Kind::Texts),
            ("enum", 20, Kind::Anys),
            ("additionalProperties", 21, Kind::One(additional)),
            ("type", 22, Kind::One(type_item)),
            ("items", 23, Kind::One(items)),
            ("properties", 25, Kind::Named(1, schema)),
        ],
        31,
    );
    message(&SHAPE, json)
}

fn additional(json: &Value) -> Vec<u8> {
    match json {
        Value::Bool(allowed) => {
            let mut out = Vec::new();
            key(2, 0, &mut out);
            varint(u64::from(*allowed), &mut out);
            out
        }
        json => wrapped(1, schema(json)),
    }
}

fn type_item(json: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write(1, Kind::Text, json, &mut out);
    out
}

fn items(json: &Value) -> Vec<u8> {
    wrapped(1, schema(json))
}

fn message(shape: &Shape, json: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    let Some(fields) = json.as_object() else { return out };
    for (name, number, kind) in shape.0 {
        if let Some(value) = fields.get(*name) {
            write(*number, *kind, value, &mut out);
        }
    }
    if shape.1 > 0 {
        extensions(shape.1, fields, &mut out);
    }
    out
}

fn extensions(number: u32, fields: &Map<String, Value>, out: &mut Vec<u8>) {
    for (name, value) in fields.iter().filter(|(name, _)| name.starts_with("x-")) {
        bytes(number, &pair(name, &any(value)), out);
    }
}

fn named(number: u32, json: &Value, value: impl Fn(&Value) -> Vec<u8>) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, one) in json.as_object().into_iter().flatten() {
        bytes(number, &pair(name, &value(one)), &mut out);
    }
    out
}

fn pair(name: &str, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    bytes(1, name.as_bytes(), &mut out);
    bytes(2, value, &mut out);
    out
}

fn any(value: &Value) -> Vec<u8> {
    wrapped(2, value.to_string().into_bytes())
}

fn wrapped(number: u32, inner: Vec<u8>) -> Vec<u8> {
    let mut out = Vec::with_capacity(inner.len() + 6);
    bytes(number, &inner, &mut out);
    out
}

fn write(number: u32, kind: Kind, value: &Value, out: &mut Vec<u8>) {
    let list = || value.as_array().map_or(&[][..], Vec::as_slice);
    match kind {
        Kind::Text => bytes(number, value.as_str().unwrap_or_default().as_bytes(), out),
        Kind::Texts => {
            list().iter().filter_map(Value::as_str).for_each(|text| bytes(number, text.as_bytes(), out));
        }
        Kind::Flag if value == &Value::Bool(true) => {
            key(number, 0, out);
            varint(1, out);
        }
        Kind::Flag => {}
        Kind::Int => {
            key(number, 0, out);
            varint(value.as_u64().unwrap_or_default(), out);
        }
        Kind::Double => {
            key(number, 1, out);
            out.extend(value.as_f64().unwrap_or_default().to_le_bytes());
        }
        Kind::Any => bytes(number, &any(value), out),
        Kind::Anys => list().iter().for_each(|one| bytes(number, &any(one), out)),
        Kind::One(inner) => bytes(number, &inner(value), out),
        Kind::Many(inner) => list().iter().for_each(|one| bytes(number, &inner(one), out)),
        Kind::Named(field, inner) => bytes(number, &named(field, value, inner), out),
    }
}

fn bytes(number: u32, value: &[u8], out: &mut Vec<u8>) {
    key(number, 2, out);
    varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

fn key(number: u32, wire: u32, out: &mut Vec<u8>) {
    varint(u64::from(number << 3 | wire), out);
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}
