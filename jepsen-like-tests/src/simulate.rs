//! Simulates clusters, seed by seed: `simulate --seeds 0..1000`. Each seed runs in a process of its own, so that it is the
//! same run whatever ran before. Must never decide what is a violation.

use std::io::Write as _;
use std::ops::Range;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use jepsen_like_tests::simulation::plan::Plan;
use jepsen_like_tests::simulation::planted::Planted;
use jepsen_like_tests::simulation::run::run;
use jepsen_like_tests::simulation::tally::Tally;

use crate::randomness;

/// Before what one process counted, for the one that started it.
const TALLY: &str = "tally ";
/// So many runs must exercise everything; fewer are not asked for it.
const ENOUGH: u64 = 100;

/// A simulation that takes longer hangs: something in it goes round and round while no time passes.
const LONGEST: Duration = Duration::from_secs(180);

#[derive(Debug, clap::Args)]
pub(crate) struct SimulateArguments {
    /// The seeds, as in 0..1000
    #[arg(long, value_parser = seeds, conflicts_with = "seed", required_unless_present = "seed")]
    seeds: Option<Range<u64>>,
    /// One seed, in this process
    #[arg(long)]
    seed: Option<u64>,
    /// A bug that is put in on purpose
    #[arg(long, value_enum)]
    plant: Option<Planted>,
    /// Lines of what happened that are printed when something is found
    #[arg(long, default_value_t = 40)]
    lines: usize,
    /// How many seeds run at a time
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Stops at the first seed that finds something
    #[arg(long)]
    fail_fast: bool,
    /// Prints what happened as one line
    #[arg(long, hide = true)]
    tally: bool,
}

fn seeds(text: &str) -> anyhow::Result<Range<u64>> {
    let (from, to) = text.split_once("..").context("seeds are given as in 0..1000")?;
    let (from, to) = (from.parse()?, to.parse()?);
    if from >= to {
        bail!("there is no seed in {text}");
    }
    Ok(from..to)
}

/// Carries it out; whether every seed held.
pub(crate) fn simulate(arguments: &SimulateArguments) -> anyhow::Result<bool> {
    match (arguments.seed, &arguments.seeds) {
        (Some(seed), _) => one(seed, arguments),
        (None, Some(seeds)) => all(seeds.clone(), arguments),
        (None, None) => bail!("--seeds or --seed is needed"),
    }
}

/// Runs a seed here.
fn one(seed: u64, arguments: &SimulateArguments) -> anyhow::Result<bool> {
    let dir = tempfile::tempdir().context("a place for the members' files")?;
    // What members say, as with RUST_LOG=barque_store=info.
    if let Ok(filter) = tracing_subscriber::EnvFilter::try_from_default_env() {
        let told = tracing_subscriber::fmt().with_env_filter(filter).without_time();
        told.with_writer(std::io::stderr).with_ansi(false).init();
    }
    randomness::seed(seed);
    // On a thread of its own, whose state nothing has touched.
    let (plan, plant, lines) = (Plan::of(seed), arguments.plant, arguments.lines);
    let path = dir.path().to_owned();
    let simulated = std::thread::spawn(move || run(plan, plant, &path, lines)).join();
    let Ok(verdict) = simulated else { bail!("seed {seed}: the simulation panicked") };
    let mut out = std::io::stdout().lock();
    if verdict.violation.is_some() {
        for line in &verdict.last_lines {
            writeln!(out, "  {line}")?;
        }
    }
    writeln!(out, "{verdict}")?;
    if arguments.tally {
        writeln!(out, "{TALLY}{}", serde_json::to_string(&verdict.tally)?)?;
    } else {
        write!(out, "{}", verdict.tally)?;
    }
    Ok(verdict.violation.is_none())
}

/// A seed that runs, and what is to end it if it does not end by itself.
struct Watched {
    pid: u32,
    output: std::sync::mpsc::Receiver<std::io::Result<Output>>,
}

impl Watched {
    fn new(child: Child) -> Self {
        let pid = child.id();
        let (tell, output) = std::sync::mpsc::sync_channel(1);
        std::thread::spawn(move || drop(tell.send(child.wait_with_output())));
        Self { pid, output }
    }
}

/// How a seed ended; one that takes too long is ended.
fn outcome(watched: Watched) -> anyhow::Result<Output> {
    if let Ok(output) = watched.output.recv_timeout(LONGEST) {
        return Ok(output?);
    }
    let pid = i32::try_from(watched.pid).ok().and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(pid.context("a process has a number")?, rustix::process::Signal::KILL)?;
    Ok(watched.output.recv()??)
}

/// Runs each seed in a process of its own.
fn all(seeds: Range<u64>, arguments: &SimulateArguments) -> anyhow::Result<bool> {
    let program = std::env::current_exe().context("the path of this program")?;
    let began = std::time::Instant::now();
    let (mut done, mut bad, mut tally) = (0_u64, Vec::new(), Tally::default());
    let mut next = seeds.clone();
    let mut running = std::collections::VecDeque::new();
    loop {
        while running.len() < arguments.jobs.max(1)
            && (bad.is_empty() || !arguments.fail_fast)
            && let Some(seed) = next.next()
        {
            let mut command = Command::new(&program);
            command
                .arg("simulate")
                .arg("--seed")
                .arg(seed.to_string())
                .arg("--lines")
                .arg(arguments.lines.to_string())
                .arg("--tally");
            if let Some(plant) = arguments.plant.as_ref().and_then(clap::ValueEnum::to_possible_value) {
                command.arg("--plant").arg(plant.get_name());
            }
            let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
            running.push_back((seed, Watched::new(child)));
        }
        let Some((seed, child)) = running.pop_front() else { break };
        let output = outcome(child)?;
        done += 1;
        let text = String::from_utf8_lossy(&output.stdout);
        for line in text.lines() {
            match line.strip_prefix(TALLY) {
                Some(counted) => tally.merge(&serde_json::from_str(counted)?),
                None => println!("{line}"),
            }
        }
        if !output.status.success() {
            if output.status.code().is_none() {
                println!("seed {seed}: ended after {} s without a verdict", LONGEST.as_secs());
            }
            bad.push(seed);
            print!("{}", String::from_utf8_lossy(&output.stderr));
            let plant = arguments.plant.as_ref().and_then(clap::ValueEnum::to_possible_value);
            let plant = plant.map_or(String::new(), |plant| format!(" --plant {}", plant.get_name()));
            println!("  replay: cargo run -p jepsen-like-tests -- simulate --seed {seed}{plant}");
        }
        std::io::stdout().flush()?;
    }
    let seconds = began.elapsed().as_secs_f64();
    print!("{tally}");
    let never: Vec<&str> = tally.never().collect();
    if done >= ENOUGH && !never.is_empty() {
        println!("never happened in {done} seeds: {}", never.join("; "));
    }
    let hours = tally.of("simulated seconds") as f64 / 3600.0;
    println!("{hours:.1} simulated hours, {:.0} seeds an hour", done as f64 * 3600.0 / seconds);
    println!(
        "{done} seeds of {}..{} in {seconds:.0} s, {} with violations {bad:?}",
        seeds.start,
        seeds.end,
        bad.len()
    );
    Ok(bad.is_empty())
}
