//! `--auto-compaction-mode` and `--auto-compaction-retention`: how much history is kept.

use std::time::Duration;

use super::go_duration::go_duration;
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
