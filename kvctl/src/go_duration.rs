//! Durations as Go writes them: `5s`, `1m30s`, `1.5ms`. Never loses a nanosecond.

use std::time::Duration;

const UNITS: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads `300ms`, `1.5h` or `2h45m`; a plain `0` is allowed.
///
/// # Errors
/// A sentence that says what would be right.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("{text:?} is not a duration: write a number and a unit, such as 5s, 500ms or 1m30s");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut total_ns: u64 = 0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let number_end =
            rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|end| *end > 0).ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let (_, unit_ns) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return Err(wrong());
        }
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| wrong())? };
        let part = if fraction.is_empty() {
            0
        } else {
            let value: f64 = format!("0.{fraction}").parse().map_err(|_| wrong())?;
            (value * *unit_ns as f64).round() as u64
        };
        total_ns = whole
            .checked_mul(*unit_ns)
            .and_then(|ns| ns.checked_add(part))
            .and_then(|ns| ns.checked_add(total_ns))
            .ok_or_else(wrong)?;
        rest = tail;
    }
    Ok(Duration::from_nanos(total_ns))
}

/// As Go's `time.Duration.String`.
pub(crate) fn format(duration: Duration) -> String {
    let ns = duration.as_nanos();
    if ns == 0 {
        return "0s".to_owned();
    }
    if ns < 1_000 {
        return format!("{ns}ns");
    }
    if ns < 1_000_000 {
        return format!("{}µs", decimal(ns, 3));
    }
    if ns < 1_000_000_000 {
        return format!("{}ms", decimal(ns, 6));
    }
    const MINUTE_NS: u128 = 60_000_000_000;
    let minutes = ns / MINUTE_NS;
    let seconds = decimal(ns % MINUTE_NS, 9);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// `value` with `digits` decimals, without zeros at its end.
fn decimal(value: u128, digits: usize) -> String {
    let scale = 10_u128.pow(digits as u32);
    let (whole, part) = (value / scale, value % scale);
    if part == 0 {
        return whole.to_string();
    }
    let part = format!("{part:0digits$}");
    format!("{whole}.{}", part.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, ns) in [
            ("0", 0_u64),
            ("5s", 5_000_000_000),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("2h45m", 9_900_000_000_000),
            ("300ms", 300_000_000),
            ("7us", 7_000),
            ("7µs", 7_000),
            ("1m0.000000001s", 60_000_000_001),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_nanos(ns)), "{text}");
        }
        for text in ["", "5", "s", "5x", "-5s", "1.s.", "5 s", "99999999999h"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (ns, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1µs"),
            (2_200_000, "2.2ms"),
            (1_234_567, "1.234567ms"),
            (3_300_000_000, "3.3s"),
            (245_000_000_000, "4m5s"),
            (245_001_000_000, "4m5.001s"),
            (18_367_001_000_000, "5h6m7.001s"),
            (480_000_000_001, "8m0.000000001s"),
            (3_600_000_000_000, "1h0m0s"),
        ] {
            assert_eq!(format(Duration::from_nanos(ns)), text);
        }
    }
}
