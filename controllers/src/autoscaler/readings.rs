//! Where measurements are asked for, and what the answers say. Decisions; must never ask by themselves.

use std::time::Duration;

use barque_api::labels::Selector;
use barque_api::quantity::Quantity;
use k8s_openapi::api::autoscaling::v2::{CrossVersionObjectReference, MetricIdentifier};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::replicas::{Reading, Readings};
use crate::question::{Answers, Question};
use crate::scale::{Scalable, Search};

/// How far a measurement has come.
pub(super) enum Measured<T> {
    /// This must be known first.
    Ask(Question),
    /// There it is, or why it is not.
    Known(Result<T, String>),
}

const CUSTOM: &str = "custom.metrics.k8s.io";
/// Over which time adapters measure that do not say it.
const WINDOW: Duration = Duration::from_secs(60);

fn milli(value: &Value) -> i64 {
    Quantity::of_value(value).map(|quantity| quantity.milli_value()).unwrap_or_default()
}

fn time(value: &Value) -> Timestamp {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The answer; an error is told as that of this API.
fn answered<T>(
    question: Question,
    answers: &Answers,
    api: &str,
    read: impl FnOnce(&Value) -> Result<T, String>,
) -> Measured<T> {
    match answers.to(&question) {
        None => Measured::Ask(question),
        Some(Ok(value)) => Measured::Known(read(value)),
        Some(Err(failure)) => Measured::Known(Err(format!(
            "unable to fetch metrics from {api} metrics API: {}",
            failure.message
        ))),
    }
}

fn items<'a>(list: &'a Value, api: &str) -> Result<&'a Vec<Value>, String> {
    let items = list["items"].as_array().filter(|items| !items.is_empty());
    items.ok_or_else(|| format!("no metrics returned from {api} metrics API"))
}

/// What pods use of a resource, or one container of each.
pub(super) fn of_resource(
    namespace: &str,
    selector: &str,
    (resource, container): (&str, &str),
    answers: &Answers,
) -> Measured<Readings> {
    let path = ["apis", "metrics.k8s.io", "v1beta1", "namespaces", namespace, "pods"];
    let question = Question::get(path).with([("labelSelector", selector)]);
    answered(question, answers, "resource", |list| {
        let mut readings = Readings::new();
        for pod in items(list, "resource")? {
            let containers = pod["containers"].as_array().map_or(&[] as &[Value], Vec::as_slice);
            let meant: Vec<_> =
                containers.iter().filter(|it| container.is_empty() || it["name"] == container).collect();
            if meant.is_empty() || meant.iter().any(|it| it["usage"][resource].is_null()) {
                continue;
            }
            let value = meant.iter().map(|it| milli(&it["usage"][resource])).fold(0, i64::saturating_add);
            let window =
                pod["window"].as_str().and_then(barque_client::component::go_duration).unwrap_or_default();
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            readings.insert(name.to_owned(), Reading { at: time(&pod["timestamp"]), window, value });
        }
        Ok(readings)
    })
}

/// The version of the API of custom measurements that the server prefers, of those that are known here.
fn custom_version(answers: &Answers) -> Measured<&'static str> {
    answered(Question::get(["apis", CUSTOM]), answers, "custom", |group| {
        let versions = group["versions"].as_array().into_iter().flatten();
        let has = |version: &str| versions.clone().any(|it| it["version"] == version);
        Ok(if has("v1beta2") { "v1beta2" } else { "v1beta1" })
    })
}

fn metric_selector(metric: &MetricIdentifier) -> Result<String, String> {
    let Some(selector) = &metric.selector else { return Ok(String::new()) };
    let value = serde_json::to_value(selector).map_err(|error| error.to_string())?;
    Ok(Selector::of_object(Some(&value)).map_err(|error| error.to_string())?.to_string())
}

/// Goes on with what is known, or hands on what must be asked.
macro_rules! known {
    ($measured:expr) => {
        match $measured {
            Measured::Ask(question) => return Measured::Ask(question),
            Measured::Known(Err(why)) => return Measured::Known(Err(why)),
            Measured::Known(Ok(value)) => value,
        }
    };
}

/// What was measured at each pod.
pub(super) fn of_pods(
    namespace: &str,
    selector: &str,
    metric: &MetricIdentifier,
    answers: &Answers,
) -> Measured<Readings> {
    let of = known!(Measured::Known(metric_selector(metric)));
    let version = known!(custom_version(answers));
    let path = ["apis", CUSTOM, version, "namespaces", namespace, "pods", "*", &metric.name];
    let query = [("labelSelector", selector), ("metricLabelSelector", of.as_str())];
    let question = Question::get(path).with(query.into_iter().filter(|(_, value)| !value.is_empty()));
    answered(question, answers, "custom", |list| {
        let read = items(list, "custom")?.iter().map(|item| {
            let seconds = item["windowSeconds"].as_u64().or(item["window"].as_u64());
            let window = seconds.map_or(WINDOW, Duration::from_secs);
            let name = item["describedObject"]["name"].as_str().unwrap_or_default();
            (name.to_owned(), Reading { at: time(&item["timestamp"]), window, value: milli(&item["value"]) })
        });
        Ok(read.collect())
    })
}

/// What was measured at one object, in thousandths.
pub(super) fn of_object(
    namespace: &str,
    object: &CrossVersionObjectReference,
    metric: &MetricIdentifier,
    answers: &Answers,
) -> Measured<i64> {
    let of = known!(Measured::Known(metric_selector(metric)));
    let version = known!(custom_version(answers));
    let api_version = object.api_version.as_deref().unwrap_or("v1");
    let mut path = vec!["apis", CUSTOM, version, "namespaces", namespace];
    let resource;
    if object.kind == "Namespace" && !api_version.contains('/') {
        path.extend(["metrics", &metric.name]);
    } else {
        let it = Scalable { namespace, api_version, kind: &object.kind, name: &object.name };
        resource = match it.resource(answers) {
            Ok(resource) => resource,
            Err(Search::Ask(question)) => return Measured::Ask(question),
            Err(Search::Failed(why) | Search::Missing(why)) => return Measured::Known(Err(why)),
            Err(Search::Found(_)) => return Measured::Known(Err("it is no resource".to_owned())),
        };
        path.extend([resource.as_str(), &object.name, &metric.name]);
    }
    let question = Question::get(path);
    let question =
        if of.is_empty() { question } else { question.with([("metricLabelSelector", of.as_str())]) };
    answered(question, answers, "custom", |list| {
        // A list of one; the one for a namespace stands alone with some adapters.
        let item = list["items"].as_array().map_or(Some(list), |items| items.first());
        item.map(|item| milli(&item["value"])).ok_or_else(|| {
            "the custom metrics API server returned 0 results when we asked for exactly one".to_owned()
        })
    })
}

/// What was measured outside the cluster, in thousandths, all of it together.
pub(super) fn of_external(namespace: &str, metric: &MetricIdentifier, answers: &Answers) -> Measured<i64> {
    let of = known!(Measured::Known(metric_selector(metric)));
    let path = ["apis", "external.metrics.k8s.io", "v1beta1", "namespaces", namespace, &metric.name];
    let question = Question::get(path);
    let question = if of.is_empty() { question } else { question.with([("labelSelector", of.as_str())]) };
    answered(question, answers, "external", |list| {
        Ok(items(list, "external")?.iter().map(|item| milli(&item["value"])).fold(0, i64::saturating_add))
    })
}
