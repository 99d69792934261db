//! A real etcd on loopback, in a directory of its own, ended by its id.

use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::member_process::free_url;

pub(super) struct Etcd {
    child: Child,
    pub(super) url: String,
    _dir: TempDir,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `None`, with a line that says so, where etcd is not installed.
pub(super) fn start() -> Option<Etcd> {
    let dir = TempDir::new().unwrap();
    let (url, peer) = (free_url(), free_url());
    let spawned = Command::new("etcd")
        .args(["--name", "one", "--log-level", "error", "--logger", "zap"])
        .args(["--initial-cluster", &format!("one={peer}"), "--initial-advertise-peer-urls", &peer])
        .args(["--listen-client-urls", &url, "--advertise-client-urls", &url, "--listen-peer-urls", &peer])
        .arg("--data-dir")
        .arg(dir.path().join("data"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    match spawned {
        Ok(child) => Some(Etcd { child, url, _dir: dir }),
        Err(error) => {
            eprintln!("skipped: the contract on etcd needs etcd in PATH ({error})");
            None
        }
    }
}
