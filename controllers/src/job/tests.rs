//! Jobs: tables for each decision, and whole lives of Jobs in a simulated cluster.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use parking_lot::Mutex;
use proptest::prelude::*;
use rand::Rng as _;
use serde_json::{Value, json};

use super::*;
use crate::plan::{Action, Order, Propagation};
use crate::pods;
use crate::simulation::{Trouble, World};

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().unwrap()
}

fn job(change: Value) -> Value {
    let mut job = json!({
        "metadata": {"namespace": "ns", "name": "j"},
        "spec": {
            "parallelism": 2, "completions": 3, "backoffLimit": 6,
            "selector": {"matchLabels": {"app": "a"}},
            "template": {
                "metadata": {"labels": {"app": "a"}},
                "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]},
            },
        },
    });
    barque_api::patch::merge::merge(&mut job, change);
    job
}

/// A pod of the Job, with what is different.
fn pod(name: &str, change: Value) -> Arc<Pod> {
    let mut pod = json!({
        "metadata": {
            "namespace": "ns", "name": name, "uid": name, "resourceVersion": "1", "labels": {"app": "a"},
            "creationTimestamp": "2026-01-01T00:00:00Z", "finalizers": [pod::FINALIZER],
            "ownerReferences": [{
                "apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "u", "controller": true,
            }],
        },
        "spec": {"containers": [], "nodeName": "n1"},
        "status": {"phase": "Running"},
    });
    barque_api::patch::merge::merge(&mut pod, change);
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn phase(phase: &str) -> Value {
    json!({"status": {"phase": phase}})
}

fn indexed(index: &str, more: Value) -> Value {
    let mut change = json!({"metadata": {"annotations": {pod::INDEX: index}}});
    barque_api::patch::merge::merge(&mut change, more);
    change
}

fn view(change: Value, pods: Vec<Arc<Pod>>) -> View {
    let mut object = job(json!({"metadata": {"uid": "u", "resourceVersion": "1"}}));
    barque_api::patch::merge::merge(&mut object, change);
    let job: Arc<Job> = serde_json::from_value(object).map(Arc::new).unwrap();
    View::Job(JobView { job, selector: "app=a".parse().unwrap(), pods, lost: Vec::new() })
}

/// Names of pods that are freed and deleted, and how many are made.
fn done(plan: &Plan) -> (Vec<&str>, Vec<&str>, usize) {
    let (mut freed, mut deleted, mut created) = (Vec::new(), Vec::new(), 0);
    for planned in plan.actions() {
        match &planned.action {
            Action::Update { object, patch, .. } => {
                assert_eq!(patch["metadata"]["finalizers"], Value::Null);
                freed.push(object.key.name.as_str());
            }
            Action::Delete { object, .. } => deleted.push(object.key.name.as_str()),
            Action::Create { .. } => created += 1,
            other => panic!("{other:?}"),
        }
    }
    (freed, deleted, created)
}

/// The status that is written when all went well.
fn status(view: &View) -> Value {
    struct Works;
    impl crate::act::Api for Works {
        async fn ask(&self, question: &crate::question::Question) -> crate::question::Answer {
            Err(crate::plan::Failure { verdict: crate::plan::Verdict::Gone, message: question.path.clone() })
        }

        async fn perform(&self, action: &Action) -> Result<crate::plan::Done, crate::plan::Failure> {
            let key = Key::new("ns", action.name());
            Ok(crate::plan::Done { key, uid: String::new(), version: String::new() })
        }
    }
    use futures::FutureExt as _;
    let outcome = crate::act::perform(plan::plan(view, now()), &Works).now_or_never().unwrap();
    let Some(Planned { action: Action::Update { patch, .. }, .. }) = Jobs.status(view, &outcome, now())
    else {
        panic!("the status is written")
    };
    patch["status"].clone()
}

#[test]
fn as_many_pods_run_as_are_wanted_and_still_needed() {
    let runs = |count: usize| (0..count).map(|at| pod(&at.to_string(), json!({}))).collect::<Vec<_>>();
    let check = |spec: Value, status: Value, there, (deleted, created)| {
        let plan = plan::plan(&view(json!({"spec": spec, "status": status}), runs(there)), now());
        let (_, gone, made) = done(&plan);
        assert_eq!((gone.len(), made), (deleted, created), "{spec} {status} {there}");
    };
    check(json!({}), json!({}), 0, (0, 2));
    check(json!({}), json!({}), 2, (0, 0));
    check(json!({"parallelism": 9}), json!({}), 1, (0, 2));
    check(json!({}), json!({"succeeded": 2}), 0, (0, 1));
    check(json!({}), json!({"succeeded": 2}), 2, (1, 0));
    check(json!({"parallelism": 0}), json!({}), 2, (2, 0));
    check(json!({"completions": null}), json!({}), 1, (0, 1));
    check(json!({"completions": null}), json!({"succeeded": 1}), 1, (0, 0));
    check(json!({"suspend": true}), json!({}), 2, (2, 0));
    check(json!({"suspend": true}), json!({}), 0, (0, 0));
    check(json!({"parallelism": 900, "completions": 900}), json!({}), 0, (0, 500));
}

#[test]
fn a_pod_goes_only_when_the_status_tells_of_it() {
    let pods = || vec![pod("good", phase("Succeeded")), pod("bad", phase("Failed")), pod("on", json!({}))];
    let fresh = view(json!({}), pods());
    assert_eq!(done(&plan::plan(&fresh, now())).0, Vec::<&str>::new());
    let uncounted = json!({"succeeded": ["good"], "failed": ["bad"]});
    let written = status(&fresh);
    assert_eq!(written["uncountedTerminatedPods"], uncounted);
    assert_eq!((&written["succeeded"], &written["failed"]), (&Value::Null, &Value::Null));
    let told = view(json!({"status": written}), pods());
    assert_eq!(done(&plan::plan(&told, now())).0, ["good", "bad"]);
    // As both lose the finalizer, both are counted, once.
    let counted = status(&told);
    assert_eq!((&counted["succeeded"], &counted["failed"]), (&json!(1), &json!(1)));
    let gone = json!({"succeeded": null, "failed": null});
    assert_eq!(counted["uncountedTerminatedPods"], gone);
}

#[test]
fn how_a_job_ends() {
    let check = |spec: Value, before: Value, pods: &[Arc<Pod>], expected: Option<(bool, &str)>| {
        let view = view(json!({"spec": spec, "status": before}), pods.to_vec());
        let View::Job(view) = &view else { unreachable!() };
        let ending = ending::of(&account::Account::of(view), now());
        let found = ending.as_ref().map(|ending| (ending.success, ending.reason.as_str()));
        assert_eq!(found, expected, "{spec} {before}");
    };
    let failed = |name| pod(name, phase("Failed"));
    let started = json!({"startTime": "2026-01-01T00:00:00Z"});
    check(json!({}), json!({}), &[], None);
    check(json!({}), json!({"succeeded": 3}), &[], Some((true, "CompletionsReached")));
    check(json!({}), json!({"succeeded": 3}), &[pod("a", json!({}))], None);
    check(json!({"completions": 0}), json!({}), &[], Some((true, "CompletionsReached")));
    check(json!({"completions": null}), json!({"succeeded": 1}), &[], Some((true, "CompletionsReached")));
    check(json!({"backoffLimit": 1}), json!({}), &[failed("a")], None);
    let limit = Some((false, "BackoffLimitExceeded"));
    check(json!({"backoffLimit": 1}), json!({}), &[failed("a"), failed("b")], limit);
    check(json!({"backoffLimit": 1}), json!({"failed": 1}), &[failed("b")], limit);
    check(json!({"backoffLimit": 0}), json!({}), &[failed("b")], limit);
    let on_failure = json!({"backoffLimit": 2, "template": {"spec": {"restartPolicy": "OnFailure"}}});
    let restarted = |count: i32| {
        pod(
            "r",
            json!({"status": {"containerStatuses": [
                {"name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": count},
            ]}}),
        )
    };
    check(on_failure.clone(), json!({}), &[restarted(1)], None);
    check(on_failure, json!({}), &[restarted(2)], limit);
    let deadline = Some((false, "DeadlineExceeded"));
    check(json!({"activeDeadlineSeconds": 3600}), started.clone(), &[], deadline);
    check(json!({"activeDeadlineSeconds": 3601}), started.clone(), &[], None);
    check(json!({"activeDeadlineSeconds": 1, "suspend": true}), started, &[], None);
    let index = json!({"completionMode": "Indexed", "backoffLimitPerIndex": 0, "maxFailedIndexes": 1, "backoffLimit": 99});
    let of = |at: &str| pod(at, indexed(at, phase("Failed")));
    check(index.clone(), json!({}), &[of("0")], None);
    check(index.clone(), json!({}), &[of("0"), of("1")], Some((false, "MaxFailedIndexesExceeded")));
    check(index, json!({"completedIndexes": "1,2"}), &[of("0")], Some((false, "FailedIndexes")));
    let enough = |rule: Value| json!({"completionMode": "Indexed", "successPolicy": {"rules": [rule]}});
    let met = Some((true, "SuccessPolicy"));
    check(enough(json!({"succeededIndexes": "0-1"})), json!({"completedIndexes": "0"}), &[], None);
    check(enough(json!({"succeededIndexes": "0-1"})), json!({"completedIndexes": "0,1"}), &[], met);
    let some = json!({"succeededIndexes": "0-1", "succeededCount": 1});
    check(enough(some), json!({"completedIndexes": "1"}), &[], met);
    check(enough(json!({"succeededCount": 2})), json!({"completedIndexes": "0,2"}), &[], met);
}

#[test]
fn what_follows_from_a_failed_pod() {
    use failure_policy::{Consequence, consequence};
    let failed = |code: i32| {
        pod(
            "p",
            json!({"status": {
                "phase": "Failed",
                "conditions": [{"type": "DisruptionTarget", "status": "True"}],
                "containerStatuses": [{
                    "name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                    "state": {"terminated": {"exitCode": code}},
                }],
            }}),
        )
    };
    let check = |rules: Value, code, expected: Consequence| {
        let policy = serde_json::from_value(json!({"rules": rules})).unwrap();
        assert_eq!(consequence(Some(&policy), &failed(code)), expected, "{rules}");
    };
    let codes = |action: &str, operator: &str| json!({"action": action, "onExitCodes": {"operator": operator, "values": [3, 4]}});
    let gone =
        json!({"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]});
    check(json!([]), 3, Consequence::Count);
    check(json!([codes("FailIndex", "In")]), 3, Consequence::FailIndex);
    check(json!([codes("FailIndex", "In")]), 5, Consequence::Count);
    check(json!([codes("FailIndex", "NotIn")]), 5, Consequence::FailIndex);
    check(json!([codes("FailIndex", "NotIn")]), 0, Consequence::Count);
    check(json!([codes("Count", "In"), gone]), 3, Consequence::Count);
    check(json!([codes("Count", "In"), gone]), 5, Consequence::Ignore);
    let other = json!([{"action": "FailJob", "onExitCodes": {"containerName": "x", "operator": "In", "values": [3]}}]);
    check(other, 3, Consequence::Count);
    let words = "Container c for pod ns/p failed with exit code 4 matching FailJob rule at index 1";
    check(json!([codes("Ignore", "NotIn"), codes("FailJob", "In")]), 4, Consequence::FailJob(words.into()));
    let condition =
        json!([{"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]);
    let words = "Pod ns/p has condition DisruptionTarget matching FailJob rule at index 0";
    check(condition, 4, Consequence::FailJob(words.into()));
}

#[test]
fn an_end_is_announced_then_pods_are_counted_then_it_is_over() {
    let spec = json!({"backoffLimit": 0});
    let pods = vec![pod("bad", phase("Failed")), pod("on", json!({}))];
    let first = view(json!({"spec": spec}), pods);
    assert_eq!(done(&plan::plan(&first, now())).1, ["on"]);
    let written = status(&first);
    assert_eq!(written["conditions"][0]["type"], "FailureTarget");
    assert_eq!(written["conditions"][0]["message"], "Job has reached the specified backoff limit");
    assert_eq!(written["conditions"].as_array().unwrap().len(), 1);
    assert_eq!((&written["active"], &written["terminating"]), (&Value::Null, &json!(1)));
    let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T01:00:30Z"}});
    let second =
        view(json!({"spec": spec, "status": written}), vec![pod("bad", phase("Failed")), pod("on", going)]);
    assert_eq!(done(&plan::plan(&second, now())).0, ["bad"]);
    let told = status(&second);
    assert_eq!(told["uncountedTerminatedPods"]["failed"], json!(["on"]));
    let mut last = written;
    barque_api::patch::merge::merge(
        &mut last,
        json!({"terminating": 0, "failed": 2, "uncountedTerminatedPods": {"failed": null}}),
    );
    let third = view(json!({"spec": spec, "status": last}), Vec::new());
    let conditions = status(&third)["conditions"].clone();
    assert_eq!(conditions[1]["type"], "Failed");
    assert_eq!(conditions[1]["reason"], "BackoffLimitExceeded");
}

#[test]
fn an_indexed_pod_knows_its_index() {
    let view = view(json!({"spec": {"completionMode": "Indexed", "backoffLimitPerIndex": 3}}), Vec::new());
    let plan = plan::plan(&view, now());
    assert_eq!(plan.steps[0].order, Order::SlowStart);
    let Action::Create { object, .. } = &plan.steps[0].actions[1].action else { panic!("{plan:?}") };
    assert_eq!(object["metadata"]["generateName"], "j-1-");
    assert_eq!(object["metadata"]["labels"][pod::INDEX], "1");
    assert_eq!(object["metadata"]["annotations"], json!({pod::INDEX: "1", pod::FAILURES: "0"}));
    assert_eq!(object["metadata"]["finalizers"], json!([pod::FINALIZER]));
    assert_eq!(object["spec"]["hostname"], "j-1");
    let path = "metadata.labels['batch.kubernetes.io/job-completion-index']";
    let env = json!([{"name": "JOB_COMPLETION_INDEX", "valueFrom": {"fieldRef": {"fieldPath": path}}}]);
    assert_eq!(object["spec"]["containers"][0]["env"], env);
}

#[test]
fn of_each_index_one_pod_stays() {
    let pods = ["0", "0", "1", "7", "x"].iter().zip("abcde".chars());
    let pods = pods.map(|(index, name)| pod(&name.to_string(), indexed(index, json!({})))).collect();
    let view = view(json!({"spec": {"completionMode": "Indexed", "parallelism": 3}}), pods);
    let plan = plan::plan(&view, now());
    let (_, mut deleted, created) = done(&plan);
    deleted.sort_unstable();
    assert_eq!(created, 0);
    assert_eq!((deleted.len(), &deleted[1..]), (3, &["d", "e"][..]));
}

#[test]
fn the_next_pod_of_an_index_waits_and_knows_of_the_failures() {
    let failed = |ended: &str| {
        let more = json!({
            "metadata": {"annotations": {pod::FAILURES: "1"}},
            "status": {"phase": "Failed", "containerStatuses": [{
                "name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": 1, "finishedAt": ended}},
            }]},
        });
        vec![pod("a", indexed("0", more))]
    };
    let spec = json!({"spec": {"completionMode": "Indexed", "backoffLimitPerIndex": 3, "completions": 1, "backoffLimit": 99}});
    let waits = view(spec.clone(), failed("2026-01-01T00:59:45Z"));
    let plan = plan::plan(&waits, now());
    assert_eq!((done(&plan), plan.requeue_after), ((vec![], vec![], 0), Some(Duration::from_secs(5))));
    let ready = view(spec, failed("2026-01-01T00:59:40Z"));
    let plan = plan::plan(&ready, now());
    let Action::Create { object, .. } = &plan.steps[0].actions[0].action else { panic!("{plan:?}") };
    assert_eq!(object["metadata"]["annotations"][pod::FAILURES], "2");
    assert_eq!(status(&ready)["uncountedTerminatedPods"], json!({}), "it stays until it has a successor");
}

#[test]
fn a_terminating_pod_is_replaced_as_the_policy_says() {
    let going =
        json!({"metadata": {"deletionTimestamp": "2026-01-01T00:30:00Z", "deletionGracePeriodSeconds": 0}});
    let created = |policy: &str| {
        let view = view(json!({"spec": {"podReplacementPolicy": policy}}), vec![pod("a", going.clone())]);
        (done(&plan::plan(&view, now())).2, status(&view)["uncountedTerminatedPods"]["failed"].clone())
    };
    assert_eq!(created("TerminatingOrFailed"), (2, json!(["a"])));
    assert_eq!(created("Failed"), (1, Value::Null));
}

#[test]
fn suspending_and_resuming_is_told() {
    let suspended = status(&view(json!({"spec": {"suspend": true}}), Vec::new()));
    assert_eq!(suspended["conditions"][0]["reason"], "JobSuspended");
    assert_eq!(suspended["startTime"], Value::Null);
    let resumed = status(&view(json!({"status": suspended}), Vec::new()));
    assert_eq!(resumed["conditions"][0]["reason"], "JobResumed");
    assert_eq!(resumed["conditions"][0]["status"], "False");
    assert_eq!(resumed["startTime"], "2026-01-01T01:00:00Z");
}

#[test]
fn pods_of_a_job_that_is_gone_can_go() {
    let mut world = World::new(3);
    world.run(Jobs::default);
    world.create::<Job>(job(json!({})));
    world.settle();
    assert_eq!(world.api.all::<Pod>().len(), 2);
    world.api.delete::<Job>(&Key::new("ns", "j"), Propagation::Background, None);
    world.settle();
    assert_eq!(world.api.all::<Pod>(), Vec::new());
}

#[test]
fn a_job_that_another_manages_is_left_alone() {
    let mut world = World::new(4);
    world.run(Jobs::default);
    world.create::<Job>(job(json!({"spec": {"managedBy": "example.com/other"}})));
    world.settle();
    assert_eq!(world.api.all::<Pod>().len(), 0);
    assert_eq!(world.api.get::<Job>("ns", "j").unwrap().status, Some(Default::default()));
}

#[derive(Debug, Clone)]
enum Deed {
    Steps(u8),
    Succeed,
    Fail,
    Suspend(bool),
    Parallel(i32),
    Restart,
    Trouble,
    Calm,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        6 => (1u8..60).prop_map(Deed::Steps),
        4 => Just(Deed::Succeed),
        1 => Just(Deed::Fail),
        1 => any::<bool>().prop_map(Deed::Suspend),
        1 => (0i32..5).prop_map(Deed::Parallel),
        1 => Just(Deed::Restart),
        1 => Just(Deed::Trouble),
        1 => Just(Deed::Calm),
    ];
    prop::collection::vec(deed, 1..30)
}

fn end_one(world: &mut World, how: &str) -> bool {
    let mut pods = world.api.all::<Pod>();
    pods.retain(|pod| pods::is_active(pod) && !pods::node(pod).is_empty());
    if pods.is_empty() {
        return false;
    }
    let pod = &pods[world.rng.random_range(0..pods.len())];
    world.edit::<Pod>("ns", &pod.key().name, |pod| {
        pod.status.get_or_insert_default().phase = Some(how.to_owned());
    });
    true
}

/// How pods ended, by their uid, while they were tracked; and with which index.
type Ends = BTreeMap<String, (bool, Option<i32>)>;

fn live(seed: u64, indexed: bool, calm: bool, deeds: &[Deed]) {
    let mut world = World::new(seed);
    world.run(Jobs::default);
    let mode = if indexed { "Indexed" } else { "NonIndexed" };
    world.create::<Job>(job(
        json!({"spec": {"completionMode": mode, "completions": 4, "backoffLimit": 1000}}),
    ));
    let ends: Arc<Mutex<Ends>> = Arc::default();
    let most = Arc::new(Mutex::new(2usize));
    let (seen, bound) = (ends.clone(), most.clone());
    world.always(move |api| {
        let pods = api.all::<Pod>();
        for pod in pods.iter().filter(|pod| pods::is_terminal(pod) && pod::is_tracked(pod)) {
            seen.lock().entry(pod.uid().to_owned()).or_insert((pod::succeeded(pod), pod::index(pod)));
        }
        if calm {
            assert!(pods.iter().filter(|pod| pods::is_active(pod)).count() <= *bound.lock());
        }
        let status = api.get::<Job>("ns", "j").unwrap().status.unwrap_or_default();
        let uncounted = status.uncounted_terminated_pods.unwrap_or_default().succeeded.unwrap_or_default();
        let succeeded = seen.lock().values().filter(|(good, _)| *good).count();
        let told = usize::try_from(status.succeeded.unwrap_or_default()).unwrap() + uncounted.len();
        assert!(told <= succeeded, "{told} are told, {succeeded} succeeded");
    });
    for deed in deeds {
        match deed {
            Deed::Steps(count) => (0..*count).for_each(|_| world.step()),
            Deed::Succeed => {
                end_one(&mut world, "Succeeded");
            }
            Deed::Fail => {
                end_one(&mut world, "Failed");
            }
            Deed::Suspend(suspend) => {
                world.edit::<Job>("ns", "j", |job| job.spec.as_mut().unwrap().suspend = Some(*suspend));
            }
            Deed::Parallel(parallelism) => {
                let mut most = most.lock();
                *most = (*most).max(usize::try_from(*parallelism).unwrap());
                world.edit::<Job>("ns", "j", |job| {
                    job.spec.as_mut().unwrap().parallelism = Some(*parallelism);
                });
            }
            Deed::Restart if !calm => world.restart(),
            Deed::Trouble if !calm => world.api.trouble(Trouble::Percent(30)),
            Deed::Restart | Deed::Trouble => {}
            Deed::Calm => world.api.trouble(Trouble::None),
        }
        world.check();
    }
    world.edit::<Job>("ns", "j", |job| {
        let spec = job.spec.as_mut().unwrap();
        (spec.suspend, spec.parallelism) = (Some(false), Some(2));
    });
    for _ in 0..40 {
        world.settle();
        if !end_one(&mut world, "Succeeded") {
            break;
        }
        world.check();
    }
    let job = world.api.get::<Job>("ns", "j").unwrap();
    assert!(conditions::holding(&job, conditions::COMPLETE).is_some(), "{job:#?}");
    let status = job.status.unwrap();
    let ends = ends.lock();
    let good: Vec<_> = ends.values().filter(|(good, _)| *good).collect();
    let succeeded = usize::try_from(status.succeeded.unwrap()).unwrap();
    if indexed {
        let indexes: HashSet<_> = good.iter().filter_map(|(_, index)| *index).collect();
        assert_eq!((succeeded, indexes.len()), (4, 4));
        assert_eq!(status.completed_indexes.as_deref(), Some("0-3"));
    } else {
        assert_eq!(succeeded, good.len(), "each is counted once");
        assert!(succeeded >= 4);
    }
    assert_eq!((status.active, status.ready, status.terminating), (None, Some(0), Some(0)));
    assert!(status.completion_time.is_some() && status.start_time.is_some());
    assert!(!world.api.all::<Pod>().iter().any(pod::is_tracked), "somebody cannot go");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn jobs_end_whatever_happens_and_count_each_pod_once(
        seed in any::<u64>(), indexed in any::<bool>(), deeds in deeds()
    ) {
        live(seed, indexed, false, &deeds);
    }

    #[test]
    fn with_lagging_watches_never_too_many_pods_run(
        seed in any::<u64>(), indexed in any::<bool>(), deeds in deeds()
    ) {
        live(seed, indexed, true, &deeds);
    }
}
