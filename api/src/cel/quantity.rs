//! Quantities (`100m`, `1Gi`) in expressions, counted in nanos. Must never lose more than a nano, and that upwards.

use super::machine::EvalError;
use super::value::Val;

const ONE: i128 = 1_000_000_000;

/// Reads a quantity.
fn parse(text: &str) -> Option<i128> {
    let (negative, rest) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    let end = rest.find(|one: char| !one.is_ascii_digit() && one != '.').unwrap_or(rest.len());
    let (number, suffix) = rest.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || number.len() > 34 {
        return None;
    }
    let places = u32::try_from(fraction.len()).ok()?;
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    // The value is digits * times / by.
    let (mut times, mut by) = (ONE, 10i128.checked_pow(places)?);
    let binary = |power: u32| 1i128 << (10 * power);
    match suffix {
        "" => {}
        "n" => by = by.checked_mul(ONE)?,
        "u" => by = by.checked_mul(1_000_000)?,
        "m" => by = by.checked_mul(1_000)?,
        "k" => times *= 1_000,
        "M" => times *= 1_000_000,
        "G" => times *= ONE,
        "T" => times *= ONE * 1_000,
        "P" => times *= ONE * 1_000_000,
        "E" => times *= ONE * ONE,
        "Ki" => times *= binary(1),
        "Mi" => times *= binary(2),
        "Gi" => times *= binary(3),
        "Ti" => times *= binary(4),
        "Pi" => times *= binary(5),
        "Ei" => times *= binary(6),
        suffix => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10i128.checked_pow(exponent.unsigned_abs())?;
            if exponent < 0 {
                by = by.checked_mul(power)?;
            } else {
                times = times.checked_mul(power)?;
            }
        }
    }
    let scaled = digits.checked_mul(times)?;
    let nanos = scaled / by + i128::from(scaled % by != 0);
    // Greater ones are capped.
    let most = i128::from(i64::MAX) * ONE;
    let nanos = nanos.min(most);
    Some(if negative { -nanos } else { nanos })
}

/// `quantity()` and `isQuantity()`
pub(super) fn global<'a>(name: &str, text: &str) -> Result<Val<'a>, EvalError> {
    match (name, parse(text)) {
        ("isQuantity", parsed) => Ok(Val::Bool(parsed.is_some())),
        (_, Some(nanos)) => Ok(Val::Quantity(nanos)),
        (_, None) => Err(EvalError::other(
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        )),
    }
}

/// Functions of a quantity.
pub(super) fn member<'a>(name: &str, nanos: i128, args: &[Val<'a>]) -> Result<Val<'a>, EvalError> {
    let whole = (nanos % ONE == 0).then_some(nanos / ONE).and_then(|whole| i64::try_from(whole).ok());
    let order = |other: i128| Val::Int(nanos.cmp(&other) as i64);
    Ok(match (name, args) {
        ("isInteger", []) => Val::Bool(whole.is_some()),
        ("asInteger", []) => {
            Val::Int(whole.ok_or_else(|| EvalError::other("cannot convert value to integer"))?)
        }
        #[expect(clippy::cast_precision_loss, reason = "approximate by its name")]
        ("asApproximateFloat", []) => Val::Double(nanos as f64 / 1e9),
        ("sign", []) => order(0),
        ("add", [other]) => Val::Quantity(nanos + amount(other)?),
        ("sub", [other]) => Val::Quantity(nanos - amount(other)?),
        ("compareTo", [Val::Quantity(other)]) => order(*other),
        ("isLessThan", [Val::Quantity(other)]) => Val::Bool(nanos < *other),
        ("isGreaterThan", [Val::Quantity(other)]) => Val::Bool(nanos > *other),
        _ => return Err(EvalError::NoSuchOverload),
    })
}

/// A quantity or a whole number.
fn amount(value: &Val<'_>) -> Result<i128, EvalError> {
    match value {
        Val::Quantity(nanos) => Ok(*nanos),
        Val::Int(whole) => Ok(i128::from(*whole) * ONE),
        _ => Err(EvalError::NoSuchOverload),
    }
}
