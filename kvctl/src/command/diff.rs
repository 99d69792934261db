//! `kvctl diff`: what changed between two revisions, read as two walks over the keys side by side.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::fmt;

use barque_proto::etcdserverpb as pb;
use barque_proto::mvccpb::KeyValue;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde::Serialize;

use super::Context;
use super::words::Raw;
use crate::connection::Connection;
use crate::error::Failure;
use crate::output::go_quote::quote;
use crate::range;

/// Keys of one request.
const PAGE_KEYS: i64 = 1000;

/// Arguments of `diff`.
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// The older revision
    from: i64,
    /// The newer revision; 0 stands for now
    to: i64,
    /// Only keys that begin with this
    #[arg(long, default_value = "", hide_default_value = true)]
    prefix: Raw,
    /// Also the values
    #[arg(long)]
    values: bool,
}

/// One key that is different.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Added(KeyValue),
    Removed(KeyValue),
    Modified { old: KeyValue, new: KeyValue },
}

impl DiffArgs {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        if self.from <= 0 || self.to < 0 {
            return Err(Failure::Arguments(
                "revisions begin at 1: give the older one first, and 0 for now".into(),
            ));
        }
        let to = if self.to == 0 { now(&context.connection).await? } else { self.to };
        let mut old = Walk::new(&context.connection, &self.prefix.0, self.from);
        let mut new = Walk::new(&context.connection, &self.prefix.0, to);
        let mut changes = Vec::new();
        loop {
            let (left, right) = (old.peek().await?, new.peek().await?);
            let order = match (left, right) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(left), Some(right)) => left.key.cmp(&right.key),
            };
            let left = if order.is_le() { old.take() } else { None };
            let right = if order.is_ge() { new.take() } else { None };
            changes.extend(compare(left, right));
        }
        let changes = changes.iter().map(|change| Shown::of(change, self.values)).collect();
        context.output.report(&Report { from_revision: self.from, to_revision: to, changes })
    }
}

async fn now(connection: &Connection) -> Result<i64, Failure> {
    let request = pb::RangeRequest { key: range::NO_END.into(), count_only: true, ..Default::default() };
    Ok(connection.range(request).await?.header.map_or(0, |header| header.revision))
}

/// What became of one key.
fn compare(old: Option<KeyValue>, new: Option<KeyValue>) -> Option<Change> {
    match (old, new) {
        (Some(old), Some(new)) if old.mod_revision == new.mod_revision => None,
        (Some(old), Some(new)) => Some(Change::Modified { old, new }),
        (Some(old), None) => Some(Change::Removed(old)),
        (None, Some(new)) => Some(Change::Added(new)),
        (None, None) => None,
    }
}

/// All keys of a prefix at one revision, in order, page by page.
struct Walk<'a> {
    connection: &'a Connection,
    next: Vec<u8>,
    end: Vec<u8>,
    revision: i64,
    page: VecDeque<KeyValue>,
    more: bool,
}

impl<'a> Walk<'a> {
    fn new(connection: &'a Connection, prefix: &[u8], revision: i64) -> Self {
        let (next, end) = range::prefix(prefix);
        Self { connection, next, end, revision, page: VecDeque::new(), more: true }
    }

    async fn peek(&mut self) -> Result<Option<&KeyValue>, Failure> {
        if self.page.is_empty() && self.more {
            let request = pb::RangeRequest {
                key: self.next.clone().into(),
                range_end: self.end.clone().into(),
                revision: self.revision,
                limit: PAGE_KEYS,
                ..Default::default()
            };
            let answer = self.connection.range(request).await?;
            self.more = answer.more;
            if let Some(last) = answer.kvs.last() {
                self.next = [&last.key[..], b"\0"].concat();
            }
            self.page = answer.kvs.into();
        }
        Ok(self.page.front())
    }

    fn take(&mut self) -> Option<KeyValue> {
        self.page.pop_front()
    }
}

#[derive(Debug, Serialize)]
struct Report {
    from_revision: i64,
    to_revision: i64,
    changes: Vec<Shown>,
}

/// One change as it is printed; keys and values are base64 in JSON.
#[derive(Debug, Serialize)]
struct Shown {
    change: &'static str,
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    old_revision: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new_revision: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    old_value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new_value: Option<String>,
    #[serde(skip)]
    lines: Vec<String>,
}

impl Shown {
    fn of(change: &Change, values: bool) -> Self {
        let (name, sign, old, new) = match change {
            Change::Added(new) => ("added", '+', None, Some(new)),
            Change::Removed(old) => ("removed", '-', Some(old), None),
            Change::Modified { old, new } => ("modified", '~', Some(old), Some(new)),
        };
        let key = new.or(old).map(|kv| kv.key.clone()).unwrap_or_default();
        let revisions = match (old, new) {
            (Some(old), Some(new)) => format!("revision {} -> {}", old.mod_revision, new.mod_revision),
            (Some(old), None) => format!("was of revision {}", old.mod_revision),
            (_, new) => format!("revision {}", new.map_or(0, |kv| kv.mod_revision)),
        };
        let mut lines = vec![format!("{sign} {}  {revisions}", quote(&key))];
        if values {
            lines.extend(old.map(|kv| format!("    - {}", quote(&kv.value))));
            lines.extend(new.map(|kv| format!("    + {}", quote(&kv.value))));
        }
        let value = |kv: &KeyValue| values.then(|| STANDARD.encode(&kv.value));
        Self {
            change: name,
            key: STANDARD.encode(&key),
            old_revision: old.map(|kv| kv.mod_revision),
            new_revision: new.map(|kv| kv.mod_revision),
            old_value: old.and_then(value),
            new_value: new.and_then(value),
            lines,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.changes.iter().flat_map(|change| &change.lines).try_for_each(|line| writeln!(f, "{line}"))?;
        let count = |name| self.changes.iter().filter(|change| change.change == name).count();
        let (added, removed, modified) = (count("added"), count("removed"), count("modified"));
        writeln!(
            f,
            "{added} added, {removed} removed, {modified} modified between {} and {}",
            self.from_revision, self.to_revision
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kv(key: &str, value: &str, mod_revision: i64) -> KeyValue {
        KeyValue {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            mod_revision,
            ..Default::default()
        }
    }

    #[test]
    fn only_what_changed_is_told() {
        let old = kv("k", "1", 5);
        assert_eq!(compare(Some(old.clone()), Some(old.clone())), None);
        let new = kv("k", "2", 9);
        let modified = compare(Some(old.clone()), Some(new.clone())).unwrap();
        let report = Report {
            from_revision: 5,
            to_revision: 9,
            changes: [Change::Added(new), Change::Removed(old), modified]
                .iter()
                .map(|c| Shown::of(c, true))
                .collect(),
        };
        assert_eq!(
            report.to_string(),
            "+ \"k\"  revision 9\n    + \"2\"\n- \"k\"  was of revision 5\n    - \"1\"\n~ \"k\"  revision 5 -> 9\n    - \"1\"\n    + \"2\"\n1 added, 1 removed, 1 modified between 5 and 9\n"
        );
    }
}
