//! How a definition says that its versions are converted. Must never call anybody.

use barque_api::field::{FieldError, FieldPath};
use barque_api::names::dns_1035_label;
use serde_json::Value;

use super::super::{conditions, list, text};
use crate::webhook_client::validation::{validate_bundle, validate_service, validate_url};

/// Forms of reviews that are understood.
const REVIEWS: [&str; 2] = ["v1", "v1beta1"];

/// The certificates that a definition's webhook is believed by.
fn bundle(definition: &Value) -> &str {
    text(definition, "/spec/conversion/webhook/clientConfig/caBundle")
}

/// Whether certificates are given and cannot be used.
pub(in super::super) fn has_bad_bundle(definition: &Value) -> bool {
    let bundle = bundle(definition);
    !bundle.is_empty() && validate_bundle(bundle, &FieldPath::root()).is_some()
}

pub(super) fn judge(definition: &Value, old: Option<&Value>, at: &FieldPath, errors: &mut Vec<FieldError>) {
    let Some(conversion) = definition.pointer("/spec/conversion").filter(|one| !one.is_null()) else {
        return;
    };
    let strategy = text(conversion, "/strategy");
    match strategy {
        "None" | "Webhook" => {}
        "" => errors.push(FieldError::required(&at.child("strategy"), "")),
        other => {
            errors.push(FieldError::not_supported(&at.child("strategy"), other, &["None", "Webhook"]));
        }
    }
    let config = conversion.pointer("/webhook/clientConfig").filter(|config| !config.is_null());
    let reviews = list(conversion, "/webhook/conversionReviewVersions");
    let config_at = at.child("webhookClientConfig");
    let reviews_at = at.child("conversionReviewVersions");
    if strategy != "Webhook" {
        let why = "should not be set when strategy is not set to Webhook";
        if config.is_some() {
            errors.push(FieldError::forbidden(&config_at, why));
        }
        if !reviews.is_empty() {
            errors.push(FieldError::forbidden(&reviews_at, why));
        }
        return;
    }
    match config {
        None => {
            errors.push(FieldError::required(&config_at, "required when strategy is set to Webhook"));
        }
        Some(config) => {
            judge_config(config, &config_at, errors);
            let bundle = bundle(definition);
            let may_be_bad =
                old.is_none_or(|old| !conditions::holds(old, "Established") || has_bad_bundle(old));
            if !bundle.is_empty() && !may_be_bad {
                errors.extend(validate_bundle(bundle, &config_at.child("caBundle")));
            }
        }
    }
    let before = old.map(|old| list(old, "/spec/conversion/webhook/conversionReviewVersions"));
    let must_be_known = before.is_none_or(|before| before.is_empty() || before.iter().any(is_known));
    judge_reviews(reviews, must_be_known, &reviews_at, errors);
}

/// Exactly one way to the webhook, and that one written well.
fn judge_config(config: &Value, at: &FieldPath, errors: &mut Vec<FieldError>) {
    let url = config.get("url").and_then(Value::as_str);
    let service = config.get("service").filter(|service| !service.is_null());
    match (url, service) {
        (Some(url), None) => errors.extend(validate_url(url, &at.child("url"))),
        (None, Some(service)) => errors.extend(validate_service(service, &at.child("service"))),
        _ => errors.push(FieldError::required(at, "exactly one of url or service is required")),
    }
}

fn is_known(version: &Value) -> bool {
    version.as_str().is_some_and(|version| REVIEWS.contains(&version))
}

fn judge_reviews(reviews: &[Value], must_be_known: bool, at: &FieldPath, errors: &mut Vec<FieldError>) {
    if reviews.is_empty() {
        errors.push(FieldError::required(at, ""));
        return;
    }
    for (index, version) in reviews.iter().enumerate() {
        let at = at.index(index);
        if reviews[..index].contains(version) {
            errors.push(FieldError::invalid(&at, version.clone(), "duplicate version"));
            continue;
        }
        for why in dns_1035_label(version.as_str().unwrap_or_default()) {
            errors.push(FieldError::invalid(&at, version.clone(), why));
        }
    }
    if must_be_known && !reviews.iter().any(is_known) {
        let why = format!("must include at least one of {}", REVIEWS.join(", "));
        errors.push(FieldError::invalid(at, reviews.to_vec(), why));
    }
}
