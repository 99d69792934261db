//! `kvctl check`: is the cluster fast enough, and how much memory do data take? With etcdctl's loads and limits.
//!
//! Writes below a prefix that must be empty, and deletes what it wrote.

mod load;

use std::time::Duration;

use barque_proto::etcdserverpb as pb;
use clap::{Args, Subcommand, ValueEnum};

use super::Context;
use super::session::Stop;
use super::status::metrics;
use crate::connection::{Connection, http_get};
use crate::error::Failure;
use crate::output::go_quote::quote;
use crate::{go_duration, output, range};
use load::{Load, Measured, Pace};

/// Longest and widest answers that pass, in seconds.
const SLOWEST_S: f64 = 0.5;
const DEVIATION_S: f64 = 0.1;
/// The part of the aimed-at rate that must be reached.
const ENOUGH: f64 = 0.9;

/// Subcommands of `check`.
#[derive(Debug, Subcommand)]
#[command(infer_subcommands = true)]
pub(crate) enum CheckCommand {
    /// Write at a fixed rate for a minute and judge speed and evenness
    Perf {
        #[command(flatten)]
        common: CheckArgs,
        /// Start of the keys that are written
        #[arg(long, default_value = "/etcdctl-check-perf/")]
        prefix: String,
        /// How long to write
        #[arg(long, value_name = "DURATION", value_parser = go_duration::parse, default_value = "60s")]
        duration: Duration,
    },
    /// Write many keys and tell how much the first endpoint's memory has grown
    Datascale {
        #[command(flatten)]
        common: CheckArgs,
        /// Start of the keys that are written
        #[arg(long, default_value = "/etcdctl-check-datascale/")]
        prefix: String,
    },
}

/// What both have.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Size of the load
    #[arg(long, value_enum, default_value_t = Size::S)]
    load: Size,
    /// Compact afterwards
    #[arg(long)]
    auto_compact: bool,
    /// Defragment the endpoints afterwards
    #[arg(long)]
    auto_defrag: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Size {
    /// 150 writes/s of 50 clients; 10,000 keys
    #[value(alias = "small")]
    S,
    /// 1,000 writes/s of 200 clients; 100,000 keys
    #[value(alias = "medium")]
    M,
    /// 8,000 writes/s of 500 clients; 1,000,000 keys
    #[value(alias = "large")]
    L,
    /// 15,000 writes/s of 1,000 clients; 3,000,000 keys
    #[value(alias = "xLarge")]
    Xl,
}

impl Size {
    fn clients(self) -> usize {
        match self {
            Self::S => 50,
            Self::M => 200,
            Self::L => 500,
            Self::Xl => 1000,
        }
    }

    fn writes_per_s(self) -> u32 {
        match self {
            Self::S => 150,
            Self::M => 1_000,
            Self::L => 8_000,
            Self::Xl => 15_000,
        }
    }

    fn keys(self) -> u64 {
        match self {
            Self::S => 10_000,
            Self::M => 100_000,
            Self::L => 1_000_000,
            Self::Xl => 3_000_000,
        }
    }
}

impl CheckCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let connection = &context.connection;
        match self {
            Self::Perf { common, prefix, duration } => {
                must_be_empty(connection, &prefix).await?;
                let rate = common.load.writes_per_s();
                let load = Load {
                    clients: common.load.clients(),
                    pace: Pace::Rate { per_s: rate, duration },
                    prefix: &prefix,
                    key_bytes: 256,
                    value_bytes: 1024,
                };
                let measured = write(connection, &load, &prefix).await?;
                clean_up(connection, &prefix, &common).await?;
                perf_verdict(&measured, rate)
            }
            Self::Datascale { common, prefix } => {
                must_be_empty(connection, &prefix).await?;
                let before = memory(connection).await?;
                let (keys, clients) = (common.load.keys(), common.load.clients());
                output::line(&format!(
                    "Start data scale check for work load [{keys} key-value pairs, 1024 bytes per key-value, {clients} concurrent clients]."
                ))?;
                let load = Load {
                    clients,
                    pace: Pace::Count(keys),
                    prefix: &prefix,
                    key_bytes: 512,
                    value_bytes: 512,
                };
                let measured = write(connection, &load, &prefix).await?;
                let after = memory(connection).await;
                clean_up(connection, &prefix, &common).await?;
                let after = after?;
                tell_errors(&measured)?;
                if !measured.errors.is_empty() {
                    return Err(Failure::Code(1));
                }
                output::line(&format!(
                    "PASS: Approximate system memory used : {:.2} MB.",
                    (after - before) / f64::from(1 << 20)
                ))
            }
        }
    }
}

async fn must_be_empty(connection: &Connection, prefix: &str) -> Result<(), Failure> {
    let (key, range_end) = range::prefix(prefix.as_bytes());
    let request =
        pb::RangeRequest { key: key.into(), range_end: range_end.into(), limit: 1, ..Default::default() };
    if connection.range(request).await?.kvs.is_empty() {
        return Ok(());
    }
    let shown = quote(prefix.as_bytes());
    Err(Failure::Input(format!(
        "there are keys below {shown}: delete them first (`kvctl del --prefix {prefix}`), or choose another --prefix"
    )))
}

/// Writes; when interrupted, deletes what was written.
async fn write(connection: &Connection, load: &Load<'_>, prefix: &str) -> Result<Measured, Failure> {
    let mut stop = Stop::new()?;
    tokio::select! {
        measured = load::run(connection, load) => Ok(measured),
        () = stop.asked() => {
            delete(connection, prefix).await?;
            Err(Failure::Interrupted("interrupted: what was written has been deleted".into()))
        }
    }
}

async fn delete(connection: &Connection, prefix: &str) -> Result<i64, Failure> {
    let (key, range_end) = range::prefix(prefix.as_bytes());
    let request = pb::DeleteRangeRequest { key: key.into(), range_end: range_end.into(), prev_kv: false };
    let deleted = connection.patient().delete_range(request).await?;
    Ok(deleted.header.map_or(0, |header| header.revision))
}

async fn clean_up(connection: &Connection, prefix: &str, args: &CheckArgs) -> Result<(), Failure> {
    let revision = delete(connection, prefix).await?;
    if args.auto_compact {
        connection.patient().compact(pb::CompactionRequest { revision, physical: true }).await?;
        output::line(&format!("Compacted with revision {revision}"))?;
    }
    if args.auto_defrag {
        for endpoint in connection.endpoints() {
            output::line(&format!("Defragmenting \"{endpoint}\""))?;
            connection.to_one(endpoint).patient().defragment(pb::DefragmentRequest {}).await?;
            output::line(&format!("Defragmented \"{endpoint}\""))?;
        }
    }
    Ok(())
}

/// Resident memory of the first endpoint's process, in bytes.
async fn memory(connection: &Connection) -> Result<f64, Failure> {
    let endpoint = &connection.endpoints()[0];
    let answer = http_get(connection.settings(), endpoint, "/metrics").await?;
    metrics::sum(&answer.body, "process_resident_memory_bytes").ok_or_else(|| {
        Failure::Verdict(format!("{endpoint}/metrics does not tell process_resident_memory_bytes: give an endpoint that serves metrics"))
    })
}

fn tell_errors(measured: &Measured) -> Result<(), Failure> {
    if measured.errors.is_empty() {
        return Ok(());
    }
    output::line("FAIL: too many errors")?;
    measured
        .errors
        .iter()
        .try_for_each(|(why, count)| output::line(&format!("FAIL: ERROR({why}) -> {count}")))
}

fn perf_verdict(measured: &Measured, rate: u32) -> Result<(), Failure> {
    tell_errors(measured)?;
    let (lines, passed) = judge(measured, rate);
    lines.iter().try_for_each(|line| output::line(line))?;
    if passed && measured.errors.is_empty() {
        return output::line("PASS");
    }
    output::line("FAIL")?;
    Err(Failure::Code(1))
}

/// The lines about throughput, slowest answer and deviation, and whether all pass.
fn judge(measured: &Measured, rate: u32) -> (Vec<String>, bool) {
    let per_s = measured.per_s();
    let fast = per_s / f64::from(rate) > ENOUGH;
    let even = measured.slowest_s <= SLOWEST_S;
    let steady = measured.deviation_s() <= DEVIATION_S;
    let shown = per_s as u64 + 1;
    let lines = vec![
        if fast {
            format!("PASS: Throughput is {shown} writes/s")
        } else {
            format!("FAIL: Throughput too low: {shown} writes/s")
        },
        if even {
            format!("PASS: Slowest request took {:.6}s", measured.slowest_s)
        } else {
            format!("Slowest request took too long: {:.6}s", measured.slowest_s)
        },
        if steady {
            format!("PASS: Stddev is {:.6}s", measured.deviation_s())
        } else {
            format!("Stddev too high: {:.6}s", measured.deviation_s())
        },
    ];
    (lines, fast && even && steady)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_evenness_and_spread_are_judged() {
        let mut measured = Measured::default();
        (0..150).for_each(|_| measured.add(Ok(()), 0.01));
        measured.elapsed_s = 1.0;
        let (lines, passed) = judge(&measured, 150);
        assert!(passed, "{lines:?}");
        assert_eq!(lines[0], "PASS: Throughput is 151 writes/s");
        measured.elapsed_s = 2.0;
        assert!(!judge(&measured, 150).1);
        measured.elapsed_s = 1.0;
        measured.add(Ok(()), 0.6);
        let (lines, passed) = judge(&measured, 150);
        assert!(!passed && lines[1].contains("too long"), "{lines:?}");
    }
}
