//! The standard matrix: each workload under each fault, in runs of their own, until the time is over. Must never judge a
//! run: that is done by the run itself.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::ValueEnum as _;
use jepsen_like_tests::history::{History, read_lines};
use jepsen_like_tests::nemesis::Nemesis;
use jepsen_like_tests::sick_disk;
use jepsen_like_tests::tally::Tally;
use jepsen_like_tests::workload::Workload;

#[derive(Debug, clap::Args)]
pub(crate) struct ChaosArguments {
    /// Minutes after which no further run is begun
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
    /// Seconds during which faults strike in each run
    #[arg(long, default_value_t = 12, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    duration: u64,
    /// The first run's seed, the next ones count on; by chance if not given
    #[arg(long)]
    seed: Option<u64>,
    /// Where the artefacts of runs that failed are kept
    #[arg(long, value_name = "DIR", default_value = "target/jepsen-like-tests/chaos")]
    out: PathBuf,
}

/// The run with this number: so many runs as there are pairs have each pair once, and a few runs have many of both.
fn pair(number: usize, nemeses: &[Nemesis]) -> (Workload, Nemesis) {
    let workloads = Workload::value_variants();
    let (round, workload) = (number / workloads.len(), number % workloads.len());
    (workloads[workload], nemeses[(workload + round) % nemeses.len()])
}

/// Carries it out; whether every run passed.
pub(crate) fn chaos(arguments: &ChaosArguments) -> anyhow::Result<bool> {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped without root: {}, {}", Nemesis::Partition, Nemesis::Network);
    }
    let no_disks = sick_disk::missing();
    if let Some(what) = &no_disks {
        println!("skipped: {}, {}: {what}", Nemesis::PowerCut, Nemesis::SickDisk);
    }
    let possible = |nemesis: &&Nemesis| {
        **nemesis != Nemesis::None
            && (root || !nemesis.needs_network())
            && (no_disks.is_none() || !nemesis.needs_disks())
    };
    let nemeses: Vec<Nemesis> = Nemesis::value_variants().iter().filter(possible).copied().collect();
    let first_seed = arguments.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let end = Instant::now() + Duration::from_secs(arguments.minutes * 60);
    let (mut runs, mut failed) = (0, Vec::new());
    let mut tally = Tally::default();
    while Instant::now() < end {
        let (workload, nemesis) = pair(runs, &nemeses);
        let seed = first_seed.wrapping_add(runs as u64);
        let out = arguments.out.join(format!("{workload}-{nemesis}-{seed}"));
        // A fourth of all runs, so that every fault meets TLS and users in time.
        let secure = seed.is_multiple_of(4);
        let output = run(workload, nemesis, seed, arguments.duration, secure, &out)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let amount = text.lines().find(|line| line.contains(" requests, ")).unwrap_or("no traffic");
        let passed = output.status.success();
        tally.run(&workload.to_string(), passed);
        if let Some(history) = record(&out)? {
            tally.record(&workload.to_string(), &history);
        }
        runs += 1;
        println!(
            "{runs:>4}  {workload:<14}{nemesis:<12}seed {seed:<12}{}  {amount}{}",
            if passed { "ok    " } else { "FAILED" },
            if secure { ", secure" } else { "" }
        );
        if passed {
            // Only what failed is worth its space.
            std::fs::remove_dir_all(&out).with_context(|| format!("removing {}", out.display()))?;
        } else {
            println!("{text}{}", String::from_utf8_lossy(&output.stderr));
            failed.push(out);
        }
    }
    println!("\n{tally}");
    let pairs = nemeses.len() * Workload::value_variants().len();
    println!(
        "{runs} runs, {} of {pairs} pairs, {} failed; the first seed was {first_seed}",
        runs.min(pairs),
        failed.len()
    );
    for out in &failed {
        println!("  {}", out.display());
    }
    Ok(failed.is_empty())
}

/// The record of a run, unless it came to none.
fn record(out: &Path) -> anyhow::Result<Option<History>> {
    let path = out.join("history.jsonl");
    if !path.exists() {
        return Ok(None);
    }
    let file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
    Ok(Some(History::of(read_lines(BufReader::new(file))?)?))
}

/// In a process of its own, which may put itself into a network of its own.
fn run(
    workload: Workload,
    nemesis: Nemesis,
    seed: u64,
    duration: u64,
    secure: bool,
    out: &Path,
) -> anyhow::Result<Output> {
    let program = std::env::current_exe().context("the path of this program")?;
    let output = Command::new(program)
        .args(["run", "--workload", &workload.to_string(), "--nemesis", &nemesis.to_string()])
        .args(["--seed", &seed.to_string(), "--duration", &duration.to_string()])
        .args(secure.then_some("--secure"))
        .arg("--out")
        .arg(out)
        .output();
    output.context("starting a run")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_pair_has_its_turn() {
        let nemeses = Nemesis::value_variants();
        for some in [nemeses, &nemeses[1..], &nemeses[..7], &nemeses[..8]] {
            let pairs = some.len() * Workload::value_variants().len();
            let seen: HashSet<String> = (0..pairs)
                .map(|number| pair(number, some))
                .map(|(workload, nemesis)| format!("{workload} {nemesis}"))
                .collect();
            assert_eq!(seen.len(), pairs, "of {} faults", some.len());
        }
    }
}
