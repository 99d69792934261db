//! What is left of a node whose agent was killed, and how it is taken away.

use std::path::Path;

use super::ground;
use super::world::World;

/// What of a node the machine still has: processes of shims, mounts, control groups, links, tables.
fn left(world: &World, node: &str) -> Vec<String> {
    let directory = world.directory(node).display().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        if words.contains("shim") && words.contains(&directory) {
            found.push(format!("process {words}"));
        }
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    found.extend(mounts.lines().filter(|line| line.contains(&directory)).map(|line| format!("mount {line}")));
    let group = format!("{}/{node}/kubepods", ground::control_group());
    for hierarchy in ["memory", "cpu", "pids", "unified", ""] {
        let path = Path::new("/sys/fs/cgroup").join(hierarchy).join(&group);
        if path.is_dir() {
            found.push(format!("control group {}", path.display()));
        }
    }
    let ask = "ip -o link show | grep -o ' bq[^:@]*\\| barque[^:@]*'; ip route show proto 98; nft list tables | grep barque; \
               ip -o addr show dev lo | grep 10.0.0.10";
    let output = ground::on_host(node, "bash".as_ref()).args(["-c", ask]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    found.extend(told.lines().map(|line| format!("network {line}")));
    found
}

pub(crate) fn nothing_is_left_after_a_kill_and_a_cleanup(world: &mut World) {
    assert!(!left(world, "n2").is_empty(), "a node that runs has something");
    world.kill_agent("n2");
    let there = left(world, "n2");
    assert!(there.iter().any(|it| it.starts_with("process")), "containers outlive the agent: {there:?}");
    let refused = world.cleanup("n1");
    assert!(!refused.status.success(), "it refuses beside an agent");
    let cleaned = world.cleanup("n2");
    let told = String::from_utf8_lossy(&cleaned.stderr).into_owned();
    assert!(cleaned.status.success(), "{told}");
    assert!(String::from_utf8_lossy(&cleaned.stdout).contains("is taken away"));
    assert_eq!(left(world, "n2"), Vec::<String>::new());
    assert!(world.cleanup("n2").status.success(), "there is nothing to do, and that is fine");
}

/// The machine of the tests can do everything.
pub(crate) fn the_machine_is_found_fit(world: &World) {
    let output = ground::on_host("n1", env!("CARGO_BIN_EXE_barque").as_ref())
        .args(["agent", "check"])
        .args(world.places("n1"))
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}");
    for name in ["overlay", "vxlan", "as it should be"] {
        assert!(told.contains(name), "{name}: {told}");
    }
    assert!(!left(world, "n1").iter().any(|it| it.contains("check")));
}
