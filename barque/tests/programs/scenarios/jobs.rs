//! Jobs that finish, fail by their policies and come by the clock while leaders die.

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use super::history::History;
use super::world::World;

/// A Job of pods that run for some time.
fn job(name: &str, spec: &str, annotations: &str) -> String {
    format!(
        "{{apiVersion: batch/v1, kind: Job, metadata: {{name: {name}}}, spec: {{{spec}, template: {{\
           metadata: {{annotations: {{{annotations}}}}}, spec: {{restartPolicy: Never, containers: [{{name: c, image: i}}]}}}}}}}}\n---\n"
    )
}

fn runs_for(time: &str, exit_code: u8) -> String {
    format!("hollow.barque/run-for: {time}, hollow.barque/exit-code: '{exit_code}'")
}

/// The conditions that hold, and why.
fn conditions(job: &Job) -> BTreeSet<(String, String)> {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let holding = conditions.filter(|condition| condition.status == "True");
    holding.map(|it| (it.type_.clone(), it.reason.clone().unwrap_or_default())).collect()
}

fn holds(kind: &'static str, reason: &'static str) -> impl Fn(&Job) -> bool {
    move |job| conditions(job).contains(&(kind.to_owned(), reason.to_owned()))
}

fn counts(job: &Job) -> (i32, i32) {
    let status = job.status.clone().unwrap_or_default();
    (status.succeeded.unwrap_or_default(), status.failed.unwrap_or_default())
}

pub(crate) async fn jobs_count_their_pods_and_fail_as_they_should(world: &mut World, history: &History) {
    let namespace = "jobs";
    world.namespace(namespace).await;
    let all = [
        job("counted", "completions: 12, parallelism: 3", &runs_for("500ms", 0)),
        job("indexed", "completions: 6, parallelism: 3, completionMode: Indexed", &runs_for("500ms", 0)),
        // A code that says that trying again is of no use.
        job(
            "hopeless",
            "backoffLimit: 6, podFailurePolicy: {rules: [{action: FailJob, onExitCodes: {operator: In, values: [42]}}]}",
            &runs_for("200ms", 42),
        ),
        job("unlucky", "backoffLimit: 0", &runs_for("200ms", 1)),
        job(
            "by-index",
            "completions: 3, parallelism: 3, completionMode: Indexed, backoffLimitPerIndex: 0",
            &runs_for("200ms", 1),
        ),
        // The first index is enough.
        job(
            "early",
            "completions: 3, parallelism: 1, completionMode: Indexed, successPolicy: {rules: [{succeededIndexes: '0'}]}",
            &runs_for("200ms", 0),
        ),
        job("late", "activeDeadlineSeconds: 2", &runs_for("1h", 0)),
    ];
    world.apply(namespace, &all.concat());
    world.kill_leaders().await;

    for (name, completions) in [("counted", 12), ("indexed", 6)] {
        let done =
            world.until(namespace, name, "it is complete", holds("Complete", "CompletionsReached")).await;
        assert_eq!(counts(&done), (completions, 0), "{name}");
        let made = history.ever(namespace, "job-name", name).await;
        assert_eq!(
            made.len(),
            usize::try_from(completions).unwrap(),
            "{name} made one pod for each: {made:?}"
        );
    }
    for (name, reason, failed) in [
        ("hopeless", "PodFailurePolicy", 1),
        ("unlucky", "BackoffLimitExceeded", 1),
        ("by-index", "FailedIndexes", 3),
        ("late", "DeadlineExceeded", 1),
    ] {
        let done = world.until(namespace, name, "it has failed", holds("Failed", reason)).await;
        assert_eq!(counts(&done), (0, failed), "{name}");
        let made = history.ever(namespace, "job-name", name).await;
        assert_eq!(made.len(), usize::try_from(failed).unwrap(), "{name} made no more: {made:?}");
    }
    let done = world.until(namespace, "early", "the policy is met", holds("Complete", "SuccessPolicy")).await;
    assert_eq!(done.status.unwrap().completed_indexes.as_deref(), Some("0"));
    // No pod is held by a Job that has ended.
    let released = |pods: &[Pod]| pods.iter().all(|pod| pod.finalizers().is_empty());
    world.all(namespace, "job-name", "the Jobs have let their pods go", released).await;
}

/// The clock's part is long; it runs beside the other scenarios, with all their kills.
///
/// Their pods stay on a node that no scenario drains or takes away: a minute may begin at any moment of any of them.
pub(crate) async fn cron_jobs_begin(world: &World) {
    world.namespace("clock").await;
    let cron = |name: &str, more: &str| {
        format!(
            "{{apiVersion: batch/v1, kind: CronJob, metadata: {{name: {name}}}, spec: {{schedule: '* * * * *', {more}, jobTemplate: \
               {{spec: {{template: {{metadata: {{annotations: {{{}}}}}, spec: {{restartPolicy: Never, \
                 nodeSelector: {{kubernetes.io/hostname: n-0}}, containers: [{{name: c, image: i}}]}}}}}}}}}}}}\n---\n",
            if name == "slow" { runs_for("1h", 0) } else { runs_for("1s", 0) },
        )
    };
    let all = [
        cron("every-minute", "successfulJobsHistoryLimit: 100"),
        cron("slow", "concurrencyPolicy: Forbid"),
        cron("asleep", "suspend: true"),
    ];
    world.apply("clock", &all.concat());
}

/// At least one minute, and each only once, whoever led.
pub(crate) async fn cron_jobs_came_by_the_clock(world: &mut World, history: &History) {
    let namespace = "clock";
    let fired =
        |cron: &CronJob| cron.status.as_ref().is_some_and(|status| status.last_successful_time.is_some());
    world.until(namespace, "every-minute", "a Job of it has finished", fired).await;
    let active = |cron: &CronJob| {
        cron.status
            .as_ref()
            .is_some_and(|status| status.active.as_ref().is_some_and(|active| active.len() == 1))
    };
    world.until(namespace, "slow", "a Job of it runs", active).await;
    world.kill_leaders().await;
    let jobs =
        |name: &'static str| move |jobs: &[Job]| jobs.iter().any(|job| job.name_any().starts_with(name));
    let all = world.all(namespace, "", "there are Jobs", jobs("every-minute-")).await;
    // The name is the minute: no minute came twice, and each had one pod.
    let of = |name: &str| all.iter().filter(|job| job.name_any().starts_with(name)).collect::<Vec<_>>();
    for job in of("every-minute-") {
        let minute: u64 = job.name_any().strip_prefix("every-minute-").unwrap().parse().unwrap();
        let scheduled = &job.annotations()["batch.kubernetes.io/cronjob-scheduled-timestamp"];
        let at: k8s_openapi::jiff::Timestamp = scheduled.parse().unwrap();
        assert_eq!(u64::try_from(at.as_second()).unwrap(), minute * 60, "{scheduled}");
        let pods = history.ever(namespace, "job-name", &job.name_any()).await;
        assert_eq!(pods.len(), 1, "{} ran once: {pods:?}", job.name_any());
    }
    assert_eq!(of("slow-").len(), 1, "the first one runs still");
    assert_eq!(of("asleep-").len(), 0);
    let manual = world.kubectl("kubectl -n clock create job by-hand --from=cronjob/asleep");
    assert!(manual.contains("created"), "{manual}");
    world.until(namespace, "by-hand", "it is complete", holds("Complete", "CompletionsReached")).await;
}
