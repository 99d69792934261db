//! What a member counts, under etcd's names, so that etcd's dashboards and alert rules work.
//!
//! One struct of handles for each area; a handle is moved where the thing that it names happens, and nowhere
//! else. Never decides anything, and never takes part in anything but a scrape's own time.

mod apply;
mod backups;
mod disk;
mod grpc;
mod lease;
mod mvcc;
mod network;
mod server;
mod watch;

use std::fmt;

use barque_process_metrics::ProcessCollector;
use parking_lot::Mutex;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

pub use self::apply::ApplyCounts;
pub use self::backups::BackupMetrics;
pub use self::disk::DiskMetrics;
pub use self::grpc::{Call, Code, GrpcMetrics, MethodMetrics};
pub use self::lease::LeaseMetrics;
pub use self::mvcc::MvccMetrics;
pub use self::network::{NetworkMetrics, PeerMetrics};
pub use self::server::ServerMetrics;
pub use self::watch::WatchMetrics;

/// Sets what is looked at when a scrape comes.
type Look = Box<dyn Fn(&Metrics) + Send>;

/// All metrics of one member. Handles are cheap to clone and to move.
pub struct Metrics {
    registry: Registry,
    /// Runs before each scrape; scrapes take turns.
    before: Mutex<Option<Look>>,
    /// `etcd_server_*`
    pub server: ServerMetrics,
    /// `etcd_disk_*`, `etcd_snap_*`
    pub disk: DiskMetrics,
    /// `etcd_mvcc_*`, `etcd_debugging_mvcc_*` except for watchers
    pub mvcc: MvccMetrics,
    /// `etcd_network_*`
    pub network: NetworkMetrics,
    /// `etcd_debugging_lease_*`
    pub lease: LeaseMetrics,
    /// `etcd_debugging_mvcc_*watch*`
    pub watch: WatchMetrics,
    /// `grpc_server_*`
    pub grpc: GrpcMetrics,
    /// `barque_snapshot_*`
    pub backups: BackupMetrics,
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
            server: ServerMetrics::new(&r),
            disk: DiskMetrics::new(&r),
            mvcc: MvccMetrics::new(&r),
            network: NetworkMetrics::new(&r),
            lease: LeaseMetrics::new(&r),
            watch: WatchMetrics::new(&r),
            grpc: GrpcMetrics::new(&r),
            backups: BackupMetrics::new(&r),
            before: Mutex::default(),
            registry,
        };
        metrics.registry.register(Box::new(ProcessCollector::new())).expect("names are registered once");
        metrics
    }

    /// Has `look` called before each scrape, to set what is cheap to look at and would be expensive to
    /// follow. It must not block.
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

/// Makes and registers in one step. Names are ours and constant, so it cannot fail once it has worked.
struct Register<'a>(&'a Registry);

const ONCE: &str = "names are registered once";
const WELL_FORMED: &str = "names and labels are well formed";

impl Register<'_> {
    fn put<C: prometheus::core::Collector + Clone + 'static>(&self, metric: C) -> C {
        self.0.register(Box::new(metric.clone())).expect(ONCE);
        metric
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.put(IntCounter::new(name, help).expect(WELL_FORMED))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.put(IntCounterVec::new(Opts::new(name, help), labels).expect(WELL_FORMED))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.put(IntGauge::new(name, help).expect(WELL_FORMED))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.put(IntGaugeVec::new(Opts::new(name, help), labels).expect(WELL_FORMED))
    }

    fn histogram(&self, name: &str, help: &str, buckets: Vec<f64>) -> Histogram {
        self.put(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets)).expect(WELL_FORMED))
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str], buckets: Vec<f64>) -> HistogramVec {
        let opts = HistogramOpts::new(name, help).buckets(buckets);
        self.put(HistogramVec::new(opts, labels).expect(WELL_FORMED))
    }
}

/// Something goes on as long as this lives: its gauge is one higher.
#[derive(Debug)]
pub struct InProgress(IntGauge);

impl InProgress {
    /// It begins.
    #[must_use]
    pub fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Brings a counter to what was counted elsewhere. To be called by one at a time.
pub fn catch_up(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

/// `count` bounds from `start`, each twice the one before, as etcd's buckets are.
fn doubling(start: f64, count: usize) -> Vec<f64> {
    prometheus::exponential_buckets(start, 2.0, count).expect("bounds above zero")
}

#[cfg(test)]
mod tests;
