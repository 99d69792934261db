//! What a container is, in the words of the OCI runtime specification: the document that libcontainer reads. Pure; what has
//! to be looked up on the machine is given.

mod devices;
mod mounts;

use std::path::{Path, PathBuf};

pub(crate) use devices::{HostDevice, all_of_the_machine, chosen};
pub(crate) use mounts::covering;
use serde_json::{Value, json};

use crate::spec::{ContainerSpec, Process, Resources};

/// The namespaces that a container joins; where there is no path, it has the machine's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) network: Option<PathBuf>,
    pub(crate) ipc: Option<PathBuf>,
    pub(crate) uts: Option<PathBuf>,
    pub(crate) pid: PidNamespace,
}

/// Where a container's processes are numbered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum PidNamespace {
    /// By itself.
    #[default]
    Own,
    /// Together with others.
    Joined(PathBuf),
    /// By the machine.
    Host,
}

/// What is around a container.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings<'a> {
    /// Its root, mounted.
    pub(crate) root: &'a Path,
    /// What it joins.
    pub(crate) joined: Joined,
    /// The shared memory of its sandbox.
    pub(crate) shared_memory: Option<&'a Path>,
    /// Its control group below the root of each hierarchy.
    pub(crate) cgroup: &'a Path,
    /// 1 or 2.
    pub(crate) cgroup_version: u8,
    /// Devices that it gets beside the default ones.
    pub(crate) devices: &'a [HostDevice],
    /// A filter of system calls will be installed.
    pub(crate) filtered: bool,
    /// The lowest score for the kernel's choice when memory is short that may be given, if there is one.
    pub(crate) least_oom_score: Option<i32>,
}

/// The whole document.
pub(crate) fn document(spec: &ContainerSpec, around: &Surroundings<'_>) -> Value {
    let mut namespaces = vec![json!({ "type": "mount" })];
    let joined = &around.joined;
    for (kind, path) in [("network", &joined.network), ("ipc", &joined.ipc), ("uts", &joined.uts)] {
        if let Some(path) = path {
            namespaces.push(json!({ "type": kind, "path": path }));
        }
    }
    match &joined.pid {
        PidNamespace::Own => namespaces.push(json!({ "type": "pid" })),
        PidNamespace::Joined(path) => namespaces.push(json!({ "type": "pid", "path": path })),
        PidNamespace::Host => {}
    }
    if around.cgroup_version == 2 && !spec.privileged {
        namespaces.push(json!({ "type": "cgroup" }));
    }
    let mut linux = json!({
        "namespaces": namespaces,
        "cgroupsPath": around.cgroup,
        "resources": resources(spec, around.devices),
        "devices": around.devices.iter().map(HostDevice::node).collect::<Vec<_>>(),
        "maskedPaths": spec.masked_paths,
        "readonlyPaths": spec.read_only_paths,
    });
    if let Some(propagation) = mounts::root_propagation(&spec.mounts) {
        linux["rootfsPropagation"] = propagation.into();
    }
    json!({
        "ociVersion": "1.0.2",
        "root": { "path": around.root, "readonly": spec.read_only_root },
        "mounts": mounts::list(spec, around.shared_memory),
        "process": process(&spec.process, spec.privileged, around),
        "linux": linux,
    })
}

/// What runs, for the container itself and for what is executed in it later.
pub(crate) fn process(process: &Process, privileged: bool, around: &Surroundings<'_>) -> Value {
    // Without device rules, which version 2 has as programs only, nobody but the privileged makes device nodes.
    let keep = |name: &&String| around.cgroup_version == 1 || privileged || *name != "CAP_MKNOD";
    let bounding: Vec<&str> = process.capabilities.iter().filter(keep).map(String::as_str).collect();
    let mut held = bounding.clone();
    if around.filtered && !process.no_new_privileges && !held.contains(&"CAP_SYS_ADMIN") {
        // The filter is installed with it, just before the program is; not being in the bounding set, the program
        // does not get it.
        held.push("CAP_SYS_ADMIN");
    }
    let mut env = process.env.clone();
    if process.terminal && !env.iter().any(|line| line.starts_with("TERM=")) {
        env.push("TERM=xterm".to_owned());
    }
    let cwd = if process.cwd.as_os_str().is_empty() { Path::new("/") } else { &process.cwd };
    json!({
        "terminal": process.terminal,
        "user": {
            "uid": process.user.uid,
            "gid": process.user.gid,
            "additionalGids": process.user.additional_gids,
        },
        "args": process.args,
        "env": env,
        "cwd": cwd,
        "capabilities": {
            "bounding": bounding,
            "effective": held,
            "permitted": held,
            "inheritable": [],
            "ambient": [],
        },
        "noNewPrivileges": process.no_new_privileges,
        "oomScoreAdj": process.oom_score_adj.max(around.least_oom_score.unwrap_or(i32::MIN)),
    })
}

fn resources(spec: &ContainerSpec, devices: &[HostDevice]) -> Value {
    let Resources { cpu_shares, cpu_quota_us, cpu_period_us, memory_bytes, pids, huge_pages } =
        &spec.resources;
    let mut rules = vec![json!({ "allow": spec.privileged, "access": "rwm" })];
    if !spec.privileged {
        rules.extend(devices.iter().map(HostDevice::rule));
    }
    let mut resources = json!({ "devices": rules });
    let mut cpu = json!({});
    if let Some(shares) = cpu_shares {
        cpu["shares"] = (*shares).into();
    }
    if let Some(quota) = cpu_quota_us {
        cpu["quota"] = (*quota).into();
    }
    if let Some(period) = cpu_period_us {
        cpu["period"] = (*period).into();
    }
    resources["cpu"] = cpu;
    if let Some(bytes) = memory_bytes {
        resources["memory"] = json!({ "limit": bytes });
    }
    if let Some(limit) = pids {
        resources["pids"] = json!({ "limit": limit });
    }
    if !huge_pages.is_empty() {
        resources["hugepageLimits"] =
            huge_pages.iter().map(|(size, limit)| json!({ "pageSize": size, "limit": limit })).collect();
    }
    resources
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Mount, User};

    fn around<'a>() -> Surroundings<'a> {
        Surroundings {
            root: Path::new("/r"),
            joined: Joined {
                network: Some("/ns/net".into()),
                ipc: Some("/ns/ipc".into()),
                uts: Some("/ns/uts".into()),
                pid: PidNamespace::Own,
            },
            shared_memory: Some(Path::new("/shm")),
            cgroup: Path::new("kubepods/pod1/c1"),
            cgroup_version: 1,
            devices: &[],
            filtered: false,
            least_oom_score: None,
        }
    }

    #[test]
    fn nobody_is_protected_more_than_the_shim_may() {
        let mut spec = ContainerSpec::default();
        spec.process.oom_score_adj = -997;
        let score = |spec: &ContainerSpec, least_oom_score| {
            document(spec, &Surroundings { least_oom_score, ..around() })["process"]["oomScoreAdj"].clone()
        };
        assert_eq!([score(&spec, None), score(&spec, Some(0))], [json!(-997), json!(0)]);
        spec.process.oom_score_adj = 900;
        assert_eq!(score(&spec, Some(0)), json!(900));
    }

    fn kinds(document: &Value) -> Vec<String> {
        let namespaces = document["linux"]["namespaces"].as_array().unwrap();
        namespaces
            .iter()
            .map(|ns| format!("{}={}", ns["type"].as_str().unwrap(), ns["path"].as_str().unwrap_or("new")))
            .collect()
    }

    #[test]
    fn libcontainer_takes_the_document() {
        let spec = ContainerSpec {
            process: Process {
                args: vec!["true".into()],
                capabilities: vec!["CAP_CHOWN".into(), "CAP_CHECKPOINT_RESTORE".into()],
                ..Process::default()
            },
            resources: Resources {
                memory_bytes: Some(1),
                cpu_quota_us: Some(-1),
                huge_pages: [("2MB".to_owned(), 4)].into(),
                ..Resources::default()
            },
            ..ContainerSpec::default()
        };
        let device = HostDevice {
            path: "/dev/x".into(),
            block: true,
            major: 8,
            minor: 1,
            mode: 0o660,
            uid: 0,
            gid: 6,
            access: "rw".into(),
        };
        let document = document(&spec, &Surroundings { devices: &[device], ..around() });
        let read: libcontainer::oci_spec::runtime::Spec = serde_json::from_value(document).unwrap();
        let linux = read.linux().as_ref().unwrap();
        assert_eq!(linux.devices().as_ref().unwrap().len(), 1);
        assert_eq!(linux.resources().as_ref().unwrap().devices().as_ref().unwrap().len(), 2);
    }

    #[test]
    fn namespaces_are_joined_shared_or_the_machines() {
        let spec = ContainerSpec::default();
        assert_eq!(
            kinds(&document(&spec, &around())),
            ["mount=new", "network=/ns/net", "ipc=/ns/ipc", "uts=/ns/uts", "pid=new"]
        );
        let host = Joined { pid: PidNamespace::Host, ..Joined::default() };
        assert_eq!(kinds(&document(&spec, &Surroundings { joined: host, ..around() })), ["mount=new"]);
        let shared = Joined { pid: PidNamespace::Joined("/p".into()), ..Joined::default() };
        let two = Surroundings { joined: shared, cgroup_version: 2, ..around() };
        assert_eq!(kinds(&document(&spec, &two)), ["mount=new", "pid=/p", "cgroup=new"]);
    }

    #[test]
    fn nobody_keeps_the_capability_that_installs_the_filter() {
        let mut spec = ContainerSpec::default();
        spec.process.capabilities = vec!["CAP_CHOWN".into()];
        let filtered = Surroundings { filtered: true, ..around() };
        let capabilities =
            |spec: &ContainerSpec| document(spec, &filtered)["process"]["capabilities"].clone();
        assert_eq!(capabilities(&spec)["effective"], json!(["CAP_CHOWN", "CAP_SYS_ADMIN"]));
        assert_eq!(capabilities(&spec)["bounding"], json!(["CAP_CHOWN"]));
        spec.process.no_new_privileges = true;
        assert_eq!(capabilities(&spec)["effective"], json!(["CAP_CHOWN"]));
    }

    #[test]
    fn nobody_makes_device_nodes_where_nothing_restrains_their_use() {
        let mut spec = ContainerSpec::default();
        spec.process.capabilities = vec!["CAP_MKNOD".into()];
        let bounding = |spec: &ContainerSpec, version| {
            let around = Surroundings { cgroup_version: version, ..around() };
            document(spec, &around)["process"]["capabilities"]["bounding"].clone()
        };
        assert_eq!(bounding(&spec, 1), json!(["CAP_MKNOD"]));
        assert_eq!(bounding(&spec, 2), json!([]));
        spec.privileged = true;
        assert_eq!(bounding(&spec, 2), json!(["CAP_MKNOD"]));
    }

    #[test]
    fn the_privileged_may_use_all_devices() {
        let mut spec = ContainerSpec::default();
        let first =
            |spec: &ContainerSpec| document(spec, &around())["linux"]["resources"]["devices"][0].clone();
        assert_eq!(first(&spec)["allow"], json!(false));
        spec.privileged = true;
        assert_eq!(first(&spec)["allow"], json!(true));
    }

    #[test]
    fn the_process_is_as_it_was_asked_for() {
        let mut spec = ContainerSpec::default();
        spec.process.user = User { uid: 7, gid: 8, additional_gids: vec![9] };
        spec.mounts.push(Mount { options: vec!["rbind".into(), "rshared".into()], ..Mount::default() });
        let document = document(&spec, &around());
        assert_eq!(document["process"]["user"], json!({ "uid": 7, "gid": 8, "additionalGids": [9] }));
        assert_eq!(document["process"]["cwd"], json!("/"));
        assert_eq!(document["linux"]["rootfsPropagation"], json!("rshared"));
        assert!(document["process"].get("rlimits").is_none());
    }
}
