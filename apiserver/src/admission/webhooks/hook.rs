//! Webhooks as their configurations describe them. Pure. Must never call one.

use std::time::Duration;

use barque_api::metadata::Metadata;
use serde_json::Value;

use super::super::conditions::Conditions;
use super::super::expressions::Names;
use super::super::matching::Criteria;

/// The version in which a webhook is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReviewVersion {
    V1,
    V1Beta1,
}

impl ReviewVersion {
    pub(super) const fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "admission.k8s.io/v1",
            Self::V1Beta1 => "admission.k8s.io/v1beta1",
        }
    }
}

/// A webhook.
#[derive(Clone, Debug)]
pub(super) struct Hook {
    /// `a.example.com`
    pub(super) name: String,
    /// The object in which it stands.
    pub(super) configuration: String,
    /// Tells it apart from all others.
    pub(super) key: String,
    pub(super) criteria: Criteria,
    pub(super) conditions: Conditions,
    /// Whom to call.
    pub(super) client: Value,
    pub(super) timeout: Duration,
    /// The request goes on when it cannot be asked (`failurePolicy: Ignore`).
    pub(super) ignores_failures: bool,
    /// It does nothing when nothing will be stored; unknown where that is not said.
    pub(super) harmless: Option<bool>,
    /// The first version of those it takes that is known.
    pub(super) version: Option<ReviewVersion>,
    /// It wants to be asked again when the object changes after it.
    pub(super) again: bool,
}

/// The webhooks of a `MutatingWebhookConfiguration` or a `ValidatingWebhookConfiguration`, in their order.
pub(super) fn hooks(configuration: &Value) -> Vec<Hook> {
    let owner = Metadata::of(configuration).name();
    let list = configuration.get("webhooks").and_then(Value::as_array);
    list.into_iter().flatten().enumerate().map(|(index, webhook)| hook(owner, index, webhook)).collect()
}

fn hook(owner: &str, index: usize, webhook: &Value) -> Hook {
    let text = |field: &str| webhook.get(field).and_then(Value::as_str);
    let name = text("name").unwrap_or_default().to_owned();
    let versions = webhook.get("admissionReviewVersions").and_then(Value::as_array);
    let version = versions.into_iter().flatten().find_map(|version| match version.as_str() {
        Some("v1") => Some(ReviewVersion::V1),
        Some("v1beta1") => Some(ReviewVersion::V1Beta1),
        _ => None,
    });
    let seconds = webhook.get("timeoutSeconds").and_then(Value::as_u64).unwrap_or(10);
    Hook {
        key: format!("{owner}/{name}/{index}"),
        configuration: owner.to_owned(),
        criteria: Criteria::of_webhook(webhook),
        conditions: Conditions::of(webhook, &Names::default()),
        client: webhook.get("clientConfig").cloned().unwrap_or_default(),
        timeout: Duration::from_secs(seconds),
        ignores_failures: text("failurePolicy") == Some("Ignore"),
        harmless: text("sideEffects").map(|effects| matches!(effects, "None" | "NoneOnDryRun")),
        again: text("reinvocationPolicy") == Some("IfNeeded"),
        name,
        version,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn webhooks_are_read_with_their_defaults() {
        let configuration = json!({"metadata": {"name": "c"}, "webhooks": [
            {"name": "a.b.io", "admissionReviewVersions": ["v2", "v1beta1", "v1"], "sideEffects": "None"},
            {"name": "c.d.io", "failurePolicy": "Ignore", "timeoutSeconds": 3, "reinvocationPolicy": "IfNeeded",
             "sideEffects": "Some"},
        ]});
        let hooks = hooks(&configuration);
        assert_eq!((hooks[0].version, hooks[0].timeout.as_secs()), (Some(ReviewVersion::V1Beta1), 10));
        assert_eq!(
            (hooks[0].harmless, hooks[0].again, hooks[0].ignores_failures),
            (Some(true), false, false)
        );
        assert_eq!((hooks[1].version, hooks[1].timeout.as_secs()), (None, 3));
        assert_eq!((hooks[1].harmless, hooks[1].again, hooks[1].ignores_failures), (Some(false), true, true));
        assert_eq!(hooks[1].key, "c/c.d.io/1");
    }
}
