//! A cluster that lost its quorum for good goes on with one member, made of the directory that knows most.
//!
//! All entries of its log count, committed or not: a write that was acknowledged may stand there without this
//! member knowing that it was committed. What is made is a new cluster with one member, so that none of the old
//! ones, should it come back with its data, can meet it; the revision goes on as if nothing had happened. What the
//! directory held is moved aside within it, never deleted.

mod rebuild;
mod replace;

use std::path::{Path, PathBuf};

use super::error::OfflineError;
use super::{Progress, cluster, rebase};
use crate::ids::{ClusterId, MemberId, Revision};
use crate::raft::state_machine::StateMachine;
use crate::raft::types::log_id;
use crate::storage::data_dir::DataDir;
use rebuild::Rebuilt;

/// A directory that can be gone on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its member.
    pub member: MemberId,
    /// The name that the member had told, if any.
    pub name: Option<String>,
    /// Where the others reached it.
    pub peer_urls: Vec<String>,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Term of its last entry.
    pub last_term: u64,
    /// Index of its last entry.
    pub last_index: u64,
    /// Up to here it knew its entries to be committed.
    pub applied_index: u64,
    /// The revision with all of its entries.
    pub revision: Revision,
    /// Living keys with all of its entries.
    pub keys: u64,
    /// It has the alarm CORRUPT: it holds other data than most of the others did.
    pub corrupt: bool,
    /// The members that it knew, itself included: name or id.
    pub members: Vec<String>,
}

/// One of the directories.
#[derive(Debug)]
pub struct Examined {
    /// Where it is.
    pub data_dir: PathBuf,
    /// What is in it, or why nothing can be made of it.
    pub found: Result<Found, String>,
}

/// What can be done.
pub struct Survey {
    /// All directories, as they were named.
    pub examined: Vec<Examined>,
    /// The directory to go on from; for an interrupted recovery, its own.
    pub chosen: usize,
    /// A recovery of the chosen directory was interrupted, and only has to be finished.
    pub interrupted: bool,
    best: Option<Rebuilt>,
    /// Held until the end, so that no member starts meanwhile.
    dirs: Vec<DataDir>,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The directory.
    pub data_dir: PathBuf,
    /// The new cluster.
    pub cluster: ClusterId,
    /// Its only member.
    pub member: MemberId,
    /// Where it is reached by others that will join.
    pub peer_urls: Vec<String>,
    /// The revision that it goes on from.
    pub revision: Revision,
    /// Where everything is that the directory held before.
    pub moved_to: PathBuf,
}

/// Looks at the directories, changes nothing, and chooses the one that knows most: the highest term of the last
/// entry, then its index.
///
/// # Errors
/// When a process runs on one of them, they are not of one cluster, or none can be used.
pub fn survey(paths: &[PathBuf], progress: Progress<'_>) -> Result<Survey, OfflineError> {
    let mut dirs: Vec<DataDir> = Vec::new();
    for path in paths {
        let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        if dirs.iter().any(|dir| std::fs::canonicalize(dir.path()).is_ok_and(|other| other == real)) {
            return Err(OfflineError::Twice(path.clone()));
        }
        dirs.push(DataDir::open_existing(path)?);
    }
    if let Some(chosen) = dirs.iter().position(|dir| dir.recovery().exists()) {
        return Ok(Survey { examined: Vec::new(), chosen, interrupted: true, best: None, dirs });
    }
    let mut examined: Vec<Examined> = Vec::new();
    let mut best: Option<(usize, Rebuilt)> = None;
    for dir in &dirs {
        let found = match rebuild::rebuild(dir, progress) {
            Ok(rebuilt) => {
                one_cluster(&examined, dir.path(), &rebuilt.found)?;
                let found = rebuilt.found.clone();
                if best.as_ref().is_none_or(|(_, best)| knows_more(&found, &best.found)) {
                    best = Some((examined.len(), rebuilt));
                }
                Ok(found)
            }
            Err(error) => Err(error.to_string()),
        };
        examined.push(Examined { data_dir: dir.path().to_owned(), found });
    }
    let Some((chosen, best)) = best else {
        let why = examined.into_iter().filter_map(|one| one.found.err()).collect::<Vec<_>>().join("; ");
        return Err(OfflineError::NothingLeft(why));
    };
    Ok(Survey { examined, chosen, interrupted: false, best: Some(best), dirs })
}

/// Wrong data count less than none; the rest is how an election compares.
fn knows_more(one: &Found, other: &Found) -> bool {
    let rank = |found: &Found| (!found.corrupt, found.last_term, found.last_index);
    rank(one) > rank(other)
}

fn one_cluster(before: &[Examined], dir: &Path, found: &Found) -> Result<(), OfflineError> {
    let first = before.iter().find_map(|one| Some((&one.data_dir, one.found.as_ref().ok()?)));
    match first {
        Some((first_dir, first)) if first.cluster != found.cluster => Err(OfflineError::OtherCluster {
            dir: dir.to_owned(),
            found: found.cluster,
            first_dir: first_dir.clone(),
            first: first.cluster,
        }),
        _ => Ok(()),
    }
}

impl Survey {
    /// The directory that will be changed.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        self.dirs[self.chosen].path()
    }

    /// Makes the chosen directory the only member of a new cluster, or finishes what was begun. `peer_urls`
    /// take the place of those that the member had.
    ///
    /// # Errors
    /// When URLs are wrong, before anything was changed; when the disk fails. Calling it again repairs that.
    pub fn recover(self, peer_urls: Option<&[String]>) -> Result<Recovered, OfflineError> {
        let dir = &self.dirs[self.chosen];
        if let Some(Rebuilt { mut state, found, others }) = self.best {
            let peer_urls = match peer_urls {
                None => found.peer_urls.clone(),
                Some(urls) => cluster::checked_urls(urls)?,
            };
            state.remember_removed(others);
            // Drawn, not computed: two recoveries of one cluster must not meet either.
            let cluster = ClusterId(rand::random::<u64>().max(1));
            let membership = cluster::membership([(found.member, peer_urls.clone())]);
            let (term, index) = rebase::FIRST_POSITION;
            let mut meta =
                StateMachine::picture(&state, Some(&log_id(term, index)), &membership.into(), None).meta();
            // It runs on another incarnation, and tells its name again.
            meta.members.clear();
            let mut origin = [0; 32];
            origin[..8].copy_from_slice(&cluster.0.to_le_bytes());
            meta.auth = rebase::auth(&meta.auth, &origin);
            let plan = replace::Plan {
                before: replace::next_before(dir.path())?,
                cluster,
                member: found.member,
                peer_urls,
                revision: found.revision,
            };
            replace::prepare(dir, &plan, &meta, state.view().items())?;
        }
        replace::finish(dir)
    }
}

#[cfg(test)]
mod tests;
