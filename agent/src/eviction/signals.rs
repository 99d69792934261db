//! What a node can run out of: the kubelet's signals, the resources and conditions that belong to them, and how much is left.
//! Pure.

use std::collections::{BTreeMap, BTreeSet};

use barque_api::quantity::{Format, Quantity};

use crate::node_api::stats::FsStats;
use crate::node_api::stats::machine::MachineStats;

/// What is looked at. The images are where the containers write: there is no signal of its own for that file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// Bytes of memory.
    MemoryAvailable,
    /// Bytes of the file system with logs and volumes.
    NodeFsAvailable,
    /// Files that it can still have.
    NodeFsInodesFree,
    /// Bytes of the file system with the images.
    ImageFsAvailable,
    /// Files that it can still have.
    ImageFsInodesFree,
    /// Processes and threads.
    PidAvailable,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::MemoryAvailable,
        Self::NodeFsAvailable,
        Self::NodeFsInodesFree,
        Self::ImageFsAvailable,
        Self::ImageFsInodesFree,
        Self::PidAvailable,
    ];

    /// As flags and metrics name it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::MemoryAvailable => "memory.available",
            Self::NodeFsAvailable => "nodefs.available",
            Self::NodeFsInodesFree => "nodefs.inodesFree",
            Self::ImageFsAvailable => "imagefs.available",
            Self::ImageFsInodesFree => "imagefs.inodesFree",
            Self::PidAvailable => "pid.available",
        }
    }

    /// What is short.
    #[must_use]
    pub const fn resource(self) -> Resource {
        match self {
            Self::MemoryAvailable => Resource::Memory,
            Self::NodeFsAvailable | Self::ImageFsAvailable => Resource::EphemeralStorage,
            Self::NodeFsInodesFree | Self::ImageFsInodesFree => Resource::Inodes,
            Self::PidAvailable => Resource::Pids,
        }
    }

    /// The condition of the node that follows.
    #[must_use]
    pub const fn pressure(self) -> Pressure {
        match self.resource() {
            Resource::Memory => Pressure::Memory,
            Resource::EphemeralStorage | Resource::Inodes => Pressure::Disk,
            Resource::Pids => Pressure::Pid,
        }
    }
}

/// What can be short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Bytes.
    Memory,
    /// Bytes.
    EphemeralStorage,
    /// Files.
    Inodes,
    /// Processes and threads.
    Pids,
}

impl Resource {
    /// As messages name it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::EphemeralStorage => "ephemeral-storage",
            Self::Inodes => "inodes",
            Self::Pids => "pids",
        }
    }

    /// So much of it, as messages tell it.
    #[must_use]
    pub fn quantity(self, amount: u64) -> Quantity {
        let format = match self {
            Self::Memory | Self::EphemeralStorage => Format::BinarySi,
            Self::Inodes | Self::Pids => Format::DecimalSi,
        };
        Quantity::new(i64::try_from(amount).unwrap_or(i64::MAX), 0, format)
    }
}

/// A condition of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Memory is short.
    Memory,
    /// A disk is full.
    Disk,
    /// There are too many processes.
    Pid,
}

impl Pressure {
    /// All of them, in the order in which nodes tell them.
    pub const ALL: [Self; 3] = [Self::Memory, Self::Disk, Self::Pid];

    /// The condition's type.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Memory => "MemoryPressure",
            Self::Disk => "DiskPressure",
            Self::Pid => "PIDPressure",
        }
    }

    /// Its reason and message, when it holds and when not.
    #[must_use]
    pub const fn story(self, holds: bool) -> (&'static str, &'static str) {
        match (self, holds) {
            (Self::Memory, true) => {
                ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available")
            }
            (Self::Memory, false) => {
                ("KubeletHasSufficientMemory", "kubelet has sufficient memory available")
            }
            (Self::Disk, true) => ("KubeletHasDiskPressure", "kubelet has disk pressure"),
            (Self::Disk, false) => ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            (Self::Pid, true) => ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
            (Self::Pid, false) => ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        }
    }
}

/// Those that hold.
pub type Pressures = BTreeSet<Pressure>;

/// How much of something is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observed {
    /// That is left.
    pub available: u64,
    /// That there is at all.
    pub capacity: u64,
}

/// What was seen. Of what is missing here nothing is known, and nothing follows.
pub type Observations = BTreeMap<Signal, Observed>;

/// What the numbers of a machine, and of the file system of its images, say.
#[must_use]
pub(crate) fn observations(machine: &MachineStats, images: Option<FsStats>) -> Observations {
    let mut seen = Observations::new();
    let mut see = |signal, available, capacity| seen.insert(signal, Observed { available, capacity });
    if let (Some(memory), Some(available)) = (machine.memory, machine.memory_available) {
        see(Signal::MemoryAvailable, available, available.saturating_add(memory.working_set));
    }
    if let Some(fs) = machine.fs {
        see(Signal::NodeFsAvailable, fs.available, fs.capacity);
        see(Signal::NodeFsInodesFree, fs.inodes_free, fs.inodes);
    }
    if let Some(fs) = images {
        see(Signal::ImageFsAvailable, fs.available, fs.capacity);
        see(Signal::ImageFsInodesFree, fs.inodes_free, fs.inodes);
    }
    if let Some((most, now)) = machine.processes {
        see(Signal::PidAvailable, most.saturating_sub(now), most);
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node_api::stats::MemoryStats;

    #[test]
    fn what_is_not_known_is_not_said() {
        assert!(observations(&MachineStats::default(), None).is_empty());
        let machine = MachineStats {
            memory: Some(MemoryStats { working_set: 30, ..MemoryStats::default() }),
            memory_available: Some(70),
            processes: Some((100, 10)),
            ..MachineStats::default()
        };
        let images = FsStats { capacity: 10, available: 4, inodes: 9, inodes_free: 3, ..FsStats::default() };
        let seen = observations(&machine, Some(images));
        let told =
            seen.iter().map(|(signal, it)| format!("{} {}/{}", signal.word(), it.available, it.capacity));
        let expected = [
            "memory.available 70/100",
            "imagefs.available 4/10",
            "imagefs.inodesFree 3/9",
            "pid.available 90/100",
        ];
        assert_eq!(told.collect::<Vec<_>>(), expected);
    }
}
