//! What nodes, pods and containers use: as the kubelet's summary and as metrics, from the same numbers. Must never measure a pod.
//!
//! [`machine`] reads what the kernel says of the node, [`summary`], [`resource`], [`containers`] and [`volumes`] are the forms,
//! [`rates`] what lies between two moments.

pub(crate) mod containers;
pub(crate) mod machine;
pub(crate) mod rates;
pub(crate) mod resource;
pub(crate) mod summary;
pub(crate) mod text;
pub(crate) mod volumes;

/// What the processors did for somebody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// When this was so, in nanoseconds since 1970.
    pub at_ns: i64,
    /// Time of processors since it was made, in nanoseconds.
    pub used_ns: u64,
}

/// Memory of somebody, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// When this was so, in nanoseconds since 1970.
    pub at_ns: i64,
    /// All of it, with what the kernel keeps of files.
    pub usage: u64,
    /// What cannot be given back at once: without files that were not used lately.
    pub working_set: u64,
    /// What no file stands behind.
    pub rss: u64,
    /// The bound; nothing without.
    pub limit: Option<u64>,
    /// Pages that were not there and had to be made.
    pub page_faults: u64,
    /// Of these, those that were read from a disk.
    pub major_page_faults: u64,
}

/// Files of somebody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FsStats {
    /// When this was so, in nanoseconds since 1970.
    pub at_ns: i64,
    /// Bytes that the file system can hold.
    pub capacity: u64,
    /// Bytes that are left of it.
    pub available: u64,
    /// Bytes that are used, by this one.
    pub used: u64,
    /// Files that the file system can hold.
    pub inodes: u64,
    /// Files that are left of it.
    pub inodes_free: u64,
    /// Files of this one.
    pub inodes_used: u64,
}

/// A network interface, as its owner sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceStats {
    /// As `eth0`.
    pub name: String,
    /// Bytes that came.
    pub received: u64,
    /// Failures there.
    pub receive_errors: u64,
    /// Bytes that went.
    pub sent: u64,
    /// Failures there.
    pub send_errors: u64,
}

/// What a volume of a pod holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeStats {
    /// Its name in the pod.
    pub name: String,
    /// The claim behind it, in the pod's namespace.
    pub claim: Option<String>,
    /// What it holds, and what is left of where it is.
    pub fs: FsStats,
}

/// What a container uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerStats {
    /// Its name in the pod.
    pub name: String,
    /// When it was started, in nanoseconds since 1970.
    pub started_ns: i64,
    /// Processors.
    pub cpu: Option<CpuStats>,
    /// Memory.
    pub memory: Option<MemoryStats>,
    /// What it wrote into its root.
    pub rootfs: Option<FsStats>,
    /// Its logs.
    pub logs: Option<FsStats>,
}

/// What a pod uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodStats {
    /// When its sandbox was made, in nanoseconds since 1970.
    pub started_ns: i64,
    /// All of it.
    pub cpu: Option<CpuStats>,
    /// All of it.
    pub memory: Option<MemoryStats>,
    /// Processes and threads.
    pub processes: Option<u64>,
    /// Its own network, the interface of its default route first; empty for who uses the node's.
    pub interfaces: Vec<InterfaceStats>,
    /// Those that run.
    pub containers: Vec<ContainerStats>,
    /// Roots, logs and volumes that go with it.
    pub ephemeral_storage: Option<FsStats>,
}
