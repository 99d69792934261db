//! What a pod uses of what can be short. Shapes only; the numbers come from the runtime, the control groups and the disk.

use std::collections::BTreeMap;

use crate::volumes::Usage;

/// What a container uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerUsage {
    /// Bytes of memory that cannot be given back at once; nothing when it is not known.
    pub memory: Option<u64>,
    /// What it wrote into its root.
    pub root: Usage,
    /// Its logs.
    pub logs: Usage,
}

/// What a pod uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodUsage {
    /// Bytes of memory that cannot be given back at once.
    pub memory: u64,
    /// Processes and threads.
    pub processes: u64,
    /// By the containers' names.
    pub containers: BTreeMap<String, ContainerUsage>,
    /// Directories that began empty, by the volumes' names.
    pub volumes: BTreeMap<String, Usage>,
    /// Of these, those that lie in memory.
    pub in_memory: Vec<String>,
}

impl PodUsage {
    /// All that lies on the disk.
    #[must_use]
    pub fn disk(&self) -> Usage {
        let volumes = self.volumes.iter().filter(|(name, _)| !self.in_memory.contains(name));
        let containers = self.containers.values().flat_map(|it| [it.root, it.logs]);
        containers.chain(volumes.map(|(_, usage)| *usage)).fold(Usage::default(), Usage::plus)
    }
}
