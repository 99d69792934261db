//! Times as people write them: RFC 3339, unix seconds, or how long ago.

use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, SecondsFormat};

use crate::go_duration;

/// Milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TimePoint(pub(crate) i64);

/// Reads a time, seen from now; for clap.
///
/// # Errors
/// A sentence that says what would be right.
pub(crate) fn parse(text: &str) -> Result<TimePoint, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    parse_from(text, i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}

fn parse_from(text: &str, now_ms: i64) -> Result<TimePoint, String> {
    let wrong = || {
        format!(
            "{text:?} is not a time: write it as 2026-01-31T12:00:00Z, as unix seconds, or how long ago, such as \
             \"10m ago\""
        )
    };
    let trimmed = text.trim();
    if trimmed == "now" {
        return Ok(TimePoint(now_ms));
    }
    if let Some(ago) = trimmed.strip_suffix("ago") {
        let ago = go_duration::parse(ago.trim()).map_err(|_| wrong())?;
        let ago_ms = i64::try_from(ago.as_millis()).map_err(|_| wrong())?;
        return now_ms.checked_sub(ago_ms).filter(|ms| *ms > 0).map(TimePoint).ok_or_else(wrong);
    }
    if trimmed.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        let seconds: f64 = trimmed.parse().map_err(|_| wrong())?;
        let ms = (seconds * 1000.0).round();
        // Exact for the next hundred thousand years.
        return if (1.0..9e15).contains(&ms) { Ok(TimePoint(ms as i64)) } else { Err(wrong()) };
    }
    let time = DateTime::parse_from_rfc3339(trimmed).map_err(|_| wrong())?;
    Some(time.timestamp_millis()).filter(|ms| *ms > 0).map(TimePoint).ok_or_else(wrong)
}

impl std::fmt::Display for TimePoint {
    /// In RFC 3339, UTC, with milliseconds.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match DateTime::from_timestamp_millis(self.0) {
            Some(time) => f.write_str(&time.to_rfc3339_opts(SecondsFormat::Millis, true)),
            None => write!(f, "{} ms after 1970", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_each_form() {
        let now_ms = 1_800_000_000_000;
        for (text, ms) in [
            ("now", now_ms),
            ("10m ago", now_ms - 600_000),
            ("1h30m ago", now_ms - 5_400_000),
            ("1.5s ago", now_ms - 1_500),
            ("1700000000", 1_700_000_000_000),
            ("1700000000.25", 1_700_000_000_250),
            ("2023-11-14T22:13:20Z", 1_700_000_000_000),
            ("2023-11-15T00:13:20.5+02:00", 1_700_000_000_500),
            ("2023-11-14 22:13:20Z", 1_700_000_000_000),
        ] {
            assert_eq!(parse_from(text, now_ms), Ok(TimePoint(ms)), "{text}");
        }
        for text in ["", "ago", "yesterday", "10 ago", "2023-11-14", "0", "99999999999h ago", "1.2.3", "-5"] {
            assert!(parse_from(text, now_ms).unwrap_err().contains("is not a time"), "{text}");
        }
    }

    #[test]
    fn times_are_printed_as_they_can_be_read() {
        let time = TimePoint(1_700_000_000_250);
        assert_eq!(time.to_string(), "2023-11-14T22:13:20.250Z");
        assert_eq!(parse_from(&time.to_string(), 0), Ok(time));
    }
}
