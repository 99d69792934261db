//! When each pod was there, had a node, ran and was ready, as a watch told it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::Deserialize;

/// What becomes of a pod, in this order.
pub(crate) const STAGES: [&str; 4] = ["created", "bound", "running", "ready"];

/// An event of a watch of pods, as far as it is looked at.
#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    object: Pod,
}

#[derive(Deserialize)]
struct Pod {
    metadata: Metadata,
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    node_name: Option<String>,
}

#[derive(Deserialize, Default)]
struct Status {
    phase: Option<String>,
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

impl Pod {
    fn stages(&self) -> [bool; STAGES.len()] {
        let is_ready = |condition: &Condition| condition.kind == "Ready" && condition.status == "True";
        [
            true,
            self.spec.node_name.is_some(),
            self.status.phase.as_deref() == Some("Running"),
            self.status.conditions.iter().any(is_ready),
        ]
    }
}

/// All pods, with how long after the beginning they came to each stage.
pub(crate) struct Timeline {
    began: Instant,
    pods: HashMap<String, [Option<Duration>; STAGES.len()]>,
    reached: [usize; STAGES.len()],
    gone: usize,
}

impl Timeline {
    /// Begins now.
    pub(crate) fn begin() -> Self {
        Self { began: Instant::now(), pods: HashMap::new(), reached: [0; STAGES.len()], gone: 0 }
    }

    /// Since the beginning.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Takes an event in.
    pub(crate) fn take(&mut self, line: &str) {
        let event: Event = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        if event.kind == "DELETED" {
            self.gone += 1;
            return;
        }
        let stages = event.object.stages();
        let moments = self.pods.entry(event.object.metadata.name).or_default();
        for ((moment, reached), is) in moments.iter_mut().zip(&mut self.reached).zip(stages) {
            if is && moment.is_none() {
                *moment = Some(self.began.elapsed());
                *reached += 1;
            }
        }
    }

    /// How many pods have come to the last stage.
    pub(crate) fn ready(&self) -> usize {
        self.reached[STAGES.len() - 1]
    }

    /// How many are there no more.
    pub(crate) fn gone(&self) -> usize {
        self.gone
    }

    /// When the first and the last pod came to a stage, in seconds.
    pub(crate) fn bounds(&self, stage: usize) -> (f64, f64) {
        let moments = || self.pods.values().filter_map(|moments| moments[stage]);
        (seconds(moments().min()), seconds(moments().max()))
    }

    /// How long pods took from one stage to a later one, in seconds: half of them, and 99 of 100.
    pub(crate) fn between(&self, from: usize, to: usize) -> (f64, f64) {
        let took = |moments: &[Option<Duration>; STAGES.len()]| moments[to]?.checked_sub(moments[from]?);
        let mut times: Vec<_> = self.pods.values().filter_map(took).collect();
        times.sort();
        let at =
            |share: f64| seconds(times.get((times.len().saturating_sub(1) as f64 * share) as usize).copied());
        (at(0.5), at(0.99))
    }
}

fn seconds(time: Option<Duration>) -> f64 {
    time.unwrap_or_default().as_secs_f64()
}
