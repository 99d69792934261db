//! `kvctl space`: which keys take how much space.
//!
//! Barque counts itself, history included. From any other server the keys are read page by page at one revision, and
//! only what exists now is counted.

use std::collections::BTreeMap;
use std::fmt;

use barque_proto::admin as pb;
use barque_proto::etcdserverpb as etcd;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde::Serialize;

use super::groups::GroupArgs;
use super::words::Raw;
use super::{Consistency, Context};
use crate::connection::Connection;
use crate::error::Failure;
use crate::output::go_quote::quote;
use crate::output::{grid, size};
use crate::range;

/// Keys of the first page; further pages follow its size.
const FIRST_PAGE_KEYS: i64 = 16;
/// About the bytes of a page.
const PAGE_BYTES: usize = 1 << 20;
const MOST_PAGE_KEYS: i64 = 10_000;

/// Arguments of `space`.
#[derive(Debug, Args)]
pub(crate) struct SpaceArgs {
    /// Only keys that begin with this
    prefix: Option<Raw>,
    #[command(flatten)]
    groups: GroupArgs,
    /// Linearizable (l) or serializable (s)
    #[arg(long, value_enum, default_value_t = Consistency::L)]
    consistency: Consistency,
}

impl SpaceArgs {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let prefix = self.prefix.clone().unwrap_or_default().0;
        let serializable = self.consistency == Consistency::S;
        let request = pb::SpaceRequest {
            prefix: prefix.clone().into(),
            grouping: Some(self.groups.grouping()),
            serializable,
        };
        // A large keyspace takes its time.
        let told = match context.connection.patient().space(request).await {
            Ok(response) => Told { response, with_history: true },
            Err(Failure::Server(error)) if error.unimplemented => {
                let response = read(&context.connection, &prefix, &self.groups, serializable).await?;
                Told { response, with_history: false }
            }
            Err(failure) => return Err(failure),
        };
        context.output.report(&Report::of(&told, context.output.hex))
    }
}

/// What the server told, or what was found by reading.
struct Told {
    response: pb::SpaceResponse,
    with_history: bool,
}

/// Reads all keys with their values, page by page at one revision.
async fn read(
    connection: &Connection,
    prefix: &[u8],
    groups: &GroupArgs,
    serializable: bool,
) -> Result<pb::SpaceResponse, Failure> {
    let (first, end) = range::prefix(prefix);
    let mut tally = LiveTally::new(prefix.len(), groups);
    let mut page = etcd::RangeRequest {
        key: first.into(),
        range_end: end.into(),
        limit: FIRST_PAGE_KEYS,
        serializable,
        ..Default::default()
    };
    let mut revision = 0;
    loop {
        let answer = connection.range(page.clone()).await?;
        if revision == 0 {
            revision = answer.header.as_ref().map_or(0, |header| header.revision);
            page.revision = revision;
        }
        for kv in &answer.kvs {
            tally.add(&kv.key, kv.value.len());
        }
        let Some(last) = answer.kvs.last().filter(|_| answer.more) else { break };
        page.key = [&last.key[..], b"\0"].concat().into();
        let bytes: usize = answer.kvs.iter().map(|kv| kv.key.len() + kv.value.len()).sum();
        page.limit = next_page_keys(page.limit, bytes);
    }
    let header = Some(etcd::ResponseHeader { revision, ..Default::default() });
    Ok(pb::SpaceResponse { header, ..tally.finish() })
}

/// Pages grow or shrink until they have about [`PAGE_BYTES`].
fn next_page_keys(keys: i64, bytes: usize) -> i64 {
    if bytes < PAGE_BYTES / 2 {
        (keys * 2).min(MOST_PAGE_KEYS)
    } else if bytes > PAGE_BYTES * 2 {
        (keys / 2).max(1)
    } else {
        keys
    }
}

/// Adds up keys that exist.
struct LiveTally<'a> {
    prefix_len: usize,
    args: &'a GroupArgs,
    groups: BTreeMap<Vec<u8>, pb::SpaceNumbers>,
    biggest: Vec<pb::BigValue>,
}

impl<'a> LiveTally<'a> {
    fn new(prefix_len: usize, args: &'a GroupArgs) -> Self {
        Self { prefix_len, args, groups: BTreeMap::new(), biggest: Vec::new() }
    }

    fn add(&mut self, key: &[u8], value_bytes: usize) {
        let group = self.args.group_of(self.prefix_len, key).to_vec();
        let numbers = self.groups.entry(group).or_default();
        numbers.live_keys += 1;
        numbers.live_bytes += (key.len() + value_bytes) as u64;
        let value_bytes = value_bytes as u64;
        self.biggest.push(pb::BigValue { key: key.to_vec().into(), value_bytes });
        if self.biggest.len() >= 2 * self.args.top() {
            self.keep_biggest();
        }
    }

    fn keep_biggest(&mut self) {
        self.biggest.sort_by(|a, b| b.value_bytes.cmp(&a.value_bytes).then_with(|| a.key.cmp(&b.key)));
        self.biggest.truncate(self.args.top());
    }

    fn finish(mut self) -> pb::SpaceResponse {
        self.keep_biggest();
        let sum = |groups: &[pb::SpaceGroup]| {
            let mut sum = pb::SpaceNumbers::default();
            for numbers in groups.iter().filter_map(|group| group.numbers.as_ref()) {
                sum.live_keys += numbers.live_keys;
                sum.live_bytes += numbers.live_bytes;
            }
            sum
        };
        let group = |(prefix, numbers): (Vec<u8>, _)| pb::SpaceGroup {
            prefix: prefix.into(),
            numbers: Some(numbers),
        };
        let mut groups: Vec<_> = self.groups.into_iter().map(group).collect();
        let bytes = |group: &pb::SpaceGroup| group.numbers.as_ref().map_or(0, |numbers| numbers.live_bytes);
        groups.sort_by_key(|group| std::cmp::Reverse(bytes(group)));
        let total = sum(&groups);
        let rest = groups.split_off(groups.len().min(self.args.top()));
        pb::SpaceResponse {
            total: Some(total),
            groups,
            rest: Some(sum(&rest)),
            rest_groups: rest.len() as u64,
            biggest_values: self.biggest,
            ..Default::default()
        }
    }
}

/// As it is printed. Keys are base64 in JSON, as everywhere.
#[derive(Debug, Serialize)]
struct Report {
    revision: i64,
    /// Left out when only what exists now was counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    compact_revision: Option<i64>,
    /// Whether older versions were counted too.
    history: bool,
    total: Numbers,
    groups: Vec<Group>,
    rest: Rest,
    deepest_keys: Vec<Deep>,
    biggest_values: Vec<Big>,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Numbers {
    live_keys: u64,
    live_bytes: u64,
    historic_versions: u64,
    historic_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Group {
    prefix: String,
    #[serde(flatten)]
    numbers: Numbers,
    #[serde(skip)]
    shown: String,
}

#[derive(Debug, Serialize)]
struct Rest {
    groups: u64,
    #[serde(flatten)]
    numbers: Numbers,
}

#[derive(Debug, Serialize)]
struct Deep {
    key: String,
    versions: u64,
    bytes: u64,
    live: bool,
    #[serde(skip)]
    shown: String,
}

#[derive(Debug, Serialize)]
struct Big {
    key: String,
    value_bytes: u64,
    #[serde(skip)]
    shown: String,
}

/// A key for people.
pub(super) fn shown(key: &[u8], hex: bool) -> String {
    if hex { key.iter().map(|byte| format!("\\x{byte:02x}")).collect() } else { quote(key) }
}

fn numbers(of: Option<&pb::SpaceNumbers>) -> Numbers {
    let of = of.copied().unwrap_or_default();
    Numbers {
        live_keys: of.live_keys,
        live_bytes: of.live_bytes,
        historic_versions: of.historic_versions,
        historic_bytes: of.historic_bytes,
    }
}

impl Report {
    fn of(told: &Told, hex: bool) -> Self {
        let response = &told.response;
        let group = |group: &pb::SpaceGroup| Group {
            prefix: STANDARD.encode(&group.prefix),
            numbers: numbers(group.numbers.as_ref()),
            shown: shown(&group.prefix, hex),
        };
        let deep = |key: &pb::DeepKey| Deep {
            key: STANDARD.encode(&key.key),
            versions: key.versions,
            bytes: key.bytes,
            live: key.live,
            shown: shown(&key.key, hex),
        };
        let big = |value: &pb::BigValue| Big {
            key: STANDARD.encode(&value.key),
            value_bytes: value.value_bytes,
            shown: shown(&value.key, hex),
        };
        Self {
            revision: response.header.as_ref().map_or(0, |header| header.revision),
            compact_revision: told.with_history.then_some(response.compact_revision),
            history: told.with_history,
            total: numbers(response.total.as_ref()),
            groups: response.groups.iter().map(group).collect(),
            rest: Rest { groups: response.rest_groups, numbers: numbers(response.rest.as_ref()) },
            deepest_keys: response.deepest_keys.iter().map(deep).collect(),
            biggest_values: response.biggest_values.iter().map(big).collect(),
        }
    }

    fn row(&self, name: String, numbers: &Numbers) -> Vec<String> {
        let mut row = vec![name, numbers.live_keys.to_string(), size::humanize(numbers.live_bytes)];
        if self.history {
            row.push(numbers.historic_versions.to_string());
            row.push(size::humanize(numbers.historic_bytes));
        }
        row
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.compact_revision {
            Some(compacted) if compacted > 0 => {
                writeln!(f, "At revision {}, with history from revision {compacted} on:", self.revision)?;
            }
            Some(_) => writeln!(f, "At revision {}, with all history:", self.revision)?,
            None => {
                let why = "this server does not count history";
                writeln!(f, "At revision {}, only what exists now ({why}):", self.revision)?;
            }
        }
        let mut rows: Vec<_> =
            self.groups.iter().map(|group| self.row(group.shown.clone(), &group.numbers)).collect();
        if self.rest.groups > 0 {
            rows.push(self.row(format!("{} others", self.rest.groups), &self.rest.numbers));
        }
        rows.push(self.row("all".to_owned(), &self.total));
        let header = ["prefix", "keys", "bytes", "old versions", "old bytes"];
        f.write_str(&grid::draw(&header[..if self.history { 5 } else { 3 }], &rows))?;
        if !self.deepest_keys.is_empty() {
            let row = |deep: &Deep| {
                let state = if deep.live { "exists" } else { "deleted" };
                vec![
                    deep.shown.clone(),
                    deep.versions.to_string(),
                    size::humanize(deep.bytes),
                    state.to_owned(),
                ]
            };
            let rows: Vec<_> = self.deepest_keys.iter().map(row).collect();
            writeln!(f, "Keys with the most versions:")?;
            f.write_str(&grid::draw(&["key", "versions", "bytes", "now"], &rows))?;
        }
        if !self.biggest_values.is_empty() {
            let row = |big: &Big| vec![big.shown.clone(), size::humanize(big.value_bytes)];
            let rows: Vec<_> = self.biggest_values.iter().map(row).collect();
            writeln!(f, "Largest values:")?;
            f.write_str(&grid::draw(&["key", "value"], &rows))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    #[command(no_binary_name = true)]
    struct Line {
        #[command(flatten)]
        space: SpaceArgs,
    }

    fn groups(words: &[&str]) -> GroupArgs {
        Line::try_parse_from(words).unwrap().space.groups
    }

    #[test]
    fn keys_that_exist_are_added_up_by_group() {
        let args = groups(&["--top=2"]);
        let mut tally = LiveTally::new(0, &args);
        for (key, value) in [("/a/1", 10), ("/a/2", 20), ("/b/1", 5), ("/c/1", 1), ("/c/2", 2)] {
            tally.add(key.as_bytes(), value);
        }
        let told = tally.finish();
        let group = |prefix: &'static str, live_keys, live_bytes| pb::SpaceGroup {
            prefix: prefix.into(),
            numbers: Some(pb::SpaceNumbers { live_keys, live_bytes, ..Default::default() }),
        };
        assert_eq!(told.groups, [group("/a/", 2, 38), group("/c/", 2, 11)]);
        assert_eq!((told.rest_groups, told.rest.unwrap().live_bytes), (1, 9));
        assert_eq!(told.total.unwrap().live_keys, 5);
        let biggest: Vec<_> = told.biggest_values.iter().map(|big| big.value_bytes).collect();
        assert_eq!(biggest, [20, 10]);
    }

    #[test]
    fn pages_follow_the_size_of_what_comes() {
        assert_eq!(next_page_keys(16, 100), 32);
        assert_eq!(next_page_keys(16, PAGE_BYTES), 16);
        assert_eq!(next_page_keys(16, 3 * PAGE_BYTES), 8);
        assert_eq!(next_page_keys(1, 9 * PAGE_BYTES), 1);
        assert_eq!(next_page_keys(MOST_PAGE_KEYS, 0), MOST_PAGE_KEYS);
    }

    #[test]
    fn without_history_the_report_says_so() {
        let args = groups(&[]);
        let mut tally = LiveTally::new(0, &args);
        tally.add(b"/a/1", 10);
        let report = Report::of(&Told { response: tally.finish(), with_history: false }, false);
        let text = report.to_string();
        assert!(text.starts_with("At revision 0, only what exists now (this server does not count history)"));
        assert!(!text.contains("OLD"), "{text}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((&json["history"], &json["groups"][0]["live_bytes"]), (&false.into(), &14.into()));
    }
}
