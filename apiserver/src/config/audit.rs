//! The flags that say what is written down of requests, and where.

use std::path::PathBuf;

use super::{ConfigError, read_text};
use crate::audit::{LogConfig, Policy};

/// The flags, as they came.
#[derive(Clone, Debug, Default)]
pub struct AuditFlags {
    /// `--audit-policy-file`
    pub audit_policy_file: Option<PathBuf>,
    /// `--audit-log-path`
    pub audit_log_path: Option<PathBuf>,
    /// `--audit-log-maxsize`, in MiB
    pub audit_log_maxsize: u64,
    /// `--audit-log-maxbackup`
    pub audit_log_maxbackup: usize,
    /// `--audit-log-maxage`, in days
    pub audit_log_maxage: u64,
}

impl AuditFlags {
    /// What is told and where; nothing without both.
    pub(super) fn read(&self) -> Result<Option<(Policy, LogConfig)>, ConfigError> {
        const POLICY: &str = "audit-policy-file";
        let (file, path) = match (&self.audit_policy_file, &self.audit_log_path) {
            (None, None) => return Ok(None),
            (Some(file), Some(path)) => (file, path),
            _ => return Err(ConfigError::HalfPair(POLICY, "audit-log-path")),
        };
        let text = read_text(POLICY, Some(file))?;
        let policy = Policy::parse(&text).map_err(|error| ConfigError::File {
            flag: POLICY,
            file: file.clone(),
            why: error.to_string(),
        })?;
        let log = LogConfig {
            path: path.clone(),
            max_size: self.audit_log_maxsize,
            max_backup: self.audit_log_maxbackup,
            max_age: self.audit_log_maxage,
        };
        Ok(Some((policy, log)))
    }
}
