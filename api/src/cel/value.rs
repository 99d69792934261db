//! Values of expressions. What comes from an object is read where it lies, with the types of its schema. Must never hold a
//! value in a form that its schema does not say.

use core::net::IpAddr;
use std::borrow::Cow;
use std::sync::Arc;

use serde_json::{Map, Number, Value};

use super::authorization::Access;
use super::net::Url;
use super::parser::RESERVED;
use crate::schema::{Type, View};

/// A value; `'a` is how long the objects live that it may come from.
#[derive(Clone, Debug)]
pub enum Val<'a> {
    /// null
    Null,
    /// A truth.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number without a sign.
    Uint(u64),
    /// A number with a fraction.
    Double(f64),
    /// A text.
    Text(Cow<'a, str>),
    /// Bytes.
    Bytes(Arc<[u8]>),
    /// A list that was made.
    List(Arc<Vec<Self>>),
    /// A list of an object.
    JsonList(&'a [Value], Option<View<'a>>),
    /// A map that was made.
    Map(Arc<Vec<(Self, Self)>>),
    /// A map or an object in an object.
    JsonMap(&'a Map<String, Value>, Option<View<'a>>),
    /// A point in time, in nanoseconds since 1970.
    Timestamp(i128),
    /// A time between two, in nanoseconds.
    Duration(i64),
    /// Something, or nothing.
    Optional(Option<Arc<Self>>),
    /// A type, by its name.
    Type(&'static str),
    /// A quantity (`100m`, `1Gi`), in nanos.
    Quantity(i128),
    /// A URL.
    Url(Arc<Url>),
    /// An address.
    Ip(IpAddr),
    /// A network: address and length of its prefix.
    Cidr(IpAddr, u8),
    /// A format of texts, by its name.
    Format(&'static str),
    /// Rights, and the way to them.
    Access(Arc<Access<'a>>),
}

impl<'a> Val<'a> {
    /// A text of its own.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(Cow::Owned(text.into()))
    }

    /// A list of its own.
    #[must_use]
    pub fn list(items: Vec<Self>) -> Self {
        Self::List(Arc::new(items))
    }

    /// A map of names of its own.
    #[must_use]
    pub fn named(entries: impl IntoIterator<Item = (String, Self)>) -> Self {
        Self::Map(Arc::new(entries.into_iter().map(|(name, value)| (Self::text(name), value)).collect()))
    }

    /// Something that may be there.
    #[must_use]
    pub fn optional(value: Option<Self>) -> Self {
        Self::Optional(value.map(Arc::new))
    }

    /// A value of an object, with the types that its schema gives, if there is one.
    #[must_use]
    pub fn of_json(value: &'a Value, view: Option<View<'a>>) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) => number_of(number, view),
            Value::String(text) => typed_text(text, view),
            Value::Array(list) => Self::JsonList(list, view),
            Value::Object(map) => Self::JsonMap(map, view),
        }
    }

    /// The name of its type.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::Text(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::List(_) | Self::JsonList(..) => "list",
            Self::Map(_) | Self::JsonMap(..) => "map",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Optional(_) => "optional_type",
            Self::Type(_) => "type",
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Url(_) => "kubernetes.URL",
            Self::Ip(_) => "net.IP",
            Self::Cidr(..) => "net.CIDR",
            Self::Format(_) => "kubernetes.NamedFormat",
            Self::Access(access) => access.type_name(),
        }
    }

    /// How many items a list has.
    pub(super) fn list_len(&self) -> Option<usize> {
        match self {
            Self::List(list) => Some(list.len()),
            Self::JsonList(list, _) => Some(list.len()),
            _ => None,
        }
    }

    /// An item of a list.
    pub(super) fn item(&self, index: usize) -> Option<Self> {
        match self {
            Self::List(list) => list.get(index).cloned(),
            Self::JsonList(list, view) => Some(Self::of_json(list.get(index)?, view.and_then(View::items))),
            _ => None,
        }
    }

    /// The items of a list.
    pub(super) fn items(&self) -> Option<impl Iterator<Item = Self> + use<'a>> {
        let length = self.list_len()?;
        let list = self.clone();
        Some((0..length).filter_map(move |index| list.item(index)))
    }

    /// How many entries a map has.
    pub(super) fn map_len(&self) -> Option<usize> {
        match self {
            Self::Map(map) => Some(map.len()),
            Self::JsonMap(map, _) => Some(map.len()),
            _ => None,
        }
    }

    /// The keys of a map.
    pub(super) fn keys(&self) -> Option<Vec<Self>> {
        match self {
            Self::Map(map) => Some(map.iter().map(|(key, _)| key.clone()).collect()),
            Self::JsonMap(map, _) => {
                Some(map.keys().map(|key| Self::Text(Cow::Borrowed(key.as_str()))).collect())
            }
            _ => None,
        }
    }

    /// The value of a key of a map. Nothing also where it is no map.
    pub(super) fn entry(&self, key: &Self) -> Option<Self> {
        match (self, key) {
            (Self::JsonMap(map, view), Self::Text(key)) => {
                let below = view.and_then(|view| view.property(key));
                Some(Self::of_json(map.get(&**key)?, below))
            }
            (Self::Map(map), key) => {
                map.iter().find(|(one, _)| super::compare::equal(one, key)).map(|(_, value)| value.clone())
            }
            _ => None,
        }
    }

    /// A field, by the name under which expressions select it.
    pub(super) fn field(&self, name: &str) -> Option<Self> {
        match self {
            Self::JsonMap(map, view) => {
                // Only of objects that are known by name are the names of fields escaped.
                let known = view.is_some_and(|view| !view.schema().properties.is_empty());
                let name = if known { Cow::Owned(unescape(name)) } else { Cow::Borrowed(name) };
                let below = view.and_then(|view| view.property(&name));
                Some(Self::of_json(map.get(&*name)?, below))
            }
            Self::Map(map) => {
                map.iter().find(|(key, _)| key.as_text() == Some(name)).map(|(_, value)| value.clone())
            }
            _ => None,
        }
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

fn number_of<'a>(number: &Number, view: Option<View<'_>>) -> Val<'a> {
    let kind = view.and_then(|view| view.schema().kind);
    let double = Val::Double(number.as_f64().unwrap_or(f64::NAN));
    #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and small")]
    let whole =
        || number.as_f64().filter(|one| one.fract() == 0.0 && one.abs() < 9.0e18).map(|one| one as i64);
    match (kind, number.as_i64()) {
        (Some(Type::Number), _) => double,
        (_, Some(whole)) => Val::Int(whole),
        (Some(Type::Integer), None) => whole().map_or(double, Val::Int),
        _ => double,
    }
}

fn typed_text<'a>(text: &'a str, view: Option<View<'_>>) -> Val<'a> {
    let plain = Val::Text(Cow::Borrowed(text));
    let format = view.and_then(|view| view.schema().format.as_deref().or(view.field().format.as_deref()));
    match format {
        Some("date-time") => super::time::parse_timestamp(text).map_or(plain, Val::Timestamp),
        Some("date") => super::time::parse_date(text).map_or(plain, Val::Timestamp),
        Some("duration") => crate::schema::duration_nanos(text).map_or(plain, Val::Duration),
        Some("byte") => super::strings::base64_decode(text).map_or(plain, |bytes| Val::Bytes(bytes.into())),
        _ => plain,
    }
}

/// The name of a field that an expression names: `a__dash__b` is `a-b`.
pub(super) fn unescape(name: &str) -> String {
    const LITERALS: &[&str] = &["true", "false", "null", "in"];
    let inner = name.strip_prefix("__").and_then(|name| name.strip_suffix("__"));
    if let Some(word) = inner.filter(|word| LITERALS.contains(word) || RESERVED.contains(word)) {
        return word.to_owned();
    }
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(start) = rest.find("__") {
        out.push_str(&rest[..start]);
        let escapes = [
            ("__underscores__", "__"),
            ("__dot__", "."),
            ("__dash__", "-"),
            ("__slash__", "/"),
            ("__", "__"),
        ];
        for (escape, meant) in escapes {
            if let Some(behind) = rest[start..].strip_prefix(escape) {
                out.push_str(meant);
                rest = behind;
                break;
            }
        }
    }
    out.push_str(rest);
    out
}
