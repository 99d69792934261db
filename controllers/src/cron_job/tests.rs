//! CronJobs: tables for schedules and decisions, and days of one in a simulated cluster.

use std::time::Duration;

use chrono_tz::Tz;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::schedule::Schedule;
use super::*;
use crate::job::conditions;
use crate::plan::Action;
use crate::simulation::World;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn next(text: &str, zone: &str, after: &str) -> Option<String> {
    let schedule = Schedule::parse(text, zone.parse().unwrap()).unwrap();
    schedule.next(at(after)).map(|time| time.to_string())
}

#[test]
fn when_schedules_are_due() {
    let check = |text: &str, zone: &str, after: &str, expected: &str| {
        assert_eq!(next(text, zone, after).as_deref(), Some(expected), "{text} {zone} {after}");
    };
    check("* * * * *", "UTC", "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z");
    check("* * * * *", "UTC", "2026-01-01T00:00:59Z", "2026-01-01T00:01:00Z");
    check("*/15 * * * *", "UTC", "2026-01-01T00:44:10Z", "2026-01-01T00:45:00Z");
    check("5/20 * * * *", "UTC", "2026-01-01T00:05:00Z", "2026-01-01T00:25:00Z");
    check("30 6-16/4 * * 1-5", "UTC", "2026-01-02T14:30:00Z", "2026-01-05T06:30:00Z");
    check("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z");
    // Either kind of day is enough when both are told, and both are needed otherwise.
    check("0 0 13 * fri", "UTC", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
    check("0 0 13 * *", "UTC", "2026-01-01T00:00:00Z", "2026-01-13T00:00:00Z");
    check("0 0 * FEB Sun", "UTC", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z");
    check("@hourly", "UTC", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z");
    check("@daily", "America/New_York", "2026-01-01T00:00:00Z", "2026-01-01T05:00:00Z");
    check("@weekly", "UTC", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z");
    check("@monthly", "UTC", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z");
    check("@yearly", "UTC", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z");
    check("@every 1h30m", "UTC", "2026-01-01T00:00:05Z", "2026-01-01T01:30:05Z");
    check("TZ=Asia/Kolkata 0 9 * * *", "UTC", "2026-01-01T00:00:00Z", "2026-01-01T03:30:00Z");
    // The hour that is left out, and the one that comes twice.
    check("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-30T00:30:00Z");
    check("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z");
    check("30 2 * * *", "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z");
    assert_eq!(next("0 0 31 2 *", "UTC", "2026-01-01T00:00:00Z"), None);
}

#[test]
fn what_is_no_schedule() {
    for text in [
        "",
        "* * * *",
        "60 * * * *",
        "* * 0 * *",
        "5-3 * * * *",
        "*/0 * * * *",
        "a * * * *",
        "1-2-3 * * * *",
        "@fortnightly",
        "@every x",
        "TZ=Mars/Base * * * * *",
    ] {
        assert!(Schedule::parse(text, Tz::UTC).is_err(), "{text}");
    }
}

proptest! {
    /// The plain definition: the first minute that clocks show and that fits.
    #[test]
    fn the_next_time_is_the_first_that_fits(
        minute in 0u32..60, hour in 0u32..24, start in 1_790_000_000i64..1_830_000_000,
        zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"]),
    ) {
        use chrono::{DateTime, Timelike as _};
        let zone: Tz = zone.parse().unwrap();
        let schedule = Schedule::parse(&format!("{minute} {hour} * * *"), zone).unwrap();
        let found = schedule.next(Timestamp::from_second(start).unwrap()).unwrap().as_second();
        let mut time = start - start % 60 + 60;
        loop {
            let local = DateTime::from_timestamp(time, 0).unwrap().with_timezone(&zone);
            if (local.minute(), local.hour()) == (minute, hour) {
                break;
            }
            time += 60;
        }
        prop_assert_eq!(found, time);
    }
}

fn cron_job(change: Value) -> Value {
    let mut object = json!({
        "metadata": {"namespace": "ns", "name": "c", "creationTimestamp": "2026-01-01T00:00:30Z"},
        "spec": {
            "schedule": "*/10 * * * *", "concurrencyPolicy": "Allow",
            "successfulJobsHistoryLimit": 3, "failedJobsHistoryLimit": 1,
            "jobTemplate": {
                "metadata": {"labels": {"l": "v"}, "annotations": {"a": "b"}},
                "spec": {"template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}},
            },
        },
    });
    barque_api::patch::merge::merge(&mut object, change);
    object
}

fn job(name: &str, condition: Option<&str>) -> Arc<Job> {
    let conditions: Vec<_> =
        condition.map(|type_| json!({"type": type_, "status": "True"})).into_iter().collect();
    let start = format!("2026-01-01T00:00:{:02}Z", name.len());
    serde_json::from_value(json!({
        "metadata": {"namespace": "ns", "name": name, "uid": name, "resourceVersion": "1", "ownerReferences": [
            {"apiVersion": "batch/v1", "kind": "CronJob", "name": "c", "uid": "u", "controller": true},
        ]},
        "status": {"startTime": start, "completionTime": start, "conditions": conditions},
    }))
    .map(Arc::new)
    .unwrap()
}

fn view(change: Value, jobs: Vec<Arc<Job>>) -> View {
    let mut object = cron_job(json!({"metadata": {"uid": "u", "resourceVersion": "1"}}));
    barque_api::patch::merge::merge(&mut object, change);
    View { cron_job: serde_json::from_value(object).map(Arc::new).unwrap(), jobs, taken: HashSet::new() }
}

/// What is made and deleted, and the reasons of what is told before.
fn done(view: &View, now: &str) -> (Vec<String>, Vec<&'static str>) {
    let plan = plan::plan(view, at(now));
    let acts = plan.actions().map(|planned| match &planned.action {
        Action::Create { .. } => format!("+{}", planned.action.name()),
        Action::Delete { .. } => format!("-{}", planned.action.name()),
        Action::Absent { .. } => format!("?{}", planned.action.name()),
        other => panic!("{other:?}"),
    });
    (acts.collect(), plan.notes.iter().map(|told| told.reason).collect())
}

fn active(names: &[&str]) -> Value {
    let list: Vec<_> =
        names.iter().map(|name| json!({"name": name, "namespace": "ns", "uid": name})).collect();
    json!({"status": {"active": list, "lastScheduleTime": "2026-01-01T00:10:00Z"}})
}

fn with(spec: Value, mut status: Value) -> Value {
    status["spec"] = spec;
    status
}

#[test]
fn what_is_done_when() {
    let check = |change: Value, jobs: &[Arc<Job>], now: &str, acts: &[&str], told: &[&str]| {
        let view = view(change.clone(), jobs.to_vec());
        let expected = (acts.iter().map(|act| (*act).to_owned()).collect(), told.to_vec());
        assert_eq!(done(&view, now), expected, "{change} {now}");
    };
    let runs = || vec![job("a", None)];
    check(json!({}), &[], "2026-01-01T00:09:59Z", &[], &[]);
    check(json!({}), &[], "2026-01-01T00:10:00Z", &["+c-29453770"], &[]);
    check(json!({}), &[], "2026-01-01T00:35:00Z", &["+c-29453790"], &[]);
    check(json!({}), &[], "2026-01-03T00:35:00Z", &["+c-29456670"], &["TooManyMissedTimes"]);
    check(json!({"spec": {"suspend": true}}), &[], "2026-01-01T00:10:00Z", &[], &[]);
    check(json!({"spec": {"timeZone": "Mars/Base"}}), &[], "2026-01-01T00:10:00Z", &[], &["UnknownTimeZone"]);
    check(json!({"spec": {"schedule": "x"}}), &[], "2026-01-01T00:10:00Z", &[], &["UnparseableSchedule"]);
    check(
        json!({"spec": {"schedule": "0 0 31 2 *"}}),
        &[],
        "2026-01-01T00:10:00Z",
        &[],
        &["InvalidSchedule"],
    );
    let tz = json!({"spec": {"schedule": "TZ=UTC */10 * * * *"}});
    check(tz, &[], "2026-01-01T00:10:00Z", &["+c-29453770"], &["UnsupportedSchedule"]);
    check(active(&["a"]), &runs(), "2026-01-01T00:15:00Z", &[], &[]);
    check(active(&["a"]), &runs(), "2026-01-01T00:20:00Z", &["+c-29453780"], &[]);
    let forbid = with(json!({"concurrencyPolicy": "Forbid"}), active(&["a"]));
    check(forbid.clone(), &runs(), "2026-01-01T00:20:00Z", &[], &["JobAlreadyActive"]);
    let over = [job("a", Some("Complete"))];
    check(forbid, &over, "2026-01-01T00:20:00Z", &["+c-29453780"], &["SawCompletedJob"]);
    let replace = with(json!({"concurrencyPolicy": "Replace"}), active(&["a"]));
    check(replace, &runs(), "2026-01-01T00:20:00Z", &["-a", "+c-29453780"], &[]);
    let deadline = json!({"spec": {"startingDeadlineSeconds": 60}});
    check(deadline.clone(), &[], "2026-01-01T00:10:30Z", &["+c-29453770"], &[]);
    check(deadline, &[], "2026-01-01T00:12:00Z", &[], &[]);
    check(active(&["gone"]), &[], "2026-01-01T00:15:00Z", &["?gone"], &[]);
    check(active(&[]), &runs(), "2026-01-01T00:15:00Z", &[], &["UnexpectedJob"]);
    // It was made already.
    check(json!({}), &[job("c-29453770", None)], "2026-01-01T00:10:00Z", &[], &[]);
    let kept = json!({"spec": {"successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 0}});
    let old = [job("a", Some("Complete")), job("bb", Some("Complete")), job("ccc", Some("Failed"))];
    check(kept, &old, "2026-01-01T00:09:00Z", &["-a", "-ccc"], &[]);
}

#[test]
fn a_new_job_is_of_the_template_and_tells_its_time() {
    let view = view(json!({"spec": {"timeZone": "Asia/Kolkata", "schedule": "0 9 * * *"}}), Vec::new());
    let plan = plan::plan(&view, at("2026-01-01T03:30:00Z"));
    let Action::Create { object, .. } = &plan.steps[0].actions[0].action else { panic!("{plan:?}") };
    assert_eq!(object["metadata"]["name"], "c-29453970");
    assert_eq!(object["metadata"]["labels"], json!({"l": "v"}));
    let scheduled = "batch.kubernetes.io/cronjob-scheduled-timestamp";
    assert_eq!(object["metadata"]["annotations"], json!({"a": "b", scheduled: "2026-01-01T09:00:00+05:30"}));
    assert_eq!(object["metadata"]["ownerReferences"][0]["uid"], "u");
    assert_eq!(object["spec"]["template"]["spec"]["containers"][0]["image"], "i");
    assert_eq!(plan.requeue_after, Some(Duration::from_millis(86_400_100)));
}

#[test]
fn a_day_of_a_cron_job() {
    let mut world = World::new(5);
    world.run(CronJobs::default);
    world.create::<CronJob>(cron_job(json!({"spec": {"schedule": "@hourly", "timeZone": "UTC"}})));
    world.let_pass(Duration::from_secs(1800));
    for _ in 0..24 {
        world.let_pass(Duration::from_secs(3600));
        for job in world.api.all::<Job>().iter().filter(|job| !conditions::is_finished(job)) {
            let now = world.time.now();
            world.edit::<Job>("ns", &job.key().name, |job| {
                let status = json!({
                    "startTime": now.to_string(), "completionTime": now.to_string(),
                    "conditions": [{"type": "Complete", "status": "True"}],
                });
                job.status = serde_json::from_value(status).unwrap();
            });
        }
    }
    world.let_pass(Duration::from_secs(1));
    let told = world.told.lock().clone();
    let count = |reason: &str| told.iter().filter(|told| told.reason == reason).count();
    assert_eq!(
        (count("SuccessfulCreate"), count("SawCompletedJob"), count("SuccessfulDelete")),
        (24, 24, 21)
    );
    assert_eq!(world.api.all::<Job>().len(), 3);
    let status = world.api.get::<CronJob>("ns", "c").unwrap().status.unwrap();
    assert_eq!(status.active, None);
    assert!(status.last_schedule_time.is_some() && status.last_successful_time.is_some());
}
