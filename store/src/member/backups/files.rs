//! The directory of a member's own snapshots: made, looked through, cleaned. Touches nothing that another member or
//! anybody else put there.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::name::BackupName;
use super::plan::Kept;
use crate::config::ConfigError;
use crate::ids::MemberId;
use crate::snapshot::directory::WRITING_ENDING;

/// Creates the directory if need be, and sees whether files can be written there.
///
/// # Errors
/// `SnapshotDir`, with what is in the way.
pub fn prepare_directory(dir: &Path) -> Result<(), ConfigError> {
    let wrong = |what: &str| {
        let what = what.to_owned();
        move |error: io::Error| ConfigError::SnapshotDir {
            dir: dir.to_owned(),
            why: format!("{what}: {error}"),
        }
    };
    fs::create_dir_all(dir).map_err(wrong("it cannot be created"))?;
    let probe = dir.join(format!("probe-{:016x}", rand::random::<u64>()));
    let written = OpenOptions::new().write(true).create_new(true).open(&probe);
    written.map_err(wrong("no file can be created in it"))?;
    fs::remove_file(&probe).map_err(wrong("no file can be removed from it"))
}

/// The finished files of a member, not read yet; those that it did not finish are removed.
pub(super) fn look_through(dir: &Path, member: MemberId) -> io::Result<Vec<Kept>> {
    let mut kept = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let file_name = entry.file_name();
        let Some(text) = file_name.to_str() else { continue };
        if BackupName::is_unfinished_of(member, text, WRITING_ENDING) {
            fs::remove_file(entry.path())?;
        } else if let Some(name) = BackupName::parse(text).filter(|name| name.member == member) {
            kept.push(Kept { name, size_bytes: entry.metadata()?.len(), verified: false });
        }
    }
    kept.sort_unstable_by_key(|kept| kept.name);
    Ok(kept)
}

/// Where a file is.
pub(super) fn path_of(dir: &Path, name: BackupName) -> io::Result<PathBuf> {
    let file_name =
        name.file_name().ok_or_else(|| io::Error::other("the clock shows a time that has no date"))?;
    Ok(dir.join(file_name))
}

/// Removes files; those that are gone already do not matter. Answers what was removed.
pub(super) fn remove(dir: &Path, names: &[BackupName]) -> io::Result<()> {
    for name in names {
        match fs::remove_file(path_of(dir, *name)?) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    if names.is_empty() { Ok(()) } else { File::open(dir)?.sync_all() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Revision;

    fn name(member: u64, revision: i64) -> String {
        let name =
            BackupName { member: MemberId(member), taken_ms: 1000 * revision, revision: Revision(revision) };
        name.file_name().unwrap()
    }

    #[test]
    fn a_member_finds_its_own_files_and_removes_what_it_did_not_finish() {
        let dir = tempfile::tempdir().unwrap();
        let unfinished = |member, revision| name(member, revision).replace(".snapshot", WRITING_ENDING);
        let files =
            [name(1, 7), name(1, 5), name(2, 6), unfinished(1, 8), unfinished(2, 8), "notes".to_owned()];
        for file in &files {
            fs::write(dir.path().join(file), "content").unwrap();
        }
        let found = look_through(dir.path(), MemberId(1)).unwrap();
        let revisions: Vec<i64> = found.iter().map(|kept| kept.name.revision.0).collect();
        assert_eq!(revisions, [5, 7]);
        assert!(found.iter().all(|kept| kept.size_bytes == 7 && !kept.verified));
        let left: Vec<bool> = files.iter().map(|file| dir.path().join(file).exists()).collect();
        assert_eq!(left, [true, true, true, false, true, true]);

        let gone = BackupName { revision: Revision(4), ..found[0].name };
        remove(dir.path(), &[gone, found[0].name]).unwrap();
        assert!(!dir.path().join(&files[1]).exists() && dir.path().join(&files[0]).exists());
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_told_with_its_flag() {
        let root = tempfile::tempdir().unwrap();
        let new = root.path().join("a/b");
        prepare_directory(&new).unwrap();
        assert_eq!(fs::read_dir(&new).unwrap().count(), 0);
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        let text = prepare_directory(&file.join("below")).unwrap_err().to_string();
        assert!(
            text.starts_with("--snapshot-dir=") && text.contains("/file/below: it cannot be created"),
            "{text}"
        );
    }
}
