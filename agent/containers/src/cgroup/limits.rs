//! What is written into which file of a group so that it is bounded as asked, for both versions. Pure.

use crate::spec::Resources;

/// A value for a file of a controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) controller: &'static str,
    pub(super) file: String,
    pub(super) value: String,
}

/// The scale of version 1, 2 to 262144, as the one of version 2, 1 to 10000, as Kubernetes and the runtimes convert it.
pub(super) fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142
}

/// The settings, in the order in which they are to be written.
pub(super) fn settings(version: u8, resources: &Resources) -> Vec<Setting> {
    let mut list = Vec::new();
    let mut set = |controller, file: &str, value: String| {
        list.push(Setting { controller, file: file.to_owned(), value });
    };
    let or_max = |value: i64| if value < 0 { "max".to_owned() } else { value.to_string() };
    if version == 1 {
        if let Some(shares) = resources.cpu_shares {
            set("cpu", "cpu.shares", shares.max(2).to_string());
        }
        if let Some(period) = resources.cpu_period_us {
            set("cpu", "cpu.cfs_period_us", period.to_string());
        }
        if let Some(quota) = resources.cpu_quota_us {
            set("cpu", "cpu.cfs_quota_us", quota.to_string());
        }
        if let Some(bytes) = resources.memory_bytes {
            set("memory", "memory.limit_in_bytes", bytes.to_string());
        }
        if let Some(pids) = resources.pids {
            set("pids", "pids.max", or_max(pids));
        }
        for (size, bytes) in &resources.huge_pages {
            set("hugetlb", &format!("hugetlb.{size}.limit_in_bytes"), bytes.to_string());
        }
    } else {
        if let Some(shares) = resources.cpu_shares {
            set("cpu", "cpu.weight", weight(shares).to_string());
        }
        if resources.cpu_quota_us.is_some() || resources.cpu_period_us.is_some() {
            let quota = or_max(resources.cpu_quota_us.unwrap_or(-1));
            let period = resources.cpu_period_us.unwrap_or(100_000);
            set("cpu", "cpu.max", format!("{quota} {period}"));
        }
        if let Some(bytes) = resources.memory_bytes {
            set("memory", "memory.max", or_max(bytes));
        }
        if let Some(pids) = resources.pids {
            set("pids", "pids.max", or_max(pids));
        }
        for (size, bytes) in &resources.huge_pages {
            set("hugetlb", &format!("hugetlb.{size}.max"), bytes.to_string());
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(version: u8, resources: &Resources) -> Vec<String> {
        settings(version, resources)
            .into_iter()
            .map(|setting| format!("{} {}={}", setting.controller, setting.file, setting.value))
            .collect()
    }

    #[test]
    fn each_version_is_told_in_its_own_way() {
        let resources = Resources {
            cpu_shares: Some(1024),
            cpu_quota_us: Some(50_000),
            cpu_period_us: Some(100_000),
            memory_bytes: Some(1 << 20),
            pids: Some(-1),
            huge_pages: [("2MB".to_owned(), 0)].into(),
        };
        assert_eq!(
            written(1, &resources),
            [
                "cpu cpu.shares=1024",
                "cpu cpu.cfs_period_us=100000",
                "cpu cpu.cfs_quota_us=50000",
                "memory memory.limit_in_bytes=1048576",
                "pids pids.max=max",
                "hugetlb hugetlb.2MB.limit_in_bytes=0",
            ]
        );
        assert_eq!(
            written(2, &resources),
            [
                "cpu cpu.weight=39",
                "cpu cpu.max=50000 100000",
                "memory memory.max=1048576",
                "pids pids.max=max",
                "hugetlb hugetlb.2MB.max=0",
            ]
        );
        assert!(written(2, &Resources::default()).is_empty());
    }

    #[test]
    fn weights_cover_the_whole_scale() {
        assert_eq!([0, 2, 1024, 262_144, u64::MAX].map(weight), [1, 1, 39, 10_000, 10_000]);
    }
}
