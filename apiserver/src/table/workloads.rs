//! Cells of what runs: pods and everything that makes them.

use serde_json::{Value, json};

use super::age::human_duration;
use super::text::{
    Now, at, condition, containers, count, cut, has_condition, is_true, items, labels, number_or_text,
    selector, text, text_or, words,
};

pub(super) fn cells(group: &str, kind: &str, object: &Value, now: Now) -> Option<Vec<Value>> {
    let name = || text(object, "/metadata/name");
    let age = || now.since(object, "/metadata/creationTimestamp");
    let of_template = || containers(object, "/spec/template/spec/containers");
    let own_selector = || selector(object, "/spec/selector");
    Some(match (group, kind) {
        ("", "Pod") => pod(object, now),
        ("", "PodTemplate") => {
            let [names, images] = containers(object, "/template/spec/containers");
            vec![name(), names, images, labels(object, "/template/metadata/labels")]
        }
        ("", "ReplicationController") | ("apps", "ReplicaSet") => {
            let [names, images] = of_template();
            // The older of the two selects by labels alone.
            let selects = if group.is_empty() { labels(object, "/spec/selector") } else { own_selector() };
            let number = |pointer: &str| count(object, pointer).into();
            let (desired, current) = (number("/spec/replicas"), number("/status/replicas"));
            vec![name(), desired, current, number("/status/readyReplicas"), age(), names, images, selects]
        }
        ("apps", "Deployment") => {
            let [names, images] = of_template();
            let number = |pointer: &str| count(object, pointer).into();
            let (updated, available) =
                (number("/status/updatedReplicas"), number("/status/availableReplicas"));
            vec![name(), ready_of_desired(object), updated, available, age(), names, images, own_selector()]
        }
        ("apps", "StatefulSet") => {
            let [names, images] = of_template();
            vec![name(), ready_of_desired(object), age(), names, images]
        }
        ("apps", "DaemonSet") => {
            let [names, images] = of_template();
            let mut cells = vec![name()];
            let numbers = [
                "desiredNumberScheduled",
                "currentNumberScheduled",
                "numberReady",
                "updatedNumberScheduled",
                "numberAvailable",
            ];
            cells.extend(numbers.map(|field| count(object, &format!("/status/{field}")).into()));
            cells.extend([
                labels(object, "/spec/template/spec/nodeSelector"),
                age(),
                names,
                images,
                own_selector(),
            ]);
            cells
        }
        ("apps", "ControllerRevision") => {
            let owners = items(object, "/metadata/ownerReferences");
            let controller = owners.iter().find(|owner| is_true(owner, "/controller"));
            let controller = controller.map_or_else(
                || "<none>".to_owned(),
                |owner| format!("{}/{}", group_kind(owner), words(owner, "/name")),
            );
            vec![name(), controller.into(), count(object, "/revision").into(), age()]
        }
        ("batch", "Job") => {
            let [names, images] = of_template();
            let (status, completions) = (job_status(object).into(), completions(object).into());
            vec![name(), status, completions, job_duration(object, now), age(), names, images, own_selector()]
        }
        ("batch", "CronJob") => {
            let [names, images] = containers(object, "/spec/jobTemplate/spec/template/spec/containers");
            let last = match at(object, "/status/lastScheduleTime") {
                Value::Null => "<none>".into(),
                _ => now.since(object, "/status/lastScheduleTime"),
            };
            vec![
                name(),
                text(object, "/spec/schedule"),
                text_or(object, "/spec/timeZone", "<none>"),
                is_true(object, "/spec/suspend").into(),
                items(object, "/status/active").len().into(),
                last,
                age(),
                names,
                images,
                selector(object, "/spec/jobTemplate/spec/selector"),
            ]
        }
        ("autoscaling", "HorizontalPodAutoscaler") => {
            let target = |field: &str| words(object, &format!("/spec/scaleTargetRef/{field}"));
            let least = match at(object, "/spec/minReplicas") {
                Value::Null => "<unset>".to_owned(),
                other => other.to_string(),
            };
            vec![
                name(),
                format!("{}/{}", target("kind"), target("name")).into(),
                metrics(object).into(),
                least.into(),
                count(object, "/spec/maxReplicas").into(),
                count(object, "/status/currentReplicas").into(),
                age(),
            ]
        }
        ("policy", "PodDisruptionBudget") => {
            let bound = |field: &str| match at(object, field) {
                Value::Null => "N/A".to_owned(),
                other => number_or_text(other),
            };
            vec![
                name(),
                bound("/spec/minAvailable").into(),
                bound("/spec/maxUnavailable").into(),
                count(object, "/status/disruptionsAllowed").into(),
                age(),
            ]
        }
        _ => return None,
    })
}

fn ready_of_desired(object: &Value) -> Value {
    format!("{}/{}", count(object, "/status/readyReplicas"), count(object, "/spec/replicas")).into()
}

/// `daemonset.apps`, as kubectl names an owner.
fn group_kind(owner: &Value) -> String {
    let kind = words(owner, "/kind").to_lowercase();
    match words(owner, "/apiVersion").split_once('/') {
        Some((group, _)) => format!("{kind}.{group}"),
        None => kind,
    }
}

fn job_status(job: &Value) -> &'static str {
    let deleted = !at(job, "/metadata/deletionTimestamp").is_null();
    let has = |kind: &str| has_condition(job, kind);
    match () {
        () if has("Complete") => "Complete",
        () if has("Failed") => "Failed",
        () if deleted => "Terminating",
        () if has("Suspended") => "Suspended",
        () if has("FailureTarget") => "FailureTarget",
        () if has("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

fn completions(job: &Value) -> String {
    let succeeded = count(job, "/status/succeeded");
    match (at(job, "/spec/completions").as_i64(), count(job, "/spec/parallelism")) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, parallel @ 2..) => format!("{succeeded}/1 of {parallel}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

fn job_duration(job: &Value, now: Now) -> Value {
    let time = |pointer: &str| at(job, pointer).as_str().and_then(Now::of);
    match (time("/status/startTime"), time("/status/completionTime")) {
        (Some(start), end) => human_duration(end.unwrap_or(now).seconds - start.seconds).into(),
        (None, _) => "".into(),
    }
}

fn metrics(autoscaler: &Value) -> String {
    let specs = items(autoscaler, "/spec/metrics");
    if specs.is_empty() {
        return "<none>".to_owned();
    }
    let current = items(autoscaler, "/status/currentMetrics");
    let shown: Vec<String> = specs
        .iter()
        .enumerate()
        .map(|(index, spec)| metric(spec, current.get(index).unwrap_or(&Value::Null)))
        .collect();
    cut(&shown, 2, ", ")
}

fn metric(spec: &Value, current: &Value) -> String {
    let (field, named) = match words(spec, "/type") {
        "External" => ("external", false),
        "Pods" => ("pods", false),
        "Object" => ("object", false),
        "Resource" => ("resource", true),
        "ContainerResource" => ("containerResource", true),
        _ => return "<unknown type>".to_owned(),
    };
    let target = |name: &str| at(spec, &format!("/{field}/target/{name}"));
    let known = |name: &str| match at(current, &format!("/{field}/current/{name}")) {
        Value::Null => "<unknown>".to_owned(),
        other => number_or_text(other),
    };
    let text = match (target("averageValue"), target("averageUtilization"), target("value")) {
        (Value::Null, Value::Null, value) if !named => {
            format!("{}/{}", known("value"), number_or_text(value))
        }
        (Value::Null, Value::Null, _) => "<unknown>/<auto>".to_owned(),
        (Value::Null, wanted, _) => {
            let unit = if known("averageUtilization") == "<unknown>" { "" } else { "%" };
            format!("{}{unit}/{wanted}%", known("averageUtilization"))
        }
        (average, ..) => {
            let unit = if matches!(field, "external" | "object") { " (avg)" } else { "" };
            format!("{}/{}{unit}", known("averageValue"), number_or_text(average))
        }
    };
    if named { format!("{}: {text}", words(spec, &format!("/{field}/name"))) } else { text }
}

/// The condition of a pod's row that clients may hide completed pods by.
pub(super) fn completed(pod: &Value) -> Option<Value> {
    let (reason, message) = match words(pod, "/status/phase") {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!({"type": "Completed", "status": "True", "reason": reason, "message": message}))
}

/// What a pod's containers tell together.
#[derive(Default)]
struct Summary {
    reason: String,
    ready: usize,
    restarts: i64,
    /// When a container last ended, in seconds.
    restarted: Option<i64>,
}

impl Summary {
    fn restarts_of(&mut self, status: &Value) {
        self.restarts += count(status, "/restartCount");
        let ended = at(status, "/lastState/terminated/finishedAt").as_str().and_then(Now::of);
        self.restarted = self.restarted.max(ended.map(|ended| ended.seconds));
    }
}

fn pod(pod: &Value, now: Now) -> Vec<Value> {
    let specs = items(pod, "/spec/initContainers");
    let restartable = |name: &str| {
        specs.iter().any(|spec| words(spec, "/name") == name && words(spec, "/restartPolicy") == "Always")
    };
    let sidecars = specs.iter().filter(|spec| words(spec, "/restartPolicy") == "Always").count();
    let total = items(pod, "/spec/containers").len() + sidecars;
    let summary = summary(pod, specs.len(), restartable);
    let restarts = match summary.restarted {
        Some(then) if summary.restarts > 0 => {
            format!("{} ({} ago)", summary.restarts, human_duration(now.seconds - then))
        }
        _ => summary.restarts.to_string(),
    };
    let gates = items(pod, "/spec/readinessGates");
    let open = gates.iter().filter(|gate| has_condition(pod, words(gate, "/conditionType"))).count();
    vec![
        text(pod, "/metadata/name"),
        format!("{}/{total}", summary.ready).into(),
        summary.reason.into(),
        restarts.into(),
        now.since(pod, "/metadata/creationTimestamp"),
        text_or(
            pod,
            if at(pod, "/status/podIPs/0/ip").is_null() { "/status/podIP" } else { "/status/podIPs/0/ip" },
            "<none>",
        ),
        text_or(pod, "/spec/nodeName", "<none>"),
        text_or(pod, "/status/nominatedNodeName", "<none>"),
        if gates.is_empty() { "<none>".into() } else { format!("{open}/{}", gates.len()).into() },
    ]
}

fn summary(pod: &Value, init_count: usize, restartable: impl Fn(&str) -> bool) -> Summary {
    let phase = words(pod, "/status/phase");
    let own_reason = words(pod, "/status/reason");
    let mut summary = Summary {
        reason: if own_reason.is_empty() { phase } else { own_reason }.into(),
        ..Summary::default()
    };
    if condition(pod, "PodScheduled").is_some_and(|one| words(one, "/reason") == "SchedulingGated") {
        summary.reason = "SchedulingGated".into();
    }
    // Of sidecars restarts count on once the others are initialized; of other init containers no longer.
    let mut sidecars = Summary::default();
    let mut initializing = false;
    for (index, status) in items(pod, "/status/initContainerStatuses").iter().enumerate() {
        summary.restarts_of(status);
        let sidecar = restartable(words(status, "/name"));
        if sidecar {
            sidecars.restarts_of(status);
        }
        if at(status, "/state/terminated/exitCode").as_i64() == Some(0) {
            continue;
        }
        if sidecar && is_true(status, "/started") {
            summary.ready += usize::from(is_true(status, "/ready"));
            continue;
        }
        let waiting = words(status, "/state/waiting/reason");
        summary.reason = match ended(at(status, "/state/terminated")) {
            Some(ended) => format!("Init:{ended}"),
            None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
            None => format!("Init:{index}/{init_count}"),
        };
        initializing = true;
        break;
    }
    if !initializing || has_condition(pod, "Initialized") {
        (summary.restarts, summary.restarted) = (sidecars.restarts, sidecars.restarted);
        let mut running = false;
        for status in items(pod, "/status/containerStatuses").iter().rev() {
            summary.restarts_of(status);
            let waiting = words(status, "/state/waiting/reason");
            if !waiting.is_empty() {
                summary.reason = waiting.to_owned();
            } else if let Some(ended) = ended(at(status, "/state/terminated")) {
                summary.reason = ended;
            } else if is_true(status, "/ready") && !at(status, "/state/running").is_null() {
                running = true;
                summary.ready += 1;
            }
        }
        // Some container has ended well while others go on.
        if summary.reason == "Completed" && running {
            summary.reason = if has_condition(pod, "Ready") { "Running" } else { "NotReady" }.into();
        }
    }
    if !at(pod, "/metadata/deletionTimestamp").is_null() {
        if own_reason == "NodeLost" {
            summary.reason = "Unknown".into();
        } else if !["Succeeded", "Failed"].contains(&phase) {
            summary.reason = "Terminating".into();
        }
    }
    summary
}

/// Why a container ended; nothing when it did not.
fn ended(terminated: &Value) -> Option<String> {
    if terminated.is_null() {
        return None;
    }
    let reason = words(terminated, "/reason");
    Some(match (reason, count(terminated, "/signal")) {
        ("", 0) => format!("ExitCode:{}", count(terminated, "/exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::tests::noon;

    fn pod_cells(status: Value) -> String {
        let pod = json!({
            "metadata": {"name": "a", "creationTimestamp": "2026-01-02T11:00:00Z"},
            "spec": {
                "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}],
                "containers": [{"name": "c"}, {"name": "d"}],
            },
            "status": status,
        });
        let cells = cells("", "Pod", &pod, noon()).unwrap();
        cells[..5].iter().map(|cell| cell.as_str().unwrap()).collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn a_pod_tells_how_far_it_is() {
        let done = json!({"name": "i", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}});
        let sidecar =
            json!({"name": "s", "started": true, "ready": true, "state": {"running": {}}, "restartCount": 1});
        let ready = json!({"name": "c", "ready": true, "state": {"running": {}}});
        let crashed = json!({
            "name": "d", "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"finishedAt": "2026-01-02T11:58:30Z"}},
        });
        let completed = json!({"name": "d", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}});
        let table = [
            (json!({"phase": "Pending"}), "a | 0/3 | Pending | 0 | 60m"),
            (
                json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]}),
                "a | 0/3 | SchedulingGated | 0 | 60m",
            ),
            (
                json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"running": {}}}]}),
                "a | 0/3 | Init:0/2 | 0 | 60m",
            ),
            (
                json!({"phase": "Pending", "initContainerStatuses": [
                    {"name": "i", "restartCount": 2, "state": {"terminated": {"exitCode": 3}}}
                ]}),
                "a | 0/3 | Init:ExitCode:3 | 2 | 60m",
            ),
            (
                json!({"phase": "Running", "initContainerStatuses": [done, sidecar], "containerStatuses": [ready, crashed]}),
                "a | 2/3 | CrashLoopBackOff | 4 (90s ago) | 60m",
            ),
            (
                json!({"phase": "Running", "containerStatuses": [ready, completed]}),
                "a | 1/3 | NotReady | 0 | 60m",
            ),
            (
                json!({"phase": "Running", "containerStatuses": [ready, completed],
                       "conditions": [{"type": "Ready", "status": "True"}]}),
                "a | 1/3 | Running | 0 | 60m",
            ),
            (json!({"phase": "Failed", "reason": "Evicted"}), "a | 0/3 | Evicted | 0 | 60m"),
        ];
        for (status, expected) in table {
            assert_eq!(pod_cells(status), expected);
        }
    }

    #[test]
    fn a_deleted_pod_is_terminating_until_it_has_ended() {
        let pod = |phase: &str| {
            let pod = json!({"metadata": {"deletionTimestamp": "2026-01-02T11:00:00Z"}, "status": {"phase": phase}});
            cells("", "Pod", &pod, noon()).unwrap()[2].clone()
        };
        assert_eq!(pod("Running"), "Terminating");
        assert_eq!(pod("Succeeded"), "Succeeded");
    }

    #[test]
    fn jobs_tell_what_is_done_and_how_long_it_took() {
        let job = json!({
            "metadata": {"name": "a", "creationTimestamp": "2026-01-02T11:00:00Z"},
            "spec": {"completions": 3},
            "status": {"succeeded": 2, "startTime": "2026-01-02T11:30:00Z"},
        });
        let cells = cells("batch", "Job", &job, noon()).unwrap();
        assert_eq!(cells[1..5], [json!("Running"), json!("2/3"), json!("30m"), json!("60m")]);
    }

    #[test]
    fn autoscalers_tell_current_and_wanted_metrics() {
        let scaler = json!({
            "spec": {"metrics": [
                {"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 80}}},
                {"type": "Pods", "pods": {"target": {"averageValue": "10"}}},
                {"type": "External", "external": {"target": {"value": "5"}}},
            ]},
            "status": {"currentMetrics": [{"resource": {"current": {"averageUtilization": 50}}}]},
        });
        assert_eq!(metrics(&scaler), "cpu: 50%/80%, <unknown>/10 + 1 more...");
    }
}
