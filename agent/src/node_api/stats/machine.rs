//! What the kernel says that the whole machine uses. Must never fail: what cannot be read is not said.

use std::fs;
use std::path::Path;

use super::{CpuStats, FsStats, InterfaceStats, MemoryStats};

/// See the module's description.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MachineStats {
    /// When it was started, in seconds since 1970.
    pub(crate) started: Option<i64>,
    pub(crate) cpu: Option<CpuStats>,
    pub(crate) memory: Option<MemoryStats>,
    /// Bytes of memory that are left.
    pub(crate) memory_available: Option<u64>,
    pub(crate) fs: Option<FsStats>,
    pub(crate) interfaces: Vec<InterfaceStats>,
    /// The most processes and threads, and how many there are.
    pub(crate) processes: Option<(u64, u64)>,
}

/// Reads it; `root` is a directory on the file system of the node, `now` the time in nanoseconds since 1970. Blocking.
pub(crate) fn machine(root: &Path, now: i64) -> MachineStats {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (stat, memory) = (read("/proc/stat"), read("/proc/meminfo"));
    let ticks = rustix::param::clock_ticks_per_second();
    let most = read("/proc/sys/kernel/pid_max").trim().parse().ok();
    MachineStats {
        started: number_after(&stat, "btime").and_then(|seconds| i64::try_from(seconds).ok()),
        cpu: cpu(&stat, ticks).map(|used_ns| CpuStats { at_ns: now, used_ns }),
        memory: memory_of(&memory, &read("/proc/vmstat")).map(|stats| MemoryStats { at_ns: now, ..stats }),
        memory_available: number_after(&memory, "MemAvailable:").map(|kib| kib * 1024),
        fs: file_system(root, now),
        interfaces: interfaces(&read("/proc/net/dev"), &read("/proc/net/route")),
        processes: most.zip(threads(&read("/proc/loadavg"))),
    }
}

/// The number in the line that begins with a word.
fn number_after(text: &str, word: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(word))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Time that all processors were in use, in nanoseconds.
fn cpu(stat: &str, ticks: u64) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let times: Vec<u64> = line.split_whitespace().map_while(|time| time.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guests are part of user and nice.
    let idle = |at: &usize| *at == 3 || *at == 4;
    let used: u64 = times.iter().enumerate().take(8).filter(|(at, _)| !idle(at)).map(|(_, time)| time).sum();
    used.checked_mul(1_000_000_000 / ticks.max(1))
}

fn memory_of(memory: &str, counters: &str) -> Option<MemoryStats> {
    let bytes = |word| number_after(memory, word).map(|kib| kib * 1024);
    let (total, free) = (bytes("MemTotal:")?, bytes("MemFree:")?);
    Some(MemoryStats {
        at_ns: 0,
        usage: total.saturating_sub(free),
        working_set: total.saturating_sub(bytes("MemAvailable:")?),
        rss: bytes("AnonPages:").unwrap_or(0),
        limit: None,
        page_faults: number_after(counters, "pgfault ").unwrap_or(0),
        major_page_faults: number_after(counters, "pgmajfault ").unwrap_or(0),
    })
}

/// The file system that a directory is on.
pub(crate) fn file_system(directory: &Path, now: i64) -> Option<FsStats> {
    let stat = rustix::fs::statvfs(directory).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Some(FsStats {
        at_ns: now,
        capacity: bytes(stat.f_blocks),
        available: bytes(stat.f_bavail),
        used: bytes(stat.f_blocks.saturating_sub(stat.f_bfree)),
        inodes: stat.f_files,
        inodes_free: stat.f_ffree,
        inodes_used: stat.f_files.saturating_sub(stat.f_ffree),
    })
}

/// Interfaces but the loopback one; that of the default route comes first.
fn interfaces(devices: &str, routes: &str) -> Vec<InterfaceStats> {
    let default = routes.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let name = words.next()?;
        (words.next()? == "00000000").then_some(name)
    });
    let mut all: Vec<InterfaceStats> = devices.lines().filter_map(interface).collect();
    all.retain(|one| one.name != "lo");
    all.sort_by_key(|one| Some(one.name.as_str()) != default);
    all
}

/// The interface of this name, in the network of the calling process.
pub(crate) fn interface_of(name: &str) -> Option<InterfaceStats> {
    let devices = fs::read_to_string("/proc/net/dev").ok()?;
    devices.lines().filter_map(interface).find(|one| one.name == name)
}

fn interface(line: &str) -> Option<InterfaceStats> {
    let (name, counters) = line.split_once(':')?;
    let counters: Vec<u64> = counters.split_whitespace().map_while(|one| one.parse().ok()).collect();
    let [received, _, receive_errors, _, _, _, _, _, sent, _, send_errors, ..] = counters[..] else {
        return None;
    };
    Some(InterfaceStats { name: name.trim().to_owned(), received, receive_errors, sent, send_errors })
}

/// All threads of the machine, of `running/all` in the fourth place.
fn threads(load: &str) -> Option<u64> {
    load.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_understood() {
        assert_eq!(cpu("cpu  10 2 3 100 50 1 1 1 7 0\ncpu0 1 1", 100), Some(18 * 10_000_000));
        assert_eq!(cpu("", 100), None);
        let memory = memory_of(
            "MemTotal:  100 kB\nMemFree: 40 kB\nMemAvailable: 70 kB\nAnonPages: 5 kB\n",
            "pgfault 7\npgmajfault 2\n",
        )
        .unwrap();
        assert_eq!((memory.usage, memory.working_set, memory.rss), (60 * 1024, 30 * 1024, 5 * 1024));
        assert_eq!((memory.page_faults, memory.major_page_faults), (7, 2));
        let devices = "Inter-| Receive\n face |bytes\n    lo: 9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n  wg0: 1 1 2 0 0 0 0 0 3 1 4 0 0 0 0 0\n\
                       eth0:5 1 0 0 0 0 0 0 6 1 0 0 0 0 0 0\n";
        let found = interfaces(devices, "Iface Destination\nwg0 0000000A 0\neth0 00000000 1\n");
        let told: Vec<_> = found.iter().map(|one| (one.name.as_str(), one.received, one.sent)).collect();
        assert_eq!(told, [("eth0", 5, 6), ("wg0", 1, 3)]);
        assert_eq!(found[1].receive_errors + found[1].send_errors, 6);
        assert_eq!(threads("0.1 0.2 0.3 2/345 6789"), Some(345));
    }

    #[test]
    fn this_machine_uses_something() {
        let stats = machine(Path::new("/"), 5);
        assert!(stats.cpu.is_some_and(|cpu| cpu.used_ns > 0 && cpu.at_ns == 5));
        assert!(stats.memory.is_some_and(|memory| memory.usage > 0 && memory.working_set > 0));
        assert!(stats.fs.is_some_and(|fs| fs.capacity >= fs.available));
        assert!(stats.processes.is_some_and(|(most, now)| now > 0 && most > 0));
    }
}
