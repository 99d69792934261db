//! `kvctl verify`: do all members hold the same data? Their hashes at one revision, a verdict, an exit code.

use std::collections::BTreeMap;
use std::fmt;

use barque_proto::etcdserverpb as pb;
use clap::Args;
use serde::Serialize;

use super::Context;
use super::endpoint::each;
use crate::connection::{Connection, Endpoint};
use crate::error::Failure;
use crate::output::grid;

/// Hashes are comparable only with the same compaction; one may come in between.
const ATTEMPTS: usize = 5;

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Compare at this revision instead of the newest that all members have
    #[arg(long, value_name = "REVISION", default_value_t = 0, hide_default_value = true)]
    rev: i64,
}

/// What one member answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Hashed {
    name: String,
    endpoint: String,
    hash: Option<u32>,
    revision: i64,
    compact_revision: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// The comparison.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Report {
    verdict: Verdict,
    reason: String,
    members: Vec<Hashed>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Equal,
    Different,
    Incomplete,
}

impl VerifyArgs {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let connection = &context.connection;
        let list = connection.member_list(pb::MemberListRequest { linearizable: true }).await?;
        let mut names = Vec::new();
        let mut endpoints = Vec::new();
        let mut unreachable = Vec::new();
        for member in list.members {
            match member.client_ur_ls.first().map(|url| Endpoint::parse(url)) {
                Some(Ok(endpoint)) => {
                    names.push(member.name);
                    endpoints.push(endpoint);
                }
                Some(Err(why)) => unreachable.push(failed(member.name, String::new(), why)),
                None => unreachable.push(failed(member.name, String::new(), "never started".into())),
            }
        }
        let mut attempt = 1;
        let report = loop {
            let revision = if self.rev > 0 { self.rev } else { newest_of_all(connection, &endpoints).await };
            let ask =
                move |_, one: Connection| async move { one.hash_kv(pb::HashKvRequest { revision }).await };
            let answers = each(connection, &endpoints, ask).await;
            let mut members: Vec<_> = names
                .iter()
                .zip(&endpoints)
                .zip(answers)
                .map(|((name, endpoint), answer)| hashed(name, endpoint, revision, answer))
                .collect();
            members.extend(unreachable.iter().cloned());
            if attempt == ATTEMPTS || !compacted_meanwhile(&members) {
                break judge(members);
            }
            attempt += 1;
        };
        context.output.report(&report)?;
        if report.verdict == Verdict::Equal { Ok(()) } else { Err(Failure::Code(1)) }
    }
}

/// The newest revision that every member which answers has.
async fn newest_of_all(connection: &Connection, endpoints: &[Endpoint]) -> i64 {
    let ask = |_, one: Connection| async move { one.status(pb::StatusRequest {}).await };
    let answers = each(connection, endpoints, ask).await;
    let revisions =
        answers.into_iter().filter_map(|answer| answer.ok()?.header).map(|header| header.revision);
    revisions.min().unwrap_or(0)
}

fn hashed(
    name: &str,
    endpoint: &Endpoint,
    revision: i64,
    answer: Result<pb::HashKvResponse, Failure>,
) -> Hashed {
    match answer {
        Ok(answer) => Hashed {
            name: name.to_owned(),
            endpoint: endpoint.to_string(),
            hash: Some(answer.hash),
            revision,
            compact_revision: answer.compact_revision,
            error: None,
        },
        Err(failure) => failed(name.to_owned(), endpoint.to_string(), failure.to_string()),
    }
}

fn failed(name: String, endpoint: String, error: String) -> Hashed {
    Hashed { name, endpoint, hash: None, revision: 0, compact_revision: 0, error: Some(error) }
}

/// A compaction reached some members and not yet others.
fn compacted_meanwhile(members: &[Hashed]) -> bool {
    let mut compactions = members.iter().filter(|one| one.hash.is_some()).map(|one| one.compact_revision);
    let first = compactions.next();
    let differ = compactions.any(|other| Some(other) != first);
    differ
        || members.iter().any(|one| one.error.as_ref().is_some_and(|why| why.contains("has been compacted")))
}

fn judge(members: Vec<Hashed>) -> Report {
    let mut by_hash: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
    for member in &members {
        if let Some(hash) = member.hash {
            by_hash.entry(hash).or_default().push(&member.name);
        }
    }
    let missing: Vec<&str> =
        members.iter().filter(|one| one.hash.is_none()).map(|one| one.name.as_str()).collect();
    let (verdict, reason) = if compacted_meanwhile(&members) {
        (
            Verdict::Incomplete,
            "a compaction is under way, and hashes of different compactions say nothing: try again"
                .to_owned(),
        )
    } else if by_hash.len() > 1 {
        // The largest group is listed first: the others are suspected.
        let mut groups: Vec<_> = by_hash.into_values().collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
        let groups: Vec<String> = groups.iter().map(|group| group.join(", ")).collect();
        let what = "members hold different data: remove and add again those in the minority";
        (Verdict::Different, format!("{what} ({})", groups.join(" | ")))
    } else if !missing.is_empty() {
        (Verdict::Incomplete, format!("no hash from {}", missing.join(", ")))
    } else {
        (Verdict::Equal, format!("all {} members hold the same data", members.len()))
    };
    Report { verdict, reason, members }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |one: &Hashed| {
            let hash = one.hash.map_or_else(|| "-".to_owned(), |hash| format!("{hash:08x}"));
            let error = one.error.clone().unwrap_or_default();
            vec![
                one.name.clone(),
                one.endpoint.clone(),
                hash,
                one.revision.to_string(),
                one.compact_revision.to_string(),
                error,
            ]
        };
        let rows: Vec<_> = self.members.iter().map(row).collect();
        f.write_str(&grid::draw(
            &["name", "endpoint", "hash", "revision", "compact revision", "error"],
            &rows,
        ))?;
        let verdict = match self.verdict {
            Verdict::Equal => "EQUAL",
            Verdict::Different => "DIFFERENT",
            Verdict::Incomplete => "INCOMPLETE",
        };
        writeln!(f, "{verdict}: {}", self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, hash: Option<u32>, compact_revision: i64) -> Hashed {
        let error = hash.is_none().then(|| "down".to_owned());
        Hashed { name: name.into(), endpoint: String::new(), hash, revision: 9, compact_revision, error }
    }

    #[test]
    fn a_verdict_needs_every_member_and_equal_compactions() {
        let verdict = |members: &[Hashed]| judge(members.to_vec()).verdict;
        let (a, b) = (member("a", Some(1), 5), member("b", Some(1), 5));
        assert_eq!(verdict(&[a.clone(), b.clone()]), Verdict::Equal);
        assert_eq!(verdict(&[a.clone(), member("c", Some(2), 5)]), Verdict::Different);
        assert_eq!(verdict(&[a.clone(), member("c", None, 0)]), Verdict::Incomplete);
        assert_eq!(verdict(&[a.clone(), member("c", Some(2), 6)]), Verdict::Incomplete);
        let reason = judge(vec![member("c", Some(2), 5), a, b]).reason;
        assert!(reason.ends_with("(a, b | c)"), "{reason}");
    }
}
