//! What was found, as people and programs read it. Pure.

use std::fmt::Write as _;

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, and should not stay so.
    Warning,
    /// Something does not work.
    Failed,
    /// It could not be looked at.
    Skipped,
}

impl Level {
    /// In a word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What, in a word or two.
    pub check: String,
    /// How bad it is.
    pub result: Level,
    /// What was measured.
    pub found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Finding {
    /// As it should be.
    #[must_use]
    pub fn ok(check: &str, found: impl Into<String>) -> Self {
        Self { check: check.to_owned(), result: Level::Ok, found: found.into(), advice: None }
    }

    /// It works, and should not stay so.
    #[must_use]
    pub fn warning(check: &str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        let advice = Some(advice.into());
        Self { check: check.to_owned(), result: Level::Warning, found: found.into(), advice }
    }

    /// Something does not work.
    #[must_use]
    pub fn failed(check: &str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        let advice = Some(advice.into());
        Self { check: check.to_owned(), result: Level::Failed, found: found.into(), advice }
    }

    /// It could not be looked at.
    #[must_use]
    pub fn skipped(check: &str, found: impl Into<String>) -> Self {
        Self { check: check.to_owned(), result: Level::Skipped, found: found.into(), advice: None }
    }
}

/// Whether anything does not work.
#[must_use]
pub fn has_failed(findings: &[Finding]) -> bool {
    findings.iter().any(|it| it.result == Level::Failed)
}

/// For people; what to do stands below what was found.
#[must_use]
pub fn table(findings: &[Finding]) -> String {
    let wide = findings.iter().map(|it| it.check.chars().count()).max().unwrap_or(0).max(5) + 2;
    let mut text = format!("{:wide$}{:9}FOUND\n", "CHECK", "RESULT");
    for it in findings {
        let _ = writeln!(text, "{:wide$}{:9}{}", it.check, it.result.word(), it.found);
        if let Some(advice) = &it.advice {
            let _ = writeln!(text, "{:wide$}{:9}-> {advice}", "", "");
        }
    }
    let count = |level| findings.iter().filter(|it| it.result == level).count();
    let _ = writeln!(
        text,
        "\n{} ok, {} warning, {} failed, {} skipped",
        count(Level::Ok),
        count(Level::Warning),
        count(Level::Failed),
        count(Level::Skipped)
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_stands_below_what_was_found() {
        let all = [Finding::ok("quorum", "whole"), Finding::failed("disk space", "full", "make room")];
        assert_eq!(
            table(&all),
            "CHECK       RESULT   FOUND\n\
             quorum      ok       whole\n\
             disk space  failed   full\n\
             \x20                    -> make room\n\
             \n1 ok, 0 warning, 1 failed, 0 skipped\n"
        );
        assert!(has_failed(&all) && !has_failed(&all[..1]));
        let json = serde_json::to_value(&all[1]).unwrap();
        assert_eq!(json["result"], "failed");
        assert_eq!(json["advice"], "make room");
    }
}
