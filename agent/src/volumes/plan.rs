//! What is to be done so that a volume of a pod is there, from what it shall be and what is mounted already. A decision; must never
//! touch a file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use barque_api::quantity::Quantity;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Pod};

use super::claims::Backing;
use super::layout::PodLayout;
use super::mount_table::MountTable;
use super::ownership::Group;
use super::payload::Payload;
use crate::containers::NodeFacts;
use crate::containers::bounds;
use crate::containers::mounts::MountedVolume;
use crate::pods::spec;

/// The mode of a directory that begins empty.
const EMPTY_MODE: u32 = 0o777;
/// The mode of shared memory.
const SHM_MODE: u32 = 0o1777;
/// The size of shared memory, in bytes.
const SHM_BYTES: i64 = 64 << 20;

/// What a volume shall be.
#[derive(Debug, Clone, PartialEq)]
pub enum Wanted {
    /// A directory that begins empty.
    Empty(EmptyDirVolumeSource),
    /// What is on the machine at a path.
    HostPath {
        /// The path.
        path: PathBuf,
        /// What it shall be, as `Directory`.
        kind: String,
    },
    /// Files.
    Files {
        /// A kind of volume, as `secret`.
        kind: &'static str,
        /// They are never on a disk.
        in_memory: bool,
        /// The files.
        payload: Payload,
    },
    /// What a claim is bound to.
    Claim {
        /// What it is.
        backing: Backing,
        /// The name of the persistent volume.
        volume: String,
        /// Nobody may write.
        read_only: bool,
        /// A directory that the node makes when it is needed.
        is_made_here: bool,
    },
    /// What a driver has put there.
    Published {
        /// Where.
        path: PathBuf,
        /// Nobody may write.
        read_only: bool,
        /// A device, used as one.
        is_device: bool,
        /// It is given to the pod's group.
        to_group: bool,
    },
    /// The layers of an image, the lowest first.
    Image(Vec<PathBuf>),
}

/// One thing to do. All are safe to repeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make a directory with this mode, and those above it; one that is there keeps its mode.
    MakeDirectory {
        /// Where.
        path: PathBuf,
        /// With this mode.
        mode: u32,
    },
    /// Mount a file system in memory.
    MountMemory {
        /// Where.
        path: PathBuf,
        /// `tmpfs` or `hugetlbfs`.
        kind: &'static str,
        /// As `size=1024`.
        options: String,
        /// The mode of its top.
        mode: u32,
    },
    /// See to it that a path of the machine is what it shall be.
    CheckHostPath {
        /// Where.
        path: PathBuf,
        /// As `Directory`.
        kind: String,
    },
    /// Mount what is at one path at another, too.
    Bind {
        /// What.
        from: PathBuf,
        /// Where.
        to: PathBuf,
        /// Nobody may write.
        read_only: bool,
    },
    /// Mount directories one over the other, the lowest first; nobody may write.
    Overlay {
        /// Of these directories.
        layers: Vec<PathBuf>,
        /// Where.
        to: PathBuf,
    },
    /// Make the files of a directory those.
    Write {
        /// Where.
        dir: PathBuf,
        /// Those.
        payload: Payload,
        /// Whom they belong to.
        group: Option<Group>,
    },
    /// Give everything to a group.
    Give {
        /// Where.
        path: PathBuf,
        /// To this.
        group: Group,
        /// Also when the top belongs to it already.
        always: bool,
    },
    /// Note in a file that a volume is whole.
    MarkReady(PathBuf),
}

/// What is to be done for a volume, and what it is then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumePlan {
    /// In this order.
    pub steps: Vec<Step>,
    /// What containers are given.
    pub mounted: MountedVolume,
}

/// What there is of a volume.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// What is mounted.
    pub table: &'a MountTable,
    /// It was made whole before, and given to whom it belongs: since then it is its containers'.
    pub was_ready: bool,
}

/// What the pod says of its group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GroupWish {
    pub(super) gid: Option<u32>,
    pub(super) on_mismatch: bool,
}

impl GroupWish {
    /// Of a pod.
    #[must_use]
    pub fn of(pod: &Pod) -> Self {
        let context = spec::spec(pod).and_then(|spec| spec.security_context.as_ref());
        let policy = context.and_then(|context| context.fs_group_change_policy.as_deref());
        let gid = context.and_then(|context| context.fs_group).and_then(|gid| u32::try_from(gid).ok());
        Self { gid, on_mismatch: policy == Some("OnRootMismatch") }
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_set(self) -> bool {
        self.gid.is_some()
    }

    fn group(self, read_only: bool) -> Option<Group> {
        self.gid.map(|gid| Group { gid, read_only })
    }
}

/// How much memory a volume in memory may have at most, in bytes: what the pod may have, or what the node has for pods.
#[must_use]
pub fn memory_bound(pod: &Pod, node: &NodeFacts) -> Option<i64> {
    let of_pod = bounds::of_pod(pod, node).memory_bytes;
    let amount =
        |text: &k8s_openapi::apimachinery::pkg::api::resource::Quantity| Quantity::parse(&text.0).ok();
    of_pod.or_else(|| node.allocatable.get("memory").and_then(amount).map(|amount| amount.value()))
}

/// What is to be done so that the volume is there.
#[must_use]
pub fn plan(
    layout: &PodLayout,
    name: &str,
    wanted: Wanted,
    seen: Seen<'_>,
    wish: GroupWish,
    memory: Option<i64>,
) -> VolumePlan {
    let Seen { table, was_ready } = seen;
    let size = |limit: Option<i64>| {
        let bound = [limit, memory].into_iter().flatten().min();
        bound.map(|bytes| format!("size={bytes}")).unwrap_or_default()
    };
    let directory = |path: PathBuf| Step::MakeDirectory { path, mode: 0o750 };
    // Whoever has the claim may write there, as whatever user.
    let made = |path: &PathBuf, is_made_here: bool| -> Vec<Step> {
        let step = is_made_here.then(|| Step::MakeDirectory { path: path.clone(), mode: EMPTY_MODE });
        step.into_iter().collect()
    };
    let volume = |path: PathBuf, read_only: bool| MountedVolume { path, read_only, is_device: false };
    match wanted {
        Wanted::Empty(source) => {
            let path = layout.volume("empty-dir", name);
            let mode = source.mode.map_or(EMPTY_MODE, |mode| mode.unsigned_abs() & 0o7777);
            let limit = source.size_limit.as_ref().and_then(|text| Quantity::parse(&text.0).ok());
            let limit = limit.map(|limit| limit.value()).filter(|limit| *limit > 0);
            let mut steps = Vec::new();
            let mut is_new = !was_ready;
            match source.medium.as_deref().unwrap_or_default() {
                "" => steps.push(Step::MakeDirectory { path: path.clone(), mode }),
                _ if table.has(&path) => {}
                medium => {
                    steps.push(directory(path.clone()));
                    let (kind, options) = match medium.strip_prefix("HugePages") {
                        Some(size) => ("hugetlbfs", page_size(size)),
                        None => ("tmpfs", size(limit)),
                    };
                    steps.push(Step::MountMemory { path: path.clone(), kind, options, mode });
                    is_new = true;
                }
            }
            steps.extend(finish(layout, name, &path, is_new, wish.group(false), true));
            VolumePlan { steps, mounted: volume(path, false) }
        }
        Wanted::HostPath { path, kind } => VolumePlan {
            steps: vec![Step::CheckHostPath { path: path.clone(), kind }],
            mounted: volume(path, false),
        },
        Wanted::Files { kind, in_memory, payload } => {
            let dir = layout.volume(kind, name);
            let mut steps = Vec::new();
            if !in_memory {
                steps.push(Step::MakeDirectory { path: dir.clone(), mode: EMPTY_MODE });
            } else if !table.has(&dir) {
                steps.push(directory(dir.clone()));
                let (path, options) = (dir.clone(), size(None));
                steps.push(Step::MountMemory { path, kind: "tmpfs", options, mode: EMPTY_MODE });
            }
            steps.push(Step::Write { dir: dir.clone(), payload, group: wish.group(true) });
            // Containers cannot change them, so that they are what the objects say.
            VolumePlan { steps, mounted: volume(dir, true) }
        }
        Wanted::Claim { backing: Backing::HostPath { path, kind }, read_only, is_made_here, .. } => {
            let mut steps = made(&path, is_made_here);
            steps.push(Step::CheckHostPath { path: path.clone(), kind });
            VolumePlan { steps, mounted: volume(path, read_only) }
        }
        Wanted::Claim { backing: Backing::Device(path), read_only, .. } => VolumePlan {
            steps: vec![Step::CheckHostPath { path: path.clone(), kind: "BlockDevice".to_owned() }],
            mounted: MountedVolume { path, read_only, is_device: true },
        },
        Wanted::Claim { backing: Backing::Directory(from), volume: pv, read_only, is_made_here } => {
            let to = layout.volume("local-volume", &pv);
            let mut steps = Vec::new();
            let mounts = !table.has(&to);
            if mounts {
                steps = made(&from, is_made_here);
                steps.push(Step::CheckHostPath { path: from.clone(), kind: "Directory".to_owned() });
                steps.push(directory(to.clone()));
                steps.push(Step::Bind { from, to: to.clone(), read_only });
            }
            let group = wish.group(false).filter(|_| !read_only);
            steps.extend(finish(layout, name, &to, mounts || !was_ready, group, !wish.on_mismatch));
            VolumePlan { steps, mounted: volume(to, read_only) }
        }
        Wanted::Published { path, read_only, is_device, to_group } => {
            let group = wish.group(false).filter(|_| to_group);
            let steps = finish(layout, name, &path, !was_ready, group, !wish.on_mismatch);
            VolumePlan { steps, mounted: MountedVolume { path, read_only, is_device } }
        }
        Wanted::Image(layers) => {
            let to = layout.volume("image", name);
            let mut steps = Vec::new();
            if !table.has(&to) {
                steps.push(directory(to.clone()));
                steps.push(match &layers[..] {
                    [one] => Step::Bind { from: one.clone(), to: to.clone(), read_only: true },
                    _ => Step::Overlay { layers, to: to.clone() },
                });
            }
            VolumePlan { steps, mounted: volume(to, true) }
        }
    }
}

/// What is done once for a volume: it is given to the pod's group. What containers do to it later stays.
fn finish(
    layout: &PodLayout,
    name: &str,
    path: &std::path::Path,
    is_new: bool,
    group: Option<Group>,
    always: bool,
) -> Vec<Step> {
    if !is_new {
        return Vec::new();
    }
    let give = group.map(|group| Step::Give { path: path.to_owned(), group, always });
    give.into_iter().chain([Step::MarkReady(layout.ready(name))]).collect()
}

/// `-2Mi` as the file system of huge pages takes it; nothing is the kernel's own size.
fn page_size(text: &str) -> String {
    let size = text.strip_prefix('-').and_then(|text| text.strip_suffix('i'));
    size.map(|size| format!("pagesize={size}")).unwrap_or_default()
}

/// What is to be done for the shared memory of a pod; nothing when it has that of the machine.
#[must_use]
pub fn plan_shm(pod: &Pod, layout: &PodLayout, table: &MountTable) -> Vec<Step> {
    let path = layout.shm();
    if spec::spec(pod).and_then(|spec| spec.host_ipc) == Some(true) || table.has(&path) {
        return Vec::new();
    }
    let options = format!("size={SHM_BYTES}");
    vec![
        Step::MakeDirectory { path: path.clone(), mode: 0o750 },
        Step::MountMemory { path, kind: "tmpfs", options, mode: SHM_MODE },
    ]
}

/// How much a directory that begins empty may hold, by the volumes' names: what is above is evicted.
#[must_use]
pub fn size_limits(pod: &Pod) -> BTreeMap<String, i64> {
    let volumes = spec::spec(pod).and_then(|spec| spec.volumes.as_ref());
    let limit = |volume: &k8s_openapi::api::core::v1::Volume| {
        let limit = volume.empty_dir.as_ref()?.size_limit.as_ref()?;
        let limit = Quantity::parse(&limit.0).ok()?.value();
        (limit > 0).then(|| (volume.name.clone(), limit))
    };
    volumes.into_iter().flatten().filter_map(limit).collect()
}
