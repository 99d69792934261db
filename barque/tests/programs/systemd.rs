//! Units of systemd, as a systemd reads them that runs a machine: in namespaces, with no other units. Must never speak to the one
//! that runs this machine.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::containers::ground;

/// How long anything may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(60);
const SYSTEMD: &str = "/lib/systemd/systemd";

/// A machine that systemd runs.
struct Machine {
    directory: tempfile::TempDir,
    namespaces: Child,
    systemd: String,
}

impl Machine {
    fn boot() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("begin.sh");
        std::fs::write(&script, include_str!("systemd/begin.sh")).unwrap();
        let changes = directory.path().join("changes");
        std::fs::create_dir(&changes).unwrap();
        let socket = directory.path().join("notify");
        let notified = UnixDatagram::bind(&socket).unwrap();
        notified.set_read_timeout(Some(PATIENCE)).unwrap();
        let namespaces = Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child", "--mount-proc", "--uts", "--propagation=private"])
            .args(["--", "sh"])
            .args([&script, &changes])
            .arg(ground::control_group())
            .arg(directory.path().join("log"))
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            // It then leaves alone what belongs to hardware.
            .env("container", "test")
            .env("NOTIFY_SOCKET", &socket)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut text = [0; 1024];
        loop {
            let size = notified.recv(&mut text).expect("systemd tells when it has started");
            if String::from_utf8_lossy(&text[..size]).lines().any(|line| line == "READY=1") {
                break;
            }
        }
        let id = namespaces.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        Self { directory, namespaces, systemd: children.trim().to_owned() }
    }

    fn run(&self, program: &str, words: &[&str]) -> Output {
        Command::new("nsenter")
            .args(["--target", &self.systemd, "--pid", "--mount", "--uts", "--cgroup", "--", program])
            .args(words)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// What a program says, which must be well.
    fn said(&self, program: &str, words: &[&str]) -> String {
        let output = self.run(program, words);
        let told = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        let log = || std::fs::read_to_string(self.place("log")).unwrap_or_default();
        assert!(output.status.success(), "{program} {words:?}: {told} {errors}\n{}", log());
        told
    }

    fn barque(&self, words: &[&str]) -> String {
        self.said(env!("CARGO_BIN_EXE_barque"), words)
    }

    fn property(&self, unit: &str, property: &str) -> String {
        self.said("systemctl", &["show", unit, "--value", "--property", property])
    }

    fn place(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // All that runs in its namespace ends with it.
        let _ = self.namespaces.kill();
        let _ = self.namespaces.wait();
    }
}

#[test]
fn it_starts_a_master_and_a_node_and_starts_them_again() {
    if !Path::new(SYSTEMD).exists() {
        println!("skipped: units of systemd, as there is no {SYSTEMD}");
        return;
    }
    if !ground::enter("systemd::it_starts_a_master_and_a_node_and_starts_them_again") {
        return;
    }
    let machine = Machine::boot();
    let place = machine.place("master");
    let data = format!("--data-dir={}", place.display());
    let address = format!("--advertise-address={}", ground::ADDRESS);
    let told = machine.barque(&["service", "install", "server", "--now", "--", "--name=m1", &data, &address]);
    assert!(told.contains("barque-server.service is started, and starts with the machine"), "{told}");
    // It came back when the master served.
    assert_eq!(machine.property("barque-server", "ActiveState"), "active");
    let master = machine.property("barque-server", "MainPID");
    let serves = || machine.run(env!("CARGO_BIN_EXE_barque"), &["status", &data]).status.success();
    assert!(serves());
    assert_eq!(machine.said("systemctl", &["is-enabled", "barque-server"]), "enabled");

    let token = std::fs::read_to_string(place.join("node-token")).unwrap();
    let token = format!("--token={}", token.trim());
    let join = format!("--join=https://{}:6443", ground::ADDRESS);
    let [root, run] =
        ["root-dir", "run-dir"].map(|flag| format!("--{flag}={}", machine.place(flag).display()));
    let mut words = vec!["service", "install", "agent", "--now", "--", &join, &token, &root, &run];
    words.extend(["--runtime=hollow", "--hostname-override=n1", "--healthz-port=0"]);
    machine.barque(&words);
    assert_eq!(machine.property("barque-agent", "ActiveState"), "active");
    let kubeconfig = place.join("admin.kubeconfig").display().to_string();
    let kubectl = crate::cluster::kubectls::kubectls().pop().unwrap().program.display().to_string();
    let nodes = ["--kubeconfig", &kubeconfig, "get", "nodes", "-o", "name"];
    assert_eq!(machine.said(&kubectl, &nodes), "node/n1");
    // Only root may read what lets a node join.
    let unit = machine.said("cat", &["/etc/systemd/system/barque-agent.service"]);
    assert!(!unit.contains(token.split_once('=').unwrap().1), "{unit}");
    assert_eq!(machine.said("stat", &["-c", "%a %U", "/etc/barque/barque-agent.env"]), "600 root");

    machine.said("kill", &["-9", &master]);
    let deadline = Instant::now() + PATIENCE;
    while machine.property("barque-server", "NRestarts") != "1" || !serves() {
        assert!(Instant::now() < deadline, "the master was not started again");
    }
    assert_ne!(machine.property("barque-server", "MainPID"), master);

    for unit in ["barque-agent", "barque-server"] {
        machine.said("systemctl", &["stop", unit]);
        assert_eq!(machine.property(unit, "Result"), "success", "{unit} ends by itself when it is told to");
        assert_eq!(machine.property(unit, "ActiveState"), "inactive");
    }
    assert_eq!(std::fs::metadata(place.join("node-token")).unwrap().permissions().mode() & 0o777, 0o600);
}
