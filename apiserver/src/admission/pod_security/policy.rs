//! What a namespace asks of its pods, as its labels say. Pure; must never fail where a label cannot be read: what is enforced
//! is strict then, what is only told is left out.

use std::fmt;

use barque_api::field::{FieldError, FieldPath};
use serde_json::{Map, Value};

/// How strict, from nothing to everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// As of which version of Kubernetes: the minor number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    Minor(u32),
    Latest,
}

/// A level as of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standard {
    pub(super) level: Level,
    pub(super) version: Version,
}

/// What is done with pods that are beneath a standard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    /// They are refused.
    pub(super) enforce: Standard,
    /// The audit log is told.
    pub(super) audit: Standard,
    /// The client is told.
    pub(super) warn: Standard,
}

const PRIVILEGED: Standard = Standard { level: Level::Privileged, version: Version::Latest };
const PREFIX: &str = "pod-security.kubernetes.io/";

impl Standard {
    const fn is_privileged(self) -> bool {
        matches!(self.level, Level::Privileged)
    }
}

impl Policy {
    /// Whether nobody is told anything.
    pub(super) const fn tells_nobody(&self) -> bool {
        self.audit.is_privileged() && self.warn.is_privileged()
    }
}

impl fmt::Display for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        })?;
        match self.version {
            Version::Latest => f.write_str(":latest"),
            Version::Minor(minor) => write!(f, ":v1.{minor}"),
        }
    }
}

fn level(text: &str) -> Result<Level, &'static str> {
    match text {
        "privileged" => Ok(Level::Privileged),
        "baseline" => Ok(Level::Baseline),
        "restricted" => Ok(Level::Restricted),
        _ => Err("must be one of privileged, baseline, restricted"),
    }
}

fn version(text: &str) -> Result<Version, &'static str> {
    if text == "latest" {
        return Ok(Version::Latest);
    }
    let digits = text.strip_prefix("v1.").filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    digits
        .filter(|digits| *digits == "0" || !digits.starts_with('0'))
        .and_then(|digits| digits.parse().ok())
        .map(Version::Minor)
        .ok_or("must be \"latest\" or \"v1.x\"")
}

/// The policy of a namespace with these labels, and what is wrong with them.
pub(super) fn of_labels(labels: Option<&Map<String, Value>>) -> (Policy, Vec<FieldError>) {
    let mut errors = Vec::new();
    let mut read = |mode: &str, if_wrong: Level| {
        let mut standard = PRIVILEGED;
        let label = |name: &str| {
            let key = format!("{PREFIX}{mode}{name}");
            let value = labels.and_then(|labels| labels.get(&key)?.as_str());
            (key, value)
        };
        let mut wrong = |key: &str, value: &str, why: &str| {
            errors.push(FieldError::invalid(&FieldPath::of("metadata.labels").key(key), value, why));
        };
        let (key, level_text) = label("");
        let mut readable = false;
        if let Some(text) = level_text {
            readable = level(text).is_ok();
            standard.level = level(text).unwrap_or_else(|why| {
                wrong(&key, text, why);
                if_wrong
            });
        }
        let (key, version_text) = label("-version");
        if let Some(text) = version_text {
            standard.version = version(text).unwrap_or_else(|why| {
                wrong(&key, text, why);
                Version::Latest
            });
        }
        (standard, level_text.is_some(), readable, version_text.is_some())
    };
    let (enforce, _, enforced, _) = read("enforce", Level::Restricted);
    let (audit, ..) = read("audit", Level::Privileged);
    let (mut warn, warns, _, with_version) = read("warn", Level::Privileged);
    if enforced && !warns && enforce.level > warn.level {
        warn.level = enforce.level;
        if !with_version {
            warn.version = enforce.version;
        }
    }
    (Policy { enforce, audit, warn }, errors)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(labels: Value) -> (String, String, Vec<String>) {
        let labels: Map<String, Value> = labels
            .as_object()
            .unwrap()
            .iter()
            .map(|(key, value)| (format!("{PREFIX}{key}"), value.clone()))
            .collect();
        let (policy, errors) = of_labels(Some(&labels));
        let errors = errors.iter().map(ToString::to_string).collect();
        (policy.enforce.to_string(), policy.warn.to_string(), errors)
    }

    #[test]
    fn labels_say_what_is_asked_of_pods() {
        let table = [
            (json!({}), "privileged:latest", "privileged:latest"),
            (json!({"enforce": "baseline"}), "baseline:latest", "baseline:latest"),
            (
                json!({"enforce": "baseline", "enforce-version": "v1.20", "warn": "restricted"}),
                "baseline:v1.20",
                "restricted:latest",
            ),
            (
                json!({"enforce": "restricted", "enforce-version": "v1.9"}),
                "restricted:v1.9",
                "restricted:v1.9",
            ),
            (json!({"warn": "baseline"}), "privileged:latest", "baseline:latest"),
        ];
        for (labels, enforce, warn) in table {
            assert_eq!(read(labels), (enforce.to_owned(), warn.to_owned(), Vec::new()));
        }
    }

    #[test]
    fn what_cannot_be_read_is_strict_where_it_is_enforced() {
        let labels = json!({"enforce": "x", "enforce-version": "v1.01", "audit": "y", "warn": "z"});
        let (enforce, warn, errors) = read(labels);
        assert_eq!((&*enforce, &*warn), ("restricted:latest", "privileged:latest"));
        assert_eq!(
            errors,
            [
                "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"x\": must be one of privileged, \
                 baseline, restricted",
                "metadata.labels[pod-security.kubernetes.io/enforce-version]: Invalid value: \"v1.01\": must be \"latest\" \
                 or \"v1.x\"",
                "metadata.labels[pod-security.kubernetes.io/audit]: Invalid value: \"y\": must be one of privileged, \
                 baseline, restricted",
                "metadata.labels[pod-security.kubernetes.io/warn]: Invalid value: \"z\": must be one of privileged, \
                 baseline, restricted",
            ]
        );
    }
}
