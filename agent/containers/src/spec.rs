//! What a sandbox and a container are made of, down to what the kernel is told. Vocabulary: everything is decided here
//! already, nothing is a default that somebody else fills in.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What the containers of a pod share.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// Its name among all sandboxes of the machine: the pod's uid. Safe as a file name.
    pub id: String,
    /// What it belongs to, for those who look (`io.kubernetes.pod.name` and so on).
    pub labels: BTreeMap<String, String>,
    /// The name of the host in its UTS namespace.
    pub hostname: String,
    /// Whose network it has.
    pub network: Share,
    /// Whose IPC namespace.
    pub ipc: Share,
    /// Whose process ids.
    pub pid: PidShare,
    /// Kernel parameters of its namespaces, as `net.core.somaxconn`.
    pub sysctls: BTreeMap<String, String>,
    /// The control group of the pod, a path below the root of each hierarchy such as `kubepods/burstable/pod1`.
    pub cgroup: String,
    /// What the pod's control group is bounded by.
    pub resources: Resources,
}

/// Whose namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Share {
    /// One of the sandbox.
    #[default]
    Pod,
    /// That of the machine.
    Host,
}

/// Whose process ids.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PidShare {
    /// Each container has its own.
    #[default]
    Container,
    /// All containers of the sandbox share one; who has lost its parent is reaped.
    Pod,
    /// Those of the machine.
    Host,
}

/// One container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Its name among all containers of the machine. Safe as a file name.
    pub id: String,
    /// Its name in the pod.
    pub name: String,
    /// How many of this name came before it.
    pub attempt: u32,
    /// What it belongs to, for those who look.
    pub labels: BTreeMap<String, String>,
    /// What is kept for those who made it, as they like.
    pub annotations: BTreeMap<String, String>,
    /// The image as the pod names it.
    pub image: String,
    /// What that image is.
    pub image_id: String,
    /// Directories that make its root, the lowest first.
    pub layers: Vec<PathBuf>,
    /// Nothing can be written to its root.
    pub read_only_root: bool,
    /// What is mounted into it, in this order.
    pub mounts: Vec<Mount>,
    /// Devices of the machine.
    pub devices: Vec<Device>,
    /// What runs.
    pub process: Process,
    /// What it may use.
    pub resources: Resources,
    /// Hidden from it; empty for those who may see all.
    pub masked_paths: Vec<PathBuf>,
    /// Read-only for it.
    pub read_only_paths: Vec<PathBuf>,
    /// It sees and may do what the machine's root can: all devices, a writable `/sys`.
    pub privileged: bool,
    /// What its system calls are filtered by.
    pub seccomp: Seccomp,
    /// Where its output is written, in the form of CRI logs; its directory is made.
    pub log_path: PathBuf,
    /// What a file of it holds at the end is its last word: a path in the machine.
    pub termination_message: Option<TerminationMessage>,
    /// Its input stays open for as long as it runs, whoever comes and leaves.
    pub stdin: bool,
    /// Its input ends with that of the first who was attached to it; terminals have none that ends.
    pub stdin_once: bool,
    /// The signal that asks it to stop, as `SIGTERM`.
    pub stop_signal: String,
}

/// Where the last word comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminationMessage {
    /// A file of the machine, mounted into the container.
    pub path: PathBuf,
    /// When it is empty and the container failed, the end of the log is.
    pub fall_back_to_logs: bool,
}

/// What runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The program and its words.
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Where it begins; made when it is not there.
    pub cwd: PathBuf,
    /// As whom.
    pub user: User,
    /// It has a terminal.
    pub terminal: bool,
    /// As `CAP_NET_ADMIN`; for root they are effective, and nobody gets others.
    pub capabilities: Vec<String>,
    /// It cannot gain rights by a program that has more.
    pub no_new_privileges: bool,
    /// How soon the kernel ends it when memory is short, -1000 to 1000.
    pub oom_score_adj: i32,
}

/// As whom something runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Further groups.
    pub additional_gids: Vec<u32>,
}

/// A mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where in the container, an absolute path.
    pub destination: PathBuf,
    /// What: a path of the machine for `bind`, else what the file system expects.
    pub source: String,
    /// `bind`, `tmpfs`, `proc`, `sysfs`, `cgroup`, `mqueue`, `devpts`.
    pub kind: String,
    /// As `ro`, `nosuid`, `rbind`, `rslave`, `size=65536k`.
    pub options: Vec<String>,
}

/// A device of the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// On the machine.
    pub host_path: PathBuf,
    /// In the container.
    pub container_path: PathBuf,
    /// Of `r`, `w`, `m`.
    pub permissions: String,
}

/// What may be used. Nothing is without bound.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// The share of a processor among others, in the scale of control groups v1: 1024 for a whole one.
    pub cpu_shares: Option<u64>,
    /// Time within a period, in microseconds.
    pub cpu_quota_us: Option<i64>,
    /// The period, in microseconds.
    pub cpu_period_us: Option<u64>,
    /// Bytes of memory.
    pub memory_bytes: Option<i64>,
    /// Processes and threads.
    pub pids: Option<i64>,
    /// Huge pages, bytes by size such as `2MB`.
    pub huge_pages: BTreeMap<String, u64>,
}

/// What system calls are filtered by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// Nothing.
    #[default]
    Unconfined,
    /// The profile that runtimes bring along.
    RuntimeDefault,
    /// A profile in a file, in the form of OCI or of Docker.
    File(PathBuf),
}

/// What is known of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxState {
    /// What it was made from.
    pub spec: SandboxSpec,
    /// When, in nanoseconds since 1970.
    pub created_ns: i64,
    /// Its containers can run.
    pub ready: bool,
    /// Its network namespace, a file that stays while it does; nothing in that of the machine.
    pub network_namespace: Option<PathBuf>,
}

/// What is known of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerState {
    /// What it was made from.
    pub spec: ContainerSpec,
    /// When, in nanoseconds since 1970.
    pub created_ns: i64,
    /// Where it is in its life.
    pub phase: Phase,
    /// Its first process, while it is there.
    pub pid: Option<u32>,
}

/// Where a container is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// It was made, and nothing of it runs yet.
    Created,
    /// It runs since then, in nanoseconds since 1970.
    Running {
        /// Since then.
        started_ns: i64,
    },
    /// It has ended.
    Exited(Exit),
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The exit code; 128 and the signal for those that a signal ended.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The kernel ended it because memory was short.
    pub oom_killed: bool,
    /// When it began to run; nothing if it never did.
    pub started_ns: Option<i64>,
    /// When it ended, in nanoseconds since 1970.
    pub finished_ns: i64,
    /// Its last word.
    pub message: String,
}
