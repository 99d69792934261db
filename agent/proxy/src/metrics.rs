//! What a proxy counts, under kube-proxy's names. Must never decide anything.

use std::time::{Duration, SystemTime};

use prometheus::{
    Encoder as _, Gauge, Histogram, HistogramOpts, IntCounter, IntGaugeVec, Opts, Registry, TextEncoder,
};

const ONCE: &str = "names are registered once";
const WELL_FORMED: &str = "names and labels are well formed";

/// All metrics of one proxy.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    pub(crate) sync: Histogram,
    pub(crate) full_sync: Histogram,
    pub(crate) partial_sync: Histogram,
    pub(crate) programming: Histogram,
    pub(crate) last: Gauge,
    pub(crate) queued: Gauge,
    pub(crate) service_changes: IntCounter,
    pub(crate) endpoint_changes: IntCounter,
    pub(crate) failures: IntCounter,
    pub(crate) cleanup_failures: IntCounter,
    pub(crate) repairs: IntCounter,
    pub(crate) flows_deleted: IntCounter,
    pub(crate) without_local: IntGaugeVec,
}

impl Metrics {
    /// A fresh set in a registry of its own.
    #[must_use]
    pub fn new() -> Self {
        Self::in_registry(Registry::new())
    }

    /// A fresh set among the metrics of others.
    ///
    /// # Panics
    /// When the registry has one already.
    #[must_use]
    pub fn in_registry(registry: Registry) -> Self {
        let histogram = |name: &str, help: &str, buckets: Vec<f64>| {
            let opts = HistogramOpts::new(name, help).buckets(buckets);
            let histogram = Histogram::with_opts(opts).expect(WELL_FORMED);
            registry.register(Box::new(histogram.clone())).expect(ONCE);
            histogram
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help).expect(WELL_FORMED);
            registry.register(Box::new(counter.clone())).expect(ONCE);
            counter
        };
        let gauge = |name: &str, help: &str| {
            let gauge = Gauge::new(name, help).expect(WELL_FORMED);
            registry.register(Box::new(gauge.clone())).expect(ONCE);
            gauge
        };
        let sync = || (0..15).map(|power| 0.001 * f64::from(1 << power)).collect::<Vec<_>>();
        let without_local = IntGaugeVec::new(
            Opts::new(
                "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
                "Number of services with a Local traffic policy and no endpoints",
            ),
            &["traffic_policy"],
        )
        .expect(WELL_FORMED);
        registry.register(Box::new(without_local.clone())).expect(ONCE);
        Self {
            sync: histogram(
                "kubeproxy_sync_proxy_rules_duration_seconds",
                "SyncProxyRules latency in seconds",
                sync(),
            ),
            full_sync: histogram(
                "kubeproxy_sync_full_proxy_rules_duration_seconds",
                "SyncProxyRules latency in seconds for full resyncs",
                sync(),
            ),
            partial_sync: histogram(
                "kubeproxy_sync_partial_proxy_rules_duration_seconds",
                "SyncProxyRules latency in seconds for partial resyncs",
                sync(),
            ),
            programming: histogram(
                "kubeproxy_network_programming_duration_seconds",
                "In Cluster Network Programming Latency in seconds",
                [0.25, 0.5]
                    .into_iter()
                    .chain((1..=60).map(f64::from))
                    .chain([90.0, 120.0, 180.0, 240.0, 300.0])
                    .collect(),
            ),
            last: gauge(
                "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
                "The last time proxy rules were successfully synced",
            ),
            queued: gauge(
                "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
                "The last time a sync of proxy rules was queued",
            ),
            service_changes: counter(
                "kubeproxy_sync_proxy_rules_service_changes_total",
                "Cumulative proxy rules Service changes",
            ),
            endpoint_changes: counter(
                "kubeproxy_sync_proxy_rules_endpoint_changes_total",
                "Cumulative proxy rules Endpoint changes",
            ),
            failures: counter(
                "kubeproxy_sync_proxy_rules_nftables_sync_failures_total",
                "Cumulative proxy nftables sync failures",
            ),
            cleanup_failures: counter(
                "kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total",
                "Cumulative proxy nftables cleanup failures",
            ),
            repairs: counter(
                "barque_proxy_repairs_total",
                "Tables made anew because somebody else had changed them",
            ),
            flows_deleted: counter(
                "kubeproxy_conntrack_reconciler_deleted_entries_total",
                "Cumulative conntrack flows deleted by conntrack reconciler",
            ),
            without_local,
            registry,
        }
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

    pub(crate) fn now(gauge: &Gauge) {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        gauge.set(since.as_secs_f64());
    }

    pub(crate) fn synced(&self, whole: bool, took: Duration) {
        self.sync.observe(took.as_secs_f64());
        let of = if whole { &self.full_sync } else { &self.partial_sync };
        of.observe(took.as_secs_f64());
        Self::now(&self.last);
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
