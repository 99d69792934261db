//! `process_*` and `os_fd_*`: what the system says of this process, read from `/proc` at each scrape. Must never know what the
//! process is.

use std::fs;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, Opts};

/// What one look tells; `None` where the system does not.
#[derive(Debug, Default, PartialEq)]
struct Look {
    cpu_seconds: Option<f64>,
    start_time_seconds: Option<f64>,
    virtual_bytes: Option<f64>,
    resident_bytes: Option<f64>,
    open_fds: Option<f64>,
    max_fds: Option<f64>,
}

/// What a gauge takes out of a look.
type Part = fn(&Look) -> Option<f64>;

/// A gauge for each, set when it is collected.
pub struct ProcessCollector {
    gauges: Vec<(Gauge, Part)>,
}

impl ProcessCollector {
    /// Nothing is looked at until it is collected.
    #[must_use]
    pub fn new() -> Self {
        let gauge = |name: &str, help: &str, value: Part| {
            (Gauge::with_opts(Opts::new(name, help)).expect("well-formed names"), value)
        };
        Self {
            gauges: vec![
                gauge("process_cpu_seconds_total", "User and system CPU time in seconds.", |l| l.cpu_seconds),
                gauge("process_start_time_seconds", "Start, in seconds since 1970.", |l| {
                    l.start_time_seconds
                }),
                gauge("process_virtual_memory_bytes", "Virtual memory in bytes.", |l| l.virtual_bytes),
                gauge("process_resident_memory_bytes", "Resident memory in bytes.", |l| l.resident_bytes),
                gauge("process_open_fds", "Open file descriptors.", |l| l.open_fds),
                gauge("process_max_fds", "The most file descriptors that may be open.", |l| l.max_fds),
                gauge("os_fd_used", "Open file descriptors.", |l| l.open_fds),
                gauge("os_fd_limit", "The most file descriptors that may be open.", |l| l.max_fds),
            ],
        }
    }
}

impl Default for ProcessCollector {
    fn default() -> Self {
        Self::new()
    }
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges.iter().flat_map(|(gauge, _)| gauge.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let look = look();
        let mut families = Vec::with_capacity(self.gauges.len());
        for (gauge, value) in &self.gauges {
            if let Some(value) = value(&look) {
                gauge.set(value);
                families.extend(gauge.collect());
            }
        }
        families
    }
}

#[expect(clippy::cast_precision_loss, reason = "metrics are floats")]
fn look() -> Look {
    let mut look = Look::default();
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    look.max_fds = limit.current.map(|most| most as f64);
    // The directory that is being read is one of them; so it is for everybody who counts this way.
    look.open_fds = fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64);
    if let (Ok(stat), Ok(system)) = (fs::read_to_string("/proc/self/stat"), fs::read_to_string("/proc/stat"))
    {
        let ticks_per_second = rustix::param::clock_ticks_per_second() as f64;
        let page_bytes = rustix::param::page_size() as f64;
        parse(&stat, &system, ticks_per_second, page_bytes, &mut look);
    }
    look
}

/// See proc_pid_stat(5): after the name in parentheses come the third and further fields.
fn parse(stat: &str, system: &str, ticks_per_second: f64, page_bytes: f64, look: &mut Look) {
    let Some((_, rest)) = stat.rsplit_once(')') else { return };
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse::<f64>().ok());
    if let (Some(user), Some(kernel)) = (field(14), field(15)) {
        look.cpu_seconds = Some((user + kernel) / ticks_per_second);
    }
    look.virtual_bytes = field(23);
    look.resident_bytes = field(24).map(|pages| pages * page_bytes);
    let boot = system.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<f64>().ok());
    if let (Some(boot), Some(started)) = (boot, field(22)) {
        look.start_time_seconds = Some(boot + started / ticks_per_second);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_after_a_name_with_spaces_and_parentheses() {
        let stat = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 150 13 14 20 0 9 0 5000 1048576 256 18446744073709551615";
        let mut look = Look::default();
        parse(stat, "cpu 1 2\nbtime 1000\n", 100.0, 4096.0, &mut look);
        assert_eq!(look.cpu_seconds, Some(4.0));
        assert_eq!(look.start_time_seconds, Some(1050.0));
        assert_eq!(look.virtual_bytes, Some(1_048_576.0));
        assert_eq!(look.resident_bytes, Some(1_048_576.0));
    }

    #[test]
    fn a_running_process_has_memory_and_files() {
        let look = look();
        assert!(look.resident_bytes.unwrap() > 100_000.0);
        assert!(look.open_fds.unwrap() >= 3.0);
        assert!(look.max_fds.unwrap() >= look.open_fds.unwrap());
        assert!(look.start_time_seconds.unwrap() > 1.6e9);
    }
}
