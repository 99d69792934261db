//! Conversion of custom objects by a webhook (`ConversionReview`): what it is asked, and what is believed of its answer. Must
//! never let it change more of an object's metadata than labels and annotations.

use std::time::Duration;

use barque_api::field::{FieldError, FieldPath};
use barque_api::kind::GroupVersionKind;
use barque_api::labels::validate_labels;
use barque_api::metadata::validate_annotations;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::{Map, Value, json};

use super::{list, text};
use crate::registry::served::Converter;
use crate::registry::uid::new_uid;
use crate::storage::Storage;
use crate::webhook_client::WebhookClient;

/// A webhook has this long.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Converts by asking the webhook of a definition.
pub struct WebhookConverter<S: Storage> {
    client: WebhookClient<S>,
    config: Value,
    /// The form of the review: the first that the webhook and this server know.
    review: Option<&'static str>,
}

impl<S: Storage> WebhookConverter<S> {
    /// As `spec.conversion` of a definition says; nothing for one that needs no webhook.
    #[must_use]
    pub fn of(definition: &Value, client: &WebhookClient<S>) -> Option<Self> {
        let conversion = definition.pointer("/spec/conversion")?;
        if text(conversion, "/strategy") != "Webhook" {
            return None;
        }
        let versions = list(conversion, "/webhook/conversionReviewVersions");
        let review = versions.iter().find_map(|version| match version.as_str() {
            Some("v1") => Some("v1"),
            Some("v1beta1") => Some("v1beta1"),
            _ => None,
        });
        let config = conversion.pointer("/webhook/clientConfig").cloned().unwrap_or_default();
        Some(Self { client: client.clone(), config, review })
    }

    async fn ask(&self, objects: Vec<Value>, to: &GroupVersionKind) -> Result<Vec<Value>, String> {
        let review = self.review.ok_or("no supported conversion review versions")?;
        let uid = new_uid();
        let api_version = to.group_version().to_string();
        let asked = json!({
            "kind": "ConversionReview",
            "apiVersion": format!("apiextensions.k8s.io/{review}"),
            "request": {"uid": uid, "desiredAPIVersion": api_version, "objects": objects},
        });
        let body = serde_json::to_vec(&asked).map_err(|error| error.to_string())?;
        let of = described(objects.first().unwrap_or(&Value::Null));
        let failed = |why: String| format!("conversion webhook for {of} failed: {why}");
        let answer = self.client.call(&self.config, body, TIMEOUT).await;
        let answer = answer.map_err(|error| failed(error.to_string()))?;
        let converted = converted(answer, review, &uid).map_err(failed)?;
        if converted.len() != objects.len() {
            let (got, expected) = (converted.len(), objects.len());
            return Err(format!("conversion webhook for {of} returned {got} objects, expected {expected}"));
        }
        let pairs = objects.iter().zip(converted).enumerate();
        let believed = pairs.map(|(index, (original, converted))| {
            believe(original, converted, to).map_err(|why| {
                format!(
                    "conversion webhook for {of} returned invalid converted object at index {index}: {why}"
                )
            })
        });
        believed.collect()
    }
}

impl<S: Storage> Converter for WebhookConverter<S> {
    fn convert<'a>(
        &'a self,
        objects: Vec<Value>,
        to: &'a GroupVersionKind,
    ) -> BoxFuture<'a, Result<Vec<Value>, String>> {
        self.ask(objects, to).boxed()
    }
}

/// What an object is, as Kubernetes writes it.
fn described(object: &Value) -> String {
    format!("{}, Kind={}", text(object, "/apiVersion"), text(object, "/kind"))
}

/// The objects of an answer.
fn converted(mut answer: Value, review: &str, uid: &str) -> Result<Vec<Value>, String> {
    if review == "v1" {
        let (expected, got) = ("apiextensions.k8s.io/v1, Kind=ConversionReview", described(&answer));
        if got != expected {
            return Err(format!("expected webhook response of {expected}, got {got}"));
        }
    }
    let Some(response) = answer.get_mut("response").filter(|response| response.is_object()) else {
        return Err("no response provided".to_owned());
    };
    let answered = text(response, "/uid");
    if review == "v1" && answered != uid {
        return Err(format!("expected response.uid={uid:?}, got {answered:?}"));
    }
    let status = text(response, "/result/status");
    if status != "Success" {
        let message = text(response, "/result/message");
        return Err(match message {
            "" => format!("response.result.status was '{status}', not 'Success'"),
            message => message.to_owned(),
        });
    }
    match response.get_mut("convertedObjects").map(Value::take) {
        Some(Value::Array(objects)) => Ok(objects),
        _ => Ok(Vec::new()),
    }
}

/// A converted object with the metadata of the original, but for labels and annotations.
fn believe(original: &Value, mut converted: Value, to: &GroupVersionKind) -> Result<Value, String> {
    let expected = to.group_version().to_string();
    let got = text(&converted, "/apiVersion");
    if got != expected {
        return Err(format!("invalid groupVersion (expected {expected}, received {got})"));
    }
    let (expected, got) = (text(original, "/kind"), text(&converted, "/kind"));
    if got != expected {
        return Err(format!("invalid kind (expected {expected}, received {got})"));
    }
    for (pointer, words) in
        [("/metadata/name", "name"), ("/metadata/namespace", "namespace"), ("/metadata/uid", "UID")]
    {
        let (before, after) = (text(original, pointer), text(&converted, pointer));
        if before != after {
            return Err(format!("must have the same {words}: {before} != {after}"));
        }
    }
    let Some(Value::Object(answered)) = converted.get_mut("metadata").map(Value::take) else {
        return Err("missing metadata in converted object".to_owned());
    };
    let mut metadata = original.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
    for field in ["labels", "annotations"] {
        match answered.get(field).filter(|map| !map.is_null()) {
            None => {
                metadata.remove(field);
            }
            Some(Value::Object(map)) => {
                check_texts(field, map, metadata.get(field))?;
                metadata.insert(field.to_owned(), Value::Object(map.clone()));
            }
            Some(_) => return Err(format!("invalid metadata.{field} in converted object")),
        }
    }
    converted["metadata"] = Value::Object(metadata);
    Ok(converted)
}

fn check_texts(field: &str, map: &Map<String, Value>, before: Option<&Value>) -> Result<(), String> {
    if let Some((key, _)) = map.iter().find(|(_, value)| !value.is_string()) {
        return Err(format!("metadata.{field}[{key}] must be a string in converted object"));
    }
    if before.and_then(Value::as_object) == Some(map) {
        return Ok(());
    }
    let at = FieldPath::of("metadata").child(field);
    let errors = if field == "labels" { validate_labels(map, &at) } else { validate_annotations(map, &at) };
    let told: Vec<String> = errors.iter().map(FieldError::to_string).collect();
    if told.is_empty() { Ok(()) } else { Err(told.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(response: Value) -> Value {
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response": response})
    }

    #[test]
    fn answers_are_for_the_question_and_say_that_it_went_well() {
        let good = json!({"uid": "u", "result": {"status": "Success"}, "convertedObjects": [{"a": 1}]});
        assert_eq!(converted(answer(good.clone()), "v1", "u"), Ok(vec![json!({"a": 1})]));
        let table = [
            (answer(good), "v", r#"expected response.uid="v", got "u""#),
            (
                json!({"kind": "Pod"}),
                "u",
                "expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got , Kind=Pod",
            ),
            (answer(Value::Null), "u", "no response provided"),
            (answer(json!({"uid": "u", "result": {"status": "Failed", "message": "no"}})), "u", "no"),
            (answer(json!({"uid": "u", "result": {}})), "u", "response.result.status was '', not 'Success'"),
        ];
        for (answer, uid, expected) in table {
            assert_eq!(converted(answer, "v1", uid).unwrap_err(), expected);
        }
    }

    #[test]
    fn metadata_stays_but_for_labels_and_annotations() {
        let to = GroupVersionKind::new("example.com", "v2", "Foo");
        let original = json!({"apiVersion": "example.com/v1", "kind": "Foo", "spec": {},
            "metadata": {"name": "a", "uid": "u", "finalizers": ["f"], "labels": {"l": "1"}, "annotations": {"b": "2"}}});
        let good = json!({"apiVersion": "example.com/v2", "kind": "Foo", "spec": {"n": 1},
            "metadata": {"name": "a", "uid": "u", "labels": {"l": "3"}, "finalizers": []}});
        let believed = believe(&original, good.clone(), &to).unwrap();
        assert_eq!(
            believed["metadata"],
            json!({"name": "a", "uid": "u", "finalizers": ["f"], "labels": {"l": "3"}})
        );
        assert_eq!(believed["spec"], json!({"n": 1}));
        let with = |pointer: &str, value: Value| {
            let mut one = good.clone();
            *one.pointer_mut(pointer).unwrap() = value;
            one
        };
        let table = [
            (
                with("/apiVersion", json!("example.com/v3")),
                "invalid groupVersion (expected example.com/v2, received example.com/v3)",
            ),
            (with("/kind", json!("Bar")), "invalid kind (expected Foo, received Bar)"),
            (with("/metadata/name", json!("b")), "must have the same name: a != b"),
            (with("/metadata/uid", json!("v")), "must have the same UID: u != v"),
            (with("/metadata", json!(1)), "must have the same name: a != "),
            (
                with("/metadata/labels", json!({"l": 1})),
                "metadata.labels[l] must be a string in converted object",
            ),
        ];
        for (converted, expected) in table {
            assert_eq!(believe(&original, converted, &to).unwrap_err(), expected);
        }
    }
}
