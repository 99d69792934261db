//! What webhooks are asked and what they answer: `AdmissionReview`. Pure. Must never take an answer for one to another question.

use barque_api::status::{Cause, Reason, Status};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::hook::ReviewVersion;

/// The question about a request with its objects, which are null where there is none.
pub(super) fn question(
    version: ReviewVersion,
    uid: &str,
    mut request: Value,
    object: &Value,
    old: &Value,
) -> Vec<u8> {
    request["uid"] = uid.into();
    request["object"] = object.clone();
    request["oldObject"] = old.clone();
    json!({"kind": "AdmissionReview", "apiVersion": version.api_version(), "request": request})
        .to_string()
        .into_bytes()
}

/// What a webhook said.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Verdict {
    pub(super) allowed: bool,
    /// The `Status` that came with it.
    pub(super) status: Option<Value>,
    /// Operations of a JSON patch; null for none.
    pub(super) patch: Value,
    pub(super) warnings: Vec<String>,
    /// For the audit log: keys without the webhook's name.
    pub(super) annotations: Vec<(String, String)>,
}

/// Reads the answer to the question with this uid.
///
/// # Errors
/// When it is none, in words.
pub(super) fn answer(
    version: ReviewVersion,
    uid: &str,
    mutating: bool,
    review: &Value,
) -> Result<Verdict, String> {
    let invalid = |why: String| Err(format!("received invalid webhook response: {why}"));
    let Some(response) = review.get("response").filter(|response| response.is_object()) else {
        return invalid("webhook response was absent".to_owned());
    };
    let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
    let patch = text(response, "patch");
    let patch_type = response.get("patchType").filter(|kind| !kind.is_null());
    if version == ReviewVersion::V1 {
        let found = text(response, "uid");
        if found != uid {
            return invalid(format!("expected response.uid={uid:?}, got {found:?}"));
        }
        let (api_version, kind) = (text(review, "apiVersion"), text(review, "kind"));
        if api_version != version.api_version() || kind != "AdmissionReview" {
            let expected = "admission.k8s.io/v1, Kind=AdmissionReview";
            return invalid(format!(
                "expected webhook response of {expected}, got {api_version}, Kind={kind}"
            ));
        }
        if let Some(why) = patch_problem(mutating, &patch, patch_type) {
            return invalid(why);
        }
    }
    let patch = match (mutating, patch.is_empty()) {
        (true, false) => decoded(&patch, patch_type)?,
        _ => Value::Null,
    };
    let list = response.get("warnings").and_then(Value::as_array);
    let annotations = response.get("auditAnnotations").and_then(Value::as_object);
    let shown =
        |(key, value): (&String, &Value)| (key.clone(), value.as_str().unwrap_or_default().to_owned());
    Ok(Verdict {
        allowed: response["allowed"] == true,
        status: response.get("status").filter(|status| status.is_object()).cloned(),
        patch,
        warnings: list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect(),
        annotations: annotations.into_iter().flatten().map(shown).collect(),
    })
}

fn patch_problem(mutating: bool, patch: &str, kind: Option<&Value>) -> Option<String> {
    let why = match (mutating, patch.is_empty(), kind) {
        (false, false, _) => "validating webhook may not return response.patch",
        (false, true, Some(_)) => "validating webhook may not return response.patchType",
        (true, false, None) => "webhook returned response.patch but not response.patchType",
        (true, true, Some(_)) => "webhook returned response.patchType but not response.patch",
        (true, false, Some(kind)) if *kind == json!("") => {
            return Some("webhook returned invalid response.patchType of \"\"".to_owned());
        }
        _ => return None,
    };
    Some(why.to_owned())
}

fn decoded(patch: &str, kind: Option<&Value>) -> Result<Value, String> {
    let kind = kind.and_then(Value::as_str).unwrap_or("JSONPatch");
    if kind != "JSONPatch" {
        return Err(format!("unsupported patch type {kind:?}"));
    }
    let undecodable = |why: String| format!("received undecodable patch in webhook response: {why}");
    let bytes = STANDARD.decode(patch).map_err(|error| undecodable(error.to_string()))?;
    let patch: Value = serde_json::from_slice(&bytes).map_err(|error| undecodable(error.to_string()))?;
    let whole = patch.as_array().is_some_and(|operations| operations.iter().all(Value::is_object));
    if whole || patch.is_null() {
        Ok(patch)
    } else {
        Err(undecodable("it is no list of operations".to_owned()))
    }
}

/// The refusal of a webhook, with the code, the reason and the details that it gave.
pub(super) fn refusal(webhook: &str, given: Option<&Value>) -> Status {
    let nothing = Value::Null;
    let given = given.unwrap_or(&nothing);
    let text = |field: &str| given[field].as_str().unwrap_or_default();
    let denied = format!("admission webhook {webhook:?} denied the request");
    let message = match (text("message"), text("reason")) {
        ("", "") => format!("{denied} without explanation"),
        ("", reason) => format!("{denied}: {reason}"),
        (message, _) => format!("{denied}: {message}"),
    };
    let code = given["code"].as_u64().and_then(|code| u16::try_from(code).ok());
    let code = code.filter(|code| (400..600).contains(code)).unwrap_or(400);
    let mut status = Status::new(nearest(text("reason"), code), message).given(code, text("reason"));
    let (details, about) = (&given["details"], &mut status.details);
    let detail = |field: &str| details[field].as_str().unwrap_or_default().to_owned();
    about.name = detail("name");
    about.group = detail("group");
    about.kind = detail("kind");
    about.uid = detail("uid");
    let seconds = details["retryAfterSeconds"].as_u64().and_then(|seconds| u32::try_from(seconds).ok());
    about.retry_after_seconds = seconds.unwrap_or_default();
    for cause in details["causes"].as_array().into_iter().flatten() {
        let part = |field: &str| cause[field].as_str().unwrap_or_default().to_owned();
        about.causes.push(Cause { reason: part("reason"), message: part("message"), field: part("field") });
    }
    status
}

/// The reason with this name, or the first with this code.
fn nearest(name: &str, code: u16) -> Reason {
    const ALL: [Reason; 18] = [
        Reason::BadRequest,
        Reason::Unauthorized,
        Reason::Forbidden,
        Reason::NotFound,
        Reason::MethodNotAllowed,
        Reason::NotAcceptable,
        Reason::Conflict,
        Reason::AlreadyExists,
        Reason::Expired,
        Reason::Gone,
        Reason::RequestEntityTooLarge,
        Reason::UnsupportedMediaType,
        Reason::Invalid,
        Reason::TooManyRequests,
        Reason::InternalError,
        Reason::ServerTimeout,
        Reason::ServiceUnavailable,
        Reason::Timeout,
    ];
    let named = ALL.into_iter().find(|reason| reason.to_string() == name);
    let coded = || ALL.into_iter().find(|reason| reason.code() == code);
    named.or_else(coded).unwrap_or(if code >= 500 { Reason::InternalError } else { Reason::BadRequest })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mutating: bool, changes: Value) -> Result<Verdict, String> {
        let mut response = json!({"uid": "u", "allowed": true});
        response.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let review =
            json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
        answer(ReviewVersion::V1, "u", mutating, &review)
    }

    #[test]
    fn answers_that_are_none_are_told_so() {
        let patch = STANDARD.encode("[]");
        let invalid = "received invalid webhook response: ";
        let table = [
            (true, json!({"uid": "v"}), format!("{invalid}expected response.uid=\"u\", got \"v\"")),
            (
                true,
                json!({"patch": patch}),
                format!("{invalid}webhook returned response.patch but not response.patchType"),
            ),
            (
                true,
                json!({"patchType": "JSONPatch"}),
                format!("{invalid}webhook returned response.patchType but not response.patch"),
            ),
            (
                false,
                json!({"patch": patch}),
                format!("{invalid}validating webhook may not return response.patch"),
            ),
            (
                false,
                json!({"patchType": "JSONPatch"}),
                format!("{invalid}validating webhook may not return response.patchType"),
            ),
            (
                true,
                json!({"patch": patch, "patchType": "Merge"}),
                "unsupported patch type \"Merge\"".to_owned(),
            ),
            (
                true,
                json!({"patch": STANDARD.encode("{}"), "patchType": "JSONPatch"}),
                "received undecodable patch in webhook response: it is no list of operations".to_owned(),
            ),
        ];
        for (mutating, changes, expected) in table {
            assert_eq!(read(mutating, changes.clone()).unwrap_err(), expected, "{changes}");
        }
        let other = json!({"apiVersion": "v1", "kind": "Pod", "response": {"uid": "u"}});
        assert_eq!(
            answer(ReviewVersion::V1, "u", true, &other).unwrap_err(),
            format!(
                "{invalid}expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got v1, Kind=Pod"
            )
        );
        assert_eq!(
            answer(ReviewVersion::V1, "u", true, &json!({})).unwrap_err(),
            format!("{invalid}webhook response was absent")
        );
    }

    #[test]
    fn verdicts_are_read_whole() {
        let operations = json!([{"op": "add", "path": "/a", "value": 1}]);
        let verdict = read(
            true,
            json!({"patch": STANDARD.encode(operations.to_string()), "patchType": "JSONPatch", "warnings": ["w"],
                "auditAnnotations": {"k": "v"}, "status": {"code": 200}}),
        );
        let verdict = verdict.unwrap();
        assert!(verdict.allowed);
        assert_eq!((verdict.patch, verdict.warnings), (operations, vec!["w".to_owned()]));
        assert_eq!(verdict.annotations, [("k".to_owned(), "v".to_owned())]);
    }

    #[test]
    fn refusals_have_the_code_and_the_reason_of_the_webhook() {
        let table = [
            (None, 400, None, "admission webhook \"a.b.io\" denied the request without explanation"),
            (
                Some(json!({"message": "no", "code": 403, "reason": "Forbidden"})),
                403,
                Some("Forbidden"),
                "admission webhook \"a.b.io\" denied the request: no",
            ),
            (
                Some(json!({"reason": "MyReason", "code": 200})),
                400,
                Some("MyReason"),
                "admission webhook \"a.b.io\" denied the request: MyReason",
            ),
        ];
        for (given, code, reason, message) in table {
            let status = refusal("a.b.io", given.as_ref());
            let value = status.to_value();
            assert_eq!((status.code(), status.message.as_str()), (code, message));
            assert_eq!(value.get("reason").and_then(Value::as_str), reason);
        }
        let causes =
            json!({"details": {"name": "n", "causes": [{"field": "f", "message": "m"}]}, "code": 422});
        let status = refusal("a.b.io", Some(&causes));
        assert_eq!((status.reason, status.details.causes[0].field.as_str()), (Reason::Invalid, "f"));
    }
}
