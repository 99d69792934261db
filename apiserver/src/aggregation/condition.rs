//! The condition `Available` of an `APIService`. Pure; must never write it.

use barque_api::time::Time;
use serde_json::{Value, json};

use super::endpoints::Missing;

/// What was found out about a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it serves.
    pub available: bool,
    /// `Passed`, `FailedDiscoveryCheck` and so on.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

impl Verdict {
    /// It serves.
    #[must_use]
    pub fn passed() -> Self {
        Self { available: true, reason: "Passed", message: "all checks passed".to_owned() }
    }

    /// It was asked and did not answer as it should.
    #[must_use]
    pub const fn failed(message: String) -> Self {
        Self { available: false, reason: "FailedDiscoveryCheck", message }
    }
}

impl From<Missing> for Verdict {
    fn from(missing: Missing) -> Self {
        Self { available: false, reason: missing.reason, message: missing.message }
    }
}

/// The object with what was found out; nothing where it says so already.
#[must_use]
pub fn with_verdict(service: &Value, verdict: &Verdict, now: Time) -> Option<Value> {
    let conditions = service.get("status").and_then(|status| status.get("conditions"));
    let mut conditions = conditions.and_then(Value::as_array).cloned().unwrap_or_default();
    let mut condition = json!({
        "type": "Available",
        "status": if verdict.available { "True" } else { "False" },
        "reason": verdict.reason,
        "message": verdict.message,
        "lastTransitionTime": now.to_string(),
    });
    match conditions.iter_mut().find(|one| one["type"] == "Available") {
        Some(old) => {
            // Only a change of the status is a transition.
            if old["status"] == condition["status"] && old.get("lastTransitionTime").is_some() {
                condition["lastTransitionTime"] = old["lastTransitionTime"].clone();
            }
            if *old == condition {
                return None;
            }
            *old = condition;
        }
        None => conditions.push(condition),
    }
    let mut changed = service.clone();
    changed["status"]["conditions"] = conditions.into();
    Some(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_written_when_it_changes() {
        let service = json!({"metadata": {"name": "v1.g"}});
        let passed = with_verdict(&service, &Verdict::passed(), Time::of_unix(1)).unwrap();
        assert_eq!(
            passed["status"]["conditions"],
            json!([{"type": "Available", "status": "True", "reason": "Passed", "message": "all checks passed",
                    "lastTransitionTime": "1970-01-01T00:00:01Z"}])
        );
        assert_eq!(with_verdict(&passed, &Verdict::passed(), Time::of_unix(2)), None);
        let at = |object: &Value| object["status"]["conditions"][0]["lastTransitionTime"].clone();
        let failed = with_verdict(&passed, &Verdict::failed("x".into()), Time::of_unix(3)).unwrap();
        assert_eq!(at(&failed), "1970-01-01T00:00:03Z");
        let again = with_verdict(&failed, &Verdict::failed("y".into()), Time::of_unix(4)).unwrap();
        assert_eq!((at(&again), &again["status"]["conditions"][0]["message"]), (at(&failed), &json!("y")));
    }
}
