//! How many pods a second are decided on: the workloads of Kubernetes' `scheduler_perf`, with the same numbers of nodes and
//! pods, without API server and store. Prints pods a second, by the clock and of the one processor that is used, and the
//! ratio of the latter to the threshold that Kubernetes' own tests hold.
//!
//! `cargo bench -p barque-scheduler -- NAME` runs the workloads whose name contains NAME.

mod workloads;

use std::time::Instant;

use workloads::{Workload, all};

/// The least of this family's ratios that is good.
fn goal(family: &str) -> f64 {
    if family == "affinity" { 20.0 } else { 10.0 }
}

fn main() {
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    println!(
        "{:<11} {:<48} {:>10} {:>10} {:>10}  ratio",
        "family", "workload", "by clock", "pods/s", "threshold"
    );
    for Workload { family, name, threshold, run } in all() {
        if wanted.as_ref().is_some_and(|wanted| !name.contains(wanted.as_str())) {
            continue;
        }
        let mut clock = Clock { started: None, seconds: 0.0, busy_seconds: 0.0 };
        let pods = run(&mut clock);
        clock.stop();
        let (by_clock, rate) = (pods as f64 / clock.seconds, pods as f64 / clock.busy_seconds);
        let (threshold, ratio) = match threshold {
            Some(threshold) => {
                let ratio = rate / f64::from(threshold);
                let short = if ratio < goal(family) { " (short)" } else { "" };
                (threshold.to_string(), format!("{ratio:.0}x{short}"))
            }
            None => ("-".to_owned(), "-".to_owned()),
        };
        println!("{family:<11} {name:<48} {by_clock:>10.0} {rate:>10.0} {threshold:>10}  {ratio}");
    }
}

/// Runs while what is measured happens: by the clock, and by the processor, which others may use as well.
pub(crate) struct Clock {
    started: Option<(Instant, Option<f64>)>,
    seconds: f64,
    busy_seconds: f64,
}

impl Clock {
    /// From here on it counts.
    pub(crate) fn start(&mut self) {
        self.started = Some((Instant::now(), processor_seconds()));
    }

    /// From here on it does not.
    fn stop(&mut self) {
        if let Some((started, busy)) = self.started.take() {
            let seconds = started.elapsed().as_secs_f64();
            let busy = busy.and_then(|before| Some(processor_seconds()? - before));
            self.seconds += seconds;
            self.busy_seconds += busy.unwrap_or(seconds);
        }
    }
}

/// How long this thread has had a processor, where the kernel tells.
fn processor_seconds() -> Option<f64> {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds: f64 = told.split_whitespace().next()?.parse().ok()?;
    Some(nanoseconds / 1e9)
}
