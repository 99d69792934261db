//! The answer to a request that failed: Kubernetes' `Status`, with the reasons, codes and sentences that clients know.
//! The one place where errors get their HTTP code; must never decide which error fits.

use std::fmt;

use serde_json::{Value, json};

use crate::field::FieldError;
use crate::kind::{GroupResource, GroupVersionKind};

/// Why a request failed (`metav1.StatusReason`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// 401
    Unauthorized,
    /// 403
    Forbidden,
    /// 404
    NotFound,
    /// 409: there is one with this name.
    AlreadyExists,
    /// 409: it was changed meanwhile, or somebody else owns the field.
    Conflict,
    /// 410: what was asked for was, and is no more.
    Gone,
    /// 410: the revision is too old.
    Expired,
    /// 422
    Invalid,
    /// 400
    BadRequest,
    /// 405
    MethodNotAllowed,
    /// 406
    NotAcceptable,
    /// 413
    RequestEntityTooLarge,
    /// 415
    UnsupportedMediaType,
    /// 429
    TooManyRequests,
    /// 500
    InternalError,
    /// 500: the server could not do it in time; the client may try again.
    ServerTimeout,
    /// 503
    ServiceUnavailable,
    /// 504
    Timeout,
}

impl Reason {
    /// The HTTP status code.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable => 406,
            Self::AlreadyExists | Self::Conflict => 409,
            Self::Gone | Self::Expired => 410,
            Self::RequestEntityTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::Invalid => 422,
            Self::TooManyRequests => 429,
            Self::InternalError | Self::ServerTimeout => 500,
            Self::ServiceUnavailable => 503,
            Self::Timeout => 504,
        }
    }
}

/// As it stands in the field `reason`.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// One thing that was wrong (`metav1.StatusCause`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// `FieldValueInvalid`, `FieldManagerConflict`, `DisruptionBudget` and so on; may be empty.
    pub reason: String,
    /// For people.
    pub message: String,
    /// The field, as a path; may be empty.
    pub field: String,
}

/// A request that failed. Small, as every answer of the server may be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// Why.
    pub reason: Reason,
    /// For people.
    pub message: String,
    /// What else is known.
    pub details: Box<Details>,
}

/// What a request that failed was about (`metav1.StatusDetails`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// The object's name, where there is one.
    pub name: String,
    /// Its group.
    pub group: String,
    /// Its kind; for most errors Kubernetes puts the resource here.
    pub kind: String,
    /// Its uid, where that is what mattered.
    pub uid: String,
    /// What was wrong.
    pub causes: Vec<Cause>,
    /// When to try again, in seconds; 0 does not say.
    pub retry_after_seconds: u32,
    /// How to go on with a list that is too old, at another revision; mostly empty.
    pub continue_token: String,
    /// The HTTP code and the reason as somebody else gave them, a webhook or a policy, where they are not those of the status.
    pub given: Option<(u16, String)>,
}

impl Status {
    /// A failure that says only why.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), details: Box::default() }
    }

    /// About this object of a collection.
    #[must_use]
    pub fn about(mut self, resource: &GroupResource, name: &str) -> Self {
        self.details.group = resource.group.to_string();
        self.details.kind = resource.resource.to_string();
        self.details.name = name.to_owned();
        self
    }

    /// With a code and a reason that somebody else gave; the status keeps the reason that is nearest.
    #[must_use]
    pub fn given(mut self, code: u16, reason: &str) -> Self {
        self.details.given = Some((code, reason.to_owned()));
        self
    }

    /// The HTTP status code.
    #[must_use]
    pub fn code(&self) -> u16 {
        self.details.given.as_ref().map_or_else(|| self.reason.code(), |(code, _)| *code)
    }

    /// The client may try again after so many seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.details.retry_after_seconds = seconds;
        self
    }

    /// The list can be gone on with like this.
    #[must_use]
    pub fn go_on_with(mut self, continue_token: String) -> Self {
        self.details.continue_token = continue_token;
        self
    }

    /// With one more cause.
    #[must_use]
    pub fn because(mut self, reason: &str, message: impl Into<String>, field: &str) -> Self {
        self.details.causes.push(Cause {
            reason: reason.to_owned(),
            message: message.into(),
            field: field.to_owned(),
        });
        self
    }

    /// There is no such object.
    #[must_use]
    pub fn not_found(resource: &GroupResource, name: &str) -> Self {
        Self::new(Reason::NotFound, format!("{resource} {name:?} not found")).about(resource, name)
    }

    /// There is no such path.
    #[must_use]
    pub fn no_such_path() -> Self {
        Self::new(Reason::NotFound, "the server could not find the requested resource")
    }

    /// There is an object with this name.
    #[must_use]
    pub fn already_exists(resource: &GroupResource, name: &str) -> Self {
        Self::new(Reason::AlreadyExists, format!("{resource} {name:?} already exists")).about(resource, name)
    }

    /// It was changed meanwhile, or a precondition does not hold.
    #[must_use]
    pub fn conflict(resource: &GroupResource, name: &str, why: impl fmt::Display) -> Self {
        Self::new(Reason::Conflict, format!("Operation cannot be fulfilled on {resource} {name:?}: {why}"))
            .about(resource, name)
    }

    /// The user may not, or the object may not be so.
    #[must_use]
    pub fn forbidden(resource: &GroupResource, name: &str, why: impl fmt::Display) -> Self {
        let message = match (resource.resource.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (false, true) => format!("{resource} is forbidden: {why}"),
            (false, false) => format!("{resource} {name:?} is forbidden: {why}"),
        };
        Self::new(Reason::Forbidden, message).about(resource, name)
    }

    /// Fields are wrong; `errors` are told in their order.
    #[must_use]
    pub fn invalid(kind: &GroupVersionKind, name: &str, errors: &[FieldError]) -> Self {
        let named = GroupResource::new(&kind.group, &kind.kind);
        let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let told = match told.as_slice() {
            [one] => one.clone(),
            several => format!("[{}]", several.join(", ")),
        };
        let mut status = Self::new(Reason::Invalid, format!("{named} {name:?} is invalid: {told}"));
        status.details.group = kind.group.to_string();
        status.details.kind = kind.kind.to_string();
        status.details.name = name.to_owned();
        errors.iter().fold(status, |status, error| {
            status.because(error.fault.reason(), error.message(), &error.path.to_string())
        })
    }

    /// The request cannot be understood.
    #[must_use]
    pub fn bad_request(why: impl Into<String>) -> Self {
        Self::new(Reason::BadRequest, why)
    }

    /// The collection has no such verb.
    #[must_use]
    pub fn method_not_supported(resource: &GroupResource, verb: &str) -> Self {
        Self::new(
            Reason::MethodNotAllowed,
            format!("{verb} is not supported on resources of kind \"{resource}\""),
        )
        .about(resource, "")
    }

    /// Something failed that is not the client's fault.
    #[must_use]
    pub fn internal(why: impl fmt::Display) -> Self {
        Self::new(Reason::InternalError, format!("Internal error occurred: {why}")).because(
            "",
            why.to_string(),
            "",
        )
    }

    /// The revision that was asked for is compacted, or the list it belongs to is too old.
    #[must_use]
    pub fn expired(why: impl Into<String>) -> Self {
        Self::new(Reason::Expired, why)
    }

    /// The revision that was asked for has not come yet.
    #[must_use]
    pub fn too_large_resource_version(wanted: u64, current: u64) -> Self {
        Self::new(Reason::Timeout, format!("Too large resource version: {wanted}, current: {current}"))
            .because("ResourceVersionTooLarge", "Too large resource version", "")
            .retry_after(1)
    }

    /// The server is busy.
    #[must_use]
    pub fn too_many_requests(why: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::new(Reason::TooManyRequests, why).retry_after(retry_after_seconds)
    }

    /// As an object.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason.to_string(),
            "code": self.code(),
        });
        if let Some((_, reason)) = &self.details.given {
            status["reason"] = reason.as_str().into();
            if reason.is_empty()
                && let Some(fields) = status.as_object_mut()
            {
                fields.remove("reason");
            }
        }
        let about = &self.details;
        if !about.continue_token.is_empty() {
            status["metadata"]["continue"] = Value::String(about.continue_token.clone());
        }
        let mut details = serde_json::Map::new();
        for (field, text) in
            [("name", &about.name), ("group", &about.group), ("kind", &about.kind), ("uid", &about.uid)]
        {
            if !text.is_empty() {
                details.insert(field.to_owned(), Value::String(text.clone()));
            }
        }
        if !about.causes.is_empty() {
            details.insert("causes".to_owned(), about.causes.iter().map(Cause::to_value).collect());
        }
        if about.retry_after_seconds > 0 {
            details.insert("retryAfterSeconds".to_owned(), about.retry_after_seconds.into());
        }
        if !details.is_empty() {
            status["details"] = Value::Object(details);
        }
        status
    }
}

impl Cause {
    fn to_value(&self) -> Value {
        let parts = [("reason", &self.reason), ("message", &self.message), ("field", &self.field)];
        let given = parts.into_iter().filter(|(_, text)| !text.is_empty());
        Value::Object(given.map(|(field, text)| (field.to_owned(), Value::String(text.clone()))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::FieldPath;

    #[test]
    fn sentences_are_those_of_kubernetes() {
        let deployments = GroupResource::new("apps", "deployments");
        let pods = GroupResource::new("", "pods");
        let kind = GroupVersionKind::new("apps", "v1", "Deployment");
        let errors = [
            FieldError::required(&FieldPath::of("spec.selector"), ""),
            FieldError::invalid(&FieldPath::of("spec.replicas"), -1, "no"),
        ];
        let table = [
            (Status::not_found(&pods, "a"), 404, r#"pods "a" not found"#),
            (Status::not_found(&deployments, "a"), 404, r#"deployments.apps "a" not found"#),
            (Status::already_exists(&pods, "a"), 409, r#"pods "a" already exists"#),
            (
                Status::conflict(&pods, "a", "it was changed"),
                409,
                r#"Operation cannot be fulfilled on pods "a": it was changed"#,
            ),
            (Status::forbidden(&pods, "", "no"), 403, "pods is forbidden: no"),
            (Status::forbidden(&deployments, "a", "no"), 403, r#"deployments.apps "a" is forbidden: no"#),
            (
                Status::invalid(&kind, "a", &errors[..1]),
                422,
                r#"Deployment.apps "a" is invalid: spec.selector: Required value"#,
            ),
            (
                Status::invalid(&kind, "a", &errors),
                422,
                r#"Deployment.apps "a" is invalid: [spec.selector: Required value, spec.replicas: Invalid value: -1: no]"#,
            ),
            (
                Status::method_not_supported(&pods, "create"),
                405,
                r#"create is not supported on resources of kind "pods""#,
            ),
        ];
        for (status, code, message) in table {
            assert_eq!((status.reason.code(), status.message.as_str()), (code, message));
        }
    }

    #[test]
    fn codes_and_reasons_of_others_are_kept() {
        let status = Status::new(Reason::BadRequest, "no").given(418, "Teapot").to_value();
        assert_eq!((&status["code"], &status["reason"]), (&json!(418), &json!("Teapot")));
        let status = Status::new(Reason::BadRequest, "no").given(400, "").to_value();
        assert_eq!((&status["code"], status.get("reason")), (&json!(400), None));
    }

    #[test]
    fn an_object_says_no_more_than_is_known() {
        let status = Status::too_large_resource_version(9, 5).to_value();
        assert_eq!(
            status,
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 504, "reason": "Timeout",
                "message": "Too large resource version: 9, current: 5",
                "details": {"retryAfterSeconds": 1, "causes": [
                    {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
                ]},
            })
        );
        assert!(Status::no_such_path().to_value().get("details").is_none());
        let expired = Status::expired("too old").go_on_with("t".to_owned()).to_value();
        assert_eq!(expired["metadata"], json!({"continue": "t"}));
    }
}
