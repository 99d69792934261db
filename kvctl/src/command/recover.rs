//! `kvctl recover`: a cluster that lost its quorum for good goes on with one member, made of what is left.

use std::fmt;
use std::path::{Path, PathBuf};

use barque_store::offline::recover::{Examined, Recovered, Survey, survey};
use clap::{ArgAction, Args};
use serde::Serialize;

use super::snapshot::{Bar, must_have_report, told};
use crate::error::Failure;
use crate::output::{Format, Output, grid};

/// Arguments of `recover`.
#[derive(Debug, Args)]
#[command(
    after_help = "Only for when most members are lost for good and no majority can be brought back; a majority that can be started
again needs nothing of this. Stop all members first, and name the data directories of all that are left: the one that
knows most is chosen. All entries of its log count, so that no acknowledged write that it has is lost; what only the lost
members had is lost.

The directory becomes the only member of a new cluster that goes on at the same revision. Members of the old cluster
are refused from then on. What the directory held is moved into a folder in it, and nothing is deleted. A recovery that
was interrupted is finished by the same command."
)]
pub(crate) struct RecoverArgs {
    /// The data directory of a member that is left; may be given several times
    #[arg(long, value_name = "DIR", required = true, action = ArgAction::Append)]
    data_dir: Vec<PathBuf>,
    /// Where members that will be added reach this one, if it is not where they did before
    #[arg(long, value_name = "URLS", value_delimiter = ',')]
    initial_advertise_peer_urls: Option<Vec<String>>,
    /// Only tell what would be done
    #[arg(long)]
    dry_run: bool,
    /// Do it; without this nothing is changed
    #[arg(long)]
    yes: bool,
}

impl RecoverArgs {
    pub(super) fn run(self, output: Output) -> Result<(), Failure> {
        must_have_report(output)?;
        let bar = Bar::new(output);
        let looked = survey(&self.data_dir, &mut |step| bar.step(step)).map_err(told)?;
        drop(bar);
        let mut report = Report::of(&looked);
        if self.dry_run {
            return output.report(&report);
        }
        if !self.yes {
            if output.format != Format::Json {
                output.report(&report)?;
            }
            return Err(Failure::Arguments(format!(
                "{}; give --yes to do it, or --dry-run to only look",
                warning(looked.data_dir(), looked.interrupted)
            )));
        }
        let recovered = looked.recover(self.initial_advertise_peer_urls.as_deref()).map_err(told)?;
        report.recovered = Some(Done::of(&recovered));
        output.report(&report)
    }
}

fn warning(dir: &Path, interrupted: bool) -> String {
    let dir = dir.display();
    if interrupted {
        return format!("a recovery of {dir} was interrupted, and would be finished");
    }
    format!(
        "{dir} would become the only member of a new cluster with what it holds, and every other member of the old \
         cluster would be refused for ever, with what it alone may know"
    )
}

/// What was found, and what was done.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    directories: Vec<Directory>,
    chosen: String,
    interrupted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    recovered: Option<Done>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Directory {
    data_dir: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    name: String,
    member_id: String,
    cluster_id: String,
    last_term: u64,
    last_index: u64,
    applied_index: u64,
    revision: i64,
    keys: u64,
    corrupt: bool,
    members: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Done {
    cluster_id: String,
    member_id: String,
    peer_urls: Vec<String>,
    revision: i64,
    moved_to: String,
}

impl Done {
    fn of(recovered: &Recovered) -> Self {
        Self {
            cluster_id: recovered.cluster.to_string(),
            member_id: recovered.member.to_string(),
            peer_urls: recovered.peer_urls.clone(),
            revision: recovered.revision.0,
            moved_to: recovered.moved_to.display().to_string(),
        }
    }
}

impl Directory {
    fn of(examined: &Examined) -> Self {
        let data_dir = examined.data_dir.display().to_string();
        match &examined.found {
            Err(error) => Self { data_dir, error: Some(error.clone()), ..Self::default() },
            Ok(found) => Self {
                data_dir,
                error: None,
                name: found.name.clone().unwrap_or_default(),
                member_id: found.member.to_string(),
                cluster_id: found.cluster.to_string(),
                last_term: found.last_term,
                last_index: found.last_index,
                applied_index: found.applied_index,
                revision: found.revision.0,
                keys: found.keys,
                corrupt: found.corrupt,
                members: found.members.clone(),
            },
        }
    }

    fn row(&self) -> Vec<String> {
        vec![
            self.data_dir.clone(),
            self.name.clone(),
            self.member_id.clone(),
            self.last_term.to_string(),
            self.last_index.to_string(),
            self.applied_index.to_string(),
            self.revision.to_string(),
            self.keys.to_string(),
        ]
    }
}

impl Report {
    fn of(looked: &Survey) -> Self {
        Self {
            directories: looked.examined.iter().map(Directory::of).collect(),
            chosen: looked.data_dir().display().to_string(),
            interrupted: looked.interrupted,
            recovered: None,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HEADER: &[&str] =
            &["data dir", "name", "ID", "last term", "last index", "applied", "revision", "keys"];
        let usable = self.directories.iter().filter(|one| one.error.is_none());
        let rows: Vec<_> = usable.map(Directory::row).collect();
        if !rows.is_empty() {
            f.write_str(&grid::draw(HEADER, &rows))?;
        }
        for one in &self.directories {
            if one.corrupt {
                let dir = &one.data_dir;
                writeln!(f, "{dir} has the alarm CORRUPT: its data differ from what most members had")?;
            }
            if let Some(error) = &one.error {
                writeln!(f, "cannot be used: {error}")?;
            }
        }
        if self.interrupted {
            writeln!(f, "{}: an interrupted recovery is to be finished", self.chosen)?;
        } else {
            writeln!(f, "{} knows most", self.chosen)?;
        }
        let Some(Done { cluster_id, revision, moved_to, peer_urls, .. }) = &self.recovered else {
            return Ok(());
        };
        writeln!(f, "it is the only member of the new cluster {cluster_id} now, at revision {revision}")?;
        writeln!(f, "what it held before is in {moved_to}")?;
        let name =
            self.directories.iter().find(|one| one.data_dir == self.chosen).map(|one| one.name.as_str());
        let name =
            name.filter(|name| !name.is_empty()).map_or_else(String::new, |name| format!(" --name {name}"));
        writeln!(f, "next:")?;
        writeln!(
            f,
            "  1. start it with the flags it had (barque store{name} --data-dir {} ...); others reach it at {}",
            self.chosen,
            peer_urls.join(",")
        )?;
        writeln!(f, "  2. see that the data are what you expect, and take a backup")?;
        writeln!(
            f,
            "  3. wipe the other members' data directories, and add them as new members: kvctl member add NAME"
        )?;
        writeln!(f, "     --peer-urls=URL, then start them with --initial-cluster-state existing")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_is_there_and_what_to_do_next() {
        let good =
            Directory { data_dir: "d1".into(), name: "m1".into(), last_index: 9, ..Directory::default() };
        let bad = Directory {
            data_dir: "d2".into(),
            error: Some("d2: the log is damaged".into()),
            ..Directory::default()
        };
        let mut report =
            Report { directories: vec![good, bad], chosen: "d1".into(), interrupted: false, recovered: None };
        let text = report.to_string();
        assert!(
            text.contains("d1 knows most\n") && text.contains("cannot be used: d2: the log is damaged"),
            "{text}"
        );
        assert!(!text.contains("next:"));
        report.recovered = Some(Done {
            cluster_id: "c".into(),
            member_id: "m".into(),
            peer_urls: vec!["http://a:1".into()],
            revision: 7,
            moved_to: "d1/before-recovery-1".into(),
        });
        let text = report.to_string();
        assert!(text.contains("revision 7\n") && text.contains("wipe the other members"), "{text}");
        assert!(warning(Path::new("d1"), false).contains("refused for ever"));
    }
}
