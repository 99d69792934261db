//! Hosts on one machine: the test runs in namespaces of its own (network, mounts, processes), in which every host is a network
//! namespace on a bridge. All of it ends with the test, however that ends. Must never change anything outside.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Set where the test runs inside, to the name of its control group.
const INSIDE: &str = "BARQUE_TEST_INSIDE";
/// The file that is made by whoever comes in: a name that no test has would run none, and all would seem well.
const ARRIVED: &str = "BARQUE_TEST_ARRIVED";
/// The address of the test, and of everything that it starts on no host.
pub(crate) const ADDRESS: &str = "10.9.0.1";
/// The same of IPv6.
pub(crate) const ADDRESS_V6: &str = "fd09::1";

/// Runs the test of this name, with its modules' names, inside; says whether this is inside already.
pub(crate) fn enter(name: &str) -> bool {
    enter_with(name, &["--exact", name, "--nocapture"])
}

/// Runs this program inside, with these words; says whether this is inside already.
pub(crate) fn enter_with(name: &str, words: &[&str]) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        prepare();
        std::fs::write(std::env::var_os(ARRIVED).unwrap(), "").unwrap();
        return true;
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: {name} needs root, for namespaces and containers");
        return false;
    }
    // Tests of one program run beside each other.
    let group = format!("bqt{}-{}", std::process::id(), name.replace("::", "-"));
    let scratch = tempfile::tempdir().unwrap();
    let arrived = scratch.path().join("arrived");
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
            "--",
        ])
        .arg(std::env::current_exe().unwrap())
        .args(words)
        .env(INSIDE, &group)
        .env(ARRIVED, &arrived)
        .status();
    remove_groups(&group);
    let status = status.unwrap();
    assert!(status.success(), "{name}: {status}");
    assert!(arrived.exists(), "nothing has the name {name}");
    false
}

/// The control group below which all of this test's are.
pub(crate) fn control_group() -> String {
    std::env::var(INSIDE).unwrap()
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

fn prepare() {
    std::fs::create_dir_all("/run/netns").unwrap();
    run("mount -t tmpfs namespaces /run/netns");
    run("ip link set lo up");
    run("ip link add fabric type bridge");
    run(&format!("ip addr add {ADDRESS}/24 dev fabric"));
    run(&format!("ip addr add {ADDRESS_V6}/64 dev fabric nodad"));
    run("ip link set fabric up");
}

/// Runs a command that must succeed.
pub(crate) fn run(line: &str) {
    let output = Command::new("bash").args(["-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Adds a host with this name and these addresses, of IPv4 and of IPv6.
pub(crate) fn add_host(name: &str, address: &str, address_v6: &str) {
    run(&format!("ip netns add {name}"));
    run(&format!("ip link add to-{name} type veth peer name eth0 netns {name}"));
    run(&format!("ip link set to-{name} master fabric up"));
    run(&format!("ip -n {name} addr add {address}/24 dev eth0"));
    run(&format!("ip -n {name} addr add {address_v6}/64 dev eth0 nodad"));
    run(&format!("ip -n {name} link set eth0 up"));
    run(&format!("ip -n {name} link set lo up"));
    // What goes to a service's address has to have a way before it is translated.
    run(&format!("ip -n {name} route add default via {ADDRESS}"));
    run(&format!("ip -n {name} -6 route add default via {ADDRESS_V6}"));
}

/// A command that runs a program on a host, with the mounts of this process: those of pods must be seen by whoever comes later.
pub(crate) fn on_host(name: &str, program: &Path) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{name}")).arg("--").arg(program);
    // A new group, so that signals of a terminal end the test alone.
    command.process_group(0);
    command
}
