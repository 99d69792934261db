//! Puts a recovered member in the place of what its directory held, in steps that can be interrupted anywhere.
//!
//! 1. Everything new is written into `recovery.part`, which then becomes `recovery`: from here on no member
//!    starts on the directory, and the same command goes on with what follows.
//! 2. What the directory held is moved into `before-recovery-<n>`.
//! 3. What is in `recovery` is moved into the directory; at the end `recovery` goes.
//!
//! Step 3 begins after step 2 has ended: as long as nothing is missing in `recovery`, what bears a name of step 2 is
//! old. Each step is on disk before the next.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::directory::{sync, write_member};
use super::super::error::OfflineError;
use super::Recovered;
use crate::command::CommandError;
use crate::ids::{ClusterId, MemberId, Revision};
use crate::storage::data_dir::DataDir;
use crate::stored::{StateMeta, StoredVersion};

/// What is moved aside.
const OLD: &[&str] = &["identity", "wal", "snapshots", "records"];
/// What takes its place.
const NEW: &[&str] = &["identity", "wal", "snapshots"];
const PLAN: &str = "plan";

/// What a recovery does, as it is kept beside the new data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Plan {
    /// The name of the folder for what the directory held.
    pub(super) before: String,
    pub(super) cluster: ClusterId,
    pub(super) member: MemberId,
    pub(super) peer_urls: Vec<String>,
    pub(super) revision: Revision,
}

/// A folder's name that is free.
pub(super) fn next_before(dir: &Path) -> Result<String, OfflineError> {
    for number in 1u32.. {
        let name = format!("before-recovery-{number}");
        let path = dir.join(&name);
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(name),
            Err(error) => return Err(OfflineError::io(&path, "look at the directory")(error)),
            Ok(_) => {}
        }
    }
    Err(OfflineError::state(dir, "it was recovered too often"))
}

fn part_of(dir: &DataDir) -> PathBuf {
    dir.recovery().with_extension("part")
}

/// Step 1.
pub(super) fn prepare(
    dir: &DataDir,
    plan: &Plan,
    meta: &StateMeta,
    versions: impl IntoIterator<Item = Result<StoredVersion, CommandError>>,
) -> Result<(), OfflineError> {
    let part = part_of(dir);
    match fs::remove_dir_all(&part) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(OfflineError::io(&part, "remove what an interrupted recovery left")(error));
        }
        _ => {}
    }
    write_member(&part, (plan.cluster, plan.member), meta, versions)?;
    let path = part.join(PLAN);
    let text = serde_json::to_vec(plan).map_err(|error| OfflineError::state(dir.path(), error))?;
    let write = || {
        fs::write(&path, text)?;
        fs::File::open(&path)?.sync_all()
    };
    write().map_err(OfflineError::io(&path, "write"))?;
    sync(&part)?;
    fs::rename(&part, dir.recovery()).map_err(OfflineError::io(&part, "give the directory its name"))?;
    sync(dir.path())
}

/// Steps 2 and 3, or what is left of them.
pub(super) fn finish(dir: &DataDir) -> Result<Recovered, OfflineError> {
    let recovery = dir.recovery();
    let path = recovery.join(PLAN);
    let text = fs::read(&path).map_err(OfflineError::io(&path, "read"))?;
    let plan: Plan = serde_json::from_slice(&text)
        .map_err(|error| OfflineError::state(dir.path(), format!("{}: {error}", path.display())))?;
    let moved_to = dir.path().join(&plan.before);
    if NEW.iter().all(|name| recovery.join(name).exists()) {
        match fs::create_dir(&moved_to) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(OfflineError::io(&moved_to, "create the directory")(error));
            }
            _ => {}
        }
        for name in OLD {
            move_if_there(&dir.path().join(name), &moved_to.join(name))?;
        }
        sync(&moved_to)?;
        sync(dir.path())?;
    }
    for name in NEW {
        move_if_there(&recovery.join(name), &dir.path().join(name))?;
    }
    sync(dir.path())?;
    // Done as soon as it has another name; what is left of it holds nothing.
    let part = part_of(dir);
    fs::rename(&recovery, &part).map_err(OfflineError::io(&recovery, "move it"))?;
    fs::remove_dir_all(&part).map_err(OfflineError::io(&part, "remove the directory"))?;
    sync(dir.path())?;
    Ok(Recovered {
        data_dir: dir.path().to_owned(),
        cluster: plan.cluster,
        member: plan.member,
        peer_urls: plan.peer_urls,
        revision: plan.revision,
        moved_to,
    })
}

fn move_if_there(from: &Path, to: &Path) -> Result<(), OfflineError> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other.map_err(OfflineError::io(from, "move it")),
    }
}
