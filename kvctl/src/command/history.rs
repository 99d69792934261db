//! `kvctl history`: every version of a key that the store still knows, read by a watch from the oldest revision.

use std::fmt;
use std::time::Duration;

use barque_proto::admin;
use barque_proto::etcdserverpb as pb;
use barque_proto::mvccpb::{Event, KeyValue, event};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde::Serialize;

use super::Context;
use super::words::Raw;
use crate::connection::{Connection, WatchOptions, Watcher};
use crate::error::Failure;
use crate::output::go_quote::quote;
use crate::time_point::TimePoint;

/// A question for progress is not answered while a watch catches up, and is asked again.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// Arguments of `history`.
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// The key
    key: Raw,
    /// Only the newest so many versions
    #[arg(long, value_name = "COUNT", default_value_t = 0, hide_default_value = true)]
    limit: usize,
}

/// One version of a key; the value is `None` where the key was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) revision: i64,
    create_revision: i64,
    version: i64,
    lease: i64,
    pub(super) value: Option<Vec<u8>>,
}

/// All versions of a key, the oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct History {
    pub(super) key: Vec<u8>,
    /// Nothing older is known: the compact revision, or 1.
    pub(super) since_revision: i64,
    pub(super) versions: Vec<Version>,
}

impl HistoryArgs {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let mut history = read(&context.connection, self.key.0).await?;
        if self.limit > 0 && history.versions.len() > self.limit {
            history.versions.drain(..history.versions.len() - self.limit);
        }
        let mut shown = Shown::of(&history, context.output.hex);
        shown.set_times(&times(&context.connection, &history).await?);
        context.output.report(&shown)
    }
}

/// Revisions in one question about times.
const REVISIONS_PER_QUESTION: usize = 1000;

/// When the versions were written, as far as the server can tell; nothing where it does not keep times or this user
/// may not ask.
async fn times(connection: &Connection, history: &History) -> Result<Vec<admin::RevisionTime>, Failure> {
    let mut times = Vec::new();
    for versions in history.versions.chunks(REVISIONS_PER_QUESTION) {
        let revisions = versions.iter().map(|version| version.revision).collect();
        match connection.time_of(admin::TimeOfRequest { revisions }).await {
            Ok(answer) => times.extend(answer.times),
            Err(Failure::Server(error))
                if error.unimplemented || error.message.contains("permission denied") =>
            {
                return Ok(Vec::new());
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(times)
}

/// Reads the whole history of one key.
pub(super) async fn read(connection: &Connection, key: Vec<u8>) -> Result<History, Failure> {
    let now = pb::RangeRequest { key: key.clone().into(), ..Default::default() };
    let now = connection.range(now).await?;
    let revision = now.header.map_or(0, |header| header.revision);
    let newest = now.kvs.first().map(|kv| kv.mod_revision);
    let status = connection.status(pb::StatusRequest {}).await?;
    let (mut options, until) = match newest {
        Some(newest) => (WatchOptions { key: key.clone(), ..WatchOptions::default() }, Until::Event(newest)),
        None if progress_is_ordered(&status.version) => {
            (WatchOptions { key: key.clone(), ..WatchOptions::default() }, Until::Progress(revision))
        }
        // The last event of the key is not known, and progress may overtake it: some key has an event at `revision`.
        None => {
            let (all, end) = crate::range::prefix(b"");
            (WatchOptions { key: all, range_end: end, ..WatchOptions::default() }, Until::Event(revision))
        }
    };
    options.start_revision = 1;
    if revision <= 1 {
        return Ok(History { key, since_revision: 1, versions: Vec::new() });
    }
    // A watch from before the compact revision is answered with that revision; a compaction may come in between.
    loop {
        let mut watcher = Watcher::open(connection, options.clone()).await?;
        let compacted = match collect(&mut watcher, &key, until).await? {
            Ok(versions) => return Ok(History { key, since_revision: options.start_revision, versions }),
            Err(compacted) => compacted,
        };
        // No event of the key is left that the watch could tell: what is known is the key as it is.
        if compacted >= newest.map_or(revision, |newest| newest + 1) {
            let versions = now.kvs.iter().map(put).collect();
            return Ok(History { key, since_revision: compacted, versions });
        }
        options.start_revision = compacted;
    }
}

/// When everything has been read.
#[derive(Clone, Copy, Debug)]
enum Until {
    /// An event of this revision or a later one has come.
    Event(i64),
    /// The watch says that it has told everything up to this revision.
    Progress(i64),
}

/// The versions of `key`, or the compact revision if history begins later than the watch.
async fn collect(
    watcher: &mut Watcher,
    key: &[u8],
    until: Until,
) -> Result<Result<Vec<Version>, i64>, Failure> {
    let mut versions = Vec::new();
    let mut ask = tokio::time::interval(ASK_EVERY);
    loop {
        let answer = tokio::select! {
            answer = watcher.next() => answer?,
            _ = ask.tick(), if matches!(until, Until::Progress(_)) => {
                watcher.ask_for_progress().await;
                continue;
            }
        };
        if answer.compact_revision > 0 {
            return Ok(Err(answer.compact_revision));
        }
        if answer.canceled {
            return Err(Failure::Interrupted(format!(
                "the server ended the watch: {}",
                answer.cancel_reason
            )));
        }
        let of_key = |event: &&Event| event.kv.as_ref().is_some_and(|kv| kv.key == key);
        versions.extend(answer.events.iter().filter(of_key).map(version));
        let last = answer.events.last().and_then(|event| event.kv.as_ref()).map(|kv| kv.mod_revision);
        let done = match until {
            Until::Event(revision) => last.is_some_and(|last| last >= revision),
            Until::Progress(revision) => {
                last.is_none() && answer.header.is_some_and(|header| header.revision >= revision)
            }
        };
        if done {
            return Ok(Ok(versions));
        }
    }
}

fn version(event: &Event) -> Version {
    let version = put(&event.kv.clone().unwrap_or_default());
    match event.r#type() {
        event::EventType::Put => version,
        event::EventType::Delete => Version { value: None, ..version },
    }
}

fn put(kv: &KeyValue) -> Version {
    Version {
        revision: kv.mod_revision,
        create_revision: kv.create_revision,
        version: kv.version,
        lease: kv.lease,
        value: Some(kv.value.to_vec()),
    }
}

/// Whether a server's answers about progress never overtake events: etcd since 3.4.25 and 3.5.8.
fn progress_is_ordered(version: &str) -> bool {
    let mut parts = version.split(['.', '-', '+']).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = [parts.next(), parts.next(), parts.next()].map(Option::unwrap_or_default);
    match version {
        [3, 4, patch] => patch >= 25,
        [3, 5, patch] => patch >= 8,
        newer => newer >= [3, 6, 0],
    }
}

/// A history as it is printed.
#[derive(Debug, Serialize)]
struct Shown {
    /// Base64, as everywhere in JSON.
    key: String,
    since_revision: i64,
    versions: Vec<ShownVersion>,
    #[serde(skip)]
    title: String,
}

#[derive(Debug, Serialize)]
struct ShownVersion {
    revision: i64,
    #[serde(rename = "type")]
    kind: &'static str,
    create_revision: i64,
    version: i64,
    lease: i64,
    /// Not later than this was it written, and ...
    #[serde(skip_serializing_if = "Option::is_none")]
    written_by: Option<String>,
    /// ... later than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    written_after: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip)]
    text: String,
}

impl Shown {
    fn of(history: &History, hex: bool) -> Self {
        let text = |bytes: &[u8]| {
            if hex { bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect() } else { quote(bytes) }
        };
        let shown = |version: &Version| ShownVersion {
            revision: version.revision,
            kind: if version.value.is_some() { "PUT" } else { "DELETE" },
            create_revision: version.create_revision,
            version: version.version,
            lease: version.lease,
            written_by: None,
            written_after: None,
            value: version.value.as_ref().map(|value| STANDARD.encode(value)),
            text: version.value.as_deref().map(text).unwrap_or_default(),
        };
        Self {
            key: STANDARD.encode(&history.key),
            since_revision: history.since_revision,
            versions: history.versions.iter().map(shown).collect(),
            title: text(&history.key),
        }
    }
}

impl Shown {
    fn set_times(&mut self, times: &[admin::RevisionTime]) {
        let text = |ms: i64| (ms > 0).then(|| TimePoint(ms).to_string());
        for (version, time) in self.versions.iter_mut().zip(times) {
            version.written_by = text(time.until_ms);
            version.written_after = text(time.after_ms);
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.versions.len();
        writeln!(f, "{}: {count} versions since revision {}", self.title, self.since_revision)?;
        for one in &self.versions {
            let lease = if one.lease == 0 { String::new() } else { format!(" lease {:016x}", one.lease) };
            let time = one.written_by.as_ref().map_or_else(String::new, |time| format!("  {time}"));
            match one.kind {
                "PUT" => writeln!(
                    f,
                    "{:>12}{time}  PUT     version {}{lease}  {}",
                    one.revision, one.version, one.text
                )?,
                _ => writeln!(f, "{:>12}{time}  DELETE", one.revision)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_let_progress_overtake() {
        for (version, ordered) in [
            ("3.4.23", false),
            ("3.4.25", true),
            ("3.5.7", false),
            ("3.5.8", true),
            ("3.6.0-rc.1", true),
            ("3.6.5", true),
            ("3.3.9", false),
            ("4.0.0", true),
            ("", false),
        ] {
            assert_eq!(progress_is_ordered(version), ordered, "{version}");
        }
    }

    #[test]
    fn versions_are_shown_with_their_times_where_they_are_known() {
        let version = |revision| Version {
            revision,
            create_revision: 5,
            version: 1,
            lease: 0,
            value: Some(b"a".to_vec()),
        };
        let history =
            History { key: b"k".to_vec(), since_revision: 1, versions: vec![version(5), version(6)] };
        let mut shown = Shown::of(&history, false);
        let time = |revision, after_ms, until_ms| admin::RevisionTime { revision, after_ms, until_ms };
        shown.set_times(&[time(5, 1_000, 2_000), time(6, 2_000, 0)]);
        assert_eq!(
            shown.to_string(),
            "\"k\": 2 versions since revision 1\n           5  1970-01-01T00:00:02.000Z  PUT     version 1  \"a\"\n           \
             6  PUT     version 1  \"a\"\n"
        );
        let json = serde_json::to_value(&shown).unwrap();
        assert_eq!(json["versions"][0]["written_after"], "1970-01-01T00:00:01.000Z");
        assert!(json["versions"][1].get("written_by").is_none());
    }

    #[test]
    fn a_history_is_printed_with_its_deletions() {
        let put =
            Version { revision: 5, create_revision: 5, version: 1, lease: 31, value: Some(b"a\n".to_vec()) };
        let deleted = Version { revision: 7, create_revision: 0, version: 0, lease: 0, value: None };
        let history = History { key: b"k".to_vec(), since_revision: 3, versions: vec![put, deleted] };
        let shown = Shown::of(&history, false);
        assert_eq!(
            shown.to_string(),
            "\"k\": 2 versions since revision 3\n           5  PUT     version 1 lease 000000000000001f  \"a\\n\"\n           7  DELETE\n"
        );
        assert_eq!(
            serde_json::to_string(&shown).unwrap(),
            "{\"key\":\"aw==\",\"since_revision\":3,\"versions\":[{\"revision\":5,\"type\":\"PUT\",\"create_revision\":5,\
             \"version\":1,\"lease\":31,\"value\":\"YQo=\"},{\"revision\":7,\"type\":\"DELETE\",\"create_revision\":0,\
             \"version\":0,\"lease\":0}]}"
        );
    }
}
