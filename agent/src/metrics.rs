//! What an agent counts, under the kubelet's names. Must never decide anything.

use barque_client::component::count_process;
use barque_client::servers::Requests;
use prometheus::{
    Encoder as _, Histogram, HistogramOpts, HistogramTimer, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

const ONCE: &str = "names are registered once";
const WELL_FORMED: &str = "names and labels are well formed";

/// All metrics of one process.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    running: IntGauge,
    sync: Histogram,
    names: IntGaugeVec,
    evictions: IntCounterVec,
    requests: Requests,
}

impl Metrics {
    /// The content type of [`Metrics::text`].
    pub const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";

    /// A fresh set.
    #[must_use]
    pub fn new() -> Self {
        let registry = Registry::new();
        let running = IntGauge::new("kubelet_running_pods", "Number of pods that have a running pod sandbox")
            .expect(WELL_FORMED);
        let opts = HistogramOpts::new(
            "kubelet_pod_worker_duration_seconds",
            "Duration in seconds to sync a single pod",
        );
        let sync = Histogram::with_opts(opts).expect(WELL_FORMED);
        let opts = Opts::new("kubelet_node_name", "The node's name. The count is always 1.");
        let names = IntGaugeVec::new(opts, &["node"]).expect(WELL_FORMED);
        let opts = Opts::new("kubelet_evictions", "Cumulative number of pod evictions by eviction signal");
        let evictions = IntCounterVec::new(opts, &["eviction_signal"]).expect(WELL_FORMED);
        registry.register(Box::new(evictions.clone())).expect(ONCE);
        registry.register(Box::new(running.clone())).expect(ONCE);
        registry.register(Box::new(sync.clone())).expect(ONCE);
        registry.register(Box::new(names.clone())).expect(ONCE);
        let requests = count_process(&registry);
        Self { registry, running, sync, names, evictions, requests }
    }

    /// Where others of the process count.
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Those of requests to API servers.
    pub(crate) fn requests(&self) -> Requests {
        self.requests.clone()
    }

    /// A node of this name is kept.
    pub fn node(&self, name: &str) {
        self.names.with_label_values(&[name]).set(1);
    }

    /// A pod has a sandbox now, or none any more.
    pub fn pod_runs(&self, runs: bool) {
        self.running.add(if runs { 1 } else { -1 });
    }

    /// A pod was evicted, because of this signal.
    pub fn evicted(&self, signal: &str) {
        self.evictions.with_label_values(&[signal]).inc();
    }

    /// A step of a pod's worker, until this is dropped.
    pub fn sync(&self) -> HistogramTimer {
        self.sync.start_timer()
    }

    /// As Prometheus reads them.
    #[must_use]
    pub fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::warn!(%error, "metrics cannot be told");
        }
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
