//! What controllers count, under Kubernetes' names. Must never decide anything.

use barque_client::component::count_process;
use barque_client::servers::Requests;
use prometheus::{
    Encoder as _, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

const ONCE: &str = "names are registered once";
const WELL_FORMED: &str = "names and labels are well formed";

/// All metrics of one controller manager.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    depth: IntGaugeVec,
    adds: IntCounterVec,
    retries: IntCounterVec,
    queue_seconds: HistogramVec,
    work_seconds: HistogramVec,
    running: IntGaugeVec,
    leads: IntGaugeVec,
    events_dropped: IntCounterVec,
    requests: Requests,
}

/// Of one queue.
#[derive(Debug, Clone)]
pub struct QueueMetrics {
    pub(crate) depth: IntGauge,
    pub(crate) adds: IntCounter,
    pub(crate) retries: IntCounter,
    pub(crate) queue_seconds: Histogram,
    pub(crate) work_seconds: Histogram,
}

impl Metrics {
    /// A fresh set.
    #[must_use]
    pub fn new() -> Self {
        let registry = Registry::new();
        let gauges = |name: &str, help: &str| {
            let made = IntGaugeVec::new(Opts::new(name, help), &["name"]).expect(WELL_FORMED);
            registry.register(Box::new(made.clone())).expect(ONCE);
            made
        };
        let counters = |name: &str, help: &str, label: &str| {
            let made = IntCounterVec::new(Opts::new(name, help), &[label]).expect(WELL_FORMED);
            registry.register(Box::new(made.clone())).expect(ONCE);
            made
        };
        let histograms = |name: &str, help: &str| {
            // As client-go's: from 10 nanoseconds, each bound ten times the one before.
            let buckets = prometheus::exponential_buckets(1e-8, 10.0, 10).expect("bounds that grow");
            let opts = HistogramOpts::new(name, help).buckets(buckets);
            let made = HistogramVec::new(opts, &["name"]).expect(WELL_FORMED);
            registry.register(Box::new(made.clone())).expect(ONCE);
            made
        };
        Self {
            depth: gauges("workqueue_depth", "Current depth of workqueue."),
            adds: counters("workqueue_adds_total", "Total number of adds handled by workqueue.", "name"),
            retries: counters(
                "workqueue_retries_total",
                "Total number of retries handled by workqueue.",
                "name",
            ),
            queue_seconds: histograms(
                "workqueue_queue_duration_seconds",
                "How long in seconds an item stays in workqueue before being requested.",
            ),
            work_seconds: histograms(
                "workqueue_work_duration_seconds",
                "How long in seconds processing an item from workqueue takes.",
            ),
            running: gauges(
                "running_managed_controllers",
                "Indicates where instances of a controller are currently running.",
            ),
            leads: gauges(
                "leader_election_master_status",
                "Whether this candidate is the leader: 1 is the leader, 0 is a candidate.",
            ),
            events_dropped: counters(
                "barque_events_dropped_total",
                "Events of each controller that nobody will read because too many waited.",
                "controller",
            ),
            requests: count_process(&registry),
            registry,
        }
    }

    /// Those of requests to API servers.
    pub(crate) fn requests(&self) -> Requests {
        self.requests.clone()
    }

    /// Those of the queue of this name.
    #[must_use]
    pub fn queue(&self, name: &str) -> QueueMetrics {
        let of = [name];
        QueueMetrics {
            depth: self.depth.with_label_values(&of),
            adds: self.adds.with_label_values(&of),
            retries: self.retries.with_label_values(&of),
            queue_seconds: self.queue_seconds.with_label_values(&of),
            work_seconds: self.work_seconds.with_label_values(&of),
        }
    }

    /// A controller runs, or does not any more.
    pub(crate) fn running(&self, controller: &str, running: bool) {
        self.running.with_label_values(&[controller]).set(running.into());
    }

    /// This candidate for a lease leads, or does not.
    pub(crate) fn leads(&self, lease: &str, leads: bool) {
        self.leads.with_label_values(&[lease]).set(leads.into());
    }

    /// So many events of a controller were dropped since it runs.
    pub(crate) fn events_dropped(&self, controller: &str, dropped: u64) {
        self.events_dropped.with_label_values(&[controller]).inc_by(dropped);
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
    fn a_scrape_is_told_of_each_queue_by_its_name() {
        let metrics = Metrics::new();
        metrics.queue("replicaset-controller").adds.inc();
        let text = String::from_utf8(metrics.text()).unwrap();
        assert!(text.contains("workqueue_adds_total{name=\"replicaset-controller\"} 1"), "{text}");
        assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
    }
}
