//! What the API server counts, under Kubernetes' names, so that its dashboards and alert rules work. A handle is moved where
//! the thing that it names happens. Must never decide anything, and never make a series of what a client invents.

mod access;
mod admission;
mod caches;
mod flow;
mod labels;
mod parts;
mod register;
mod requests;
mod storage;

use std::fmt;
use std::sync::Arc;

use barque_process_metrics::ProcessCollector;
use parking_lot::Mutex;
use prometheus::{Encoder as _, IntCounter, Registry, TextEncoder};

pub use self::access::AccessMetrics;
pub use self::admission::{AdmissionMetrics, Called, Rejection, Step};
pub use self::caches::CacheMetrics;
pub use self::flow::{FlowMetrics, SchemaMetrics};
pub use self::labels::{Seen, Subject};
pub use self::parts::PartMetrics;
pub use self::requests::{Ongoing, RequestMetrics};
pub use self::storage::{Measured, MeasuredWatch, StorageMetrics};
use register::Register;

/// Sets what is looked at when a scrape comes.
type Look = Box<dyn Fn(&Metrics) + Send>;

/// All metrics of one server.
pub struct Metrics {
    registry: Registry,
    /// Runs before each scrape; scrapes take turns.
    before: Mutex<Option<Look>>,
    /// `apiserver_request_*`
    pub requests: RequestMetrics,
    /// `apiserver_flowcontrol_*`
    pub flow: FlowMetrics,
    /// `etcd_*`
    pub storage: Arc<StorageMetrics>,
    /// `apiserver_watch_cache_*`, `apiserver_resource_objects`
    pub caches: CacheMetrics,
    /// `apiserver_admission_*`, `apiserver_validating_admission_policy_*`
    pub admission: Arc<AdmissionMetrics>,
    /// `apiserver_audit_*`, `authentication_*`, `authorization_*`
    pub access: AccessMetrics,
    /// Connections that ended before their TLS handshake did.
    pub tls_handshake_errors: IntCounter,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// The content type of [`Metrics::text`].
    pub const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";

    /// A fresh set, all at zero.
    #[must_use]
    pub fn new() -> Self {
        let registry = Registry::new();
        let r = Register(&registry);
        let metrics = Self {
            requests: RequestMetrics::new(&r),
            flow: FlowMetrics::new(&r),
            storage: Arc::new(StorageMetrics::new(&r)),
            caches: CacheMetrics::new(&r),
            admission: Arc::new(AdmissionMetrics::new(&r)),
            access: AccessMetrics::new(&r),
            tls_handshake_errors: r.counter(
                "apiserver_tls_handshake_errors_total",
                "Number of requests dropped with a TLS handshake error.",
            ),
            before: Mutex::default(),
            registry,
        };
        metrics.registry.register(Box::new(ProcessCollector::new())).expect("names are registered once");
        metrics
    }

    /// Says which version this is, as `/version` tells it.
    pub fn identify(&self, version: &serde_json::Value) {
        let text = |field: &str| version[field].as_str().unwrap_or_default().to_owned();
        let fields = [
            ("build_date", "buildDate"),
            ("compiler", "compiler"),
            ("git_commit", "gitCommit"),
            ("git_tree_state", "gitTreeState"),
            ("git_version", "gitVersion"),
            ("go_version", "goVersion"),
            ("major", "major"),
            ("minor", "minor"),
            ("platform", "platform"),
        ];
        let labels = fields.map(|(label, _)| label);
        let values = fields.map(|(_, field)| text(field));
        let info = Register(&self.registry).gauges(
            "kubernetes_build_info",
            "1, labelled with the version and platform of this server.",
            &labels,
        );
        info.with_label_values(&values).set(1);
    }

    /// Has `look` called before each scrape, to set what is cheap to look at and would be expensive to follow. It must not
    /// block.
    pub fn look_before_scrape(&self, look: impl Fn(&Self) + Send + 'static) {
        *self.before.lock() = Some(Box::new(look));
    }

    /// The text of a scrape.
    #[must_use]
    pub fn text(&self) -> Vec<u8> {
        let before = self.before.lock();
        if let Some(look) = before.as_ref() {
            look(self);
        }
        let mut text = Vec::with_capacity(64 << 10);
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
mod tests;
