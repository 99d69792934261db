//! `kvctl snapshot restore`: data directories of a new cluster from saved files.

use std::fmt;
use std::path::PathBuf;

use barque_store::offline::restore::{Request, Restored, Target, restore};
use barque_store::offline::{DEFAULT_NAME, DEFAULT_PEER_URL, DEFAULT_TOKEN, default_data_dir};
use clap::{ArgAction, Args};
use serde::Serialize;

use super::{Bar, told};
use crate::error::Failure;
use crate::output::{Output, grid, size};

/// As etcdutl advises: more than any cluster writes between a backup and its loss.
const BUMP: u64 = 1_000_000_000;

/// Arguments of `snapshot restore`.
#[derive(Debug, Args)]
#[command(
    after_help = "Makes a new cluster: new ids, no members or alarms of the old one; keys, users, leases (with their full time) and marks
of time are kept. Give every member the same files and flags, each with its own --name, --data-dir and
--initial-advertise-peer-urls, or make all directories at once with --all. Everything is checked before anything is
written, and a directory appears only when it is complete.

Clients and caches that knew the old cluster, such as Kubernetes informers, would take the restored one for its
continuation. So the revision leaps by --bump-revision, and everything before counts as compacted: they begin anew.

With --to-revision, keys are exactly those of that revision; leases, users and roles are those of the first file that
reaches it."
)]
pub(crate) struct RestoreArgs {
    /// A whole snapshot, then the increments after it, from old to new
    #[arg(required = true)]
    file: Vec<PathBuf>,
    /// Where the member's data goes; `<name>.barque` if not given
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Make the data directories of all members of --initial-cluster in this directory, each in a folder with its name
    #[arg(long, value_name = "DIR", conflicts_with_all = ["data_dir", "name", "initial_advertise_peer_urls"])]
    all: Option<PathBuf>,
    /// The member's name
    #[arg(long, default_value = DEFAULT_NAME)]
    name: String,
    /// All members of the new cluster, as name=URL,name=URL; by default this member alone
    #[arg(long, value_name = "MEMBERS")]
    initial_cluster: Option<String>,
    /// Sets the cluster apart from others with the same addresses
    #[arg(long, value_name = "TOKEN", default_value = DEFAULT_TOKEN)]
    initial_cluster_token: String,
    /// Where the other members reach this one
    #[arg(long, value_name = "URLS", value_delimiter = ',', default_value = DEFAULT_PEER_URL)]
    initial_advertise_peer_urls: Vec<String>,
    /// Restore the keys as they were at this revision
    #[arg(long, value_name = "REVISION")]
    to_revision: Option<i64>,
    /// Add this to the revision; 0 continues where the files end
    #[arg(long, value_name = "COUNT", default_value_t = BUMP)]
    bump_revision: u64,
    /// Everything before counts as compacted
    #[arg(long, action = ArgAction::Set, default_value_t = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    mark_compacted: bool,
    /// Do not compare the digests of the files; the checksums of their blocks are compared in any case
    #[arg(long)]
    skip_hash_check: bool,
}

impl RestoreArgs {
    fn request(self) -> Request {
        let own = || {
            let urls = self.initial_advertise_peer_urls.iter();
            urls.map(|url| format!("{}={url}", self.name)).collect::<Vec<_>>().join(",")
        };
        let initial_cluster = self.initial_cluster.clone().unwrap_or_else(own);
        let target = match self.all {
            Some(dir) => Target::All(dir),
            None => Target::One {
                data_dir: self.data_dir.unwrap_or_else(|| default_data_dir(&self.name)),
                name: self.name,
                peer_urls: self.initial_advertise_peer_urls,
            },
        };
        Request {
            files: self.file,
            initial_cluster,
            token: self.initial_cluster_token,
            target,
            to_revision: self.to_revision,
            bump_revision: self.bump_revision,
            mark_compacted: self.mark_compacted,
            skip_hash_check: self.skip_hash_check,
        }
    }

    pub(super) fn run(self, output: Output) -> Result<(), Failure> {
        if self.all.is_some() && self.initial_cluster.is_none() {
            return Err(Failure::Arguments(
                "--all needs --initial-cluster: the names and peer URLs of the members to make".to_owned(),
            ));
        }
        let request = self.request();
        let bar = Bar::new(output);
        let restored = restore(&request, &mut |step| bar.step(step)).map_err(told)?;
        drop(bar);
        output.report(&Report::of(&request, &restored))
    }
}

/// What was made, and how it is started.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    cluster_id: String,
    files: Vec<String>,
    files_not_needed: usize,
    restored_revision: i64,
    revision: i64,
    compact_revision: i64,
    keys: u64,
    live_bytes: u64,
    leases: u64,
    users: u64,
    leases_granted_again: u64,
    keys_without_lease: u64,
    members: Vec<Member>,
    initial_cluster: String,
    initial_cluster_token: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Member {
    name: String,
    id: String,
    data_dir: String,
}

impl Report {
    fn of(request: &Request, restored: &Restored) -> Self {
        Self {
            cluster_id: restored.cluster.to_string(),
            files: restored.files.iter().map(|path| path.display().to_string()).collect(),
            files_not_needed: request.files.len() - restored.files.len(),
            restored_revision: restored.restored_revision.0,
            revision: restored.revision.0,
            compact_revision: restored.compact_revision.0,
            keys: restored.keys,
            live_bytes: restored.live_bytes,
            leases: restored.leases,
            users: restored.users,
            leases_granted_again: restored.leases_revived,
            keys_without_lease: restored.keys_detached,
            members: restored
                .members
                .iter()
                .map(|member| Member {
                    name: member.name.clone(),
                    id: member.id.to_string(),
                    data_dir: member.data_dir.display().to_string(),
                })
                .collect(),
            initial_cluster: request.initial_cluster.clone(),
            initial_cluster_token: request.token.clone(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "restored revision {} from {}", self.restored_revision, self.files.join(", "))?;
        if self.files_not_needed > 0 {
            writeln!(f, "{} later files were not needed", self.files_not_needed)?;
        }
        let Self { keys, leases, users, .. } = self;
        writeln!(f, "{keys} keys of {}, {leases} leases, {users} users", size::humanize(self.live_bytes))?;
        if self.leases_granted_again > 0 {
            writeln!(f, "{} leases that ended later were granted again", self.leases_granted_again)?;
        }
        if self.keys_without_lease > 0 {
            let count = self.keys_without_lease;
            writeln!(
                f,
                "{count} keys hang on no lease any more: theirs ended later, and no file knows its time"
            )?;
        }
        let before = match self.compact_revision {
            compact if compact == self.revision => ", and everything before counts as compacted",
            _ => "",
        };
        writeln!(f, "the new cluster {} begins at revision {}{before}", self.cluster_id, self.revision)?;
        let rows: Vec<_> = self
            .members
            .iter()
            .map(|member| vec![member.name.clone(), member.id.clone(), member.data_dir.clone()])
            .collect();
        f.write_str(&grid::draw(&["name", "ID", "data dir"], &rows))?;
        writeln!(
            f,
            "start each with `barque store --name NAME --data-dir DIR --initial-cluster {} --initial-cluster-token {}` \
             and its URLs",
            self.initial_cluster, self.initial_cluster_token
        )
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Words {
        #[command(flatten)]
        args: RestoreArgs,
    }

    fn request(words: &str) -> Request {
        let words = std::iter::once("restore").chain(words.split_whitespace());
        Words::try_parse_from(words).map(|words| words.args.request()).unwrap_or_else(|why| panic!("{why}"))
    }

    #[test]
    fn defaults_are_those_of_a_member_alone_and_of_a_leap() {
        let made = request("f");
        assert_eq!(made.initial_cluster, "default=http://localhost:2380");
        assert_eq!((made.bump_revision, made.mark_compacted, made.to_revision), (BUMP, true, None));
        let Target::One { name, data_dir, .. } = made.target else { panic!("one member") };
        assert_eq!((name.as_str(), data_dir), ("default", PathBuf::from("default.barque")));

        let made = request(
            "f g --name b --bump-revision 0 --mark-compacted=false --initial-advertise-peer-urls http://h:1,http://i:1",
        );
        assert_eq!(made.initial_cluster, "b=http://h:1,b=http://i:1");
        assert_eq!((made.files.len(), made.bump_revision, made.mark_compacted), (2, 0, false));
        let made = request("f --all d --initial-cluster a=http://h:1");
        assert!(matches!(made.target, Target::All(dir) if dir.as_os_str() == "d"));
    }
}
