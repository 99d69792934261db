//! Makes the name of a directory durable, and those of the directories above it.
//!
//! A directory's own name is in the one above: what was synced inside is lost with the power as long as that was not
//! synced too. Must never create or change anything.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Syncs every directory above `path`, as far as its file system goes. Whoever made them may have been ended before, so
/// nobody is trusted to have done it.
///
/// # Errors
/// When the disk fails.
pub(crate) fn sync_names_of(path: &Path) -> io::Result<()> {
    let path = path.canonicalize()?;
    let device = fs::metadata(&path)?.dev();
    for above in path.ancestors().skip(1) {
        if fs::metadata(above)?.dev() != device {
            // What is mounted has no name on its own disk.
            break;
        }
        match File::open(above).and_then(|directory| directory.sync_all()) {
            // Who may not read it has not made a name in it that counts; some file systems sync no directories.
            Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::InvalidInput) => {}
            other => other?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_above_are_found_and_missing_ones_told() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b");
        assert_eq!(sync_names_of(&deep).unwrap_err().kind(), ErrorKind::NotFound);
        fs::create_dir_all(&deep).unwrap();
        sync_names_of(&deep).unwrap();
        sync_names_of(Path::new(".")).unwrap();
        sync_names_of(Path::new("/")).unwrap();
    }
}
