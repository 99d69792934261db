//! `replay`: the requests of a record to two fresh stores. Must never judge the record: `check` does.

use std::io::BufReader;
use std::path::PathBuf;

use anyhow::Context as _;
use jepsen_like_tests::cluster::{Cluster, Flavor, Options};
use jepsen_like_tests::history::{History, read_lines};
use jepsen_like_tests::replay::{Live, Plan, Replayed, Step, compare, plan};

#[derive(Debug, clap::Args)]
pub(crate) struct ReplayArguments {
    /// The file `history.jsonl` of a run
    history: PathBuf,
    /// What the store under test must answer alike
    #[arg(long, value_enum, default_value_t = Flavor::Etcd)]
    against: Flavor,
    /// Members of each of the two clusters; all requests go to the first one
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=7))]
    members: u8,
}

/// Steps between two lines that tell how far it is.
const TOLD_EVERY: usize = 500;

/// Carries it out; whether both answered alike.
pub(crate) fn replay(arguments: &ReplayArguments) -> anyhow::Result<bool> {
    let path = &arguments.history;
    let file = std::fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let history = History::of(read_lines(BufReader::new(file))?)?;
    let plan = plan(&history)?;
    let under_test = Flavor::under_test();
    let (requests, watches) = counts(&plan);
    println!(
        "{requests} requests and {watches} watches to {} and to {}; left out: {} requests that nobody knows to have \
         happened, {} watches of known differences",
        arguments.against, under_test, plan.requests_left_out, plan.watches_left_out
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let replayed = runtime.block_on(async {
        tokio::select! {
            replayed = at_both(&plan, arguments.against, under_test, usize::from(arguments.members)) => replayed,
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        }
    })?;
    println!(
        "{} calls ({} refused), {} watches and {} events up to revision {} (the history: {})",
        replayed.calls, replayed.refused, replayed.watches, replayed.events, replayed.revision, plan.newest
    );
    if let Some(difference) = &replayed.difference {
        println!("first is {}, second {under_test}\n{difference}", arguments.against);
    }
    let alike = replayed.difference.is_none();
    println!("verdict: {}", if alike { "both answer alike" } else { "FAILED" });
    Ok(alike)
}

fn counts(plan: &Plan) -> (usize, usize) {
    let requests = plan.steps.iter().filter(|step| matches!(step, Step::Call(_, Some(_)))).count();
    let watches = plan.steps.iter().filter(|step| matches!(step, Step::Watch(..))).count();
    (requests, watches)
}

async fn at_both(
    plan: &Plan,
    against: Flavor,
    under_test: Flavor,
    members: usize,
) -> anyhow::Result<Replayed> {
    let options = Options::default().fast_elections();
    let (reference, subject) = tokio::try_join!(
        Cluster::start(against, members, options.clone()),
        Cluster::start(under_test, members, options)
    )?;
    let mut first = Live::begin(&against.to_string(), reference.client(0)).await?;
    let mut second = Live::begin(&under_test.to_string(), subject.client(0)).await?;
    let tell = |steps: usize, replayed: &Replayed| {
        if steps.is_multiple_of(TOLD_EVERY) {
            println!("{steps:>7} of {} steps, revision {}", plan.steps.len(), replayed.revision);
        }
    };
    Ok(compare(plan, &mut first, &mut second, tell).await?)
}
