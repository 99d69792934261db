//! Three members of one kind on loopback: started, signalled by process id, and killed when dropped.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use barque_proto::etcdserverpb::kv_client::KvClient;
use barque_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use barque_proto::etcdserverpb::{RangeRequest, StatusRequest};
use jepsen_like_tests::spawn::command;
use rustix::process::{Pid, Signal, kill_process};
use tonic::transport::{Channel, Endpoint};

const MEMBERS: usize = 3;
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// How finely readiness is seen: another process can only be asked again.
const READY_INTERVAL: Duration = Duration::from_millis(5);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);
/// The same for both kinds. Syncs stay on and timings stay at the defaults, which are equal.
const SETTINGS: [&str; 4] = ["--quota-backend-bytes", "8589934592", "--snapshot-count", "10000"];

/// Which program the members run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Flavor {
    /// etcd
    Etcd,
    /// `barque store`
    Barque,
}

/// How to start a member of a kind.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// The kind.
    pub(crate) flavor: Flavor,
    /// The executable.
    pub(crate) path: PathBuf,
}

struct Member {
    name: String,
    arguments: Vec<String>,
    child: Option<Child>,
    endpoint: String,
}

/// A running cluster.
pub(crate) struct Peers {
    program: Program,
    members: Vec<Member>,
    directory: tempfile::TempDir,
}

fn free_ports(count: usize) -> Result<Vec<u16>> {
    // All are held until all are known, so that none comes twice.
    let held = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

impl Peers {
    /// Starts three members with their data below `parent` and waits until they answer linearizable reads.
    pub(crate) async fn start(program: &Program, parent: &Path) -> Result<Self> {
        std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        let directory = tempfile::Builder::new().prefix("versus-").tempdir_in(parent)?;
        let ports = free_ports(2 * MEMBERS)?;
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let cluster: Vec<String> = (0..MEMBERS).map(|n| format!("m{n}={}", url(ports[2 * n + 1]))).collect();
        let mut members = Vec::new();
        for n in 0..MEMBERS {
            let (client, peer) = (url(ports[2 * n]), url(ports[2 * n + 1]));
            let name = format!("m{n}");
            let mut arguments = Vec::new();
            if program.flavor == Flavor::Barque {
                arguments.push("store".to_owned());
            }
            let data = directory.path().join(&name);
            for (flag, value) in [
                ("--name", name.as_str()),
                ("--data-dir", &data.to_string_lossy()),
                ("--listen-client-urls", &client),
                ("--advertise-client-urls", &client),
                ("--listen-peer-urls", &peer),
                ("--initial-advertise-peer-urls", &peer),
                ("--initial-cluster", &cluster.join(",")),
                ("--initial-cluster-state", "new"),
                ("--initial-cluster-token", "versus"),
            ] {
                arguments.extend([flag.to_owned(), value.to_owned()]);
            }
            arguments.extend(SETTINGS.map(str::to_owned));
            members.push(Member {
                name,
                arguments,
                child: None,
                endpoint: format!("127.0.0.1:{}", ports[2 * n]),
            });
        }
        let mut peers = Self { program: program.clone(), members, directory };
        for n in 0..MEMBERS {
            peers.spawn(n)?;
        }
        for n in 0..MEMBERS {
            peers.ready(n).await?;
        }
        Ok(peers)
    }

    /// Starts member `n` on the data it has.
    pub(crate) fn spawn(&mut self, n: usize) -> Result<()> {
        let member = &mut self.members[n];
        let log = self.directory.path().join(format!("{}.log", member.name));
        let log = File::options().create(true).append(true).open(log)?;
        let child = command(&self.program.path)
            .with_context(|| format!("cannot start {}", self.program.path.display()))?
            .args(&member.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.path.display()))?;
        member.child = Some(child);
        Ok(())
    }

    /// Waits until member `n` answers a linearizable get.
    pub(crate) async fn ready(&mut self, n: usize) -> Result<()> {
        let begin = Instant::now();
        let mut ticks = tokio::time::interval(READY_INTERVAL);
        loop {
            ticks.tick().await;
            let member = &mut self.members[n];
            let exited = member.child.as_mut().and_then(|child| child.try_wait().transpose()).transpose()?;
            if let Some(status) = exited {
                bail!("{} ended at its start ({status}):\n{}", self.members[n].name, self.log_end(n));
            }
            if read(&self.members[n].endpoint).await.is_ok() {
                return Ok(());
            }
            if begin.elapsed() > READY_TIMEOUT {
                bail!("{} does not become ready:\n{}", self.members[n].name, self.log_end(n));
            }
        }
    }

    fn log_end(&self, n: usize) -> String {
        let path = self.directory.path().join(format!("{}.log", self.members[n].name));
        let text =
            std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }

    /// Sends a signal to member `n`.
    pub(crate) fn signal(&self, n: usize, signal: Signal) -> Result<()> {
        let pid = self.pid(n).context("the member does not run")?;
        kill_process(Pid::from_raw(pid.cast_signed()).context("a process id is never 0")?, signal)?;
        Ok(())
    }

    /// Waits for the end of a signalled member.
    pub(crate) fn wait(&mut self, n: usize) -> Result<Option<ExitStatus>> {
        Ok(self.members[n].child.take().map(|mut child| child.wait()).transpose()?)
    }

    fn pid(&self, n: usize) -> Option<u32> {
        self.members[n].child.as_ref().map(Child::id)
    }

    /// Process ids of the running members.
    pub(crate) fn pids(&self) -> Vec<u32> {
        (0..MEMBERS).filter_map(|n| self.pid(n)).collect()
    }

    /// host:port of each member.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| member.endpoint.clone()).collect()
    }

    /// Resident memory of each member, in bytes.
    pub(crate) fn resident_bytes(&self) -> Result<Vec<u64>> {
        self.pids().into_iter().map(resident_bytes).collect()
    }

    /// The number of the member that leads.
    pub(crate) async fn leader(&self) -> Result<usize> {
        for (n, member) in self.members.iter().enumerate() {
            let mut client = MaintenanceClient::new(channel(&member.endpoint).await?);
            let status = client.status(StatusRequest::default()).await?.into_inner();
            if status.header.is_some_and(|header| header.member_id == status.leader) {
                return Ok(n);
            }
        }
        bail!("no member leads")
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        for child in self.members.iter_mut().filter_map(|member| member.child.as_mut()) {
            // A member that is gone already needs no killing.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A connection to a member.
pub(crate) async fn channel(endpoint: &str) -> Result<Channel> {
    Ok(Endpoint::from_shared(format!("http://{endpoint}"))?
        .connect_timeout(ATTEMPT_TIMEOUT)
        .connect()
        .await?)
}

async fn read(endpoint: &str) -> Result<()> {
    let mut client = KvClient::new(channel(endpoint).await?);
    let request = RangeRequest { key: "ready".into(), ..Default::default() };
    tokio::time::timeout(ATTEMPT_TIMEOUT, client.range(request)).await??;
    Ok(())
}

fn resident_bytes(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS in the status")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}
