//! How something that ran has ended, as clients are told. Pure; must never know what ran.

use serde_json::json;

use crate::upgrade::Version;

/// How something ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Success,
    /// With this exit code, which is not 0.
    Exit(i32),
    /// It could not be run, or nobody knows how it ended; a sentence that says why.
    Failed(String),
}

impl Outcome {
    /// What is sent on the stream of errors to a client that speaks this version; empty is nothing.
    #[must_use]
    pub fn told(&self, version: Version) -> String {
        if version >= Version::V4 { self.status() } else { self.sentence() }
    }

    fn sentence(&self) -> String {
        match self {
            Self::Success => String::new(),
            Self::Exit(code) => format!("command terminated with non-zero exit code: exit status {code}"),
            Self::Failed(why) => format!("Internal error occurred: {why}"),
        }
    }

    /// A `metav1.Status`.
    fn status(&self) -> String {
        let message = self.sentence();
        let status = match self {
            Self::Success => json!({"metadata": {}, "status": "Success"}),
            Self::Exit(code) => json!({
                "metadata": {}, "status": "Failure", "message": message, "reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
            }),
            Self::Failed(why) => json!({
                "metadata": {}, "status": "Failure", "message": message, "reason": "InternalError",
                "details": {"causes": [{"message": why}]}, "code": 500,
            }),
        };
        status.to_string()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn new_clients_are_told_a_status_and_old_ones_a_sentence() {
        let status =
            |outcome: &Outcome| -> Value { serde_json::from_str(&outcome.told(Version::V4)).unwrap() };
        assert_eq!(status(&Outcome::Success)["status"], "Success");
        let exit = status(&Outcome::Exit(3));
        assert_eq!(exit["reason"], "NonZeroExitCode");
        assert_eq!(exit["details"]["causes"][0], json!({"reason": "ExitCode", "message": "3"}));
        assert_eq!(status(&Outcome::Failed("no such container".into()))["code"], 500);

        assert_eq!(Outcome::Success.told(Version::V3), "");
        assert!(Outcome::Exit(3).told(Version::V1).ends_with("exit status 3"));
        assert_eq!(Outcome::Failed("x".into()).told(Version::V2), "Internal error occurred: x");
    }
}
