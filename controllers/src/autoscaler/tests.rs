//! Autoscalers: tables of what is measured and what follows, and properties of limits and rates.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerBehavior};
use k8s_openapi::api::core::v1::Pod;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::behavior::{Behavior, Limits, normalize, normalize_by};
use super::decision::{Ending, decide};
use super::*;
use crate::act::perform;
use crate::plan::{Done, Failure, Verdict};

const NOW: &str = "2026-01-01T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn merged(mut base: Value, change: Value) -> Value {
    barque_api::patch::merge::merge(&mut base, change);
    base
}

fn pod(name: &str, change: Value) -> Arc<Pod> {
    let base = json!({
        "metadata": {"namespace": "ns", "name": name, "uid": name, "labels": {"app": "a"}},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}]},
        "status": {
            "phase": "Running", "startTime": "2026-01-01T00:00:00Z",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:10Z"}],
        },
    });
    Arc::new(serde_json::from_value(merged(base, change)).unwrap())
}

fn pods(count: usize) -> Vec<Arc<Pod>> {
    (0..count).map(|number| pod(&format!("p{number}"), json!({}))).collect()
}

fn cpu(target: i32) -> Value {
    json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": target}}}])
}

fn view(spec: Value, pods: Vec<Arc<Pod>>) -> View {
    let base = json!({
        "metadata": {"namespace": "ns", "name": "h", "uid": "hu", "resourceVersion": "1", "generation": 4},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"},
            "minReplicas": 1, "maxReplicas": 10, "metrics": cpu(50),
        },
    });
    let hpa: HorizontalPodAutoscaler = serde_json::from_value(merged(base, json!({"spec": spec}))).unwrap();
    View {
        hpa: Arc::new(hpa),
        pods,
        answers: Answers::default(),
        memory: Memory::default(),
        others: Vec::new(),
        config: AutoscalingConfig::default(),
    }
}

/// Answers all that is asked; what nobody knows is not found.
fn answer(view: &mut View, answers: &[(&str, Value)]) -> Vec<String> {
    let mut asked = Vec::new();
    loop {
        let questions = decision::questions(view);
        if questions.is_empty() {
            return asked;
        }
        for question in questions {
            let known = answers.iter().find(|(path, _)| question.path.starts_with(path));
            let gone = || Failure { verdict: Verdict::Gone, message: "not found".into() };
            let answer = known.map(|(_, value)| value.clone()).ok_or_else(gone);
            asked.push(question.path.clone());
            view.answers.learn(question, answer);
        }
    }
}

const SCALE: &str = "/apis/apps/v1/namespaces/ns/deployments/d/scale";
const PODS: &str = "/apis/metrics.k8s.io/v1beta1/namespaces/ns/pods";

fn scale(wanted: i32) -> Value {
    json!({"metadata": {"uid": "du", "resourceVersion": "9"}, "spec": {"replicas": wanted},
        "status": {"replicas": wanted, "selector": "app=a"}})
}

/// What pods use, as the metrics server says it.
fn usage(values: &[(&str, &str)]) -> Value {
    let items: Vec<_> = values
        .iter()
        .map(|(name, value)| {
            json!({"metadata": {"name": name}, "timestamp": NOW, "window": "30s",
                "containers": [{"name": "c", "usage": {"cpu": value, "memory": "100Mi"}}]})
        })
        .collect();
    json!({"items": items})
}

fn even(count: usize, value: &str) -> Value {
    let names: Vec<_> = (0..count).map(|number| format!("p{number}")).collect();
    usage(&names.iter().map(|name| (name.as_str(), value)).collect::<Vec<_>>())
}

fn recommended(view: &View) -> i32 {
    let decision = decide(view, now());
    assert!(matches!(decision.ending, Ending::Calculated { .. }), "{decision:?}");
    decision.rescale.as_ref().map_or(-1, |rescale| rescale.to)
}

#[test]
fn replicas_follow_use() {
    let check = |wanted: i32, used: &str, expected: i32| {
        let mut view = view(json!({}), pods(wanted as usize));
        let read = even(wanted as usize, used);
        let asked = answer(&mut view, &[(SCALE, scale(wanted)), (PODS, read)]);
        assert_eq!(asked, [SCALE.to_owned(), format!("{PODS}?labelSelector=app%3Da")]);
        // It has recommended nothing higher lately.
        assert_eq!(recommended(&view), expected, "{wanted} pods use {used}");
    };
    check(3, "500m", -1);
    check(3, "540m", -1);
    check(3, "460m", -1);
    check(3, "600m", 4);
    check(3, "1000m", 6);
    // At most the double at once, and at most what is allowed at all.
    check(3, "5000m", 6);
    check(8, "1000m", 10);
}

#[test]
fn pods_that_are_not_measured_hold_back_in_both_directions() {
    let check = |pods: Vec<Arc<Pod>>, read: Value, expected: i32| {
        let wanted = pods.len() as i32;
        let mut view = view(json!({"behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}}}), pods);
        answer(&mut view, &[(SCALE, scale(wanted)), (PODS, read)]);
        assert_eq!(recommended(&view), expected);
    };
    // Up: the missing one is taken to use nothing, and then the target is met.
    check(pods(3), usage(&[("p0", "700m"), ("p1", "700m")]), -1);
    check(pods(3), usage(&[("p0", "1"), ("p1", "1")]), 4);
    // Down: it is taken to use all that it requests.
    check(pods(3), usage(&[("p0", "100m"), ("p1", "100m")]), -1);
    check(pods(4), usage(&[("p0", "50m"), ("p1", "50m"), ("p2", "50m")]), 3);
    // One that is starting counts as one that uses nothing when more are needed.
    let starting = || {
        let status = json!({"status": {"startTime": "2026-01-01T11:59:00Z", "conditions": [
            {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T11:59:00Z"}]}});
        vec![pod("p0", json!({})), pod("p1", json!({})), pod("p2", status)]
    };
    check(starting(), usage(&[("p0", "1"), ("p1", "1"), ("p2", "9")]), 4);
    check(starting(), usage(&[("p0", "700m"), ("p1", "700m"), ("p2", "9")]), -1);
    // Those that end do not count at all.
    let ending = vec![pod("p0", json!({})), pod("p1", json!({"metadata": {"deletionTimestamp": NOW}}))];
    check(ending, usage(&[("p0", "1"), ("p1", "0")]), -1);
}

#[test]
fn every_source_is_asked_where_it_is() {
    let check = |metrics: Value, answers: &[(&str, Value)], path: &str, expected: i32, name: &str| {
        let mut view = view(json!({"metrics": metrics}), pods(2));
        let mut all = vec![(SCALE, scale(2))];
        all.extend(answers.iter().map(|(path, value)| (*path, value.clone())));
        let asked = answer(&mut view, &all);
        assert_eq!(asked.last().unwrap(), path);
        assert_eq!(recommended(&view), expected, "{:?}", decide(&view, now()));
        let reason = decide(&view, now()).rescale.unwrap().reason;
        assert_eq!(reason, format!("{name} above target"));
    };
    let versions = json!({"versions": [{"version": "v1beta1"}, {"version": "v1beta2"}]});
    let custom = "/apis/custom.metrics.k8s.io";
    let item = |name: &str, value: &str| json!({"describedObject": {"name": name}, "timestamp": NOW, "value": value});
    let list = json!({"items": [item("p0", "30"), item("p1", "30")]});
    let per_pod = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/ns/pods/*/packets";
    let metric = json!({"name": "packets", "selector": {"matchLabels": {"v": "g"}}});
    check(
        json!([{"type": "Pods", "pods": {"metric": metric, "target": {"type": "AverageValue", "averageValue": "20"}}}]),
        &[(per_pod, list), (custom, versions.clone())],
        &format!("{per_pod}?labelSelector=app%3Da&metricLabelSelector=v%3Dg"),
        3,
        "pods metric packets",
    );
    let of = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "main"});
    let object = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/ns/ingresses.networking.k8s.io/main/hits";
    let kinds = json!({"resources": [{"name": "ingresses", "kind": "Ingress"}]});
    let known = [
        (object, json!({"items": [item("main", "20")]})),
        (custom, versions),
        ("/apis/networking.k8s.io/v1", kinds),
    ];
    let source = |target: Value| json!([{"type": "Object", "object": {"describedObject": of, "metric": {"name": "hits"}, "target": target}}]);
    check(source(json!({"type": "Value", "value": "10"})), &known, object, 4, "Ingress metric hits");
    let average = source(json!({"type": "AverageValue", "averageValue": "5"}));
    check(average, &known, object, 4, "external metric hits(nil)");
    let outside = "/apis/external.metrics.k8s.io/v1beta1/namespaces/ns/queue";
    let known = [(outside, json!({"items": [{"value": "15"}, {"value": "5"}]}))];
    let source = |target: Value| json!([{"type": "External", "external": {"metric": {"name": "queue"}, "target": target}}]);
    check(source(json!({"type": "Value", "value": "10"})), &known, outside, 4, "external metric queue(nil)");
    check(
        source(json!({"type": "AverageValue", "averageValue": "7"})),
        &known,
        outside,
        3,
        "external metric queue(nil)",
    );
    let target = json!({"type": "AverageValue", "averageValue": "50Mi"});
    check(
        json!([{"type": "ContainerResource", "containerResource": {"name": "memory", "container": "c", "target": target}}]),
        &[(PODS, even(2, "1"))],
        &format!("{PODS}?labelSelector=app%3Da"),
        4,
        "memory resource",
    );
}

/// Type, status, reason and message of a condition.
type Row = (String, String, String, String);

/// The conditions that follow, and the events.
fn told(view: &View, scaled: Result<(), &str>) -> (Vec<Row>, Vec<&'static str>) {
    use futures::FutureExt as _;
    struct Target(Result<(), String>);
    impl crate::act::Api for Target {
        async fn perform(&self, _: &Action) -> Result<Done, Failure> {
            let done = Done { key: Key::new("ns", "d"), uid: "du".into(), version: "10".into() };
            self.0.clone().map(|()| done).map_err(|message| Failure { verdict: Verdict::Refused, message })
        }
        async fn ask(&self, _: &Question) -> Answer {
            Err(Failure { verdict: Verdict::Gone, message: String::new() })
        }
    }
    let controller = Autoscaler::new(AutoscalingConfig::default());
    let plan = controller.plan(view, now());
    assert_eq!(plan.requeue_after, Some(Duration::from_secs(15)));
    let events = plan.notes.iter().map(|told| told.reason).collect();
    let outcome = perform(plan, &Target(scaled.map_err(str::to_owned))).now_or_never().unwrap();
    let status = status::status(view, &decide(view, now()), &outcome, now());
    let conditions = status.conditions.unwrap().into_iter();
    (conditions.map(|it| (it.type_, it.status, it.reason.unwrap(), it.message.unwrap())).collect(), events)
}

fn row(type_: &str, status: &str, reason: &str, message: &str) -> Row {
    (type_.into(), status.into(), reason.into(), message.into())
}

#[test]
fn conditions_and_events_are_those_of_upstream() {
    let mut ready = view(json!({}), pods(3));
    answer(&mut ready, &[(SCALE, scale(3)), (PODS, even(3, "1"))]);
    let (conditions, events) = told(&ready, Ok(()));
    let from = "the HPA was able to successfully calculate a replica count from cpu resource utilization (percentage of request)";
    let done = "the HPA controller was able to update the target scale to 6";
    let range = "the desired count is within the acceptable range";
    let expected = [
        row("AbleToScale", "True", "SucceededRescale", done),
        row("ScalingActive", "True", "ValidMetricFound", from),
        row("ScalingLimited", "False", "DesiredWithinRange", range),
        row(
            "ScaledToZero",
            "False",
            "NotScaledToZero",
            "the HPA controller did not scale the workload to zero",
        ),
    ];
    assert_eq!(conditions, expected);
    assert!(events.is_empty());
    let (conditions, _) = told(&ready, Err("no"));
    let failed = "the HPA controller was unable to update the target scale: no";
    assert_eq!(conditions[0], row("AbleToScale", "False", "FailedUpdateScale", failed));

    let mut lost = view(json!({}), pods(3));
    answer(&mut lost, &[]);
    let (conditions, events) = told(&lost, Ok(()));
    let failed = "the HPA controller was unable to get the target's current scale: not found";
    assert_eq!(conditions, [row("AbleToScale", "False", "FailedGetScale", failed)]);
    assert_eq!(events, ["FailedGetScale"]);

    let mut blind = view(json!({}), pods(3));
    answer(&mut blind, &[(SCALE, scale(3))]);
    let (conditions, events) = told(&blind, Ok(()));
    let why = "the HPA was unable to compute the replica count: failed to get cpu utilization: unable to get metrics for \
               resource cpu: unable to fetch metrics from resource metrics API: not found";
    assert_eq!(conditions[1], row("ScalingActive", "False", "FailedGetResourceMetric", why));
    assert_eq!(events, ["FailedGetResourceMetric", "FailedComputeMetricsReplicas"]);

    let mut off = view(json!({}), pods(0));
    answer(&mut off, &[(SCALE, scale(0))]);
    let (conditions, _) = told(&off, Ok(()));
    let disabled = "scaling is disabled since the replica count of the target is zero";
    assert_eq!(conditions[1], row("ScalingActive", "False", "ScalingDisabled", disabled));

    let mut shared = view(json!({}), pods(3));
    shared.others = vec![(Key::new("ns", "other"), "app in (a)".into())];
    answer(&mut shared, &[(SCALE, scale(3)), (PODS, even(3, "1"))]);
    let (conditions, events) = told(&shared, Ok(()));
    let why = "pods by selector app=a are controlled by more than one HPA (e.g. [{h ns} {other ns}])";
    assert_eq!(conditions[1], row("ScalingActive", "False", "AmbiguousSelector", why));
    assert_eq!(events, ["AmbiguousSelector", "FailedComputeMetricsReplicas"]);
}

#[test]
fn limits_alone_say_what_is_done_outside_of_them() {
    for (wanted, to, reason) in [
        (12, 10, "Current number of replicas above Spec.MaxReplicas"),
        (2, 3, "Current number of replicas below Spec.MinReplicas"),
    ] {
        let mut view = view(json!({"minReplicas": 3}), pods(2));
        assert_eq!(answer(&mut view, &[(SCALE, scale(wanted))]), [SCALE], "nothing is measured");
        let rescale = decide(&view, now()).rescale.unwrap();
        assert_eq!((rescale.to, rescale.reason.as_str()), (to, reason));
    }
}

#[test]
fn one_metric_that_fails_stops_scaling_down_but_not_up() {
    let metrics = json!([cpu(50)[0], {"type": "External", "external": {"metric": {"name": "q"}, "target": {"type": "Value", "value": "1"}}}]);
    for (used, expected) in [("1", Some(6)), ("100m", None)] {
        let mut view = view(
            json!({"metrics": metrics, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}}}),
            pods(3),
        );
        answer(&mut view, &[(SCALE, scale(3)), (PODS, even(3, used))]);
        let decision = decide(&view, now());
        assert_eq!(decision.rescale.map(|rescale| rescale.to), expected);
        assert_eq!(matches!(decision.ending, Ending::Failed { .. }), expected.is_none());
    }
}

#[test]
fn tolerance_can_be_the_autoscalers_own() {
    for (tolerance, expected) in [("0.5", -1), ("0", 4)] {
        let mut view = view(json!({"behavior": {"scaleUp": {"tolerance": tolerance}}}), pods(3));
        answer(&mut view, &[(SCALE, scale(3)), (PODS, even(3, "530m"))]);
        assert_eq!(recommended(&view), expected);
    }
}

#[test]
fn what_was_recommended_lately_holds_back() {
    let ago = |seconds: u64| now() - Duration::from_secs(seconds);
    let limits = Limits { least: 1, most: 100 };
    let memory = |recommendations: &[(u64, i32)]| Memory {
        recommendations: recommendations
            .iter()
            .map(|(seconds, replicas)| (ago(*seconds), *replicas))
            .collect(),
        ..Memory::default()
    };
    let window = Duration::from_secs(300);
    let check = |memory: &Memory, desired: i32, expected: (i32, &str)| {
        let got = normalize(memory, window, limits, 10, desired, now());
        assert_eq!((got.replicas, got.able.1), expected);
    };
    check(&memory(&[(100, 8)]), 5, (8, "ScaleDownStabilized"));
    check(&memory(&[(301, 8)]), 5, (5, "ReadyForNewScale"));
    check(&memory(&[(100, 8)]), 12, (12, "ReadyForNewScale"));
    let behavior = json!({"scaleUp": {"stabilizationWindowSeconds": 60}});
    let behavior: HorizontalPodAutoscalerBehavior = serde_json::from_value(behavior).unwrap();
    let behavior = Behavior::of(&behavior, window);
    let check = |memory: &Memory, desired: i32, expected: (i32, &str)| {
        let got = normalize_by(&behavior, memory, limits, 10, desired, now());
        assert_eq!((got.replicas, got.able.1), expected);
    };
    check(&memory(&[(30, 11)]), 15, (11, "ScaleUpStabilized"));
    check(&memory(&[(61, 11)]), 15, (15, "ReadyForNewScale"));
    check(&memory(&[(200, 9)]), 5, (9, "ScaleDownStabilized"));
}

#[test]
fn policies_bound_how_fast_it_goes() {
    let check = |behavior: Value, memory: Memory, desired: i32, expected: (i32, &str)| {
        let behavior: HorizontalPodAutoscalerBehavior = serde_json::from_value(behavior).unwrap();
        let behavior = Behavior::of(&behavior, Duration::ZERO);
        let got = normalize_by(&behavior, &memory, Limits { least: 1, most: 50 }, 10, desired, now());
        assert_eq!((got.replicas, got.limited.1), expected);
    };
    let policy = |kind: &str, value: i32| json!({"type": kind, "value": value, "periodSeconds": 60});
    let up = |select: &str| json!({"scaleUp": {"selectPolicy": select, "policies": [policy("Pods", 3), policy("Percent", 50)]}});
    let none = Memory::default;
    let minute = Memory { ups: vec![(now() - Duration::from_secs(30), 2)], ..Memory::default() };
    check(up("Max"), none(), 40, (15, "ScaleUpLimit"));
    check(up("Min"), none(), 40, (13, "ScaleUpLimit"));
    check(up("Disabled"), none(), 40, (10, "ScaleUpLimit"));
    // Two were added within the minute already: from eight on, three more are eleven, half more are twelve.
    check(up("Max"), minute.clone(), 40, (12, "ScaleUpLimit"));
    check(up("Min"), minute, 40, (11, "ScaleUpLimit"));
    check(json!({}), none(), 40, (20, "ScaleUpLimit"));
    check(json!({}), none(), 15, (15, "DesiredWithinRange"));
    let down = |select: &str| json!({"scaleDown": {"selectPolicy": select, "policies": [policy("Pods", 3), policy("Percent", 50)]}});
    check(down("Max"), none(), 2, (5, "ScaleDownLimit"));
    check(down("Min"), none(), 2, (7, "ScaleDownLimit"));
    check(down("Disabled"), none(), 2, (10, "ScaleDownLimit"));
    check(json!({}), none(), 0, (1, "TooFewReplicas"));
}

/// Policies as users may write them.
fn rules() -> impl Strategy<Value = Value> {
    let policy = (prop::sample::select(vec!["Pods", "Percent"]), 1i32..200, 1i32..300)
        .prop_map(|(kind, value, period)| json!({"type": kind, "value": value, "periodSeconds": period}));
    (prop::collection::vec(policy, 1..3), prop::sample::select(vec!["Max", "Min", "Disabled"]), 0i32..400).prop_map(
        |(policies, select, window)| {
            json!({"policies": policies, "selectPolicy": select, "stabilizationWindowSeconds": window})
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn never_outside_limits_and_never_faster_than_policies(
        (least, most) in (0i32..20).prop_flat_map(|least| (Just(least), least.max(1)..60)),
        start in 0i32..60,
        (up, down) in (rules(), rules()),
        with_behavior: bool,
        steps in prop::collection::vec((0i32..100, 1u64..120), 1..40),
    ) {
        let said = json!({"scaleUp": up, "scaleDown": down});
        let said: HorizontalPodAutoscalerBehavior = serde_json::from_value(said).unwrap();
        let behavior = Behavior::of(&said, Duration::from_secs(300));
        let limits = Limits { least, most };
        let mut memory = Memory::default();
        let mut current = start.clamp(least, most);
        let mut time = now();
        let mut history = vec![(time, current)];
        for (desired, seconds) in steps {
            time += Duration::from_secs(seconds);
            let got = if with_behavior {
                normalize_by(&behavior, &memory, limits, current, desired, time)
            } else {
                normalize(&memory, Duration::from_secs(300), limits, current, desired, time)
            };
            prop_assert!((least..=most).contains(&got.replicas), "{} is outside {least} to {most}", got.replicas);
            memory.recommend(desired, time, Duration::from_secs(400));
            // It goes no further than what is wanted now or was lately.
            prop_assert!(got.replicas <= current.max(desired).max(least) || !with_behavior);
            if with_behavior && got.replicas != current {
                let (side, is_up) = if got.replicas > current { (&behavior.up, true) } else { (&behavior.down, false) };
                prop_assert!(side.select != behavior::Select::Disabled);
                // Within each policy's period no more is done than it allows, from what there was at its beginning.
                let allowed = side.policies.iter().any(|policy| {
                    let since = time - Duration::from_secs(policy.period_seconds.try_into().unwrap());
                    let base = f64::from(history.iter().rev().find(|(at, _)| *at <= since).unwrap_or(&history[0]).1);
                    let value = f64::from(policy.value);
                    let bound = match (policy.type_.as_str(), is_up) {
                        ("Pods", true) => base + value,
                        ("Pods", false) => base - value,
                        (_, true) => (base * (1.0 + value / 100.0)).ceil(),
                        (_, false) => (base * (1.0 - value / 100.0)).trunc(),
                    };
                    if is_up { f64::from(got.replicas) <= bound } else { f64::from(got.replicas) >= bound }
                });
                prop_assert!(allowed, "{current} to {} at {time}: {history:?}", got.replicas);
                memory.scaled(current, got.replicas, &behavior, time);
                current = got.replicas;
                history.push((time, current));
            } else if !with_behavior {
                prop_assert!(got.replicas <= current.saturating_mul(2).max(4).max(least));
                current = got.replicas;
            }
        }
    }
}
