//! Objects from one version of their kind to another. Few built-in kinds differ in more than their `apiVersion`. Must never
//! lose a field that both versions can tell.

use barque_api::kind::GroupVersionKind;
use serde_json::{Map, Value, json};

/// The object as one of this kind.
///
/// # Errors
/// When it cannot be converted, with a sentence that says why.
pub fn convert(mut object: Value, to: &GroupVersionKind) -> Result<Value, String> {
    let from = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default().to_owned();
    let api_version = to.group_version().to_string();
    if from == api_version {
        return Ok(object);
    }
    let Some(fields) = object.as_object_mut() else { return Err("it is no object".to_owned()) };
    match (&*to.kind, from.as_str(), api_version.as_str()) {
        ("Event", "v1", "events.k8s.io/v1") => rename(fields, &EVENT_NAMES),
        ("Event", "events.k8s.io/v1", "v1") => {
            let back = EVENT_NAMES.map(|(core, events)| (events, core));
            rename(fields, &back);
        }
        ("HorizontalPodAutoscaler", "autoscaling/v2", "autoscaling/v1") => autoscaler::to_v1(fields),
        ("HorizontalPodAutoscaler", "autoscaling/v1", "autoscaling/v2") => autoscaler::to_v2(fields),
        _ => {}
    }
    fields.insert("apiVersion".to_owned(), api_version.into());
    Ok(object)
}

/// Fields of events: in `v1`, in `events.k8s.io/v1`.
const EVENT_NAMES: [(&str, &str); 6] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];
/// The same for fields that come with a second name.
const REPORTING: (&str, &str) = ("reportingComponent", "reportingController");

fn rename(fields: &mut Map<String, Value>, names: &[(&str, &str)]) {
    let (from, to) = if fields.contains_key(REPORTING.0) { REPORTING } else { (REPORTING.1, REPORTING.0) };
    for (from, to) in names.iter().copied().chain([(from, to)]) {
        if let Some(value) = fields.remove(from) {
            fields.insert(to.to_owned(), value);
        }
    }
}

/// `autoscaling/v1` knows CPU alone; everything else of `v2` rides along in annotations, as in Kubernetes.
mod autoscaler {
    use super::{Map, Value, json};

    const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
    const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
    const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
    const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

    pub(super) fn to_v1(fields: &mut Map<String, Value>) {
        let mut notes: Vec<(&str, Value)> = Vec::new();
        if let Some(spec) = fields.get_mut("spec").and_then(Value::as_object_mut) {
            let metrics = spec.remove("metrics").unwrap_or_default();
            let (cpu, rest) = part_cpu(&metrics, "/resource/target/averageUtilization");
            if let Some(target) = cpu {
                spec.insert("targetCPUUtilizationPercentage".to_owned(), target);
            }
            notes.push((METRICS, rest));
            notes.push((BEHAVIOR, spec.remove("behavior").unwrap_or_default()));
        }
        if let Some(status) = fields.get_mut("status").and_then(Value::as_object_mut) {
            let current = status.remove("currentMetrics").unwrap_or_default();
            let (cpu, rest) = part_cpu(&current, "/resource/current/averageUtilization");
            if let Some(now) = cpu {
                status.insert("currentCPUUtilizationPercentage".to_owned(), now);
            }
            notes.push((CURRENT, rest));
            notes.push((CONDITIONS, status.remove("conditions").unwrap_or_default()));
        }
        let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
        for (key, value) in notes {
            if !value.is_null() && value != json!([]) {
                if metadata.get("annotations").is_none_or(Value::is_null) {
                    metadata["annotations"] = json!({});
                }
                metadata["annotations"][key] = value.to_string().into();
            }
        }
    }

    pub(super) fn to_v2(fields: &mut Map<String, Value>) {
        let metadata = fields.get_mut("metadata").and_then(Value::as_object_mut);
        let mut notes = metadata
            .and_then(|metadata| metadata.get_mut("annotations"))
            .and_then(Value::as_object_mut)
            .map(|annotations| {
                [METRICS, CURRENT, CONDITIONS, BEHAVIOR].map(|key| {
                    let text = annotations.remove(key);
                    text.and_then(|text| serde_json::from_str(text.as_str()?).ok()).unwrap_or(Value::Null)
                })
            })
            .unwrap_or_default();
        let [metrics, current, conditions, behavior] = &mut notes;
        if let Some(spec) = fields.get_mut("spec").and_then(Value::as_object_mut) {
            let cpu = spec.remove("targetCPUUtilizationPercentage").map(|target| {
                let target = json!({"type": "Utilization", "averageUtilization": target});
                json!({"type": "Resource", "resource": {"name": "cpu", "target": target}})
            });
            put_list(spec, "metrics", cpu, metrics.take());
            if !behavior.is_null() {
                spec.insert("behavior".to_owned(), behavior.take());
            }
        }
        if let Some(status) = fields.get_mut("status").and_then(Value::as_object_mut) {
            let cpu = status.remove("currentCPUUtilizationPercentage").map(|now| {
                json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": now}}})
            });
            put_list(status, "currentMetrics", cpu, current.take());
            if !conditions.is_null() {
                status.insert("conditions".to_owned(), conditions.take());
            }
        }
        if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut)
            && metadata.get("annotations").is_some_and(|all| *all == json!({}))
        {
            metadata.remove("annotations");
        }
    }

    /// The CPU's utilization of a list of metrics, and the other metrics.
    fn part_cpu(metrics: &Value, at: &str) -> (Option<Value>, Value) {
        let mut cpu = None;
        let mut rest = Vec::new();
        for metric in metrics.as_array().into_iter().flatten() {
            let is_cpu = metric["type"] == "Resource" && metric["resource"]["name"] == "cpu";
            match metric.pointer(at).filter(|_| is_cpu && cpu.is_none()) {
                Some(target) => cpu = Some(target.clone()),
                None => rest.push(metric.clone()),
            }
        }
        (cpu, Value::Array(rest))
    }

    fn put_list(fields: &mut Map<String, Value>, name: &str, first: Option<Value>, rest: Value) {
        let rest = if let Value::Array(rest) = rest { rest } else { Vec::new() };
        let all: Vec<Value> = first.into_iter().chain(rest).collect();
        if !all.is_empty() {
            fields.insert(name.to_owned(), all.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_events_are_the_same_object() {
        let core = json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": "a"}, "involvedObject": {"name": "p"},
            "message": "m", "reason": "r", "source": {"component": "c"}, "count": 2,
            "firstTimestamp": "2026-01-01T00:00:00Z", "reportingComponent": "x",
        });
        let kind = GroupVersionKind::new("events.k8s.io", "v1", "Event");
        let events = convert(core.clone(), &kind).unwrap();
        assert_eq!(events["regarding"], json!({"name": "p"}));
        assert_eq!((&events["note"], &events["reportingController"]), (&json!("m"), &json!("x")));
        assert_eq!(events["deprecatedCount"], 2);
        assert_eq!(convert(events, &GroupVersionKind::new("", "v1", "Event")).unwrap(), core);
    }

    #[test]
    fn autoscalers_lose_nothing_in_their_first_version() {
        let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target":
            {"type": "Utilization", "averageUtilization": 80}}});
        let memory = json!({"type": "Resource", "resource": {"name": "memory", "target":
            {"type": "AverageValue", "averageValue": "1Gi"}}});
        let second = json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"},
            "spec": {"maxReplicas": 3, "metrics": [cpu, memory], "behavior": {"scaleDown": {}}},
            "status": {"desiredReplicas": 1, "conditions": [{"type": "AbleToScale", "status": "True"}]},
        });
        let first = GroupVersionKind::new("autoscaling", "v1", "HorizontalPodAutoscaler");
        let first = convert(second.clone(), &first).unwrap();
        assert_eq!(first["spec"], json!({"maxReplicas": 3, "targetCPUUtilizationPercentage": 80}));
        let again = GroupVersionKind::new("autoscaling", "v2", "HorizontalPodAutoscaler");
        assert_eq!(convert(first, &again).unwrap(), second);
    }
}
