//! What is mounted into a container: what every program expects, unless the caller mounts something there, and then what
//! the caller asks for. Pure.

use std::path::Path;

use serde_json::{Value, json};

use crate::spec::{ContainerSpec, Mount};

/// The mounts in their order.
pub(super) fn list(spec: &ContainerSpec, shared_memory: Option<&Path>) -> Vec<Value> {
    let of_machine = if spec.privileged { "rw" } else { "ro" };
    let mut defaults = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", of_machine]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", of_machine]),
    ];
    if let Some(path) = shared_memory {
        let source = path.to_string_lossy();
        defaults.push(mount("/dev/shm", "bind", &source, &["rbind", "nosuid", "noexec", "nodev", "rw"]));
    }
    let asked = |default: &Value| {
        spec.mounts.iter().any(|mount| mount.destination.to_str() == default["destination"].as_str())
    };
    defaults.retain(|default| !asked(default));
    defaults.extend(spec.mounts.iter().map(given));
    defaults
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": kind, "source": source, "options": options })
}

fn given(mount: &Mount) -> Value {
    let mut options = mount.options.clone();
    if mount.kind == "bind" && !options.iter().any(|option| option == "bind" || option == "rbind") {
        options.insert(0, "rbind".to_owned());
    }
    json!({
        "destination": mount.destination,
        "type": mount.kind,
        "source": mount.source,
        "options": options,
    })
}

/// What is mounted over a path of the container: the last of those that are nearest to it.
pub(crate) fn covering<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    mounts
        .iter()
        .filter(|mount| path.starts_with(&mount.destination))
        .max_by_key(|mount| mount.destination.components().count())
}

/// How mounts travel between the container's root and the machine: as far as any mount asks.
pub(super) fn root_propagation(mounts: &[Mount]) -> Option<&'static str> {
    let asked = |names: [&str; 2]| {
        mounts.iter().flat_map(|mount| &mount.options).any(|option| names.contains(&option.as_str()))
    };
    if asked(["rshared", "shared"]) {
        Some("rshared")
    } else if asked(["rslave", "slave"]) {
        Some("rslave")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destinations(list: &[Value]) -> Vec<&str> {
        list.iter().map(|mount| mount["destination"].as_str().unwrap()).collect()
    }

    #[test]
    fn programs_find_what_they_expect() {
        let list = list(&ContainerSpec::default(), Some(Path::new("/shm")));
        assert_eq!(
            destinations(&list),
            ["/proc", "/dev", "/dev/pts", "/dev/mqueue", "/sys", "/sys/fs/cgroup", "/dev/shm"]
        );
        assert!(list[4]["options"].as_array().unwrap().contains(&json!("ro")));
    }

    #[test]
    fn the_privileged_write_to_the_machines_files() {
        let list = list(&ContainerSpec { privileged: true, ..ContainerSpec::default() }, None);
        for at in [4, 5] {
            assert!(list[at]["options"].as_array().unwrap().contains(&json!("rw")), "{}", list[at]);
        }
    }

    #[test]
    fn who_mounts_something_there_has_it_instead() {
        let shm = Mount {
            destination: "/dev/shm".into(),
            source: "/volume".into(),
            kind: "bind".into(),
            options: vec!["ro".into()],
        };
        let list =
            list(&ContainerSpec { mounts: vec![shm], ..ContainerSpec::default() }, Some(Path::new("/shm")));
        let found: Vec<_> = list.iter().filter(|mount| mount["destination"] == json!("/dev/shm")).collect();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0]["source"], json!("/volume"));
        assert_eq!(found[0]["options"], json!(["rbind", "ro"]));
    }

    #[test]
    fn the_nearest_mount_covers_a_path() {
        let at = |destination: &str, source: &str| Mount {
            destination: destination.into(),
            source: source.into(),
            ..Mount::default()
        };
        let mounts = [at("/a/b", "near"), at("/a", "far"), at("/c", "first"), at("/c", "last")];
        let source = |path: &str| covering(&mounts, Path::new(path)).map(|mount| mount.source.as_str());
        assert_eq!(source("/a/b/x"), Some("near"));
        assert_eq!(source("/a/bc"), Some("far"));
        assert_eq!(source("/c/d"), Some("last"));
        assert_eq!(source("/d"), None);
    }

    #[test]
    fn the_root_propagates_as_far_as_a_mount_asks() {
        let with = |option: &str| vec![Mount { options: vec![option.into()], ..Mount::default() }];
        assert_eq!(root_propagation(&[]), None);
        assert_eq!(root_propagation(&with("rprivate")), None);
        assert_eq!(root_propagation(&with("rslave")), Some("rslave"));
        assert_eq!(root_propagation(&with("rshared")), Some("rshared"));
    }
}
