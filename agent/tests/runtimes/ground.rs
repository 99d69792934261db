//! Where the tests run: in namespaces of their own (network, mounts, processes), which end with them, however that comes. Must never
//! change anything outside.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Set where the tests run inside: the directory of everything that they make.
const INSIDE: &str = "BARQUE_TEST_INSIDE";
/// The address of the node.
pub(crate) const ADDRESS: &str = "10.9.0.1";

/// Whether this is inside already.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Runs the tests inside, and takes away what they leave.
pub(crate) fn enter() -> ExitCode {
    let name = format!("bqr{}", std::process::id());
    let directory =
        tempfile::Builder::new().prefix(&format!("{name}-")).tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let status = Command::new("unshare")
        // Whoever is inside ends when this one does.
        .args([
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--propagation",
            "private",
        ])
        .arg("--")
        .arg(std::env::current_exe().unwrap())
        .args(std::env::args_os().skip(1))
        .env(INSIDE, directory.path())
        .status();
    remove_groups(&control_group_of(directory.path()));
    match status.unwrap().code() {
        Some(0) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn control_group_of(directory: &Path) -> String {
    directory.file_name().unwrap().to_str().unwrap().to_owned()
}

/// The directory of everything that the tests make.
pub(crate) fn directory() -> PathBuf {
    PathBuf::from(std::env::var_os(INSIDE).unwrap())
}

/// The control group below which all of the tests' are.
pub(crate) fn control_group() -> String {
    control_group_of(&directory())
}

/// Nothing runs in them any more; from the innermost outwards.
fn remove_groups(name: &str) {
    fn remove(directory: &Path) {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            remove(&entry.path());
        }
        let _ = std::fs::remove_dir(directory);
    }
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    for hierarchy in hierarchies.map(|entry| entry.path()).chain([PathBuf::from("/sys/fs/cgroup")]) {
        remove(&hierarchy.join(name));
    }
}

/// What containers and their networks need, and what containerd and plugins would else write for all of the machine.
pub(crate) fn prepare() {
    for directory in ["/run/netns", "/run/containerd", "/var/lib/cni"] {
        std::fs::create_dir_all(directory).unwrap();
        run(&format!("mount -t tmpfs tests {directory}"));
    }
    run("ip link set lo up");
    run("ip link add fabric type bridge");
    run(&format!("ip addr add {ADDRESS}/24 dev fabric"));
    run("ip link set fabric up");
    run("echo 1 > /proc/sys/net/ipv4/ip_forward");
}

/// Runs a command that must succeed; what it said.
pub(crate) fn run(line: &str) -> String {
    let output = Command::new("bash").args(["-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
