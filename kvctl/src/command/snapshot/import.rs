//! `kvctl snapshot import`: a snapshot of etcd becomes one of Barque.

use std::fmt;
use std::path::PathBuf;

use barque_store::offline::etcd::{ImportError, Imported, Request, import};
use clap::Args;
use serde::Serialize;

use super::Bar;
use crate::error::Failure;
use crate::output::{Output, size};

/// Arguments of `snapshot import`.
#[derive(Debug, Args)]
#[command(
    after_help = "Keys come with every version that etcd keeps, under the same revisions; leases with their time; users with their
passwords and roles; and rights are asked for if they were. Members and alarms of etcd's cluster stay behind. `kvctl
snapshot restore` then makes data directories from BARQUE_FILE; with --bump-revision=0 and --mark-compacted=false
clients find the revisions that they know. Import once: all members must be restored from the same BARQUE_FILE."
)]
pub(crate) struct ImportArgs {
    /// What `etcdctl snapshot save` wrote, or the member/snap/db of a stopped member
    etcd_file: PathBuf,
    /// Where the snapshot of Barque goes; nothing is overwritten
    barque_file: PathBuf,
    /// Do not ask for the digest at the file's end; a member/snap/db has none
    #[arg(long)]
    skip_hash_check: bool,
}

impl ImportArgs {
    pub(super) fn run(self, output: Output) -> Result<(), Failure> {
        let Self { etcd_file, barque_file, skip_hash_check } = self;
        let request = Request { from: etcd_file, to: barque_file, skip_hash_check };
        let bar = Bar::new(output);
        let imported = import(&request, &mut |step| bar.step(step)).map_err(told)?;
        drop(bar);
        output.report(&Report::of(&request, imported))
    }
}

fn told(error: ImportError) -> Failure {
    match error {
        ImportError::Io { path, action, source } => {
            Failure::Io { what: format!("{}: cannot {action}", path.display()), source }
        }
        ImportError::Exists { .. } => Failure::Arguments(error.to_string()),
        other => Failure::Verdict(other.to_string()),
    }
}

/// What was imported.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    file: String,
    revision: i64,
    compact_revision: i64,
    keys: u64,
    versions: u64,
    versions_compacted: u64,
    leases: u64,
    users: u64,
    roles: u64,
    auth_enabled: bool,
    alarms_left_behind: Vec<String>,
    digest_compared: bool,
    size_bytes: u64,
}

impl Report {
    fn of(request: &Request, imported: Imported) -> Self {
        Self {
            file: request.to.display().to_string(),
            revision: imported.revision,
            compact_revision: imported.compact_revision,
            keys: imported.keys,
            versions: imported.versions,
            versions_compacted: imported.versions_compacted,
            leases: imported.leases,
            users: imported.users,
            roles: imported.roles,
            auth_enabled: imported.auth_enabled,
            alarms_left_behind: imported.alarms,
            digest_compared: imported.digest_compared,
            size_bytes: imported.size_bytes,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { revision, keys, versions, leases, users, roles, .. } = self;
        let since = match self.compact_revision {
            compact if compact > 0 => format!(", readable from revision {compact} on"),
            _ => String::new(),
        };
        writeln!(
            f,
            "imported revision {revision}{since}: {keys} keys, {versions} versions, {leases} leases"
        )?;
        if self.versions_compacted > 0 {
            writeln!(f, "{} versions that etcd had compacted were left out", self.versions_compacted)?;
        }
        let asked = if self.auth_enabled { "on" } else { "off" };
        writeln!(f, "{users} users with their passwords, {roles} roles; auth is {asked}")?;
        for alarm in &self.alarms_left_behind {
            writeln!(f, "the alarm {alarm} was left behind")?;
        }
        if !self.digest_compared {
            writeln!(f, "no digest was compared: damage of values is not noticed")?;
        }
        writeln!(f, "{} ({}) is for `kvctl snapshot restore`", self.file, size::humanize(self.size_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_was_not_taken_is_told() {
        let mut report = Report {
            file: "b".to_owned(),
            revision: 9,
            compact_revision: -1,
            keys: 1,
            versions: 2,
            versions_compacted: 0,
            leases: 3,
            users: 4,
            roles: 5,
            auth_enabled: true,
            alarms_left_behind: Vec::new(),
            digest_compared: true,
            size_bytes: 2048,
        };
        let text = report.to_string();
        assert!(text.starts_with("imported revision 9: 1 keys, 2 versions, 3 leases\n4 users"), "{text}");
        assert_eq!(text.lines().count(), 3, "{text}");
        report.compact_revision = 4;
        report.versions_compacted = 6;
        report.alarms_left_behind = vec!["NOSPACE of member ab".to_owned()];
        report.digest_compared = false;
        let text = report.to_string();
        assert!(text.contains("from revision 4 on") && text.contains("6 versions that etcd"), "{text}");
        assert!(text.contains("alarm NOSPACE of member ab") && text.contains("no digest"), "{text}");
    }
}
