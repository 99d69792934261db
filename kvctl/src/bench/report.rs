//! The result of a load, as a table for people or as JSON.

use std::collections::BTreeMap;
use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::driver::Measured;

/// Latencies in microseconds.
#[derive(Debug, Serialize)]
pub(super) struct Latency {
    count: u64,
    min: u64,
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Self {
        Self {
            count: histogram.len(),
            min: histogram.min(),
            p50: histogram.value_at_quantile(0.5),
            p90: histogram.value_at_quantile(0.9),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max(),
        }
    }
}

/// Everything a run tells. CPU times are seconds in the measured time.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    load: &'static str,
    clients: usize,
    seconds: f64,
    /// Operations that ended well.
    pub(super) operations: u64,
    operations_per_s: f64,
    /// By the server's text.
    pub(super) errors: BTreeMap<String, u64>,
    latency_us: Latency,
    kinds: BTreeMap<&'static str, Latency>,
    #[serde(skip_serializing_if = "Option::is_none")]
    watch: Option<WatchReport>,
    client_cpu_s: f64,
    server_cpu_s: Vec<f64>,
}

#[derive(Debug, Serialize)]
struct WatchReport {
    events: u64,
    events_per_s: f64,
    delay_us: Latency,
}

impl Report {
    pub(super) fn new(load: &'static str, clients: usize, measured: &Measured, watched: bool) -> Self {
        let stats = &measured.stats;
        let seconds = measured.elapsed.as_secs_f64().max(1e-9);
        let mut all = super::stats::latencies();
        for (_, histogram) in &stats.kinds {
            all.add(histogram).expect("all histograms have the same bounds");
        }
        let operations = stats.operations();
        Self {
            load,
            clients,
            seconds,
            operations,
            operations_per_s: operations as f64 / seconds,
            errors: stats.errors.clone(),
            latency_us: Latency::of(&all),
            kinds: stats
                .kinds
                .iter()
                .filter(|(_, histogram)| !histogram.is_empty())
                .map(|(kind, histogram)| (*kind, Latency::of(histogram)))
                .collect(),
            watch: watched.then(|| WatchReport {
                events: stats.events,
                events_per_s: stats.events as f64 / seconds,
                delay_us: Latency::of(&stats.delay),
            }),
            client_cpu_s: measured.cpu.own_s,
            server_cpu_s: measured.cpu.servers_s.clone(),
        }
    }
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, latency: &Latency) -> fmt::Result {
    write!(f, "{name:<12}{:>10}", latency.count)?;
    for us in [latency.min, latency.p50, latency.p90, latency.p99, latency.p999, latency.max] {
        write!(f, "{:>10.2}", us as f64 / 1000.0)?;
    }
    writeln!(f)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { load, clients, seconds, operations_per_s, .. } = self;
        writeln!(f, "{load}: {operations_per_s:.1} operations/s from {clients} clients in {seconds:.2} s")?;
        if let Some(watch) = &self.watch {
            writeln!(f, "events: {:.0}/s received", watch.events_per_s)?;
        }
        writeln!(f)?;
        write!(f, "{:<12}{:>10}", "latency, ms", "count")?;
        for name in ["min", "p50", "p90", "p99", "p99.9", "max"] {
            write!(f, "{name:>10}")?;
        }
        writeln!(f)?;
        for (kind, latency) in &self.kinds {
            row(f, kind, latency)?;
        }
        if self.kinds.len() > 1 {
            row(f, "all", &self.latency_us)?;
        }
        if let Some(watch) = &self.watch {
            row(f, "event delay", &watch.delay_us)?;
        }
        let per_operation = |cpu_s: f64| cpu_s * 1e6 / (self.operations as f64).max(1.0);
        write!(f, "\nCPU: this client {:.2} s", self.client_cpu_s)?;
        if self.operations > 0 {
            write!(f, " ({:.1} us an operation)", per_operation(self.client_cpu_s))?;
        }
        if !self.server_cpu_s.is_empty() {
            let sum = self.server_cpu_s.iter().sum();
            write!(f, ", servers {sum:.2} s ({:.1} us an operation)", per_operation(sum))?;
        }
        writeln!(f)?;
        if !self.errors.is_empty() {
            writeln!(f, "\nErrors:")?;
            for (text, count) in &self.errors {
                writeln!(f, "{count:>10}  {text}")?;
            }
        }
        Ok(())
    }
}
