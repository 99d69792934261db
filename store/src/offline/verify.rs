//! Saved files: what one holds, whether it is whole, and whether several follow each other.

use std::path::{Path, PathBuf};

use super::error::OfflineError;
use super::file::SavedFile;
use super::{Progress, chain, content};
use crate::ids::{ClusterId, MemberId, Revision};
use crate::mvcc::keyspace::Keyspace;
use crate::raft::codec;
use crate::snapshot::Summary;
use crate::snapshot::format::{VERSION, VERSION_INCREMENT, VERSION_WITH_SECTIONS};

/// What a file holds. Every byte of it was read and is as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    /// Where it is.
    pub path: PathBuf,
    /// Its size, with what a client appended.
    pub size_bytes: u64,
    /// Its format version.
    pub format: u32,
    /// The cluster that it is of.
    pub cluster: ClusterId,
    /// The member that wrote it.
    pub member: MemberId,
    /// When, by that member's clock, in milliseconds since 1970.
    pub written_at_ms: u64,
    /// The revision that it ends at.
    pub revision: Revision,
    /// The oldest revision that can be read from it.
    pub compact_revision: Revision,
    /// For an increment: it holds what came after this revision.
    pub since: Option<Revision>,
    /// Term of the log entry that it stands for.
    pub term: u64,
    /// Index of that entry.
    pub index: u64,
    /// The hash of the keyspace as members tell it for this revision (`HashKV`); of an increment, of what it brings.
    pub hash: u32,
    /// Living keys; in an increment, those that it brings.
    pub keys: u64,
    /// Versions of keys, deletions with them.
    pub versions: u64,
    /// Bytes of living keys and their values.
    pub live_bytes: u64,
    /// Leases.
    pub leases: u64,
    /// Users.
    pub users: u64,
    /// Roles.
    pub roles: u64,
    /// Names of the members, or their ids when they have not told one.
    pub members: Vec<String>,
    /// SHA-256 of its content.
    pub sha256: [u8; 32],
}

/// Reads a file completely and tells what it holds.
///
/// # Errors
/// When anything in it is not as it was written, or it is no snapshot.
pub fn examine(path: &Path, progress: Progress<'_>) -> Result<FileReport, OfflineError> {
    let file = SavedFile::open(path, true)?;
    let size_bytes = std::fs::metadata(path).map_err(OfflineError::io(path, "tell the size"))?.len();
    let (keyspace, summary) = content::load_one(file, progress)?;
    report(path, size_bytes, &keyspace, summary)
}

fn report(
    path: &Path,
    size_bytes: u64,
    keyspace: &Keyspace,
    summary: Summary,
) -> Result<FileReport, OfflineError> {
    let contradiction = |what: String| OfflineError::Contradiction { path: path.to_owned(), what };
    let (view, manifest) = (keyspace.state(), summary.manifest);
    let state = manifest.state;
    let hash = view.hash(Revision(0)).map_err(|error| contradiction(error.to_string()))?;
    let membership = codec::decode_stored_membership(&state.membership)
        .map_err(|error| contradiction(error.to_string()))?;
    let name = |id: u64| {
        let published = state.members.iter().find(|member| member.id.0 == id);
        published.map_or_else(|| MemberId(id).to_string(), |member| member.name.clone())
    };
    let format = match manifest.since {
        Some(_) => VERSION_INCREMENT,
        None if state.sections().is_empty() => VERSION,
        None => VERSION_WITH_SECTIONS,
    };
    Ok(FileReport {
        path: path.to_owned(),
        size_bytes,
        format,
        cluster: manifest.cluster,
        member: manifest.member,
        written_at_ms: manifest.written_at_ms,
        revision: state.revision,
        compact_revision: state.compact_revision,
        since: manifest.since,
        term: state.applied_term,
        index: state.applied_index,
        hash: hash.hash,
        keys: view.live_keys() as u64,
        versions: summary.file.versions,
        live_bytes: view.live_bytes(),
        leases: state.leases.len() as u64,
        users: state.auth.users.len() as u64,
        roles: state.auth.roles.len() as u64,
        members: membership.nodes().map(|(id, _)| name(*id)).collect(),
        sha256: summary.file.sha256,
    })
}

/// Verifies a file, or a chain of a whole snapshot and the increments after it.
///
/// # Errors
/// At the first file that is not as it was written or does not continue the ones before it.
pub fn verify(paths: &[PathBuf], progress: Progress<'_>) -> Result<Vec<FileReport>, OfflineError> {
    let links = paths.iter().map(|path| Ok(SavedFile::open(path, true)?.link()));
    let links = links.collect::<Result<Vec<_>, OfflineError>>()?;
    // One increment alone may be sound.
    if links.len() != 1 {
        chain::check(&links)?;
    }
    paths.iter().map(|path| examine(path, progress)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{History, quiet};
    use super::*;

    #[test]
    fn tells_what_is_in_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut history = History::new();
        history.put("a", "1", None);
        let first = history.save(dir.path(), "full", None);
        history.grant(7, 60);
        history.put("b", "22", Some(7));
        history.delete("a");
        let second = history.save(dir.path(), "more", Some(2));
        let report = examine(&first, &mut quiet()).unwrap();
        assert_eq!((report.revision, report.keys, report.versions, report.leases), (Revision(2), 1, 1, 0));
        assert_eq!((report.live_bytes, report.since, report.format), (2, None, VERSION));
        assert_eq!(report.size_bytes, std::fs::metadata(&first).unwrap().len());
        let reports = verify(&[first.clone(), second.clone()], &mut quiet()).unwrap();
        assert_eq!(reports[0], report);
        let report = &reports[1];
        assert_eq!((report.revision, report.keys, report.versions, report.leases), (Revision(4), 1, 2, 1));
        assert_eq!((report.since, report.format), (Some(Revision(2)), VERSION_INCREMENT));
        assert!(verify(std::slice::from_ref(&second), &mut quiet()).is_ok(), "sound by itself");
        assert!(verify(&[second, first], &mut quiet()).is_err(), "the wrong order");
    }

    #[test]
    fn the_hash_is_what_members_tell() {
        let dir = tempfile::tempdir().unwrap();
        let mut history = History::new();
        for at in 0..50 {
            history.put(&format!("k{}", at % 7), "v", None);
        }
        history.compact(20);
        let path = history.save(dir.path(), "full", None);
        let told = history.state().view().hash(Revision(0)).unwrap();
        assert_eq!(examine(&path, &mut quiet()).unwrap().hash, told.hash);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn any_changed_byte_is_found(at: prop::sample::Index, change in 1u8.., padded: bool, since: bool) {
            let dir = tempfile::tempdir().unwrap();
            let mut history = History::new();
            for at in 0..20 {
                history.put(&format!("k{}", at % 7), "some value", None);
            }
            let path = history.save(dir.path(), "file", since.then_some(5));
            if padded {
                History::pad(&path);
            }
            let mut bytes = std::fs::read(&path).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= change;
            std::fs::write(&path, &bytes).unwrap();
            prop_assert!(examine(&path, &mut quiet()).is_err(), "byte {} of {}", at, bytes.len());
        }
    }
}
