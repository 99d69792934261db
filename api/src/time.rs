//! Moments and durations as Kubernetes writes them: RFC 3339 in seconds or microseconds, and durations of Go. Time is
//! handed in: must never read a clock.

mod duration;

use std::fmt;

pub use duration::{GoDuration, GoDurationError};

const SECONDS_LAYOUT: &str = "2006-01-02T15:04:05Z07:00";
const MICROS_LAYOUT: &str = "2006-01-02T15:04:05.000000Z07:00";
/// The first second of year 1: Kubernetes' moment that is none, which it writes as null.
const ZERO_SECONDS: i64 = -62_135_596_800;
const MICROS: i64 = 1_000_000;

/// A moment, in whole seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(i64);

/// A moment, in microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MicroTime(i64);

/// A text that is no moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("parsing time {}{why}", Quoted(.text))]
pub struct TimeError {
    text: String,
    why: String,
}

/// A text between quotes, as Go's package of time tells it.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for byte in self.0.bytes() {
            match byte {
                b'"' | b'\\' => write!(f, "\\{}", char::from(byte))?,
                b' '..=0x7f => write!(f, "{}", char::from(byte))?,
                _ => write!(f, "\\x{byte:02x}")?,
            }
        }
        f.write_str("\"")
    }
}

impl Time {
    /// The moment that is none.
    pub const ZERO: Self = Self(ZERO_SECONDS);

    /// So many seconds since 1970.
    #[must_use]
    pub const fn of_unix(seconds: i64) -> Self {
        Self(seconds)
    }

    /// Seconds since 1970.
    #[must_use]
    pub const fn unix(self) -> i64 {
        self.0
    }

    /// Reads RFC 3339; fractions of seconds are dropped.
    ///
    /// # Errors
    /// When it is none, in the words of Go.
    pub fn parse(text: &str) -> Result<Self, TimeError> {
        Reader::new(text, SECONDS_LAYOUT).moment(Fraction::Dropped).map(|(seconds, _)| Self(seconds))
    }

    /// So much later, in whole seconds.
    #[must_use]
    pub const fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds))
    }
}

impl MicroTime {
    /// The moment that is none.
    pub const ZERO: Self = Self(ZERO_SECONDS * MICROS);

    /// So many microseconds since 1970.
    #[must_use]
    pub const fn of_unix_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since 1970.
    #[must_use]
    pub const fn unix_micros(self) -> i64 {
        self.0
    }

    /// Reads RFC 3339 with exactly six digits of a fraction.
    ///
    /// # Errors
    /// When it is none, in the words of Go.
    pub fn parse(text: &str) -> Result<Self, TimeError> {
        let (seconds, micros) = Reader::new(text, MICROS_LAYOUT).moment(Fraction::Micros)?;
        Ok(Self(seconds * MICROS + micros))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_seconds(f, self.0)?;
        f.write_str("Z")
    }
}

impl fmt::Display for MicroTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_seconds(f, self.0.div_euclid(MICROS))?;
        write!(f, ".{:06}Z", self.0.rem_euclid(MICROS))
    }
}

fn write_seconds(f: &mut fmt::Formatter<'_>, unix: i64) -> fmt::Result {
    let (day, second) = (unix.div_euclid(86_400), unix.rem_euclid(86_400));
    let (year, month, day) = date_of_day(day);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// The year, month and day of the month that is so many days after 1970-01-01, in the Gregorian calendar.
fn date_of_day(day: i64) -> (i64, i64, i64) {
    // Years are counted from March, so that the odd day is the last one; 400 of them are an era.
    let day = day + 719_468;
    let (era, day) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next, month, day)
}

/// The other way round.
fn day_of_date(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
    let month = (month + 9) % 12;
    let day = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + 365 * year + year / 4 - year / 100 + day - 719_468
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fraction {
    Dropped,
    Micros,
}

/// Reads as Go does, so that what is wrong is told as Go does.
struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
    layout: &'static str,
}

impl<'a> Reader<'a> {
    const fn new(text: &'a str, layout: &'static str) -> Self {
        Self { text, rest: text, layout }
    }

    fn error(&self, why: String) -> TimeError {
        TimeError { text: self.text.to_owned(), why }
    }

    fn expected(&self, element: &str) -> TimeError {
        self.error(format!(" as {:?}: cannot parse {} as {element:?}", self.layout, Quoted(self.rest)))
    }

    fn out_of_range(&self, what: &str) -> TimeError {
        self.error(format!(": {what} out of range"))
    }

    fn digits(&mut self, least: usize, most: usize, element: &str) -> Result<i64, TimeError> {
        let count = self.rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
        if count < least {
            return Err(self.expected(element));
        }
        let (number, rest) = self.rest.split_at(count);
        self.rest = rest;
        Ok(number.bytes().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')))
    }

    fn literal(&mut self, literal: &str) -> Result<(), TimeError> {
        self.rest = self.rest.strip_prefix(literal).ok_or_else(|| self.expected(literal))?;
        Ok(())
    }

    /// Seconds since 1970, and the microseconds after them.
    fn moment(mut self, fraction: Fraction) -> Result<(i64, i64), TimeError> {
        let year = self.digits(4, 4, "2006")?;
        self.literal("-")?;
        let month = self.digits(2, 2, "01")?;
        if !(1..=12).contains(&month) {
            return Err(self.out_of_range("month"));
        }
        self.literal("-")?;
        let day = self.digits(2, 2, "02")?;
        self.literal("T")?;
        let hour = self.digits(1, 2, "15")?;
        if hour > 23 {
            return Err(self.out_of_range("hour"));
        }
        self.literal(":")?;
        let minute = self.digits(2, 2, "04")?;
        if minute > 59 {
            return Err(self.out_of_range("minute"));
        }
        self.literal(":")?;
        let second = self.digits(2, 2, "05")?;
        if second > 59 {
            return Err(self.out_of_range("second"));
        }
        let micros = self.fraction(fraction)?;
        let offset = self.zone()?;
        if !self.rest.is_empty() {
            return Err(self.error(format!(": extra text: {}", Quoted(self.rest))));
        }
        if day < 1 || day > days_of_month(year, month) {
            return Err(self.out_of_range("day"));
        }
        let seconds = day_of_date(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
        Ok((seconds - offset, micros))
    }

    fn fraction(&mut self, fraction: Fraction) -> Result<i64, TimeError> {
        let digits = self.rest.strip_prefix(['.', ',']);
        if fraction == Fraction::Micros {
            let micros = digits.and_then(|digits| digits.get(..6));
            let micros = micros.filter(|micros| micros.bytes().all(|digit| digit.is_ascii_digit()));
            let micros = micros.ok_or_else(|| self.expected(".000000"))?;
            self.rest = &self.rest[7..];
            return Ok(micros.parse().unwrap_or(0));
        }
        if let Some(digits) = digits
            && digits.starts_with(|first: char| first.is_ascii_digit())
        {
            self.rest = digits.trim_start_matches(|digit: char| digit.is_ascii_digit());
        }
        Ok(0)
    }

    /// How many seconds the zone is ahead.
    fn zone(&mut self) -> Result<i64, TimeError> {
        const ELEMENT: &str = "Z07:00";
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Ok(0);
        }
        let Some((zone, rest)) = self.rest.split_at_checked(6) else { return Err(self.expected(ELEMENT)) };
        let bytes = zone.as_bytes();
        let number = |at: usize| {
            let digits = &bytes[at..at + 2];
            digits
                .iter()
                .all(u8::is_ascii_digit)
                .then(|| i64::from(digits[0] - b'0') * 10 + i64::from(digits[1] - b'0'))
        };
        let (Some(hours), Some(minutes), b'+' | b'-', b':') = (number(1), number(4), bytes[0], bytes[3])
        else {
            return Err(self.expected(ELEMENT));
        };
        if hours > 24 {
            return Err(self.out_of_range("time zone offset hour"));
        }
        if minutes > 60 {
            return Err(self.out_of_range("time zone offset minute"));
        }
        self.rest = rest;
        let offset = (hours * 60 + minutes) * 60;
        Ok(if bytes[0] == b'-' { -offset } else { offset })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn moments_are_read_and_written() {
        let table = [
            ("1970-01-01T00:00:00Z", 0, "1970-01-01T00:00:00Z"),
            ("2024-02-29T23:59:59Z", 1_709_251_199, "2024-02-29T23:59:59Z"),
            ("2024-03-01T01:00:00+01:00", 1_709_251_200, "2024-03-01T00:00:00Z"),
            ("2024-03-01T00:00:00.999999999Z", 1_709_251_200, "2024-03-01T00:00:00Z"),
            ("1969-12-31T23:59:59Z", -1, "1969-12-31T23:59:59Z"),
            ("2000-01-01T1:00:00Z", 946_688_400, "2000-01-01T01:00:00Z"),
            ("0001-01-01T00:00:00Z", ZERO_SECONDS, "0001-01-01T00:00:00Z"),
            ("9999-12-31T23:59:59Z", 253_402_300_799, "9999-12-31T23:59:59Z"),
        ];
        for (text, unix, canonical) in table {
            let time = Time::parse(text).unwrap();
            assert_eq!((time.unix(), time.to_string().as_str()), (unix, canonical));
        }
        let micro = MicroTime::parse("2024-03-01T00:00:00.000012Z").unwrap();
        assert_eq!(micro.unix_micros(), 1_709_251_200_000_012);
        assert_eq!(micro.to_string(), "2024-03-01T00:00:00.000012Z");
        assert_eq!(MicroTime::of_unix_micros(-1).to_string(), "1969-12-31T23:59:59.999999Z");
    }

    #[test]
    fn errors_are_those_of_go() {
        let table = [
            ("", r#"parsing time "" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "2006""#),
            ("abc", r#"parsing time "abc" as "2006-01-02T15:04:05Z07:00": cannot parse "abc" as "2006""#),
            (
                "2024-01-01",
                r#"parsing time "2024-01-01" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "T""#,
            ),
            (
                "2024-01-01 00:00:00Z",
                r#"parsing time "2024-01-01 00:00:00Z" as "2006-01-02T15:04:05Z07:00": cannot parse " 00:00:00Z" as "T""#,
            ),
            (
                "2024-01-01T00:00:00",
                r#"parsing time "2024-01-01T00:00:00" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "Z07:00""#,
            ),
            ("2024-13-01T00:00:00Z", r#"parsing time "2024-13-01T00:00:00Z": month out of range"#),
            ("2023-02-29T00:00:00Z", r#"parsing time "2023-02-29T00:00:00Z": day out of range"#),
            ("2023-02-01T24:00:00Z", r#"parsing time "2023-02-01T24:00:00Z": hour out of range"#),
            ("2023-02-01T00:00:00Zx", r#"parsing time "2023-02-01T00:00:00Zx": extra text: "x""#),
        ];
        for (text, error) in table {
            assert_eq!(Time::parse(text).unwrap_err().to_string(), error);
        }
        assert_eq!(
            MicroTime::parse("2024-01-01T00:00:00Z").unwrap_err().to_string(),
            r#"parsing time "2024-01-01T00:00:00Z" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "Z" as ".000000""#
        );
    }

    proptest! {
        #[test]
        fn moments_come_back(unix in ZERO_SECONDS..253_402_300_800, micros in 0i64..MICROS) {
            let time = Time::of_unix(unix);
            prop_assert_eq!(Time::parse(&time.to_string()), Ok(time));
            let time = MicroTime::of_unix_micros(unix * MICROS + micros);
            prop_assert_eq!(MicroTime::parse(&time.to_string()), Ok(time));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9TZ:+. ü-]{0,40}") {
            let _ = (Time::parse(&text).is_ok(), MicroTime::parse(&text).is_ok());
        }
    }
}
