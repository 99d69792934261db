//! `kvctl snapshot status`: what a saved file holds, in etcdctl's words first.

use std::path::PathBuf;

use barque_store::offline::verify::{FileReport, examine};
use clap::Args;
use serde::Serialize;

use super::{Bar, told};
use crate::error::Failure;
use crate::output::{Format, Output, grid, line, size};
use crate::time_point::TimePoint;

/// Arguments of `snapshot status`.
#[derive(Debug, Args)]
#[command(
    after_help = "All of the file is read, and any byte that is not as it was written is found. The hash is that of the keys and
their history, as `kvctl endpoint hashkv` tells it of a running member for the same revision."
)]
pub(crate) struct StatusArgs {
    /// The file
    file: PathBuf,
}

impl StatusArgs {
    pub(super) fn run(self, output: Output) -> Result<(), Failure> {
        let bar = Bar::new(output);
        let report = examine(&self.file, &mut |step| bar.step(step)).map_err(told)?;
        drop(bar);
        let told = Told::of(&report);
        match output.format {
            Format::Simple => line(&told.simple()),
            Format::Table => line(told.table().trim_end()),
            Format::Json => {
                line(&serde_json::to_string(&told).map_err(|why| Failure::Verdict(why.to_string()))?)
            }
            Format::Fields => line(&told.fields()),
            Format::Protobuf => Err(output.unsupported()),
        }
    }
}

/// A file, as it is told: first what etcdctl tells, under its names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Told {
    hash: u32,
    revision: i64,
    total_key: u64,
    total_size: u64,
    version: String,
    /// `whole` or `increment`.
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    since_revision: Option<i64>,
    compact_revision: i64,
    versions: u64,
    live_bytes: u64,
    leases: u64,
    users: u64,
    roles: u64,
    members: Vec<String>,
    cluster_id: String,
    member_id: String,
    raft_term: u64,
    raft_index: u64,
    written_at: String,
    sha256: String,
    file: String,
}

impl Told {
    pub(super) fn of(report: &FileReport) -> Self {
        Self {
            hash: report.hash,
            revision: report.revision.0,
            total_key: report.keys,
            total_size: report.size_bytes,
            version: format!("barque-{}", report.format),
            kind: if report.since.is_some() { "increment" } else { "whole" },
            since_revision: report.since.map(|since| since.0),
            compact_revision: report.compact_revision.0,
            versions: report.versions,
            live_bytes: report.live_bytes,
            leases: report.leases,
            users: report.users,
            roles: report.roles,
            members: report.members.clone(),
            cluster_id: report.cluster.to_string(),
            member_id: report.member.to_string(),
            raft_term: report.term,
            raft_index: report.index,
            written_at: TimePoint(i64::try_from(report.written_at_ms).unwrap_or(i64::MAX)).to_string(),
            sha256: report.sha256.iter().map(|byte| format!("{byte:02x}")).collect(),
            file: report.path.display().to_string(),
        }
    }

    pub(super) fn is_increment(&self) -> bool {
        self.since_revision.is_some()
    }

    fn simple(&self) -> String {
        let size = size::humanize(self.total_size);
        format!("{:x}, {}, {}, {size}", self.hash, self.revision, self.total_key)
    }

    /// The file's name, its kind, and where it ends.
    pub(super) fn short(&self) -> String {
        let kind = self.since_revision.map_or_else(
            || "a whole snapshot".to_owned(),
            |since| format!("an increment after revision {since}"),
        );
        let Self { file, revision, total_key, versions, .. } = self;
        format!("{file}: {kind}, up to revision {revision}: {total_key} keys, {versions} versions")
    }

    fn table(&self) -> String {
        const HEADER: &[&str] = &[
            "hash",
            "revision",
            "total keys",
            "total size",
            "version",
            "since",
            "compact revision",
            "versions",
            "live size",
            "leases",
            "users",
            "members",
            "cluster ID",
            "written at",
        ];
        let row = vec![
            format!("{:x}", self.hash),
            self.revision.to_string(),
            self.total_key.to_string(),
            size::humanize(self.total_size),
            self.version.clone(),
            self.since_revision.map_or_else(|| "(whole)".to_owned(), |since| since.to_string()),
            self.compact_revision.to_string(),
            self.versions.to_string(),
            size::humanize(self.live_bytes),
            self.leases.to_string(),
            self.users.to_string(),
            self.members.join(","),
            self.cluster_id.clone(),
            self.written_at.clone(),
        ];
        grid::draw(HEADER, &[row])
    }

    fn fields(&self) -> String {
        let mut lines = vec![
            ("Hash", self.hash.to_string()),
            ("Revision", self.revision.to_string()),
            ("Keys", self.total_key.to_string()),
            ("Size", self.total_size.to_string()),
            ("Version", format!("{:?}", self.version)),
            ("Kind", format!("{:?}", self.kind)),
        ];
        lines.extend(self.since_revision.map(|since| ("SinceRevision", since.to_string())));
        lines.extend([
            ("CompactRevision", self.compact_revision.to_string()),
            ("Versions", self.versions.to_string()),
            ("LiveBytes", self.live_bytes.to_string()),
            ("Leases", self.leases.to_string()),
            ("Users", self.users.to_string()),
            ("Roles", self.roles.to_string()),
        ]);
        lines.extend(self.members.iter().map(|name| ("Member", format!("{name:?}"))));
        lines.extend([
            ("ClusterID", format!("{:?}", self.cluster_id)),
            ("MemberID", format!("{:?}", self.member_id)),
            ("RaftTerm", self.raft_term.to_string()),
            ("RaftIndex", self.raft_index.to_string()),
            ("WrittenAt", format!("{:?}", self.written_at)),
            ("SHA256", format!("{:?}", self.sha256)),
        ]);
        let lines: Vec<_> = lines.into_iter().map(|(name, value)| format!("\"{name}\" : {value}")).collect();
        lines.join("\n")
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::command::snapshot) fn told() -> Told {
        Told {
            hash: 0xfe01_cf57,
            revision: 10,
            total_key: 7,
            total_size: 2_134_048,
            version: "barque-2".to_owned(),
            kind: "whole",
            since_revision: None,
            compact_revision: 4,
            versions: 9,
            live_bytes: 1234,
            leases: 1,
            users: 0,
            roles: 0,
            members: vec!["m1".to_owned()],
            cluster_id: "a1".to_owned(),
            member_id: "b2".to_owned(),
            raft_term: 3,
            raft_index: 12,
            written_at: "2026-01-31T12:00:00.000Z".to_owned(),
            sha256: "00ff".to_owned(),
            file: "s".to_owned(),
        }
    }

    #[test]
    fn what_etcdctl_tells_comes_first() {
        assert_eq!(told().simple(), "fe01cf57, 10, 7, 2.1 MB");
        let json = serde_json::to_string(&told()).unwrap_or_default();
        assert!(
            json.starts_with(
                r#"{"hash":4261531479,"revision":10,"totalKey":7,"totalSize":2134048,"version":"#
            ),
            "{json}"
        );
        assert!(
            told()
                .fields()
                .starts_with("\"Hash\" : 4261531479\n\"Revision\" : 10\n\"Keys\" : 7\n\"Size\" : 2134048\n")
        );
        let table = told().table();
        assert!(table.contains("|   HASH   | REVISION | TOTAL KEYS | TOTAL SIZE | "), "{table}");
        let part = Told { since_revision: Some(4), kind: "increment", ..told() };
        assert!(part.fields().contains("\"SinceRevision\" : 4\n"));
        assert_eq!(part.short(), "s: an increment after revision 4, up to revision 10: 7 keys, 9 versions");
    }
}
