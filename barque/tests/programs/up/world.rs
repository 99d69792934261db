//! A whole cluster on one machine, and who works with it: programs as users start them. Must never judge what they say.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::cluster::kubectls::kubectls;
use crate::containers::{ground, images};

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// A cluster, and who works with it.
pub(crate) struct World {
    /// Goes with it.
    pub(crate) directory: tempfile::TempDir,
    /// What everything of it on the machine begins with.
    pub(crate) name: String,
    kubectl: PathBuf,
}

impl World {
    /// Control groups and what ends with the machine's run are the machine's: their name is that of this run and this test.
    pub(crate) fn new(test: char) -> Self {
        let digits: String = ground::control_group().chars().filter(char::is_ascii_digit).take(7).collect();
        let kubectl = kubectls().pop().unwrap().program;
        Self { directory: tempfile::tempdir().unwrap(), name: format!("{test}{digits}"), kubectl }
    }

    /// Its directory.
    pub(crate) fn cluster(&self) -> PathBuf {
        self.directory.path().join("cluster")
    }

    /// Runs the program on the cluster.
    pub(crate) fn barque(&self, command: &str, words: &[&str]) -> Output {
        let mut barque = Command::new(env!("CARGO_BIN_EXE_barque"));
        barque.arg(command).args(words).arg("--dir").arg(self.cluster()).output().unwrap()
    }

    /// The same, which must be well; what it said.
    pub(crate) fn done(&self, command: &str, words: &[&str]) -> String {
        let output = self.barque(command, words);
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command} {words:?}: {}\n{told}\n{errors}", output.status);
        told
    }

    /// What kubectl says through the front.
    pub(crate) fn kubectl(&self, words: &[&str]) -> Result<String, String> {
        let output = Command::new(&self.kubectl)
            .args(words)
            .env_clear()
            .env("HOME", self.directory.path())
            .env("KUBECONFIG", self.cluster().join("kubeconfig"))
            .output()
            .unwrap();
        let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(told(&output.stdout)) } else { Err(told(&output.stderr)) }
    }

    /// The newest kubectl.
    pub(crate) fn kubectl_program(&self) -> &Path {
        &self.kubectl
    }

    /// What somebody would look at when nothing comes about.
    pub(crate) fn look(&self) -> String {
        let kinds = "nodes,leases,deployments,jobs,pods,events";
        let told = self.kubectl(&["get", kinds, "--all-namespaces", "-o", "wide"]);
        told.unwrap_or_else(|told| told)
    }

    /// Writes an object; who is cut off after the write was taken finds it there.
    pub(crate) fn write(&self, name: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.kubectl(&["create", "configmap", name]) {
                Ok(_) => return,
                Err(told) if told.contains("already exists") => return,
                Err(told) => assert!(Instant::now() < deadline, "{name}: {told}"),
            }
        }
    }

    /// Nodes get the image before they are there, as there is no registry here.
    pub(crate) fn load_image(&self, node: &str) {
        let archive = images::write(self.directory.path());
        let loaded = Command::new(env!("CARGO_BIN_EXE_barque"))
            .args(["image", "load", "--root"])
            .arg(self.cluster().join(node).join("root/images"))
            .arg("-i")
            .arg(archive)
            .output()
            .unwrap();
        assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr));
    }

    /// The store as its administrator saves it, from a master.
    pub(crate) fn save_snapshot(&self) -> String {
        let file = self.directory.path().join("saved").display().to_string();
        let pki = self.cluster().join("m2/pki");
        let saved = ground::on_host(
            &format!("{}-m2", self.name),
            &Path::new(env!("CARGO_BIN_EXE_barque")).with_file_name("kvctl"),
        )
        .args(["--endpoints=https://127.0.0.1:2379", "snapshot", "save", &file])
        .arg(format!("--cacert={}", pki.join("store/ca.crt").display()))
        .arg(format!("--cert={}", pki.join("store/client.crt").display()))
        .arg(format!("--key={}", pki.join("store/client.key").display()))
        .output()
        .unwrap();
        assert!(saved.status.success(), "{}", String::from_utf8_lossy(&saved.stderr));
        file
    }

    /// A file with this text.
    pub(crate) fn manifest(&self, name: &str, text: &str) -> String {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// Nothing of a cluster is on the machine any more.
    pub(crate) fn nothing_is_left(&self) {
        assert!(!self.cluster().exists(), "its directory");
        assert!(!Path::new("/run/barque-up").join(&self.name).exists(), "its directory for a run");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let below = self.directory.path().to_str().unwrap();
        assert!(!mounts.contains(below), "{mounts}");
        let links = Command::new("ip").args(["-br", "link"]).output().unwrap();
        let links = String::from_utf8_lossy(&links.stdout).into_owned();
        assert!(!links.lines().any(|link| link.starts_with(&self.name)), "{links}");
        let names = |path: &str| {
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        let groups =
            names("/sys/fs/cgroup").into_iter().flat_map(|one| names(&format!("/sys/fs/cgroup/{one}")));
        let found: Vec<_> =
            groups.chain(names("/run/netns")).filter(|name| name.starts_with(&self.name)).collect();
        assert!(found.is_empty(), "{found:?}");
        let programs: Vec<String> = std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
            .map(|words| String::from_utf8_lossy(&words).replace('\0', " "))
            .filter(|words| words.starts_with(env!("CARGO_BIN_EXE_barque")) || words.contains("httpd"))
            .collect();
        assert!(programs.is_empty(), "{programs:?}");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Also after a failure, as not everything ends with the test.
        let _ = self.barque("down", &[]);
    }
}
