//! What one metric of an autoscaler says: how many pods, what stands in the status for it, or why it says nothing. Decisions; the words
//! are upstream's.

use std::sync::Arc;

use barque_api::quantity::{Format, Quantity};
use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricStatus, ExternalMetricSource, ExternalMetricStatus, MetricSpec, MetricStatus,
    MetricTarget, MetricValueStatus, ObjectMetricSource, ObjectMetricStatus, PodsMetricSource,
    PodsMetricStatus, ResourceMetricStatus,
};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;

use super::readings::{self, Measured};
use super::replicas::{self, Rules};
use crate::label_selector_text;
use crate::question::{Answers, Question};
use crate::scale::Scale;

/// What it is made of.
pub(super) struct Surroundings<'a> {
    pub(super) namespace: &'a str,
    pub(super) scale: &'a Scale,
    /// The pods that are scaled.
    pub(super) pods: &'a [Arc<Pod>],
    pub(super) answers: &'a Answers,
    pub(super) rules: Rules<'a>,
}

/// So many pods.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Proposal {
    pub(super) replicas: i32,
    /// What it is called in sentences.
    pub(super) name: String,
    pub(super) status: MetricStatus,
}

/// It says nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Invalid {
    /// The reason of the condition and of the event.
    pub(super) reason: &'static str,
    /// What is wrong.
    pub(super) error: String,
    /// What was looked for, for the sentence about it.
    pub(super) what: String,
}

/// What a metric says, or what must be asked first.
pub(super) enum Said {
    /// This must be known first.
    Ask(Question),
    /// So many, or nothing.
    Known(Result<Box<Proposal>, Invalid>),
}

fn milli(written: &Written) -> i64 {
    Quantity::parse(&written.0).map(|quantity| quantity.milli_value()).unwrap_or_default()
}

fn written(milli: i64, resource: &str) -> Option<Written> {
    let format = if resource == "memory" { Format::BinarySi } else { Format::DecimalSi };
    Some(Written(Quantity::new(milli, -3, format).to_string()))
}

/// Hands on what must be asked.
macro_rules! measured {
    ($measured:expr) => {
        match $measured {
            Measured::Ask(question) => return Asked::Ask(question),
            Measured::Known(result) => result,
        }
    };
}

/// As [`Said`], with errors as sentences.
enum Asked<T> {
    Ask(Question),
    Known(Result<T, String>),
}

/// What the metric says.
pub(super) fn say(spec: &MetricSpec, around: &Surroundings<'_>) -> Said {
    let (reason, what, asked) = if let Some(source) =
        spec.resource.as_ref().filter(|_| spec.type_ == "Resource")
    {
        let of = (source.name.as_str(), "");
        (
            "FailedGetResourceMetric",
            format!("{} resource metric value", source.name),
            resource(&source.target, of, around),
        )
    } else if let Some(source) =
        spec.container_resource.as_ref().filter(|_| spec.type_ == "ContainerResource")
    {
        let of = (source.name.as_str(), source.container.as_str());
        let what = format!("{} container metric value", source.container);
        ("FailedGetContainerResourceMetric", what, resource(&source.target, of, around))
    } else if let Some(source) = spec.pods.as_ref().filter(|_| spec.type_ == "Pods") {
        ("FailedGetPodsMetric", "pods metric value".to_owned(), pods(source, around))
    } else if let Some(source) = spec.object.as_ref().filter(|_| spec.type_ == "Object") {
        ("FailedGetObjectMetric", "object metric value".to_owned(), object(source, around))
    } else if let Some(source) = spec.external.as_ref().filter(|_| spec.type_ == "External") {
        let what = format!("{} external metric value", source.metric.name);
        ("FailedGetExternalMetric", what, external(source, around))
    } else {
        let error = format!("unknown metric source type {:?}", spec.type_);
        return Said::Known(Err(Invalid { reason: "InvalidMetricSourceType", error, what: String::new() }));
    };
    match asked {
        Asked::Ask(question) => Said::Ask(question),
        Asked::Known(result) => {
            Said::Known(result.map(Box::new).map_err(|error| Invalid { reason, error, what }))
        }
    }
}

fn resource(target: &MetricTarget, of: (&str, &str), around: &Surroundings<'_>) -> Asked<Proposal> {
    let (resource, container) = of;
    let read = measured!(readings::of_resource(around.namespace, &around.scale.selector, of, around.answers));
    let read = read.map_err(|why| format!("unable to get metrics for resource {resource}: {why}"));
    let status = |current: MetricValueStatus| {
        if container.is_empty() {
            let resource = Some(ResourceMetricStatus { name: resource.to_owned(), current });
            MetricStatus { type_: "Resource".to_owned(), resource, ..MetricStatus::default() }
        } else {
            let container_resource = Some(ContainerResourceMetricStatus {
                name: resource.to_owned(),
                container: container.to_owned(),
                current,
            });
            MetricStatus {
                type_: "ContainerResource".to_owned(),
                container_resource,
                ..MetricStatus::default()
            }
        }
    };
    Asked::Known(if let Some(average) = &target.average_value {
        let by = |read| replicas::by_average(around.pods, &read, milli(average), resource, &around.rules);
        let known = read.and_then(by).map_err(|why| format!("failed to get {resource} usage: {why}"));
        known.map(|(replicas, usage)| Proposal {
            replicas,
            name: format!("{resource} resource"),
            status: status(MetricValueStatus {
                average_value: written(usage, resource),
                ..MetricValueStatus::default()
            }),
        })
    } else if let Some(share) = target.average_utilization {
        let by = |read| replicas::by_utilization(around.pods, &read, share, of, &around.rules);
        let known = read.and_then(by).map_err(|why| format!("failed to get {resource} utilization: {why}"));
        let sort = if container.is_empty() { "" } else { "container " };
        known.map(|(replicas, share, average)| Proposal {
            replicas,
            name: format!("{resource} {sort}resource utilization (percentage of request)"),
            status: status(MetricValueStatus {
                average_utilization: Some(share),
                average_value: written(average, resource),
                ..MetricValueStatus::default()
            }),
        })
    } else {
        Err("invalid resource metric source: neither an average utilization target nor an average value (usage) target \
             was set"
            .to_owned())
    })
}

fn pods(source: &PodsMetricSource, around: &Surroundings<'_>) -> Asked<Proposal> {
    let name = &source.metric.name;
    let selector = &around.scale.selector;
    let read = measured!(readings::of_pods(around.namespace, selector, &source.metric, around.answers));
    let target = source.target.average_value.as_ref().map(milli).unwrap_or_default();
    let by = |read| replicas::by_average(around.pods, &read, target, "", &around.rules);
    let known = read.map_err(|why| format!("unable to get metric {name}: {why}")).and_then(by);
    Asked::Known(known.map(|(replicas, usage)| Proposal {
        replicas,
        name: format!("pods metric {name}"),
        status: MetricStatus {
            type_: "Pods".to_owned(),
            pods: Some(PodsMetricStatus {
                metric: source.metric.clone(),
                current: MetricValueStatus {
                    average_value: written(usage, ""),
                    ..MetricValueStatus::default()
                },
            }),
            ..MetricStatus::default()
        },
    }))
}

/// `external metric name(selector)`, as upstream calls a metric that is divided among pods, of objects too.
fn divided_name(metric: &k8s_openapi::api::autoscaling::v2::MetricIdentifier) -> String {
    format!("external metric {}({})", metric.name, label_selector_text::text(metric.selector.as_ref()))
}

fn object(source: &ObjectMetricSource, around: &Surroundings<'_>) -> Asked<Proposal> {
    let (of, name) = (&source.described_object, &source.metric.name);
    let target = &source.target;
    let is_value = target.type_ == "Value" && target.value.is_some();
    let is_average = target.type_ == "AverageValue" && target.average_value.is_some();
    if !is_value && !is_average {
        let why = "invalid object metric source: neither a value target nor an average value target was set";
        return Asked::Known(Err(why.to_owned()));
    }
    let usage = measured!(readings::of_object(around.namespace, of, &source.metric, around.answers));
    let failed =
        |why| format!("unable to get metric {name} on {} {}/{}: {why}", of.kind, around.namespace, of.name);
    let status = |current| MetricStatus {
        type_: "Object".to_owned(),
        object: Some(ObjectMetricStatus {
            described_object: of.clone(),
            metric: source.metric.clone(),
            current,
        }),
        ..MetricStatus::default()
    };
    Asked::Known(match (&target.value, &target.average_value) {
        (Some(value), _) if is_value => usage.map_err(failed).and_then(|usage| {
            let replicas = replicas::by_value(around.pods, usage, milli(value), &around.rules)?;
            let current = MetricValueStatus { value: written(usage, ""), ..MetricValueStatus::default() };
            Ok(Proposal { replicas, name: format!("{} metric {name}", of.kind), status: status(current) })
        }),
        (_, average) => {
            let failed = |why| format!("failed to get {name} object metric: {}", failed(why));
            usage.map_err(failed).map(|usage| {
                let target = average.as_ref().map(milli).unwrap_or_default();
                let (replicas, average) =
                    replicas::by_value_per_pod(usage, target, around.scale.there, around.rules.tolerances);
                let current =
                    MetricValueStatus { average_value: written(average, ""), ..MetricValueStatus::default() };
                Proposal { replicas, name: divided_name(&source.metric), status: status(current) }
            })
        }
    })
}

fn external(source: &ExternalMetricSource, around: &Surroundings<'_>) -> Asked<Proposal> {
    let name = &source.metric.name;
    let target = &source.target;
    if target.average_value.is_none() && target.value.is_none() {
        let why =
            "invalid external metric source: neither a value target nor an average value target was set";
        return Asked::Known(Err(why.to_owned()));
    }
    let usage = measured!(readings::of_external(around.namespace, &source.metric, around.answers));
    let selector = label_selector_text::text(source.metric.selector.as_ref());
    let usage = usage.map_err(|why| {
        format!("unable to get external metric {}/{name}/{selector}: {why}", around.namespace)
    });
    let proposal = |replicas, current| Proposal {
        replicas,
        name: divided_name(&source.metric),
        status: MetricStatus {
            type_: "External".to_owned(),
            external: Some(ExternalMetricStatus { metric: source.metric.clone(), current }),
            ..MetricStatus::default()
        },
    };
    Asked::Known(match (&target.average_value, &target.value) {
        (Some(average), _) => {
            let usage = usage.map_err(|why| format!("failed to get {name} external metric: {why}"));
            usage.map(|usage| {
                let (there, tolerances) = (around.scale.there, around.rules.tolerances);
                let (replicas, average) =
                    replicas::by_value_per_pod(usage, milli(average), there, tolerances);
                let current =
                    MetricValueStatus { average_value: written(average, ""), ..MetricValueStatus::default() };
                proposal(replicas, current)
            })
        }
        (None, value) => {
            let target = value.as_ref().map(milli).unwrap_or_default();
            let by = |usage| {
                let replicas = replicas::by_value(around.pods, usage, target, &around.rules)?;
                let current = MetricValueStatus { value: written(usage, ""), ..MetricValueStatus::default() };
                Ok(proposal(replicas, current))
            };
            usage.and_then(by).map_err(|why| format!("failed to get external metric {name}: {why}"))
        }
    })
}
