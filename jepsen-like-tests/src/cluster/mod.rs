//! Clusters of real processes on loopback: started, killed, paused, wiped, restarted, and always removed.

mod health;
mod membership;
mod options;
mod ports;
pub(crate) mod process;
mod signals;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

pub use health::{HttpAnswer, http_get};
pub use options::{Flavor, Options, TlsFiles, barque_binary, built_binary};

use crate::client::Client;
use crate::clocks::{ClockError, Clocks};
use crate::deadline::{TooLate, eventually};
use crate::network::{Network, NetworkError};
use crate::sick_disk::SickDisk;
use process::{Process, tail};

/// How often a start is tried again with other ports when somebody was faster to take one.
const PORT_ATTEMPTS: usize = 3;

/// Lines of a member's log that are shown when a test fails.
const LOG_LINES_SHOWN: usize = 40;

/// A cluster could not be brought into the wanted state.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The program is missing or cannot be run.
    #[error(
        "cannot run {program}: {source} (etcd and etcdctl: `apt-get install etcd-server etcd-client`; \
         barque: `cargo build -p barque`)"
    )]
    Program {
        /// What was to be run.
        program: String,
        /// Why it could not be.
        source: io::Error,
    },
    /// A file, directory, port or signal.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A member ended instead of becoming ready.
    #[error("member {name} ended with {status}; the end of its log:\n{log}")]
    Ended {
        /// The member.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// The last lines it wrote.
        log: String,
    },
    /// The cluster's own network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A member did not do what it must where its disk is sick or its data is damaged.
    #[error("member {name} {what}; the end of its log:\n{log}")]
    Disk {
        /// The member.
        name: String,
        /// What it did.
        what: String,
        /// The last lines it wrote.
        log: String,
    },
    /// The members' clocks.
    #[error(transparent)]
    Clocks(#[from] ClockError),
    /// A state was not reached in time.
    #[error(transparent)]
    TooLate(#[from] TooLate),
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> ClusterError {
    let what = what.into();
    move |source| ClusterError::Io { what, source }
}

#[derive(Debug)]
struct Member {
    name: String,
    /// Where it listens: loopback, or its address in the cluster's own network.
    host: String,
    client_port: u16,
    peer_port: u16,
    /// Plain `/health` and `/metrics`; only with TLS, where the client port does not answer plainly.
    metrics_port: Option<u16>,
    data_dir: PathBuf,
    log: PathBuf,
    /// `--initial-cluster-state`, and the members it was started with.
    state: &'static str,
    initial_cluster: String,
    process: Option<Process>,
}

/// Members of one store on this machine. Dropping it ends every process and removes every file.
#[derive(Debug)]
pub struct Cluster {
    flavor: Flavor,
    options: Options,
    members: Vec<Member>,
    token: String,
    root: TempDir,
}

impl Cluster {
    /// Starts `count` members and waits until each of them is healthy.
    pub async fn start(flavor: Flavor, count: usize, options: Options) -> Result<Self, ClusterError> {
        let mut attempt = 1;
        loop {
            let mut cluster = Self::prepare(flavor, count, options.clone())?;
            match cluster.start_all().await {
                Err(ClusterError::Ended { log, .. })
                    if log.contains("address already in use") && attempt < PORT_ATTEMPTS =>
                {
                    attempt += 1;
                }
                other => return other.map(|()| cluster),
            }
        }
    }

    /// Chooses ports and directories for `count` members and starts none of them.
    pub fn prepare(flavor: Flavor, count: usize, options: Options) -> Result<Self, ClusterError> {
        let mut directory = tempfile::Builder::new();
        directory.prefix("store-under-test-");
        let root = match &options.root {
            Some(root) => std::fs::create_dir_all(root).and_then(|()| directory.tempdir_in(root)),
            None => directory.tempdir(),
        };
        let root = root.map_err(io_error("a directory for the cluster"))?;
        let token = format!("token-{:016x}", rand::random::<u64>());
        let mut cluster = Self { flavor, options, members: Vec::new(), token, root };
        for _ in 0..count {
            cluster.prepare_member("new")?;
        }
        let all = cluster.initial_cluster();
        for member in &mut cluster.members {
            member.initial_cluster.clone_from(&all);
        }
        Ok(cluster)
    }

    fn prepare_member(&mut self, state: &'static str) -> Result<usize, ClusterError> {
        let index = self.members.len();
        let name = format!("m{}", index + 1);
        let mut data_root = self.options.data_roots.get(&index).map_or(self.root.path(), PathBuf::as_path);
        let disk = self.options.disks.as_ref().map(|disks| disks.add(&name));
        let disk = disk.transpose().map_err(io_error("a disk of the member's own"))?;
        if let Some(disk) = &disk {
            data_root = disk.path();
        }
        let port = || ports::free().map_err(io_error("a free port"));
        let host = match &self.options.network {
            Some(network) => network.add_host(&name)?,
            None => "127.0.0.1".to_owned(),
        };
        self.members.push(Member {
            host,
            client_port: port()?,
            peer_port: port()?,
            metrics_port: if self.options.tls.is_some() { Some(port()?) } else { None },
            data_dir: data_root.join(&name),
            log: self.root.path().join(format!("{name}.log")),
            state,
            initial_cluster: String::new(),
            process: None,
            name,
        });
        Ok(index)
    }

    async fn start_all(&mut self) -> Result<(), ClusterError> {
        let all: Vec<usize> = (0..self.len()).collect();
        self.restart_all(&all).await
    }

    /// Starts the named members together and waits until each of them is healthy.
    pub async fn restart_all(&mut self, indexes: &[usize]) -> Result<(), ClusterError> {
        for &index in indexes {
            self.spawn(index)?;
        }
        for &index in indexes {
            self.ready(index).await?;
        }
        Ok(())
    }

    fn scheme(&self) -> &'static str {
        if self.options.tls.is_some() { "https" } else { "http" }
    }

    fn initial_cluster(&self) -> String {
        let scheme = self.scheme();
        let urls = self.members.iter().map(|m| format!("{}={scheme}://{}:{}", m.name, m.host, m.peer_port));
        urls.collect::<Vec<_>>().join(",")
    }

    /// The flags with which member `index` is started, each with its value.
    #[must_use]
    pub fn flags(&self, index: usize) -> BTreeMap<String, String> {
        let member = &self.members[index];
        let scheme = self.scheme();
        let client = format!("{scheme}://{}:{}", member.host, member.client_port);
        let peer = format!("{scheme}://{}:{}", member.host, member.peer_port);
        let mut flags = BTreeMap::new();
        let mut set = |flag: &str, value: String| flags.insert(format!("--{flag}"), value);
        set("name", member.name.clone());
        set("data-dir", member.data_dir.display().to_string());
        set("listen-client-urls", client.clone());
        set("advertise-client-urls", client);
        set("listen-peer-urls", peer.clone());
        set("initial-advertise-peer-urls", peer);
        set("initial-cluster", member.initial_cluster.clone());
        set("initial-cluster-state", member.state.to_owned());
        set("initial-cluster-token", self.token.clone());
        if let Some(port) = member.metrics_port {
            set("listen-metrics-urls", format!("http://{}:{port}", member.host));
        }
        if let Some(tls) = &self.options.tls {
            for prefix in ["", "peer-"] {
                set(&format!("{prefix}cert-file"), tls.certificate.display().to_string());
                set(&format!("{prefix}key-file"), tls.key.display().to_string());
                set(&format!("{prefix}trusted-ca-file"), tls.authority.display().to_string());
                set(&format!("{prefix}client-cert-auth"), "true".to_owned());
            }
        }
        flags.extend(self.options.flags.clone());
        flags
    }

    /// Starts member `index` and does not wait for it.
    pub fn spawn(&mut self, index: usize) -> Result<(), ClusterError> {
        self.spawn_with(index, &self.flags(index))
    }

    /// Starts member `index` with exactly these flags and does not wait for it.
    pub fn spawn_with(&mut self, index: usize, flags: &BTreeMap<String, String>) -> Result<(), ClusterError> {
        let (program, leading) = self.options.program_of(self.flavor);
        let mut arguments: Vec<OsString> = leading.iter().map(OsString::from).collect();
        arguments.extend(flags.iter().map(|(flag, value)| OsString::from(format!("{flag}={value}"))));
        let member = &mut self.members[index];
        let (program, arguments) = match &self.options.clocks {
            Some(clocks) => {
                let [env, settings @ ..] = clocks.before_program(&member.name)?;
                let words = settings.into_iter().map(OsString::from).chain([program.into_os_string()]);
                (PathBuf::from(env), words.chain(arguments).collect())
            }
            None => (program, arguments),
        };
        let on_host = self.options.network.as_ref().map(|_| Network::on_host(&member.name));
        let (program, arguments) = match on_host {
            Some([ip, words @ ..]) => {
                let words = words.into_iter().map(OsString::from).chain([program.into_os_string()]);
                (PathBuf::from(ip), words.chain(arguments).collect())
            }
            None => (program, arguments),
        };
        let process = Process::start(&program, &arguments, &member.log)
            .map_err(|source| ClusterError::Program { program: program.display().to_string(), source })?;
        member.process = Some(process);
        Ok(())
    }

    /// Starts member `index` again and waits until it is healthy.
    pub async fn restart(&mut self, index: usize) -> Result<(), ClusterError> {
        self.restart_all(&[index]).await
    }

    /// Waits until member `index` is healthy: it has a leader and answers linearizable reads.
    pub async fn ready(&mut self, index: usize) -> Result<(), ClusterError> {
        let port = self.members[index].metrics_port.unwrap_or(self.members[index].client_port);
        let host = self.members[index].host.clone();
        let what = format!("/health of {}", self.members[index].name);
        let patience = self.options.ready_within();
        let healthy = eventually(&what, patience, || health::healthy(&host, port));
        let mut healthy = std::pin::pin!(healthy);
        loop {
            // The readiness question never learns of the process's end; a look at it now and then does.
            if let Ok(answer) = tokio::time::timeout(Duration::from_millis(200), healthy.as_mut()).await {
                return Ok(answer?);
            }
            let member = &mut self.members[index];
            let ended = match &mut member.process {
                Some(process) => process.exit_status().map_err(io_error("the state of a member"))?,
                None => None,
            };
            if let Some(status) = ended {
                let log = tail(&member.log, LOG_LINES_SHOWN);
                return Err(ClusterError::Ended { name: member.name.clone(), status, log });
            }
        }
    }

    /// How many members there are, running or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// What runs.
    #[must_use]
    pub fn flavor(&self) -> Flavor {
        self.flavor
    }

    /// The client URL of member `index`.
    #[must_use]
    pub fn endpoint(&self, index: usize) -> String {
        format!("{}://{}:{}", self.scheme(), self.members[index].host, self.members[index].client_port)
    }

    /// The client URLs of all members.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        (0..self.len()).map(|index| self.endpoint(index)).collect()
    }

    /// The port on which member `index` serves clients.
    #[must_use]
    pub fn client_port(&self, index: usize) -> u16 {
        self.members[index].client_port
    }

    /// The port on which member `index` serves other members.
    #[must_use]
    pub fn peer_port(&self, index: usize) -> u16 {
        self.members[index].peer_port
    }

    /// The name of member `index`.
    #[must_use]
    pub fn name(&self, index: usize) -> &str {
        &self.members[index].name
    }

    /// The data directory of member `index`.
    #[must_use]
    pub fn data_dir(&self, index: usize) -> &Path {
        &self.members[index].data_dir
    }

    /// The process id of member `index`, while it runs.
    #[must_use]
    pub fn process_id(&self, index: usize) -> Option<u32> {
        self.members[index].process.as_ref().map(Process::id)
    }

    /// Everything that member `index` has printed.
    #[must_use]
    pub fn log(&self, index: usize) -> String {
        tail(&self.members[index].log, usize::MAX)
    }

    /// That member `index` did something else than it must.
    #[must_use]
    pub fn blame(&self, index: usize, what: impl Into<String>) -> ClusterError {
        let Member { name, log, .. } = &self.members[index];
        ClusterError::Disk { name: name.clone(), what: what.into(), log: tail(log, LOG_LINES_SHOWN) }
    }

    /// The cluster's own network, if it has one.
    #[must_use]
    pub fn network(&self) -> Option<&Network> {
        self.options.network.as_deref()
    }

    /// The disk of member `index`, if members have disks of their own.
    #[must_use]
    pub fn disk(&self, index: usize) -> Option<Arc<SickDisk>> {
        self.options.disks.as_ref().and_then(|disks| disks.of(self.name(index)))
    }

    /// The members' clocks, if they have their own.
    #[must_use]
    pub fn clocks(&self) -> Option<&Clocks> {
        self.options.clocks.as_deref()
    }

    /// A directory of this cluster for a test's own files.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        self.root.path()
    }

    /// A client that speaks with member `index` and no other.
    #[must_use]
    pub fn client(&self, index: usize) -> Client {
        Client::through(&self.endpoint(index), &self.options.door)
    }

    /// The members that run.
    pub fn running(&mut self) -> Vec<usize> {
        let alive = |member: &mut Member| match &mut member.process {
            Some(process) => matches!(process.exit_status(), Ok(None)),
            None => false,
        };
        self.members.iter_mut().enumerate().filter_map(|(i, m)| alive(m).then_some(i)).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            member.process = None;
            if std::thread::panicking() {
                let log = tail(&member.log, LOG_LINES_SHOWN);
                eprintln!("---- the end of the log of {} ({:?})\n{log}", member.name, self.flavor);
            }
        }
    }
}
