//! Compares Barque's store with etcd: three members each, one after the other in turns, the same client, and
//! prints the ratios. Judges nothing: goals are the reader's.

mod failover;
mod load;
mod peers;
mod table;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use rustix::process::Signal;

use jepsen_like_tests::cluster::Flavor;
use peers::{Peers, Program};
use table::Results;

const MIB: f64 = (1 << 20) as f64;
/// Clients that write the keys of the memory phase.
const WRITERS: usize = 200;

/// Compares Barque's store with etcd: the same loads in turns, medians and ratios.
#[derive(Debug, Parser)]
#[command(name = "versus")]
struct Options {
    /// What stands against etcd; etcd against itself shows how far the ratios can be trusted
    #[arg(long, value_enum, default_value_t = Flavor::Barque)]
    peer: Flavor,
    /// Only these phases
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Phase>,
    /// Rounds of every phase; results are medians
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 5.0)]
    duration: f64,
    /// Keys of the memory phase, 512 B each
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Write all samples as JSON here
    #[arg(long)]
    json: Option<PathBuf>,
    /// Where the members' data goes while they run: a disk, not memory
    #[arg(long, default_value = "target/versus")]
    dir: PathBuf,
    /// The etcd executable
    #[arg(long, default_value = "etcd")]
    etcd: PathBuf,
    /// The barque executable; beside this one if not given
    #[arg(long)]
    barque: Option<PathBuf>,
    /// The kvctl executable; beside this one if not given
    #[arg(long)]
    kvctl: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Phase {
    Put,
    Get,
    List,
    Txn,
    Watch,
    Mixed,
    /// Memory and restart with many keys
    Memory,
    /// Longest gap of writes when the leader goes
    Failover,
}

/// The loads of a phase: their names and `kvctl bench` arguments.
fn loads(phase: Phase) -> Vec<(String, Vec<String>)> {
    let load = |name: String, arguments: &str| (name, arguments.split(' ').map(str::to_owned).collect());
    match phase {
        Phase::Put => [256, 2048]
            .into_iter()
            .flat_map(|bytes| {
                [1, 16, 100, 1000].map(|clients| {
                    let arguments = format!("put --value-size {bytes} --clients {clients}");
                    load(format!("put {bytes} B, {clients} clients"), &arguments)
                })
            })
            .collect(),
        Phase::Get => [("linearizable", "l"), ("serializable", "s")]
            .into_iter()
            .flat_map(|(name, flag)| {
                [100, 1000].map(|clients| {
                    let arguments = format!("get --consistency {flag} --clients {clients}");
                    load(format!("get {name}, {clients} clients"), &arguments)
                })
            })
            .collect(),
        Phase::List => vec![load("list 10,000 keys by 500".into(), "list --page 500 --clients 10")],
        Phase::Txn => [16, 100, 1000]
            .map(|clients| {
                load(format!("guarded update, {clients} clients"), &format!("txn --clients {clients}"))
            })
            .into(),
        Phase::Watch => [100, 1000]
            .map(|watchers| {
                let arguments = format!("watch --watchers {watchers} --streams 10 --clients 16");
                load(format!("watch events, {watchers} watchers"), &arguments)
            })
            .into(),
        Phase::Mixed => {
            vec![load("Kubernetes mix, 100 clients".into(), "mixed --clients 100 --value-size 1024")]
        }
        Phase::Memory | Phase::Failover => Vec::new(),
    }
}

struct Comparison {
    options: Options,
    kvctl: PathBuf,
    results: Results,
}

impl Comparison {
    async fn round(&mut self, phase: Phase, side: usize, program: &Program) -> Result<()> {
        let mut peers = Peers::start(program, &self.options.dir).await?;
        for (name, mut arguments) in loads(phase) {
            arguments.extend(["--duration".to_owned(), self.options.duration.to_string()]);
            let sample = load::measure(&self.kvctl, &peers, &arguments).await?;
            eprintln!("{:>7}  {name}: {:.1}/s", self.results.names[side], sample.rate);
            self.results.sample(&name, side, sample);
        }
        match phase {
            Phase::Memory => self.memory(side, &mut peers).await,
            Phase::Failover => self.failover(side, &mut peers).await,
            _ => Ok(()),
        }
    }

    fn figure(&mut self, name: &str, side: usize, value: f64) {
        eprintln!("{:>7}  {name}: {value:.1}", self.results.names[side]);
        self.results.figure(name, side, value);
    }

    async fn memory(&mut self, side: usize, peers: &mut Peers) -> Result<()> {
        let keys = self.options.keys;
        let arguments = format!(
            "put --sequential --key-space {keys} --total {keys} --value-size 512 --clients {WRITERS}"
        );
        let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
        let sample = load::measure(&self.kvctl, peers, &arguments).await?;
        ensure!(sample.errors == 0, "some keys were not written");
        self.results.sample(&format!("put 512 B, {keys} new keys"), side, sample);
        for bytes in peers.resident_bytes()? {
            self.figure(&format!("memory with {keys} keys, MiB a member"), side, bytes as f64 / MIB);
        }
        let one = peers.leader().await?.wrapping_add(1) % peers.endpoints().len();
        for (name, members) in
            [("a follower", vec![one]), ("all members", (0..peers.endpoints().len()).collect())]
        {
            for member in &members {
                peers.signal(*member, Signal::KILL)?;
                peers.wait(*member).await?;
            }
            let begin = Instant::now();
            for member in &members {
                peers.spawn(*member)?;
            }
            for member in &members {
                peers.ready(*member).await?;
            }
            self.figure(&format!("restart of {name}, ms"), side, begin.elapsed().as_secs_f64() * 1000.0);
        }
        for bytes in peers.resident_bytes()? {
            self.figure("memory after the restart, MiB a member", side, bytes as f64 / MIB);
        }
        Ok(())
    }

    async fn failover(&mut self, side: usize, peers: &mut Peers) -> Result<()> {
        for (name, signal) in [("kill -9", Signal::KILL), ("SIGTERM", Signal::TERM)] {
            for _ in 0..3 {
                let gap = failover::longest_gap(peers, signal).await?;
                self.figure(
                    &format!("gap of writes after {name} of the leader, ms"),
                    side,
                    gap.as_secs_f64() * 1000.0,
                );
            }
        }
        Ok(())
    }
}

/// The executable of that name beside this one.
fn sibling(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    ensure!(
        path.exists(),
        "{} is missing: build it first, in release mode, or name it by --{name}",
        path.display()
    );
    Ok(path)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let options = Options::parse();
    ensure!(options.rounds > 0, "--rounds must be at least 1");
    let kvctl = options.kvctl.clone().map_or_else(|| sibling("kvctl"), Ok)?;
    let etcd = Program { flavor: Flavor::Etcd, path: options.etcd.clone() };
    let peer = match options.peer {
        Flavor::Etcd => etcd.clone(),
        Flavor::Barque => {
            let path = options.barque.clone().map_or_else(|| sibling("barque"), Ok)?;
            Program { flavor: Flavor::Barque, path }
        }
    };
    let names = match options.peer {
        Flavor::Etcd => ["etcd", "etcd too"],
        Flavor::Barque => ["etcd", "barque"],
    };
    let phases =
        if options.only.is_empty() { Phase::value_variants().to_vec() } else { options.only.clone() };
    let results = Results { names: names.map(str::to_owned), rows: Vec::new(), figures: Vec::new() };
    let mut comparison = Comparison { options, kvctl, results };
    for phase in phases {
        for round in 0..comparison.options.rounds {
            for (side, program) in [&etcd, &peer].into_iter().enumerate() {
                let done = comparison.round(phase, side, program).await;
                done.with_context(|| {
                    format!("{phase:?}, round {}, {}", round + 1, comparison.results.names[side])
                })?;
            }
        }
    }
    println!("{}", comparison.results);
    if let Some(path) = &comparison.options.json {
        let text = serde_json::to_vec_pretty(&comparison.results)?;
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
