//! Three members of one kind as a measurement needs them: with its settings, on its disk, seen as ready at once.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use barque_proto::etcdserverpb::RangeRequest;
use barque_proto::etcdserverpb::kv_client::KvClient;
use jepsen_like_tests::cluster::{Cluster, Flavor, Options};
use rustix::process::Signal;
use tonic::transport::{Channel, Endpoint};

const MEMBERS: usize = 3;
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// How finely readiness is seen: another process can only be asked again.
const READY_INTERVAL: Duration = Duration::from_millis(5);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);
/// The same for both kinds. Syncs stay on and timings stay at the defaults, which are equal.
const SETTINGS: [(&str, u64); 2] = [("--quota-backend-bytes", 8_589_934_592), ("--snapshot-count", 10_000)];
const LOG_LINES_SHOWN: usize = 10;

/// How to start a member of a kind.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// The kind.
    pub(crate) flavor: Flavor,
    /// The executable.
    pub(crate) path: PathBuf,
}

/// A running cluster.
pub(crate) struct Peers {
    cluster: Cluster,
}

impl Peers {
    /// Starts three members with their data below `parent` and waits until they answer linearizable reads.
    pub(crate) async fn start(program: &Program, parent: &Path) -> Result<Self> {
        let options =
            Options::default().program(program.path.clone()).root(parent.to_owned()).patience(READY_TIMEOUT);
        let options = SETTINGS.into_iter().fold(options, |options, (flag, value)| options.flag(flag, value));
        Ok(Self { cluster: Cluster::start(program.flavor, MEMBERS, options).await? })
    }

    /// Starts member `n` on the data it has.
    pub(crate) fn spawn(&mut self, n: usize) -> Result<()> {
        Ok(self.cluster.spawn(n)?)
    }

    /// Waits until member `n` answers a linearizable get.
    pub(crate) async fn ready(&mut self, n: usize) -> Result<()> {
        let begin = Instant::now();
        let endpoint = self.endpoints().swap_remove(n);
        let mut ticks = tokio::time::interval(READY_INTERVAL);
        loop {
            ticks.tick().await;
            if !self.cluster.running().contains(&n) {
                bail!("{} ended at its start:\n{}", self.cluster.name(n), self.log_end(n));
            }
            if read(&endpoint).await.is_ok() {
                return Ok(());
            }
            if begin.elapsed() > READY_TIMEOUT {
                bail!("{} does not become ready:\n{}", self.cluster.name(n), self.log_end(n));
            }
        }
    }

    fn log_end(&self, n: usize) -> String {
        let log = self.cluster.log(n);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }

    /// Sends a signal to member `n`.
    pub(crate) fn signal(&mut self, n: usize, signal: Signal) -> Result<()> {
        Ok(self.cluster.signal(n, signal)?)
    }

    /// Waits for the end of a signalled member.
    pub(crate) async fn wait(&mut self, n: usize) -> Result<()> {
        let ended = self.cluster.ended(n, READY_TIMEOUT).await?;
        ended.with_context(|| {
            format!("{} still runs {READY_TIMEOUT:?} after a signal", self.cluster.name(n))
        })?;
        Ok(())
    }

    /// Process ids of the members.
    pub(crate) fn pids(&self) -> Vec<u32> {
        (0..MEMBERS).filter_map(|n| self.cluster.process_id(n)).collect()
    }

    /// host:port of each member.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        (0..MEMBERS).map(|n| format!("127.0.0.1:{}", self.cluster.client_port(n))).collect()
    }

    /// Resident memory of each member, in bytes.
    pub(crate) fn resident_bytes(&self) -> Result<Vec<u64>> {
        self.pids().into_iter().map(resident_bytes).collect()
    }

    /// The number of the member that leads.
    pub(crate) async fn leader(&mut self) -> Result<usize> {
        Ok(self.cluster.leader().await?)
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
