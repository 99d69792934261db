//! What the scheduler counts, under Kubernetes' names. Must never decide anything.

use std::time::Duration;

use barque_client::component::count_process;
use barque_client::servers::Requests;
use barque_scheduler::queue::{Counts, Incoming};
use prometheus::{
    Encoder as _, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts,
    Registry, TextEncoder, exponential_buckets,
};

const ONCE: &str = "names are registered once";
const WELL_FORMED: &str = "names, labels and bounds are well formed";

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Scheduled,
    Unschedulable,
    Error,
}

impl Outcome {
    const fn word(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Unschedulable => "unschedulable",
            Self::Error => "error",
        }
    }
}

/// All metrics of one scheduler.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    attempts: IntCounterVec,
    attempt_seconds: HistogramVec,
    decision_seconds: Histogram,
    sli_seconds: HistogramVec,
    attempts_of_pods: Histogram,
    pending: IntGaugeVec,
    incoming: IntCounterVec,
    preemptions: IntCounter,
    victims: Histogram,
    cached: IntGaugeVec,
    leads: IntGaugeVec,
    events_dropped: IntCounterVec,
    requests: Requests,
}

/// Makes metrics of one registry.
struct Maker<'a>(&'a Registry);

impl Maker<'_> {
    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        let made = IntCounterVec::new(Opts::new(name, help), labels).expect(WELL_FORMED);
        self.0.register(Box::new(made.clone())).expect(ONCE);
        made
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        let made = IntCounter::new(name, help).expect(WELL_FORMED);
        self.0.register(Box::new(made.clone())).expect(ONCE);
        made
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        let made = IntGaugeVec::new(Opts::new(name, help), labels).expect(WELL_FORMED);
        self.0.register(Box::new(made.clone())).expect(ONCE);
        made
    }

    /// Bounds grow by two from the first.
    fn histogram(&self, name: &str, help: &str, first: f64, count: usize) -> Histogram {
        let buckets = exponential_buckets(first, 2.0, count).expect(WELL_FORMED);
        let made = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets)).expect(WELL_FORMED);
        self.0.register(Box::new(made.clone())).expect(ONCE);
        made
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str], first: f64, count: usize) -> HistogramVec {
        let buckets = exponential_buckets(first, 2.0, count).expect(WELL_FORMED);
        let opts = HistogramOpts::new(name, help).buckets(buckets);
        let made = HistogramVec::new(opts, labels).expect(WELL_FORMED);
        self.0.register(Box::new(made.clone())).expect(ONCE);
        made
    }
}

impl Metrics {
    /// A fresh set.
    #[must_use]
    pub fn new() -> Self {
        let registry = Registry::new();
        let make = Maker(&registry);
        Self {
            attempts: make.counters(
                "scheduler_schedule_attempts_total",
                "Number of attempts to schedule pods, by the result. 'unschedulable' means a pod could not be \
                 scheduled, while 'error' means an internal scheduler problem.",
                &["profile", "result"],
            ),
            attempt_seconds: make.histograms(
                "scheduler_scheduling_attempt_duration_seconds",
                "Scheduling attempt latency in seconds (scheduling algorithm + binding)",
                &["profile", "result"],
                0.001,
                15,
            ),
            decision_seconds: make.histogram(
                "scheduler_scheduling_algorithm_duration_seconds",
                "Scheduling algorithm latency in seconds",
                // Decisions here take microseconds.
                0.000_01,
                22,
            ),
            sli_seconds: make.histograms(
                "scheduler_pod_scheduling_sli_duration_seconds",
                "E2e latency for a pod being scheduled, from the time the pod enters the scheduling queue and \
                 might involve multiple scheduling attempts.",
                &["attempts"],
                0.01,
                20,
            ),
            attempts_of_pods: make.histogram(
                "scheduler_pod_scheduling_attempts",
                "Number of attempts to successfully schedule a pod.",
                1.0,
                5,
            ),
            pending: make.gauges(
                "scheduler_pending_pods",
                "Number of pending pods, by the queue type.",
                &["queue"],
            ),
            incoming: make.counters(
                "scheduler_queue_incoming_pods_total",
                "Number of pods added to scheduling queues by event and queue type.",
                &["event", "queue"],
            ),
            preemptions: make.counter(
                "scheduler_preemption_attempts_total",
                "Total preemption attempts in the cluster till now",
            ),
            victims: make.histogram(
                "scheduler_preemption_victims",
                "Number of selected preemption victims for preemption initiated by a single pod",
                1.0,
                7,
            ),
            cached: make.gauges(
                "scheduler_cache_size",
                "Number of nodes and pods in the scheduler cache.",
                &["type"],
            ),
            leads: make.gauges(
                "leader_election_master_status",
                "Whether this candidate is the leader: 1 is the leader, 0 is a candidate.",
                &["name"],
            ),
            events_dropped: make.counters(
                "barque_events_dropped_total",
                "Events of each profile that nobody will read because too many waited.",
                &["profile"],
            ),
            requests: count_process(&registry),
            registry,
        }
    }

    /// Those of requests to API servers.
    pub(crate) fn requests(&self) -> Requests {
        self.requests.clone()
    }

    /// A decision was made.
    pub(crate) fn decided(&self, took: Duration) {
        self.decision_seconds.observe(took.as_secs_f64());
    }

    /// An attempt has ended.
    pub(crate) fn attempted(&self, profile: &str, outcome: Outcome, took: Duration) {
        let labels = [profile, outcome.word()];
        self.attempts.with_label_values(&labels).inc();
        self.attempt_seconds.with_label_values(&labels).observe(took.as_secs_f64());
    }

    /// A pod was placed, after so many attempts, so long after it came.
    pub(crate) fn placed(&self, attempts: u32, since: Duration) {
        let label = if attempts >= 15 { "15+".to_owned() } else { attempts.to_string() };
        self.sli_seconds.with_label_values(&[&label]).observe(since.as_secs_f64());
        self.attempts_of_pods.observe(attempts.into());
    }

    /// Room was looked for by evicting others; so many will go if some was found.
    pub(crate) fn preempted(&self, victims: Option<usize>) {
        self.preemptions.inc();
        if let Some(victims) = victims {
            self.victims.observe(victims as f64);
        }
    }

    /// How the queue is, and how many nodes and pods are known.
    pub(crate) fn state(&self, counts: Counts, incoming: Incoming, nodes: usize, pods: usize) {
        let numbers = [
            ("active", counts.active),
            ("backoff", counts.backing_off),
            ("unschedulable", counts.unschedulable),
            ("gated", counts.gated),
        ];
        for (queue, number) in numbers {
            self.pending.with_label_values(&[queue]).set(number as i64);
        }
        for ((event, queue), number) in incoming {
            self.incoming.with_label_values(&[event, queue]).inc_by(number);
        }
        self.cached.with_label_values(&["nodes"]).set(nodes as i64);
        self.cached.with_label_values(&["pods"]).set(pods as i64);
    }

    /// This candidate for a lease leads, or does not.
    pub(crate) fn leads(&self, lease: &str, leads: bool) {
        self.leads.with_label_values(&[lease]).set(leads.into());
    }

    /// So many events of a profile were dropped.
    pub(crate) fn events_dropped(&self, profile: &str, dropped: u64) {
        self.events_dropped.with_label_values(&[profile]).inc_by(dropped);
    }

    /// The text of a scrape.
    #[must_use]
    pub fn text(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(16 << 10);
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!("metrics cannot be written: {error}");
        }
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_and_queues_are_told_under_their_names() {
        let metrics = Metrics::new();
        metrics.attempted("default-scheduler", Outcome::Scheduled, Duration::from_millis(3));
        metrics.placed(20, Duration::from_secs(1));
        let counts = Counts { unschedulable: 3, ..Counts::default() };
        metrics.state(counts, Incoming::from([(("UnscheduledPodAdd", "active"), 5)]), 1, 2);
        let text = String::from_utf8(metrics.text()).unwrap();
        for line in [
            "scheduler_schedule_attempts_total{profile=\"default-scheduler\",result=\"scheduled\"} 1",
            "scheduler_pod_scheduling_sli_duration_seconds_count{attempts=\"15+\"} 1",
            "scheduler_pending_pods{queue=\"unschedulable\"} 3",
            "scheduler_queue_incoming_pods_total{event=\"UnscheduledPodAdd\",queue=\"active\"} 5",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
