//! `apiserver_flowcontrol_*`: who waits for seats and who has them. Series of schemas and levels that are gone go too. Must
//! never decide who is served.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::register::Register;
use crate::flow_control::allotment::Allotment;

const SECONDS: [f64; 14] = [0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0];
/// As in the scheduler.
const REASONS: [&str; 4] = ["concurrency-limit", "queue-full", "time-out", "cancelled"];

/// See the module's description.
#[derive(Debug)]
pub struct FlowMetrics {
    waiting: IntGaugeVec,
    executing: IntGaugeVec,
    executing_seats: IntGaugeVec,
    dispatched: IntCounterVec,
    rejected: IntCounterVec,
    wait_seconds: HistogramVec,
    execution_seconds: HistogramVec,
    nominal_seats: IntGaugeVec,
    lower_seats: IntGaugeVec,
    upper_seats: IntGaugeVec,
    pairs: RwLock<HashMap<Arc<str>, Arc<SchemaMetrics>>>,
    levels: Mutex<HashSet<Arc<str>>>,
}

/// The series of one schema in its level. Whoever has them may move them when the schema is gone already.
#[derive(Debug)]
pub struct SchemaMetrics {
    level: Arc<str>,
    waiting: IntGauge,
    executing: IntGauge,
    executing_seats: IntGauge,
    dispatched: IntCounter,
    rejected: [(&'static str, IntCounter); 4],
    waited: Histogram,
    waited_in_vain: Histogram,
    execution_seconds: Histogram,
}

impl FlowMetrics {
    pub(super) fn new(r: &Register<'_>) -> Self {
        let pair = ["priority_level", "flow_schema"];
        let [level, schema] = pair;
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            r.gauges(&format!("apiserver_flowcontrol_{name}"), help, labels)
        };
        Self {
            waiting: gauge("current_inqueue_requests", "Requests that wait for seats.", &pair),
            executing: gauge("current_executing_requests", "Requests that have seats.", &pair),
            executing_seats: gauge("current_executing_seats", "Seats of requests that have some.", &pair),
            dispatched: r.counters(
                "apiserver_flowcontrol_dispatched_requests_total",
                "Requests that got seats.",
                &pair,
            ),
            rejected: r.counters(
                "apiserver_flowcontrol_rejected_requests_total",
                "Requests that got no seats.",
                &[level, schema, "reason"],
            ),
            wait_seconds: r.histograms(
                "apiserver_flowcontrol_request_wait_duration_seconds",
                "How long requests waited for seats.",
                &[level, schema, "execute"],
                &SECONDS,
            ),
            execution_seconds: r.histograms(
                "apiserver_flowcontrol_request_execution_seconds",
                "How long requests had seats.",
                &pair,
                &SECONDS,
            ),
            nominal_seats: gauge("nominal_limit_seats", "The part of each level.", &[level]),
            lower_seats: gauge("lower_limit_seats", "What each level keeps of its part.", &[level]),
            upper_seats: gauge("upper_limit_seats", "What each level may use, borrowed seats too.", &[level]),
            pairs: RwLock::default(),
            levels: Mutex::default(),
        }
    }

    /// There are these schemas (each with its level) and levels, and no others.
    pub fn configured<'a>(
        &self,
        schemas: impl IntoIterator<Item = (&'a str, &'a str)>,
        levels: impl IntoIterator<Item = (&'a Arc<str>, Allotment)>,
    ) {
        let mut now = HashSet::new();
        for (level, allotment) in levels {
            self.nominal_seats.with_label_values(&[level]).set(allotment.nominal.into());
            self.lower_seats.with_label_values(&[level]).set(allotment.kept.into());
            self.upper_seats.with_label_values(&[level]).set(allotment.most.into());
            now.insert(Arc::clone(level));
        }
        let mut known = self.levels.lock();
        for gone in known.difference(&now) {
            for gauge in [&self.nominal_seats, &self.lower_seats, &self.upper_seats] {
                // All of them were set before.
                let _ = gauge.remove_label_values(&[gone]);
            }
        }
        *known = now;
        let mut pairs = self.pairs.write();
        let mut before = std::mem::take(&mut *pairs);
        for (schema, level) in schemas {
            if pairs.contains_key(schema) {
                continue;
            }
            let kept = before.remove(schema);
            let kept = match kept {
                Some(kept) if &*kept.level == level => kept,
                other => {
                    if let Some(moved) = other {
                        self.forget(&moved.level, schema);
                    }
                    Arc::new(self.series(level, schema))
                }
            };
            pairs.insert(schema.into(), kept);
        }
        for (schema, gone) in before {
            self.forget(&gone.level, &schema);
        }
    }

    fn series(&self, level: &str, schema: &str) -> SchemaMetrics {
        let pair = [level, schema];
        let rejected = |reason| (reason, self.rejected.with_label_values(&[level, schema, reason]));
        SchemaMetrics {
            level: level.into(),
            waiting: self.waiting.with_label_values(&pair),
            executing: self.executing.with_label_values(&pair),
            executing_seats: self.executing_seats.with_label_values(&pair),
            dispatched: self.dispatched.with_label_values(&pair),
            rejected: REASONS.map(rejected),
            waited: self.wait_seconds.with_label_values(&[level, schema, "true"]),
            waited_in_vain: self.wait_seconds.with_label_values(&[level, schema, "false"]),
            execution_seconds: self.execution_seconds.with_label_values(&pair),
        }
    }

    /// All of them were made before.
    fn forget(&self, level: &str, schema: &str) {
        let pair = [level, schema];
        for gauge in [&self.waiting, &self.executing, &self.executing_seats] {
            let _ = gauge.remove_label_values(&pair);
        }
        let _ = self.dispatched.remove_label_values(&pair);
        let _ = self.execution_seconds.remove_label_values(&pair);
        for reason in REASONS {
            let _ = self.rejected.remove_label_values(&[level, schema, reason]);
        }
        for execute in ["true", "false"] {
            let _ = self.wait_seconds.remove_label_values(&[level, schema, execute]);
        }
    }

    /// The series of a schema; nothing for one that is gone.
    #[must_use]
    pub fn of(&self, schema: &str) -> Option<Arc<SchemaMetrics>> {
        self.pairs.read().get(schema).cloned()
    }
}

impl SchemaMetrics {
    /// A request waits.
    pub fn queued(&self) {
        self.waiting.inc();
    }

    /// A request waits no more; whether it got seats.
    pub fn dequeued(&self, waited: Duration, execute: bool) {
        self.waiting.dec();
        let seconds = if execute { &self.waited } else { &self.waited_in_vain };
        seconds.observe(waited.as_secs_f64());
    }

    /// A request got seats.
    pub fn began(&self, seats: u32) {
        self.dispatched.inc();
        self.executing.inc();
        self.executing_seats.add(seats.into());
    }

    /// It gave them back.
    pub fn ended(&self, seats: u32, taken: Duration) {
        self.executing.dec();
        self.executing_seats.sub(seats.into());
        self.execution_seconds.observe(taken.as_secs_f64());
    }

    /// A request got none, for one of the reasons that there are.
    pub fn refused(&self, reason: &'static str) {
        if let Some((_, counter)) = self.rejected.iter().find(|(known, _)| *known == reason) {
            counter.inc();
        }
    }
}
