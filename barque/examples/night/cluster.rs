//! The cluster of the night, by the words that its administrator has. Must never judge what clients see.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use http::Uri;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::kubectls::kubectls;
use crate::{IMPATIENT, PATIENCE, images};

/// The program, which was built beside this one.
fn program() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let program = own.ancestors().nth(2).context("a directory above")?.join("barque");
    ensure!(program.is_file(), "{} is not there; `cargo build --package barque` makes it", program.display());
    Ok(program)
}

fn default_directory(is_root: bool) -> anyhow::Result<PathBuf> {
    if is_root {
        return Ok(PathBuf::from("/var/lib/barque/up"));
    }
    Ok(PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".local/share/barque/up"))
}

/// A cluster of `barque up`.
pub(crate) struct Cluster {
    pub(crate) program: PathBuf,
    kubectl: PathBuf,
    pub(crate) directory: PathBuf,
    /// What everything of it on the machine begins with.
    name: String,
    /// Whether nodes are machines, with containers.
    pub(crate) is_root: bool,
    /// What its administrator has.
    home: tempfile::TempDir,
}

impl Cluster {
    /// None yet.
    pub(crate) fn new(directory: Option<PathBuf>, name: String) -> anyhow::Result<Self> {
        let is_root = rustix::process::geteuid().is_root();
        Ok(Self {
            program: program()?,
            kubectl: kubectls().pop().context("there is no kubectl")?.program,
            directory: directory.map_or_else(|| default_directory(is_root), Ok)?,
            name,
            is_root,
            home: tempfile::tempdir()?,
        })
    }

    /// A file of its administrator's.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(crate) fn run(&self, command: &str, words: &[&str]) -> anyhow::Result<()> {
        let mut barque = Command::new(&self.program);
        let barque = barque.arg(command).args(words).arg("--dir").arg(&self.directory).stdin(Stdio::null());
        let status = barque.status()?;
        ensure!(status.success(), "barque {command} {}: {status}", words.join(" "));
        Ok(())
    }

    /// The same beside what goes on.
    pub(crate) async fn fault(&self, fault: &str, member: &str) -> anyhow::Result<()> {
        let mut barque = tokio::process::Command::new(&self.program);
        let barque =
            barque.args(["fault", fault, member, "--dir"]).arg(&self.directory).stdout(Stdio::null());
        let status = barque.status().await?;
        ensure!(status.success(), "barque fault {fault} {member}: {status}");
        Ok(())
    }

    /// What kubectl says through the front.
    pub(crate) async fn kubectl(&self, words: &[&str]) -> anyhow::Result<String> {
        let output = tokio::process::Command::new(&self.kubectl)
            .args(words)
            .env_clear()
            .env("HOME", self.home.path())
            .env("KUBECONFIG", self.directory.join("kubeconfig"))
            .stdin(Stdio::null())
            .output()
            .await?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "kubectl {}: {errors}", words.join(" "));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The same, again and again until it is well, as somebody at a terminal does it; how long that took.
    pub(crate) async fn kubectl_until_well(&self, words: &[&str]) -> anyhow::Result<Duration> {
        let began = Instant::now();
        while let Err(error) = self.kubectl(words).await {
            ensure!(began.elapsed() < PATIENCE, error);
        }
        Ok(began.elapsed())
    }

    /// Nodes have the page's image before they are there: this works without a registry.
    fn load_image(&self, node: &str, archive: &Path) -> anyhow::Result<()> {
        let place = self.directory.join(node).join("root/images");
        let loaded = Command::new(&self.program)
            .args(["image", "load", "--root"])
            .arg(place)
            .arg("-i")
            .arg(archive)
            .stdout(Stdio::null())
            .status()?;
        ensure!(loaded.success(), "barque image load: {loaded}");
        Ok(())
    }

    pub(crate) async fn client(&self) -> anyhow::Result<Client> {
        let kubeconfig = Kubeconfig::read_from(self.directory.join("kubeconfig"))?;
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        config.read_timeout = Some(IMPATIENT);
        Ok(Client::try_from(config)?)
    }

    /// Which master leads the store, as another one sees it, and the URL of its API server.
    pub(crate) fn leader(&self) -> anyhow::Result<(String, Uri)> {
        for master in ["m1", "m2", "m3"] {
            let output = Command::new(&self.program)
                .args(["status", "-o=json", "--data-dir"])
                .arg(self.directory.join(master))
                .output()?;
            let Ok(status) = serde_json::from_slice::<serde_json::Value>(&output.stdout) else { continue };
            let masters = status["masters"].as_object().into_iter().flatten();
            if let Some((name, master)) = masters.clone().find(|(_, it)| it["store"]["role"] == "leader") {
                let url = master["url"].as_str().context("the master has no URL")?;
                return Ok((name.clone(), url.parse()?));
            }
        }
        bail!("no master leads the store")
    }

    /// Saves the store as an administrator does it, at the master that leads.
    pub(crate) fn save(&self, snapshot: &Path) -> anyhow::Result<()> {
        let (master, url) = self.leader()?;
        let host = url.host().context("the master's URL has no host")?;
        let pki = self.directory.join(master).join("pki/store");
        let kvctl = self.program.with_file_name("kvctl");
        let saved = Command::new(&kvctl)
            .arg(format!("--endpoints=https://{host}:2379"))
            .arg(format!("--cacert={}", pki.join("ca.crt").display()))
            .arg(format!("--cert={}", pki.join("client.crt").display()))
            .arg(format!("--key={}", pki.join("client.key").display()))
            .args(["snapshot", "save"])
            .arg(snapshot)
            .status()
            .with_context(|| kvctl.display().to_string())?;
        ensure!(saved.success(), "kvctl snapshot save: {saved}");
        Ok(())
    }

    /// Brings three masters and three nodes up; when that began, images aside.
    pub(crate) fn come_up(&self, words: &[&str]) -> anyhow::Result<Instant> {
        if self.is_root {
            let archive = images::write(self.home.path());
            for node in ["n1", "n2", "n3"] {
                self.load_image(node, &archive)?;
            }
        }
        let began = Instant::now();
        self.run("up", &[&["--masters=3", "--nodes=3", "--name", &self.name], words].concat())?;
        Ok(began)
    }
}
