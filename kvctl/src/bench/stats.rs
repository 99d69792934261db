//! What a run has measured: latencies by kind, errors by kind, watch events, CPU time.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

const SLOWEST_US: u64 = 3_600_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;
/// Error texts can differ in each answer; beyond these they are counted together.
const ERROR_KINDS: usize = 32;

/// An empty histogram of microseconds.
pub(super) fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, SLOWEST_US, SIGNIFICANT_DIGITS).expect("the bounds are constants that fit")
}

/// Counts since the start of the measured time.
pub(super) struct Stats {
    pub(super) kinds: Vec<(&'static str, Histogram<u64>)>,
    pub(super) errors: BTreeMap<String, u64>,
    pub(super) events: u64,
    pub(super) delay: Histogram<u64>,
}

impl Stats {
    pub(super) fn new(kinds: &'static [&'static str]) -> Self {
        Self {
            kinds: kinds.iter().map(|kind| (*kind, latencies())).collect(),
            errors: BTreeMap::new(),
            events: 0,
            delay: latencies(),
        }
    }

    pub(super) fn reset(&mut self) {
        for (_, histogram) in &mut self.kinds {
            histogram.reset();
        }
        self.errors.clear();
        self.events = 0;
        self.delay.reset();
    }

    pub(super) fn done(&mut self, kind: usize, latency_ns: u64) {
        self.kinds[kind].1.saturating_record(latency_ns / 1000);
    }

    pub(super) fn error(&mut self, text: &str) {
        if let Some(count) = self.errors.get_mut(text) {
            *count += 1;
        } else if self.errors.len() < ERROR_KINDS {
            self.errors.insert(text.to_owned(), 1);
        } else {
            *self.errors.entry("other errors".to_owned()).or_default() += 1;
        }
    }

    /// Operations that ended well.
    pub(super) fn operations(&self) -> u64 {
        self.kinds.iter().map(|(_, histogram)| histogram.len()).sum()
    }
}

/// CPU time of this process and of others on this machine.
#[derive(Clone, Debug, Default)]
pub(super) struct CpuTimes {
    pub(super) own_s: f64,
    pub(super) servers_s: Vec<f64>,
}

impl CpuTimes {
    /// Reads the times; a process that is gone counts as 0.
    pub(super) fn now(server_pids: &[u32]) -> Self {
        let own = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Self {
            own_s: own.tv_sec as f64 + own.tv_nsec as f64 / 1e9,
            servers_s: server_pids.iter().map(|pid| process_cpu_s(*pid).unwrap_or(0.0)).collect(),
        }
    }

    /// What was used between `earlier` and this.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        Self {
            own_s: self.own_s - earlier.own_s,
            servers_s: self.servers_s.iter().zip(&earlier.servers_s).map(|(now, then)| now - then).collect(),
        }
    }
}

/// User and system time of a process from `/proc/PID/stat`.
fn process_cpu_s(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may hold spaces; fields are counted behind its closing parenthesis.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let user: f64 = fields.nth(11)?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / rustix::param::clock_ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_by_text_up_to_a_limit() {
        let mut stats = Stats::new(&["put"]);
        for n in 0..100 {
            stats.error(&format!("error {n}"));
            stats.error("error 1");
        }
        assert_eq!(stats.errors["error 1"], 101);
        assert_eq!(stats.errors.values().sum::<u64>(), 200);
        assert_eq!(stats.errors.len(), ERROR_KINDS + 1);
    }

    #[test]
    fn own_cpu_time_is_found_in_proc() {
        let pid = std::process::id();
        assert!(process_cpu_s(pid).is_some_and(|seconds| seconds >= 0.0));
        assert_eq!(process_cpu_s(u32::MAX), None);
    }
}
