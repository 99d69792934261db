//! Control groups, of both versions: where a group is in each hierarchy, what bounds it, what it used, and how it is made
//! and removed. Touches only groups below a path that its caller names, and never removes one that holds processes which
//! nobody killed.

mod limits;
mod stats;
mod tree;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use stats::Stats;
pub(crate) use tree::remove_if_empty;

/// The hierarchies of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchies(Layout);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Layout {
    /// Version 1, or both: mount points of the controllers. Several controllers can share one.
    V1(BTreeMap<String, PathBuf>),
    /// Version 2 alone: its mount point.
    V2(PathBuf),
}

/// Why a group could not be made, changed or removed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No hierarchy is mounted.
    #[error("no control groups are mounted below /sys/fs/cgroup")]
    NotMounted,
    /// A file or directory of it.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

impl Hierarchies {
    /// Finds them, by what is mounted below `/sys/fs/cgroup`.
    pub fn find() -> Result<Self, CgroupError> {
        let path = Path::new("/proc/self/mountinfo");
        let text = std::fs::read_to_string(path).map_err(|source| io("read", path, source))?;
        parse(&text).map(Self).ok_or(CgroupError::NotMounted)
    }

    /// 1 (with version 2 beside it, or not) or 2.
    pub fn version(&self) -> u8 {
        match self.0 {
            Layout::V1(_) => 1,
            Layout::V2(_) => 2,
        }
    }

    /// The controllers that groups can use.
    pub fn controllers(&self) -> Vec<String> {
        match &self.0 {
            Layout::V1(mounts) => mounts.keys().cloned().collect(),
            Layout::V2(root) => std::fs::read_to_string(root.join("cgroup.controllers"))
                .unwrap_or_default()
                .split_whitespace()
                .map(str::to_owned)
                .collect(),
        }
    }

    /// Where the group is for a controller; on version 2 this is the same for all.
    fn directory(&self, controller: &str, group: &Path) -> Option<PathBuf> {
        match &self.0 {
            Layout::V1(mounts) => mounts.get(controller).map(|mount| mount.join(group)),
            Layout::V2(root) => Some(root.join(group)),
        }
    }

    /// The mount points, each once.
    fn roots(&self) -> Vec<&Path> {
        let mut roots: Vec<&Path> = match &self.0 {
            Layout::V1(mounts) => mounts.values().map(PathBuf::as_path).collect(),
            Layout::V2(root) => vec![root],
        };
        roots.sort_unstable();
        roots.dedup();
        roots
    }
}

fn io(action: &'static str, path: &Path, source: std::io::Error) -> CgroupError {
    CgroupError::Io { action, path: path.to_owned(), source }
}

/// Controllers of version 1 that groups of containers are made in.
const V1_CONTROLLERS: &[&str] = &[
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "hugetlb",
    "memory",
    "net_cls",
    "net_prio",
    "perf_event",
    "blkio",
    "pids",
    "freezer",
];

/// Reads `/proc/self/mountinfo`.
fn parse(mountinfo: &str) -> Option<Layout> {
    let mut controllers = BTreeMap::new();
    let mut unified = None;
    for line in mountinfo.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let Some(mount) = before.split(' ').nth(4) else { continue };
        let mut after = after.split(' ');
        let (kind, options) = (after.next().unwrap_or_default(), after.nth(1).unwrap_or_default());
        match kind {
            "cgroup2" if mount == "/sys/fs/cgroup" => unified = Some(PathBuf::from(mount)),
            "cgroup" if mount.starts_with("/sys/fs/cgroup/") => {
                for option in options.split(',').filter(|option| V1_CONTROLLERS.contains(option)) {
                    controllers.entry(option.to_owned()).or_insert_with(|| PathBuf::from(mount));
                }
            }
            _ => {}
        }
    }
    match unified {
        Some(root) => Some(Layout::V2(root)),
        None if controllers.is_empty() => None,
        None => Some(Layout::V1(controllers)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_read_from_what_is_mounted() {
        let unified = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(parse(unified), Some(Layout::V2("/sys/fs/cgroup".into())));
        let hybrid = "30 24 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
            31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:1 - cgroup cgroup rw,cpu,cpuacct\n\
            32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
            33 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
            34 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let Some(Layout::V1(mounts)) = parse(hybrid) else { panic!("{:?}", parse(hybrid)) };
        assert_eq!(mounts.keys().collect::<Vec<_>>(), ["cpu", "cpuacct", "memory"]);
        assert_eq!(mounts["cpu"], mounts["cpuacct"]);
        let hierarchies = Hierarchies(Layout::V1(mounts));
        assert_eq!(hierarchies.roots().len(), 2);
        assert_eq!(
            hierarchies.directory("memory", Path::new("a/b")),
            Some("/sys/fs/cgroup/memory/a/b".into())
        );
        assert_eq!(parse("1 2 0:1 / / rw - ext4 /dev/vda rw\n"), None);
    }
}
