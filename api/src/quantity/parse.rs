//! Quantities out of texts, with all that Kubernetes lets pass: digits may be missing, and what is written in canonical form
//! is kept as it is. Must never lose a part without rounding away from zero.

use super::{Format, MAX_DIGITS, Quantity, QuantityError, bounded, divide};

/// The power of ten of the finest part that is kept.
const NANO: i32 = -9;
/// Numbers with a binary suffix are capped here.
const MAX_BINARY: i128 = i64::MAX as i128;

/// What a text consists of.
struct Parts<'a> {
    negative: bool,
    /// Everything before the suffix.
    number: &'a str,
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

/// Reads a quantity.
pub(super) fn parse(text: &str) -> Result<Quantity, QuantityError> {
    if text.is_empty() {
        return Err(QuantityError::Format);
    }
    let parts = split(text)?;
    let (power, exponent, format) = suffix(parts.suffix).ok_or(QuantityError::Suffix)?;
    match short(&parts, power, exponent, format, text) {
        Some(quantity) => Ok(quantity),
        None => long(&parts, power, exponent, format),
    }
}

/// The text in its parts. Digits may be missing, as Kubernetes has it.
fn split(text: &str) -> Result<Parts<'_>, QuantityError> {
    let bytes = text.as_bytes();
    let negative = bytes[0] == b'-';
    let start = usize::from(negative || bytes[0] == b'+');
    let while_true =
        |from: usize, is: fn(&u8) -> bool| from + bytes[from..].iter().take_while(|byte| is(byte)).count();
    let first = while_true(start, |byte| *byte == b'0');
    let mut end = while_true(first, u8::is_ascii_digit);
    let whole = if end == first { "0" } else { &text[first..end] };
    let mut fraction = "";
    if bytes.get(end) == Some(&b'.') {
        let from = end + 1;
        end = while_true(from, u8::is_ascii_digit);
        fraction = &text[from..end];
    }
    let mut after = while_true(end, |byte| b"eEinumkKMGTP".contains(byte));
    if matches!(bytes.get(after), Some(b'-' | b'+')) {
        after += 1;
    }
    if while_true(after, u8::is_ascii_digit) != bytes.len() {
        return Err(QuantityError::Format);
    }
    Ok(Parts { negative, number: &text[..end], whole, fraction, suffix: &text[end..] })
}

/// The power of two, the power of ten, and how quantities with this suffix are written.
fn suffix(suffix: &str) -> Option<(u32, i32, Format)> {
    let decimal = |exponent| Some((0, exponent, Format::DecimalSi));
    let binary = |power| Some((power, 0, Format::BinarySi));
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let exponent: i64 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            // Kubernetes keeps the low 32 bits.
            Some((0, exponent as i32, Format::DecimalExponent))
        }
    }
}

/// The quantity, where it has few digits; these are the ones that may be written again as they were.
fn short(parts: &Parts<'_>, power: u32, exponent: i32, format: Format, text: &str) -> Option<Quantity> {
    let count = (parts.whole.len() + parts.fraction.len()) as i64;
    let room = match format {
        Format::BinarySi if parts.fraction.is_empty() => 14 - i64::from(power) * 3 / 10,
        Format::BinarySi => return None,
        Format::DecimalSi | Format::DecimalExponent => 18,
    };
    let exponent = exponent.wrapping_sub(parts.fraction.len() as i32);
    if count > room || exponent < NANO {
        return None;
    }
    let shown = format!("{}{}", parts.whole, parts.fraction);
    let number: i128 = shown.parse().ok()?;
    let as_it_was = match format {
        Format::BinarySi => number & 7 != 0,
        _ => exponent % 3 == 0 && !shown.ends_with("000") && !shown.starts_with('0'),
    };
    let mantissa = number << power;
    // An amount beyond 64 bits is left to the careful way.
    i64::try_from(mantissa).ok()?;
    Some(Quantity {
        mantissa: if parts.negative { -mantissa } else { mantissa },
        exponent,
        format,
        text: as_it_was.then(|| text.into()),
    })
}

/// The quantity, rounded and capped where that must be.
fn long(parts: &Parts<'_>, power: u32, exponent: i32, format: Format) -> Result<Quantity, QuantityError> {
    if !parts.number.bytes().any(|byte| byte.is_ascii_digit()) {
        return Err(QuantityError::Number);
    }
    let mut all = format!("{}{}", parts.whole, parts.fraction);
    let mut exponent = i64::from(exponent) - parts.fraction.len() as i64;
    all.drain(..all.find(|digit| digit != '0').unwrap_or(all.len() - 1));
    let mut lost = false;
    if all.len() > MAX_DIGITS {
        lost = all[MAX_DIGITS..].bytes().any(|digit| digit != b'0');
        exponent += (all.len() - MAX_DIGITS) as i64;
        all.truncate(MAX_DIGITS);
    }
    let mut mantissa: i128 = all.parse().map_err(|_| QuantityError::Number)?;
    mantissa += i128::from(lost);
    let mut binary = loop {
        match mantissa.checked_mul(1i128 << power) {
            Some(product) => break product,
            None => (mantissa, exponent) = (divide(mantissa, 1).0, exponent + 1),
        }
    };
    if exponent < i64::from(NANO) {
        binary = divide(binary, (i64::from(NANO) - exponent).unsigned_abs()).0;
        exponent = i64::from(NANO);
    }
    let exponent = i32::try_from(exponent).map_err(|_| QuantityError::Number)?;
    let (mantissa, exponent) = bounded(binary, exponent);
    let mut quantity = Quantity { mantissa, exponent, format, text: None };
    if format == Format::BinarySi {
        let most = Quantity { mantissa: MAX_BINARY, exponent: 0, format, text: None };
        if quantity > most {
            quantity = most;
        }
        if quantity.sign() > 0 && quantity < Quantity::new(1, 0, format) {
            quantity.format = Format::DecimalSi;
        }
    }
    if parts.negative {
        quantity.mantissa = -quantity.mantissa;
    }
    Ok(quantity)
}
