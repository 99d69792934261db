//! What a container sees of file systems and devices, in the order in which it is mounted. A decision; paths are handed in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use barque_containers::spec::{Device, Mount};
use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};

use super::env::Environment;
use super::expansion::expand_all;
use super::rights::is_privileged;
use super::{ContainerError, NodeFacts};
use crate::pods::spec;

/// Where a container's last word is, unless it says it.
const LAST_WORD: &str = "/dev/termination-log";

/// A volume of a pod that can be given to containers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountedVolume {
    /// A directory or file of the machine, or a block device.
    pub path: PathBuf,
    /// Nobody may write to it.
    pub read_only: bool,
    /// It is a block device, for `volumeDevices`.
    pub is_device: bool,
}

/// Files and directories that the containers of a pod share, as far as the agent made them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodFiles {
    /// For `/etc/hosts`.
    pub hosts: Option<PathBuf>,
    /// For `/etc/resolv.conf`.
    pub resolv_conf: Option<PathBuf>,
    /// For `/etc/hostname`.
    pub hostname: Option<PathBuf>,
    /// For `/dev/shm`; nothing is that of the machine.
    pub shm: Option<PathBuf>,
}

/// A part of a volume that a container wants instead of the whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubPath {
    /// Which of the container's mounts.
    pub index: usize,
    /// The volume's name.
    pub volume: String,
    /// Within the volume; relative, and never upwards.
    pub path: PathBuf,
    /// It need not be made, since nobody will write to it.
    pub read_only: bool,
}

/// The parts of volumes that a container wants, with the variables in them replaced.
///
/// # Errors
/// When a variable is missing or a path leads out of its volume, in the kubelet's words.
pub fn sub_paths(container: &Container, environment: &Environment) -> Result<Vec<SubPath>, ContainerError> {
    let mut all = Vec::new();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let (path, is_expression) = match (&mount.sub_path, &mount.sub_path_expr) {
            (_, Some(text)) if !text.is_empty() => {
                let expanded = expand_all(text, |name| environment.get(name));
                (expanded.map_err(ContainerError::Config)?, true)
            }
            (Some(text), _) if !text.is_empty() => (text.clone(), false),
            _ => continue,
        };
        let wrong = |why: &str| Err(ContainerError::Config(format!("error SubPath `{path}` {why}")));
        if path.starts_with('/') {
            return wrong("must not be an absolute path");
        }
        if path.split('/').any(|part| part == "..") {
            return Err(ContainerError::Config(format!(
                "unable to provision SubPath `{path}`: must not contain '..'"
            )));
        }
        if is_expression && path.is_empty() {
            return Err(ContainerError::Config(
                "subPathExpr is empty after its variables are replaced".into(),
            ));
        }
        let read_only = mount.read_only == Some(true);
        all.push(SubPath { index, volume: mount.name.clone(), path: PathBuf::from(path), read_only });
    }
    Ok(all)
}

/// The file of the machine that a container's last word is kept in.
#[must_use]
pub fn last_word(pod: &Pod, container: &str, attempt: u32, node: &NodeFacts) -> PathBuf {
    let pod = node.root.join("pods").join(spec::uid(pod));
    pod.join("containers").join(container).join(attempt.to_string())
}

/// What is handed in.
#[derive(Debug, Clone, Copy)]
pub struct Paths<'a> {
    /// The pod's volumes by their names.
    pub volumes: &'a BTreeMap<String, MountedVolume>,
    /// What became of [`sub_paths`], by the index of the mount.
    pub sub_paths: &'a BTreeMap<usize, PathBuf>,
    /// What the pod's containers share.
    pub files: &'a PodFiles,
    /// Where the last word is kept.
    pub last_word: &'a Path,
}

/// Everything that is mounted into a container.
///
/// # Errors
/// When a volume is not there, in the kubelet's words.
pub fn mounts(
    container: &Container,
    node: &NodeFacts,
    paths: Paths<'_>,
) -> Result<Vec<Mount>, ContainerError> {
    let own = own_mounts(container, node, paths)?;
    let is_taken = |path: &Path| own.iter().any(|mount| mount.destination == path);
    let mut all = system(is_privileged(container));
    all.push(match &paths.files.shm {
        Some(shm) => bind(shm, Path::new("/dev/shm"), &["rbind", "rprivate", "rw"]),
        None => bind(Path::new("/dev/shm"), Path::new("/dev/shm"), &["rbind", "rprivate", "rw"]),
    });
    // What the pod puts there itself goes before what is there anyway, and a `/dev` of its own has all that is in it.
    let own_dev = is_taken(Path::new("/dev"));
    all.retain(|mount| {
        let in_dev = mount.destination != Path::new("/dev") && mount.destination.starts_with("/dev");
        !(is_taken(&mount.destination) || own_dev && in_dev)
    });
    all.extend(own);
    Ok(all)
}

/// What is mounted into a container beside what every container has: its volumes, its last word, the files of its pod.
///
/// # Errors
/// When a volume is not there, in the kubelet's words.
pub fn own_mounts(
    container: &Container,
    node: &NodeFacts,
    paths: Paths<'_>,
) -> Result<Vec<Mount>, ContainerError> {
    let mut own = Vec::new();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        own.push(of_volume(index, mount, container, node, paths)?);
    }
    let last_word = container.termination_message_path.as_deref().filter(|path| !path.is_empty());
    own.push(bind(paths.last_word, &absolute(last_word.unwrap_or(LAST_WORD)), &["rbind", "rprivate", "rw"]));
    let taken: Vec<PathBuf> = own.iter().map(|mount| mount.destination.clone()).collect();
    let is_free = |path: &str| !taken.iter().any(|it| it == Path::new(path));
    let read_only_root =
        container.security_context.as_ref().and_then(|context| context.read_only_root_filesystem)
            == Some(true);
    let files = [
        ("/etc/hosts", &paths.files.hosts, false),
        ("/etc/resolv.conf", &paths.files.resolv_conf, read_only_root),
        ("/etc/hostname", &paths.files.hostname, read_only_root),
    ];
    for (destination, file, read_only) in files {
        if let Some(file) = file.as_ref().filter(|_| is_free(destination)) {
            let options = ["rbind", "rprivate", if read_only { "ro" } else { "rw" }];
            own.push(bind(file, Path::new(destination), &options));
        }
    }
    // What is mounted within another mount comes after it.
    own.sort_by_key(|mount| mount.destination.components().count());
    Ok(own)
}

fn absolute(path: &str) -> PathBuf {
    Path::new("/").join(path)
}

fn bind(source: &Path, destination: &Path, options: &[&str]) -> Mount {
    Mount {
        destination: destination.to_owned(),
        source: source.to_string_lossy().into_owned(),
        kind: "bind".to_owned(),
        options: options.iter().map(|&option| option.to_owned()).collect(),
    }
}

fn of_volume(
    index: usize,
    mount: &VolumeMount,
    container: &Container,
    node: &NodeFacts,
    paths: Paths<'_>,
) -> Result<Mount, ContainerError> {
    let Some(volume) = paths.volumes.get(&mount.name).filter(|volume| !volume.is_device) else {
        return Err(ContainerError::Config(format!(
            "cannot find volume {:?} to mount into container {:?}",
            mount.name, container.name
        )));
    };
    let is_part = [&mount.sub_path, &mount.sub_path_expr].into_iter().flatten().any(|it| !it.is_empty());
    let source = match paths.sub_paths.get(&index) {
        Some(path) => path,
        None if is_part => {
            return Err(ContainerError::Config(format!(
                "failed to prepare subPath for volumeMount {:?} of container {:?}",
                mount.name, container.name
            )));
        }
        None => &volume.path,
    };
    let propagation = match mount.mount_propagation.as_deref() {
        Some("HostToContainer") => "rslave",
        Some("Bidirectional") => "rshared",
        _ => "rprivate",
    };
    let read_only = mount.read_only == Some(true) || volume.read_only;
    let access = match mount.recursive_read_only.as_deref() {
        Some("Enabled") if !node.recursive_read_only => {
            return Err(ContainerError::Config(format!(
                "failed to resolve recursive read-only mode of volume {:?}: the kernel does not support it",
                mount.name
            )));
        }
        Some("Enabled" | "IfPossible") if read_only && node.recursive_read_only => "rro",
        _ if read_only => "ro",
        _ => "rw",
    };
    let mut options = vec!["rbind", propagation, access];
    options.extend(mount.bind_mount_options.iter().flatten().map(String::as_str));
    Ok(bind(source, &absolute(&mount.mount_path), &options))
}

/// What every container has.
fn system(privileged: bool) -> Vec<Mount> {
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| Mount {
        destination: PathBuf::from(destination),
        source: source.to_owned(),
        kind: kind.to_owned(),
        options: options.iter().map(|&option| option.to_owned()).collect(),
    };
    let access = if privileged { "rw" } else { "ro" };
    let terminals = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
    vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", "devpts", &terminals),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", access]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", access]),
    ]
}

/// The block devices that a container gets.
///
/// # Errors
/// When a volume is not there or is no device, in the kubelet's words.
pub fn devices(
    container: &Container,
    volumes: &BTreeMap<String, MountedVolume>,
) -> Result<Vec<Device>, ContainerError> {
    let wanted = container.volume_devices.iter().flatten();
    let device = |wanted: &k8s_openapi::api::core::v1::VolumeDevice| {
        let Some(volume) = volumes.get(&wanted.name).filter(|volume| volume.is_device) else {
            return Err(ContainerError::Config(format!(
                "cannot find volume {:?} to pass into container {:?}",
                wanted.name, container.name
            )));
        };
        Ok(Device {
            host_path: volume.path.clone(),
            container_path: absolute(&wanted.device_path),
            permissions: if volume.read_only { "r" } else { "mrw" }.to_owned(),
        })
    };
    wanted.map(device).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn volumes() -> BTreeMap<String, MountedVolume> {
        let volume = |path: &str, read_only: bool, is_device: bool| MountedVolume {
            path: path.into(),
            read_only,
            is_device,
        };
        [
            ("v".to_owned(), volume("/v", false, false)),
            ("r".to_owned(), volume("/r", true, false)),
            ("d".to_owned(), volume("/dev/sda", false, true)),
        ]
        .into()
    }

    fn run(container: Value, sub_paths: &[(usize, &str)]) -> Result<Vec<String>, String> {
        let mut container = container;
        container["name"] = json!("c");
        let container: Container = serde_json::from_value(container).unwrap();
        let files = PodFiles {
            hosts: Some("/p/hosts".into()),
            resolv_conf: Some("/p/resolv".into()),
            hostname: Some("/p/hostname".into()),
            shm: Some("/p/shm".into()),
        };
        let sub_paths = sub_paths.iter().map(|(index, path)| (*index, PathBuf::from(path))).collect();
        let (volumes, word) = (volumes(), PathBuf::from("/p/word"));
        let paths = Paths { volumes: &volumes, sub_paths: &sub_paths, files: &files, last_word: &word };
        let node = NodeFacts { recursive_read_only: true, ..NodeFacts::default() };
        let mounts = mounts(&container, &node, paths).map_err(|error| error.to_string())?;
        let tell = |mount: Mount| {
            format!("{} {} {}", mount.destination.display(), mount.source, mount.options.join(","))
        };
        Ok(mounts.into_iter().map(tell).collect())
    }

    fn added(mounts: Value) -> Result<Vec<String>, String> {
        let all = run(json!({"volumeMounts": mounts}), &[])?;
        Ok(all.into_iter().filter(|line| line.contains(" /v ") || line.contains(" /r ")).collect())
    }

    #[test]
    fn every_container_has_the_files_of_its_pod() {
        let expected = [
            "/proc proc nosuid,noexec,nodev",
            "/dev tmpfs nosuid,strictatime,mode=755,size=65536k",
            "/dev/pts devpts nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5",
            "/dev/mqueue mqueue nosuid,noexec,nodev",
            "/sys sysfs nosuid,noexec,nodev,ro",
            "/sys/fs/cgroup cgroup nosuid,noexec,nodev,relatime,ro",
            "/dev/shm /p/shm rbind,rprivate,rw",
            "/dev/termination-log /p/word rbind,rprivate,rw",
            "/etc/hosts /p/hosts rbind,rprivate,rw",
            "/etc/resolv.conf /p/resolv rbind,rprivate,rw",
            "/etc/hostname /p/hostname rbind,rprivate,rw",
        ];
        assert_eq!(run(json!({}), &[]).unwrap(), expected);
        let privileged = run(json!({"securityContext": {"privileged": true}}), &[]).unwrap();
        assert!(privileged.contains(&"/sys sysfs nosuid,noexec,nodev,rw".to_owned()));
        let fixed = run(json!({"securityContext": {"readOnlyRootFilesystem": true}}), &[]).unwrap();
        assert!(fixed.contains(&"/etc/resolv.conf /p/resolv rbind,rprivate,ro".to_owned()));
    }

    #[test]
    fn what_the_pod_mounts_goes_before_what_is_there_anyway() {
        let own = json!({"volumeMounts": [
            {"name": "v", "mountPath": "/etc/hosts"}, {"name": "v", "mountPath": "/dev"}]});
        let all = run(own, &[]).unwrap();
        assert!(!all.iter().any(|line| line.contains("/p/hosts") || line.starts_with("/dev/pts")), "{all:?}");
        assert_eq!(all.iter().filter(|line| line.starts_with("/dev ")).count(), 1);
        let nested = json!([{"name": "v", "mountPath": "/a/b/c"}, {"name": "r", "mountPath": "a"}]);
        assert_eq!(added(nested).unwrap(), ["/a /r rbind,rprivate,ro", "/a/b/c /v rbind,rprivate,rw"]);
    }

    #[test]
    fn mounts_are_spread_and_protected_as_they_say() {
        let table = [
            (json!({"mountPropagation": "HostToContainer"}), "rbind,rslave,rw"),
            (json!({"mountPropagation": "Bidirectional"}), "rbind,rshared,rw"),
            (json!({"readOnly": true}), "rbind,rprivate,ro"),
            (json!({"readOnly": true, "recursiveReadOnly": "IfPossible"}), "rbind,rprivate,rro"),
            (json!({"readOnly": true, "recursiveReadOnly": "Enabled"}), "rbind,rprivate,rro"),
            (json!({"readOnly": true, "recursiveReadOnly": "Disabled"}), "rbind,rprivate,ro"),
            (json!({"bindMountOptions": ["noexec"]}), "rbind,rprivate,rw,noexec"),
        ];
        for (mount, options) in table {
            let mut mount = mount;
            (mount["name"], mount["mountPath"]) = (json!("v"), json!("/m"));
            let told = mount.to_string();
            assert_eq!(added(json!([mount])).unwrap(), [format!("/m /v {options}")], "{told}");
        }
    }

    #[test]
    fn parts_of_volumes_are_what_was_prepared_for_them() {
        let own = json!({"volumeMounts": [{"name": "v", "mountPath": "/m", "subPath": "a"}]});
        assert!(
            run(own.clone(), &[(0, "/sub/0")]).unwrap().contains(&"/m /sub/0 rbind,rprivate,rw".to_owned())
        );
        let error = run(own, &[]).unwrap_err();
        assert_eq!(error, "failed to prepare subPath for volumeMount \"v\" of container \"c\"");
        let error = run(json!({"volumeMounts": [{"name": "x", "mountPath": "/m"}]}), &[]).unwrap_err();
        assert_eq!(error, "cannot find volume \"x\" to mount into container \"c\"");
    }

    #[test]
    fn sub_paths_stay_in_their_volume() {
        let paths = |mount: Value| {
            let mut mount = mount;
            (mount["name"], mount["mountPath"]) = (json!("v"), json!("/m"));
            let container: Container =
                serde_json::from_value(json!({"name": "c", "volumeMounts": [mount], "env": [
                    {"name": "A", "value": "x"}, {"name": "UP", "value": "../y"}, {"name": "E"}]}))
                .unwrap();
            let environment = super::super::env::environment(
                &Pod::default(),
                &container,
                &super::super::env::Sources::default(),
                &NodeFacts::default(),
                &[],
            );
            sub_paths(&container, &environment.unwrap())
                .map(|all| all.into_iter().map(|it| it.path).collect::<Vec<_>>())
                .map_err(|error| error.to_string())
        };
        let table = [
            (json!({}), Ok(vec![])),
            (json!({"subPath": "a/$(A)"}), Ok(vec![PathBuf::from("a/$(A)")])),
            (json!({"subPathExpr": "a/$(A)/$$(A)"}), Ok(vec![PathBuf::from("a/x/$(A)")])),
            (json!({"subPathExpr": "$(B)"}), Err("missing value for \"B\"".to_owned())),
            (
                json!({"subPathExpr": "/$(A)"}),
                Err("error SubPath `/x` must not be an absolute path".to_owned()),
            ),
            (
                json!({"subPathExpr": "$(UP)"}),
                Err("unable to provision SubPath `../y`: must not contain '..'".to_owned()),
            ),
            (
                json!({"subPathExpr": "$(E)"}),
                Err("subPathExpr is empty after its variables are replaced".to_owned()),
            ),
        ];
        for (mount, expected) in table {
            let told = mount.to_string();
            assert_eq!(paths(mount), expected, "{told}");
        }
    }

    #[test]
    fn devices_are_passed_and_not_mounted() {
        let container = |name: &str| -> Container {
            serde_json::from_value(
                json!({"name": "c", "volumeDevices": [{"name": name, "devicePath": "/dev/x"}]}),
            )
            .unwrap()
        };
        let device = Device {
            host_path: "/dev/sda".into(),
            container_path: "/dev/x".into(),
            permissions: "mrw".into(),
        };
        assert_eq!(devices(&container("d"), &volumes()), Ok(vec![device]));
        let error = devices(&container("v"), &volumes()).unwrap_err().to_string();
        assert_eq!(error, "cannot find volume \"v\" to pass into container \"c\"");
    }
}
