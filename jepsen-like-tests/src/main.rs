//! `jepsen-like-tests`: breaks the store in a chosen way, and tells what clients saw and what is wrong with it.
//!
//! Exit codes: 0 nothing is wrong, 1 something is, 2 the command line, 3 the run could not be carried out.

mod chaos;
mod masters_command;
mod randomness;
mod replay_history;
mod simulate;
mod syncs;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use jepsen_like_tests::checkers::{Finding, check_all};
use jepsen_like_tests::cluster::Flavor;
use jepsen_like_tests::excerpt;
use jepsen_like_tests::history::{History, read_lines, write_lines};
use jepsen_like_tests::nemesis::Nemesis;
use jepsen_like_tests::network;
use jepsen_like_tests::report::{self, Words};
use jepsen_like_tests::run::{Plan, run};
use jepsen_like_tests::workload::Workload;
use tokio::signal::unix::{SignalKind, signal};

/// Breaks the store in every way we know, and checks what clients saw.
#[derive(Debug, Parser)]
#[command(name = "jepsen-like-tests")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Real processes, real clients, real faults
    Run(RunArguments),
    /// The control plane: masters as real processes, clients of all their API servers, real faults
    Masters(masters_command::MastersArguments),
    /// All workloads under all faults in turn, each in a run of its own
    Chaos(chaos::ChaosArguments),
    /// Whole clusters on simulated time, network and disk: a seed is one run whenever it is run
    Simulate(simulate::SimulateArguments),
    /// Judges a history that a run wrote
    Check {
        /// The file `history.jsonl` of a run
        history: PathBuf,
        /// Write the page that shows it here too
        #[arg(long, value_name = "FILE")]
        page: Option<PathBuf>,
    },
    /// Sends the requests of a history, one after another, to etcd and to the store under test, and compares all answers
    Replay(replay_history::ReplayArguments),
}

#[derive(Debug, clap::Args)]
struct RunArguments {
    /// The traffic
    #[arg(long, value_enum)]
    workload: Workload,
    /// The faults
    #[arg(long, value_enum)]
    nemesis: Nemesis,
    /// Seconds during which faults strike
    #[arg(long, default_value_t = 30, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    duration: u64,
    /// What all chances follow from; by chance if not given
    #[arg(long)]
    seed: Option<u64>,
    /// Clients at work
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=64))]
    clients: u32,
    /// Milliseconds that a client rests between two requests
    #[arg(long, default_value_t = 10)]
    pace_ms: u64,
    /// Members do not sync their logs; under power-cut the run must fail
    #[arg(long)]
    unsafe_no_fsync: bool,
    /// TLS for clients and members, users with passwords and roles; tokens that last four seconds
    #[arg(long)]
    secure: bool,
    /// Where history, logs and page go
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run(arguments) => carry_out(&arguments),
        Command::Masters(arguments) => masters_command::masters(&arguments),
        Command::Chaos(arguments) => chaos::chaos(&arguments),
        Command::Simulate(arguments) => simulate::simulate(&arguments),
        Command::Check { history, page } => check(&history, page.as_deref()),
        Command::Replay(arguments) => replay_history::replay(&arguments),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("error: {why:#}");
            ExitCode::from(3)
        }
    }
}

fn carry_out(arguments: &RunArguments) -> anyhow::Result<bool> {
    if arguments.nemesis.needs_network() && !network::is_inside() {
        return Err(network::enter().into());
    }
    let seed = arguments.seed.unwrap_or_else(rand::random);
    let default = format!("target/jepsen-like-tests/{}-{}-{seed}", arguments.workload, arguments.nemesis);
    let out = arguments.out.clone().unwrap_or_else(|| PathBuf::from(default));
    std::fs::create_dir_all(&out).with_context(|| format!("making the directory {}", out.display()))?;
    let plan = Plan {
        workload: arguments.workload,
        nemesis: arguments.nemesis,
        duration: Duration::from_secs(arguments.duration),
        seed,
        clients: arguments.clients,
        pace: Duration::from_millis(arguments.pace_ms),
        secure: arguments.secure,
        flavor: Flavor::under_test(),
        unsafe_no_fsync: arguments.unsafe_no_fsync,
        out: Some(out.clone()),
    };
    println!("workload {}, nemesis {}, seed {seed}, {} s", plan.workload, plan.nemesis, arguments.duration);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let run = runtime.block_on(async {
        // Whoever ends the run early ends the members with it.
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            run = run(&plan, |line| println!("{line}")) => run,
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
            _ = terminate.recv() => Err(anyhow::anyhow!("terminated")),
        }
    })?;
    println!(
        "{} requests, {} watches, {} faults",
        run.history.operations.len(),
        run.history.watches.len(),
        run.strikes
    );
    if let Some(packets) = run.packets {
        println!(
            "{} packets: {} lost, {} late, {} duplicated, {} overtaken",
            packets.sent, packets.lost, packets.late, packets.duplicated, packets.overtaken
        );
    }
    let again = format!(
        "cargo run -p jepsen-like-tests -- run --workload {} --nemesis {} --duration {} --seed {seed} --clients {} \
         --pace-ms {}{}{}",
        plan.workload,
        plan.nemesis,
        arguments.duration,
        arguments.clients,
        arguments.pace_ms,
        if arguments.unsafe_no_fsync { " --unsafe-no-fsync" } else { "" },
        if arguments.secure { " --secure" } else { "" }
    );
    let passed = tell(&run.history, &run.findings, Some(&out))?;
    let title = format!("{} under {}, seed {seed}", plan.workload, plan.nemesis);
    let path = out.join("run.html");
    show(&path, &Words { title, again: again.clone() }, &run.history, &run.findings)?;
    println!("artefacts: {} (the page: {})", out.display(), path.display());
    println!("again: {again}");
    println!("judge again: cargo run -p jepsen-like-tests -- check {}", out.join("history.jsonl").display());
    Ok(passed)
}

fn check(path: &Path, page: Option<&Path>) -> anyhow::Result<bool> {
    let file = std::fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let history = History::of(read_lines(std::io::BufReader::new(file))?)?;
    let findings = check_all(&history);
    let passed = tell(&history, &findings, None)?;
    if let Some(page) = page {
        let title = path.display().to_string();
        let again = format!("cargo run -p jepsen-like-tests -- check {title}");
        show(page, &Words { title, again }, &history, &findings)?;
    }
    Ok(passed)
}

fn show(path: &Path, words: &Words, history: &History, findings: &[Finding]) -> anyhow::Result<()> {
    let page = report::page(words, history, findings)?;
    std::fs::write(path, page).with_context(|| format!("writing {}", path.display()))
}

/// Prints every verdict, and for the first violation the smallest history that shows it.
fn tell(history: &History, findings: &[Finding], out: Option<&Path>) -> anyhow::Result<bool> {
    for finding in findings {
        println!("{:<14}{}", finding.checker, finding.verdict);
    }
    let violation = findings.iter().find(|finding| finding.verdict.violation().is_some());
    let excerpt = violation.and_then(|finding| excerpt::of(history, finding));
    if let Some(excerpt) = excerpt.filter(|excerpt| *excerpt != History::default()) {
        println!("\nthe smallest failing history:\n{}", excerpt::text(&excerpt));
        if let Some(out) = out {
            let path = out.join("smallest.jsonl");
            let mut file =
                std::fs::File::create(&path).with_context(|| format!("writing {}", path.display()))?;
            write_lines(&excerpt.entries(), &mut file)?;
        }
    }
    let passed = findings.iter().all(|finding| finding.verdict.passed());
    println!("verdict: {}", if passed { "nothing is wrong" } else { "FAILED" });
    Ok(passed)
}
