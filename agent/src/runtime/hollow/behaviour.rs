//! How a container without a process behaves, as annotations of its pod say. A decision: must never look at what it did.
//!
//! | annotation | what it says | without it |
//! |---|---|---|
//! | `hollow.barque/start-after` | how long it takes from creation to running | at once |
//! | `hollow.barque/run-for` | how long it runs until it ends by itself | for ever; init containers end at once, those of a Job's pod after a second |
//! | `hollow.barque/exit-code` | the code with which it ends by itself | 0 |
//! | `hollow.barque/stop-takes` | how long it takes to end when it is asked to | at once |
//! | `hollow.barque/pull-fails` | the error with which its image cannot be pulled | the image is there |
//! | `hollow.barque/fails-startup` | `true`: startup probes fail | they succeed |
//! | `hollow.barque/ready-after` | for how long readiness probes fail | they succeed |
//! | `hollow.barque/fails-readiness` | `true`: readiness probes fail | they succeed |
//! | `hollow.barque/fails-liveness-after` | after which time liveness probes fail | they succeed |
//!
//! Each can have `.CONTAINER` behind it, for that one alone. Without it, it is for all containers, but how they end by
//! themselves (`run-for`, `exit-code`) for the main ones only. Durations are Go's.

use std::time::Duration;

use barque_api::time::GoDuration;
use k8s_openapi::api::core::v1::Pod;

use crate::pods::spec::{self, Kind};

/// What all names begin with.
const PREFIX: &str = "hollow.barque/";
/// How long containers of jobs run.
const JOB: Duration = Duration::from_secs(1);

/// How one container behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Behaviour {
    pub(super) start_after: Duration,
    /// Nothing is for ever.
    pub(super) run_for: Option<Duration>,
    pub(super) exit_code: i32,
    pub(super) stop_takes: Duration,
    pub(super) pull_fails: Option<String>,
    pub(super) fails_startup: bool,
    pub(super) ready_after: Duration,
    pub(super) fails_readiness: bool,
    pub(super) fails_liveness_after: Option<Duration>,
}

/// An annotation that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("annotation {name}: {value:?} {problem}")]
pub(super) struct Unreadable {
    pub(super) name: String,
    pub(super) value: String,
    problem: &'static str,
}

struct Reader<'a> {
    pod: &'a Pod,
    container: &'a str,
    /// Whether anything is said at all.
    said: bool,
    unreadable: Vec<Unreadable>,
}

/// How a container behaves, and what could not be read, which counts as not said.
pub(super) fn behaviour(pod: &Pod, container: &str) -> (Behaviour, Vec<Unreadable>) {
    let kind = spec::find(pod, container).map_or(Kind::Main, |container| container.kind);
    let mut annotations = pod.metadata.annotations.iter().flatten();
    let said = annotations.any(|(name, _)| name.starts_with(PREFIX));
    let mut reader = Reader { pod, container, said, unreadable: Vec::new() };
    let by_itself = kind == Kind::Main;
    let run_for = reader.duration("run-for", by_itself).or(match kind {
        Kind::Init => Some(Duration::ZERO),
        Kind::Main if belongs_to_a_job(pod) => Some(JOB),
        _ => None,
    });
    let behaviour = Behaviour {
        start_after: reader.duration("start-after", true).unwrap_or_default(),
        run_for,
        exit_code: reader.read("exit-code", by_itself, code, "is no exit code from 0 to 255").unwrap_or(0),
        stop_takes: reader.duration("stop-takes", true).unwrap_or_default(),
        pull_fails: reader.read("pull-fails", true, message, "must say how it fails"),
        fails_startup: reader.switch("fails-startup"),
        ready_after: reader.duration("ready-after", true).unwrap_or_default(),
        fails_readiness: reader.switch("fails-readiness"),
        fails_liveness_after: reader.duration("fails-liveness-after", true),
    };
    (behaviour, reader.unreadable)
}

impl Reader<'_> {
    /// The value for this container, else the one for all, if that counts.
    fn read<T>(
        &mut self,
        key: &str,
        for_all: bool,
        parse: impl Fn(&str) -> Option<T>,
        problem: &'static str,
    ) -> Option<T> {
        let annotations = self.pod.metadata.annotations.as_ref().filter(|_| self.said)?;
        let own = format!("{PREFIX}{key}.{}", self.container);
        let all = format!("{PREFIX}{key}");
        let (name, value) = match annotations.get(&own) {
            Some(value) => (own, value),
            None => (all.clone(), annotations.get(&all).filter(|_| for_all)?),
        };
        let parsed = parse(value.trim());
        if parsed.is_none() {
            self.unreadable.push(Unreadable { name, value: value.clone(), problem });
        }
        parsed
    }

    fn duration(&mut self, key: &str, for_all: bool) -> Option<Duration> {
        let parse = |text: &str| {
            let nanos = GoDuration::parse(text).ok()?.nanos();
            u64::try_from(nanos).ok().map(Duration::from_nanos)
        };
        self.read(key, for_all, parse, "is no duration such as 1m30s")
    }

    fn switch(&mut self, key: &str) -> bool {
        let parse = |text: &str| text.parse().ok();
        self.read(key, true, parse, "is neither true nor false").unwrap_or(false)
    }
}

fn code(text: &str) -> Option<i32> {
    text.parse::<u8>().ok().map(i32::from)
}

fn message(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

fn belongs_to_a_job(pod: &Pod) -> bool {
    let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
    owners.iter().any(|owner| {
        owner.controller == Some(true) && owner.kind == "Job" && owner.api_version.starts_with("batch/")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(annotations: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"annotations": annotations},
            "spec": {"initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}],
                "containers": [{"name": "a"}, {"name": "b"}]},
        }))
        .unwrap()
    }

    #[test]
    fn without_annotations_containers_run_for_ever_but_for_those_that_come_first() {
        let pod = pod(&json!({}));
        let run_for = |name: &str| behaviour(&pod, name).0.run_for;
        assert_eq!([run_for("a"), run_for("s"), run_for("i")], [None, None, Some(Duration::ZERO)]);
    }

    #[test]
    fn containers_of_a_job_end_well_after_a_second() {
        let mut pod = pod(&json!({}));
        pod.metadata.owner_references = serde_json::from_value(json!([
            {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "u", "controller": true}]))
        .unwrap();
        let (behaviour, _) = behaviour(&pod, "a");
        assert_eq!((behaviour.run_for, behaviour.exit_code), (Some(JOB), 0));
    }

    #[test]
    fn what_is_said_of_one_container_goes_before_what_is_said_of_all() {
        let pod = pod(&json!({
            "hollow.barque/run-for": "1m30s", "hollow.barque/run-for.b": "5s", "hollow.barque/exit-code": "3",
            "hollow.barque/run-for.i": "2s", "hollow.barque/stop-takes": "7s", "hollow.barque/pull-fails.b": "no",
        }));
        let of = |name: &str| {
            let (it, unreadable) = behaviour(&pod, name);
            assert_eq!(unreadable, []);
            (
                it.run_for.map(|run| run.as_secs()),
                it.exit_code,
                it.stop_takes.as_secs(),
                it.pull_fails.is_some(),
            )
        };
        assert_eq!(of("a"), (Some(90), 3, 7, false));
        assert_eq!(of("b"), (Some(5), 3, 7, true));
        assert_eq!(of("i"), (Some(2), 0, 7, false));
        assert_eq!(of("s"), (None, 0, 7, false));
    }

    #[test]
    fn what_cannot_be_read_is_named_and_not_said() {
        let pod = pod(&json!({
            "hollow.barque/run-for": "soon", "hollow.barque/exit-code": "256", "hollow.barque/start-after": "-1s",
            "hollow.barque/fails-readiness": "yes", "hollow.barque/pull-fails": "",
        }));
        let (read, unreadable) = behaviour(&pod, "a");
        assert_eq!(read, behaviour(&self::pod(&json!({})), "a").0);
        let told: Vec<_> = unreadable.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "annotation hollow.barque/run-for: \"soon\" is no duration such as 1m30s",
                "annotation hollow.barque/start-after: \"-1s\" is no duration such as 1m30s",
                "annotation hollow.barque/exit-code: \"256\" is no exit code from 0 to 255",
                "annotation hollow.barque/pull-fails: \"\" must say how it fails",
                "annotation hollow.barque/fails-readiness: \"yes\" is neither true nor false",
            ]
        );
    }
}
