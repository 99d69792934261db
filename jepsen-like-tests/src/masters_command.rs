//! `jepsen-like-tests masters`: one run of masters, and its verdict. Must never judge by itself.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use jepsen_like_tests::checkers::Finding;
use jepsen_like_tests::history::read_lines;
use jepsen_like_tests::masters::checkers::check_all;
use jepsen_like_tests::masters::history::History;
use jepsen_like_tests::masters::nemesis::MasterNemesis;
use jepsen_like_tests::masters::run::{Plan, Summary, run};
use jepsen_like_tests::masters::workload::Workload;
use jepsen_like_tests::network;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, Args)]
pub(crate) struct MastersArguments {
    /// The traffic
    #[arg(long, value_enum, required_unless_present = "check")]
    workload: Option<Workload>,
    /// The faults
    #[arg(long, value_enum, required_unless_present = "check")]
    nemesis: Option<MasterNemesis>,
    /// Seconds during which faults strike
    #[arg(long, default_value_t = 20, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    duration: u64,
    /// What all chances follow from; by chance if not given
    #[arg(long)]
    seed: Option<u64>,
    /// Clients at work
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=64))]
    clients: u32,
    /// Milliseconds that a client rests between two requests
    #[arg(long, default_value_t = 30)]
    pace_ms: u64,
    /// Where history and logs go
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Judge the history of a run again, and start nothing
    #[arg(long, value_name = "FILE", conflicts_with_all = ["workload", "nemesis", "out", "seed"])]
    check: Option<PathBuf>,
}

/// Carries out a run or judges one again; whether nothing is wrong.
pub(crate) fn masters(arguments: &MastersArguments) -> anyhow::Result<bool> {
    if let Some(path) = &arguments.check {
        let file = std::fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
        let history = History::of(read_lines(std::io::BufReader::new(file))?)?;
        return Ok(tell(&check_all(&history)));
    }
    let (Some(workload), Some(nemesis)) = (arguments.workload, arguments.nemesis) else {
        anyhow::bail!("--workload and --nemesis must be given");
    };
    if nemesis == MasterNemesis::Partition && !network::is_inside() {
        return Err(network::enter().into());
    }
    let seed = arguments.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let default = format!("target/jepsen-like-tests/masters-{workload}-{nemesis}-{seed}");
    let out = arguments.out.clone().unwrap_or_else(|| PathBuf::from(default));
    std::fs::create_dir_all(&out).with_context(|| format!("making the directory {}", out.display()))?;
    // Masters are told where their audit logs go, and may be somewhere else.
    let out = out.canonicalize()?;
    let plan = Plan {
        workload,
        nemesis,
        duration: Duration::from_secs(arguments.duration),
        seed,
        clients: arguments.clients,
        pace: Duration::from_millis(arguments.pace_ms),
        out: out.clone(),
    };
    println!("masters: workload {workload}, nemesis {nemesis}, seed {seed}, {} s", arguments.duration);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let run = runtime.block_on(async {
        // Whoever ends the run early ends the masters with it.
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            run = Box::pin(run(&plan, |line| println!("{line}"))) => run,
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
            _ = terminate.recv() => Err(anyhow::anyhow!("terminated")),
        }
    })?;
    print!("{}", Summary(&run));
    let passed = tell(&run.findings);
    println!("artefacts: {}", out.display());
    println!(
        "again: cargo run -p jepsen-like-tests -- masters --workload {workload} --nemesis {nemesis} --duration {} --seed {seed} \
         --clients {} --pace-ms {}",
        arguments.duration, arguments.clients, arguments.pace_ms
    );
    Ok(passed)
}

fn tell(findings: &[Finding]) -> bool {
    for finding in findings {
        println!("{:<14}{}", finding.checker, finding.verdict);
    }
    let passed = findings.iter().all(|finding| finding.verdict.passed());
    println!("verdict: {}", if passed { "nothing is wrong" } else { "FAILED" });
    passed
}
