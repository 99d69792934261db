//! Values of one type as another: `int('1')`, `string(1.5)`. Must never round silently what does not fit.

use super::machine::EvalError;
use super::strings::{base64_decode, base64_encode};
use super::time;
use super::value::Val;

/// A scalar as text, as `string()` gives it.
pub(super) fn text_of(value: &Val<'_>) -> Option<String> {
    Some(match value {
        Val::Text(text) => text.clone().into_owned(),
        Val::Bool(value) => value.to_string(),
        Val::Int(value) => value.to_string(),
        Val::Uint(value) => value.to_string(),
        Val::Double(value) => double_text(*value),
        Val::Bytes(bytes) => String::from_utf8(bytes.to_vec()).ok()?,
        Val::Timestamp(nanos) => time::timestamp_text(*nanos),
        Val::Duration(nanos) => time::duration_text(*nanos),
        Val::Ip(address) => address.to_string(),
        Val::Cidr(address, length) => format!("{address}/{length}"),
        _ => return None,
    })
}

/// A value for a message.
pub(super) fn plain_text(value: &Val<'_>) -> String {
    text_of(value).unwrap_or_else(|| value.type_name().to_owned())
}

/// A number with a fraction as Go writes it shortest.
pub(super) fn double_text(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
    } else if value != 0.0 && !(1e-4..1e21).contains(&value.abs()) {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(("+", exponent), |rest| ("-", rest));
        format!("{digits}e{sign}{exponent:0>2}")
    } else {
        value.to_string()
    }
}

fn out_of_range(kind: &str) -> EvalError {
    EvalError::other(format!("{kind} overflow"))
}

/// `int()`
pub(super) fn to_int<'a>(value: &Val<'a>) -> Result<Val<'a>, EvalError> {
    Ok(Val::Int(match value {
        Val::Int(value) => *value,
        Val::Uint(value) => i64::try_from(*value).map_err(|_| out_of_range("integer"))?,
        #[expect(clippy::cast_possible_truncation, reason = "checked to be in range")]
        Val::Double(value) if value.is_finite() && value.abs() < 9.223_372_036_854_775e18 => *value as i64,
        Val::Double(_) => return Err(out_of_range("integer")),
        Val::Text(text) => text
            .parse()
            .map_err(|_| EvalError::other(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))?,
        Val::Timestamp(nanos) => {
            i64::try_from(nanos.div_euclid(1_000_000_000)).map_err(|_| out_of_range("integer"))?
        }
        Val::Duration(nanos) => *nanos,
        _ => return Err(EvalError::NoSuchOverload),
    }))
}

/// `uint()`
pub(super) fn to_uint<'a>(value: &Val<'a>) -> Result<Val<'a>, EvalError> {
    Ok(Val::Uint(match value {
        Val::Uint(value) => *value,
        Val::Int(value) => u64::try_from(*value).map_err(|_| out_of_range("unsigned integer"))?,
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range")]
        Val::Double(value) if (0.0..1.844_674_407_370_955e19).contains(value) => *value as u64,
        Val::Double(_) => return Err(out_of_range("unsigned integer")),
        Val::Text(text) => text
            .parse()
            .map_err(|_| EvalError::other(format!("strconv.ParseUint: parsing {text:?}: invalid syntax")))?,
        _ => return Err(EvalError::NoSuchOverload),
    }))
}

/// `double()`
#[expect(clippy::cast_precision_loss, reason = "what a number with a fraction can hold")]
pub(super) fn to_double<'a>(value: &Val<'a>) -> Result<Val<'a>, EvalError> {
    Ok(Val::Double(match value {
        Val::Double(value) => *value,
        Val::Int(value) => *value as f64,
        Val::Uint(value) => *value as f64,
        Val::Text(text) => text
            .parse()
            .map_err(|_| EvalError::other(format!("strconv.ParseFloat: parsing {text:?}: invalid syntax")))?,
        _ => return Err(EvalError::NoSuchOverload),
    }))
}

/// `bool()`
pub(super) fn to_bool<'a>(value: &Val<'a>) -> Result<Val<'a>, EvalError> {
    match value {
        Val::Bool(value) => Ok(Val::Bool(*value)),
        Val::Text(text) => match &**text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Val::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Val::Bool(false)),
            _ => Err(EvalError::other(format!("strconv.ParseBool: parsing {text:?}: invalid syntax"))),
        },
        _ => Err(EvalError::NoSuchOverload),
    }
}

/// `bytes()`
pub(super) fn to_bytes<'a>(value: &Val<'a>) -> Result<Val<'a>, EvalError> {
    match value {
        Val::Bytes(bytes) => Ok(Val::Bytes(bytes.clone())),
        Val::Text(text) => Ok(Val::Bytes(text.as_bytes().into())),
        _ => Err(EvalError::NoSuchOverload),
    }
}

/// `string()`
pub(super) fn to_text<'a>(value: &Val<'a>) -> Result<Val<'a>, EvalError> {
    text_of(value).map(Val::text).ok_or(match value {
        Val::Bytes(_) => EvalError::other("invalid UTF-8 in bytes, cannot convert to string"),
        _ => EvalError::NoSuchOverload,
    })
}

/// `timestamp()`
pub(super) fn to_timestamp<'a>(value: &Val<'a>) -> Result<Val<'a>, EvalError> {
    let nanos = match value {
        Val::Timestamp(nanos) => Some(*nanos),
        Val::Int(seconds) => time::in_range(i128::from(*seconds) * 1_000_000_000),
        Val::Text(text) => time::parse_timestamp(text),
        _ => return Err(EvalError::NoSuchOverload),
    };
    nanos.map(Val::Timestamp).ok_or_else(|| EvalError::other("invalid timestamp"))
}

/// `duration()`
pub(super) fn to_duration<'a>(value: &Val<'a>) -> Result<Val<'a>, EvalError> {
    match value {
        Val::Duration(nanos) => Ok(Val::Duration(*nanos)),
        Val::Int(nanos) => Ok(Val::Duration(*nanos)),
        Val::Text(text) => crate::schema::go_duration_nanos(text)
            .map(Val::Duration)
            .ok_or_else(|| EvalError::other(format!("time: invalid duration {text:?}"))),
        _ => Err(EvalError::NoSuchOverload),
    }
}

/// `base64.encode()` and `base64.decode()`
pub(super) fn base64<'a>(value: &Val<'a>, encode: bool) -> Result<Val<'a>, EvalError> {
    match (value, encode) {
        (Val::Bytes(bytes), true) => Ok(Val::text(base64_encode(bytes))),
        (Val::Text(text), false) => base64_decode(text)
            .map(|bytes| Val::Bytes(bytes.into()))
            .ok_or_else(|| EvalError::other("illegal base64 data")),
        _ => Err(EvalError::NoSuchOverload),
    }
}
