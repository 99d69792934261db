//! Groups of the Kubernetes community: definitions in them say where they were approved. Must never look at a network.

use barque_api::field::{FieldError, FieldPath};
use serde_json::Value;

const ANNOTATION: &str = "api-approved.kubernetes.io";
const SEE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";

/// What a definition says of its approval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Approval {
    /// There is a URL.
    Approved,
    /// It is said that there is none.
    Bypassed,
    /// Nothing is said.
    Missing,
    /// It cannot be understood.
    Invalid,
}

/// Whether definitions in a group need it.
pub(in super::super) fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|domain| group.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}

/// What a definition says of its approval, and a sentence about it.
pub(in super::super) fn of(definition: &Value) -> (Approval, String) {
    let annotations = definition.pointer("/metadata/annotations");
    let text = annotations.and_then(|all| all.get(ANNOTATION)).and_then(Value::as_str).unwrap_or_default();
    let is_url = text.parse::<http::Uri>().is_ok_and(|url| url.scheme().is_some() && url.host().is_some());
    if text.is_empty() {
        (Approval::Missing, format!("protected groups must have approval annotation {ANNOTATION:?}, {SEE}"))
    } else if text.starts_with("unapproved") {
        (Approval::Bypassed, format!("not approved: {text:?}"))
    } else if is_url {
        (Approval::Approved, format!("approved in {text}"))
    } else {
        let why = format!(
            "protected groups must have approval annotation {ANNOTATION:?} with either a URL or a reason starting with \
             \"unapproved\", {SEE}"
        );
        (Approval::Invalid, why)
    }
}

/// What is wrong with it. Whoever leaves it as it was is not asked.
pub(super) fn judge(definition: &Value, old: Option<&Value>) -> Option<FieldError> {
    if !is_protected(super::text(definition, "/spec/group")) {
        return None;
    }
    let (approval, why) = of(definition);
    if old.is_some_and(|old| of(old).0 == approval) {
        return None;
    }
    let at = FieldPath::of("metadata.annotations").key(ANNOTATION);
    match approval {
        Approval::Approved | Approval::Bypassed => None,
        Approval::Missing => Some(FieldError::required(&at, why)),
        Approval::Invalid => {
            let annotations = definition.pointer("/metadata/annotations");
            let shown = annotations.and_then(|all| all.get(ANNOTATION)).cloned().unwrap_or_default();
            Some(FieldError::invalid(&at, shown, why))
        }
    }
}
