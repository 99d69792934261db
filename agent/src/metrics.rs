//! What an agent counts, under the kubelet's names. Must never decide anything.

use std::time::Duration;

use barque_client::component::count_process;
use barque_client::servers::Requests;
use k8s_openapi::api::core::v1::Pod;
use prometheus::{
    Encoder as _, Histogram, HistogramOpts, HistogramTimer, HistogramVec, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::pods::probes::ProbeKind;
use crate::pods::spec;

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
    probes: ProbeMetrics,
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
        Self { registry, running, sync, names, evictions, requests, probes: ProbeMetrics::new() }
    }

    /// Where others of the process count.
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Those of requests to API servers.
    pub(crate) fn requests(&self) -> Requests {
        self.requests.clone()
    }

    /// Those of probes, which are told elsewhere.
    #[must_use]
    pub fn probes(&self) -> &ProbeMetrics {
        &self.probes
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
        text_of(&self.registry)
    }
}

fn text_of(registry: &Registry) -> Vec<u8> {
    let mut text = Vec::new();
    if let Err(error) = TextEncoder::new().encode(&registry.gather(), &mut text) {
        tracing::warn!(%error, "metrics cannot be told");
    }
    text
}

/// What probes answered, as `/metrics/probes` tells it.
#[derive(Debug, Clone)]
pub struct ProbeMetrics {
    registry: Registry,
    answers: IntCounterVec,
    durations: HistogramVec,
}

/// The results of a probe.
const RESULTS: [&str; 2] = ["successful", "failed"];

impl ProbeMetrics {
    fn new() -> Self {
        let registry = Registry::new();
        let help = "Cumulative number of a liveness, readiness or startup probe for a container by result.";
        let of = ["probe_type", "result", "container", "pod", "namespace", "pod_uid"];
        let answers = IntCounterVec::new(Opts::new("prober_probe_total", help), &of).expect(WELL_FORMED);
        let help = "Duration in seconds for a probe response.";
        let opts = HistogramOpts::new("prober_probe_duration_seconds", help);
        let of = ["probe_type", "container", "pod", "namespace"];
        let durations = HistogramVec::new(opts, &of).expect(WELL_FORMED);
        registry.register(Box::new(answers.clone())).expect(ONCE);
        registry.register(Box::new(durations.clone())).expect(ONCE);
        Self { registry, answers, durations }
    }

    /// A probe of a container was answered, after so long.
    pub fn asked(&self, pod: &Pod, container: &str, kind: ProbeKind, succeeded: bool, took: Duration) {
        let [name, namespace] = names(pod);
        let result = RESULTS[usize::from(!succeeded)];
        let of = [kind.title(), result, container, name, namespace, spec::uid(pod)];
        self.answers.with_label_values(&of).inc();
        let of = [kind.title(), container, name, namespace];
        self.durations.with_label_values(&of).observe(took.as_secs_f64());
    }

    /// Nothing of a pod is asked any more.
    pub fn forget(&self, pod: &Pod) {
        let [name, namespace] = names(pod);
        for container in spec::containers(pod) {
            for kind in ProbeKind::ALL {
                // Most were never asked.
                for result in RESULTS {
                    let of = [kind.title(), result, container.name, name, namespace, spec::uid(pod)];
                    let _ = self.answers.remove_label_values(&of);
                }
                let _ = self.durations.remove_label_values(&[kind.title(), container.name, name, namespace]);
            }
        }
    }

    /// As Prometheus reads them.
    #[must_use]
    pub fn text(&self) -> Vec<u8> {
        text_of(&self.registry)
    }
}

/// Name and namespace.
fn names(pod: &Pod) -> [&str; 2] {
    [&pod.metadata.name, &pod.metadata.namespace].map(|text| text.as_deref().unwrap_or_default())
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn probes_are_counted_until_their_pod_is_gone() {
        let pod = |name: &str| -> Pod {
            serde_json::from_value(json!({
                "metadata": {"name": name, "namespace": "a", "uid": "u"}, "spec": {"containers": [{"name": "c"}]},
            }))
            .unwrap()
        };
        let probes = Metrics::new().probes().clone();
        let told = || String::from_utf8(probes.text()).unwrap();
        for name in ["p", "q"] {
            probes.asked(&pod(name), "c", ProbeKind::Liveness, true, Duration::from_millis(4));
        }
        let of = |name: &str| {
            format!(
                "{{container=\"c\",namespace=\"a\",pod=\"{name}\",pod_uid=\"u\",probe_type=\"Liveness\",result=\"successful\"}} 1\n"
            )
        };
        assert!(told().contains(&of("p")), "{}", told());
        probes.forget(&pod("p"));
        assert!(!told().contains("pod=\"p\"") && told().contains(&of("q")), "{}", told());
    }
}
