//! The file of a bundle: tar, compressed, for its owner alone, there whole or not at all. Must never replace a file.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

/// It cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", path.display())]
pub struct ArchiveError {
    path: PathBuf,
    error: io::Error,
}

/// A file that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its size in bytes.
    pub size: u64,
}

/// Writes the pieces below the directory `name`; `seconds` since 1970 is when they were made.
pub(super) fn write(
    path: &Path,
    name: &str,
    pieces: &[(String, Vec<u8>)],
    seconds: u64,
) -> Result<Written, ArchiveError> {
    let failed = |error| ArchiveError { path: path.to_owned(), error };
    let file = File::options().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    let written = (|| {
        let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
        for (piece, content) in pieces {
            let mut header = tar::Header::new_gnu();
            header.set_size(u64::try_from(content.len()).unwrap_or(u64::MAX));
            header.set_mode(0o600);
            header.set_mtime(seconds);
            archive.append_data(&mut header, format!("{name}/{piece}"), content.as_slice())?;
        }
        let file = archive.into_inner()?.finish()?;
        file.sync_all()?;
        Ok(Written { size: file.metadata()?.len() })
    })();
    written.map_err(|error| {
        let _ = fs::remove_file(path);
        failed(error)
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_was_put_in_comes_out_and_no_file_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("b.tar.gz");
        let pieces = [("a/b.txt".to_owned(), b"text".to_vec())];
        let written = write(&path, "bundle", &pieces, 7).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.len(), metadata.permissions().mode() & 0o777), (written.size, 0o600));
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(File::open(&path).unwrap()));
        let mut found = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            found.push((entry.path().unwrap().display().to_string(), text));
        }
        assert_eq!(found, [("bundle/a/b.txt".to_owned(), "text".to_owned())]);
        let error = write(&path, "bundle", &pieces, 7).unwrap_err().to_string();
        assert!(error.contains("b.tar.gz: File exists"), "{error}");
        assert_eq!(fs::metadata(&path).unwrap().len(), written.size);
    }
}
