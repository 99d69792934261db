//! `kvctl snapshot list`: the snapshots that members take by themselves, asked of every endpoint.

use std::fmt;

use barque_proto::admin as pb;
use clap::Args;
use serde::Serialize;

use super::Context;
use crate::command::endpoint::each;
use crate::error::Failure;
use crate::output::{grid, size};
use crate::time_point::TimePoint;

/// Arguments of `snapshot list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {}

impl ListArgs {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let endpoints = context.connection.endpoints();
        let answers = each(&context.connection, endpoints, |endpoint, one| async move {
            (endpoint, one.list_snapshots(pb::ListSnapshotsRequest {}).await)
        });
        let mut report = Report { endpoints: Vec::new() };
        let mut failed = None;
        for (endpoint, answer) in answers.await {
            match answer {
                Ok(told) => report.endpoints.push(Told::of(endpoint.to_string(), told)),
                Err(Failure::Server(error)) if error.unimplemented => {
                    return Err(Failure::Unsupported(format!(
                        "{endpoint} takes no snapshots by itself: `kvctl snapshot list` needs Barque"
                    )));
                }
                Err(failure) => {
                    eprintln!("Failed to get the snapshots of endpoint {endpoint} ({failure})");
                    failed = Some(failure);
                }
            }
        }
        context.output.report(&report)?;
        failed.map_or(Ok(()), |_| Err(Failure::Code(1)))
    }
}

#[derive(Debug, Serialize)]
struct Report {
    endpoints: Vec<Told>,
}

/// What one member told. Times are milliseconds since 1970.
#[derive(Debug, Serialize)]
struct Told {
    endpoint: String,
    /// Empty when it takes none.
    schedule: String,
    retention: u32,
    directory: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<LastError>,
    snapshots: Vec<Snapshot>,
}

#[derive(Debug, Serialize)]
struct LastError {
    time_ms: i64,
    text: String,
}

#[derive(Debug, Serialize)]
struct Snapshot {
    name: String,
    size_bytes: u64,
    revision: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<i64>,
    taken_ms: i64,
    verified: bool,
}

impl Told {
    fn of(endpoint: String, told: pb::ListSnapshotsResponse) -> Self {
        let snapshot = |told: pb::ScheduledSnapshot| Snapshot {
            name: told.name,
            size_bytes: told.size_bytes,
            revision: told.revision,
            since: (told.since > 0).then_some(told.since),
            taken_ms: told.taken_ms,
            verified: told.verified,
        };
        let error = LastError { time_ms: told.last_error_ms, text: told.last_error };
        Self {
            endpoint,
            schedule: told.schedule,
            retention: told.retention,
            directory: told.directory,
            next_ms: (told.next_ms > 0).then_some(told.next_ms),
            last_error: (!error.text.is_empty()).then_some(error),
            snapshots: told.snapshots.into_iter().map(snapshot).collect(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for told in &self.endpoints {
            if told.schedule.is_empty() {
                writeln!(f, "{}: takes none by itself (--snapshot-schedule is not set)", told.endpoint)?;
                continue;
            }
            write!(
                f,
                "{}: {:?}, the newest {} are kept in {}",
                told.endpoint, told.schedule, told.retention, told.directory
            )?;
            match told.next_ms {
                Some(next_ms) => writeln!(f, "; next at {}", TimePoint(next_ms))?,
                None => writeln!(f)?,
            }
            if let Some(error) = &told.last_error {
                writeln!(f, "! {}: {}", TimePoint(error.time_ms), error.text)?;
            }
        }
        let row = |endpoint: &str, one: &Snapshot| {
            vec![
                endpoint.to_owned(),
                one.name.clone(),
                one.revision.to_string(),
                one.since.map_or_else(|| "-".to_owned(), |since| since.to_string()),
                size::humanize(one.size_bytes),
                TimePoint(one.taken_ms).to_string(),
                if one.verified { "yes" } else { "no" }.to_owned(),
            ]
        };
        let rows: Vec<_> = self
            .endpoints
            .iter()
            .flat_map(|told| told.snapshots.iter().map(move |one| row(&told.endpoint, one)))
            .collect();
        if rows.is_empty() {
            return Ok(());
        }
        let header = ["endpoint", "name", "revision", "since", "size", "taken", "verified"];
        f.write_str(&grid::draw(&header, &rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_members_told_is_shown_for_people_and_programs() {
        let told = pb::ListSnapshotsResponse {
            schedule: "@daily".into(),
            retention: 5,
            directory: "/backups".into(),
            next_ms: 1_772_600_767_089,
            last_error: "no space left".into(),
            last_error_ms: 1_772_600_000_000,
            snapshots: vec![pb::ScheduledSnapshot {
                name: "a.snapshot".into(),
                size_bytes: 2_000,
                revision: 7,
                since: 0,
                taken_ms: 1_772_500_000_000,
                verified: true,
            }],
            ..Default::default()
        };
        let off = pb::ListSnapshotsResponse::default();
        let report = Report { endpoints: vec![Told::of("a:1".into(), told), Told::of("b:1".into(), off)] };
        let text = report.to_string();
        assert!(
            text.starts_with(
                "a:1: \"@daily\", the newest 5 are kept in /backups; next at 2026-03-04T05:06:07.089Z\n! \
                 2026-03-04T04:53:20.000Z: no space left\nb:1: takes none by itself (--snapshot-schedule is not set)\n"
            ),
            "{text}"
        );
        assert!(text.contains("| 2.0 kB |") && text.contains("yes"), "{text}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["endpoints"][0]["snapshots"][0]["revision"], 7);
        assert_eq!(json["endpoints"][1]["snapshots"], serde_json::json!([]));
    }
}
