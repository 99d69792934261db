//! An agent's directories, a root of busybox, and specs; all of it gone with the fixture.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use barque_containers::spec::{ContainerSpec, ContainerState, Exit, Phase, Process, SandboxSpec};
use barque_containers::{Containers, Settings};
use rustix::process::Pid;
use tempfile::TempDir;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// What a test works with.
pub(crate) struct Fixture {
    pub(crate) directory: TempDir,
    pub(crate) containers: Containers,
    pub(crate) prefix: String,
}

/// What container runtimes give to a process of root by default.
pub(crate) const CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

impl Fixture {
    pub(crate) async fn new() -> Self {
        let prefix = format!("bqc{}x{}x", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let directory =
            tempfile::Builder::new().prefix(&prefix).tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        busybox(&directory.path().join("layer"));
        let containers = Containers::open(settings(directory.path(), &prefix)).await.unwrap();
        Self { directory, containers, prefix }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn settings(&self) -> Settings {
        settings(self.path(), &self.prefix)
    }

    /// Lets the agent end, with everything else going on, and another one begin.
    pub(crate) async fn restart(&mut self) {
        self.leave().await;
        self.containers = Containers::open(self.settings()).await.unwrap();
    }

    /// Lets the agent end.
    pub(crate) async fn leave(&mut self) {
        self.containers.close().await;
        // The lock goes with the last of it: another directory takes its place.
        let elsewhere = Settings {
            state_dir: self.path().join("elsewhere"),
            data_dir: self.path().join("elsewhere-data"),
            ..self.settings()
        };
        self.containers = Containers::open(elsewhere).await.unwrap();
    }

    /// The shims that run.
    pub(crate) fn shims(&self) -> Vec<Pid> {
        let mut found = Vec::new();
        for sandbox in std::fs::read_dir(self.path().join("run/sandboxes")).unwrap() {
            let text = std::fs::read_to_string(sandbox.unwrap().path().join("shim.json")).unwrap();
            let shim: serde_json::Value = serde_json::from_str(&text).unwrap();
            let pid = Pid::from_raw(shim["pid"].as_i64().unwrap().try_into().unwrap()).unwrap();
            if rustix::process::test_kill_process(pid).is_ok() {
                found.push(pid);
            }
        }
        found
    }

    pub(crate) fn log(&self, id: &str) -> PathBuf {
        self.path().join("logs").join(format!("{id}.log"))
    }

    /// A sandbox's spec.
    pub(crate) fn sandbox_spec(&self, id: &str) -> SandboxSpec {
        SandboxSpec {
            id: format!("{}-{id}", self.prefix),
            hostname: id.to_owned(),
            cgroup: format!("kubepods/burstable/pod{id}"),
            ..SandboxSpec::default()
        }
    }

    /// Makes a sandbox and returns its id.
    pub(crate) async fn sandbox(&self, id: &str) -> String {
        let spec = self.sandbox_spec(id);
        let name = spec.id.clone();
        self.containers.create_sandbox(spec).await.unwrap();
        name
    }

    /// A container that runs a shell's script.
    pub(crate) fn script(&self, id: &str, script: &str) -> ContainerSpec {
        ContainerSpec {
            id: format!("{}-{id}", self.prefix),
            name: id.to_owned(),
            layers: vec![self.path().join("layer")],
            log_path: self.log(id),
            stop_signal: "SIGTERM".to_owned(),
            process: Process {
                args: ["sh", "-c", script].map(str::to_owned).to_vec(),
                env: vec!["PATH=/bin".to_owned()],
                cwd: "/".into(),
                capabilities: CAPABILITIES.iter().map(|name| (*name).to_owned()).collect(),
                ..Process::default()
            },
            ..ContainerSpec::default()
        }
    }

    /// Makes and starts a container; returns its id.
    pub(crate) async fn run(&self, sandbox: &str, spec: ContainerSpec) -> String {
        let id = spec.id.clone();
        self.containers.create(sandbox, spec).await.unwrap();
        self.containers.start(&id).await.unwrap();
        id
    }

    pub(crate) fn state(&self, id: &str) -> ContainerState {
        self.containers.container(id).unwrap()
    }

    /// Waits until a container has ended.
    pub(crate) async fn exit(&self, sandbox: &str, id: &str) -> Exit {
        let mut changes = self.containers.changes(sandbox).unwrap();
        loop {
            if let Phase::Exited(exit) = self.state(id).phase {
                return exit;
            }
            changes.changed().await.unwrap();
        }
    }

    /// Runs a script to its end; returns how it ended, and the text of its log.
    pub(crate) async fn say(&self, sandbox: &str, id: &str, script: &str) -> (Exit, String) {
        self.said(sandbox, self.script(id, script)).await
    }

    pub(crate) async fn said(&self, sandbox: &str, spec: ContainerSpec) -> (Exit, String) {
        let log = spec.log_path.clone();
        let id = self.run(sandbox, spec).await;
        let exit = self.exit(sandbox, &id).await;
        (exit, text(&std::fs::read_to_string(log).unwrap()))
    }

    /// Waits until a container has said a line.
    pub(crate) async fn heard(&self, id: &str, line: &str) {
        // Nothing tells of a file's growth but the kernel, and it is asked for as long as a test may take.
        let path = self.log(id);
        loop {
            if std::fs::read_to_string(&path).is_ok_and(|log| text(&log).lines().any(|said| said == line)) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let (path, settings) = (self.path().to_owned(), self.settings());
        // The lock is held by what is being dropped; the directories are this test's.
        for state in ["run", "elsewhere"] {
            let state = path.join(state);
            let _ = std::fs::remove_file(state.join("lock"));
            match barque_containers::cleanup(&state, &settings.data_dir) {
                Ok(cleaned) if cleaned.left.is_empty() => {}
                left => eprintln!("left in {}: {left:?}", state.display()),
            }
        }
    }
}

fn settings(directory: &Path, prefix: &str) -> Settings {
    Settings {
        state_dir: directory.join("run"),
        data_dir: directory.join("data"),
        shim: vec![std::env::current_exe().unwrap().into(), OsString::from("shim")],
        cgroup_root: prefix.to_owned(),
        log_file_bytes: 10 << 20,
        log_files: 5,
    }
}

/// The text of a log, without times and streams.
pub(crate) fn text(log: &str) -> String {
    log.lines().map(|line| format!("{}\n", line.splitn(4, ' ').nth(3).unwrap_or_default())).collect()
}

/// A root with busybox under all its names.
fn busybox(layer: &Path) {
    for directory in ["bin", "etc", "tmp", "root", "proc", "sys", "dev"] {
        std::fs::create_dir_all(layer.join(directory)).unwrap();
    }
    std::fs::copy("/bin/busybox", layer.join("bin/busybox"))
        .expect("busybox is there: apt-get install busybox-static");
    let list = std::process::Command::new("/bin/busybox").arg("--list").output().unwrap();
    for name in String::from_utf8(list.stdout).unwrap().lines().filter(|name| *name != "busybox") {
        std::os::unix::fs::symlink("busybox", layer.join("bin").join(name)).unwrap();
    }
    std::fs::write(layer.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
}

/// The control groups whose path has this text.
pub(crate) fn control_groups(text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.path().to_string_lossy().contains(text) {
                    found.push(entry.path());
                }
                open.push(entry.path());
            }
        }
    }
    found
}

/// The mounts whose place has this text.
pub(crate) fn mounts(text: &str) -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
}

/// The processes whose words have this text.
pub(crate) fn processes(text: &str) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&words).contains(text) {
            found.push(pid);
        }
    }
    found
}
