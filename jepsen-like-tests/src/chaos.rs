//! The standard matrix: each workload under each fault, of the store and of whole masters, in runs of their own, until the time is
//! over. Must never judge a run: that is done by the run itself.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::ValueEnum as _;
use jepsen_like_tests::history::{History, read_lines};
use jepsen_like_tests::masters::history::History as MasterHistory;
use jepsen_like_tests::masters::nemesis::MasterNemesis;
use jepsen_like_tests::masters::workload::Workload as MasterWorkload;
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

/// So many runs, of which one is of masters.
const ROUND: usize = 5;

/// The run with this number: so many runs as there are pairs have each pair once, and a few runs have many of both.
fn pair<W: Copy, N: Copy>(number: usize, workloads: &[W], nemeses: &[N]) -> (W, N) {
    let (round, workload) = (number / workloads.len(), number % workloads.len());
    (workloads[workload], nemeses[(workload + round) % nemeses.len()])
}

/// What a run is about.
#[derive(Clone, Copy, Debug)]
enum Pair {
    Store(Workload, Nemesis),
    Masters(MasterWorkload, MasterNemesis),
}

impl Pair {
    /// That of the run with this number; the last one of each round is of masters.
    fn of(number: usize, nemeses: &[Nemesis], of_masters: &[MasterNemesis]) -> Self {
        let (round, within) = (number / ROUND, number % ROUND);
        if within == ROUND - 1 {
            let (workload, nemesis) = pair(round, MasterWorkload::value_variants(), of_masters);
            return Self::Masters(workload, nemesis);
        }
        let (workload, nemesis) = pair(number - round, Workload::value_variants(), nemeses);
        Self::Store(workload, nemesis)
    }

    /// The name of the workload, as the tally has it.
    fn workload(self) -> String {
        match self {
            Self::Store(workload, _) => workload.to_string(),
            Self::Masters(workload, _) => format!("m: {workload}"),
        }
    }

    fn nemesis(self) -> String {
        match self {
            Self::Store(_, nemesis) => nemesis.to_string(),
            Self::Masters(_, nemesis) => nemesis.to_string(),
        }
    }

    /// The words of a command that runs it.
    fn words(self) -> [String; 5] {
        let (command, workload, nemesis) = match self {
            Self::Store(workload, nemesis) => ("run", workload.to_string(), nemesis.to_string()),
            Self::Masters(workload, nemesis) => ("masters", workload.to_string(), nemesis.to_string()),
        };
        [command.to_owned(), "--workload".to_owned(), workload, "--nemesis".to_owned(), nemesis]
    }

    /// Takes down what the record of the run holds, unless it came to none.
    fn tally(self, out: &Path, tally: &mut Tally) -> anyhow::Result<()> {
        let path = out.join("history.jsonl");
        if !path.exists() {
            return Ok(());
        }
        let file = BufReader::new(File::open(&path).with_context(|| format!("opening {}", path.display()))?);
        match self {
            Self::Store(..) => tally.record(&self.workload(), &History::of(read_lines(file)?)?),
            Self::Masters(..) => tally.masters(&self.workload(), &MasterHistory::of(read_lines(file)?)?),
        }
        Ok(())
    }
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
    let is_possible = |nemesis: &&MasterNemesis| match nemesis {
        MasterNemesis::None => false,
        MasterNemesis::Partition => root,
        MasterNemesis::Disk => no_disks.is_none(),
        _ => true,
    };
    let of_masters: Vec<MasterNemesis> =
        MasterNemesis::value_variants().iter().filter(is_possible).copied().collect();
    let first_seed = arguments.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let end = Instant::now() + Duration::from_secs(arguments.minutes * 60);
    let (mut runs, mut failed) = (0, Vec::new());
    let mut tally = Tally::default();
    while Instant::now() < end {
        let pair = Pair::of(runs, &nemeses, &of_masters);
        let (workload, nemesis) = (pair.workload(), pair.nemesis());
        let seed = first_seed.wrapping_add(runs as u64);
        let [command, _, named, ..] = pair.words();
        let out = arguments.out.join(format!("{command}-{named}-{nemesis}-{seed}"));
        // A fourth of all runs, so that every fault meets TLS and users in time; masters always have both.
        let secure = seed.is_multiple_of(4) && matches!(pair, Pair::Store(..));
        let output = run(pair, seed, arguments.duration, secure, &out)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let amount = text.lines().find(|line| line.contains(" requests, ")).unwrap_or("no traffic");
        let passed = output.status.success();
        tally.run(&workload, passed);
        pair.tally(&out, &mut tally)?;
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
    let pairs_of_masters = of_masters.len() * MasterWorkload::value_variants().len();
    let runs_of_masters = runs / ROUND;
    println!(
        "{runs} runs, {} of {pairs} pairs of the store and {} of {pairs_of_masters} of masters, {} failed; the first seed was \
         {first_seed}",
        (runs - runs_of_masters).min(pairs),
        runs_of_masters.min(pairs_of_masters),
        failed.len()
    );
    for out in &failed {
        println!("  {}", out.display());
    }
    Ok(failed.is_empty())
}

/// In a process of its own, which may put itself into a network of its own.
fn run(pair: Pair, seed: u64, duration: u64, secure: bool, out: &Path) -> anyhow::Result<Output> {
    let program = std::env::current_exe().context("the path of this program")?;
    let output = Command::new(program)
        .args(pair.words())
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
                .map(|number| pair(number, Workload::value_variants(), some))
                .map(|(workload, nemesis)| format!("{workload} {nemesis}"))
                .collect();
            assert_eq!(seen.len(), pairs, "of {} faults", some.len());
        }
    }

    #[test]
    fn masters_have_their_turn_among_the_store() {
        let (nemeses, of_masters) = (Nemesis::value_variants(), &MasterNemesis::value_variants()[1..]);
        let pairs = nemeses.len() * Workload::value_variants().len();
        let rounds = pairs.div_ceil(ROUND - 1);
        let all: Vec<Pair> =
            (0..rounds * ROUND).map(|number| Pair::of(number, nemeses, of_masters)).collect();
        let seen = |is_of_masters: bool| {
            let of = all.iter().filter(|pair| matches!(pair, Pair::Masters(..)) == is_of_masters);
            of.map(|pair| pair.words().concat()).collect::<HashSet<_>>().len()
        };
        assert_eq!(seen(false), pairs);
        assert_eq!(seen(true), of_masters.len() * MasterWorkload::value_variants().len());
    }
}
