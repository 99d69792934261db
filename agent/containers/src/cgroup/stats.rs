//! What a group used: parsers of the kernel's files, pure, and their reading.

use std::path::Path;

use super::{Hierarchies, Layout};

/// What a group used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Processor time, in nanoseconds.
    pub cpu_ns: u64,
    /// Bytes of memory, with what the kernel caches for it.
    pub memory_usage: u64,
    /// Bytes without the inactive part of the file cache: what counts against a limit in practice.
    pub memory_working_set: u64,
    /// Bytes of anonymous memory.
    pub memory_rss: u64,
    /// Page faults.
    pub page_faults: u64,
    /// Page faults that needed a disk.
    pub major_page_faults: u64,
    /// Processes and threads.
    pub pids: u64,
}

/// The value of a key in lines of `key value`.
pub(super) fn value(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Memory from the files of a group: usage and the lines of `memory.stat`. Version 1 counts its children in the keys that
/// begin with `total_`.
fn memory(stats: &mut Stats, version: u8, usage: u64, stat: &str) {
    let keys = if version == 1 {
        ["total_inactive_file", "total_rss", "total_pgfault", "total_pgmajfault"]
    } else {
        ["inactive_file", "anon", "pgfault", "pgmajfault"]
    };
    let [inactive, rss, faults, major] = keys.map(|key| value(stat, key).unwrap_or(0));
    stats.memory_usage = usage;
    stats.memory_working_set = usage.saturating_sub(inactive);
    stats.memory_rss = rss;
    stats.page_faults = faults;
    stats.major_page_faults = major;
}

impl Hierarchies {
    /// Reads what a group used; nothing if it is not there. What a missing controller would tell is 0.
    pub fn stats(&self, group: &Path) -> Option<Stats> {
        let exists = self.roots().iter().any(|root| root.join(group).is_dir());
        if !exists {
            return None;
        }
        let read = |controller: &str, file: &str| {
            let directory = self.directory(controller, group)?;
            std::fs::read_to_string(directory.join(file)).ok()
        };
        let number = |controller: &str, file: &str| read(controller, file)?.trim().parse::<u64>().ok();
        let mut stats = Stats { pids: number("pids", "pids.current").unwrap_or(0), ..Stats::default() };
        let stat = read("memory", "memory.stat").unwrap_or_default();
        match &self.0 {
            Layout::V1(_) => {
                stats.cpu_ns = number("cpuacct", "cpuacct.usage").unwrap_or(0);
                memory(&mut stats, 1, number("memory", "memory.usage_in_bytes").unwrap_or(0), &stat);
            }
            Layout::V2(_) => {
                let cpu = read("cpu", "cpu.stat").unwrap_or_default();
                stats.cpu_ns = value(&cpu, "usage_usec").unwrap_or(0) * 1000;
                memory(&mut stats, 2, number("memory", "memory.current").unwrap_or(0), &stat);
            }
        }
        Some(stats)
    }

    /// How often the kernel ended a process of the group because memory was short.
    pub(crate) fn oom_kills(&self, group: &Path) -> u64 {
        let file = match &self.0 {
            Layout::V1(_) => "memory.oom_control",
            Layout::V2(_) => "memory.events",
        };
        self.directory("memory", group)
            .and_then(|directory| std::fs::read_to_string(directory.join(file)).ok())
            .and_then(|text| value(&text, "oom_kill"))
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_whole_word() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(value(text, "oom_kill"), Some(3));
        assert_eq!(value(text, "oom"), None);
        assert_eq!(value("low 0\nhigh 0\nmax 2\noom 1\noom_kill 1\noom_group_kill 1\n", "oom_kill"), Some(1));
        assert_eq!(value("usage_usec\n", "usage_usec"), None);
    }

    #[test]
    fn the_working_set_is_without_what_could_be_dropped() {
        let mut v1 = Stats::default();
        memory(
            &mut v1,
            1,
            1000,
            "inactive_file 1\nrss 5\ntotal_inactive_file 300\ntotal_rss 600\ntotal_pgfault 7\n",
        );
        assert_eq!((v1.memory_working_set, v1.memory_rss, v1.page_faults), (700, 600, 7));
        let mut v2 = Stats::default();
        memory(&mut v2, 2, 100, "anon 60\nfile 40\ninactive_file 300\npgfault 9\npgmajfault 2\n");
        assert_eq!(
            (v2.memory_working_set, v2.memory_rss, v2.page_faults, v2.major_page_faults),
            (0, 60, 9, 2)
        );
    }
}
