//! One measurement of a running cluster by `kvctl bench`, the same client for both kinds.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::peers::Peers;

/// What a measurement is about; times are in microseconds.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Sample {
    /// Operations per second, or events for watches.
    pub(crate) rate: f64,
    /// Of operations, or of the events' delay for watches.
    pub(crate) p50_us: f64,
    /// As `p50_us`.
    pub(crate) p99_us: f64,
    /// CPU time of all members by operation or event.
    pub(crate) server_cpu_us: f64,
    /// CPU time of the client by operation or event.
    pub(crate) client_cpu_us: f64,
    /// Operations that failed.
    pub(crate) errors: u64,
}

/// Runs `kvctl bench` with `arguments` against all members.
pub(crate) async fn measure(kvctl: &Path, peers: &Peers, arguments: &[String]) -> Result<Sample> {
    let pids: Vec<String> = peers.pids().iter().map(u32::to_string).collect();
    let output = tokio::process::Command::new(kvctl)
        .arg("bench")
        .args(arguments)
        .args(["--json", "--endpoints", &peers.endpoints().join(","), "--server-pids", &pids.join(",")])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("cannot run {}", kvctl.display()))?;
    if !output.status.success() {
        bail!("kvctl bench {} failed: {}", arguments.join(" "), String::from_utf8_lossy(&output.stdout));
    }
    let report: Value = serde_json::from_slice(&output.stdout).context("kvctl printed no JSON")?;
    sample(&report).context("kvctl's report lacks a field")
}

fn sample(report: &Value) -> Option<Sample> {
    let watch = report.get("watch").filter(|_| report["load"] == "watch");
    let (rate, count, latency) = match watch {
        Some(watch) => (&watch["events_per_s"], &watch["events"], &watch["delay_us"]),
        None => (&report["operations_per_s"], &report["operations"], &report["latency_us"]),
    };
    let count = count.as_f64()?.max(1.0);
    let servers: f64 = report["server_cpu_s"].as_array()?.iter().filter_map(Value::as_f64).sum();
    Some(Sample {
        rate: rate.as_f64()?,
        p50_us: latency["p50"].as_f64()?,
        p99_us: latency["p99"].as_f64()?,
        server_cpu_us: servers * 1e6 / count,
        client_cpu_us: report["client_cpu_s"].as_f64()? * 1e6 / count,
        errors: report["errors"].as_object()?.values().filter_map(Value::as_u64).sum(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watches_are_judged_by_events_and_the_mix_by_operations() {
        let mut report = serde_json::json!({
            "load": "watch", "operations": 10, "operations_per_s": 2.0, "errors": {"a": 1, "b": 2},
            "latency_us": {"p50": 1, "p99": 2}, "client_cpu_s": 0.5, "server_cpu_s": [1.0, 2.0],
            "watch": {"events": 1000, "events_per_s": 200.0, "delay_us": {"p50": 3, "p99": 4}},
        });
        let watch = sample(&report).unwrap();
        assert_eq!((watch.rate, watch.p99_us, watch.errors), (200.0, 4.0, 3));
        assert_eq!((watch.server_cpu_us, watch.client_cpu_us), (3000.0, 500.0));
        report["load"] = "mixed".into();
        assert_eq!(sample(&report).unwrap().rate, 2.0);
    }
}
