//! `--auto-compaction-mode` and `--auto-compaction-retention`: how much history is kept.

use std::time::Duration;

use super::{ConfigError, DEFAULT_AUTO_COMPACTION_RETENTION};

/// When history is compacted without anybody asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// Never.
    Off,
    /// History of this age and younger is kept.
    Periodic(Duration),
    /// This many revisions are kept.
    Revision(i64),
}

/// A plain number is hours in periodic mode and revisions in revision mode, as in etcd; 0 is off.
pub(super) fn parse(mode: &str, retention: Option<&str>) -> Result<AutoCompaction, ConfigError> {
    match mode {
        "periodic" => {
            let text = retention.unwrap_or(DEFAULT_AUTO_COMPACTION_RETENTION).trim();
            let wrong = || ConfigError::RetentionTime(text.into());
            let kept = match text.parse::<u64>() {
                Ok(hours) => Duration::from_secs(hours.checked_mul(3600).ok_or_else(wrong)?),
                Err(_) => go_duration(text).ok_or_else(wrong)?,
            };
            Ok(if kept.is_zero() { AutoCompaction::Off } else { AutoCompaction::Periodic(kept) })
        }
        "revision" => {
            let text = retention.unwrap_or("0").trim();
            match text.parse::<i64>() {
                Ok(0) => Ok(AutoCompaction::Off),
                Ok(kept) if kept > 0 => Ok(AutoCompaction::Revision(kept)),
                _ => Err(ConfigError::RetentionRevisions(text.into())),
            }
        }
        other => Err(ConfigError::CompactionMode(other.into())),
    }
}

/// Go's notation of durations, which etcd's users write: `1h30m`, `1.5h`, `300ms`. Not negative.
fn go_duration(text: &str) -> Option<Duration> {
    if text.is_empty() {
        return None;
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(unit_at);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let unit_seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let number: f64 = number.parse().ok()?;
        total = total.checked_add(Duration::try_from_secs_f64(number * unit_seconds).ok()?)?;
        rest = tail;
    }
    Some(total)
}
