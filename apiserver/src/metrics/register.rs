//! Making and registering a metric in one step. Names are ours and constant, so it cannot fail once it has worked; must never
//! be given a name that a client chose.

use prometheus::core::Collector;
use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};

/// The buckets of Kubernetes' request and etcd latencies, in seconds.
pub(super) const LATENCIES: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0,
    20.0, 30.0, 45.0, 60.0,
];

pub(super) struct Register<'a>(pub(super) &'a Registry);

const ONCE: &str = "names are registered once";
const WELL_FORMED: &str = "names and labels are well formed";

impl Register<'_> {
    fn put<C: Collector + Clone + 'static>(&self, metric: C) -> C {
        self.0.register(Box::new(metric.clone())).expect(ONCE);
        metric
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.put(IntCounter::new(name, help).expect(WELL_FORMED))
    }

    pub(super) fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.put(IntCounterVec::new(Opts::new(name, help), labels).expect(WELL_FORMED))
    }

    pub(super) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.put(IntGaugeVec::new(Opts::new(name, help), labels).expect(WELL_FORMED))
    }

    pub(super) fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> HistogramVec {
        let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.put(HistogramVec::new(opts, labels).expect(WELL_FORMED))
    }
}

/// `count` bounds from `start`, each `factor` times the one before.
pub(super) fn growing(start: f64, factor: f64, count: usize) -> Vec<f64> {
    prometheus::exponential_buckets(start, factor, count).expect("bounds above zero that grow")
}
