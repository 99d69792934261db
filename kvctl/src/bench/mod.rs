//! `kvctl bench`: a load generator for any etcd v3 server, cheap enough to run beside what it measures.
//!
//! `workload` decides what is asked, `grpc` makes bytes of it, `driver` moves the bytes, `report` tells.

mod args;
mod driver;
mod feed;
mod grpc;
mod keyspace;
mod message;
mod report;
mod stats;
mod workload;

use std::io::IsTerminal;

use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};

pub(crate) use args::BenchArgs;
use args::{Consistency, Load, RunArgs};
use driver::{Limit, MOST_CONNECTIONS, Plan};
use feed::Feed;
use keyspace::{Keyspace, STAMP_BYTES};
use message::Fields;
use report::Report;
use workload::{Fill, Gets, Leases, Lists, Mix, Puts, RANGE, STATUS, Updates, Workload};

/// Writing the keys before a load: clients, bytes and operations of a transaction. etcd allows 128 operations
/// and 1.5 MiB.
const FILL_CLIENTS: usize = 32;
const FILL_BYTES: usize = 512 << 10;
const FILL_OPERATIONS: usize = 100;

/// Runs the load and prints its report; fails if nothing but errors came back.
pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    let run = args.load.run();
    check(&args.load, run)?;
    let mut endpoints: Vec<String> =
        run.endpoints.iter().map(|text| endpoint(text)).collect::<Result<_>>()?;
    if run.target_leader {
        endpoints = vec![leader(&endpoints)?];
    }
    let connections: Vec<String> =
        endpoints.iter().cycle().take(endpoints.len() * run.connections).cloned().collect();
    ensure!(
        connections.len() <= MOST_CONNECTIONS,
        "at most {MOST_CONNECTIONS} connections: lower --connections"
    );

    if matches!(args.load, Load::Get { .. } | Load::List { .. } | Load::Mixed { .. }) {
        fill(run, &connections)?;
    }
    let (mut workload, feed) = workload(&args.load)?;
    let limit = match run.total {
        Some(total) => Limit::Operations(total),
        None => Limit::Time { warm_up: run.warm_up, measured: run.duration },
    };
    let bar = progress(limit, args.load.name(), run.json);
    let plan = Plan {
        connections,
        clients: run.clients,
        limit,
        rate: run.rate,
        timeout: run.timeout,
        server_pids: &run.server_pids,
        progress: &bar,
    };
    let watched = feed.is_some();
    let measured = driver::run(&plan, workload.as_mut(), feed)?;
    let report = Report::new(args.load.name(), run.clients, &measured, watched);
    if run.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{report}");
    }
    if report.operations == 0 {
        let errors: u64 = report.errors.values().sum();
        bail!("no operation succeeded, {errors} failed");
    }
    Ok(())
}

fn check(load: &Load, run: &RunArgs) -> Result<()> {
    ensure!(run.clients > 0, "--clients must be at least 1");
    ensure!(run.clients < 1 << 20, "--clients is too large: at most a million");
    ensure!(run.connections > 0, "--connections must be at least 1");
    ensure!(run.key_space > 0, "--key-space must be at least 1");
    ensure!(run.rate.is_none_or(|rate| rate > 0.0 && rate.is_finite()), "--rate must be above 0");
    if let Load::Watch { watch, .. } | Load::Mixed { watch, .. } = load {
        ensure!(watch.watchers > 0 || matches!(load, Load::Mixed { .. }), "--watchers must be at least 1");
        ensure!(
            watch.watchers == 0 || run.value_size >= STAMP_BYTES,
            "--value-size must be at least {STAMP_BYTES}: values carry the time of their put"
        );
    }
    Ok(())
}

/// host:port of what users write.
fn endpoint(text: &str) -> Result<String> {
    ensure!(!text.starts_with("https://"), "{text}: bench speaks plain HTTP/2 only, without TLS");
    let address = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    ensure!(
        address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()),
        "the endpoint {text:?} is not host:port"
    );
    Ok(address.to_owned())
}

/// The endpoint whose member says that it leads.
fn leader(endpoints: &[String]) -> Result<String> {
    for endpoint in endpoints {
        let status = driver::call_once(endpoint, STATUS, &[])?;
        let member = Fields(Fields(&status).bytes(1)).number(2);
        if member != 0 && Fields(&status).number(4) == member {
            return Ok(endpoint.clone());
        }
    }
    bail!("none of the endpoints is the leader: give all members as --endpoints")
}

fn keys(run: &RunArgs) -> Result<Keyspace> {
    Ok(Keyspace::new(&run.prefix, run.key_size, run.key_space, run.value_size)?)
}

/// Writes all keys, unless just these are there.
fn fill(run: &RunArgs, connections: &[String]) -> Result<()> {
    let keys = keys(run)?;
    let (start, end) = keys.whole();
    let mut request = Vec::new();
    // One key without limit would come with its value; a count and one record are what tells.
    workload::put_range(&mut request, &start, &end, 1, 0, false);
    let first = connections.first().context("no endpoint")?;
    let answer = driver::call_once(first, RANGE, &request)?;
    let record = Fields(&answer).bytes(2);
    let same = Fields(&answer).number(4) == run.key_space
        && Fields(record).bytes(1).len() == run.key_size
        && Fields(record).bytes(5).len() == run.value_size;
    if same {
        return Ok(());
    }
    let batch = (FILL_BYTES / (run.value_size + run.key_size).max(1)).clamp(1, FILL_OPERATIONS) as u64;
    let limit = Limit::Operations(run.key_space.div_ceil(batch));
    let bar = progress(limit, "writing keys", run.json);
    let plan = Plan {
        connections: connections.to_vec(),
        clients: FILL_CLIENTS,
        limit,
        rate: None,
        timeout: run.timeout,
        server_pids: &[],
        progress: &bar,
    };
    let mut load = Fill { keys, batch, next: 0, put: Vec::new() };
    let filled = driver::run(&plan, &mut load, None)?;
    if let Some((text, count)) = filled.stats.errors.iter().next() {
        bail!("the keys could not be written: {text} ({count} times)");
    }
    Ok(())
}

fn workload(load: &Load) -> Result<(Box<dyn Workload>, Option<Feed>)> {
    let run = load.run();
    let serializable = run.consistency == Consistency::S;
    Ok(match load {
        Load::Put { sequential, .. } => {
            (Box::new(Puts { keys: keys(run)?, sequential: *sequential, next: 0 }), None)
        }
        Load::Get { .. } => (Box::new(Gets { keys: keys(run)?, serializable }), None),
        Load::List { page, .. } => {
            (Box::new(Lists::new(&keys(run)?, *page, serializable, run.clients)), None)
        }
        Load::Txn { .. } => (Box::new(Updates::new(keys(run)?, run.clients)), None),
        Load::Watch { watch, .. } => {
            let feed = Feed::new(&run.prefix, watch.watchers, watch.streams, false);
            (Box::new(Puts { keys: keys(run)?, sequential: false, next: 0 }), Some(feed))
        }
        Load::Lease { operation, ttl, .. } => (Box::new(Leases::new(*operation, *ttl, run.clients)), None),
        Load::Mixed { watch, page, .. } => {
            let feed = Feed::new(&run.prefix, watch.watchers, watch.streams, true);
            let keyspace = keys(run)?;
            let mix = Mix {
                pages: Lists::new(&keyspace, *page, serializable, run.clients),
                lists: Lists::new(&keyspace, *page, serializable, run.clients),
                updates: Updates::new(keyspace, run.clients),
                gets: Gets { keys: keys(run)?, serializable },
                chosen: vec![0; run.clients],
            };
            (Box::new(mix), (watch.watchers > 0).then_some(feed))
        }
    })
}

fn progress(limit: Limit, what: &'static str, quiet: bool) -> ProgressBar {
    if quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let length = match limit {
        Limit::Operations(most) => most,
        Limit::Time { warm_up, measured } => (warm_up + measured).as_millis() as u64,
    };
    let style = ProgressStyle::with_template("{prefix} [{bar:40}] {percent}%  {msg}");
    let bar = ProgressBar::new(length).with_prefix(what);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

#[cfg(test)]
mod tests {
    use super::endpoint;

    #[test]
    fn endpoints_are_addresses_with_or_without_a_scheme() {
        assert_eq!(endpoint("http://a:1/").ok().as_deref(), Some("a:1"));
        assert_eq!(endpoint("127.0.0.1:2379").ok().as_deref(), Some("127.0.0.1:2379"));
        for bad in ["https://a:1", "a", ":1", "a:b"] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
    }
}
