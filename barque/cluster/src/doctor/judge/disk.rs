//! Whether the disk is fast and large enough for a store. Decisions.

use std::path::PathBuf;
use std::time::Duration;

use super::super::Finding;
use super::size;

/// What etcd's guide asks of the slowest of a hundred syncs.
const GOOD: Duration = Duration::from_millis(10);
/// Half of the store's election timeout: with it, leaders are lost for no other reason.
const BAD: Duration = Duration::from_millis(500);
/// Fewer say nothing of the slowest of a hundred.
const ENOUGH: usize = 20;
/// A store that has less cannot even write its snapshot, in bytes.
const LITTLE: u64 = 256 << 20;
/// Below this it is time to make room, in bytes.
const SOME: u64 = 2 << 30;

/// A disk that was looked at.
#[derive(Clone, Debug)]
pub(crate) struct DiskSeen {
    /// The directory.
    pub(crate) directory: PathBuf,
    /// How long each sync took; why none was made otherwise.
    pub(crate) syncs: Result<Vec<Duration>, String>,
    /// Bytes that are free for it, and all of its file system.
    pub(crate) room: Result<(u64, u64), String>,
}

/// The time below which `share` of 100 of them are.
fn percentile(sorted: &[Duration], share: usize) -> Duration {
    let at = (sorted.len() * share).div_ceil(100).clamp(1, sorted.len().max(1));
    sorted.get(at - 1).copied().unwrap_or_default()
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// How long the disk takes to keep what was written.
pub(crate) fn syncs(disk: &DiskSeen) -> Finding {
    const CHECK: &str = "disk sync";
    let times = match &disk.syncs {
        Ok(times) if times.is_empty() => return Finding::skipped(CHECK, "nothing was measured"),
        Ok(times) => times,
        Err(why) => return Finding::skipped(CHECK, format!("{}: {why}", disk.directory.display())),
    };
    let mut sorted = times.clone();
    sorted.sort_unstable();
    let (half, p99) = (percentile(&sorted, 50), percentile(&sorted, 99));
    let found = format!(
        "p50 {}, p99 {} of {} syncs in {}",
        milliseconds(half),
        milliseconds(p99),
        sorted.len(),
        disk.directory.display()
    );
    let advice = "etcd's guide asks for a p99 below 10 ms: a slow disk makes every write slow, and a very slow one loses leaders; \
                  use an SSD that others do not use, and look at what else writes to it";
    if p99 > BAD || (sorted.len() < ENOUGH && half > GOOD) {
        Finding::failed(CHECK, found, advice)
    } else if p99 > GOOD {
        Finding::warning(CHECK, found, advice)
    } else {
        Finding::ok(CHECK, found)
    }
}

/// How much room there is.
pub(crate) fn room(disk: &DiskSeen) -> Finding {
    const CHECK: &str = "disk space";
    let (free, all) = match &disk.room {
        Ok(room) => *room,
        Err(why) => return Finding::skipped(CHECK, format!("{}: {why}", disk.directory.display())),
    };
    let percent = u128::from(free) * 100 / u128::from(all.max(1));
    let found =
        format!("{} of {} are free ({percent} %) for {}", size(free), size(all), disk.directory.display());
    let advice = "make room: without it the store raises NOSPACE and refuses writes, and a member cannot write its snapshots";
    if free < LITTLE {
        Finding::failed(CHECK, found, advice)
    } else if free < SOME || percent < 5 {
        Finding::warning(CHECK, found, advice)
    } else {
        Finding::ok(CHECK, found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    fn disk(syncs: Result<Vec<Duration>, String>, room: Result<(u64, u64), String>) -> DiskSeen {
        DiskSeen { directory: "/data".into(), syncs, room }
    }

    #[test]
    fn a_slow_disk_is_told_by_its_slowest_syncs() {
        let times = |count: usize, most: u64, last: u64| {
            let mut all = vec![Duration::from_millis(most); count - 2];
            all.extend([Duration::from_millis(last); 2]);
            all
        };
        let cases = [
            (times(100, 2, 9), Level::Ok, "p50 2.0 ms, p99 9.0 ms of 100 syncs in /data"),
            (times(100, 2, 11), Level::Warning, "p99 11.0 ms"),
            (times(100, 2, 501), Level::Failed, "p99 501.0 ms"),
            // So slow that only a few could be made in the time there is.
            (times(5, 400, 400), Level::Failed, "5 syncs"),
            (Vec::new(), Level::Skipped, "nothing was measured"),
        ];
        for (times, level, text) in cases {
            let finding = syncs(&disk(Ok(times), Err(String::new())));
            assert_eq!(finding.result, level, "{finding:?}");
            assert!(finding.found.contains(text), "{finding:?}");
        }
        let finding = syncs(&disk(Err("Permission denied".to_owned()), Err(String::new())));
        assert_eq!(finding, Finding::skipped("disk sync", "/data: Permission denied"));
    }

    #[test]
    fn percentiles_are_those_of_the_nearest_rank() {
        let sorted: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(percentile(&sorted, 50), Duration::from_millis(100));
        assert_eq!(percentile(&sorted, 99), Duration::from_millis(198));
        assert_eq!(percentile(&sorted[..1], 99), Duration::from_millis(1));
    }

    #[test]
    fn there_is_room_or_not() {
        let gib = 1 << 30;
        for (free, all, level) in [
            (10 * gib, 100 * gib, Level::Ok),
            (4 * gib, 100 * gib, Level::Warning),
            (gib, 10 * gib, Level::Warning),
            (LITTLE - 1, 10 * gib, Level::Failed),
            (0, 0, Level::Failed),
        ] {
            assert_eq!(room(&disk(Ok(Vec::new()), Ok((free, all)))).result, level, "{free} of {all}");
        }
    }
}
