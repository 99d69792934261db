//! Which functions there are, and what they take. Must never do the work itself, nor let work be done that is not paid for.

use super::authorization;
use super::convert;
use super::format;
use super::lists;
use super::machine::{Budget, EvalError};
use super::net;
use super::objects;
use super::quantity;
use super::strings;
use super::time;
use super::value::Val;

type Arities = &'static [usize];

/// Functions of values, with how many arguments they take beside the value; none means any number.
pub(super) const MEMBER: &[(&str, Arities)] = &[
    ("add", &[1]),
    ("allowed", &[0]),
    ("asApproximateFloat", &[0]),
    ("asInteger", &[0]),
    ("charAt", &[1]),
    ("check", &[1]),
    ("compareTo", &[1]),
    ("contains", &[1]),
    ("containsCIDR", &[1]),
    ("containsIP", &[1]),
    ("distinct", &[0]),
    ("endsWith", &[1]),
    ("error", &[0]),
    ("errored", &[0]),
    ("family", &[0]),
    ("fieldSelector", &[1]),
    ("find", &[1]),
    ("findAll", &[1, 2]),
    ("first", &[0]),
    ("flatten", &[0, 1]),
    ("format", &[1]),
    ("getDate", &[0, 1]),
    ("getDayOfMonth", &[0, 1]),
    ("getDayOfWeek", &[0, 1]),
    ("getDayOfYear", &[0, 1]),
    ("getEscapedPath", &[0]),
    ("getFullYear", &[0, 1]),
    ("getHost", &[0]),
    ("getHostname", &[0]),
    ("getHours", &[0, 1]),
    ("getMilliseconds", &[0, 1]),
    ("getMinutes", &[0, 1]),
    ("getMonth", &[0, 1]),
    ("getPort", &[0]),
    ("getQuery", &[0]),
    ("getScheme", &[0]),
    ("getSeconds", &[0, 1]),
    ("group", &[1]),
    ("hasValue", &[0]),
    ("indexOf", &[1, 2]),
    ("ip", &[0]),
    ("isGlobalUnicast", &[0]),
    ("isGreaterThan", &[1]),
    ("isInteger", &[0]),
    ("isLessThan", &[1]),
    ("isLinkLocalMulticast", &[0]),
    ("isLinkLocalUnicast", &[0]),
    ("isLoopback", &[0]),
    ("isSorted", &[0]),
    ("isUnspecified", &[0]),
    ("join", &[0, 1]),
    ("labelSelector", &[1]),
    ("last", &[0]),
    ("lastIndexOf", &[1, 2]),
    ("lowerAscii", &[0]),
    ("masked", &[0]),
    ("matches", &[1]),
    ("max", &[0]),
    ("min", &[0]),
    ("name", &[1]),
    ("namespace", &[1]),
    ("or", &[1]),
    ("orValue", &[1]),
    ("path", &[1]),
    ("prefixLength", &[0]),
    ("reason", &[0]),
    ("replace", &[2, 3]),
    ("resource", &[1]),
    ("reverse", &[0]),
    ("serviceAccount", &[2]),
    ("sign", &[0]),
    ("size", &[0]),
    ("slice", &[2]),
    ("sort", &[0]),
    ("split", &[1, 2]),
    ("startsWith", &[1]),
    ("sub", &[1]),
    ("subresource", &[1]),
    ("substring", &[1, 2]),
    ("sum", &[0]),
    ("trim", &[0]),
    ("upperAscii", &[0]),
    ("validate", &[1]),
    ("value", &[0]),
];

/// Functions that stand alone.
pub(super) const GLOBAL: &[(&str, Arities)] = &[
    ("base64.decode", &[1]),
    ("base64.encode", &[1]),
    ("bool", &[1]),
    ("bytes", &[1]),
    ("cidr", &[1]),
    ("double", &[1]),
    ("duration", &[1]),
    ("dyn", &[1]),
    ("format.byte", &[0]),
    ("format.date", &[0]),
    ("format.datetime", &[0]),
    ("format.dns1035Label", &[0]),
    ("format.dns1035LabelPrefix", &[0]),
    ("format.dns1123Label", &[0]),
    ("format.dns1123LabelPrefix", &[0]),
    ("format.dns1123Subdomain", &[0]),
    ("format.dns1123SubdomainPrefix", &[0]),
    ("format.labelValue", &[0]),
    ("format.named", &[1]),
    ("format.qualifiedName", &[0]),
    ("format.uri", &[0]),
    ("format.uuid", &[0]),
    ("int", &[1]),
    ("ip", &[1]),
    ("ip.isCanonical", &[1]),
    ("isCIDR", &[1]),
    ("isIP", &[1]),
    ("isQuantity", &[1]),
    ("isURL", &[1]),
    ("jsonpatch.escapeKey", &[1]),
    ("math.abs", &[1]),
    ("math.greatest", &[]),
    ("math.least", &[]),
    ("matches", &[2]),
    ("optional.none", &[0]),
    ("optional.of", &[1]),
    ("optional.ofNonZeroValue", &[1]),
    ("quantity", &[1]),
    ("sets.contains", &[2]),
    ("sets.equivalent", &[2]),
    ("sets.intersects", &[2]),
    ("size", &[1]),
    ("string", &[1]),
    ("timestamp", &[1]),
    ("type", &[1]),
    ("uint", &[1]),
    ("url", &[1]),
];

/// A function of a value.
pub(super) fn member<'a>(
    budget: &mut Budget,
    name: &str,
    target: &Val<'a>,
    args: &[Val<'a>],
) -> Result<Val<'a>, EvalError> {
    // Most functions look at all of their values once.
    if !matches!(target, Val::Optional(_)) && name != "size" {
        budget.pay_for(target)?;
    }
    for arg in args {
        budget.pay_for(arg)?;
    }
    match (target, name, args) {
        (Val::Optional(inner), "hasValue", []) => Ok(Val::Bool(inner.is_some())),
        (Val::Optional(inner), "value", []) => {
            inner.as_deref().cloned().ok_or_else(|| EvalError::other("optional.none() dereference"))
        }
        (_, "size", []) => size(target),
        (Val::Text(text), ..) => strings::member(budget, name, text, args),
        (Val::List(_) | Val::JsonList(..), ..) => lists::member(budget, name, target, args),
        (Val::Timestamp(nanos), ..) => time::of_timestamp(name, *nanos, args),
        (Val::Duration(nanos), _, []) => time::of_duration(name, *nanos),
        (Val::Quantity(nanos), ..) => quantity::member(name, *nanos, args),
        (Val::Url(url), _, []) => net::of_url(name, url),
        (Val::Ip(address), _, []) => net::of_ip(name, *address),
        (Val::Cidr(address, length), ..) => net::of_cidr(name, *address, *length, args),
        (Val::Access(access), ..) => authorization::member(budget, name, access, args),
        (Val::Format(format), "validate", [Val::Text(text)]) => Ok(format::validate(format, text)),
        _ => Err(EvalError::NoSuchOverload),
    }
}

/// A function that stands alone.
pub(super) fn global<'a>(budget: &mut Budget, name: &str, args: &[Val<'a>]) -> Result<Val<'a>, EvalError> {
    if !matches!(name, "size" | "type" | "dyn" | "optional.of") {
        for arg in args {
            budget.pay_for(arg)?;
        }
    }
    match (name, args) {
        ("size", [value]) => size(value),
        ("type", [value]) => Ok(Val::Type(value.type_name())),
        ("dyn", [value]) => Ok(value.clone()),
        ("int", [value]) => convert::to_int(value),
        ("uint", [value]) => convert::to_uint(value),
        ("double", [value]) => convert::to_double(value),
        ("bool", [value]) => convert::to_bool(value),
        ("bytes", [value]) => convert::to_bytes(value),
        ("string", [value]) => convert::to_text(value),
        ("timestamp", [value]) => convert::to_timestamp(value),
        ("duration", [value]) => convert::to_duration(value),
        ("base64.encode", [value]) => convert::base64(value, true),
        ("base64.decode", [value]) => convert::base64(value, false),
        ("matches", [Val::Text(text), pattern]) => {
            strings::member(budget, "matches", text, std::slice::from_ref(pattern))
        }
        ("optional.none", []) => Ok(Val::Optional(None)),
        ("optional.of", [value]) => Ok(Val::optional(Some(value.clone()))),
        ("optional.ofNonZeroValue", [value]) => {
            Ok(Val::optional(Some(value.clone()).filter(|value| !is_zero(value))))
        }
        ("quantity" | "isQuantity", [Val::Text(text)]) => quantity::global(name, text),
        ("url" | "isURL" | "ip" | "isIP" | "cidr" | "isCIDR" | "ip.isCanonical", [Val::Text(text)]) => {
            net::global(name, text)
        }
        ("format.named", [Val::Text(text)]) => Ok(Val::optional(format::named(text).map(Val::Format))),
        ("jsonpatch.escapeKey", [Val::Text(key)]) => Ok(Val::text(objects::escape_key(key))),
        ("math.greatest" | "math.least" | "math.abs", _) => lists::math(name, args),
        ("sets.contains" | "sets.equivalent" | "sets.intersects", [left, right]) => {
            lists::sets(budget, name, left, right)
        }
        (name, []) => name
            .strip_prefix("format.")
            .and_then(format::named)
            .map(Val::Format)
            .ok_or(EvalError::NoSuchOverload),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn size<'a>(value: &Val<'_>) -> Result<Val<'a>, EvalError> {
    let size = match value {
        Val::Text(text) => text.chars().count(),
        Val::Bytes(bytes) => bytes.len(),
        value => value.list_len().or_else(|| value.map_len()).ok_or(EvalError::NoSuchOverload)?,
    };
    Ok(Val::Int(i64::try_from(size).unwrap_or(i64::MAX)))
}

fn is_zero(value: &Val<'_>) -> bool {
    match value {
        Val::Null => true,
        Val::Bool(value) => !value,
        Val::Int(value) => *value == 0,
        Val::Uint(value) => *value == 0,
        Val::Double(value) => *value == 0.0,
        Val::Text(text) => text.is_empty(),
        Val::Bytes(bytes) => bytes.is_empty(),
        Val::Duration(nanos) => *nanos == 0,
        Val::Optional(inner) => inner.is_none(),
        value => value.list_len().or_else(|| value.map_len()) == Some(0),
    }
}
