//! Amounts of resources as Kubernetes writes them: `100m`, `1.5Gi`, `12e6`. Exact decimal numbers of up to 37 digits, not
//! finer than a billionth. Must never become a floating point number on the way to a decision.

mod parse;

use std::cmp::Ordering;
use std::fmt;

use serde_json::Value;

/// More digits than this are not kept; what is lost rounds away from zero.
const MAX_DIGITS: usize = 37;

/// How a quantity is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `12e6`
    DecimalExponent,
    /// `12Mi`
    BinarySi,
    /// `12M`
    DecimalSi,
}

/// A text that is no quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// It does not look like one.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// Its number is none.
    #[error("unable to parse numeric part of quantity")]
    Number,
    /// Its suffix is none.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// An amount. Two are equal when their numbers are, however they are written.
#[derive(Clone, Debug)]
pub struct Quantity {
    /// The number is `mantissa * 10^exponent`.
    mantissa: i128,
    exponent: i32,
    format: Format,
    /// What was read, where Kubernetes would write it again as it was.
    text: Option<Box<str>>,
}

impl Quantity {
    /// `number * 10^exponent`.
    #[must_use]
    pub const fn new(number: i64, exponent: i32, format: Format) -> Self {
        Self { mantissa: number as i128, exponent, format, text: None }
    }

    /// Reads a quantity.
    ///
    /// # Errors
    /// When it is none, in the words of Kubernetes.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        parse::parse(text)
    }

    /// From a field of an object: a text, or a number in JSON.
    ///
    /// # Errors
    /// As [`Quantity::parse`]; a value that is neither has the wrong format.
    pub fn of_value(value: &Value) -> Result<Self, QuantityError> {
        match value {
            Value::String(text) => Self::parse(text.trim()),
            Value::Number(number) => Self::parse(&number.to_string()),
            Value::Null => Ok(Self::new(0, 0, Format::DecimalSi)),
            _ => Err(QuantityError::Format),
        }
    }

    /// How it is written.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// -1, 0 or 1.
    #[must_use]
    pub const fn sign(&self) -> i32 {
        self.mantissa.signum() as i32
    }

    /// Whether it is nothing.
    #[must_use]
    pub const fn is_zero(&self) -> bool {
        self.mantissa == 0
    }

    /// In whole units, rounded away from zero; numbers beyond 64 bits become the greatest or least.
    #[must_use]
    pub fn value(&self) -> i64 {
        self.scaled_value(0)
    }

    /// In thousandths, rounded and bounded as [`Quantity::value`].
    #[must_use]
    pub fn milli_value(&self) -> i64 {
        self.scaled_value(-3)
    }

    /// In units of `10^scale`, rounded and bounded as [`Quantity::value`].
    #[must_use]
    pub fn scaled_value(&self, scale: i32) -> i64 {
        let bound = if self.mantissa < 0 { i64::MIN } else { i64::MAX };
        let scaled = i64::from(self.exponent) - i64::from(scale);
        if scaled < 0 {
            let (rounded, _) = divide(self.mantissa, scaled.unsigned_abs());
            return i64::try_from(rounded).unwrap_or(bound);
        }
        multiply(self.mantissa, scaled.unsigned_abs())
            .and_then(|number| i64::try_from(number).ok())
            .unwrap_or(bound)
    }

    /// The number, if it is whole and fits.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        let exponent = u64::from(self.exponent.unsigned_abs());
        let whole = if self.exponent < 0 {
            let (whole, exact) = divide(self.mantissa, exponent);
            exact.then_some(whole)?
        } else {
            multiply(self.mantissa, exponent)?
        };
        i64::try_from(whole).ok()
    }

    /// About the number; for what is shown or scored, not for what is counted.
    #[must_use]
    pub fn as_f64(&self) -> f64 {
        self.mantissa as f64 * 10f64.powi(self.exponent)
    }

    /// The sum. Written as the first one, or as the second if the first is nothing.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        let (high, low) = if self.exponent < other.exponent { (other, self) } else { (self, other) };
        if high.is_zero() || low.is_zero() {
            let one = if high.is_zero() { low } else { high };
            return Self { format, text: None, ..*one };
        }
        let room = MAX_DIGITS.saturating_sub(digits(high.mantissa)) as u64;
        let shift = room.min(gap(high.exponent, low.exponent));
        let exponent = high.exponent.saturating_sub(i32::try_from(shift).unwrap_or(i32::MAX));
        let high = multiply(high.mantissa, shift).unwrap_or(high.mantissa);
        let low = divide(low.mantissa, gap(exponent, low.exponent)).0;
        let (mantissa, exponent) = bounded(high.saturating_add(low), exponent);
        Self { mantissa, exponent, format, text: None }
    }

    /// The difference, written as [`Quantity::plus`].
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        self.plus(&other.negated())
    }

    /// The number with the other sign.
    #[must_use]
    pub fn negated(&self) -> Self {
        Self { mantissa: -self.mantissa, text: None, ..*self }
    }

    /// The number times a whole one; what has too many digits is rounded away from zero.
    #[must_use]
    pub fn times(&self, factor: i64) -> Self {
        let (mut mantissa, mut exponent) = (self.mantissa, self.exponent);
        let factor = i128::from(factor);
        let product = loop {
            match mantissa.checked_mul(factor) {
                Some(product) => break product,
                None => (mantissa, exponent) = (divide(mantissa, 1).0, exponent + 1),
            }
        };
        let (mantissa, exponent) = bounded(product, exponent);
        Self { mantissa, exponent, format: self.format, text: None }
    }
}

/// With no more digits than are kept.
fn bounded(mantissa: i128, exponent: i32) -> (i128, i32) {
    let surplus = digits(mantissa).saturating_sub(MAX_DIGITS);
    (divide(mantissa, surplus as u64).0, exponent.saturating_add(surplus as i32))
}

/// How many powers of ten `high` is above `low`.
fn gap(high: i32, low: i32) -> u64 {
    (i64::from(high) - i64::from(low)).unsigned_abs()
}

fn digits(number: i128) -> usize {
    number.unsigned_abs().checked_ilog10().map_or(1, |log| log as usize + 1)
}

fn multiply(number: i128, powers_of_ten: u64) -> Option<i128> {
    if number == 0 {
        return Some(0);
    }
    let powers = u32::try_from(powers_of_ten).ok()?;
    number.checked_mul(10i128.checked_pow(powers)?)
}

/// Divided and rounded away from zero, and whether nothing was lost.
fn divide(number: i128, powers_of_ten: u64) -> (i128, bool) {
    let Some(divisor) = u32::try_from(powers_of_ten).ok().and_then(|powers| 10i128.checked_pow(powers))
    else {
        return (number.signum(), number == 0);
    };
    let (whole, rest) = (number / divisor, number % divisor);
    (whole + rest.signum(), rest == 0)
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_sign = self.sign().cmp(&other.sign());
        if by_sign != Ordering::Equal || self.mantissa == 0 {
            return by_sign;
        }
        let size = |one: &Self| digits(one.mantissa) as i64 + i64::from(one.exponent);
        let by_size = size(self).cmp(&size(other)).then_with(|| {
            let lowest = self.exponent.min(other.exponent);
            // With as many digits, only a number that no longer fits is greater than all that do.
            let aligned = |one: &Self| {
                multiply(one.mantissa, gap(one.exponent, lowest)).map_or(u128::MAX, i128::unsigned_abs)
            };
            aligned(self).cmp(&aligned(other))
        });
        if self.mantissa < 0 { by_size.reverse() } else { by_size }
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Quantity {}

/// In canonical form: no fraction, and the largest suffix that loses nothing.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(text) = &self.text {
            return f.write_str(text);
        }
        if self.is_zero() {
            return f.write_str("0");
        }
        if self.format == Format::BinarySi
            && let Some((number, suffix)) = self.binary()
        {
            return write!(f, "{number}{suffix}");
        }
        let (mut number, mut exponent) = (self.mantissa, self.exponent);
        while number % 10 == 0 {
            (number, exponent) = (number / 10, exponent.saturating_add(1));
        }
        let zeros = exponent.rem_euclid(3);
        write!(f, "{number}")?;
        for _ in 0..zeros {
            f.write_str("0")?;
        }
        match exponent - zeros {
            0 => Ok(()),
            // There is no suffix above E.
            exponent if self.format == Format::DecimalExponent || exponent > 18 => write!(f, "e{exponent}"),
            exponent => {
                const NAMES: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
                let at = usize::try_from(exponent / 3 + 3).unwrap_or_default();
                f.write_str(NAMES.get(at).copied().unwrap_or_default())
            }
        }
    }
}

impl Quantity {
    /// As a whole number with a binary suffix; nothing when it would be shorter than `1Ki` or lose something.
    fn binary(&self) -> Option<(i128, &'static str)> {
        const NAMES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
        let exponent = u64::from(self.exponent.unsigned_abs());
        let mut number = if self.exponent < 0 {
            let (whole, exact) = divide(self.mantissa, exponent);
            exact.then_some(whole)?
        } else {
            multiply(self.mantissa, exponent)?
        };
        if number.abs() < 1024 {
            return None;
        }
        let mut times = 0;
        while number % 1024 == 0 && times + 1 < NAMES.len() {
            (number, times) = (number / 1024, times + 1);
        }
        Some((number, NAMES[times]))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quantity(text: &str) -> Quantity {
        Quantity::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn what_kubernetes_reads_and_writes() {
        let table = [
            ("0", "0"),
            ("-0", "0"),
            ("0Mi", "0"),
            ("1", "1"),
            ("+1", "+1"),
            ("01", "01"),
            ("1.5", "1500m"),
            ("1.500", "1.500"),
            ("1.000", "1"),
            ("0.1", "100m"),
            (".5", "500m"),
            ("5.", "5."),
            ("100m", "100m"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("1e3", "1e3"),
            ("1E3", "1E3"),
            ("10e2", "1e3"),
            ("1000", "1k"),
            ("1024", "1024"),
            ("12e6", "12e6"),
            ("1e-3", "1e-3"),
            ("123456789", "123456789"),
            ("100000", "100k"),
            ("1.5Gi", "1536Mi"),
            ("0.5Ki", "512"),
            ("0.3Ki", "307200m"),
            ("0.0001Ki", "102400u"),
            ("1024Ki", "1Mi"),
            ("1Ki", "1Ki"),
            ("1000Ki", "1000Ki"),
            ("-1.5Gi", "-1536Mi"),
            ("8Ei", "9223372036854775807"),
            ("7Ei", "7Ei"),
            ("100Ei", "9223372036854775807"),
            ("0.1n", "1n"),
            ("1e-10", "1e-9"),
            ("-1.1n", "-2n"),
            ("1.1u", "1100n"),
            ("9999999999999999999999", "9999999999999999999999"),
            ("100E", "100E"),
            ("1E", "1E"),
            ("Ki", "0"),
            ("m", "0"),
            (".", "0"),
        ];
        for (text, canonical) in table {
            assert_eq!(quantity(text).to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity() {
        let table = [
            ("", QuantityError::Format),
            ("abc", QuantityError::Format),
            ("1 Gi", QuantityError::Format),
            ("1.2.3", QuantityError::Format),
            ("--1", QuantityError::Suffix),
            ("1K", QuantityError::Suffix),
            ("1e", QuantityError::Suffix),
            ("1kk", QuantityError::Suffix),
            ("1i", QuantityError::Suffix),
            ("1m5", QuantityError::Suffix),
            ("e-10", QuantityError::Number),
            ("1\u{fc}", QuantityError::Format),
        ];
        for (text, error) in table {
            assert_eq!(Quantity::parse(text).unwrap_err(), error, "{text:?}");
        }
    }

    #[test]
    fn numbers_are_rounded_away_from_zero() {
        let table = [
            ("1500m", 0, 2),
            ("-1500m", 0, -2),
            ("1n", 0, 1),
            ("1", -3, 1000),
            ("1.5Gi", 0, 1_610_612_736),
            ("1Ki", 3, 2),
            ("1e1000000", 0, i64::MAX),
            ("-1e1000000", 0, i64::MIN),
        ];
        for (text, scale, value) in table {
            assert_eq!(quantity(text).scaled_value(scale), value, "{text}");
        }
        assert_eq!(quantity("1500m").as_i64(), None);
        assert_eq!(quantity("2000m").as_i64(), Some(2));
        assert_eq!(quantity("1e1000000").as_i64(), None);
    }

    #[test]
    fn sums_keep_the_way_of_writing() {
        let table = [
            ("1Gi", "512Mi", "1536Mi", "512Mi"),
            ("0", "1Gi", "1Gi", "-1Gi"),
            ("1", "1Gi", "1073741825", "-1073741823"),
            ("100m", "1", "1100m", "-900m"),
            ("1e3", "1", "1001", "999"),
            ("1.5", "500m", "2", "1"),
        ];
        for (left, right, sum, difference) in table {
            let (left, right) = (quantity(left), quantity(right));
            assert_eq!(left.plus(&right).to_string(), sum);
            assert_eq!(left.minus(&right).to_string(), difference);
        }
        assert_eq!(quantity("1.5").times(3).to_string(), "4500m");
    }

    #[test]
    fn comparison_is_exact_however_far_apart() {
        let ascending =
            ["-1e2000000000", "-1Ei", "-1n", "0", "1n", "1u", "1000Ki", "1Mi", "7Ei", "1e30", "1e2000000000"];
        for pair in ascending.windows(2) {
            assert!(quantity(pair[0]) < quantity(pair[1]), "{pair:?}");
        }
        assert_eq!(quantity("1"), quantity("1000m"));
        assert_eq!(quantity("1Ki"), quantity("1.024k"));
    }

    proptest! {
        #[test]
        fn canonical_form_is_the_same_number(
            number in any::<i64>(),
            fraction in "[0-9]{0,12}",
            suffix in "(n|u|m||k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|e3|e-3|E12)",
        ) {
            let read = quantity(&format!("{number}.{fraction}{suffix}"));
            let again = quantity(&read.negated().negated().to_string());
            prop_assert_eq!(&again, &read);
            prop_assert_eq!(read.minus(&again).sign(), 0);
        }

        #[test]
        fn addition_is_undone_by_subtraction(left in -1_000_000_000_000i64.., right: i64, at in -9i32..9) {
            let (left, right) = (Quantity::new(left, at, Format::DecimalSi), Quantity::new(right, 0, Format::BinarySi));
            prop_assert_eq!(left.plus(&right).minus(&right), left);
        }

        #[test]
        fn any_text_is_read_or_refused(text: String) {
            if let Ok(read) = Quantity::parse(&text) {
                let _ = (read.to_string(), read.value());
            }
        }
    }
}
