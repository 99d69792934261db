//! What follows from an answer of the API. A decision.

use std::time::Duration;

use kube::core::Status;

use crate::plan::{Failure, Verdict};

/// Until when is waited when the API said only that it is too much.
const LATER: Duration = Duration::from_secs(1);

/// What follows from an error of kube's client.
pub(crate) fn failure(error: &kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) => Failure { verdict: verdict(status), message: status.message.clone() },
        error => Failure { verdict: Verdict::Unknown, message: error.to_string() },
    }
}

fn verdict(status: &Status) -> Verdict {
    let details = status.details.as_ref();
    let terminating = |cause: &kube::core::response::StatusCause| cause.reason == "NamespaceTerminating";
    if details.is_some_and(|details| details.causes.iter().any(terminating)) {
        return Verdict::Terminating;
    }
    let later = details.map_or(0, |details| details.retry_after_seconds);
    match status.code {
        404 | 410 => Verdict::Gone,
        409 => Verdict::Outdated,
        429 if later == 0 => Verdict::Later(LATER),
        _ if later > 0 => Verdict::Later(Duration::from_secs(later.into())),
        400..500 => Verdict::Refused,
        _ => Verdict::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_has_its_consequence() {
        let check = |code: u16, details: serde_json::Value, expected: Verdict| {
            let status = serde_json::json!({"status": "Failure", "code": code, "details": details});
            let status: Status = serde_json::from_value(status).unwrap();
            assert_eq!(verdict(&status), expected, "{status:?}");
        };
        let none = || serde_json::json!({});
        check(404, none(), Verdict::Gone);
        check(410, none(), Verdict::Gone);
        check(409, none(), Verdict::Outdated);
        check(422, none(), Verdict::Refused);
        check(403, none(), Verdict::Refused);
        check(429, none(), Verdict::Later(LATER));
        check(429, serde_json::json!({"retryAfterSeconds": 7}), Verdict::Later(Duration::from_secs(7)));
        check(503, serde_json::json!({"retryAfterSeconds": 2}), Verdict::Later(Duration::from_secs(2)));
        check(500, none(), Verdict::Unknown);
        let cause = serde_json::json!({"causes": [{"reason": "NamespaceTerminating"}]});
        check(403, cause, Verdict::Terminating);
    }
}
