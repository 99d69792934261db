//! A containerd of the tests' own: its root, state, socket and plugins' configuration are in a directory, and it ends with its
//! value. Must never touch one that the machine has.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use super::{ground, images};

/// The image that sandboxes are made from: something that runs for ever.
const PAUSE: &str = "docker.io/library/pause:test";

/// One that runs.
pub(crate) struct Containerd {
    child: Child,
    directory: PathBuf,
    reader: Option<JoinHandle<()>>,
}

impl Containerd {
    /// Starts it by a command that runs it, with busybox among its images.
    pub(crate) fn start(directory: &Path, mut command: Command) -> Self {
        let network = directory.join("cni");
        std::fs::create_dir_all(&network).unwrap();
        std::fs::write(network.join("10-bridge.conflist"), network_configuration(directory)).unwrap();
        let configuration = directory.join("config.toml");
        std::fs::write(&configuration, configuration_text(directory)).unwrap();
        let mut child = command
            .arg("--config")
            .arg(&configuration)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the package containerd brings it");
        let mut told = BufReader::new(child.stderr.take().unwrap());
        let mut log = String::new();
        while !log.contains("containerd successfully booted") {
            let read = told.read_line(&mut log).unwrap();
            assert!(read > 0, "containerd ended: {log}");
        }
        let path = directory.join("containerd.log");
        std::fs::write(&path, &log).unwrap();
        // What it says later is kept for whoever looks for a failure; it ends with the program.
        let reader = std::thread::spawn(move || {
            let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
            let _ = std::io::copy(&mut told, &mut file);
        });
        let containerd = Self { child, directory: directory.to_owned(), reader: Some(reader) };
        let pause = images::write_as(&directory.join("pause.tar"), PAUSE, &["sleep", "2147483647"]);
        for archive in [images::write(directory), pause] {
            let socket = containerd.socket();
            ground::run(&format!(
                "ctr --address {} --namespace k8s.io images import {}",
                socket.display(),
                archive.display()
            ));
        }
        containerd
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join("containerd.sock")
    }

    /// The last of what it complained about.
    pub(crate) fn told(&self) -> String {
        let log = std::fs::read_to_string(self.directory.join("containerd.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().filter(|line| !line.contains("level=info")).collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// Scores of sandboxes are not lower than this process's own: not every machine of tests lets root lower them.
fn configuration_text(directory: &Path) -> String {
    let directory = directory.display();
    format!(
        r#"version = 2
root = "{directory}/root"
state = "{directory}/state"
[grpc]
  address = "{directory}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{directory}/cni"
"#
    )
}

fn network_configuration(directory: &Path) -> String {
    serde_json::json!({
        "cniVersion": "0.4.0", "name": "tests",
        "plugins": [{
            "type": "bridge", "bridge": "cni0", "isGateway": true,
            "ipam": {"type": "host-local", "dataDir": directory.join("addresses"), "ranges": [[{"subnet": "10.88.0.0/24"}]],
                "routes": [{"dst": "0.0.0.0/0"}]},
        }],
    })
    .to_string()
}
